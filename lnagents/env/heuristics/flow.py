"""Agents that price a channel by what flows through it, and by what fails."""

from __future__ import annotations

from collections import deque

from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics.actor import ChannelPricer, Price
from lnagents.model.units import Msat, Ppm, ShortChannelId
from lnagents.model.view import ChannelFlow, ChannelView, NodeView

DAYS = 7


class LndgRules(ChannelPricer):
    """Steps up where payments fail or rush, down where nothing moves.

    Source: LNDg (github.com/cryptosharks131/lndg, `af.py`) with its default settings, all in ppm
    and percent: `AF-Multiplier` 5, `AF-Increment` 5, `AF-MaxRate` 2500, `AF-MinRate` 0,
    `AF-FailedHTLCs` 25, `AF-LowLiqLimit` 15, `AF-ExcessLimit` 95:

    * own side ≤ 15 %: + 5 × multiplier if more than 25 HTLCs failed and nothing came in that day;
    * own side ≥ 95 %: − 5 × multiplier if nothing moved for 7 days, or if more came in than went
      out and it helped others earn over 10 times what it earned itself;
    * between: − 3 × multiplier if nothing moved for 7 days; + 2 × multiplier × (1 + r) if r, the
      outflow less the inflow of 7 days in capacities, is above 1;
    * the result is rounded to the increment; a fee changes at most once a day.

    LNDg counts failed HTLCs that were larger than the liquidity; here all failed forwards out of
    the channel count. It knows which channel each fee came in by; here a day's fees are attributed
    to channels by their share of what came in.
    """

    def __init__(
        self,
        *,
        rounds_per_day: int = 1,
        multiplier: int = 5,
        increment: Ppm = 5,
        max_ppm: Ppm = 2_500,
        failed_limit: int = 25,
        low_percent: int = 15,
        excess_percent: int = 95,
        bounds: FeeBounds | None = None,
    ) -> None:
        """LNDg's automatic fees.

        Args:
            rounds_per_day: how many rounds its day has.
            multiplier: `AF-Multiplier`.
            increment: `AF-Increment`.
            max_ppm: `AF-MaxRate`.
            failed_limit: `AF-FailedHTLCs`, more of which in a day raise the fee.
            low_percent: `AF-LowLiqLimit`.
            excess_percent: `AF-ExcessLimit`.
            bounds: what may be set.

        Raises:
            ValueError: a number makes no sense.
        """
        super().__init__(bounds)
        if rounds_per_day < 1 or increment < 1:
            raise ValueError("rounds_per_day and increment are at least 1")
        if not 0 <= low_percent < excess_percent <= 100:
            raise ValueError(f"{low_percent} to {excess_percent} is not a range from 0 to 100")
        self._day = rounds_per_day
        self._multiplier = multiplier
        self._increment = increment
        self._max = max_ppm
        self._failed_limit = failed_limit
        self._low = low_percent
        self._excess = excess_percent
        self._flows: dict[ShortChannelId, deque[tuple[ChannelFlow, float]]] = {}
        self._rounds = 0

    def _look(self, view: NodeView) -> None:
        self._rounds += 1
        came_in = sum(channel.flow.forwarded_in_msat for channel in view.channels)
        earned = sum(channel.flow.fees_earned_msat for channel in view.channels)
        for channel in view.channels:
            window = self._flows.setdefault(channel.scid, deque(maxlen=DAYS * self._day))
            share = channel.flow.forwarded_in_msat / came_in if came_in else 0.0
            window.append((channel.flow, earned * share))

    def _price(self, channel: ChannelView, view: NodeView) -> Price | None:
        if self._rounds % self._day:
            return None
        step, reason = self._step(channel)
        if not step:
            return None
        rate = round((channel.policy.fee_rate_ppm + step) / self._increment) * self._increment
        return Price(min(self._max, max(0, rate)), reason=f"LNDg rules: {reason}")

    def _step(self, channel: ChannelView) -> tuple[float, str]:
        """By how many ppm to change, and why."""
        window = self._flows[channel.scid]
        today = [flow for flow, _ in window][-self._day :]
        came_in = sum(flow.forwarded_in_msat for flow, _ in window)
        went_out = sum(flow.forwarded_out_msat for flow, _ in window)
        full = len(window) == DAYS * self._day
        percent = round(100 * channel.local_balance_msat / channel.capacity_msat)
        if percent <= self._low:
            failed = sum(flow.failed_forwards for flow in today)
            if failed > self._failed_limit and not any(flow.forwarded_in_msat for flow in today):
                return 5 * self._multiplier, f"{failed} forwards failed, nothing came in"
            return 0, ""
        if came_in + went_out == 0:
            if not full:
                return 0, ""
            factor = 5 if percent >= self._excess else 3
            return -factor * self._multiplier, f"nothing moved for {DAYS} days"
        if percent >= self._excess:
            own: Msat = sum(flow.fees_earned_msat for flow, _ in window)
            assisted = sum(assist for _, assist in window)
            if went_out < came_in and assisted > 10 * own:
                return -5 * self._multiplier, "it only helps others earn"
            return 0, ""
        net = (went_out - came_in) / channel.capacity_msat
        if net > 1.0:
            return 2 * self._multiplier * (1.0 + net), f"{net:.1f} capacities went out"
        return 0, ""
