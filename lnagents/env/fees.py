"""From an actor's action to fees, within bounds, with a reason for each change.

An action is a level on a logarithmic scale around what was set when the agent took the channel
over. Zero is that level, so an actor that has learned nothing leaves a node as it found it, and
exploration stays around it instead of wandering off, as it would if actions were steps. Towards the
level a fee moves at most by half or double in one round. `max_htlc_msat` is left alone: it belongs
to liquidity, not to prices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lnagents.env.encoding import ACTION_NAMES, local_share
from lnagents.env.features import FloatArray
from lnagents.model.graph import ChannelPolicy
from lnagents.model.units import Msat, Ppm, ShortChannelId, format_msat
from lnagents.model.view import ChannelDecision, ChannelView, NodeDecision, NodeView

SPAN = 100.0
"""An action of 1 asks for this many times the fee that was found, -1 for that part of it."""

NATS_PER_LEVEL = math.log(SPAN)
"""The same as a logarithm."""

MAX_STEP = 2.0
"""Largest factor by which a fee moves in one round."""

RATE_OFFSET_PPM = 10
"""Below about this rate the scale is linear, or a fee of 0 or 1 ppm could never be left."""

BASE_OFFSET_MSAT = 100
"""The same for base fees."""


@dataclass(frozen=True, slots=True)
class FeeBounds:
    """What fees an agent may set; fees found outside are brought inside.

    Raises:
        ValueError: a lower bound is negative or above its upper bound.
    """

    min_ppm: Ppm = 0
    max_ppm: Ppm = 5_000
    min_base_msat: Msat = 0
    max_base_msat: Msat = 5_000
    max_inbound_discount_ppm: Ppm = 0
    """0 forbids inbound discounts."""
    min_change: float = 0.05
    """A change smaller than this share is not worth telling the whole network; 0.05 is 5 %."""

    def __post_init__(self) -> None:
        pairs = (
            ("ppm", self.min_ppm, self.max_ppm),
            ("base_msat", self.min_base_msat, self.max_base_msat),
            ("inbound_discount_ppm", 0, self.max_inbound_discount_ppm),
        )
        for name, low, high in pairs:
            if not 0 <= low <= high:
                raise ValueError(f"{name}: {low} to {high} is not a range from 0 up")
        if not 0.0 <= self.min_change < 1.0:
            raise ValueError(f"min_change: {self.min_change} is not from 0 to 1")


def decode(view: NodeView, action: FloatArray, bounds: FeeBounds) -> NodeDecision:
    """The fees that `action` asks for; only what changes enough to be worth it.

    Args:
        view: what the action was made for; rows are in the order of its channels.
        action: [channels, `ACTION_NAMES`], clipped to -1..1.
        bounds: what may be set.

    Raises:
        ValueError: the action has another shape, or a number in it is not finite.
    """
    expected = (len(view.channels), len(ACTION_NAMES))
    if action.shape != expected:
        raise ValueError(f"the action's shape is {action.shape}, not {expected}")
    if not np.isfinite(action).all():
        raise ValueError("a number in the action is not finite")
    dials = _dials(bounds)
    decisions: dict[ShortChannelId, ChannelDecision] = {}
    for channel, levels in zip(view.channels, action.tolist(), strict=True):
        decision = _decide(channel, levels, dials, bounds.min_change)
        if decision is not None:
            decisions[channel.scid] = decision
    return NodeDecision(decisions)


def moved_fee(
    found: int, current: int, level: float, offset: int, low: int, high: int, min_change: float
) -> int:
    """Where `level` leads one number of a policy in this round, in the number's unit.

    Args:
        found: what it was when the agent took the channel over.
        current: what it is now, and stays if the change is not worth telling the network.
        level: the action, clipped to -1..1.
        offset: below about this the scale is linear.
        low: the least that is allowed.
        high: the most.
        min_change: share of `current` + `offset` from which a change within bounds is worth it.
    """
    near = current + offset
    moved = low
    if low < high:
        wanted = (found + offset) * math.exp(NATS_PER_LEVEL * min(1.0, max(-1.0, level)))
        near_enough = min(near * MAX_STEP, max(near / MAX_STEP, wanted))
        moved = min(high, max(low, round(near_enough) - offset))
    outside = current < low or current > high
    return moved if outside or abs(moved - current) >= min_change * near else current


@dataclass(frozen=True, slots=True)
class _Dial:
    """One number that an agent may set."""

    name: str
    unit: str
    of: Callable[[ChannelPolicy], int]
    offset: int
    low: int
    high: int

    def turn(self, found: int, current: int, level: float, min_change: float) -> int | None:
        """Where `level` leads in this round; None: not far enough to tell the network."""
        moved = moved_fee(found, current, level, self.offset, self.low, self.high, min_change)
        return None if moved == current else moved


def _dials(bounds: FeeBounds) -> tuple[_Dial, _Dial, _Dial]:
    """In the order of `ACTION_NAMES`."""
    return (
        _Dial(
            "fee rate",
            "ppm",
            lambda policy: policy.fee_rate_ppm,
            RATE_OFFSET_PPM,
            bounds.min_ppm,
            bounds.max_ppm,
        ),
        _Dial(
            "inbound discount",
            "ppm",
            lambda policy: max(0, -policy.inbound_fee_rate_ppm),
            RATE_OFFSET_PPM,
            0,
            bounds.max_inbound_discount_ppm,
        ),
        _Dial(
            "base fee",
            "msat",
            lambda policy: policy.base_fee_msat,
            BASE_OFFSET_MSAT,
            bounds.min_base_msat,
            bounds.max_base_msat,
        ),
    )


def _decide(
    channel: ChannelView, levels: Sequence[float], dials: Sequence[_Dial], min_change: float
) -> ChannelDecision | None:
    if not channel.active:
        return None  # nobody could use the new fee, and the peer would not hear of it
    found = channel.found_policy or channel.policy
    moves: list[int | None] = []
    changes = []
    for dial, level in zip(dials, levels, strict=True):
        current = dial.of(channel.policy)
        moved = dial.turn(dial.of(found), current, level, min_change)
        moves.append(moved)
        if moved is not None:
            verb = "raise" if moved > current else "lower"
            changes.append(f"{verb} {dial.name} {current:,}→{moved:,} {dial.unit}")
    if not changes:
        return None
    rate, discount, base = moves
    return ChannelDecision(
        fee_rate_ppm=rate,
        base_fee_msat=base,
        inbound_fee_rate_ppm=None if discount is None else -discount,
        reason=f"{', '.join(changes)}: {_situation(channel)}",
    )


def _situation(channel: ChannelView) -> str:
    """What the node saw of this channel when the actor decided."""
    flow = channel.flow
    facts = [f"local balance {local_share(channel):.0%}"]
    if flow.forwarded_out_msat:
        facts.append(f"out {format_msat(flow.forwarded_out_msat)} in {flow.forwards} forwards")
    if flow.forwarded_in_msat:
        facts.append(f"in {format_msat(flow.forwarded_in_msat)}")
    if not (flow.forwarded_out_msat or flow.forwarded_in_msat):
        facts.append("no forwards")
    if flow.failed_forwards:
        facts.append(f"{flow.failed_forwards} forwards failed")
    if channel.competing_ppm >= 0:
        facts.append(f"others charge {channel.competing_ppm:,} ppm")
    return ", ".join(facts)
