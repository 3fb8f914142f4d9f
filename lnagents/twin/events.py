"""What happens when: a binary heap of events in virtual time.

Of events at the same time the one that was pushed first comes first; what a sender does next is
pushed urgently, before all else at that time, because LND's payment loop sends on without waiting
for an answer (`resumePayment` in routing/payment_lifecycle.go).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lnagents.model.kernel import kernel
from lnagents.twin.network import FloatArray, Int64Array

_COUNT = 0
_SEQUENCE = 1
_URGENT = -(1 << 62)

EVENT_KINDS = 16


class Events(NamedTuple):
    """The heap."""

    time: FloatArray
    """[room], seconds of virtual time."""
    rank: Int64Array
    """[room], order among events of the same time."""
    what: Int64Array
    """[room], subject times `EVENT_KINDS` plus kind."""
    use: Int64Array
    """How many events wait; the number that the next one gets."""


def make_events(room: int) -> Events:
    """An empty heap for `room` events."""
    return Events(
        time=np.empty(room),
        rank=np.empty(room, dtype=np.int64),
        what=np.empty(room, dtype=np.int64),
        use=np.zeros(2, dtype=np.int64),
    )


def grown_events(events: Events) -> Events:
    """The same heap with twice the room."""
    bigger = make_events(2 * len(events.time))
    for old, new in zip(events, bigger, strict=True):
        new[: len(old)] = old
    return bigger


@kernel
def room_for_events(events: Events, count: int) -> bool:
    """Whether `count` more events fit."""
    return bool(events.use[_COUNT] + count <= len(events.time))


@kernel
def next_time(events: Events) -> float:
    """When the next event happens; infinite if none waits."""
    if events.use[_COUNT] == 0:
        return np.inf
    return float(events.time[0])


@kernel
def push(events: Events, time: float, kind: int, subject: int, urgent: bool) -> None:
    """Let something happen at `time`; `room_for_events` has been asked."""
    place = events.use[_COUNT]
    rank = events.use[_SEQUENCE]
    events.use[_COUNT] += 1
    events.use[_SEQUENCE] += 1
    if urgent:
        rank += _URGENT
    while place > 0:
        above = (place - 1) >> 1
        if events.time[above] < time or (events.time[above] == time and events.rank[above] < rank):
            break
        _move(events, above, place)
        place = above
    events.time[place] = time
    events.rank[place] = rank
    events.what[place] = subject * EVENT_KINDS + kind


@kernel
def pop(events: Events) -> tuple[float, int, int]:
    """Take the next event out: its time, kind and subject."""
    time, what = events.time[0], events.what[0]
    events.use[_COUNT] -= 1
    count = events.use[_COUNT]
    last_time, last_rank = events.time[count], events.rank[count]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= count:
            break
        if below + 1 < count and (
            events.time[below + 1] < events.time[below]
            or (
                events.time[below + 1] == events.time[below]
                and events.rank[below + 1] < events.rank[below]
            )
        ):
            below += 1
        if last_time < events.time[below] or (
            last_time == events.time[below] and last_rank < events.rank[below]
        ):
            break
        _move(events, below, place)
        place = below
    _move(events, count, place)
    return time, what % EVENT_KINDS, what // EVENT_KINDS


@kernel
def _move(events: Events, source: int, target: int) -> None:
    events.time[target] = events.time[source]
    events.rank[target] = events.rank[source]
    events.what[target] = events.what[source]
