"""From traffic to the payments of a running twin, and from those to outcomes."""

from __future__ import annotations

import numpy as np

from lnagents.twin.directions import BY_ROUTE, Directions
from lnagents.twin.events import EVENT_KINDS, Events
from lnagents.twin.network import Int64Array, Network
from lnagents.twin.session import CONTINUE, RELEASE
from lnagents.twin.state import (
    ACTIVE,
    AT,
    ATTEMPTS,
    DEADLINE,
    FAILED_ATTEMPTS,
    FEE_LIMIT,
    FEE_PAID,
    FIRST_HOP,
    FOLLOWING,
    GIVEN_UP,
    HELD,
    HOLD,
    LAST_HOP,
    LAST_TRIED,
    LINE,
    MAX_PARTS,
    MODE,
    NOTHING,
    OPEN,
    PAYMENT,
    PAYMENT_COLUMNS,
    PAYMENT_TIMES,
    PRIORITY,
    REASON,
    RECEIVER,
    SENDER,
    TAKEN,
    TOTAL,
    Attempts,
    Payments,
)
from lnagents.twin.traffic import UNRESOLVED, Outcomes, Traffic


def check_traffic(network: Network, traffic: Traffic, directions: Directions) -> None:
    """See that the payments can be made in the network.

    Raises:
        ValueError: a payment names what does not exist, or the arrays do not fit together.
    """
    count = len(traffic)
    for name, nodes in (("source", traffic.source), ("target", traffic.target)):
        if count and not (nodes.min() >= 0 and nodes.max() < network.nodes):
            raise ValueError(f"{name}: names a node that does not exist")
    if count and traffic.amount.min() <= 0:
        raise ValueError("amount: must be positive")
    if np.any(np.diff(traffic.at) < 0):
        raise ValueError("at: must ascend")
    if len(directions.mode) != count or len(directions.first_hop) != count + 1:
        raise ValueError(f"directions: are not for {count} payments")
    edges = directions.edge
    if len(edges) and not (edges.min() >= 0 and edges.max() < 2 * network.channels):
        raise ValueError("directions: name an edge that does not exist")
    lengths = np.diff(directions.first_hop)
    if np.any(lengths[directions.mode == BY_ROUTE] == 0):
        raise ValueError("directions: a payment by route has none")
    if len(edges):
        _check_routes(network, traffic, directions, lengths)


def _check_routes(
    network: Network, traffic: Traffic, directions: Directions, lengths: Int64Array
) -> None:
    payment = np.repeat(np.arange(len(lengths)), lengths)
    begins = np.append(True, payment[1:] != payment[:-1])
    ends = np.append(begins[1:], True)
    source = network.edge_source()[directions.edge]
    target = network.edge_target()[directions.edge]
    expected = np.where(begins, traffic.source[payment], np.append(0, target[:-1]))
    wrong = (source != expected) | (ends & (target != traffic.target[payment]))
    if np.any(wrong):
        raise ValueError(f"directions: the route of payment {payment[wrong][0]} is not connected")


def make_payments(traffic: Traffic, directions: Directions, start: float) -> Payments:
    """Payments that nothing has happened to yet; `start` is when the traffic begins."""
    number = np.zeros((len(traffic), PAYMENT_COLUMNS), dtype=np.int64)
    for column, values in (
        (SENDER, traffic.source),
        (RECEIVER, traffic.target),
        (TOTAL, traffic.amount),
        (FEE_LIMIT, traffic.fee_limit),
        (MAX_PARTS, traffic.max_parts),
        (MODE, directions.mode),
        (PRIORITY, directions.priority),
        (FIRST_HOP, directions.first_hop[:-1]),
        (LAST_HOP, directions.first_hop[1:]),
    ):
        number[:, column] = values
    number[:, [REASON, GIVEN_UP, HELD, LAST_TRIED]] = (OPEN, OPEN, NOTHING, NOTHING)
    time = np.zeros((len(traffic), PAYMENT_TIMES))
    time[:, AT] = traffic.at + start
    time[:, DEADLINE] = time[:, AT] + traffic.timeout
    time[:, HOLD] = traffic.hold
    # Kernels are compiled for arrays that are in one piece and can be written to.
    route = np.require(directions.edge, np.int32, ["C", "W"])
    return Payments(number=number, time=time, route=route)


def carry_over(
    earlier: Payments, payments: Payments, attempts: Attempts, events: Events
) -> tuple[Payments, int]:
    """Put those that wait for HTLCs in flight before new payments, and say how many they are.

    What their attempts and events name is renumbered in place.
    """
    kept = np.flatnonzero((earlier.number[:, REASON] == OPEN) & (earlier.number[:, ACTIVE] > 0))
    waiting = int(events.use[0])
    if not len(kept):
        # What still waits is about parts that came back long ago.
        events.use[0] = 0
        return payments, 0
    place = np.full(len(earlier.number), NOTHING, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    in_use = np.ones(len(attempts.number), dtype=np.bool_)
    free = int(attempts.use[0])
    while free != NOTHING:
        in_use[free] = False
        free = int(attempts.number[free, FOLLOWING])
    attempts.number[in_use, PAYMENT] = place[attempts.number[in_use, PAYMENT]]
    attempts.number[:, LINE] = NOTHING
    subject, kind = np.divmod(events.what[:waiting], EVENT_KINDS)
    of_payments = (kind == CONTINUE) | (kind == RELEASE)
    subject[of_payments] = place[subject[of_payments]]
    events.what[:waiting] = subject * EVENT_KINDS + kind
    # The routes of earlier payments are in their attempts.
    number = np.concatenate([earlier.number[kept], payments.number])
    time = np.concatenate([earlier.time[kept], payments.time])
    return Payments(number=number, time=time, route=payments.route), len(kept)


def outcomes_of(payments: Payments, carried: int) -> Outcomes:
    """What became of all payments but the first `carried`."""
    number = payments.number[carried:]
    reason = number[:, REASON]
    return Outcomes(
        reason=np.where(reason == OPEN, UNRESOLVED, reason).astype(np.int8),
        fee=number[:, FEE_PAID].copy(),
        attempts=number[:, ATTEMPTS].astype(np.int32),
        failed_attempts=number[:, FAILED_ATTEMPTS].astype(np.int32),
        seconds=payments.time[carried:, TAKEN].copy(),
    )
