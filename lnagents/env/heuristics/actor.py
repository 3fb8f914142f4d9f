"""What all heuristic agents have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from lnagents.env.fees import FeeBounds
from lnagents.model.graph import ChannelPolicy
from lnagents.model.units import Msat, NodeKey, Ppm, ShortChannelId
from lnagents.model.view import ChannelDecision, ChannelView, NodeDecision, NodeView


class Heuristic(Protocol):
    """Decides for one node, round after round; one object per node and episode."""

    def act(self, view: NodeView) -> NodeDecision:
        """What to change, given what the round before has brought."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one channel shall charge, and why."""

    rate_ppm: Ppm
    base_msat: Msat | None = None
    """None keeps what is set."""
    reason: str = ""


class ChannelPricer(ABC):
    """A heuristic that sets the fees of each channel that can be used; it changes nothing else."""

    def __init__(self, bounds: FeeBounds | None = None, min_delta_ppm: Ppm = 1) -> None:
        """A pricer that stays within `bounds`.

        Args:
            bounds: what may be set; `min_change` of it is not looked at.
            min_delta_ppm: a fee rate that differs by less is left as it is.
        """
        self._bounds = bounds or FeeBounds()
        self._min_delta = min_delta_ppm

    def act(self, view: NodeView) -> NodeDecision:
        """New fees of the channels that are to change."""
        self._look(view)
        decisions: dict[ShortChannelId, ChannelDecision] = {}
        for channel in view.channels:
            price = self._price(channel, view) if channel.active else None
            if price is not None:
                decision = self._decide(channel.policy, price)
                if decision is not None:
                    decisions[channel.scid] = decision
        return NodeDecision(decisions)

    def _look(self, view: NodeView) -> None:  # noqa: B027 - most look at one channel at a time
        """See the whole node once a round, before its channels are priced."""

    @abstractmethod
    def _price(self, channel: ChannelView, view: NodeView) -> Price | None:
        """What `channel` shall charge; None keeps what is set."""

    def _decide(self, policy: ChannelPolicy, price: Price) -> ChannelDecision | None:
        bounds = self._bounds
        rate = min(bounds.max_ppm, max(bounds.min_ppm, price.rate_ppm))
        new_rate = rate if abs(rate - policy.fee_rate_ppm) >= self._min_delta else None
        new_base = None
        if price.base_msat is not None:
            base = min(bounds.max_base_msat, max(bounds.min_base_msat, price.base_msat))
            new_base = base if base != policy.base_fee_msat else None
        if new_rate is None and new_base is None:
            return None
        return ChannelDecision(fee_rate_ppm=new_rate, base_fee_msat=new_base, reason=price.reason)


def local_share(channels: Iterable[ChannelView]) -> float:
    """Share of the balances on the own side, 0 to 1; a half if there are none."""
    local = remote = 0
    for channel in channels:
        local += channel.local_balance_msat
        remote += channel.remote_balance_msat
    return local / (local + remote) if local + remote else 0.5


def found_rate(channel: ChannelView) -> Ppm:
    """The fee rate when the agent took the channel over."""
    return (channel.found_policy or channel.policy).fee_rate_ppm


def to_peer(view: NodeView, peer: NodeKey) -> list[ChannelView]:
    """The usable channels to one peer: LND sends over any of them, so they are one (BOLT 4)."""
    return [channel for channel in view.channels if channel.peer == peer and channel.active]
