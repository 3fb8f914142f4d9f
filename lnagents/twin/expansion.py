"""Labels spread from the receiver back to the sender: the loop of LND's `findPath`.

The inner loop is one long function on purpose: handing the state of the twin to a function that is
not merged into its caller takes longer than what there is to do for an edge.
"""

from __future__ import annotations

from lnagents.model.kernel import inlined
from lnagents.twin.bounds import BACKWARD, DIRECTED, FORWARD, Bounds
from lnagents.twin.commitment import Liquidity
from lnagents.twin.forwarding import outbound_fee
from lnagents.twin.gossip import Gossip, is_settled
from lnagents.twin.labels import (
    NO_EDGE,
    Query,
    capped_inbound_fee,
    choose_other,
    choose_own,
    edge_weight,
    final_payload_size,
    in_range,
    payload_size,
)
from lnagents.twin.memory import NOBODY, Memory
from lnagents.twin.network import DISABLED, TIME_LOCK_DELTA
from lnagents.twin.probability import KNOWN_GOOD, edge_probability, untried_probability
from lnagents.twin.settings import Estimator, SenderNumbers
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
    UNREACHED,
    WEIGHT,
    SearchSpace,
    pop,
    push,
)

FINISHED = 0
BEATEN = -1
MARGIN = 1.5
"""msat: distances are cut to whole ones, so labels so near are still to be compared LND's way."""
MAX_ONION_SIZE = 1_300
"""Bytes for all hops' payloads (`MaxRoutingPayloadSize` in lightning-onion's sphinx.go)."""
INFINITE = 1e300

_APRIORI = int(Estimator.APRIORI)
_LARGEST_DISTANCE = 9e18
"""Above it LND takes a distance for infinite (`maxFloat` in `getProbabilityBasedDist`)."""


@inlined
def start_label(space: SearchSpace, query: Query, final_expiry: int) -> None:
    """Set the label from which a search starts: that of the receiver, who has got the amount."""
    label = space.label[-1]
    label[WEIGHT] = 0
    label[RECEIVED] = query.amount
    label[OUT_FEE] = 0
    label[EXPIRY] = final_expiry
    label[SIZE] = final_payload_size(query.amount, final_expiry)


@inlined
def expand(
    space: SearchSpace,
    gossip: Gossip,
    liquidity: Liquidity,
    memory: Memory,
    numbers: SenderNumbers,
    query: Query,
    bounds: Bounds,
    pivot: int,
    row: int,
    waiting: int,
    best: float,
) -> tuple[int, float]:
    """Label those who can send to `pivot` by the way over it, where that beats what they have.

    Args:
        space: with the labels so far, and the heap of nodes to expand.
        gossip: policies as the sender knows them.
        liquidity: of the sender's own channels.
        memory: with the sender's results loaded.
        numbers: of the sender's settings.
        query: what is searched.
        bounds: what is known about the rest of the way; see `lnagents.twin.bounds`.
        pivot: whose turn it is.
        row: the pivot's label: its own, or the last one if the search starts there.
        waiting: how many entries the heap has.
        best: msat; nodes over which routes cost more are left out.

    Returns:
        `waiting` and `best` as they are now, or `BEATEN` if a node that was expanded would get
        a better label.
    """
    sender, target, now = query.sender, query.target, query.now
    policy, capacities, parallel = gossip.policy, space.capacity, liquidity.parallel
    distances, probabilities, labels = space.distance, space.probability, space.label
    final, loss, kept, touched = space.final, space.loss, space.kept, space.touched
    node_group = memory.node_group
    circular = sender == target
    last_hop = row == len(distances)
    settled = is_settled(gossip, now)
    apriori = numbers.estimator == _APRIORI
    directed = bounds.kind == DIRECTED
    weight_here = labels[row, WEIGHT]
    received = labels[row, RECEIVED]
    out_fee = labels[row, OUT_FEE]
    expiry_here = labels[row, EXPIRY]
    size_here = labels[row, SIZE]
    probability = probabilities[row]
    # What the next node's distance is at least, without and with results about it.
    risk = query.cost / probability
    untried = float(weight_here) + risk / numbers.hop_probability
    tried = float(weight_here) + risk / KNOWN_GOOD
    evaluated = 0
    first, end = space.start[pivot], space.start[pivot + 1]
    # The sender first: what its route costs over this node limits all others.
    own_pair = space.own_pair[pivot] if directed else NOBODY
    if own_pair == NOBODY:
        own_pair = first
    for index in range(first, end):
        pair = own_pair if index == first else (first if index == own_pair else index)
        source = space.pair_source[pair]
        if source == target and not circular:
            continue
        own = source == sender
        unknown = node_group[source] == NOBODY
        rest = 0.0
        if directed and not own:
            least = untried if unknown else tried
            if least > distances[source] + MARGIN:
                continue
            forward = loss[source, FORWARD]
            if forward > bounds.known_forward:
                backward = min(loss[source, BACKWARD], bounds.known_backward)
                forward = max(bounds.known_forward, bounds.least - backward)
            rest = bounds.scale * (1.0 - kept[forward])
            if least + rest > best:
                continue
        evaluated += 1
        edge = space.pair_edge[pair]
        tied = 0
        charged = 0
        time_lock = 0
        capacity = 0
        sent = received
        if own:
            if space.down[pivot]:
                continue
            edge, sent, tied = choose_own(
                gossip, liquidity, capacities, sender, edge, received, out_fee, last_hop, now
            )
            if edge == NO_EDGE:
                continue
        elif settled and parallel[edge] == edge:
            # The same as `choose_other`, for the one channel that most pairs have.
            if not last_hop:
                sent += capped_inbound_fee(policy, edge ^ 1, received, out_fee)
            capacity = capacities[edge >> 1]
            if policy[edge, DISABLED] != 0 or not in_range(policy, edge, capacity, sent):
                continue
            charged = outbound_fee(policy, edge, sent)
            time_lock = policy[edge, TIME_LOCK_DELTA]
        else:
            edge, sent, charged, time_lock, capacity, tied = choose_other(
                gossip, parallel, capacities, sender, edge, received, out_fee, last_hop, now
            )
            if edge == NO_EDGE:
                continue
        if sent - query.amount > query.fee_limit:
            continue
        if unknown and apriori and not own:
            step = untried_probability(numbers, sent, capacity)
        else:
            step = edge_probability(memory, numbers, sender, source, pivot, sent, capacity, now)
        chance = probability * step
        if (
            step == 0.0
            or expiry_here + time_lock > query.last_expiry
            # Not even a number is what an apriori weight of 0 makes of a node without results.
            or not chance >= numbers.min_probability
        ):
            continue
        weight = weight_here + edge_weight(numbers, sent, sent - received + charged, time_lock)
        exact = float(weight) + query.cost / chance
        distance = UNREACHED if exact > _LARGEST_DISTANCE else int(exact)
        known = distances[source]
        if distance > known:
            continue
        if distance == known and known != UNREACHED and chance <= probabilities[source]:
            if chance == probabilities[source]:
                labels[source, TIED] = 1
            continue
        size = size_here
        if not own:
            size += payload_size(sent, expiry_here)
        if size > MAX_ONION_SIZE:
            continue
        if known == UNREACHED:
            touched[touched[-1]] = source
            touched[-1] += 1
        distances[source] = distance
        probabilities[source] = chance
        labels[source, WEIGHT] = weight
        labels[source, RECEIVED] = sent + charged
        labels[source, OUT_FEE] = charged
        labels[source, EXPIRY] = expiry_here + time_lock
        labels[source, SIZE] = size
        labels[source, EDGE] = edge
        labels[source, AMOUNT] = sent
        labels[source, TIED] = tied
        if directed:
            if final[source]:
                return BEATEN, best
            exact += rest
            if own:
                best = min(best, exact + MARGIN)
                continue
            if exact > best:
                continue
        else:
            exact = float(distance)
        space.estimate[source] = exact
        waiting = push(space.keys, space.queue, waiting, exact, source)
    space.report[EXPANDED] += 1
    space.report[EVALUATED] += evaluated
    return waiting, best


@inlined
def label_nodes(
    space: SearchSpace,
    gossip: Gossip,
    liquidity: Liquidity,
    memory: Memory,
    numbers: SenderNumbers,
    query: Query,
    bounds: Bounds,
    best: float,
) -> int:
    """Label nodes, nearest first, until the sender's turn comes.

    Returns:
        `FINISHED`, or `BEATEN` if a label that counted as final was: the labels are not LND's then.
    """
    pivot = query.target
    row = len(space.distance)
    waiting = 0
    while True:
        waiting, best = expand(
            space,
            gossip,
            liquidity,
            memory,
            numbers,
            query,
            bounds,
            pivot,
            row,
            waiting,
            best,
        )
        if waiting == BEATEN:
            return BEATEN
        row = NOBODY
        key = 0.0
        while waiting > 0 and row == NOBODY:
            row = space.queue[0]
            key = space.keys[0]
            waiting = pop(space.keys, space.queue, waiting)
            if key == space.estimate[row]:
                space.estimate[row] = INFINITE
            else:
                # Of an earlier label.
                row = NOBODY
        if row == NOBODY or key > best or row == query.sender:
            return FINISHED
        pivot = row
        if bounds.kind == DIRECTED:
            space.final[row] = True


@inlined
def clear_labels(space: SearchSpace) -> None:
    """Forget all labels."""
    for index in range(space.touched[-1]):
        node = space.touched[index]
        space.distance[node] = UNREACHED
        space.final[node] = False
    space.touched[-1] = 0
