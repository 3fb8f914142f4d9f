"""Agents that do not look: the same fees whatever happens, or any fees at all."""

from __future__ import annotations

import math

import numpy as np

from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics.actor import ChannelPricer, Price
from lnagents.model.units import Msat, Ppm
from lnagents.model.view import ChannelView, NodeView


class FixedFees(ChannelPricer):
    """The same fees on every channel, always."""

    def __init__(
        self, rate_ppm: Ppm, base_msat: Msat, reason: str, bounds: FeeBounds | None = None
    ) -> None:
        super().__init__(bounds)
        self._fixed = Price(rate_ppm, base_msat, reason)

    def _price(self, channel: ChannelView, view: NodeView) -> Price:
        return self._fixed


class LndDefault(FixedFees):
    """A node whose operator never set a fee: 1,000 msat and 1 ppm.

    Source: LND's sample-lnd.conf, `bitcoin.basefee` and `bitcoin.feerate`.
    """

    def __init__(self, bounds: FeeBounds | None = None) -> None:
        super().__init__(1, 1_000, "LND's default", bounds)


class LowFee(FixedFees):
    """Almost free, without any management: 1 msat and 1 ppm.

    Source: ZmnSCPxj, "Three Strategies for Lightning Forwarding Nodes", lightning-dev, 28 June
    2022: "Low fee: just fix the fee to a low fee, e.g. base 1 proportional 1".
    """

    def __init__(self, bounds: FeeBounds | None = None) -> None:
        super().__init__(1, 1, "low fee", bounds)


class Wall(FixedFees):
    """A constant high fee rate, so that liquidity is sold dear or not at all.

    Source: the same text: "Wall: set to a constant (or mostly constant) high feerate". The text
    names no rate; 2,500 ppm is the highest that LNDg sets by default (`AF-MaxRate`). It has walls
    buy liquidity by circular payments, too, which is no part of a `NodeDecision`.
    """

    def __init__(self, rate_ppm: Ppm = 2_500, bounds: FeeBounds | None = None) -> None:
        super().__init__(rate_ppm, 0, "wall", bounds)


class RandomFees(ChannelPricer):
    """Every channel gets a new fee rate now and then, uniform on a logarithmic scale."""

    def __init__(
        self, seed: int = 0, change_share: float = 0.25, bounds: FeeBounds | None = None
    ) -> None:
        """A gambler.

        Args:
            seed: of all its choices.
            change_share: probability with which a channel changes in a round, 0 to 1.
            bounds: between which rates are drawn.

        Raises:
            ValueError: `change_share` is out of range.
        """
        super().__init__(bounds)
        if not 0.0 <= change_share <= 1.0:
            raise ValueError(f"change_share: {change_share} is not between 0 and 1")
        self._random = np.random.default_rng(seed)
        self._change_share = change_share

    def _price(self, channel: ChannelView, view: NodeView) -> Price | None:
        change, place = self._random.random(2)
        if change >= self._change_share:
            return None
        low = math.log(self._bounds.min_ppm + 1)
        high = math.log(self._bounds.max_ppm + 1)
        return Price(round(math.exp(low + place * (high - low))) - 1, reason="at random")
