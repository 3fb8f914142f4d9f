"""What one node of a twin can know, as the objects that actors take."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container

import numpy as np

from lnagents.env.kernels import (
    FAILED,
    FAILED_ATTEMPTS,
    FEES_PAID,
    SETTLED,
    AgentChannels,
    BoolArray,
)
from lnagents.env.local_view import competing_ppm
from lnagents.model.graph import Channel, ChannelPolicy, NetworkGraph
from lnagents.model.units import MSAT_PER_SAT, NodeKey, ShortChannelId
from lnagents.model.view import ChannelDecision, ChannelFlow, ChannelView, NodeView
from lnagents.twin.network import (
    BASE_FEE,
    DISABLED,
    FEE_RATE,
    INBOUND_BASE_FEE,
    INBOUND_FEE_RATE,
    MAX_HTLC,
    MIN_HTLC,
    TIME_LOCK_DELTA,
    Int64Array,
    Network,
)
from lnagents.twin.simulator import Twin

_KEY = re.compile(r"0[23][0-9a-f]{64}")


def key_of(name: str) -> NodeKey:
    """The key of a twin's node: its name, if that is a key, else one that only looks like one."""
    return name if _KEY.fullmatch(name) else "02" + hashlib.sha256(name.encode()).hexdigest()


def policy_of(row: Int64Array | list[int]) -> ChannelPolicy:
    """The policy in a row of `Network.policy`."""
    return ChannelPolicy(
        base_fee_msat=int(row[BASE_FEE]),
        fee_rate_ppm=int(row[FEE_RATE]),
        inbound_base_fee_msat=int(row[INBOUND_BASE_FEE]),
        inbound_fee_rate_ppm=int(row[INBOUND_FEE_RATE]),
        min_htlc_msat=int(row[MIN_HTLC]),
        max_htlc_msat=int(row[MAX_HTLC]),
        time_lock_delta=int(row[TIME_LOCK_DELTA]),
        disabled=bool(row[DISABLED]),
    )


def changed_policy(row: Int64Array, decision: ChannelDecision) -> Int64Array:
    """A row of `Network.policy` with what `decision` changes."""
    changed = row.copy()
    for column, value in (
        (FEE_RATE, decision.fee_rate_ppm),
        (BASE_FEE, decision.base_fee_msat),
        (INBOUND_FEE_RATE, decision.inbound_fee_rate_ppm),
        (MAX_HTLC, decision.max_htlc_msat),
    ):
        if value is not None:
            changed[column] = value
    return changed


class TwinViews:
    """Makes views; what nodes see alike is one object, made once."""

    def __init__(self, network: Network, keys: tuple[NodeKey, ...]) -> None:
        self._network = network
        self._keys = keys
        self._aliases = dict(zip(keys, network.names, strict=True))
        self._seen = network.policy.copy()
        """What the channels below were made from."""
        self._channels = {
            int(scid): self._channel(channel, network.policy)
            for channel, scid in enumerate(network.scids)
        }
        self._of_node: dict[NodeKey, list[ShortChannelId]] = {key: [] for key in keys}
        for scid, ends in zip(network.scids, network.channel_nodes, strict=True):
            for end in ends:
                self._of_node[keys[end]].append(int(scid))

    def views(
        self,
        twin: Twin,
        agents: AgentChannels,
        down: BoolArray,
        found: Int64Array,
        counts: Int64Array,
        number: int,
        chosen: Container[NodeKey],
    ) -> dict[NodeKey, NodeView]:
        """What the agents that are `chosen` see now.

        See `lnagents.env.kernels.encode_agents` for the other arguments.
        """
        reported = (twin.reported_balances() // MSAT_PER_SAT * MSAT_PER_SAT).tolist()
        flows = twin.flows.tolist()
        views = {}
        for agent, node in enumerate(agents.node.tolist()):
            if self._keys[node] not in chosen:
                continue
            seen = twin.policies_seen(node)
            graph = self._graph(seen)
            own = range(int(agents.first[agent]), int(agents.first[agent + 1]))
            key, count = self._keys[node], counts[agent].tolist()
            views[key] = NodeView(
                node=key,
                round=number,
                time=twin.now,
                channels=tuple(
                    self._channel_view(
                        node,
                        int(agents.edge[place]),
                        reported,
                        seen,
                        policy_of(found[place]),
                        flows[int(agents.edge[place])],
                        not (down[node] or down[agents.target[place]]),
                        graph,
                    )
                    for place in own
                ),
                graph=graph,
                fees_paid_msat=count[FEES_PAID],
                payments_settled=count[SETTLED],
                payments_failed=count[FAILED],
                failed_attempts=count[FAILED_ATTEMPTS],
            )
        return views

    def _channel_view(
        self,
        node: int,
        edge: int,
        reported: list[int],
        seen: Int64Array,
        found: ChannelPolicy,
        flow: list[int],
        active: bool,
        graph: NetworkGraph,
    ) -> ChannelView:
        channel = edge >> 1
        peer = self._keys[self._network.channel_nodes[channel, 1 - (edge & 1)]]
        into_peer = (graph.channels[scid] for scid in self._of_node[peer])
        forwarded_in, forwarded_out, earned, forwards, failed, sent, received = flow
        return ChannelView(
            scid=int(self._network.scids[channel]),
            peer=peer,
            capacity_msat=int(self._network.capacity[channel]),
            local_balance_msat=reported[edge],
            remote_balance_msat=reported[edge ^ 1],
            active=bool(active),
            policy=policy_of(seen[edge]),
            peer_policy=policy_of(seen[edge ^ 1]),
            competing_ppm=competing_ppm(into_peer, peer, self._keys[node]),
            flow=ChannelFlow(
                forwarded_in_msat=forwarded_in,
                forwarded_out_msat=forwarded_out,
                fees_earned_msat=earned,
                forwards=forwards,
                failed_forwards=failed,
                sent_msat=sent,
                received_msat=received,
            ),
            found_policy=found,
        )

    def _graph(self, seen: Int64Array) -> NetworkGraph:
        """Gossip with the policies `seen`; channels that did not change are shared."""
        edges = np.flatnonzero((seen != self._seen).any(axis=1))
        if len(edges):
            channels = dict(self._channels)
            for channel in np.unique(edges >> 1).tolist():
                channels[int(self._network.scids[channel])] = self._channel(channel, seen)
            self._channels, self._seen = channels, seen.copy()
        return NetworkGraph(self._aliases, self._channels)

    def _channel(self, channel: int, policies: Int64Array) -> Channel:
        network = self._network
        one, other = (self._keys[end] for end in network.channel_nodes[channel])
        policy1, policy2 = policy_of(policies[2 * channel]), policy_of(policies[2 * channel + 1])
        if one > other:
            one, other, policy1, policy2 = other, one, policy2, policy1
        scid = int(network.scids[channel])
        return Channel(
            scid=scid,
            channel_point=f"{scid:064x}:0",
            node1=one,
            node2=other,
            capacity_msat=int(network.capacity[channel]),
            policy1=policy1,
            policy2=policy2,
        )
