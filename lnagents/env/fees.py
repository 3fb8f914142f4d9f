"""From an actor's action to fees, within bounds, with a reason for each change.

An action is a bounded step on a logarithmic scale from what is set now. Zero keeps everything, so
an actor that has learned nothing leaves a node as it found it, and one round never more than halves
or doubles a fee. `max_htlc_msat` is left alone: it belongs to liquidity, not to prices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lnagents.env.encoding import ACTION_NAMES, local_share
from lnagents.env.features import FloatArray
from lnagents.model.units import Msat, Ppm, ShortChannelId, format_msat
from lnagents.model.view import ChannelDecision, ChannelView, NodeDecision, NodeView

MAX_STEP = math.log(2.0)
"""Logarithm of the factor by which an action of 1 raises, and an action of -1 lowers, a fee."""

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
    """A step smaller than this share is not worth an update to the whole network; 0.05 is 5 %."""

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
    steps = np.clip(action.astype(np.float64), -1.0, 1.0)
    decisions: dict[ShortChannelId, ChannelDecision] = {}
    for channel, (rate, discount, base) in zip(view.channels, steps.tolist(), strict=True):
        decision = _decide(channel, rate, discount, base, bounds)
        if decision is not None:
            decisions[channel.scid] = decision
    return NodeDecision(decisions)


def _decide(
    channel: ChannelView,
    rate_step: float,
    discount_step: float,
    base_step: float,
    bounds: FeeBounds,
) -> ChannelDecision | None:
    if not channel.active:
        return None  # nobody could use the new fee, and the peer would not hear of it
    policy = channel.policy
    old_discount = max(0, -policy.inbound_fee_rate_ppm)
    rate = _moved(
        policy.fee_rate_ppm, rate_step, RATE_OFFSET_PPM, bounds.min_ppm, bounds.max_ppm, bounds
    )
    discount = _moved(
        old_discount, discount_step, RATE_OFFSET_PPM, 0, bounds.max_inbound_discount_ppm, bounds
    )
    base = _moved(
        policy.base_fee_msat,
        base_step,
        BASE_OFFSET_MSAT,
        bounds.min_base_msat,
        bounds.max_base_msat,
        bounds,
    )
    changes = (
        _change("fee rate", policy.fee_rate_ppm, rate, "ppm"),
        _change("inbound discount", old_discount, discount, "ppm"),
        _change("base fee", policy.base_fee_msat, base, "msat"),
    )
    told = [change for change in changes if change]
    if not told:
        return None
    return ChannelDecision(
        fee_rate_ppm=rate,
        base_fee_msat=base,
        inbound_fee_rate_ppm=None if discount is None else -discount,
        reason=f"{', '.join(told)}: {_situation(channel)}",
    )


def _moved(
    current: int, step: float, offset: int, low: int, high: int, bounds: FeeBounds
) -> int | None:
    """Where `step` leads from `current`; None: not far enough away to announce it."""
    moved = round((current + offset) * math.exp(step * MAX_STEP)) - offset
    moved = min(high, max(low, moved))
    if moved == current:
        return None
    if low <= current <= high and abs(moved - current) < bounds.min_change * (current + offset):
        return None
    return moved


def _change(name: str, old: int, new: int | None, unit: str) -> str:
    if new is None:
        return ""
    return f"{'raise' if new > old else 'lower'} {name} {old:,}→{new:,} {unit}"


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
