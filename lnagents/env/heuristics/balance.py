"""Agents that price a channel by where its balance is, or by what the peer charges."""

from __future__ import annotations

import math
from abc import abstractmethod

from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics.actor import ChannelPricer, Price, found_rate, local_share, to_peer
from lnagents.model.units import Msat, Ppm, ShortChannelId
from lnagents.model.view import ChannelView, NodeView

STEEPNESS = math.log(50.0)
"""Of `balance_factor`."""


def balance_factor(share: float) -> float:
    """What to multiply a fee with when `share` of a channel is on the own side.

    1 in the middle, √50 for an empty channel, its inverse for a full one. Source: the plugin
    feeadjuster for Core Lightning (github.com/lightningd/plugins), and CLBOSS, which took it over
    (`Boss/Mod/FeeModderByBalance.cpp`).
    """
    return math.exp(STEEPNESS * (0.5 - share))


class Proportional(ChannelPricer):
    """The emptier the own side, the dearer: linear from `min_ppm` (full) to `max_ppm` (empty).

    Source: charge-lnd's strategy `proportional` (github.com/accumulator/charge-lnd,
    `charge_lnd/strategy.py`): `int(min_fee_ppm + (1 - ratio) * (max_fee_ppm - min_fee_ppm))`, where
    ratio is local / (local + remote), with `sum_peer_chans` over all channels to the peer, and
    changes below `min_fee_ppm_delta` (10 ppm by default) are not announced. The rates, and the base
    fee of 1,000 msat, are those of its `examples/all-channels-proportional.config`.
    """

    def __init__(
        self,
        min_ppm: Ppm = 100,
        max_ppm: Ppm = 300,
        *,
        base_msat: Msat = 1_000,
        sum_peer_channels: bool = False,
        bounds: FeeBounds | None = None,
    ) -> None:
        """The strategy with its properties.

        Args:
            min_ppm: `min_fee_ppm`.
            max_ppm: `max_fee_ppm`.
            base_msat: `base_fee_msat`.
            sum_peer_channels: `sum_peer_chans`.
            bounds: what may be set.

        Raises:
            ValueError: the rates are no range.
        """
        super().__init__(bounds, min_delta_ppm=10)
        if not 0 <= min_ppm <= max_ppm:
            raise ValueError(f"{min_ppm} to {max_ppm} ppm is not a range from 0 up")
        self._min = min_ppm
        self._max = max_ppm
        self._base = base_msat
        self._sum = sum_peer_channels

    def _price(self, channel: ChannelView, view: NodeView) -> Price:
        share = local_share(to_peer(view, channel.peer) if self._sum else (channel,))
        rate = int(self._min + (1.0 - share) * (self._max - self._min))
        return Price(rate, self._base, f"proportional: local balance {share:.0%}")


class MatchPeer(ChannelPricer):
    """What the peer charges on the same channel, base fee and rate.

    Source: charge-lnd's strategy `match_peer` (`charge_lnd/strategy.py`).
    """

    def _price(self, channel: ChannelView, view: NodeView) -> Price | None:
        theirs = channel.peer_policy
        if theirs is None:
            return None
        return Price(theirs.fee_rate_ppm, theirs.base_fee_msat, "as the peer")


class _ByBalance(ChannelPricer):
    """A rule that prices a channel anew when its balance has moved by a share of it."""

    _THRESHOLD: float

    def __init__(self, bounds: FeeBounds | None) -> None:
        super().__init__(bounds)
        self._shares: dict[ShortChannelId, float] = {}

    def _price(self, channel: ChannelView, view: NodeView) -> Price | None:
        share = local_share((channel,))
        announced = self._shares.get(channel.scid)
        if announced is not None and abs(share - announced) < self._THRESHOLD:
            return None
        self._shares[channel.scid] = share
        return self._price_at(share, channel)

    @abstractmethod
    def _price_at(self, share: float, channel: ChannelView) -> Price:
        """What `channel` shall charge with this local share of its balance."""


class PassiveRebalance(_ByBalance):
    """The rate that was found, times `balance_factor`: payments are to rebalance the channels.

    Source: ZmnSCPxj, "Three Strategies for Lightning Forwarding Nodes", lightning-dev, 28 June
    2022: "increase feerates when our side has low balance, reduce feerates when our side has high
    balance"; by how much, see `balance_factor`. Changes below 5 % of the balance are not announced
    (feeadjuster's `feeadjuster-threshold`).
    """

    _THRESHOLD = 0.05

    def __init__(self, base_msat: Msat | None = None, bounds: FeeBounds | None = None) -> None:
        """A rebalancer; `base_msat` None leaves base fees as they are."""
        super().__init__(bounds)
        self._base = base_msat

    def _price_at(self, share: float, channel: ChannelView) -> Price:
        # From a fee of nothing no factor leads away.
        rate = max(1, found_rate(channel)) * balance_factor(share)
        return Price(round(rate), self._base, f"passive rebalancing: local balance {share:.0%}")


class SteepBalance(_ByBalance):
    """`middle_ppm` for an even channel, `span` times as much for an empty one as for a full one.

    The best for profit of a grid of 20 such rules on training networks of `learning`
    (docs/learning.md): what learners have to beat, once a rule may charge as much as they do. No
    base fee; balances that moved by less than 2 % of the channel are not announced.
    """

    _THRESHOLD = 0.02

    def __init__(
        self, middle_ppm: Ppm = 200, span: float = 100.0, bounds: FeeBounds | None = None
    ) -> None:
        """The rule.

        Raises:
            ValueError: the rate is negative, or the span less than 1.
        """
        super().__init__(bounds)
        if middle_ppm < 0 or span < 1.0:
            raise ValueError(f"{middle_ppm} ppm with a span of {span:g} is no rule")
        self._middle = middle_ppm
        self._span = span

    def _price_at(self, share: float, channel: ChannelView) -> Price:
        rate = round(self._middle * self._span ** (0.5 - share))
        return Price(rate, 0, f"steep balance: local balance {share:.0%}")
