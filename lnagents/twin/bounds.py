"""What a route costs at least: so that the search for it can leave out most of the network.

LND expands every node that is nearer to the receiver than the sender is. Most cannot be on the
route: what their label costs plus what the rest of the way adds at least is more than the whole
route. How much the rest adds follows from probabilities alone. Let Q(v) be the best probability
with which anything gets from the sender to node v, and M that to the receiver. A label at v with
probability p has p * Q(v) <= M, and to its distance d = weight + cost / p the rest of the way adds
at least

    cost / p * (1 / Q(v) - 1)  >=  cost / M * (1 - Q(v)).

The right side depends on the node only, and where u sends to v with probability q <= Q(v) / Q(u),
the distance grows by cost / p * (1 / q - 1) >= cost / M * (Q(u) - Q(v)): by as much as the right
side falls, or more. So expanding nodes by distance plus right side (A* with a consistent bound)
gives each node that matters the label that LND gives it: a better label of the same node has the
lower sum, too, and comes first. Where Q(v) is not known exactly, the lesser of two upper bounds
takes its place, and the same inequalities hold: what the search from the sender has not undercut,
and M divided by the best probability from v to the receiver.

A *loss* is a probability as an integer: -ln(p) in units, rounded down, so that losses add up along
a route and never say less than what is possible. From both ends of the payment at once, nodes get
their least loss by Dijkstra's algorithm, until the two searches have met: a few hundred nodes in a
network of thousands.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from lnagents.model.kernel import inlined
from lnagents.twin.labels import Query
from lnagents.twin.memory import NOBODY, Memory
from lnagents.twin.network import Int64Array
from lnagents.twin.probability import KNOWN_GOOD
from lnagents.twin.settings import Estimator, SenderNumbers
from lnagents.twin.space import LOSSES, NO_WAY, UNIT, SearchSpace

BLIND = 0
"""Nothing is known: nodes are expanded by distance alone, as LND does it."""
DIRECTED = 1
HOPELESS = 2
"""No route is likely enough."""

FORWARD = 0
"""From the sender on."""
BACKWARD = 1
"""From the receiver back."""

_APRIORI = int(Estimator.APRIORI)
_NODE_BITS = 32
_NODE_MASK = (1 << _NODE_BITS) - 1
_ROUNDING = 1e-9


class Bounds(NamedTuple):
    """What a search knows about the way from the sender before it begins."""

    kind: int
    """`BLIND`, `DIRECTED` or `HOPELESS`."""
    scale: float
    """Attempt cost over the best probability from sender to receiver, msat."""
    least: int
    """The loss that belongs to this probability."""
    known_forward: int
    """Up to which loss the nodes near the sender are known."""
    known_backward: int
    """The same near the receiver."""


@inlined
def blind_bounds() -> Bounds:
    """The bounds of one who knows nothing."""
    return Bounds(BLIND, 0.0, 0, 0, 0)


@inlined
def exact_loss(probability: float) -> int:
    """The loss of a probability."""
    if probability <= 0.0:
        return NO_WAY
    return min(int(-math.log(probability) / UNIT + _ROUNDING), LOSSES - 1)


@inlined
def find_bounds(space: SearchSpace, memory: Memory, numbers: SenderNumbers, query: Query) -> Bounds:
    """Find out what is possible between sender and receiver, and near either of them.

    The losses are left in `space.loss`: those from the sender up to `known_forward` and those to
    the receiver up to `known_backward`; all others are not less than that.
    """
    limit = exact_loss(numbers.min_probability) + 1
    if (
        numbers.estimator != _APRIORI
        or numbers.hop_probability > KNOWN_GOOD
        or query.sender == query.target
        or limit >= LOSSES
    ):
        # What is believed at most holds for the apriori estimator. And in a circle, everything is
        # possible at once.
        return blind_bounds()
    # A sender believes no more than this of a node, without and with results about it. What the
    # results say exactly would take longer to ask than it saves.
    untried = exact_loss(numbers.hop_probability)
    tried = exact_loss(KNOWN_GOOD)
    loss, heap, reached = space.loss, space.loss_heap, space.reached
    best = NO_WAY
    loss[query.sender, FORWARD] = 0
    loss[query.target, BACKWARD] = 0
    reached[FORWARD, 0] = query.sender
    reached[BACKWARD, 0] = query.target
    reached[FORWARD, -1] = 1
    reached[BACKWARD, -1] = 1
    heap[FORWARD, 0] = query.sender
    heap[BACKWARD, 0] = query.target
    waiting_forward = 1
    waiting_backward = 1
    # What is to be looked at on either side, to go on where there is less of it.
    work_forward = space.start[query.sender + 1] - space.start[query.sender]
    work_backward = space.start[query.target + 1] - space.start[query.target]
    known_forward = 0
    known_backward = 0
    while True:
        if known_forward + known_backward >= best or known_forward + known_backward > limit:
            break
        forward = waiting_forward > 0 and (waiting_backward == 0 or work_forward <= work_backward)
        side = FORWARD if forward else BACKWARD
        waiting = waiting_forward if forward else waiting_backward
        if waiting == 0:
            break
        entry = heap[side, 0]
        waiting = _pop(heap[side], waiting)
        node = entry & _NODE_MASK
        here = entry >> _NODE_BITS
        work = 0
        if here == loss[node, side]:
            if forward:
                known_forward = here
            else:
                known_backward = here
            first, end = space.start[node], space.start[node + 1]
            work -= end - first
            finished = node == (query.target if forward else query.sender)
            if not finished and known_forward + known_backward < best:
                for pair in range(first, end):
                    other = space.pair_source[pair]
                    source = node if forward else other
                    known = source == query.sender or memory.node_group[source] != NOBODY
                    step = tried if known else untried
                    there = here + step
                    if there < loss[other, side]:
                        if loss[other, side] == NO_WAY:
                            reached[side, reached[side, -1]] = other
                            reached[side, -1] += 1
                            work += space.start[other + 1] - space.start[other]
                        loss[other, side] = there
                        if node == query.sender:
                            space.own_pair[other] = space.pair_back[pair]
                        waiting = _push(heap[side], waiting, (there << _NODE_BITS) | int(other))
                        best = min(best, there + loss[other, 1 - side])
        if forward:
            waiting_forward = waiting
            work_forward += work
            if waiting == 0:
                known_forward = NO_WAY
        else:
            waiting_backward = waiting
            work_backward += work
            if waiting == 0:
                known_backward = NO_WAY
    if best > limit:
        return Bounds(HOPELESS, 0.0, 0, 0, 0)
    scale = query.cost / space.kept[best]
    last = LOSSES - 1
    return Bounds(DIRECTED, scale, best, min(known_forward, last), min(known_backward, last))


@inlined
def clear_losses(space: SearchSpace) -> None:
    """Forget all losses."""
    for side in range(2):
        for index in range(space.reached[side, -1]):
            node = space.reached[side, index]
            space.loss[node, side] = NO_WAY
            space.own_pair[node] = NOBODY
        space.reached[side, -1] = 0


@inlined
def _push(heap: Int64Array, waiting: int, entry: int) -> int:
    index = waiting
    while index > 0:
        parent = (index - 1) >> 1
        if heap[parent] <= entry:
            break
        heap[index] = heap[parent]
        index = parent
    heap[index] = entry
    return waiting + 1


@inlined
def _pop(heap: Int64Array, waiting: int) -> int:
    waiting -= 1
    entry = heap[waiting]
    index = 0
    while True:
        child = 2 * index + 1
        if child >= waiting:
            break
        if child + 1 < waiting and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[index] = heap[child]
        index = child
    heap[index] = entry
    return waiting
