"""All agents of a live network in one process: what `LiveWorld` does, asynchronously."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lnagents.env.live.candidates import find_candidates
from lnagents.env.live.forwarding import Community, Forwarder
from lnagents.env.live.node import (
    DOWN,
    QUIET_SECONDS,
    Ledger,
    LiveNode,
    change_policy,
    wait_quiet,
    within,
)
from lnagents.env.live.payments import Payments
from lnagents.env.live.restore import Beginning, pay_back
from lnagents.env.local_view import own_policy
from lnagents.env.routes import RouteCandidate
from lnagents.env.world import ChannelTruth, RoundPayment
from lnagents.model.errors import LndError, NotFoundError, SettleTimeoutError
from lnagents.model.graph import ChannelPolicy, LocalChannel
from lnagents.model.payment import PaymentOutcome
from lnagents.model.topology import Profile
from lnagents.model.units import NodeKey, PaymentHash, ShortChannelId
from lnagents.model.view import ChannelDecision, ChannelFlow, NodeDecision, NodeView
from lnagents.model.workload import PaymentIntent
from lnagents.testbed import Testbed
from lnagents.testbed.gossip import Network, wait_gossip
from lnagents.testbed.settings import GRAPH_CACHE_SECONDS
from lnagents.testbed.snapshot import START_STATE
from lnagents.testbed.together import together

GOSSIP_SECONDS = 5.0
"""How long a round waits for gossip; on a healthy network with quick gossip it takes 0.1 s."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """What a snapshot keeps of one agent."""

    ledger: Ledger
    passed: Mapping[ShortChannelId, ChannelFlow]
    found: Mapping[ShortChannelId, ChannelPolicy]
    preferences: Mapping[ShortChannelId, float]
    reserved: Mapping[ShortChannelId, float]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A live world between two rounds."""

    name: str
    """Of the testbed's own snapshot."""
    round: int
    time: float
    agents: Mapping[str, _Memory]


class LiveNetwork:
    """A testbed, played round by round."""

    def __init__(self, testbed: Testbed, agents: Sequence[str], *, owned: bool) -> None:
        """Made in the loop that uses it; `owned` networks end with `close`.

        Raises:
            ValueError: an agent is no node of the network.
        """
        unknown = set(agents) - set(testbed.nodes)
        if unknown:
            raise ValueError(f"no node {min(unknown)!r} in testbed {testbed.name!r}")
        self.testbed = testbed
        self.nodes = {
            name: LiveNode(name, node.key, testbed.client(name))
            for name, node in testbed.nodes.items()
        }
        self.agents = {name: node for name, node in self.nodes.items() if name in set(agents)}
        self.beginning = Beginning({}, {})
        self._owned = owned
        self._by_key = {node.key: node for node in self.agents.values()}
        self._choosing: set[NodeKey] = set()
        self._priority: set[PaymentHash] = set()
        community = Community(self._choosing, self._priority)
        self._forwarders = {name: Forwarder(node, community) for name, node in self.agents.items()}
        self._round = 0
        self._time = 0.0
        self._snapshots = 0

    async def open(self) -> None:
        """Begin to watch; a network that was used before goes back to its beginning first.

        Raises:
            LnagentsError: the network is not what it should be.
        """
        if self._owned:
            await self._watch()
        else:
            await self._put_back(START_STATE)
        await together(node.look() for node in self.nodes.values())
        self.beginning = Beginning.of(list(self.nodes.values()))
        await self._begin_episode()

    async def close(self) -> None:
        """Leave the network; take it down if it is owned."""
        try:
            await self._leave()
            for number in range(self._snapshots):
                await self.testbed.discard_snapshot(_snapshot_name(number))
        finally:
            await (self.testbed.down() if self._owned else self.testbed.close())

    async def _watch(self) -> None:
        await together(node.watch() for node in self.agents.values())

    async def _leave(self) -> None:
        await together(forwarder.stop() for forwarder in self._forwarders.values())
        await together(node.leave() for node in self.agents.values())

    async def _put_back(self, name: str) -> None:
        """Go back to a snapshot of the testbed."""
        await self._leave()
        await self.testbed.reset(name)
        await self._watch()

    # ---- Episodes

    async def reset(self) -> None:
        """See `World.reset`.

        Raises:
            LnagentsError: the network did not come back.
        """
        await together(forwarder.stop() for forwarder in self._forwarders.values())
        nodes = list(self.nodes.values())
        # With slow gossip the old policies would take minutes to arrive everywhere again.
        quick = self.testbed.topology.profile is Profile.FAST
        if quick and await pay_back(self.beginning, nodes):
            await self._wait_gossip()
        else:
            await self._put_back(START_STATE)
        await self._begin_episode()

    async def _begin_episode(self) -> None:
        self._priority.clear()
        for forwarder in self._forwarders.values():
            forwarder.preferences.clear()
            forwarder.reserved.clear()
        await together(node.begin_episode() for node in self.agents.values())
        self._round, self._time = 0, time.time()

    async def snapshot(self) -> Snapshot:
        """See `World.snapshot`."""
        name = _snapshot_name(self._snapshots)
        self._snapshots += 1
        await self.testbed.snapshot(name, with_books=False)
        agents = {
            agent: _Memory(
                node.ledger,
                node.passed,
                dict(node.found),
                dict(self._forwarders[agent].preferences),
                dict(self._forwarders[agent].reserved),
            )
            for agent, node in self.agents.items()
        }
        return Snapshot(name, self._round, self._time, agents)

    async def restore(self, snapshot: Snapshot) -> None:
        """See `World.restore`."""
        await self._put_back(snapshot.name)
        await self._begin_episode()
        self._round, self._time = snapshot.round, snapshot.time
        for agent, memory in snapshot.agents.items():
            node, forwarder = self.agents[agent], self._forwarders[agent]
            node.ledger, node.passed, node.found = memory.ledger, memory.passed, dict(memory.found)
            forwarder.preferences.update(memory.preferences)
            forwarder.reserved.update(memory.reserved)

    # ---- Rounds

    async def observe(self) -> dict[NodeKey, NodeView]:
        """See `World.observe`."""
        await together(node.look() for node in self.agents.values())
        return {node.key: node.view(self._round, self._time) for node in self.agents.values()}

    async def apply(self, decisions: Mapping[NodeKey, NodeDecision]) -> None:
        """See `World.apply`.

        Raises:
            ValueError: a decision is about what the agent has not got.
            InvalidRequestError: a node refuses a policy.
        """
        changes = []
        for key, decision in decisions.items():
            node = self._by_key.get(key)
            if node is None:
                raise ValueError(f"{key} is not the key of an agent")
            for scid, change in decision.channels.items():
                channel = self.beginning.channels.get((node.name, scid))
                if channel is None:
                    raise ValueError(f"{node.name} has no channel {scid}")
                changes.append((node, channel, change))
        await together(self._change(*change) for change in changes)
        # What a node says of the graph may be this old, also to the barrier.
        await asyncio.sleep(GRAPH_CACHE_SECONDS)
        await self._wait_gossip()

    async def _change(
        self, node: LiveNode, channel: LocalChannel, decision: ChannelDecision
    ) -> None:
        forwarder = self._forwarders[node.name]
        if decision.preference is not None:
            forwarder.preferences[channel.scid] = decision.preference
        if decision.reserved_share is not None:
            forwarder.reserved[channel.scid] = decision.reserved_share
        fees = {
            name: getattr(decision, name)
            for name in (
                "fee_rate_ppm",
                "base_fee_msat",
                "inbound_fee_rate_ppm",
                "max_htlc_msat",
            )
        }
        wanted = {name: value for name, value in fees.items() if value is not None}
        if wanted:
            with contextlib.suppress(NotFoundError, *DOWN):
                await change_policy(node, channel, lambda policy: replace(policy, **wanted))

    async def candidates(
        self, intents: Sequence[PaymentIntent], limit: int
    ) -> list[tuple[RouteCandidate, ...]]:
        """See `World.candidates`."""
        payers = {intent.source for intent in intents}
        await together(self.nodes[name].look() for name in payers)
        return await together(
            find_candidates(
                self.nodes[intent.source],
                self.nodes[intent.destination].key,
                intent.amount_msat,
                intent.fee_limit_msat,
                limit,
            )
            for intent in intents
        )

    async def run(
        self, payments: Sequence[RoundPayment], round_seconds: float, overtime_seconds: float
    ) -> list[PaymentOutcome]:
        """See `World.run`."""
        for payment in payments:
            for name in (payment.intent.source, payment.intent.destination):
                if name not in self.nodes:
                    raise ValueError(f"no node {name!r} in testbed {self.testbed.name!r}")
        ends = time.monotonic() + round_seconds
        await self._reconnect()
        await self._prepare_forwarders(any(payment.hop_by_hop for payment in payments))
        makers = Payments(self.nodes, self._forwarders, frozenset(self._choosing), self._priority)
        outcomes = await makers.make(payments, round_seconds + overtime_seconds)
        await asyncio.sleep(max(0.0, ends - time.monotonic()))
        await wait_quiet(list(self.nodes.values()), QUIET_SECONDS)
        for node in self.agents.values():
            node.ledger = Ledger()
        for outcome in outcomes:
            payer = self.nodes[outcome.source]
            payer.ledger = payer.ledger.after(outcome)
        await together(node.end_round() for node in self.agents.values())
        self._round, self._time = self._round + 1, time.time()
        return outcomes

    async def _reconnect(self) -> None:
        """Bring nodes together again of which one was away.

        Left alone, LND may take minutes: both ends dial at once, it drops one of the connections,
        and waits ever longer before it tries again.
        """
        by_key = {node.key: node for node in self.nodes.values()}
        apart = {
            frozenset((node.name, by_key[channel.peer].name))
            for node in self.nodes.values()
            for channel in node.known
            if not channel.active and node.up and by_key[channel.peer].up
        }

        async def connect(one: str, other: str) -> None:
            target = self.testbed.nodes[other]
            with contextlib.suppress(LndError):
                await within(self.nodes[one].client.connect_peer(target.key, target.peer_address))

        await together(connect(*sorted(pair)) for pair in apart)

    async def _prepare_forwarders(self, hop_by_hop: bool) -> None:
        """Let agents decide on forwards where there is something to decide, and only there."""
        running = []
        for name, forwarder in self._forwarders.items():
            needed = hop_by_hop or any(share > 0.0 for share in forwarder.reserved.values())
            if needed and self.nodes[name].up:
                running.append(forwarder.start())
            elif not needed:
                running.append(forwarder.stop())
        await together(running)
        self._choosing.clear()
        self._choosing.update(
            self.nodes[name].key
            for name, forwarder in self._forwarders.items()
            if forwarder.running
        )

    async def truth(self) -> tuple[ChannelTruth, ...]:
        """See `World.truth`."""
        await together(node.look() for node in self.nodes.values())
        ends: dict[ShortChannelId, dict[NodeKey, tuple[LocalChannel, ChannelPolicy]]] = {}
        for node in self.nodes.values():
            for channel in node.known:
                policy = own_policy(node.graph.channels.get(channel.scid), node.key)
                told = channel, policy or ChannelPolicy()
                ends.setdefault(channel.scid, {})[node.key] = told
        truths = []
        for scid, told_by in sorted(ends.items()):
            (key1, (channel1, policy1)), (key2, (channel2, policy2)) = sorted(told_by.items())
            truths.append(
                ChannelTruth(
                    scid=scid,
                    node1=key1,
                    node2=key2,
                    capacity_msat=channel1.capacity_msat,
                    balance1_msat=channel1.local_balance_msat,
                    balance2_msat=channel2.local_balance_msat,
                    policy1=policy1,
                    policy2=policy2,
                )
            )
        return tuple(truths)

    # ---- Waiting

    async def _wait_gossip(self) -> None:
        """Wait until the nodes that are up know of each other's policies, as long as that pays."""
        if self.testbed.topology.profile is not Profile.FAST:
            return  # it takes longer than a round, and that is what the profile is for
        up = {name: node for name, node in self.nodes.items() if node.up}
        network = Network(
            clients={name: node.client for name, node in up.items()},
            keys={name: node.key for name, node in up.items()},
            profile=self.testbed.topology.profile,
        )
        with contextlib.suppress(SettleTimeoutError, LndError):
            await wait_gossip(network, timeout=GOSSIP_SECONDS)


def _snapshot_name(number: int) -> str:
    return f"world-{number}"
