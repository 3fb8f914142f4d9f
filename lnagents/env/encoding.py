"""From what a node knows to arrays: one row per channel, and one row for the node as a whole.

The columns are the tables below, in their order. Permuting a view's channels permutes the rows and
changes nothing else, not even in the last bit: sums are over integers.

`ChannelFacts` and `NodeFacts` are what the features are computed from: plain numbers, which come
from a `NodeView` here and from the arrays of the twin in `lnagents.env.kernels`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lnagents.env.features import (
    Column,
    FloatArray,
    base_fee_scale,
    count_scale,
    flow_scale,
    log_scale,
    money_scale,
    rate_scale,
    share,
)
from lnagents.model.units import MSAT_PER_SAT, Msat, Ppm, ShortChannelId
from lnagents.model.view import ChannelView, NodeView

ACTION_NAMES = ("fee_rate", "inbound_discount", "base_fee")
"""Columns of an action, each from -1 to 1; 0 is what the agent found (see `lnagents.env.fees`)."""

CHANNEL_FEATURES = (
    Column("local_share", "share of the balance on the own side, 0..1; a half if there is none"),
    Column("capacity", "log10 of the capacity in million sat, 0 for 1 M sat, about -1.7..1.3"),
    Column("active", "1 if the channel can be used now, else 0"),
    Column("fee_rate", "own fee rate on a log scale, 0 for 0 ppm, 1 for 10,000 ppm"),
    Column("base_fee", "own base fee on a log scale, 0 for 0, 1 for 10,000 msat"),
    Column(
        "inbound_discount",
        "own discount on what comes in, log scale, 0 for none, 1 for 10,000 ppm",
    ),
    Column(
        "found_fee_rate",
        "fee rate when the agent took the channel over, log scale as fee_rate",
    ),
    Column("peer_known", "1 if the peer has announced its policy, else 0"),
    Column(
        "peer_fee_rate",
        "the peer's fee rate towards this node, log scale as fee_rate; 0 if not known",
    ),
    Column("competing_known", "1 if other nodes have channels to the same peer, else 0"),
    Column(
        "competing_fee_rate",
        "median fee rate of the others into the same peer, log scale as fee_rate; 0 if none",
    ),
    Column(
        "inflow",
        "forwarded in this round against capacity, log scale, 0 for none, 1 for all of it",
    ),
    Column("outflow", "forwarded out this round against capacity, as inflow"),
    Column("sent", "own payments out this round against capacity, as inflow"),
    Column("received", "own receipts in this round against capacity, as inflow"),
    Column("fees_earned", "fees earned this round, log scale, 0 for none, 1 for 1,000 sat"),
    Column("forwards", "settled forwards out this round, log scale, 0 for none, 1 for 100"),
    Column("failed_share", "share of the forwards out that failed this round, 0..1"),
)
"""The fields of `ChannelFeatures`, explained."""

CHANNEL_FEATURE_NAMES = tuple(column.name for column in CHANNEL_FEATURES)

NODE_FEATURES = (
    Column("channels", "number of channels, log scale, 0 for none, 1 for 100"),
    Column("active_share", "share of the channels that can be used now, 0..1"),
    Column("local_share", "share of all balances on the own side, 0..1; a half if there are none"),
    Column("imbalance", "mean of |2 local_share - 1|, 0 (all even)..1 (all one-sided)"),
    Column(
        "forwarded",
        "forwarded out this round against the sum of capacities, log scale, 1 for all of it",
    ),
    Column(
        "fees_earned",
        "forwarding fees earned this round, log scale, 0 for none, 1 for 1,000 sat",
    ),
    Column("failed_share", "share of the forwards that failed this round, 0..1"),
    Column("payments", "own payments ended this round, log scale, 0 for none, 1 for 100"),
    Column("payment_success", "share of the own payments that settled, 0..1; 1 if there were none"),
    Column(
        "failed_attempts",
        "failed attempts of own payments this round, log scale, 0 for none, 1 for 100",
    ),
    Column(
        "fees_paid",
        "fees paid for own payments this round, log scale, 0 for none, 1 for 1,000 sat",
    ),
    Column("hint_costs", "paid for hints this round, log scale, 0 for nothing, 1 for 1,000 sat"),
    Column(
        "hint_income", "earned with hints this round, log scale, 0 for nothing, 1 for 1,000 sat"
    ),
)
"""The fields of `NodeFeatures`, explained."""

NODE_FEATURE_NAMES = tuple(column.name for column in NODE_FEATURES)

UNITY = 1 << 32
"""Shares are summed up as integers in units of this part, so that no order of channels can show."""


class ChannelFacts(NamedTuple):
    """One channel in plain numbers; amounts in msat, rates in ppm."""

    local: Msat
    remote: Msat
    capacity: Msat
    active: bool
    fee_rate: Ppm
    base_fee: Msat
    inbound_fee_rate: Ppm
    found_fee_rate: Ppm
    peer_fee_rate: Ppm
    """Negative: not known."""
    competing: Ppm
    """Negative: there are none."""
    forwarded_in: Msat
    forwarded_out: Msat
    sent: Msat
    received: Msat
    fees_earned: Msat
    forwards: int
    failed_forwards: int


class ChannelFeatures(NamedTuple):
    """One row; see `CHANNEL_FEATURES`."""

    local_share: float
    capacity: float
    active: float
    fee_rate: float
    base_fee: float
    inbound_discount: float
    found_fee_rate: float
    peer_known: float
    peer_fee_rate: float
    competing_known: float
    competing_fee_rate: float
    inflow: float
    outflow: float
    sent: float
    received: float
    fees_earned: float
    forwards: float
    failed_share: float


def channel_features(facts: ChannelFacts) -> ChannelFeatures:
    """The row of one channel."""
    # Numba takes no branches within a call that has many keywords.
    capacity = facts.capacity
    active = 1.0 if facts.active else 0.0
    peer_known = 1.0 if facts.peer_fee_rate >= 0 else 0.0
    competing_known = 1.0 if facts.competing >= 0 else 0.0
    return ChannelFeatures(
        local_share=share(facts.local, facts.remote, 0.5),
        capacity=math.log10(max(1, capacity) / (1_000_000.0 * MSAT_PER_SAT)),
        active=active,
        fee_rate=rate_scale(facts.fee_rate),
        base_fee=base_fee_scale(facts.base_fee),
        inbound_discount=rate_scale(-facts.inbound_fee_rate),
        found_fee_rate=rate_scale(facts.found_fee_rate),
        peer_known=peer_known,
        peer_fee_rate=rate_scale(facts.peer_fee_rate),
        competing_known=competing_known,
        competing_fee_rate=rate_scale(facts.competing),
        inflow=flow_scale(facts.forwarded_in, capacity),
        outflow=flow_scale(facts.forwarded_out, capacity),
        sent=flow_scale(facts.sent, capacity),
        received=flow_scale(facts.received, capacity),
        fees_earned=money_scale(facts.fees_earned),
        forwards=count_scale(facts.forwards),
        failed_share=share(facts.failed_forwards, facts.forwards, 0.0),
    )


class NodeFacts(NamedTuple):
    """Sums over a node's channels, and what it knows beside them; amounts in msat."""

    channels: int
    active: int
    local: Msat
    remote: Msat
    capacity: Msat
    one_sided: int
    """Sum of |2 local share - 1| in units of 1 / `UNITY`."""
    even_capacity: Msat
    """Sum of capacity * (1 - |2 local share - 1|), each channel's rounded."""
    forwarded_out: Msat
    fees_earned: Msat
    forwards: int
    failed_forwards: int
    payments_settled: int
    payments_failed: int
    failed_attempts: int
    fees_paid: Msat
    hint_costs: Msat
    hint_income: Msat


def with_channel(node: NodeFacts, channel: ChannelFacts) -> NodeFacts:
    """`node` with the sums over one channel more."""
    active = 1 if channel.active else 0
    one_sided = abs(2.0 * share(channel.local, channel.remote, 0.5) - 1.0)
    return NodeFacts(
        channels=node.channels + 1,
        active=node.active + active,
        local=node.local + channel.local,
        remote=node.remote + channel.remote,
        capacity=node.capacity + channel.capacity,
        one_sided=node.one_sided + round(one_sided * UNITY),
        even_capacity=node.even_capacity + round(channel.capacity * (1.0 - one_sided)),
        forwarded_out=node.forwarded_out + channel.forwarded_out,
        fees_earned=node.fees_earned + channel.fees_earned,
        forwards=node.forwards + channel.forwards,
        failed_forwards=node.failed_forwards + channel.failed_forwards,
        payments_settled=node.payments_settled,
        payments_failed=node.payments_failed,
        failed_attempts=node.failed_attempts,
        fees_paid=node.fees_paid,
        hint_costs=node.hint_costs,
        hint_income=node.hint_income,
    )


class NodeFeatures(NamedTuple):
    """The row of a node; see `NODE_FEATURES`."""

    channels: float
    active_share: float
    local_share: float
    imbalance: float
    forwarded: float
    fees_earned: float
    failed_share: float
    payments: float
    payment_success: float
    failed_attempts: float
    fees_paid: float
    hint_costs: float
    hint_income: float


def node_features(facts: NodeFacts) -> NodeFeatures:
    """The row of a node."""
    channels = max(1, facts.channels)
    return NodeFeatures(
        channels=log_scale(facts.channels, 100),
        active_share=facts.active / channels,
        local_share=share(facts.local, facts.remote, 0.5),
        imbalance=facts.one_sided / UNITY / channels,
        forwarded=flow_scale(facts.forwarded_out, facts.capacity),
        fees_earned=money_scale(facts.fees_earned),
        failed_share=share(facts.failed_forwards, facts.forwards, 0.0),
        payments=count_scale(facts.payments_settled + facts.payments_failed),
        payment_success=share(facts.payments_settled, facts.payments_failed, 1.0),
        failed_attempts=count_scale(facts.failed_attempts),
        fees_paid=money_scale(facts.fees_paid),
        hint_costs=money_scale(facts.hint_costs),
        hint_income=money_scale(facts.hint_income),
    )


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
    return share(channel.local_balance_msat, channel.remote_balance_msat, 0.5)


def facts_of_channel(channel: ChannelView) -> ChannelFacts:
    """What the features need of `channel`."""
    flow = channel.flow
    return ChannelFacts(
        local=channel.local_balance_msat,
        remote=channel.remote_balance_msat,
        capacity=channel.capacity_msat,
        active=channel.active,
        fee_rate=channel.policy.fee_rate_ppm,
        base_fee=channel.policy.base_fee_msat,
        inbound_fee_rate=channel.policy.inbound_fee_rate_ppm,
        found_fee_rate=(channel.found_policy or channel.policy).fee_rate_ppm,
        peer_fee_rate=channel.peer_policy.fee_rate_ppm if channel.peer_policy else -1,
        competing=channel.competing_ppm,
        forwarded_in=flow.forwarded_in_msat,
        forwarded_out=flow.forwarded_out_msat,
        sent=flow.sent_msat,
        received=flow.received_msat,
        fees_earned=flow.fees_earned_msat,
        forwards=flow.forwards,
        failed_forwards=flow.failed_forwards,
    )


def facts_of_node(view: NodeView, channels: Sequence[ChannelFacts]) -> NodeFacts:
    """What the features and the reward need of `view`, whose channels have the facts `channels`."""
    facts = NodeFacts(
        channels=0,
        active=0,
        local=0,
        remote=0,
        capacity=0,
        one_sided=0,
        even_capacity=0,
        forwarded_out=0,
        fees_earned=0,
        forwards=0,
        failed_forwards=0,
        payments_settled=view.payments_settled,
        payments_failed=view.payments_failed,
        failed_attempts=view.failed_attempts,
        fees_paid=view.fees_paid_msat,
        hint_costs=view.hint_costs_msat,
        hint_income=view.hint_income_msat,
    )
    for channel in channels:
        facts = with_channel(facts, channel)
    return facts


def encode(view: NodeView) -> Observation:
    """The arrays of `view`; a node without channels gives no rows."""
    channels = [facts_of_channel(channel) for channel in view.channels]
    rows = np.array([channel_features(facts) for facts in channels], dtype=np.float32)
    return Observation(
        channels=rows.reshape(len(channels), len(CHANNEL_FEATURES)),
        node=np.array(node_features(facts_of_node(view, channels)), dtype=np.float32),
        scids=tuple(channel.scid for channel in view.channels),
    )
