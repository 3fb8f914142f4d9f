"""Everything that a running twin knows, as nested tuples of arrays that kernels take at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lnagents.model.kernel import kernel
from lnagents.twin.commitment import Liquidity
from lnagents.twin.events import Events
from lnagents.twin.gossip import Gossip
from lnagents.twin.memory import Memory
from lnagents.twin.network import FloatArray, Int32Array, Int64Array
from lnagents.twin.settings import SenderNumbers
from lnagents.twin.space import MAX_HOPS, TIES, SearchSpace
from lnagents.twin.traffic import AttemptLog

# Columns of `Switch.flows`, one row per edge: what passed it, seen from its source. Names and units
# are those of `lnagents.model.view.ChannelFlow`.
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

# Columns of `Payments.number`: what was asked for, and how it stands. Amounts are msat.
SENDER = 0
RECEIVER = 1
TOTAL = 2
FEE_LIMIT = 3
MAX_PARTS = 4
MODE = 5
"""See `lnagents.twin.directions`."""
PRIORITY = 6
FIRST_HOP = 7
LAST_HOP = 8
"""Where in `Payments.route` the payment's edges begin and end."""
REASON = 9
"""Of the outcome; `OPEN` before there is one."""
FEE_PAID = 10
ATTEMPTS = 11
FAILED_ATTEMPTS = 12
GIVEN_UP = 13
"""Why no attempt will be made any more; `OPEN` if one may."""
HAS_SETTLED = 14
"""1: at least one part has settled."""
ACTIVE = 15
"""Parts in flight."""
SENT_OUT = 16
"""What parts in flight and settled ones bring to the receiver."""
SPENT = 17
"""Fees of the same parts."""
ARRIVED = 18
"""What the receiver holds."""
HELD = 19
"""The newest attempt that the receiver holds, or `NOTHING`."""
LAST_TRIED = 20
"""The last of its own edges that an agent has tried for a payment by hop, or `NOTHING`."""
PAYMENT_COLUMNS = 21

# Columns of `Payments.time`, in seconds of virtual time.
AT = 0
DEADLINE = 1
"""After it no attempt is made."""
HOLD = 2
"""How long the receiver keeps the payment."""
TAKEN = 3
"""From `AT` to the answer."""
PAYMENT_TIMES = 4

# Columns of `Attempts.number`.
PAYMENT = 0
HOPS = 1
PLACE = 2
"""How many edges the HTLC is on; the node that acts next is there."""
FAILED_AT = 3
CODE = 4
LINE = 5
"""In the log."""
FOLLOWING = 6
"""The next attempt of a list: of those that the receiver holds, or of the free ones."""
ATTEMPT_COLUMNS = 7

# Rows of `Attempts.hop`.
EDGE = 0
USED = 1
"""The edge that the forwarder chose among parallel channels."""
AMOUNT = 2
EXPIRY = 3
TRIED = 4
"""The last edge that a forwarding agent tried there, or `NOTHING`."""
HOP_ROWS = 5

# Elements of `State.cursor`.
NEXT_PAYMENT = 0
"""The next payment to start."""


class Payments(NamedTuple):
    """One row per payment."""

    number: Int64Array
    """[payments, PAYMENT_COLUMNS]."""
    time: FloatArray
    """[payments, PAYMENT_TIMES]."""
    route: Int32Array
    """Edges of payments by route; see `lnagents.twin.directions.Directions`."""


class Attempts(NamedTuple):
    """A pool of attempts in flight, one row each."""

    number: Int64Array
    """[room, ATTEMPT_COLUMNS]."""
    hop: Int64Array
    """[room, HOP_ROWS, MAX_HOPS]."""
    expires: FloatArray
    """[room], when the receiver gives a part back if others are still missing then."""
    use: Int64Array
    """The first free row, and how many are free."""


class Log(NamedTuple):
    """Room for what `AttemptLog` will show."""

    number: Int64Array
    """[attempts, 5]: payment, end of its hops, code, index of who refused, whether tied."""
    time: FloatArray
    """[attempts, 2]: started, resolved."""
    hop: Int64Array
    """[hops, 3]: edge, amount, expiry."""
    use: Int64Array
    """How many attempts and hops were written, and whether any shall be."""


class Switch(NamedTuple):
    """What nodes go by when they act on an HTLC."""

    liquidity: Liquidity
    policy: Int64Array
    """Row e is in force at the source of edge e."""
    down: NDArray[np.bool_]
    """[nodes], which ones are off."""
    edge_target: Int32Array
    capacity: Int64Array
    kept_free: FloatArray
    """[edges], share of capacity and slots that only payments with priority may use."""
    flows: Int64Array
    """[edges, FLOW_COLUMNS]."""
    random: Int64Array
    """[1], see `draw`."""
    height: int
    """Of the chain."""
    final_cltv_delta: int
    """What receivers ask for, blocks."""


class Timing(NamedTuple):
    """`LatencySettings` as kernels take them, seconds."""

    forward: float
    settle: float
    fail: float
    hold_incomplete: float


class Agents(NamedTuple):
    """How agents choose the next channel."""

    chooses: NDArray[np.bool_]
    """[nodes], whether a node chooses the next channel of payments by hop."""
    preference: FloatArray
    """[edges], the higher the earlier it is tried; -inf: never."""
    start: Int64Array
    """[nodes + 1]; node n has the edges `edge[start[n]]` to `edge[start[n + 1]]`."""
    edge: Int32Array


class Desk(NamedTuple):
    """Payments and HTLCs under way."""

    payments: Payments
    attempts: Attempts
    events: Events
    log: Log
    timing: Timing


class Mind(NamedTuple):
    """What senders know, and how they search."""

    gossip: Gossip
    memory: Memory
    space: SearchSpace
    channel_nodes: Int32Array
    numbers: SenderNumbers
    exhaustive: bool
    """Whether to search routes as LND does, step by step."""


class State(NamedTuple):
    """Everything."""

    switch: Switch
    desk: Desk
    mind: Mind
    agents: Agents
    cursor: Int64Array
    used: Int32Array
    """[MAX_HOPS], scratch: the edges that a payment that takes no time has used."""


def make_attempts(room: int) -> Attempts:
    """An empty pool for `room` attempts."""
    number = np.zeros((room, ATTEMPT_COLUMNS), dtype=np.int64)
    number[:, FOLLOWING] = np.append(np.arange(1, room), NOTHING)
    return Attempts(
        number=number,
        hop=np.zeros((room, HOP_ROWS, MAX_HOPS), dtype=np.int64),
        expires=np.full(room, np.inf),
        use=np.array([0, room], dtype=np.int64),
    )


def grown_attempts(attempts: Attempts) -> Attempts:
    """The same pool with twice the room; those in flight keep their numbers."""
    count = len(attempts.number)
    bigger = make_attempts(2 * count)
    bigger.number[:count] = attempts.number
    bigger.hop[:count] = attempts.hop
    bigger.expires[:count] = attempts.expires
    # The new rows come first, then those that were free before.
    bigger.number[-1, FOLLOWING] = attempts.use[0]
    bigger.use[:] = (count, count + attempts.use[1])
    return bigger


def make_log(attempts: int, *, recording: bool) -> Log:
    """An empty log with room for that many attempts."""
    return Log(
        number=np.zeros((attempts, 5), dtype=np.int64),
        time=np.zeros((attempts, 2)),
        hop=np.zeros((attempts * 6 + MAX_HOPS, 3), dtype=np.int64),
        use=np.array([0, 0, int(recording)], dtype=np.int64),
    )


def grown_log(log: Log) -> Log:
    """The same log with twice the room."""
    bigger = make_log(2 * len(log.number), recording=bool(log.use[2]))
    for old, new in zip(log, bigger, strict=True):
        new[: len(old)] = old
    return bigger


def log_of(log: Log, first_payment: int, start: float) -> AttemptLog:
    """What was written, with payments counted from `first_payment` and times from `start`."""
    attempts, hops = int(log.use[0]), int(log.use[1])
    number, hop = log.number[:attempts], log.hop[:hops]
    return AttemptLog(
        payment=(number[:, 0] - first_payment).astype(np.int32),
        first_hop=np.append(0, number[:, 1]),
        edge=hop[:, 0].astype(np.int32),
        amount=hop[:, 1].copy(),
        expiry=hop[:, 2].astype(np.int32),
        code=number[:, 2].astype(np.int32),
        failed_at=number[:, 3].astype(np.int32),
        started=log.time[:attempts, 0] - start,
        resolved=log.time[:attempts, 1] - start,
        tied=number[:, 4] != 0,
    )


@kernel
def room_in_log(log: Log) -> bool:
    """Whether one attempt more can be written."""
    if log.use[2] == 0:
        return True
    return bool(log.use[0] < len(log.number) and log.use[1] + MAX_HOPS <= len(log.hop))


@kernel
def write_attempt(log: Log, space: SearchSpace, payment: int, hops: int, now: float) -> int:
    """Write down an attempt along the route in `space`; the line, for `write_result`."""
    if log.use[2] == 0:
        return NOTHING
    line, first = log.use[0], log.use[1]
    for hop in range(hops):
        log.hop[first + hop, 0] = space.route_edge[hop]
        log.hop[first + hop, 1] = space.route_amount[hop]
        log.hop[first + hop, 2] = space.route_expiry[hop]
    log.number[line, 0] = payment
    log.number[line, 1] = first + hops
    log.number[line, 2] = 0
    log.number[line, 3] = NOTHING
    log.number[line, 4] = space.report[TIES] != 0
    log.time[line, 0] = now
    log.time[line, 1] = np.inf
    log.use[0] = line + 1
    log.use[1] = first + hops
    return int(line)


@kernel
def write_result(log: Log, line: int, code: int, failed_at: int, now: float) -> None:
    """Write down how an attempt ended."""
    if line != NOTHING:
        log.number[line, 2] = code
        log.number[line, 3] = failed_at
        log.time[line, 1] = now


@kernel
def draw(random: Int64Array) -> float:
    """A random number from [0, 1): Park and Miller's generator, the same on all machines."""
    random[0] = random[0] * 48271 % 2147483647
    return float(random[0] - 1) / 2147483646.0


@kernel
def wide(number: int) -> int:
    """The same number in 64 bits, for tuples: kernels compile anew for tuples of other widths."""
    return number + 0
