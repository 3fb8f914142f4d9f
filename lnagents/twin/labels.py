"""One step of a route search: what it costs to come to a labelled node from one of its neighbours.

This is the inner part of LND's `findPath` (routing/pathfind.go): which of a pair's channels to take
(routing/unified_edges.go), what is sent over it, and whether that beats what is known. All rounding
is LND's, so that distances agree to the millisatoshi. Amounts are msat.
"""

from __future__ import annotations

from typing import NamedTuple

from lnagents.model.kernel import inlined, kernel
from lnagents.twin.commitment import Liquidity, sendable
from lnagents.twin.forwarding import inbound_fee, outbound_fee
from lnagents.twin.gossip import Gossip, seen_row
from lnagents.twin.network import (
    DISABLED,
    MAX_HTLC,
    MIN_HTLC,
    TIME_LOCK_DELTA,
    Int32Array,
    Int64Array,
)
from lnagents.twin.settings import SenderNumbers

NO_EDGE = -1

BLOCK_PADDING = 3
"""Blocks added to what the receiver asks for, in case some are mined meanwhile (`BlockPadding` in
LND's routing/payment_session.go)."""

_BILLION = 1_000_000_000
_MILLION = 1_000_000
_SPAN = 0.9
"""LND scales time preferences, because the extremes would be infinite."""

_HMAC_SIZE = 32
_RECORD_HEADER = 2
"""Bytes of a record's type and length (BOLT 1)."""
_CHANNEL_RECORD = _RECORD_HEADER + 8
_PAYMENT_ADDRESS_SIZE = 32


class Query(NamedTuple):
    """What a search is about."""

    sender: int
    target: int
    amount: int
    """msat that must arrive."""
    fee_limit: int
    """msat."""
    last_expiry: int
    """Block height beyond which the sender's HTLC must not be locked."""
    now: float
    cost: float
    """Of a failed attempt, msat."""


@inlined
def attempt_cost(numbers: SenderNumbers, amount: int) -> float:
    """What it is worth to avoid a failed attempt, in msat."""
    default = float(numbers.attempt_cost + amount * numbers.attempt_cost_ppm // _MILLION)
    preference = numbers.time_preference * _SPAN
    return default * (1 / (0.5 - preference / 2) - 1)


@inlined
def payload_size(amount: int, expiry: int) -> int:
    """Bytes that a forwarder's instructions take in the onion (`Hop.PayloadSize`)."""
    records = 2 * _RECORD_HEADER + _width(amount) + _width(expiry) + _CHANNEL_RECORD
    return records + 1 + _HMAC_SIZE


@inlined
def final_payload_size(amount: int, expiry: int) -> int:
    """The same of the receiver's, with the payment address of its invoice."""
    records = 3 * _RECORD_HEADER + 2 * _width(amount) + _width(expiry) + _PAYMENT_ADDRESS_SIZE
    return records + 1 + _HMAC_SIZE


@inlined
def _width(value: int) -> int:
    """Bytes of an integer without leading zeros (BOLT 1, `tu64`)."""
    width = 0
    while value > 0:
        value >>= 8
        width += 1
    return width


@inlined
def capped_inbound_fee(policy: Int64Array, row: int, received: int, out_fee: int) -> int:
    """What a node asks for what comes in, in msat; its two fees together are never negative."""
    return max(inbound_fee(policy, row, received), -out_fee)


@inlined
def in_range(policy: Int64Array, row: int, capacity: int, amount: int) -> bool:
    """Whether a channel takes HTLCs of this amount, as far as gossip says."""
    most = policy[row, MAX_HTLC]
    return bool(amount <= capacity and amount >= policy[row, MIN_HTLC]) and bool(
        most == 0 or amount <= most
    )


@inlined
def choose_own(
    gossip: Gossip,
    liquidity: Liquidity,
    capacity: Int64Array,
    sender: int,
    first: int,
    received: int,
    out_fee: int,
    last_hop: bool,
    now: float,
) -> tuple[int, int, int]:
    """Which of the sender's own channels to a peer to use (`getEdgeLocal`): the one with most left.

    Returns:
        The edge or `NO_EDGE`, what is sent over it, and 1 if another is as good.
    """
    policy = gossip.policy
    chosen = NO_EDGE
    most = 0
    sent = received
    tied = 0
    edge = first
    while True:
        amount = received
        if not last_hop:
            row = seen_row(gossip, sender, edge ^ 1, now)
            amount += capped_inbound_fee(policy, row, received, out_fee)
        if in_range(policy, seen_row(gossip, sender, edge, now), capacity[edge >> 1], amount):
            available = sendable(liquidity, edge, amount)
            if amount <= available and available >= most:
                tied = 1 if chosen != NO_EDGE and available == most else 0
                chosen = edge
                most = available
                sent = amount
        edge = liquidity.parallel[edge]
        if edge == first:
            return chosen, sent, tied


@kernel
def choose_other(
    gossip: Gossip,
    parallel: Int32Array,
    capacity: Int64Array,
    sender: int,
    first: int,
    received: int,
    out_fee: int,
    last_hop: bool,
    now: float,
) -> tuple[int, int, int, int, int, int]:
    """Which of another node's channels to its peer to pay for (`getEdgeNetwork`).

    The forwarder may use any of them, so LND reckons with the highest fee and the longest time
    lock, and with the largest capacity for its chances.

    Returns:
        The edge or `NO_EDGE`, what is sent over it, the outgoing fee, the time lock in blocks, the
        largest capacity, and 1 if another asks as much.
    """
    policy = gossip.policy
    chosen = NO_EDGE
    highest = 0
    sent = received
    charged = 0
    time_lock = 0
    largest = 0
    tied = 0
    edge = first
    while True:
        row = seen_row(gossip, sender, edge, now)
        amount = received
        inbound = 0
        if not last_hop:
            back = seen_row(gossip, sender, edge ^ 1, now)
            inbound = capped_inbound_fee(policy, back, received, out_fee)
            amount += inbound
        whole = capacity[edge >> 1]
        if policy[row, DISABLED] == 0 and in_range(policy, row, whole, amount):
            largest = max(largest, whole)
            time_lock = max(time_lock, policy[row, TIME_LOCK_DELTA])
            outbound = outbound_fee(policy, row, amount)
            if chosen == NO_EDGE or outbound + inbound >= highest:
                tied = 1 if chosen != NO_EDGE and outbound + inbound == highest else 0
                chosen = edge
                highest = outbound + inbound
                sent = amount
                charged = outbound
        edge = parallel[edge]
        if edge == first:
            return chosen, sent, charged, time_lock, largest, tied


@inlined
def edge_weight(numbers: SenderNumbers, amount: int, fee: int, time_lock: int) -> int:
    """What an edge costs if all goes well, in msat: its fee and the risk of locked money."""
    return max(fee, 0) + amount * time_lock * numbers.risk_factor // _BILLION
