"""What route searches work on: the graph as seen from targets, and room for labels and a route.

LND searches backwards, from the receiver to the sender, so that fees are known when a hop is added.
So the graph lies here node by node as its incoming pairs: (source, one of the edges from there).
Further edges of the same pair are found through the ring `Liquidity.parallel`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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


class SearchSpace(NamedTuple):
    """The graph and the working memory of one thread's searches."""

    start: Int32Array
    """[nodes + 1]; node n has the incoming pairs `start[n]` to `start[n + 1]`."""
    pair_source: Int32Array
    """[pairs], the node from which the pair's edges come."""
    pair_edge: Int32Array
    """[pairs], the first of its edges."""
    edge_target: Int32Array
    """[edges], the node that each edge leads to."""
    capacity: Int64Array
    """[channels], msat."""
    down: NDArray[np.bool_]
    """[nodes], which nodes are off: nobody has an active channel with them. The engine's."""
    distance: Int64Array
    """[nodes], weight and the cost of likely failures, msat; `UNREACHED` between searches."""
    probability: FloatArray
    """[nodes], of success from here on."""
    label: Int64Array
    """[nodes, LABEL_COLUMNS]; valid where `distance` is."""
    place: Int32Array
    """[nodes], where in the heap a node is; -1: nowhere."""
    heap: Int32Array
    """[nodes], the nodes to expand, nearest first."""
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
    start = np.zeros(nodes + 1, dtype=np.int32)
    np.cumsum(np.bincount(target[pair_edge], minlength=nodes), out=start[1:])
    return SearchSpace(
        start=start,
        pair_source=source[pair_edge].astype(np.int32),
        pair_edge=pair_edge.astype(np.int32),
        edge_target=target,
        capacity=network.capacity.copy(),
        down=np.zeros(nodes, dtype=np.bool_),
        distance=np.full(nodes, UNREACHED, dtype=np.int64),
        probability=np.zeros(nodes),
        label=np.zeros((nodes, LABEL_COLUMNS), dtype=np.int64),
        place=np.full(nodes, -1, dtype=np.int32),
        heap=np.zeros(nodes, dtype=np.int32),
        touched=np.zeros(nodes + 1, dtype=np.int32),
        route_edge=np.zeros(MAX_HOPS, dtype=np.int32),
        route_amount=np.zeros(MAX_HOPS, dtype=np.int64),
        route_expiry=np.zeros(MAX_HOPS, dtype=np.int32),
        route_probability=np.zeros(1),
        report=np.zeros(REPORT_ELEMENTS, dtype=np.int64),
    )
