"""Route searches: LND's own (`findPath` in routing/pathfind.go), and a faster one that agrees.

Both go backwards from the receiver and give each node one *label*: the best way known from there to
the receiver. Better means less *distance*: fees, a price for locked money, and the attempt cost
divided by the probability of success. LND expands nodes by rising distance until the sender's turn
comes; as the distance never falls along the way, a node's label is final by then. It is not always
part of the best route, because probabilities multiply while fees add up; the twin has to find what
LND finds, not the optimum.
"""

from __future__ import annotations

from lnagents.model.kernel import inlined
from lnagents.twin.bounds import DIRECTED, HOPELESS, blind_bounds, clear_losses, find_bounds
from lnagents.twin.commitment import LEAST_HTLC, Liquidity, sendable
from lnagents.twin.expansion import (
    BEATEN,
    FINISHED,
    INFINITE,
    clear_labels,
    label_nodes,
    start_label,
)
from lnagents.twin.gossip import Gossip
from lnagents.twin.labels import BLOCK_PADDING, Query, attempt_cost
from lnagents.twin.memory import Memory, load_sender
from lnagents.twin.settings import SenderNumbers
from lnagents.twin.space import AMOUNT, EDGE, EXPIRY, TIED, TIES, UNREACHED, SearchSpace

_USUAL = 1.2
"""Routes rarely cost more than this times the least that follows from their probability."""

NO_PATH = -1
"""LND's `errNoPathFound`: it may still split the payment."""
NO_BALANCE = -2
"""LND's `errInsufficientBalance`: all own channels together cannot send the amount."""


@inlined
def find_route(
    space: SearchSpace,
    gossip: Gossip,
    liquidity: Liquidity,
    memory: Memory,
    numbers: SenderNumbers,
    sender: int,
    target: int,
    amount: int,
    fee_limit: int,
    height: int,
    now: float,
    exhaustive: bool,
) -> int:
    """Find the route that `sender`'s LND would try next for one part of a payment.

    The route is left in `space.route_edge`, `route_amount`, `route_expiry` and `route_probability`,
    and `space.report` says whether LND might have found another one at the same cost.

    Args:
        space: the graph, and room to work.
        gossip: policies as the sender knows them.
        liquidity: of which only the sender's own channels are looked at.
        memory: what the sender learned from earlier attempts.
        numbers: the sender's settings.
        sender: pays.
        target: is paid; may be the sender itself, who then pays in a circle.
        amount: msat that must arrive.
        fee_limit: msat.
        height: of the chain.
        now: seconds.
        exhaustive: search as LND does, node by node; the other way is faster and finds the same.

    Returns:
        The number of hops, or `NO_PATH` or `NO_BALANCE`.
    """
    load_sender(memory, sender)
    code = check_balance(space, liquidity, sender, amount)
    if code != 0:
        return code
    final_expiry = height + numbers.final_cltv_delta + BLOCK_PADDING
    query = Query(
        sender,
        target,
        amount,
        fee_limit,
        height + numbers.cltv_limit,
        now,
        attempt_cost(numbers, amount),
    )
    space.report[:] = 0
    start_label(space, query, final_expiry)
    bounds = blind_bounds()
    if not exhaustive:
        bounds = find_bounds(space, memory, numbers, query)
    best = bounds.scale * _USUAL if bounds.kind == DIRECTED else INFINITE
    while bounds.kind != HOPELESS:
        code = label_nodes(space, gossip, liquidity, memory, numbers, query, bounds, best)
        # A route that costs more than the guess may not be the best: others were left out.
        if code == FINISHED and float(space.distance[sender]) <= best:
            break
        clear_labels(space)
        best = INFINITE
        if code == BEATEN:
            bounds = blind_bounds()
    clear_losses(space)
    hops = take_route(space, query, final_expiry)
    clear_labels(space)
    return hops


@inlined
def check_balance(space: SearchSpace, liquidity: Liquidity, sender: int, amount: int) -> int:
    """Whether the sender's channels can send that much at all: 0, `NO_BALANCE` or `NO_PATH`."""
    total = 0
    for pair in range(space.start[sender], space.start[sender + 1]):
        if space.down[space.pair_source[pair]]:
            continue
        first = space.pair_edge[pair] ^ 1
        edge = first
        while True:
            least = max(1, liquidity.terms[edge >> 1, LEAST_HTLC])
            available = sendable(liquidity, edge, least)
            if available >= amount:
                return 0
            total += available
            edge = liquidity.parallel[edge]
            if edge == first:
                break
    return NO_BALANCE if total < amount else NO_PATH


@inlined
def take_route(space: SearchSpace, query: Query, final_expiry: int) -> int:
    """Follow the labels from the sender: the number of hops, or `NO_PATH`."""
    if space.distance[query.sender] == UNREACHED:
        return NO_PATH
    space.route_probability[0] = space.probability[query.sender]
    space.report[TIES] = 0
    hops = 0
    node = query.sender
    while True:
        label = space.label[node]
        edge = label[EDGE]
        space.route_edge[hops] = edge
        space.route_amount[hops] = label[AMOUNT]
        if label[TIED] != 0:
            space.report[TIES] = 1
        node = space.edge_target[edge]
        hops += 1
        if node == query.target:
            space.route_expiry[hops - 1] = final_expiry
            return hops
        space.route_expiry[hops - 1] = space.label[node, EXPIRY]
