"""The twin as a world: views and decisions for any actor, arrays for those that learn."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lnagents.env.fees import FeeBounds
from lnagents.env.kernels import COUNT_COLUMNS, BoolArray, agent_channels, count_payments
from lnagents.env.payments import RoundPayments
from lnagents.env.routes import RouteCandidate
from lnagents.env.twin_candidates import find_candidates
from lnagents.env.twin_rounds import TwinRounds
from lnagents.env.twin_views import TwinViews, changed_policy, key_of, policy_of
from lnagents.env.world import (
    ChannelTruth,
    RoundPayment,
)
from lnagents.model.payment import PaymentOutcome, Route
from lnagents.model.topology import Profile, Topology
from lnagents.model.units import NodeKey, ShortChannelId
from lnagents.model.view import NodeDecision, NodeView
from lnagents.model.workload import PaymentIntent
from lnagents.twin.directions import BY_HOP, BY_LND, BY_ROUTE, Directions
from lnagents.twin.loaders import from_topology
from lnagents.twin.network import FloatArray, Int64Array, Network
from lnagents.twin.settings import GossipSettings, LatencySettings, TwinSettings
from lnagents.twin.simulator import Snapshot, Twin
from lnagents.twin.traffic import (
    ERROR,
    INCORRECT_PAYMENT_DETAILS,
    INSUFFICIENT_BALANCE,
    NO_ROUTE,
    SETTLED,
    TIMEOUT,
    UNRESOLVED,
    Outcomes,
)

REASONS = {
    SETTLED: "",
    TIMEOUT: "timeout",
    NO_ROUTE: "no_route",
    ERROR: "error",
    INCORRECT_PAYMENT_DETAILS: "incorrect_payment_details",
    INSUFFICIENT_BALANCE: "insufficient_balance",
    UNRESOLVED: "unresolved",
}
"""`PaymentOutcome.reason`, as LND's `PaymentFailureReason` names them."""


@dataclass(frozen=True, slots=True)
class TwinTimes:
    """How a round's virtual time is spent, in seconds.

    Raises:
        ValueError: a time is negative.
    """

    hear: float = 1.0
    """Between the agents' decisions and the first payments: the fast profile's gossip is through
    then, and the next decisions are not within the same second, which gossip would drop."""
    pay: float = 10.0
    """In which payments begin."""
    answer: float = 10.0
    """After that; payments that have no answer then count as unresolved."""

    def __post_init__(self) -> None:
        if min(self.hear, self.pay, self.answer) < 0.0:
            raise ValueError("times must not be negative")

    @property
    def whole(self) -> float:
        """Of one round."""
        return self.hear + self.pay + self.answer


@dataclass(frozen=True, slots=True, eq=False)
class _WorldSnapshot:
    twin: Snapshot
    number: int
    counts: Int64Array
    preferences: FloatArray
    reserved: FloatArray
    down: BoolArray


class TwinWorld:
    """A `World` on a `Twin`, and an `ArrayWorld`. Not thread-safe, as the twin itself."""

    def __init__(
        self,
        network: Network,
        agents: Sequence[str],
        *,
        settings: TwinSettings | None = None,
        times: TwinTimes | None = None,
        seed: int = 0,
    ) -> None:
        """A world on `network` as it is.

        Args:
            network: where each episode begins.
            agents: names of the nodes that agents decide for.
            settings: of the twin.
            times: of a round.
            seed: until the first `reset`.

        Raises:
            ValueError: the network has no such node, or there are no agents.
        """
        places = {name: place for place, name in enumerate(network.names)}
        unknown = [name for name in agents if name not in places]
        if unknown:
            raise ValueError(f"the network has no node {unknown[0]!r}")
        if not agents or len(set(agents)) < len(agents):
            raise ValueError("agents: each must be named once, and there must be one")
        self.network = network
        self.times = times or TwinTimes()
        self._settings = settings or TwinSettings()
        self._keys = tuple(key_of(name) for name in network.names)
        self._places = places
        self._agents = {name: self._keys[places[name]] for name in agents}
        self._place_of_key = {key: place for place, key in enumerate(self._keys)}
        self.book = agent_channels(network, np.array([places[name] for name in agents], np.int32))
        self.found: Int64Array = network.policy[self.book.edge]
        """[own edges, POLICY_COLUMNS], what the agents found."""
        self.counts = np.zeros((len(agents), COUNT_COLUMNS), np.int64)
        """Of the last round."""
        self._edges = {int(scid): channel << 1 for channel, scid in enumerate(network.scids)}
        self.preferences = np.zeros(2 * network.channels)
        """[edges], `ChannelDecision.preference`."""
        self.reserved = np.zeros(2 * network.channels)
        """[edges], `ChannelDecision.reserved_share`."""
        self.down = np.zeros(network.nodes, np.bool_)
        """[nodes], who is off."""
        self._number = 0
        self._views = TwinViews(network, self._keys)
        self.twin = Twin(network, self._settings, seed=seed)
        self.set_routing()

    @classmethod
    def of_topology(cls, topology: Topology, *, times: TwinTimes | None = None) -> TwinWorld:
        """The twin of what the testbed builds from `topology`: its agents, gossip and latency.

        Raises:
            ValueError: no node has an agent.
        """
        fast = topology.profile is Profile.FAST
        settings = TwinSettings(
            gossip=GossipSettings() if fast else GossipSettings.mainnet(),
            latency=LatencySettings.testbed(),
        )
        agents = [node.name for node in topology.nodes if node.agent]
        return cls(from_topology(topology), agents, settings=settings, times=times)

    # ---- What it consists of

    @property
    def agents(self) -> Mapping[str, NodeKey]:
        """See `World.agents`."""
        return self._agents

    @property
    def nodes(self) -> Mapping[str, NodeKey]:
        """See `World.nodes`; in the network's order."""
        return dict(zip(self.network.names, self._keys, strict=True))

    @property
    def round_seconds(self) -> float:
        """See `World.round_seconds`: the time in which payments begin."""
        return self.times.pay

    @property
    def max_channels(self) -> int:
        """See `World.max_channels`."""
        return int(np.diff(self.book.first).max())

    def rounds(self, bounds: FeeBounds) -> TwinRounds:
        """See `ArrayWorld.rounds`."""
        return TwinRounds(self, bounds)

    # ---- Rounds

    def reset(self, seed: int) -> None:
        """See `World.reset`."""
        self.twin = Twin(self.network, self._settings, seed=seed)
        self.counts[:] = 0
        self.preferences[:] = 0.0
        self.reserved[:] = 0.0
        self.down[:] = False
        self._number = 0
        self.set_routing()

    def set_nodes_down(self, names: Iterable[str]) -> None:
        """From now on exactly these nodes are off, for as long as nothing else is said.

        Raises:
            KeyError: there is no such node.
        """
        places = [self._places[name] for name in names]
        self.down[:] = False
        self.down[places] = True
        self.twin.set_nodes_down(places)

    def observe(self) -> dict[NodeKey, NodeView]:
        """See `World.observe`."""
        return self.views_of(self._place_of_key)

    def views_of(self, agents: Container[NodeKey]) -> dict[NodeKey, NodeView]:
        """What only these agents see, in less time."""
        return self._views.views(
            self.twin, self.book, self.down, self.found, self.counts, self._number, agents
        )

    def apply(self, decisions: Mapping[NodeKey, NodeDecision]) -> None:
        """See `World.apply`; gossip travels in the first seconds of the round that follows."""
        edges, policies, routing = [], [], False
        current = self.twin.policies()
        for key, decision in decisions.items():
            for scid, one in decision.channels.items():
                edge = self._own_edge(key, scid)
                if self.down[self.book.source[edge]] or self.down[self.book.source[edge ^ 1]]:
                    continue
                row = changed_policy(current[edge], one)
                if not np.array_equal(row, current[edge]):
                    edges.append(edge)
                    policies.append(row)
                if one.preference is not None:
                    self.preferences[edge] = one.preference
                    routing = True
                if one.reserved_share is not None:
                    self.reserved[edge] = one.reserved_share
                    routing = True
        if edges:
            self.twin.set_policies(np.array(edges, np.int64), np.array(policies, np.int64))
        if routing:
            self.set_routing()

    def _own_edge(self, key: NodeKey, scid: ShortChannelId) -> int:
        place = self._place_of_key.get(key, -1)
        if place < 0 or self.book.agent_of[place] < 0:
            raise ValueError(f"{key} is no agent")
        edge = self._edges.get(scid)
        if edge is None or place not in self.book.source[edge : edge + 2]:
            raise ValueError(f"{key} has no channel {scid}")
        return edge if self.book.source[edge] == place else edge + 1

    def set_routing(self) -> None:
        """Carry out the preferences and shares as they are now."""
        self.twin.set_preferences(self.book.node, self.preferences)
        self.twin.set_admission(self.reserved)

    def run(self, payments: Sequence[RoundPayment]) -> list[PaymentOutcome]:
        """See `World.run`."""
        chosen = RoundPayments.of(payments, tuple(self.network.names))
        outcomes = self.run_arrays(chosen)
        return [
            PaymentOutcome(
                index=payment.intent.index,
                source=payment.intent.source,
                destination=payment.intent.destination,
                amount_msat=payment.intent.amount_msat,
                settled=bool(outcomes.reason[index] == SETTLED),
                fee_msat=int(outcomes.fee[index]),
                attempts=int(outcomes.attempts[index]),
                failed_attempts=int(outcomes.failed_attempts[index]),
                started_at=payment.intent.at_seconds,
                seconds=float(outcomes.seconds[index]),
                reason=REASONS[int(outcomes.reason[index])],
            )
            for index, payment in enumerate(payments)
        ]

    def run_arrays(self, payments: RoundPayments) -> Outcomes:
        """The same for payments as arrays; one element of the outcomes per payment."""
        twin, times = self.twin, self.times
        twin.flows[:] = 0
        traffic = payments.traffic(times.hear)
        outcomes = twin.run(traffic, directions=self._directions(payments), until=times.whole)
        count_payments(
            self.book.agent_of,
            traffic.source,
            outcomes.reason,
            outcomes.fee,
            outcomes.failed_attempts,
            self.counts,
        )
        self._number += 1
        return outcomes

    def _directions(self, payments: RoundPayments) -> Directions | None:
        """Who routes which payment; None: LND does, and none has priority."""
        if not payments.special:
            return None
        mode = np.where(payments.hop_by_hop != 0, BY_HOP, BY_LND).astype(np.int8)
        routes: list[Sequence[int]] = [()] * len(payments)
        for position, route in payments.routes.items():
            mode[position] = BY_ROUTE
            routes[position] = self._route_edges(int(payments.source[position]), route)
        return Directions.of(len(payments), mode=mode, priority=payments.priority, routes=routes)

    def _route_edges(self, node: int, route: Route) -> list[int]:
        edges = []
        for hop in route.hops:
            edge = self._edges.get(hop.scid)
            if edge is None or node not in self.book.source[edge : edge + 2]:
                raise ValueError(f"channel {hop.scid} does not continue the route")
            edges.append(edge if self.book.source[edge] == node else edge + 1)
            node = int(self.book.source[edges[-1] ^ 1])
        return edges

    def candidates(
        self, intents: Sequence[PaymentIntent], limit: int
    ) -> list[tuple[RouteCandidate, ...]]:
        """See `World.candidates`."""
        return [
            find_candidates(
                self.twin,
                self._keys,
                self._places[intent.source],
                self._places[intent.destination],
                intent.amount_msat,
                intent.fee_limit_msat,
                limit,
            )
            for intent in intents
        ]

    def truth(self) -> tuple[ChannelTruth, ...]:
        """See `World.truth`."""
        reported, policies = self.twin.reported_balances().tolist(), self.twin.policies().tolist()
        channels = []
        for channel, (scid, ends, capacity) in enumerate(
            zip(self.network.scids, self.network.channel_nodes, self.network.capacity, strict=True)
        ):
            keys = [self._keys[end] for end in ends]
            one, other = 2 * channel, 2 * channel + 1
            if keys[0] > keys[1]:
                one, other = other, one
            channels.append(
                ChannelTruth(
                    scid=int(scid),
                    node1=min(keys),
                    node2=max(keys),
                    capacity_msat=int(capacity),
                    balance1_msat=reported[one],
                    balance2_msat=reported[other],
                    policy1=policy_of(policies[one]),
                    policy2=policy_of(policies[other]),
                )
            )
        return tuple(channels)

    # ---- States

    def snapshot(self) -> object:
        """See `World.snapshot`."""
        return _WorldSnapshot(
            self.twin.snapshot(),
            self._number,
            self.counts.copy(),
            self.preferences.copy(),
            self.reserved.copy(),
            self.down.copy(),
        )

    def restore(self, snapshot: object) -> None:
        """See `World.restore`.

        Raises:
            TypeError: a twin's world did not make it.
        """
        if not isinstance(snapshot, _WorldSnapshot):
            raise TypeError("not a snapshot of a twin's world")
        self.twin.restore(snapshot.twin)
        self._number = snapshot.number
        self.counts[:] = snapshot.counts
        self.preferences[:] = snapshot.preferences
        self.reserved[:] = snapshot.reserved
        self.down[:] = snapshot.down

    def close(self) -> None:
        """See `World.close`; there is nothing to end."""
