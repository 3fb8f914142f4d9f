"""From traffic to the payments of a running twin, and from those to outcomes."""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from lnagents.twin.directions import BY_ROUTE, Directions
from lnagents.twin.events import EVENT_KINDS, Events
from lnagents.twin.network import Network
from lnagents.twin.session import CONTINUE, RELEASE
from lnagents.twin.state import NOTHING, OPEN, Attempts, Payments
from lnagents.twin.traffic import UNRESOLVED, Outcomes, Traffic

Numbers = TypeVar("Numbers", bound=NDArray[np.generic])


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


def make_payments(traffic: Traffic, directions: Directions, start: float) -> Payments:
    """Payments that nothing has happened to yet; `start` is when the traffic begins."""
    count = len(traffic)
    at = _column(traffic.at, np.float64) + start
    return Payments(
        at=at,
        deadline=at + traffic.timeout,
        hold=_column(traffic.hold, np.float64),
        source=_column(traffic.source, np.int32),
        target=_column(traffic.target, np.int32),
        amount=_column(traffic.amount, np.int64),
        fee_limit=_column(traffic.fee_limit, np.int64),
        max_parts=_column(traffic.max_parts, np.int32),
        mode=_column(directions.mode, np.int8),
        priority=_column(directions.priority, np.int8),
        first_hop=_column(directions.first_hop, np.int64),
        route=_column(directions.edge, np.int32),
        reason=np.full(count, OPEN, dtype=np.int8),
        fee=np.zeros(count, dtype=np.int64),
        attempts=np.zeros(count, dtype=np.int32),
        failed_attempts=np.zeros(count, dtype=np.int32),
        seconds=np.zeros(count),
        given_up=np.full(count, OPEN, dtype=np.int8),
        settled=np.zeros(count, dtype=np.int8),
        active=np.zeros(count, dtype=np.int32),
        sent=np.zeros(count, dtype=np.int64),
        spent=np.zeros(count, dtype=np.int64),
        arrived=np.zeros(count, dtype=np.int64),
        held=np.full(count, NOTHING, dtype=np.int32),
    )


def _column(values: Numbers, kind: type[np.generic]) -> Numbers:
    """The same array if it is of the one type that kernels are compiled for, else a copy."""
    return cast(Numbers, np.require(values, kind, ["C", "W"]))


def carry_over(
    earlier: Payments, payments: Payments, attempts: Attempts, events: Events
) -> tuple[Payments, int]:
    """Put those that wait for HTLCs in flight before new payments, and say how many they are.

    What their attempts and events name is renumbered in place.
    """
    open_ones = np.flatnonzero((earlier.reason == OPEN) & (earlier.active > 0))
    waiting = int(events.use[0])
    if not len(open_ones):
        # What still waits is about parts that came back long ago.
        events.use[0] = 0
        return payments, 0
    place = np.full(len(earlier.at), NOTHING, dtype=np.int64)
    place[open_ones] = np.arange(len(open_ones))
    in_use = np.ones(len(attempts.payment), dtype=np.bool_)
    free = int(attempts.free[0])
    while free != NOTHING:
        in_use[free] = False
        free = int(attempts.following[free])
    attempts.payment[in_use] = place[attempts.payment[in_use]]
    attempts.line[:] = NOTHING
    subject, kind = np.divmod(events.what[:waiting], EVENT_KINDS)
    of_payments = (kind == CONTINUE) | (kind == RELEASE)
    subject[of_payments] = place[subject[of_payments]]
    events.what[:waiting] = subject * EVENT_KINDS + kind
    columns = {
        name: np.concatenate([getattr(earlier, name)[open_ones], new])
        for name, new in payments._asdict().items()
        if name not in {"first_hop", "route"}
    }
    # The routes of earlier payments are laid already.
    gone = np.zeros(len(open_ones), dtype=np.int64)
    columns["first_hop"] = np.concatenate([gone, payments.first_hop])
    columns["route"] = payments.route
    return Payments(**columns), len(open_ones)


def outcomes_of(payments: Payments, carried: int) -> Outcomes:
    """What became of all payments but the first `carried`."""
    reason = payments.reason[carried:].copy()
    reason[reason == OPEN] = UNRESOLVED
    return Outcomes(
        reason=reason,
        fee=payments.fee[carried:].copy(),
        attempts=payments.attempts[carried:].copy(),
        failed_attempts=payments.failed_attempts[carried:].copy(),
        seconds=payments.seconds[carried:].copy(),
    )
