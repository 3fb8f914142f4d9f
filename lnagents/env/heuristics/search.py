"""Agents that try fees and keep what earns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics.actor import ChannelPricer, Price
from lnagents.model.units import Ppm, ShortChannelId
from lnagents.model.view import ChannelView, NodeView


@dataclass(slots=True)
class _Arms:
    """What is known of one channel's rates."""

    weight: NDArray[np.float64]
    earned: NDArray[np.float64]
    scale: float = 1.0
    played: int | None = None


class ThompsonSampling(ChannelPricer):
    """Each rate of a ladder is a bandit's arm; play what looks best in a draw from the beliefs.

    Source: Thompson, "On the likelihood that one unknown probability exceeds another", 1933, with
    normal beliefs as in Russo et al., "A Tutorial on Thompson Sampling", 2018. Fees that the
    channel earned in a round are the reward. Because others change their fees, too, what was seen
    counts a little less each round (Raj and Kalyani, "Taming non-stationary bandits", 2017).
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        arms: int = 8,
        discount: float = 0.97,
        bounds: FeeBounds | None = None,
    ) -> None:
        """A gambler that learns.

        Args:
            seed: of all draws.
            arms: rates on the ladder, from the lowest to the highest allowed, evenly spaced on a
                logarithmic scale.
            discount: what a reward counts one round later, above 0 to 1.
            bounds: what may be set.

        Raises:
            ValueError: fewer than two arms, or a discount out of range.
        """
        super().__init__(bounds)
        if arms < 2:
            raise ValueError(f"arms: {arms} is below 2")
        if not 0.0 < discount <= 1.0:
            raise ValueError(f"discount: {discount} is not above 0 and up to 1")
        ends = math.log(self._bounds.min_ppm + 1), math.log(self._bounds.max_ppm + 1)
        self.ladder = tuple(round(math.exp(place)) - 1 for place in np.linspace(*ends, arms))
        """The rates, ppm."""
        self._discount = discount
        self._random = np.random.default_rng(seed)
        self._channels: dict[ShortChannelId, _Arms] = {}

    def _price(self, channel: ChannelView, view: NodeView) -> Price:
        count = len(self.ladder)
        arms = self._channels.setdefault(channel.scid, _Arms(np.zeros(count), np.zeros(count)))
        earned = channel.flow.fees_earned_msat
        if arms.played is not None:
            arms.weight *= self._discount
            arms.earned *= self._discount
            arms.weight[arms.played] += 1
            arms.earned[arms.played] += earned
            arms.scale = max(arms.scale, earned)
        # One imagined round that earned the most ever seen makes every arm worth a try.
        mean = (arms.earned + arms.scale) / (arms.weight + 1)
        spread = arms.scale / np.sqrt(arms.weight + 1)
        arms.played = int(np.argmax(self._random.normal(mean, spread)))
        expected = mean[arms.played]
        return Price(
            self.ladder[arms.played], reason=f"Thompson sampling: {expected:,.0f} msat expected"
        )


class AdditiveIncrease(ChannelPricer):
    """Up step by step while payments come, down by half when they stay away (AIMD).

    Source: Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion
    avoidance", 1989; TCP's own numbers are one step up and a half down (RFC 5681).
    """

    def __init__(
        self,
        *,
        step_ppm: Ppm = 10,
        decrease: float = 0.5,
        patience: int = 2,
        bounds: FeeBounds | None = None,
    ) -> None:
        """A prober of what the market bears.

        Args:
            step_ppm: by which the rate rises after a round with forwards.
            decrease: what the rate is multiplied with when there were none, above 0, below 1.
            patience: rounds without forwards before that.
            bounds: what may be set.

        Raises:
            ValueError: a number is out of range.
        """
        super().__init__(bounds)
        if step_ppm < 1 or patience < 1:
            raise ValueError("step_ppm and patience are at least 1")
        if not 0.0 < decrease < 1.0:
            raise ValueError(f"decrease: {decrease} is not between 0 and 1")
        self._step = step_ppm
        self._decrease = decrease
        self._patience = patience
        self._idle: dict[ShortChannelId, int] = {}

    def _price(self, channel: ChannelView, view: NodeView) -> Price | None:
        rate = channel.policy.fee_rate_ppm
        if channel.flow.forwards:
            self._idle[channel.scid] = 0
            return Price(rate + self._step, reason=f"AIMD: {channel.flow.forwards} forwards")
        idle = self._idle.get(channel.scid, 0) + 1
        self._idle[channel.scid] = idle % self._patience
        if idle < self._patience:
            return None
        return Price(int(rate * self._decrease), reason=f"AIMD: {idle} rounds without forwards")
