"""Everything that a running twin knows, as nested tuples of arrays that kernels take at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lnagents.twin.commitment import Liquidity
from lnagents.twin.events import Events
from lnagents.twin.gossip import Gossip
from lnagents.twin.kernel import kernel
from lnagents.twin.memory import Memory
from lnagents.twin.network import FloatArray, Int8Array, Int32Array, Int64Array
from lnagents.twin.settings import SenderNumbers
from lnagents.twin.space import MAX_HOPS, SearchSpace
from lnagents.twin.traffic import AttemptLog

# Columns of `State.flows`, one row per edge: what passed it, seen from the node that sends over it.
# Names and units are those of `lnagents.model.view.ChannelFlow`.
FORWARDED_IN = 0
"""msat of settled forwards that came *in* over this channel: the HTLC was on `edge ^ 1`."""
FORWARDED_OUT = 1
"""msat of settled forwards that left over this edge."""
FEES_EARNED = 2
"""msat earned by settled forwards that left over this edge."""
FORWARDS = 3
FAILED_FORWARDS = 4
SENT = 5
"""msat of own payments that left over this edge."""
RECEIVED = 6
"""msat of own receipts that came in over this channel: the HTLC was on `edge ^ 1`."""
FLOW_COLUMNS = 7

NOTHING = -1
"""No attempt, no edge, no line of the log."""
OPEN = -1
"""The reason of a payment that has no answer yet; also: no reason to give up."""

# Elements of `State.cursor`.
NEXT_PAYMENT = 0
"""The next payment to start."""
NEXT_DRAW = 1
"""State of the random numbers."""


class Payments(NamedTuple):
    """One element per payment: what was asked for, and how it stands."""

    at: FloatArray
    """Seconds of virtual time; when the payment starts."""
    deadline: FloatArray
    """After that no attempt is made."""
    hold: FloatArray
    source: Int32Array
    target: Int32Array
    amount: Int64Array
    fee_limit: Int64Array
    max_parts: Int32Array
    mode: Int8Array
    priority: Int8Array
    first_hop: Int64Array
    route: Int32Array
    """Edges; see `lnagents.twin.directions.Directions`."""
    reason: Int8Array
    """Of the outcome; `OPEN` before there is one."""
    fee: Int64Array
    """msat of what settled."""
    attempts: Int32Array
    failed_attempts: Int32Array
    seconds: FloatArray
    given_up: Int8Array
    """Why no attempt will be made any more; `OPEN` if one may."""
    settled: Int8Array
    """1: at least one part has settled."""
    active: Int32Array
    """Parts in flight."""
    sent: Int64Array
    """msat that parts in flight and settled ones bring to the receiver."""
    spent: Int64Array
    """msat of fees of the same parts."""
    arrived: Int64Array
    """msat that the receiver holds."""
    held: Int32Array
    """The newest attempt that the receiver holds, or `NOTHING`."""


class Attempts(NamedTuple):
    """A pool of attempts in flight, one element or row each."""

    payment: Int32Array
    hops: Int32Array
    place: Int32Array
    """How many edges the HTLC is on; the node that acts next is there."""
    failed_at: Int32Array
    code: Int32Array
    edge: Int32Array
    """[attempts, MAX_HOPS], as planned."""
    used: Int32Array
    """[attempts, MAX_HOPS], as forwarders chose among parallel channels."""
    amount: Int64Array
    expiry: Int32Array
    tried: Int32Array
    """[attempts, MAX_HOPS], the last edge that an agent chose there, or `NOTHING`."""
    line: Int64Array
    """In the log."""
    expires: FloatArray
    """When the receiver gives a part back, if others are still missing then."""
    following: Int32Array
    """The next attempt of a list: of those that the receiver holds, or of the free ones."""
    free: Int64Array
    """The first free element, and how many are free."""


class Log(NamedTuple):
    """Room for what `AttemptLog` will show; see there."""

    payment: Int32Array
    first_hop: Int64Array
    edge: Int32Array
    amount: Int64Array
    expiry: Int32Array
    code: Int32Array
    failed_at: Int32Array
    started: FloatArray
    resolved: FloatArray
    tied: NDArray[np.bool_]
    use: Int64Array
    """How many attempts and hops were written, and whether any shall be."""


class Timing(NamedTuple):
    """`LatencySettings` and the chain's height as kernels take them."""

    forward: float
    settle: float
    fail: float
    hold_incomplete: float
    at_once: bool
    """Whether nothing but holding takes time."""
    exhaustive: bool
    """Whether to search routes as LND does, step by step."""
    height: int


class Agents(NamedTuple):
    """What agents decided beside their policies."""

    chooses: NDArray[np.bool_]
    """[nodes], whether a node chooses the next channel of payments by hop."""
    preference: FloatArray
    """[edges], the higher the earlier it is tried; -inf: never."""
    kept_free: FloatArray
    """[edges], share of capacity and slots that only payments with priority may use."""


class State(NamedTuple):
    """Everything."""

    channel_nodes: Int32Array
    liquidity: Liquidity
    gossip: Gossip
    memory: Memory
    space: SearchSpace
    payments: Payments
    attempts: Attempts
    events: Events
    log: Log
    agents: Agents
    flows: Int64Array
    used: Int32Array
    """[MAX_HOPS], scratch: the edges of a payment that needs no time."""
    cursor: Int64Array
    numbers: SenderNumbers
    timing: Timing


def make_attempts(room: int) -> Attempts:
    """An empty pool for `room` attempts."""
    return Attempts(
        payment=np.zeros(room, dtype=np.int32),
        hops=np.zeros(room, dtype=np.int32),
        place=np.zeros(room, dtype=np.int32),
        failed_at=np.zeros(room, dtype=np.int32),
        code=np.zeros(room, dtype=np.int32),
        edge=np.zeros((room, MAX_HOPS), dtype=np.int32),
        used=np.zeros((room, MAX_HOPS), dtype=np.int32),
        amount=np.zeros((room, MAX_HOPS), dtype=np.int64),
        expiry=np.zeros((room, MAX_HOPS), dtype=np.int32),
        tried=np.zeros((room, MAX_HOPS), dtype=np.int32),
        line=np.full(room, NOTHING, dtype=np.int64),
        expires=np.zeros(room),
        following=np.append(np.arange(1, room, dtype=np.int32), np.int32(NOTHING)),
        free=np.array([0, room], dtype=np.int64),
    )


def grown_attempts(attempts: Attempts) -> Attempts:
    """The same pool with twice the room; those in flight keep their numbers."""
    count = len(attempts.payment)
    bigger = make_attempts(2 * count)
    for name, old in attempts._asdict().items():
        if name != "free":
            getattr(bigger, name)[:count] = old
    # The new elements come first, then those that were free before.
    bigger.following[-1] = attempts.free[0]
    bigger.free[:] = (count, count + attempts.free[1])
    return bigger


def make_log(attempts: int, *, recording: bool) -> Log:
    """An empty log with room for that many attempts."""
    hops = attempts * 6 + MAX_HOPS
    return Log(
        payment=np.zeros(attempts, dtype=np.int32),
        first_hop=np.zeros(attempts + 1, dtype=np.int64),
        edge=np.zeros(hops, dtype=np.int32),
        amount=np.zeros(hops, dtype=np.int64),
        expiry=np.zeros(hops, dtype=np.int32),
        code=np.zeros(attempts, dtype=np.int32),
        failed_at=np.zeros(attempts, dtype=np.int32),
        started=np.zeros(attempts),
        resolved=np.zeros(attempts),
        tied=np.zeros(attempts, dtype=np.bool_),
        use=np.array([0, 0, int(recording)], dtype=np.int64),
    )


def grown_log(log: Log) -> Log:
    """The same log with twice the room."""
    bigger = make_log(2 * len(log.payment), recording=bool(log.use[2]))
    for old, new in zip(log, bigger, strict=True):
        new[: len(old)] = old
    return bigger


def log_of(log: Log, first_payment: int, start: float) -> AttemptLog:
    """What was written, with payments counted from `first_payment` and times from `start`."""
    attempts, hops = int(log.use[0]), int(log.use[1])
    return AttemptLog(
        payment=log.payment[:attempts] - np.int32(first_payment),
        first_hop=log.first_hop[: attempts + 1].copy(),
        edge=log.edge[:hops].copy(),
        amount=log.amount[:hops].copy(),
        expiry=log.expiry[:hops].copy(),
        code=log.code[:attempts].copy(),
        failed_at=log.failed_at[:attempts].copy(),
        started=log.started[:attempts] - start,
        resolved=log.resolved[:attempts] - start,
        tied=log.tied[:attempts].copy(),
    )


@kernel
def room_in_log(log: Log) -> bool:
    """Whether one attempt more can be written."""
    if log.use[2] == 0:
        return True
    return bool(log.use[0] < len(log.payment) and log.use[1] + MAX_HOPS <= len(log.edge))


@kernel
def write_attempt(
    log: Log,
    payment: int,
    edges: Int32Array,
    amounts: Int64Array,
    expiries: Int32Array,
    hops: int,
    now: float,
    tied: bool,
) -> int:
    """Write down an attempt that is sent; the line, for `write_result`."""
    if log.use[2] == 0:
        return NOTHING
    line, first = log.use[0], log.use[1]
    log.payment[line] = payment
    for hop in range(hops):
        log.edge[first + hop] = edges[hop]
        log.amount[first + hop] = amounts[hop]
        log.expiry[first + hop] = expiries[hop]
    log.first_hop[line] = first
    log.first_hop[line + 1] = first + hops
    log.started[line] = now
    log.resolved[line] = np.inf
    log.failed_at[line] = NOTHING
    log.tied[line] = tied
    log.use[0] = line + 1
    log.use[1] = first + hops
    return int(line)


@kernel
def write_result(log: Log, line: int, code: int, failed_at: int, now: float) -> None:
    """Write down how an attempt ended."""
    if line != NOTHING:
        log.code[line] = code
        log.failed_at[line] = failed_at
        log.resolved[line] = now


@kernel
def draw(cursor: Int64Array) -> float:
    """A random number from [0, 1): Park and Miller's generator, the same on all machines."""
    cursor[NEXT_DRAW] = cursor[NEXT_DRAW] * 48271 % 2147483647
    return float(cursor[NEXT_DRAW] - 1) / 2147483646.0
