"""A sender's payment loop: LND's, as far as it decides what is tried, when, and with what amount.

`resumePayment` in routing/payment_lifecycle.go and `RequestRoute` in routing/payment_session.go: a
payment is sent whole if a route is found for it, else in parts of half the size, each along a route
of its own; what comes back failed is sent again, along other routes or in smaller parts, until no
route is left, the time is over, or a failure is final.
"""

from __future__ import annotations

from lnagents.twin.directions import BY_HOP, BY_ROUTE
from lnagents.twin.events import push
from lnagents.twin.forwarding import ACCEPTED
from lnagents.twin.gossip import learn_update
from lnagents.twin.htlcs import brings_policy, set_out
from lnagents.twin.kernel import kernel
from lnagents.twin.mission import GO_ON, report_failure, report_success
from lnagents.twin.search import NO_BALANCE, find_route
from lnagents.twin.state import (
    ACTIVE,
    AMOUNT,
    AT,
    ATTEMPTS,
    CODE,
    DEADLINE,
    EDGE,
    EXPIRY,
    FAILED_AT,
    FAILED_ATTEMPTS,
    FEE_LIMIT,
    FEE_PAID,
    FOLLOWING,
    GIVEN_UP,
    HAS_SETTLED,
    HOPS,
    LINE,
    MAX_PARTS,
    MODE,
    NOTHING,
    OPEN,
    PAYMENT,
    PLACE,
    REASON,
    RECEIVER,
    SENDER,
    SENT_OUT,
    SPENT,
    TAKEN,
    TOTAL,
    TRIED,
    USED,
    Desk,
    Mind,
    State,
    wide,
    write_attempt,
    write_result,
)
from lnagents.twin.steering import THINKING_TIME, choose_first, lay_route
from lnagents.twin.traffic import ERROR, INSUFFICIENT_BALANCE, NO_ROUTE, SETTLED, TIMEOUT

# Kinds of events; the subject is an attempt, or a payment where named.
CONTINUE = 0
"""A payment's sender takes the next turn."""
ARRIVE = 1
"""An HTLC is locked in on the last edge that it is on."""
SETTLE = 2
FAIL = 3
"""The preimage, or a failure, reaches the source of the last edge that the HTLC is on."""
EXPIRE = 4
"""The receiver has waited long enough for other parts."""
RELEASE = 5
"""The receiver of a payment, all of whose parts it holds, settles."""

SPARE_EVENTS = 8
"""That one event may push, apart from those of a payment's parts."""


@kernel
def take_turn(state: State, payment: int, now: float) -> None:
    """The sender makes one attempt more, waits for those in flight, or has its answer."""
    payments = state.desk.payments
    number = payments.number[payment]
    if number[REASON] != OPEN:
        return
    # LND asks this first of all, and the last reason counts: while parts are in flight, the time
    # overrules why the payment had failed already.
    if now >= payments.time[payment, DEADLINE] and (number[GIVEN_UP] == OPEN or number[ACTIVE] > 0):
        number[GIVEN_UP] = TIMEOUT
    if number[SENT_OUT] < number[TOTAL] and number[GIVEN_UP] == OPEN and number[HAS_SETTLED] == 0:
        if number[MODE] == BY_ROUTE:
            hops = lay_route(state, payment, now) if number[ATTEMPTS] == 0 else 0
            reason = NO_ROUTE if number[ATTEMPTS] == 0 else ERROR
        elif number[MODE] == BY_HOP and state.agents.chooses[number[SENDER]]:
            hops = choose_first(state, payment, now)
            reason = NO_ROUTE
        else:
            hops, reason = _choose_route(state, payment, now)
        if hops > 0:
            _start_attempt(state, payment, hops, now)
            return
        number[GIVEN_UP] = reason
    if number[ACTIVE] == 0:
        number[REASON] = SETTLED if number[HAS_SETTLED] != 0 else number[GIVEN_UP]
        payments.time[payment, TAKEN] = now - payments.time[payment, AT]


@kernel
def _choose_route(state: State, payment: int, now: float) -> tuple[int, int]:
    """Find a route for as much as possible of what remains.

    Returns:
        The hops, if there is a route; else not above 0, and the reason to give up.
    """
    mind, number = state.mind, state.desk.payments.number[payment]
    numbers = mind.numbers
    parts = min(number[MAX_PARTS], numbers.max_parts)
    if number[MODE] == BY_HOP:
        parts = 1
    amount = number[TOTAL] - number[SENT_OUT]
    while True:
        hops = find_route(
            mind.space,
            mind.gossip,
            state.switch.liquidity,
            mind.memory,
            numbers,
            number[SENDER],
            number[RECEIVER],
            amount,
            max(0, number[FEE_LIMIT] - number[SPENT]),
            state.switch.height,
            now + THINKING_TIME,
            mind.exhaustive,
        )
        if hops > 0:
            return hops, OPEN
        if hops == NO_BALANCE:
            return hops, INSUFFICIENT_BALANCE
        amount //= 2
        if number[ACTIVE] + 1 >= parts or amount < numbers.min_shard:
            return hops, NO_ROUTE


@kernel
def _start_attempt(state: State, payment: int, hops: int, now: float) -> None:
    """Send an HTLC along the route that is in the search space."""
    desk, space = state.desk, state.mind.space
    attempts, number = desk.attempts, desk.payments.number[payment]
    attempt = attempts.use[0]
    attempts.use[0] = attempts.number[attempt, FOLLOWING]
    attempts.use[1] -= 1
    attempts.number[attempt, PAYMENT] = payment
    attempts.number[attempt, HOPS] = hops
    attempts.number[attempt, PLACE] = 0
    attempts.number[attempt, LINE] = write_attempt(desk.log, space, payment, hops, now)
    for hop in range(hops):
        attempts.hop[attempt, EDGE, hop] = space.route_edge[hop]
        attempts.hop[attempt, USED, hop] = space.route_edge[hop]
        attempts.hop[attempt, AMOUNT, hop] = space.route_amount[hop]
        attempts.hop[attempt, EXPIRY, hop] = space.route_expiry[hop]
        attempts.hop[attempt, TRIED, hop] = NOTHING
    first, last = space.route_amount[0], space.route_amount[hops - 1]
    number[ATTEMPTS] += 1
    number[ACTIVE] += 1
    number[SENT_OUT] += last
    number[SPENT] += first - last
    code = set_out(state.switch, wide(space.route_edge[0]), first, space.route_expiry[0])
    if code == ACCEPTED:
        attempts.number[attempt, PLACE] = 1
        push(desk.events, now + desk.timing.forward, ARRIVE, attempt, False)
        if number[SENT_OUT] < number[TOTAL]:
            push(desk.events, now, CONTINUE, payment, True)
    else:
        attempts.number[attempt, CODE] = code
        attempts.number[attempt, FAILED_AT] = 0
        end_failed(state, attempt, now)


@kernel
def end_settled(state: State, attempt: int, now: float) -> None:
    """The preimage has reached the sender."""
    desk, space = state.desk, state.mind.space
    payment, hops = desk.attempts.number[attempt, PAYMENT], desk.attempts.number[attempt, HOPS]
    number = desk.payments.number[payment]
    _recall_route(desk, state.mind, attempt)
    known = hops
    if number[MODE] == BY_HOP:
        # What an agent chose on the way is not the sender's to know.
        for hop in range(hops - 1, -1, -1):
            if state.agents.chooses[state.switch.edge_target[space.route_edge[hop] ^ 1]]:
                known = hop
    if known > 0:
        remember_success(state.mind, number[SENDER], known, now)
    number[HAS_SETTLED] = 1
    number[FEE_PAID] += space.route_amount[0] - space.route_amount[hops - 1]
    write_result(desk.log, desk.attempts.number[attempt, LINE], ACCEPTED, NOTHING, now)
    _leave(desk, attempt, now)


@kernel
def end_failed(state: State, attempt: int, now: float) -> None:
    """A failure has reached the sender: learn from it."""
    desk, space = state.desk, state.mind.space
    row = desk.attempts.number[attempt]
    hops, code, failed_at = row[HOPS], row[CODE], row[FAILED_AT]
    number = desk.payments.number[row[PAYMENT]]
    _recall_route(desk, state.mind, attempt)
    if number[MODE] != BY_HOP or not state.agents.chooses[number[SENDER]]:
        reason = remember_failure(state.mind, number[SENDER], hops, failed_at, code, now)
        if reason != GO_ON:
            number[GIVEN_UP] = reason
    number[FAILED_ATTEMPTS] += 1
    number[SENT_OUT] -= space.route_amount[hops - 1]
    number[SPENT] -= space.route_amount[0] - space.route_amount[hops - 1]
    write_result(desk.log, row[LINE], code, failed_at, now)
    _leave(desk, attempt, now)


@kernel
def remember_success(mind: Mind, sender: int, hops: int, now: float) -> None:
    """The sender remembers that an HTLC came along the route in the search space."""
    space = mind.space
    report_success(
        mind.memory,
        mind.numbers,
        mind.channel_nodes,
        sender,
        space.route_edge,
        space.route_amount,
        hops,
        now,
    )


@kernel
def remember_failure(
    mind: Mind, sender: int, hops: int, failed_at: int, code: int, now: float
) -> int:
    """The sender remembers who refused on the route in the search space, and the policy it got.

    Returns:
        `GO_ON`, or the reason for which the payment has failed.
    """
    space = mind.space
    if 0 < failed_at < hops and brings_policy(code):
        learn_update(mind.gossip, sender, wide(space.route_edge[failed_at]), now)
    return report_failure(
        mind.memory,
        mind.numbers,
        mind.channel_nodes,
        sender,
        space.route_edge,
        space.route_amount,
        hops,
        failed_at,
        code,
        now,
    )


@kernel
def _recall_route(desk: Desk, mind: Mind, attempt: int) -> None:
    """Write an attempt's route back into the search space."""
    for hop in range(desk.attempts.number[attempt, HOPS]):
        mind.space.route_edge[hop] = desk.attempts.hop[attempt, EDGE, hop]
        mind.space.route_amount[hop] = desk.attempts.hop[attempt, AMOUNT, hop]


@kernel
def _leave(desk: Desk, attempt: int, now: float) -> None:
    """An attempt is over; its payment's sender takes the next turn."""
    attempts = desk.attempts
    payment = attempts.number[attempt, PAYMENT]
    desk.payments.number[payment, ACTIVE] -= 1
    attempts.number[attempt, FOLLOWING] = attempts.use[0]
    attempts.use[0] = attempt
    attempts.use[1] += 1
    push(desk.events, now, CONTINUE, payment, True)
