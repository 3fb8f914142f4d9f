"""What route searches work on: the graph as seen from targets, and room for labels and a route.

LND searches backwards, from the receiver to the sender, so that fees are known when a hop is added.
So the graph lies here node by node as its incoming pairs: (source, one of the edges from there).
Further edges of the same pair are found through the ring `Liquidity.parallel`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lnagents.model.kernel import inlined
from lnagents.twin.network import FloatArray, Int32Array, Int64Array, Network

MAX_HOPS = 27
"""Longest route that fits an onion packet (`NumMaxHops` in lightning-onion's path.go)."""
UNREACHED = np.iinfo(np.int64).max
"""Distance of a node without label (`infinity` in LND's routing/pathfind.go)."""

# Columns of `SearchSpace.label`: the best way known from a node to the target. LND's names
# (`nodeWithDist` in routing/heap.go) stand in brackets.
WEIGHT = 0
"""Fees and the cost of time locks, msat [weight]."""
RECEIVED = 1
"""What the node must receive, less its inbound fee, msat [netAmountReceived]."""
OUT_FEE = 2
"""What the node charges for sending on, msat [outboundFee]."""
EXPIRY = 3
"""Block height at which the HTLC that the node receives expires [incomingCltv]."""
SIZE = 4
"""Bytes of the onion from this node on [routingInfoSize]."""
EDGE = 5
"""The next edge [nextHop]."""
AMOUNT = 6
"""What is sent over it, msat."""
TIED = 7
"""1: another way is as good, and LND's choice depends on the order of its hash maps."""
LABEL_COLUMNS = 8

# Elements of `SearchSpace.report`.
TIES = 0
"""1: LND could as well have found another route at the same cost."""
EXPANDED = 1
"""Nodes whose incoming pairs were looked at."""
EVALUATED = 2
"""Pairs whose cost was computed."""
REPORT_ELEMENTS = 3


UNIT = -math.log(0.6) / 20
"""One unit of loss: probabilities as integers, -ln(p) / UNIT rounded down. So LND's guess for
untried channels is 20 units exactly, and a channel known to work 2."""
LOSSES = 1_024
NO_WAY = 1 << 20
"""The loss of a node that was not reached."""


class SearchSpace(NamedTuple):
    """The graph and the working memory of one thread's searches."""

    start: Int32Array
    """[nodes + 1]; node n has the incoming pairs `start[n]` to `start[n + 1]`."""
    pair_source: Int32Array
    """[pairs], the node from which the pair's edges come."""
    pair_edge: Int32Array
    """[pairs], the first of its edges."""
    pair_back: Int32Array
    """[pairs], the pair of the same two nodes in the other direction."""
    edge_target: Int32Array
    """[edges], the node that each edge leads to."""
    capacity: Int64Array
    """[channels], msat."""
    down: NDArray[np.bool_]
    """[nodes], which nodes are off: nobody has an active channel with them. The engine's."""
    distance: Int64Array
    """[nodes], weight and the cost of likely failures, msat; `UNREACHED` between searches."""
    probability: FloatArray
    """[nodes + 1], of success from here on; like `label`."""
    label: Int64Array
    """[nodes + 1, LABEL_COLUMNS]; valid where `distance` is. The last row is where a search starts:
    the receiver's own row stays free, for payments in a circle."""
    own_pair: Int32Array
    """[nodes], the pair of the sender and a node, -1 if there is none."""
    final: NDArray[np.bool_]
    """[nodes], whether a directed search takes a node's label for final."""
    keys: FloatArray
    """[2 * pairs + 1], heap of the nodes to expand, by what a route through them costs, msat."""
    queue: Int32Array
    """[2 * pairs + 1], the nodes that belong to `keys`."""
    estimate: FloatArray
    """[nodes], the key of each node's label."""
    loss: Int32Array
    """[nodes, 2], least loss from the sender and to the receiver; see `lnagents.twin.bounds`."""
    loss_heap: Int64Array
    """[2, pairs + 1], the nodes to expand from either side."""
    reached: Int32Array
    """[2, nodes + 1], which nodes have a loss, and as last element how many."""
    kept: FloatArray
    """[LOSSES], the probability that belongs to each loss."""
    touched: Int32Array
    """[nodes + 1], which nodes got a label, and as last element how many."""
    route_edge: Int32Array
    """[MAX_HOPS], the route that was found, from the sender on."""
    route_amount: Int64Array
    """[MAX_HOPS], msat of the HTLC on each edge."""
    route_expiry: Int32Array
    """[MAX_HOPS], block height at which it expires."""
    route_probability: FloatArray
    """[1], of success of the whole route, as the sender sees it."""
    report: Int64Array
    """[REPORT_ELEMENTS], about the last search."""


def make_search_space(network: Network) -> SearchSpace:
    """Room for searches in `network`; nobody is down."""
    nodes = network.nodes
    source, target = network.edge_source(), network.edge_target()
    order = np.lexsort((np.arange(len(source)), source, target))
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (np.diff(source[order]) != 0) | (np.diff(target[order]) != 0)
    pair_edge = order[first]
    # A pair's edges follow each other in `order`.
    pair_of_edge = np.empty(len(order), dtype=np.int32)
    pair_of_edge[order] = np.cumsum(first) - 1
    start = np.zeros(nodes + 1, dtype=np.int32)
    np.cumsum(np.bincount(target[pair_edge], minlength=nodes), out=start[1:])
    pairs = len(pair_edge)
    return SearchSpace(
        start=start,
        pair_source=source[pair_edge].astype(np.int32),
        pair_edge=pair_edge.astype(np.int32),
        pair_back=pair_of_edge[pair_edge ^ 1].astype(np.int32),
        edge_target=target,
        capacity=network.capacity.copy(),
        down=np.zeros(nodes, dtype=np.bool_),
        distance=np.full(nodes, UNREACHED, dtype=np.int64),
        probability=np.ones(nodes + 1),
        label=np.zeros((nodes + 1, LABEL_COLUMNS), dtype=np.int64),
        own_pair=np.full(nodes, -1, dtype=np.int32),
        final=np.zeros(nodes, dtype=np.bool_),
        keys=np.zeros(2 * pairs + 1),
        queue=np.zeros(2 * pairs + 1, dtype=np.int32),
        estimate=np.zeros(nodes),
        loss=np.full((nodes, 2), NO_WAY, dtype=np.int32),
        loss_heap=np.zeros((2, pairs + 1), dtype=np.int64),
        reached=np.zeros((2, nodes + 1), dtype=np.int32),
        kept=np.exp(-UNIT * np.arange(LOSSES)),
        touched=np.zeros(nodes + 1, dtype=np.int32),
        route_edge=np.zeros(MAX_HOPS, dtype=np.int32),
        route_amount=np.zeros(MAX_HOPS, dtype=np.int64),
        route_expiry=np.zeros(MAX_HOPS, dtype=np.int32),
        route_probability=np.zeros(1),
        report=np.zeros(REPORT_ELEMENTS, dtype=np.int64),
    )


@inlined
def push(keys: FloatArray, queue: Int32Array, waiting: int, key: float, node: int) -> int:
    """Add an entry to the heap; returns how many are in it.

    Raises:
        IndexError: it is full. A node may come back to it if another way over it is as short but
            more likely; not often enough to fill it.
    """
    if waiting >= len(keys):
        raise IndexError("a route search came back to the same nodes too often")
    index = waiting
    while index > 0:
        parent = (index - 1) >> 1
        if keys[parent] <= key:
            break
        keys[index] = keys[parent]
        queue[index] = queue[parent]
        index = parent
    keys[index] = key
    queue[index] = node
    return waiting + 1


@inlined
def pop(keys: FloatArray, queue: Int32Array, waiting: int) -> int:
    """Take the first entry off the heap; returns how many are left."""
    waiting -= 1
    key = keys[waiting]
    node = queue[waiting]
    index = 0
    while True:
        child = 2 * index + 1
        if child >= waiting:
            break
        if child + 1 < waiting and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[index] = keys[child]
        queue[index] = queue[child]
        index = child
    keys[index] = key
    queue[index] = node
    return waiting
