"""Routes that agents decide on: whole ones, or hop by hop.

Hop by hop, each agent that holds the HTLC sends it out over its own channels in the order of its
preferences, as far as a route from there to the receiver can be found that the amount and the
expiry it was given allow; beyond the first channel it is its own LND that searches. On real nodes,
such an agent intercepts the HTLC and pays the same hash onward.
"""

from __future__ import annotations

import numpy as np

from lnagents.twin.commitment import MAX_HTLCS, Liquidity
from lnagents.twin.forwarding import inbound_fee, outbound_fee
from lnagents.twin.gossip import seen_row
from lnagents.twin.kernel import kernel
from lnagents.twin.labels import BLOCK_PADDING
from lnagents.twin.network import TIME_LOCK_DELTA
from lnagents.twin.search import NO_PATH, find_route
from lnagents.twin.space import MAX_HOPS, TIES
from lnagents.twin.state import (
    AMOUNT,
    EDGE,
    EXPIRY,
    FEE_LIMIT,
    FIRST_HOP,
    HOPS,
    LAST_HOP,
    LAST_TRIED,
    NOTHING,
    PAYMENT,
    RECEIVER,
    SENDER,
    TOTAL,
    TRIED,
    USED,
    Agents,
    State,
    wide,
)

THINKING_TIME = 0.0005
"""Seconds that LND takes from a result to the next search, as measured. It matters because what was
learned just now is a little old by then: bimodal estimates tell a difference (`cannotSend` in
routing/probability_bimodal.go)."""


@kernel
def lay_route(state: State, payment: int, now: float) -> int:
    """Write the route that an agent decided on into the search space, with amounts and expiries.

    What forwarders take is reckoned with the policies that the sender knows (LND's `newRoute`).

    Returns:
        The number of hops, or `NO_PATH` if it is too long or too expensive.
    """
    number, space, gossip = state.desk.payments.number, state.mind.space, state.mind.gossip
    first, hops = number[payment, FIRST_HOP], number[payment, LAST_HOP] - number[payment, FIRST_HOP]
    if hops > MAX_HOPS:
        return NO_PATH
    sender, amount = number[payment, SENDER], number[payment, TOTAL]
    expiry = state.switch.height + state.switch.final_cltv_delta + BLOCK_PADDING
    route = state.desk.payments.route
    for hop in range(hops - 1, -1, -1):
        edge = wide(route[first + hop])
        space.route_edge[hop] = edge
        space.route_amount[hop] = amount
        space.route_expiry[hop] = expiry
        if hop > 0:
            row = seen_row(gossip, sender, edge, now)
            fee = outbound_fee(gossip.policy, row, amount)
            back = seen_row(gossip, sender, wide(route[first + hop - 1]) ^ 1, now)
            fee += inbound_fee(gossip.policy, back, amount + fee)
            amount += max(0, fee)
            expiry += gossip.policy[row, TIME_LOCK_DELTA]
    space.report[TIES] = 0
    if amount - number[payment, TOTAL] > number[payment, FEE_LIMIT]:
        return NO_PATH
    return int(hops)


@kernel
def choose_first(state: State, payment: int, now: float) -> int:
    """Route an agent's own payment over the next edge that it prefers: the hops, or `NO_PATH`."""
    number = state.desk.payments.number
    node = number[payment, SENDER]
    while True:
        edge = _next_preferred(state.agents, node, number[payment, LAST_TRIED])
        if edge == NOTHING:
            return NO_PATH
        number[payment, LAST_TRIED] = edge
        hops = _route_over(
            state,
            edge,
            number[payment, RECEIVER],
            number[payment, TOTAL],
            number[payment, FEE_LIMIT],
            now,
        )
        if hops > 0:
            return hops


@kernel
def choose_next(state: State, attempt: int, place: int, now: float) -> bool:
    """A forwarding agent puts its next choice in place of the rest of an attempt's route.

    False: it has tried all that it can.
    """
    attempts, policy = state.desk.attempts, state.switch.policy
    hop = attempts.hop[attempt]
    payment = attempts.number[attempt, PAYMENT]
    edge_in = hop[USED, place - 1]
    node = wide(state.switch.edge_target[edge_in])
    receiver = state.desk.payments.number[payment, RECEIVER]
    delivered = hop[AMOUNT, attempts.number[attempt, HOPS] - 1]
    while True:
        edge = _next_preferred(state.agents, node, hop[TRIED, place])
        if edge == NOTHING:
            return False
        hop[TRIED, place] = edge
        if edge >> 1 == edge_in >> 1:
            continue
        fee = outbound_fee(policy, edge, delivered)
        fee += inbound_fee(policy, edge_in ^ 1, delivered + fee)
        budget = hop[AMOUNT, place - 1] - delivered - max(0, fee)
        if budget < 0:
            continue
        hops = _route_over(state, edge, receiver, delivered, budget, now)
        if hops > 0 and place + hops <= MAX_HOPS:
            break
    space = state.mind.space
    for further in range(hops):
        hop[EDGE, place + further] = space.route_edge[further]
        hop[AMOUNT, place + further] = space.route_amount[further]
        hop[EXPIRY, place + further] = space.route_expiry[further]
        if further > 0:
            hop[TRIED, place + further] = NOTHING
    attempts.number[attempt, HOPS] = place + hops
    return True


@kernel
def _next_preferred(agents: Agents, node: int, tried: int) -> int:
    """The node's edge that comes after `tried` in its order of preference, or `NOTHING`."""
    found = NOTHING
    for index in range(agents.start[node], agents.start[node + 1]):
        edge = wide(agents.edge[index])
        if agents.preference[edge] > -np.inf and (
            (tried == NOTHING or _before(agents, tried, edge))
            and (found == NOTHING or _before(agents, edge, found))
        ):
            found = edge
    return found


@kernel
def _before(agents: Agents, edge: int, other: int) -> bool:
    """Whether `edge` is tried before `other`: by preference, then by number."""
    if agents.preference[edge] != agents.preference[other]:
        return bool(agents.preference[edge] > agents.preference[other])
    return edge < other


@kernel
def _route_over(
    state: State, edge: int, receiver: int, amount: int, budget: int, now: float
) -> int:
    """Search a route to the receiver that begins with one edge: its hops, or not above 0."""
    switch, mind, agents = state.switch, state.mind, state.agents
    node = wide(switch.edge_target[edge ^ 1])
    if switch.down[switch.edge_target[edge]]:
        return NO_PATH
    _swap_others(switch.liquidity, agents, node, edge)
    hops = find_route(
        mind.space,
        mind.gossip,
        switch.liquidity,
        mind.memory,
        mind.numbers,
        node,
        receiver,
        amount,
        budget,
        switch.height,
        now + THINKING_TIME,
        mind.exhaustive,
    )
    _swap_others(switch.liquidity, agents, node, edge)
    return hops


@kernel
def _swap_others(liquidity: Liquidity, agents: Agents, node: int, edge: int) -> None:
    """Take the slots of all the node's other channels, or give them back."""
    for index in range(agents.start[node], agents.start[node + 1]):
        channel = agents.edge[index] >> 1
        if channel != edge >> 1:
            liquidity.terms[channel, MAX_HTLCS] *= -1
