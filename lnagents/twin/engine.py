"""The twin's clock: payments start, HTLCs move from node to node, receivers hold and settle.

`run` goes from event to event. A payment in one part that nothing delays needs no events: where no
time passes, nothing can come between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnagents.model.kernel import inlined, kernel
from lnagents.model.payment import FailureCode
from lnagents.twin.directions import BY_HOP, BY_LND
from lnagents.twin.events import next_time, pop, push, room_for_events
from lnagents.twin.forwarding import ACCEPTED, ForwardRequest
from lnagents.twin.gossip import can_learn
from lnagents.twin.htlcs import OWN, arrive, fail_hop, go_on, set_out, settle_hop
from lnagents.twin.memory import has_room
from lnagents.twin.mission import GO_ON
from lnagents.twin.network import Int32Array
from lnagents.twin.session import (
    ARRIVE,
    CONTINUE,
    EXPIRE,
    FAIL,
    RELEASE,
    SETTLE,
    SPARE_EVENTS,
    end_attempt,
    find_part,
    remember_failure,
    remember_success,
    start_attempt,
    take_turn,
)
from lnagents.twin.space import MAX_HOPS, SearchSpace
from lnagents.twin.state import (
    AMOUNT,
    ARRIVED,
    AT,
    ATTEMPTS,
    CODE,
    EDGE,
    EXPIRY,
    FAILED_AT,
    FAILED_ATTEMPTS,
    FEE_PAID,
    FOLLOWING,
    HELD,
    HOLD,
    HOPS,
    MODE,
    NEXT_PAYMENT,
    NOTHING,
    PAYMENT,
    PLACE,
    PRIORITY,
    REASON,
    SENDER,
    TOTAL,
    USED,
    Desk,
    Mind,
    State,
    Switch,
    room_in_log,
    wide,
    write_attempt,
    write_result,
)
from lnagents.twin.steering import choose
from lnagents.twin.traffic import ERROR, SETTLED

FINISHED = 0
NEEDS_ROOM = 1
"""Some array is nearly full: let it grow and run on."""

_CHANNEL = int(FailureCode.TEMPORARY_CHANNEL_FAILURE)
_MPP_TIMEOUT = int(FailureCode.MPP_TIMEOUT)
_NO_PEER = int(FailureCode.UNKNOWN_NEXT_PEER)


@kernel
def run(state: State, until: float) -> int:
    """Let everything happen that happens up to `until`: `FINISHED` or `NEEDS_ROOM`."""
    desk, cursor = state.desk, state.cursor
    number, time = desk.payments.number, desk.payments.time
    timing = desk.timing
    at_once = timing.forward == 0.0 and timing.settle == 0.0 and timing.fail == 0.0
    while True:
        payment = cursor[NEXT_PAYMENT]
        start = time[payment, AT] if payment < len(time) else np.inf
        event = next_time(desk.events)
        if min(start, event) > until or (start == np.inf and event == np.inf):
            return FINISHED
        if not has_all_room(desk, state.mind):
            return NEEDS_ROOM
        if event <= start:
            now, kind, subject = pop(desk.events)
            _happen(state, kind, subject, now)
            continue
        if state.switch.down[number[payment, SENDER]]:
            number[payment, REASON] = ERROR
        elif at_once and time[payment, HOLD] == 0.0 and number[payment, MODE] == BY_LND:
            if _pay_at_once(state, payment, start) == NEEDS_ROOM:
                return NEEDS_ROOM
        else:
            push(desk.events, start, CONTINUE, payment, True)
        cursor[NEXT_PAYMENT] += 1


@inlined
def has_all_room(desk: Desk, mind: Mind) -> bool:
    """Whether one step more fits into every array."""
    return (
        desk.attempts.use[1] > 0
        and room_for_events(desk.events, SPARE_EVENTS + mind.numbers.max_parts)
        and _has_room_to_report(desk, mind)
    )


@inlined
def _has_room_to_report(desk: Desk, mind: Mind) -> bool:
    return room_in_log(desk.log) and has_room(mind.memory, MAX_HOPS) and can_learn(mind.gossip)


@inlined
def _pay_at_once(state: State, payment: int, now: float) -> int:
    """Make a payment that takes no time, attempt after attempt, unless it has to be split."""
    desk, mind, switch = state.desk, state.mind, state.switch
    space = mind.space
    number = desk.payments.number[payment]
    while True:
        if not _has_room_to_report(desk, mind):
            return NEEDS_ROOM
        hops, reason = find_part(mind, switch.liquidity, number, switch.height, now)
        if hops <= 0:
            number[REASON] = reason
            return FINISHED
        if space.route_amount[hops - 1] < number[TOTAL]:
            start_attempt(desk, switch, space, payment, hops, now)
            return FINISHED
        number[ATTEMPTS] += 1
        line = write_attempt(desk.log, space, payment, hops, now)
        code, place = _carry(switch, space, state.used, hops, number[TOTAL], number[PRIORITY] != 0)
        write_result(desk.log, line, code, place, now)
        if code == ACCEPTED:
            remember_success(mind, number[SENDER], hops, now)
            number[FEE_PAID] = space.route_amount[0] - number[TOTAL]
            number[REASON] = SETTLED
            return FINISHED
        number[FAILED_ATTEMPTS] += 1
        reason = remember_failure(mind, number[SENDER], hops, place, code, now)
        if reason != GO_ON:
            number[REASON] = reason
            return FINISHED


@inlined
def _carry(
    switch: Switch, space: SearchSpace, used: Int32Array, hops: int, total: int, priority: bool
) -> tuple[int, int]:
    """Bring an HTLC along the route that was found and settle it, or fail it.

    Returns:
        `ACCEPTED` and `NOTHING`; or a code and who refused.
    """
    edges, amounts, expiries = space.route_edge, space.route_amount, space.route_expiry
    code = set_out(switch, edges[0], amounts[0], expiries[0])
    used[0] = edges[0]
    place = 0
    while code == ACCEPTED:
        place += 1
        if place == hops:
            code = arrive(switch, amounts[place - 1], total, expiries[place - 1])
            break
        request = ForwardRequest(
            edge_in=wide(used[place - 1]),
            edge_out=wide(edges[place]),
            amount_in=amounts[place - 1],
            amount_out=amounts[place],
            expiry_in=wide(expiries[place - 1]),
            expiry_out=wide(expiries[place]),
        )
        code, used[place] = go_on(switch, request, priority)
    for hop in range(place - 1, -1, -1):
        edge = used[hop]
        if code == ACCEPTED:
            came_in = amounts[hop - 1] if hop > 0 else OWN
            settle_hop(switch, edge, came_in, amounts[hop], hop == hops - 1)
        else:
            fail_hop(switch, edge, amounts[hop], hop == 0)
    return code, NOTHING if code == ACCEPTED else place


@kernel
def _happen(state: State, kind: int, subject: int, now: float) -> None:
    """Let one event happen."""
    desk, switch, chooses = state.desk, state.switch, state.agents.chooses
    if kind == CONTINUE:
        take_turn(state, subject, now)
        return
    over, choosing = False, False
    if kind == ARRIVE:
        choosing = _arrive(desk, switch, chooses, subject, now)
    elif kind == SETTLE:
        over = _settle_back(desk, switch, subject, now)
    elif kind == FAIL:
        over, choosing = _fail_back(desk, switch, chooses, subject, now)
    elif kind == RELEASE:
        _release(desk, subject, now)
    elif kind == EXPIRE:
        _expire(desk, subject, now)
    else:
        over = True
    if choosing:
        payment, place = (
            desk.attempts.number[subject, PAYMENT],
            desk.attempts.number[subject, PLACE],
        )
        while True:
            if choose(state, payment, subject, now) <= 0:
                _refuse(desk, subject, _CHANNEL, place, now)
                break
            if _pass_on(desk, switch, subject, now) == ACCEPTED:
                break
    if over:
        end_attempt(desk, state.mind, state.agents, subject, now)


@kernel
def _arrive(
    desk: Desk, switch: Switch, chooses: NDArray[np.bool_], attempt: int, now: float
) -> bool:
    """The node that the HTLC has reached acts; whether it is an agent that has to choose first."""
    row = desk.attempts.number[attempt]
    edge = desk.attempts.hop[attempt, USED, row[PLACE] - 1]
    if switch.down[switch.edge_target[edge]]:
        _refuse(desk, attempt, _NO_PEER, row[PLACE] - 1, now)
    elif row[PLACE] == row[HOPS]:
        _receive(desk, switch, attempt, now)
    elif _chooses(desk, switch, chooses, attempt):
        return True
    else:
        code = _pass_on(desk, switch, attempt, now)
        if code != ACCEPTED:
            _refuse(desk, attempt, code, row[PLACE], now)
    return False


@kernel
def _chooses(desk: Desk, switch: Switch, chooses: NDArray[np.bool_], attempt: int) -> bool:
    """Whether the forwarder that has the HTLC is an agent, and the payment one by hop."""
    row = desk.attempts.number[attempt]
    if desk.payments.number[row[PAYMENT], MODE] != BY_HOP:
        return False
    return bool(chooses[switch.edge_target[desk.attempts.hop[attempt, USED, row[PLACE] - 1]]])


@kernel
def _pass_on(desk: Desk, switch: Switch, attempt: int, now: float) -> int:
    """The forwarder sends the HTLC on as planned: `ACCEPTED` or a code."""
    row, hop = desk.attempts.number[attempt], desk.attempts.hop[attempt]
    place = row[PLACE]
    request = ForwardRequest(
        edge_in=hop[USED, place - 1],
        edge_out=hop[EDGE, place],
        amount_in=hop[AMOUNT, place - 1],
        amount_out=hop[AMOUNT, place],
        expiry_in=hop[EXPIRY, place - 1],
        expiry_out=hop[EXPIRY, place],
    )
    code, chosen = go_on(switch, request, desk.payments.number[row[PAYMENT], PRIORITY] != 0)
    if code == ACCEPTED:
        hop[USED, place] = chosen
        row[PLACE] = place + 1
        row[CODE] = ACCEPTED
        row[FAILED_AT] = NOTHING
        push(desk.events, now + desk.timing.forward, ARRIVE, attempt, False)
    return code


@kernel
def _refuse(desk: Desk, attempt: int, code: int, failed_at: int, now: float) -> None:
    """A failure sets out from where the HTLC is."""
    row = desk.attempts.number[attempt]
    row[CODE] = code
    row[FAILED_AT] = failed_at
    push(desk.events, now + desk.timing.fail, FAIL, attempt, False)


@kernel
def _receive(desk: Desk, switch: Switch, attempt: int, now: float) -> None:
    """The receiver keeps the HTLC until it has all parts, and then as long as the payment says."""
    row = desk.attempts.number[attempt]
    payment, last = row[PAYMENT], row[HOPS] - 1
    number = desk.payments.number[payment]
    amount = desk.attempts.hop[attempt, AMOUNT, last]
    code = arrive(switch, amount, number[TOTAL], desk.attempts.hop[attempt, EXPIRY, last])
    if code != ACCEPTED:
        _refuse(desk, attempt, code, row[PLACE], now)
        return
    row[FOLLOWING] = number[HELD]
    number[HELD] = attempt
    number[ARRIVED] += amount
    hold = desk.payments.time[payment, HOLD]
    if number[ARRIVED] < number[TOTAL]:
        desk.attempts.expires[attempt] = now + desk.timing.hold_incomplete
        push(desk.events, desk.attempts.expires[attempt], EXPIRE, attempt, False)
    elif hold > 0.0:
        push(desk.events, now + hold, RELEASE, payment, False)
    else:
        _release(desk, payment, now)


@kernel
def _release(desk: Desk, payment: int, now: float) -> None:
    """The receiver lets the sender have the preimage, over every part."""
    number = desk.payments.number[payment]
    attempt = number[HELD]
    number[HELD] = NOTHING
    while attempt != NOTHING:
        desk.attempts.expires[attempt] = np.inf
        push(desk.events, now + desk.timing.settle, SETTLE, attempt, False)
        attempt = desk.attempts.number[attempt, FOLLOWING]


@kernel
def _expire(desk: Desk, attempt: int, now: float) -> None:
    """The receiver gives a part back, unless the payment is complete by now."""
    attempts = desk.attempts
    if attempts.expires[attempt] != now:
        return
    number = desk.payments.number[attempts.number[attempt, PAYMENT]]
    if number[ARRIVED] >= number[TOTAL]:
        return
    attempts.expires[attempt] = np.inf
    following = attempts.number[attempt, FOLLOWING]
    if number[HELD] == attempt:
        number[HELD] = following
    else:
        held = number[HELD]
        while attempts.number[held, FOLLOWING] != attempt:
            held = attempts.number[held, FOLLOWING]
        attempts.number[held, FOLLOWING] = following
    hops = attempts.number[attempt, HOPS]
    number[ARRIVED] -= attempts.hop[attempt, AMOUNT, hops - 1]
    _refuse(desk, attempt, _MPP_TIMEOUT, hops, now)


@kernel
def _settle_back(desk: Desk, switch: Switch, attempt: int, now: float) -> bool:
    """The preimage comes back over one edge; whether it is with the sender now."""
    row, hop = desk.attempts.number[attempt], desk.attempts.hop[attempt]
    place = row[PLACE] - 1
    came_in = hop[AMOUNT, place - 1] if place > 0 else OWN
    settle_hop(switch, hop[USED, place], came_in, hop[AMOUNT, place], place == row[HOPS] - 1)
    row[PLACE] = place
    if place > 0:
        push(desk.events, now + desk.timing.settle, SETTLE, attempt, False)
    return bool(place == 0)


@kernel
def _fail_back(
    desk: Desk, switch: Switch, chooses: NDArray[np.bool_], attempt: int, now: float
) -> tuple[bool, bool]:
    """The failure comes back over one edge.

    Returns:
        Whether it is with the sender now, and whether it is with an agent that can choose again.
    """
    row, hop = desk.attempts.number[attempt], desk.attempts.hop[attempt]
    place = row[PLACE] - 1
    fail_hop(switch, hop[USED, place], hop[AMOUNT, place], place == 0)
    row[PLACE] = place
    if place == 0:
        return True, False
    # What the receiver itself refuses is final.
    if row[FAILED_AT] < row[HOPS] and _chooses(desk, switch, chooses, attempt):
        return False, True
    push(desk.events, now + desk.timing.fail, FAIL, attempt, False)
    return False, False
