"""The twin's clock: payments start, HTLCs move from node to node, receivers hold and settle.

`run` goes from event to event. A payment in one part that nothing delays needs no events: where no
time passes, nothing can come between.
"""

from __future__ import annotations

import numpy as np

from lnagents.model.payment import FailureCode
from lnagents.twin.directions import BY_LND
from lnagents.twin.events import next_time, pop, push, room_for_events
from lnagents.twin.forwarding import ACCEPTED, ForwardRequest
from lnagents.twin.gossip import can_learn
from lnagents.twin.htlcs import arrive, fail_hop, go_on, learn, set_out, settle_hop
from lnagents.twin.kernel import kernel
from lnagents.twin.memory import has_room
from lnagents.twin.mission import GO_ON, report_failure, report_success
from lnagents.twin.search import NO_BALANCE, NO_PATH, find_route
from lnagents.twin.session import (
    ARRIVE,
    CONTINUE,
    EXPIRE,
    FAIL,
    RELEASE,
    SETTLE,
    SPARE_EVENTS,
    end_failed,
    end_settled,
    take_turn,
)
from lnagents.twin.space import MAX_HOPS, TIES
from lnagents.twin.state import (
    NEXT_PAYMENT,
    NOTHING,
    OPEN,
    State,
    room_in_log,
    write_attempt,
    write_result,
)
from lnagents.twin.traffic import ERROR, INSUFFICIENT_BALANCE, NO_ROUTE, SETTLED

FINISHED = 0
NEEDS_ROOM = 1
"""Some array is nearly full: let it grow and run on."""
_SPLIT = 2

_MPP_TIMEOUT = int(FailureCode.MPP_TIMEOUT)
_NO_PEER = int(FailureCode.UNKNOWN_NEXT_PEER)


@kernel
def run(state: State, until: float) -> int:
    """Let everything happen that happens up to `until`: `FINISHED` or `NEEDS_ROOM`."""
    payments, cursor = state.payments, state.cursor
    while True:
        payment = cursor[NEXT_PAYMENT]
        start = payments.at[payment] if payment < len(payments.at) else np.inf
        event = next_time(state.events)
        if min(start, event) > until or (start == np.inf and event == np.inf):
            return FINISHED
        if not has_all_room(state):
            return NEEDS_ROOM
        if event <= start:
            now, kind, subject = pop(state.events)
            _happen(state, kind, subject, now)
            continue
        if state.space.down[payments.source[payment]]:
            payments.reason[payment] = ERROR
        elif (
            state.timing.at_once
            and payments.hold[payment] == 0.0
            and payments.mode[payment] == BY_LND
        ):
            outcome = _pay_at_once(state, payment, start)
            if outcome == NEEDS_ROOM:
                return NEEDS_ROOM
            if outcome == _SPLIT:
                push(state.events, start, CONTINUE, payment, True)
        else:
            push(state.events, start, CONTINUE, payment, True)
        cursor[NEXT_PAYMENT] += 1


@kernel
def has_all_room(state: State) -> bool:
    """Whether one step more fits into every array."""
    return (
        state.attempts.free[1] > 0
        and room_for_events(state.events, SPARE_EVENTS + state.numbers.max_parts)
        and _has_room_to_report(state)
    )


@kernel
def _has_room_to_report(state: State) -> bool:
    return room_in_log(state.log) and has_room(state.memory, MAX_HOPS) and can_learn(state.gossip)


@kernel
def _pay_at_once(state: State, payment: int, now: float) -> int:
    """Make a payment in one part, of which nothing takes time: attempt after attempt."""
    payments, space, numbers = state.payments, state.space, state.numbers
    sender, amount = payments.source[payment], payments.amount[payment]
    while True:
        if not _has_room_to_report(state):
            return NEEDS_ROOM
        hops = find_route(
            space,
            state.gossip,
            state.liquidity,
            state.memory,
            numbers,
            sender,
            payments.target[payment],
            amount,
            payments.fee_limit[payment],
            state.timing.height,
            now,
            state.timing.exhaustive,
        )
        if hops <= 0:
            parts = min(payments.max_parts[payment], numbers.max_parts)
            if hops == NO_PATH and parts > 1 and amount // 2 >= numbers.min_shard:
                return _SPLIT
            payments.reason[payment] = INSUFFICIENT_BALANCE if hops == NO_BALANCE else NO_ROUTE
            return FINISHED
        payments.attempts[payment] += 1
        line = write_attempt(
            state.log,
            payment,
            space.route_edge,
            space.route_amount,
            space.route_expiry,
            hops,
            now,
            space.report[TIES] != 0,
        )
        code, failed_at = _carry(state, hops, amount, payments.priority[payment] != 0)
        if code == ACCEPTED:
            write_result(state.log, line, ACCEPTED, NOTHING, now)
            for hop in range(hops - 1, -1, -1):
                settle_hop(state, state.used, space.route_amount, hop, hops)
            report_success(
                state.memory,
                numbers,
                state.channel_nodes,
                sender,
                space.route_edge,
                space.route_amount,
                hops,
                now,
            )
            payments.fee[payment] = space.route_amount[0] - amount
            payments.reason[payment] = SETTLED
            return FINISHED
        write_result(state.log, line, code, failed_at, now)
        payments.failed_attempts[payment] += 1
        learn(state, sender, space.route_edge, failed_at, code, now)
        reason = report_failure(
            state.memory,
            numbers,
            state.channel_nodes,
            sender,
            space.route_edge,
            space.route_amount,
            hops,
            failed_at,
            code,
            now,
        )
        if reason != GO_ON:
            payments.reason[payment] = reason
            return FINISHED


@kernel
def _carry(state: State, hops: int, total: int, priority: bool) -> tuple[int, int]:
    """Bring an HTLC along the route that was found: `ACCEPTED`, or a code and who refused.

    If all accept, it is in flight over the edges in `state.used`; else nothing is.
    """
    edges, amounts, expiries = (
        state.space.route_edge,
        state.space.route_amount,
        state.space.route_expiry,
    )
    used = state.used
    code = set_out(state, edges[0], amounts[0], expiries[0])
    used[0] = edges[0]
    place = 0
    while code == ACCEPTED:
        place += 1
        if place == hops:
            code = arrive(state, amounts[place - 1], total, expiries[place - 1])
            if code == ACCEPTED:
                return ACCEPTED, NOTHING
        else:
            request = ForwardRequest(
                edge_in=used[place - 1],
                edge_out=edges[place],
                amount_in=amounts[place - 1],
                amount_out=amounts[place],
                expiry_in=expiries[place - 1],
                expiry_out=expiries[place],
            )
            code, used[place] = go_on(state, request, priority)
    for hop in range(place - 1, -1, -1):
        fail_hop(state, used, amounts, hop)
    return code, place


@kernel
def _happen(state: State, kind: int, subject: int, now: float) -> None:
    """Let one event happen."""
    if kind == CONTINUE:
        take_turn(state, subject, now)
    elif kind == ARRIVE:
        if state.attempts.place[subject] == state.attempts.hops[subject]:
            _receive(state, subject, now)
        else:
            _forward(state, subject, now)
    elif kind == SETTLE:
        _settle_back(state, subject, now)
    elif kind == FAIL:
        _fail_back(state, subject, now)
    elif kind == RELEASE:
        _release(state, subject, now)
    elif kind == EXPIRE:
        _expire(state, subject, now)


@kernel
def _forward(state: State, attempt: int, now: float) -> None:
    """The next forwarder acts on the HTLC."""
    attempts = state.attempts
    place = attempts.place[attempt]
    amounts, expiries = attempts.amount[attempt], attempts.expiry[attempt]
    request = ForwardRequest(
        edge_in=attempts.used[attempt, place - 1],
        edge_out=attempts.edge[attempt, place],
        amount_in=amounts[place - 1],
        amount_out=amounts[place],
        expiry_in=expiries[place - 1],
        expiry_out=expiries[place],
    )
    priority = state.payments.priority[attempts.payment[attempt]] != 0
    code, chosen = go_on(state, request, priority)
    if code == ACCEPTED:
        attempts.used[attempt, place] = chosen
        attempts.place[attempt] = place + 1
        push(state.events, now + state.timing.forward, ARRIVE, attempt, False)
    else:
        _refuse(state, attempt, code, now)


@kernel
def _refuse(state: State, attempt: int, code: int, now: float) -> None:
    """The node at which the HTLC is sends a failure back."""
    attempts = state.attempts
    attempts.code[attempt] = code
    attempts.failed_at[attempt] = attempts.place[attempt]
    push(state.events, now + state.timing.fail, FAIL, attempt, False)


@kernel
def _receive(state: State, attempt: int, now: float) -> None:
    """The receiver keeps the HTLC until it has all parts, and then as long as the payment says."""
    payments, attempts = state.payments, state.attempts
    payment, last = attempts.payment[attempt], attempts.hops[attempt] - 1
    total, amount = payments.amount[payment], attempts.amount[attempt, last]
    code = arrive(state, amount, total, attempts.expiry[attempt, last])
    if code != ACCEPTED:
        _refuse(state, attempt, code, now)
        return
    attempts.following[attempt] = payments.held[payment]
    payments.held[payment] = attempt
    payments.arrived[payment] += amount
    attempts.expires[attempt] = np.inf
    if payments.arrived[payment] < total:
        attempts.expires[attempt] = now + state.timing.hold_incomplete
        push(state.events, attempts.expires[attempt], EXPIRE, attempt, False)
    elif payments.hold[payment] > 0.0:
        push(state.events, now + payments.hold[payment], RELEASE, payment, False)
    else:
        _release(state, payment, now)


@kernel
def _release(state: State, payment: int, now: float) -> None:
    """The receiver lets the sender have the preimage, over every part."""
    payments, attempts = state.payments, state.attempts
    attempt = payments.held[payment]
    payments.held[payment] = NOTHING
    while attempt != NOTHING:
        following = attempts.following[attempt]
        attempts.expires[attempt] = np.inf
        push(state.events, now + state.timing.settle, SETTLE, attempt, False)
        attempt = following


@kernel
def _expire(state: State, attempt: int, now: float) -> None:
    """The receiver gives a part back, unless the payment is complete by now."""
    payments, attempts = state.payments, state.attempts
    payment = attempts.payment[attempt]
    if attempts.expires[attempt] != now or payments.reason[payment] != OPEN:
        return
    if payments.arrived[payment] >= payments.amount[payment]:
        return
    attempts.expires[attempt] = np.inf
    before = NOTHING
    held = payments.held[payment]
    while held != attempt:
        before = held
        held = attempts.following[held]
    if before == NOTHING:
        payments.held[payment] = attempts.following[attempt]
    else:
        attempts.following[before] = attempts.following[attempt]
    payments.arrived[payment] -= attempts.amount[attempt, attempts.hops[attempt] - 1]
    _refuse(state, attempt, _MPP_TIMEOUT, now)


@kernel
def _settle_back(state: State, attempt: int, now: float) -> None:
    """The preimage comes back over one hop more."""
    attempts = state.attempts
    place, hops = attempts.place[attempt] - 1, attempts.hops[attempt]
    settle_hop(state, attempts.used[attempt], attempts.amount[attempt], place, hops)
    attempts.place[attempt] = place
    if place == 0:
        end_settled(state, attempt, now)
    else:
        push(state.events, now + state.timing.settle, SETTLE, attempt, False)


@kernel
def _fail_back(state: State, attempt: int, now: float) -> None:
    """The failure comes back over one hop more."""
    attempts = state.attempts
    place = attempts.place[attempt] - 1
    fail_hop(state, attempts.used[attempt], attempts.amount[attempt], place)
    attempts.place[attempt] = place
    if place == 0:
        end_failed(state, attempt, now)
    else:
        push(state.events, now + state.timing.fail, FAIL, attempt, False)
