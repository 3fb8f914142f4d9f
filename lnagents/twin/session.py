"""A sender's payment loop: LND's, as far as it decides what is tried, when, and with what amount.

`resumePayment` in routing/payment_lifecycle.go and `RequestRoute` in routing/payment_session.go: a
payment is sent whole if a route is found for it, else in parts of half the size, each along a route
of its own; what comes back failed is sent again, along other routes or in smaller parts, until no
route is left, the time is over, or a failure is final.
"""

from __future__ import annotations

from lnagents.model.kernel import inlined, kernel
from lnagents.model.payment import HOP_BY_HOP_SLACK
from lnagents.twin.commitment import Liquidity
from lnagents.twin.directions import BY_HOP, BY_ROUTE
from lnagents.twin.events import push
from lnagents.twin.forwarding import ACCEPTED
from lnagents.twin.gossip import learn_update
from lnagents.twin.htlcs import brings_policy, set_out
from lnagents.twin.labels import BLOCK_PADDING
from lnagents.twin.mission import GO_ON, report_failure, report_success
from lnagents.twin.network import Int64Array
from lnagents.twin.search import NO_BALANCE, find_route
from lnagents.twin.space import SearchSpace
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
    Agents,
    Desk,
    Mind,
    State,
    Switch,
    write_attempt,
    write_result,
)
from lnagents.twin.steering import THINKING_TIME, choose, give_slack, lay_route
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
END = 6
"""An attempt is over, and its sender knows."""

SPARE_EVENTS = 8
"""That one event may push, apart from those of a payment's parts."""


@kernel
def take_turn(state: State, payment: int, now: float) -> None:
    """The sender makes one attempt more, waits for those in flight, or has its answer."""
    desk, mind, switch = state.desk, state.mind, state.switch
    payments = desk.payments
    number = payments.number[payment]
    if number[REASON] != OPEN:
        return
    # LND asks this first of all, and the last reason counts: while parts are in flight, the time
    # overrules why the payment had failed already.
    if now >= payments.time[payment, DEADLINE] and (number[GIVEN_UP] == OPEN or number[ACTIVE] > 0):
        number[GIVEN_UP] = TIMEOUT
    if number[SENT_OUT] < number[TOTAL] and number[GIVEN_UP] == OPEN and number[HAS_SETTLED] == 0:
        sender_chooses = number[MODE] == BY_HOP and state.agents.chooses[number[SENDER]]
        if number[MODE] == BY_ROUTE and number[ATTEMPTS] > 0:
            hops, reason = 0, ERROR
        elif number[MODE] == BY_HOP and not sender_chooses and number[ATTEMPTS] > 0:
            # The agents on the way have tried what they could, and the sender would only plan
            # the same again: what they chose is not its to know.
            hops, reason = 0, NO_ROUTE
        elif number[MODE] == BY_ROUTE:
            last_expiry = switch.height + switch.final_cltv_delta + BLOCK_PADDING
            hops = lay_route(payments, mind.gossip, mind.space, payment, last_expiry, now)
            reason = NO_ROUTE
        elif sender_chooses:
            hops, reason = choose(state, payment, NOTHING, now), NO_ROUTE
        else:
            hops, reason = find_part(mind, switch.liquidity, number, switch.height, now)
            if number[MODE] == BY_HOP:
                give_slack(mind.space, state.agents, hops, HOP_BY_HOP_SLACK)
        if hops > 0:
            start_attempt(desk, switch, mind.space, payment, hops, now)
            return
        number[GIVEN_UP] = reason
    if number[ACTIVE] == 0:
        number[REASON] = SETTLED if number[HAS_SETTLED] != 0 else number[GIVEN_UP]
        payments.time[payment, TAKEN] = now - payments.time[payment, AT]


@inlined
def find_part(
    mind: Mind, liquidity: Liquidity, number: Int64Array, height: int, now: float
) -> tuple[int, int]:
    """Find a route for as much as possible of what remains of a payment, whose row is `number`.

    Returns:
        The hops, if there is a route; else not above 0, and the reason to give up.
    """
    numbers = mind.numbers
    parts = min(number[MAX_PARTS], numbers.max_parts)
    if number[MODE] == BY_HOP:
        parts = 1
    amount = number[TOTAL] - number[SENT_OUT]
    while True:
        hops = find_route(
            mind.space,
            mind.gossip,
            liquidity,
            mind.memory,
            numbers,
            number[SENDER],
            number[RECEIVER],
            amount,
            max(0, number[FEE_LIMIT] - number[SPENT]),
            height,
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
def start_attempt(
    desk: Desk, switch: Switch, space: SearchSpace, payment: int, hops: int, now: float
) -> None:
    """Send an HTLC along the route that is in the search space."""
    attempts, number = desk.attempts, desk.payments.number[payment]
    attempt = attempts.use[0]
    row = attempts.number[attempt]
    attempts.use[0] = row[FOLLOWING]
    attempts.use[1] -= 1
    row[PAYMENT] = payment
    row[HOPS] = hops
    row[LINE] = write_attempt(desk.log, space, payment, hops, now)
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
    code = set_out(switch, space.route_edge[0], first, space.route_expiry[0])
    row[CODE] = code
    row[FAILED_AT] = NOTHING if code == ACCEPTED else 0
    if code == ACCEPTED:
        row[PLACE] = 1
        push(desk.events, now + desk.timing.forward, ARRIVE, attempt, False)
        if number[SENT_OUT] < number[TOTAL]:
            push(desk.events, now, CONTINUE, payment, True)
    else:
        row[PLACE] = 0
        push(desk.events, now, END, attempt, True)


@kernel
def end_attempt(desk: Desk, mind: Mind, agents: Agents, attempt: int, now: float) -> None:
    """The preimage or a failure has reached the sender, who learns from it."""
    row, space = desk.attempts.number[attempt], mind.space
    hops, code, failed_at = row[HOPS], row[CODE], row[FAILED_AT]
    payment = row[PAYMENT]
    number = desk.payments.number[payment]
    sender = number[SENDER]
    known = hops
    for hop in range(hops - 1, -1, -1):
        edge = desk.attempts.hop[attempt, EDGE, hop]
        space.route_edge[hop] = edge
        space.route_amount[hop] = desk.attempts.hop[attempt, AMOUNT, hop]
        # What an agent chose on the way is not the sender's to know.
        if number[MODE] == BY_HOP and agents.chooses[space.edge_target[edge ^ 1]]:
            known = hop
    fee = space.route_amount[0] - space.route_amount[hops - 1]
    if code == ACCEPTED:
        number[HAS_SETTLED] = 1
        number[FEE_PAID] += fee
        if known > 0:
            remember_success(mind, sender, known, now)
    else:
        number[FAILED_ATTEMPTS] += 1
        number[SENT_OUT] -= space.route_amount[hops - 1]
        number[SPENT] -= fee
        if known > 0:
            reason = remember_failure(mind, sender, hops, failed_at, code, now)
            if reason != GO_ON:
                number[GIVEN_UP] = reason
    write_result(desk.log, row[LINE], code, failed_at, now)
    number[ACTIVE] -= 1
    row[FOLLOWING] = desk.attempts.use[0]
    desk.attempts.use[0] = attempt
    desk.attempts.use[1] += 1
    push(desk.events, now, CONTINUE, payment, True)


@inlined
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
        learn_update(mind.gossip, sender, space.route_edge[failed_at], now)
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
