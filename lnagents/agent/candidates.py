"""Candidate routes for a payment, over the own node's view of the network.

The search is Dijkstra's over fees, time locks and attempt costs at the amount to be delivered; a
route that it finds is then priced exactly, hop by hop from the end, and checked against every
announced limit. Payments in parts, blinded paths and private channels beyond the own ones are not
sought.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import rustworkx

from lnagents.agent.liquidity import Estimate, Liquidity
from lnagents.env import AttemptCost, RouteCandidate, expected_cost_msat
from lnagents.model.graph import ChannelPolicy, Edge, LocalChannel, NetworkGraph, forwarding_fee
from lnagents.model.payment import Hop, Route
from lnagents.model.units import Msat, NodeKey, ShortChannelId

BLOCK_PADDING = 3
"""Blocks added to the receiver's expiry, as some may be mined on the way (LND's own padding)."""

MAX_TIME_LOCK_BLOCKS = 2_016
"""Longest total time lock (`routing.DefaultMaxOutgoingCltvExpiry`)."""

RISK_FACTOR_BILLIONTHS = 15
"""Cost of locking money up, per msat and block (`routing.RiskFactorBillionths`)."""

MAX_HOPS = 20
"""What fits into an onion of 1,300 bytes with some room (BOLT 4)."""

_VAIN_SEARCHES = 40
"""Best paths that may break a limit or be unlikely before a search gives up."""

MIN_PROBABILITY = 0.01
"""Hops and routes less likely than this are not used (`routerrpc.minrtprob`)."""

Admitted = Callable[[Edge, Msat], float]
"""How likely a pass of the sender's makes it that an edge takes an amount; 0 without one."""

_EXCLUDED = 1e18
"""Weight of an edge that must not be used; no sum of real ones comes near."""


@dataclass(frozen=True, slots=True)
class PathQuery:
    """What routes are sought for."""

    destination: NodeKey
    amount_msat: Msat
    max_fee_msat: Msat
    final_cltv_delta: int
    """Asked for by the receiver; padding is added here."""
    payment_addr: bytes = b""
    max_time_lock: int = MAX_TIME_LOCK_BLOCKS
    """Blocks from now until the first HTLC expires, at most."""
    max_hops: int = MAX_HOPS
    excluded: frozenset[NodeKey] = frozenset()
    """Nodes that are not to be passed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A route with what is believed of it, and the edges it takes."""

    candidate: RouteCandidate
    edges: tuple[tuple[Edge, Msat], ...]
    """Each edge and what it carries; the first is the own one."""
    estimates: tuple[Estimate, ...]
    """Of `edges`, in their order; the own one is certain."""

    @property
    def route(self) -> Route:
        """The route itself."""
        return self.candidate.route


def sendable_msat(channel: LocalChannel) -> Msat:
    """What LND lets out over an own channel now.

    The opener must keep enough to pay for a commitment transaction at twice the fee rate and with
    one output more (`lnwallet.CalcFeeBuffer`); once that fee is taken off the balance already.
    """
    buffer = channel.commit_fee_msat * 3 // 2 if channel.initiator else 0
    return max(0, channel.spendable_msat - buffer)


def build_route(
    edges: Sequence[Edge],
    amount_msat: Msat,
    *,
    final_expiry: int,
    incoming_policy: Callable[[Edge], ChannelPolicy | None],
    payment_addr: bytes = b"",
) -> Route:
    """Price `edges` exactly, from the last hop back (as `routing.newRoute` does).

    Args:
        edges: from the own node to the receiver; all but the first need a policy.
        amount_msat: what the receiver gets.
        final_expiry: absolute block height of the last HTLC.
        incoming_policy: what the *target* of an edge announced on that channel, for inbound fees.
        payment_addr: the invoice's payment secret.

    Raises:
        ValueError: an edge after the first has no policy.
    """
    carried, expiry, fee = amount_msat, final_expiry, 0
    hops: list[Hop] = []
    for index in range(len(edges) - 1, -1, -1):
        edge = edges[index]
        if index < len(edges) - 1:
            outgoing = edges[index + 1].policy
            if outgoing is None:
                raise ValueError(f"channel {edges[index + 1].scid} has no policy")
            fee = forwarding_fee(carried, outgoing, incoming_policy(edge))
            hops.append(Hop(edge.scid, edge.target, carried, fee, expiry))
            expiry += outgoing.time_lock_delta
            carried += fee
        else:
            hops.append(Hop(edge.scid, edge.target, carried, 0, expiry))
    return Route(tuple(reversed(hops)), carried, expiry, payment_addr, amount_msat)


@dataclass(slots=True)
class _Search:
    """One query's memory: weights are computed once."""

    query: PathQuery
    now: float
    admitted: Admitted | None
    weights: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Branch:
    """All paths that begin with `prefix` and do not go on with a forbidden edge."""

    prefix: tuple[int, ...]
    forbidden: frozenset[int]

    def without(self, best: list[int]) -> Iterator[_Branch]:
        """What is left of this branch without its best path, as branches that do not overlap.

        So each path is found once (Lawler's form of Yen's algorithm for the k shortest paths).
        """
        forbidden = self.forbidden
        for index in range(len(self.prefix), len(best)):
            yield _Branch(tuple(best[:index]), forbidden | {best[index]})
            forbidden = frozenset()


class RouteFinder:
    """Finds routes from one node; told of each change of the graph and of the own channels."""

    def __init__(
        self, own_key: NodeKey, liquidity: Liquidity, attempt_cost: AttemptCost | None = None
    ) -> None:
        self.own_key = own_key
        self.liquidity = liquidity
        self.attempt_cost = attempt_cost or AttemptCost()
        self._graph: rustworkx.PyDiGraph[NodeKey, int] = rustworkx.PyDiGraph(multigraph=True)
        self._nodes: dict[NodeKey, int] = {}
        self._edges: list[Edge] = []
        self._slots: dict[tuple[ShortChannelId, NodeKey], int] = {}
        self._local: dict[ShortChannelId, LocalChannel] = {}

    def load(self, graph: NetworkGraph) -> None:
        """Start afresh from a whole graph; the own channels are kept."""
        self._graph = rustworkx.PyDiGraph(multigraph=True)
        self._nodes.clear()
        self._edges.clear()
        self._slots.clear()
        for edge in graph.edges():
            self.set_edge(edge)
        self.set_local(self._local)

    def set_edge(self, edge: Edge) -> None:
        """Add an edge, or take over its new policy."""
        key = (edge.scid, edge.source)
        slot = self._slots.get(key)
        if slot is not None:
            if self._edges[slot].target:  # one that closed stays closed
                self._edges[slot] = edge
            return
        slot = len(self._edges)
        self._edges.append(edge)
        self._slots[key] = slot
        self._graph.add_edge(self._node(edge.source), self._node(edge.target), slot)

    def remove_channel(self, scid: ShortChannelId, ends: tuple[NodeKey, NodeKey]) -> None:
        """Forget a channel that was closed."""
        for source in ends:
            slot = self._slots.get((scid, source))
            if slot is not None:
                edge = self._edges[slot]
                self._edges[slot] = Edge(scid, edge.source, "", edge.capacity_msat, None)

    def set_local(self, channels: Mapping[ShortChannelId, LocalChannel]) -> None:
        """Take over the own channels, private ones included."""
        self._local = dict(channels)
        for channel in channels.values():
            if (channel.scid, self.own_key) not in self._slots:
                capacity = channel.capacity_msat
                self.set_edge(Edge(channel.scid, self.own_key, channel.peer, capacity, None))

    def edge(self, scid: ShortChannelId, source: NodeKey) -> Edge | None:
        """One edge as gossip shows it now."""
        slot = self._slots.get((scid, source))
        return None if slot is None or not self._edges[slot].target else self._edges[slot]

    def find(
        self,
        query: PathQuery,
        *,
        count: int,
        height: int,
        now: float,
        tried: Collection[tuple[ShortChannelId, ...]] = (),
        avoided: Collection[ShortChannelId] = (),
        admitted: Admitted | None = None,
    ) -> list[Candidate]:
        """Up to `count` different routes, the one of least expected cost first.

        Args:
            query: what is sought.
            count: how many.
            height: the current block.
            now: Unix seconds.
            tried: routes that are not wanted again, as `Route.scids`.
            avoided: own channels that must not be used.
            admitted: what passes change about the chances; None: there are none.
        """
        source = self._nodes.get(self.own_key)
        target = self._nodes.get(query.destination)
        if source is None or target is None or source == target:
            return []
        search = _Search(query, now, admitted)
        for scid in avoided:
            own = self._slots.get((scid, self.own_key))
            if own is not None:
                search.weights[own] = _EXCLUDED
        found: dict[tuple[ShortChannelId, ...], Candidate] = {}
        waiting: list[tuple[float, int, list[int], _Branch]] = []

        def ask(branch: _Branch) -> None:
            best = self._shortest(search, source, target, branch)
            if best is not None:
                heapq.heappush(waiting, (best[0], next(order), best[1], branch))

        order = itertools.count()
        ask(_Branch((), frozenset()))
        for _ in range(_VAIN_SEARCHES + len(tried) + count):
            if not waiting or len(found) == count:
                break
            _, _, slots, branch = heapq.heappop(waiting)
            stale = any(search.weights[slot] >= _EXCLUDED for slot in slots)
            candidate = None if stale else self._price(search, slots, height)
            if candidate is None:
                ask(branch)  # once more, without the edge that broke a limit
                continue
            wanted = (
                candidate.candidate.probability >= MIN_PROBABILITY
                and len(slots) <= query.max_hops
                and candidate.route.scids not in tried
            )
            if wanted:
                found[candidate.route.scids] = candidate
            for one in branch.without(slots):
                ask(one)
        return sorted(
            found.values(), key=lambda one: expected_cost_msat(one.candidate, self.attempt_cost)
        )

    def _node(self, key: NodeKey) -> int:
        index = self._nodes.get(key)
        if index is None:
            index = self._nodes[key] = self._graph.add_node(key)
        return index

    def _shortest(
        self, search: _Search, source: int, target: int, branch: _Branch
    ) -> tuple[float, list[int]] | None:
        """Weight and edges of the best path of `branch`."""
        known = search.weights
        passed = {self._edges[slot].source for slot in branch.prefix}
        if branch.prefix:
            source = self._nodes[self._edges[branch.prefix[-1]].target]

        def weight(slot: int) -> float:
            if slot in branch.forbidden:
                return _EXCLUDED
            cost = known.get(slot)
            if cost is None:
                cost = known[slot] = self._weight(search, self._edges[slot])
            return _EXCLUDED if passed and self._edges[slot].target in passed else cost

        paths = rustworkx.dijkstra_shortest_paths(self._graph, source, target, weight_fn=weight)
        if target not in paths:
            return None
        rest = [
            min(self._graph.get_all_edge_data(one, next_), key=weight)
            for one, next_ in itertools.pairwise(paths[target])
        ]
        total = sum(known[slot] for slot in branch.prefix) + sum(map(weight, rest))
        slots = [*branch.prefix, *rest]
        return None if total >= _EXCLUDED or len(slots) > MAX_HOPS else (total, slots)

    def _weight(self, search: _Search, edge: Edge) -> float:
        """Cost in msat of using `edge` for the amount to be delivered."""
        amount = search.query.amount_msat
        if not edge.target or edge.target == self.own_key or edge.target in search.query.excluded:
            return _EXCLUDED
        if edge.source == self.own_key:
            local = self._local.get(edge.scid)
            if local is None or not local.active or sendable_msat(local) < amount:
                return _EXCLUDED
            if edge.policy is not None and _too_large(edge.policy, amount):
                return _EXCLUDED
            cost = 0.0
        else:
            policy = edge.policy
            if policy is None or policy.disabled or edge.capacity_msat < amount:
                return _EXCLUDED
            if _too_large(policy, amount) or self.liquidity.refused(edge, search.now):
                return _EXCLUDED
            fee = policy.outbound_fee(amount)
            lock = amount * policy.time_lock_delta * RISK_FACTOR_BILLIONTHS / 1e9
            chance = self._estimate(search, edge, amount).probability
            if chance < MIN_PROBABILITY:
                return _EXCLUDED
            attempt = self.attempt_cost.of(amount) * -math.log(chance)
            cost = fee + lock + attempt
        if edge.target != search.query.destination:
            incoming = self._incoming_policy(edge)
            if incoming is not None:
                cost += incoming.inbound_fee(amount)
        return max(0.0, cost)

    def _estimate(self, search: _Search, edge: Edge, amount: Msat) -> Estimate:
        """What is believed of `edge`, or what a pass makes of it."""
        believed = self.liquidity.estimate(edge, amount, search.now)
        if search.admitted is None:
            return believed
        chance = max(believed.probability, search.admitted(edge, amount))
        return replace(believed, probability=chance)

    def _incoming_policy(self, edge: Edge) -> ChannelPolicy | None:
        reverse = self._slots.get((edge.scid, edge.target))
        return None if reverse is None else self._edges[reverse].policy

    def _price(self, search: _Search, slots: list[int], height: int) -> Candidate | None:
        """The exact route over `slots`; None, and an edge excluded, if it breaks a limit."""
        query = search.query
        edges = [self._edges[slot] for slot in slots]
        route = build_route(
            edges,
            query.amount_msat,
            final_expiry=height + query.final_cltv_delta + BLOCK_PADDING,
            incoming_policy=self._incoming_policy,
            payment_addr=query.payment_addr,
        )
        carried = [route.total_amount_msat, *(hop.amount_msat for hop in route.hops[:-1])]
        for slot, edge, amount in zip(slots, edges, carried, strict=True):
            if not self._fits(edge, amount):
                search.weights[slot] = _EXCLUDED
                return None
        too_long = route.total_time_lock - height > query.max_time_lock
        if route.fee_msat > query.max_fee_msat or too_long:
            # The edge that costs most is given up; the first costs nothing.
            costs = [0, *(hop.fee_msat for hop in route.hops[:-1])]
            dearest = max(range(len(costs)), key=lambda index: (costs[index], index))
            search.weights[slots[dearest]] = _EXCLUDED
            return None
        local = self._local[edges[0].scid]
        estimates = [Estimate(1.0, None, False)] + [
            self._estimate(search, edge, amount)
            for edge, amount in zip(edges[1:], carried[1:], strict=True)
        ]
        ages = [one.age_seconds for one in estimates if one.age_seconds is not None]
        candidate = RouteCandidate(
            route=route,
            probability=math.prod(one.probability for one in estimates),
            information_age_seconds=min(ages, default=None),
            hinted=any(one.hinted for one in estimates),
            local_share_after=max(0, local.local_balance_msat - route.total_amount_msat)
            / max(1, local.local_balance_msat + local.remote_balance_msat),
        )
        return Candidate(candidate, tuple(zip(edges, carried, strict=True)), tuple(estimates))

    def _fits(self, edge: Edge, amount: Msat) -> bool:
        if edge.source == self.own_key and sendable_msat(self._local[edge.scid]) < amount:
            return False
        policy = edge.policy
        if policy is None:
            return edge.source == self.own_key
        return (
            amount >= policy.min_htlc_msat
            and not _too_large(policy, amount)
            and amount <= edge.capacity_msat
        )


def _too_large(policy: ChannelPolicy, amount: Msat) -> bool:
    return policy.max_htlc_msat > 0 and amount > policy.max_htlc_msat
