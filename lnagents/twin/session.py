"""A sender's payment loop: LND's, as far as it decides what is tried, when, and with what amount.

`resumePayment` in routing/payment_lifecycle.go and `RequestRoute` in routing/payment_session.go: a
payment is sent whole if a route is found for it, else in parts of half the size, each along a route
of its own; what comes back failed is sent again, along other routes or in smaller parts, until no
route is left, the time is over, or a failure is final.
"""

from __future__ import annotations

from lnagents.twin.events import push
from lnagents.twin.forwarding import ACCEPTED
from lnagents.twin.htlcs import learn, set_out
from lnagents.twin.kernel import kernel
from lnagents.twin.mission import GO_ON, report_failure, report_success
from lnagents.twin.search import NO_BALANCE, find_route
from lnagents.twin.space import TIES
from lnagents.twin.state import NOTHING, OPEN, State, write_attempt, write_result
from lnagents.twin.traffic import INSUFFICIENT_BALANCE, NO_ROUTE, SETTLED, TIMEOUT

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
    payments = state.payments
    if payments.reason[payment] != OPEN:
        return
    # LND asks first of all, and the last reason counts, even if the payment had failed already.
    if now >= payments.deadline[payment]:
        payments.given_up[payment] = TIMEOUT
    remaining = payments.amount[payment] - payments.sent[payment]
    if remaining > 0 and payments.given_up[payment] == OPEN and payments.settled[payment] == 0:
        hops = _choose_route(state, payment, remaining, now)
        if hops > 0:
            _start_attempt(state, payment, hops, now)
            return
    if payments.active[payment] == 0:
        finish(state, payment, now)


@kernel
def _choose_route(state: State, payment: int, remaining: int, now: float) -> int:
    """Find a route for as much as possible of what remains: its hops; 0: the payment gives up."""
    payments, numbers = state.payments, state.numbers
    budget = max(0, payments.fee_limit[payment] - payments.spent[payment])
    parts = min(payments.max_parts[payment], numbers.max_parts)
    amount = remaining
    while True:
        hops = find_route(
            state.space,
            state.gossip,
            state.liquidity,
            state.memory,
            numbers,
            payments.source[payment],
            payments.target[payment],
            amount,
            budget,
            state.timing.height,
            now,
            state.timing.exhaustive,
        )
        if hops > 0:
            return hops
        if hops == NO_BALANCE:
            payments.given_up[payment] = INSUFFICIENT_BALANCE
            return 0
        amount //= 2
        if payments.active[payment] + 1 >= parts or amount < numbers.min_shard:
            payments.given_up[payment] = NO_ROUTE
            return 0


@kernel
def _start_attempt(state: State, payment: int, hops: int, now: float) -> None:
    """Send an HTLC along the route that was found."""
    payments, attempts, space = state.payments, state.attempts, state.space
    attempt = attempts.free[0]
    attempts.free[0] = attempts.following[attempt]
    attempts.free[1] -= 1
    attempts.payment[attempt] = payment
    attempts.hops[attempt] = hops
    attempts.place[attempt] = 0
    for hop in range(hops):
        attempts.edge[attempt, hop] = space.route_edge[hop]
        attempts.used[attempt, hop] = space.route_edge[hop]
        attempts.amount[attempt, hop] = space.route_amount[hop]
        attempts.expiry[attempt, hop] = space.route_expiry[hop]
        attempts.tried[attempt, hop] = NOTHING
    attempts.line[attempt] = write_attempt(
        state.log,
        payment,
        space.route_edge,
        space.route_amount,
        space.route_expiry,
        hops,
        now,
        space.report[TIES] != 0,
    )
    payments.attempts[payment] += 1
    payments.active[payment] += 1
    payments.sent[payment] += space.route_amount[hops - 1]
    payments.spent[payment] += space.route_amount[0] - space.route_amount[hops - 1]
    code = set_out(
        state,
        space.route_edge[0],
        space.route_amount[0],
        space.route_expiry[0],
    )
    if code == ACCEPTED:
        attempts.place[attempt] = 1
        push(state.events, now + state.timing.forward, ARRIVE, attempt, False)
        if payments.sent[payment] < payments.amount[payment]:
            push(state.events, now, CONTINUE, payment, True)
    else:
        attempts.code[attempt] = code
        attempts.failed_at[attempt] = 0
        end_failed(state, attempt, now)


@kernel
def end_settled(state: State, attempt: int, now: float) -> None:
    """The preimage has reached the sender."""
    payments, attempts = state.payments, state.attempts
    payment, hops = attempts.payment[attempt], attempts.hops[attempt]
    report_success(
        state.memory,
        state.numbers,
        state.channel_nodes,
        payments.source[payment],
        attempts.edge[attempt],
        attempts.amount[attempt],
        hops,
        now,
    )
    payments.settled[payment] = 1
    payments.fee[payment] += attempts.amount[attempt, 0] - attempts.amount[attempt, hops - 1]
    write_result(state.log, attempts.line[attempt], ACCEPTED, NOTHING, now)
    _leave(state, attempt, now)


@kernel
def end_failed(state: State, attempt: int, now: float) -> None:
    """A failure has reached the sender: learn from it."""
    payments, attempts = state.payments, state.attempts
    payment, hops = attempts.payment[attempt], attempts.hops[attempt]
    code, failed_at = attempts.code[attempt], attempts.failed_at[attempt]
    sender = payments.source[payment]
    learn(state, sender, attempts.edge[attempt], failed_at, code, now)
    reason = report_failure(
        state.memory,
        state.numbers,
        state.channel_nodes,
        sender,
        attempts.edge[attempt],
        attempts.amount[attempt],
        hops,
        failed_at,
        code,
        now,
    )
    if reason != GO_ON:
        payments.given_up[payment] = reason
    payments.failed_attempts[payment] += 1
    payments.sent[payment] -= attempts.amount[attempt, hops - 1]
    payments.spent[payment] -= attempts.amount[attempt, 0] - attempts.amount[attempt, hops - 1]
    write_result(state.log, attempts.line[attempt], code, failed_at, now)
    _leave(state, attempt, now)


@kernel
def _leave(state: State, attempt: int, now: float) -> None:
    """An attempt is over; its payment's sender takes the next turn."""
    payments, attempts = state.payments, state.attempts
    payment = attempts.payment[attempt]
    payments.active[payment] -= 1
    attempts.following[attempt] = attempts.free[0]
    attempts.free[0] = attempt
    attempts.free[1] += 1
    push(state.events, now, CONTINUE, payment, True)


@kernel
def finish(state: State, payment: int, now: float) -> None:
    """The payment has its answer."""
    payments = state.payments
    if payments.settled[payment] != 0:
        payments.reason[payment] = SETTLED
    else:
        payments.reason[payment] = payments.given_up[payment]
    payments.seconds[payment] = now - payments.at[payment]
