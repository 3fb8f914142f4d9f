"""Routes that agents decide on: whole ones, or hop by hop.

Hop by hop, each agent that holds the HTLC sends it out over its own channels in the order of its
preferences, as far as a route from there to the receiver can be found that the amount and the
expiry it was given allow; beyond the first channel it is its own LND that searches. On real nodes,
such an agent intercepts the HTLC and pays the same hash onward.
"""

from __future__ import annotations

import numpy as np

from lnagents.model.kernel import kernel
from lnagents.model.payment import HOP_BY_HOP_SLACK
from lnagents.twin.commitment import MAX_HTLCS, Liquidity
from lnagents.twin.forwarding import inbound_fee, outbound_fee
from lnagents.twin.gossip import Gossip, seen_row
from lnagents.twin.network import TIME_LOCK_DELTA
from lnagents.twin.search import NO_PATH, find_route
from lnagents.twin.space import MAX_HOPS, TIES, SearchSpace
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
    PLACE,
    RECEIVER,
    SENDER,
    TOTAL,
    TRIED,
    USED,
    Agents,
    Attempts,
    Payments,
    State,
)

THINKING_TIME = 0.0005
"""Seconds that LND takes from a result to the next search, as measured. It matters because what was
learned just now is a little old by then: bimodal estimates tell a difference (`cannotSend` in
routing/probability_bimodal.go)."""


@kernel
def lay_route(
    payments: Payments,
    gossip: Gossip,
    space: SearchSpace,
    payment: int,
    last_expiry: int,
    now: float,
) -> int:
    """Write the route that an agent decided on into the search space, with amounts and expiries.

    What forwarders take is reckoned with the policies that the sender knows (LND's `newRoute`).
    `last_expiry` is the receiver's.

    Returns:
        The number of hops, or `NO_PATH` if it is too long or too expensive.
    """
    number = payments.number[payment]
    first, hops = number[FIRST_HOP], number[LAST_HOP] - number[FIRST_HOP]
    if hops > MAX_HOPS:
        return NO_PATH
    amount, expiry = number[TOTAL], last_expiry
    for hop in range(hops - 1, -1, -1):
        edge = payments.route[first + hop]
        space.route_edge[hop] = edge
        space.route_amount[hop] = amount
        space.route_expiry[hop] = expiry
        if hop > 0:
            row = seen_row(gossip, number[SENDER], edge, now)
            fee = outbound_fee(gossip.policy, row, amount)
            back = payments.route[first + hop - 1] ^ 1
            row_back = seen_row(gossip, number[SENDER], back, now)
            fee += inbound_fee(gossip.policy, row_back, amount + fee)
            amount += max(0, fee)
            expiry += gossip.policy[row, TIME_LOCK_DELTA]
    space.report[TIES] = 0
    if amount - number[TOTAL] > number[FEE_LIMIT]:
        return NO_PATH
    return int(hops)


@kernel
def choose(state: State, payment: int, attempt: int, now: float) -> int:
    """The agent that holds an HTLC, or is about to send one, takes the next edge it prefers.

    The route found over it is in the search space, and from the HTLC's place on in the attempt.

    Args:
        state: of everything.
        payment: by hop.
        attempt: the HTLC; `NOTHING`: the agent is the sender.
        now: seconds.

    Returns:
        How many hops the route from the agent on has, or `NO_PATH` if it has tried all it can.
    """
    switch, mind, agents = state.switch, state.mind, state.agents
    liquidity, policy = switch.liquidity, switch.policy
    number = state.desk.payments.number[payment]
    node, edge_in, place, delivered = number[SENDER], NOTHING, 0, number[TOTAL]
    if attempt != NOTHING:
        row, hop = state.desk.attempts.number[attempt], state.desk.attempts.hop[attempt]
        place = row[PLACE]
        edge_in = hop[USED, place - 1]
        node = switch.edge_target[edge_in]
        delivered = hop[AMOUNT, row[HOPS] - 1]
    while True:
        tried = number[LAST_TRIED] if attempt == NOTHING else hop[TRIED, place]
        edge = _next_preferred(agents, node, tried)
        if edge == NOTHING:
            return NO_PATH
        budget = number[FEE_LIMIT]
        if attempt == NOTHING:
            number[LAST_TRIED] = edge
        else:
            hop[TRIED, place] = edge
            fee = outbound_fee(policy, edge, delivered)
            fee += inbound_fee(policy, edge_in ^ 1, delivered + fee)
            budget = hop[AMOUNT, place - 1] - delivered - max(0, fee)
        if budget < 0 or edge ^ 1 == edge_in or switch.down[switch.edge_target[edge]]:
            continue
        _swap_others(liquidity, agents, node, edge)
        hops = find_route(
            mind.space,
            mind.gossip,
            liquidity,
            mind.memory,
            mind.numbers,
            node,
            number[RECEIVER],
            delivered,
            budget,
            switch.height,
            now + THINKING_TIME,
            mind.exhaustive,
        )
        _swap_others(liquidity, agents, node, edge)
        if hops > 0 and place + hops <= MAX_HOPS:
            slack = HOP_BY_HOP_SLACK
            if attempt != NOTHING:
                # No more than the agent itself was given.
                left = hop[EXPIRY, place - 1] - policy[edge, TIME_LOCK_DELTA]
                slack = min(slack, max(0, left - mind.space.route_expiry[0]))
            give_slack(mind.space, agents, hops, slack)
            if attempt != NOTHING:
                _replace_rest(state.desk.attempts, mind.space, attempt, hops)
            return hops


@kernel
def give_slack(space: SearchSpace, agents: Agents, hops: int, slack: int) -> None:
    """Let the HTLCs as far as the next agent that chooses expire later, by `slack` blocks."""
    for hop in range(hops - 1):
        if agents.chooses[space.edge_target[space.route_edge[hop]]]:
            for before in range(hop + 1):
                space.route_expiry[before] += slack
            return


@kernel
def _replace_rest(attempts: Attempts, space: SearchSpace, attempt: int, hops: int) -> None:
    """Put the route in the search space in place of the rest of an attempt's."""
    row, hop = attempts.number[attempt], attempts.hop[attempt]
    place = row[PLACE]
    for further in range(hops):
        hop[EDGE, place + further] = space.route_edge[further]
        hop[AMOUNT, place + further] = space.route_amount[further]
        hop[EXPIRY, place + further] = space.route_expiry[further]
        if further > 0:
            hop[TRIED, place + further] = NOTHING
    row[HOPS] = place + hops


@kernel
def _next_preferred(agents: Agents, node: int, tried: int) -> int:
    """The node's edge that comes after `tried` in its order of preference, or `NOTHING`."""
    found = NOTHING
    for index in range(agents.start[node], agents.start[node + 1]):
        edge = agents.edge[index]
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
def _swap_others(liquidity: Liquidity, agents: Agents, node: int, edge: int) -> None:
    """Take the slots of all the node's other channels, or give them back."""
    for index in range(agents.start[node], agents.start[node + 1]):
        channel = agents.edge[index] >> 1
        if channel != edge >> 1:
            liquidity.terms[channel, MAX_HTLCS] *= -1
