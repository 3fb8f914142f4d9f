"""Route searches: LND's own (`findPath` in routing/pathfind.go), and a faster one that agrees.

Both go backwards from the receiver and give each node one *label*: the best way known from there to
the receiver. Better means less *distance*: fees, a price for locked money, and the attempt cost
divided by the probability of success. LND expands nodes by rising distance until the sender's turn
comes; as the distance never falls along the way, a node's label is final by then. It is not always
part of the best route, because probabilities multiply while fees add up; the twin has to find what
LND finds, not the optimum.
"""

from __future__ import annotations

from lnagents.twin.commitment import LEAST_HTLC, Liquidity, sendable
from lnagents.twin.gossip import Gossip
from lnagents.twin.kernel import kernel
from lnagents.twin.labels import (
    BLOCK_PADDING,
    MAX_ONION_SIZE,
    NO_EDGE,
    attempt_cost,
    choose_other,
    choose_own,
    distance_of,
    edge_weight,
    final_payload_size,
    payload_size,
)
from lnagents.twin.memory import Memory, load_sender
from lnagents.twin.probability import edge_probability
from lnagents.twin.settings import SenderNumbers
from lnagents.twin.space import (
    AMOUNT,
    EDGE,
    EVALUATED,
    EXPANDED,
    EXPIRY,
    OUT_FEE,
    RECEIVED,
    SIZE,
    TIED,
    TIES,
    UNREACHED,
    WEIGHT,
    SearchSpace,
)

NO_PATH = -1
"""LND's `errNoPathFound`: it may still split the payment."""
NO_BALANCE = -2
"""LND's `errInsufficientBalance`: all own channels together cannot send the amount."""


@kernel
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
    search_all(
        space,
        gossip,
        liquidity,
        memory,
        numbers,
        sender,
        target,
        amount,
        fee_limit,
        height + numbers.cltv_limit,
        final_expiry,
        now,
    )
    hops = take_route(space, sender, target, final_expiry, liquidity)
    clear_labels(space)
    return hops


@kernel
def check_balance(space: SearchSpace, liquidity: Liquidity, sender: int, amount: int) -> int:
    """Whether the sender's channels can send that much at all: 0, `NO_BALANCE` or `NO_PATH`."""
    most = 0
    total = 0
    for pair in range(space.start[sender], space.start[sender + 1]):
        if space.down[space.pair_source[pair]]:
            continue
        first = space.pair_edge[pair] ^ 1
        edge = first
        while True:
            least = max(1, liquidity.terms[edge >> 1, LEAST_HTLC])
            available = sendable(liquidity, edge, least)
            most = max(most, available)
            total += available
            edge = liquidity.parallel[edge]
            if edge == first:
                break
    if total < amount:
        return NO_BALANCE
    return NO_PATH if most < amount else 0


@kernel
def search_all(
    space: SearchSpace,
    gossip: Gossip,
    liquidity: Liquidity,
    memory: Memory,
    numbers: SenderNumbers,
    sender: int,
    target: int,
    amount: int,
    fee_limit: int,
    last_expiry: int,
    final_expiry: int,
    now: float,
) -> None:
    """Label nodes as LND does, by rising distance, until the sender's turn comes."""
    cost = attempt_cost(numbers, amount)
    pivot = target
    probability = 1.0
    weight = 0
    received = amount
    out_fee = 0
    expiry = final_expiry
    size = final_payload_size(amount, final_expiry)
    last_hop = True
    expanded = 0
    evaluated = 0
    waiting = 0
    while True:
        expanded += 1
        for pair in range(space.start[pivot], space.start[pivot + 1]):
            source = space.pair_source[pair]
            if source == target and sender != target:
                continue
            evaluated += 1
            tied = 0
            if source == sender:
                if space.down[pivot]:
                    continue
                edge, sent, tied = choose_own(
                    space,
                    gossip,
                    liquidity,
                    sender,
                    space.pair_edge[pair],
                    received,
                    out_fee,
                    last_hop,
                    now,
                )
                capacity = 0
                charged = 0
                time_lock = 0
            else:
                edge, sent, charged, time_lock, capacity, tied = choose_other(
                    space,
                    gossip,
                    liquidity,
                    sender,
                    space.pair_edge[pair],
                    received,
                    out_fee,
                    last_hop,
                    now,
                )
            if edge == NO_EDGE or sent - amount > fee_limit:
                continue
            step = edge_probability(memory, numbers, sender, source, pivot, sent, capacity, now)
            if step == 0.0 or expiry + time_lock > last_expiry:
                continue
            chance = probability * step
            if chance < numbers.min_probability:
                continue
            heavier = weight + edge_weight(numbers, sent, sent - received + charged, time_lock)
            distance = distance_of(heavier, chance, cost)
            best = space.distance[source]
            if distance > best:
                continue
            if distance == best and best != UNREACHED and chance <= space.probability[source]:
                if chance == space.probability[source]:
                    space.label[source, TIED] = 1
                continue
            larger = size
            if source != sender:
                larger += payload_size(sent, expiry)
            if larger > MAX_ONION_SIZE:
                continue
            if best == UNREACHED:
                space.touched[space.touched[-1]] = source
                space.touched[-1] += 1
            space.distance[source] = distance
            space.probability[source] = chance
            label = space.label[source]
            label[WEIGHT] = heavier
            label[RECEIVED] = sent + charged
            label[OUT_FEE] = charged
            label[EXPIRY] = expiry + time_lock
            label[SIZE] = larger
            label[EDGE] = edge
            label[AMOUNT] = sent
            label[TIED] = tied
            waiting = _enqueue(space, source, waiting)
        if waiting == 0:
            break
        pivot = space.heap[0]
        waiting = _dequeue(space, waiting)
        if pivot == sender:
            break
        probability = space.probability[pivot]
        label = space.label[pivot]
        weight = label[WEIGHT]
        received = label[RECEIVED]
        out_fee = label[OUT_FEE]
        expiry = label[EXPIRY]
        size = label[SIZE]
        last_hop = False
    for place in range(waiting):
        space.place[space.heap[place]] = -1
    space.report[EXPANDED] = expanded
    space.report[EVALUATED] = evaluated


@kernel
def take_route(
    space: SearchSpace, sender: int, target: int, final_expiry: int, liquidity: Liquidity
) -> int:
    """Follow the labels from the sender: the number of hops, or `NO_PATH`."""
    if space.distance[sender] == UNREACHED:
        return NO_PATH
    space.route_probability[0] = space.probability[sender]
    space.report[TIES] = 0
    hops = 0
    node = sender
    while True:
        label = space.label[node]
        edge = label[EDGE]
        space.route_edge[hops] = edge
        space.route_amount[hops] = label[AMOUNT]
        if label[TIED] != 0:
            space.report[TIES] = 1
        node = space.edge_target[edge]
        hops += 1
        if node == target:
            space.route_expiry[hops - 1] = final_expiry
            return hops
        space.route_expiry[hops - 1] = space.label[node, EXPIRY]


@kernel
def clear_labels(space: SearchSpace) -> None:
    """Forget all labels."""
    for index in range(space.touched[-1]):
        space.distance[space.touched[index]] = UNREACHED
    space.touched[-1] = 0


@kernel
def _nearer(space: SearchSpace, node: int, other: int) -> bool:
    """Whether `node`'s turn comes before that of `other`; equals by probability."""
    distance, others = space.distance[node], space.distance[other]
    if distance == others:
        return bool(space.probability[node] > space.probability[other])
    return bool(distance < others)


@kernel
def _enqueue(space: SearchSpace, node: int, waiting: int) -> int:
    """Put `node` in the heap, or move it forward; returns how many are in it."""
    heap, place = space.heap, space.place
    index = place[node]
    if index < 0:
        index = waiting
        waiting += 1
    while index > 0:
        parent = (index - 1) >> 1
        if not _nearer(space, node, heap[parent]):
            break
        heap[index] = heap[parent]
        place[heap[index]] = index
        index = parent
    heap[index] = node
    place[node] = index
    return waiting


@kernel
def _dequeue(space: SearchSpace, waiting: int) -> int:
    """Take the first node off the heap; returns how many are left."""
    heap, place = space.heap, space.place
    place[heap[0]] = -1
    waiting -= 1
    if waiting == 0:
        return 0
    node = heap[waiting]
    index = 0
    while True:
        child = 2 * index + 1
        if child >= waiting:
            break
        if child + 1 < waiting and _nearer(space, heap[child + 1], heap[child]):
            child += 1
        if not _nearer(space, heap[child], node):
            break
        heap[index] = heap[child]
        place[heap[index]] = index
        index = child
    heap[index] = node
    place[node] = index
    return waiting
