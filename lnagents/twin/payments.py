"""From traffic to the payments of a running twin, and from those to outcomes."""

from __future__ import annotations

import numpy as np

from lnagents.model.kernel import kernel
from lnagents.twin.directions import BY_ROUTE, Directions
from lnagents.twin.events import EVENT_KINDS, Events
from lnagents.twin.network import FloatArray, Int8Array, Int32Array, Int64Array, Network
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

_NO_ROUTE = np.zeros(0, dtype=np.int32)


def make_payments(
    network: Network, traffic: Traffic, directions: Directions | None, start: float
) -> Payments:
    """Payments that nothing has happened to yet; `start` is when the traffic begins.

    Raises:
        ValueError: a payment names what does not exist, or the arrays do not fit together.
    """
    count = len(traffic)
    number = np.empty((count, PAYMENT_COLUMNS), dtype=np.int64)
    time = np.empty((count, PAYMENT_TIMES))
    wrong = _enter(
        number,
        time,
        traffic.at,
        traffic.source,
        traffic.target,
        traffic.amount,
        traffic.fee_limit,
        traffic.max_parts,
        traffic.timeout,
        traffic.hold,
        start,
        network.nodes,
    )
    if wrong >= 0:
        raise ValueError(
            f"payment {wrong}: its nodes do not exist, its amount is not positive, or it starts "
            "before the one that stands before it"
        )
    if directions is None:
        return Payments(number=number, time=time, route=_NO_ROUTE)
    check_directions(network, traffic, directions)
    for column, values in (
        (MODE, directions.mode),
        (PRIORITY, directions.priority),
        (FIRST_HOP, directions.first_hop[:-1]),
        (LAST_HOP, directions.first_hop[1:]),
    ):
        number[:, column] = values
    # Kernels are compiled for arrays that are in one piece and can be written to.
    route = np.require(directions.edge, np.int32, ["C", "W"])
    return Payments(number=number, time=time, route=route)


@kernel
def _enter(
    number: Int64Array,
    time: FloatArray,
    at: FloatArray,
    source: Int32Array,
    target: Int32Array,
    amount: Int64Array,
    fee_limit: Int64Array,
    max_parts: Int32Array,
    timeout: FloatArray,
    hold: FloatArray,
    start: float,
    nodes: int,
) -> int:
    """Fill the rows of payments: which one cannot be, or -1."""
    for payment in range(len(number)):
        if not (
            0 <= source[payment] < nodes
            and 0 <= target[payment] < nodes
            and amount[payment] > 0
            and (payment == 0 or at[payment] >= at[payment - 1])
        ):
            return payment
        row = number[payment]
        row[:] = 0
        row[SENDER] = source[payment]
        row[RECEIVER] = target[payment]
        row[TOTAL] = amount[payment]
        row[FEE_LIMIT] = fee_limit[payment]
        row[MAX_PARTS] = max_parts[payment]
        row[REASON] = OPEN
        row[GIVEN_UP] = OPEN
        row[HELD] = NOTHING
        row[LAST_TRIED] = NOTHING
        time[payment, AT] = start + at[payment]
        time[payment, DEADLINE] = start + at[payment] + timeout[payment]
        time[payment, HOLD] = hold[payment]
        time[payment, TAKEN] = 0.0
    return -1


def check_directions(network: Network, traffic: Traffic, directions: Directions) -> None:
    """See that agents' routes exist and lead from sender to receiver.

    Raises:
        ValueError: they do not.
    """
    count = len(traffic)
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


def carry_over(
    earlier: Payments, payments: Payments, attempts: Attempts, events: Events
) -> tuple[Payments, int]:
    """Put those that wait for HTLCs in flight before new payments, and say how many they are.

    What their attempts and events name is renumbered in place.
    """
    waiting = int(events.use[0])
    if waiting == 0:
        return payments, 0
    kept = np.flatnonzero((earlier.number[:, REASON] == OPEN) & (earlier.number[:, ACTIVE] > 0))
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


def outcomes_of(payments: Payments, carried: int) -> tuple[Outcomes, float]:
    """What became of all payments but the first `carried`, and when the last answer came."""
    count = len(payments.number) - carried
    outcomes = Outcomes(
        reason=np.empty(count, dtype=np.int8),
        fee=np.empty(count, dtype=np.int64),
        attempts=np.empty(count, dtype=np.int32),
        failed_attempts=np.empty(count, dtype=np.int32),
        seconds=np.empty(count),
    )
    last = _collect(
        payments.number,
        payments.time,
        carried,
        outcomes.reason,
        outcomes.fee,
        outcomes.attempts,
        outcomes.failed_attempts,
        outcomes.seconds,
    )
    return outcomes, last


@kernel
def _collect(
    number: Int64Array,
    time: FloatArray,
    carried: int,
    reason: Int8Array,
    fee: Int64Array,
    attempts: Int32Array,
    failed_attempts: Int32Array,
    seconds: FloatArray,
) -> float:
    """Write outcomes into the last five arrays; the time of the last answer."""
    last = -np.inf
    for payment in range(len(number)):
        row = number[payment]
        last = max(last, time[payment, AT] + time[payment, TAKEN])
        place = payment - carried
        if place >= 0:
            reason[place] = UNRESOLVED if row[REASON] == OPEN else row[REASON]
            fee[place] = row[FEE_PAID]
            attempts[place] = row[ATTEMPTS]
            failed_attempts[place] = row[FAILED_ATTEMPTS]
            seconds[place] = time[payment, TAKEN]
    return last
