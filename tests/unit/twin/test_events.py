"""The heap of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lnagents.twin.events import (
    grown_events,
    make_events,
    next_time,
    pop,
    push,
    room_for_events,
)

events_to_push = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 1_000), st.booleans()),
    max_size=60,
)


@given(events_to_push)
def test_events_come_by_time_then_urgency_then_age(
    pushed: list[tuple[int, int, int, bool]],
) -> None:
    heap = make_events(4)
    for time, kind, subject, urgent in pushed:
        while not room_for_events(heap, 1):
            heap = grown_events(heap)
        push(heap, float(time), kind, subject, urgent)
    order = sorted(range(len(pushed)), key=lambda at: (pushed[at][0], not pushed[at][3], at))
    popped: list[tuple[float, int, int]] = []
    while next_time(heap) != float("inf"):
        assert next_time(heap) == pushed[order[len(popped)]][0]
        popped.append(pop(heap))
    assert popped == [pushed[at][:3] for at in order]


@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=60))
def test_pushing_and_popping_may_alternate(steps: list[int | None]) -> None:
    heap, waiting = make_events(64), []
    for number, time in enumerate(steps):
        if time is not None:
            push(heap, float(time), 1, number, False)
            waiting.append((float(time), number))
        elif waiting:
            earliest = min(waiting)
            waiting.remove(earliest)
            assert pop(heap) == (earliest[0], 1, earliest[1])
