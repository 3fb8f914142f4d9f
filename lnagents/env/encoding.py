"""From what a node knows to arrays: one row per channel, and one row for the node as a whole.

The columns are the tables below, in their order. Permuting a view's channels permutes the rows and
changes nothing else, not even in the last bit: sums are over integers or exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lnagents.env.features import (
    Feature,
    FloatArray,
    base_fee_scale,
    count_scale,
    flow_scale,
    log_scale,
    money_scale,
    rate_scale,
    rows,
    share,
)
from lnagents.model.units import MSAT_PER_SAT, ShortChannelId
from lnagents.model.view import ChannelView, NodeView

ACTION_NAMES = ("fee_rate", "inbound_discount", "base_fee")
"""Columns of an action, each from -1 to 1; 0 is what the agent found (see `lnagents.env.fees`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """A `NodeView` as arrays."""

    channels: FloatArray
    """[channels, `CHANNEL_FEATURE_NAMES`], in the order of `scids`."""
    node: FloatArray
    """[`NODE_FEATURE_NAMES`]."""
    scids: tuple[ShortChannelId, ...]


def local_share(channel: ChannelView) -> float:
    """Share of the balance on the own side, 0 to 1; a half if nothing is on either side."""
    return share(channel.local_balance_msat, channel.remote_balance_msat, otherwise=0.5)


def _failed_share(channel: ChannelView) -> float:
    return share(channel.flow.failed_forwards, channel.flow.forwards, otherwise=0.0)


CHANNEL_FEATURES: tuple[Feature[ChannelView], ...] = (
    Feature("local_share", "share of the balance on the own side, 0..1", local_share),
    Feature(
        "capacity",
        "log10 of the capacity in million sat, 0 for 1 M sat, about -1.7..1.3",
        lambda c: math.log10(max(1, c.capacity_msat) / (1_000_000 * MSAT_PER_SAT)),
    ),
    Feature("active", "1 if the channel can be used now, else 0", lambda c: float(c.active)),
    Feature(
        "fee_rate",
        "own fee rate on a log scale, 0 for 0 ppm, 1 for 10,000 ppm",
        lambda c: rate_scale(c.policy.fee_rate_ppm),
    ),
    Feature(
        "base_fee",
        "own base fee on a log scale, 0 for 0, 1 for 10,000 msat",
        lambda c: base_fee_scale(c.policy.base_fee_msat),
    ),
    Feature(
        "inbound_discount",
        "own discount on what comes in, log scale, 0 for none, 1 for 10,000 ppm",
        lambda c: rate_scale(-c.policy.inbound_fee_rate_ppm),
    ),
    Feature(
        "found_fee_rate",
        "fee rate when the agent took the channel over, log scale as fee_rate",
        lambda c: rate_scale((c.found_policy or c.policy).fee_rate_ppm),
    ),
    Feature(
        "peer_known",
        "1 if the peer has announced its policy, else 0",
        lambda c: float(c.peer_policy is not None),
    ),
    Feature(
        "peer_fee_rate",
        "the peer's fee rate towards this node, log scale as fee_rate; 0 if not known",
        lambda c: rate_scale(c.peer_policy.fee_rate_ppm) if c.peer_policy else 0.0,
    ),
    Feature(
        "competing_known",
        "1 if other nodes have channels to the same peer, else 0",
        lambda c: float(c.competing_ppm >= 0),
    ),
    Feature(
        "competing_fee_rate",
        "median fee rate of the others into the same peer, log scale as fee_rate; 0 if none",
        lambda c: rate_scale(c.competing_ppm),
    ),
    Feature(
        "inflow",
        "forwarded in this round against capacity, log scale, 0 for none, 1 for all of it",
        lambda c: flow_scale(c.flow.forwarded_in_msat, c.capacity_msat),
    ),
    Feature(
        "outflow",
        "forwarded out this round against capacity, as inflow",
        lambda c: flow_scale(c.flow.forwarded_out_msat, c.capacity_msat),
    ),
    Feature(
        "sent",
        "own payments out this round against capacity, as inflow",
        lambda c: flow_scale(c.flow.sent_msat, c.capacity_msat),
    ),
    Feature(
        "received",
        "own receipts in this round against capacity, as inflow",
        lambda c: flow_scale(c.flow.received_msat, c.capacity_msat),
    ),
    Feature(
        "fees_earned",
        "fees earned this round, log scale, 0 for none, 1 for 1,000 sat",
        lambda c: money_scale(c.flow.fees_earned_msat),
    ),
    Feature(
        "forwards",
        "settled forwards out this round, log scale, 0 for none, 1 for 100",
        lambda c: count_scale(c.flow.forwards),
    ),
    Feature(
        "failed_share", "share of the forwards out that failed this round, 0..1", _failed_share
    ),
)

CHANNEL_FEATURE_NAMES = tuple(feature.name for feature in CHANNEL_FEATURES)


def _balance(view: NodeView) -> float:
    local = sum(channel.local_balance_msat for channel in view.channels)
    remote = sum(channel.remote_balance_msat for channel in view.channels)
    return share(local, remote, otherwise=0.5)


def _imbalance(view: NodeView) -> float:
    if not view.channels:
        return 0.0
    # fsum rounds once, so the order of the channels cannot show.
    return math.fsum(abs(2 * local_share(c) - 1) for c in view.channels) / len(view.channels)


def _capacity(view: NodeView) -> int:
    return sum(channel.capacity_msat for channel in view.channels)


NODE_FEATURES: tuple[Feature[NodeView], ...] = (
    Feature(
        "channels",
        "number of channels, log scale, 0 for none, 1 for 100",
        lambda v: log_scale(len(v.channels), 100),
    ),
    Feature(
        "active_share",
        "share of the channels that can be used now, 0..1",
        lambda v: sum(c.active for c in v.channels) / max(1, len(v.channels)),
    ),
    Feature("local_share", "share of all balances on the own side, 0..1", _balance),
    Feature(
        "imbalance", "mean of |2 local_share - 1|, 0 (all even)..1 (all one-sided)", _imbalance
    ),
    Feature(
        "forwarded",
        "forwarded out this round against the sum of capacities, log scale, 1 for all of it",
        lambda v: flow_scale(sum(c.flow.forwarded_out_msat for c in v.channels), _capacity(v)),
    ),
    Feature(
        "fees_earned",
        "forwarding fees earned this round, log scale, 0 for none, 1 for 1,000 sat",
        lambda v: money_scale(sum(c.flow.fees_earned_msat for c in v.channels)),
    ),
    Feature(
        "failed_share",
        "share of the forwards that failed this round, 0..1",
        lambda v: share(
            sum(c.flow.failed_forwards for c in v.channels),
            sum(c.flow.forwards for c in v.channels),
            otherwise=0.0,
        ),
    ),
    Feature(
        "payments",
        "own payments ended this round, log scale, 0 for none, 1 for 100",
        lambda v: count_scale(v.payments_settled + v.payments_failed),
    ),
    Feature(
        "payment_success",
        "share of the own payments that settled, 0..1; 1 if there were none",
        lambda v: share(v.payments_settled, v.payments_failed, otherwise=1.0),
    ),
    Feature(
        "failed_attempts",
        "failed attempts of own payments this round, log scale, 0 for none, 1 for 100",
        lambda v: count_scale(v.failed_attempts),
    ),
    Feature(
        "fees_paid",
        "fees paid for own payments this round, log scale, 0 for none, 1 for 1,000 sat",
        lambda v: money_scale(v.fees_paid_msat),
    ),
    Feature(
        "hint_costs",
        "paid for hints this round, log scale, 0 for nothing, 1 for 1,000 sat",
        lambda v: money_scale(v.hint_costs_msat),
    ),
    Feature(
        "hint_income",
        "earned with hints this round, log scale, 0 for nothing, 1 for 1,000 sat",
        lambda v: money_scale(v.hint_income_msat),
    ),
)

NODE_FEATURE_NAMES = tuple(feature.name for feature in NODE_FEATURES)


def encode(view: NodeView) -> Observation:
    """The arrays of `view`; a node without channels gives no rows."""
    return Observation(
        channels=rows(CHANNEL_FEATURES, view.channels),
        node=np.array([feature.of(view) for feature in NODE_FEATURES], dtype=np.float32),
        scids=tuple(channel.scid for channel in view.channels),
    )
