"""The gossip barrier: waits until every node knows the current policy of every edge.

The truth about an edge is in the graph of the node that owns it; each other node is compared with
that. Other nodes drop an update that carries the same second as the edge's update before, and never
ask for it again, so the barrier lets the owner send it once more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from lnagents.lnd import LndClient
from lnagents.model.errors import SettleTimeoutError
from lnagents.model.graph import ChannelPolicy, NetworkGraph
from lnagents.model.topology import Profile
from lnagents.model.units import NodeKey, ShortChannelId, format_short_channel_id
from lnagents.testbed.settings import gossip_timeout
from lnagents.testbed.together import together

POLL_SECONDS = 0.03

_SEND_AGAIN_SECONDS = {Profile.FAST: 1.5, Profile.MAINNET: 450.0}
"""How long an update may take before it counts as dropped."""

EdgeName: TypeAlias = tuple[ShortChannelId, NodeKey]
"""A channel and the node that sends over it."""


@dataclass(frozen=True, slots=True)
class Network:
    """The nodes of a testbed, as the barrier needs them."""

    clients: Mapping[str, LndClient]
    keys: Mapping[str, NodeKey]
    profile: Profile


@dataclass(frozen=True, slots=True)
class _Owned:
    """What the owner of an edge says about it."""

    owner: str
    channel_point: str
    policy: ChannelPolicy


async def wait_gossip(
    network: Network, *, timeout: float | None = None, channels: int | None = None
) -> float:
    """Wait until all nodes know what all owners announce now; gives the seconds that it took.

    Updates that come after the call began are not waited for. With `channels` it waits, too, until
    owners know of that many channels.

    Raises:
        SettleTimeoutError: not within `timeout` s (by default what the profile allows); names a
            node and an edge that it does not know.
    """
    began = time.monotonic()
    seconds = gossip_timeout(network.profile) if timeout is None else timeout
    barrier = _Barrier(network)
    try:
        async with asyncio.timeout(seconds):
            await barrier.learn_truth(channels)
            await barrier.wait_views()
    except TimeoutError as exc:
        raise SettleTimeoutError(
            f"gossip did not settle within {seconds:g} s: {barrier.complaint}"
        ) from exc
    return time.monotonic() - began


class _Barrier:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._names = {key: name for name, key in network.keys.items()}
        self._truth: dict[EdgeName, _Owned] = {}
        self._views: dict[str, NetworkGraph] = {}
        self._sent: dict[EdgeName, float] = {}
        self.complaint = "nothing was compared yet"

    async def learn_truth(self, channels: int | None) -> None:
        """Look at every owner, until each of them has announced all its edges."""
        while True:
            await self._look(self._network.clients)
            self._truth, missing = self._owned()
            found = len(self._truth) // 2
            if missing:
                self.complaint = missing
            elif channels is not None and found < channels:
                self.complaint = f"{found} of {channels} channels are announced"
            else:
                break
            await asyncio.sleep(POLL_SECONDS)
        now = time.monotonic()
        self._sent = dict.fromkeys(self._truth, now)

    async def wait_views(self) -> None:
        """Ask those who lag behind again and again, until none does."""
        while True:
            behind = {name: self._unknown_to(name) for name in self._views}
            behind = {name: edges for name, edges in behind.items() if edges}
            if not behind:
                return
            name, edges = next(iter(behind.items()))
            self.complaint = self._describe(name, edges[0], sum(map(len, behind.values())))
            await self._send_again({edge for edges in behind.values() for edge in edges})
            await asyncio.sleep(POLL_SECONDS)
            await self._look(behind)

    async def _look(self, names: Mapping[str, object]) -> None:
        clients = self._network.clients
        graphs = await together(clients[name].graph() for name in names)
        self._views.update(zip(names, graphs, strict=True))

    def _owned(self) -> tuple[dict[EdgeName, _Owned], str]:
        """All edges as their owners see them, and what is missing if something is."""
        owned: dict[EdgeName, _Owned] = {}
        missing = ""
        for name, graph in self._views.items():
            key = self._network.keys[name]
            for channel in graph.channels.values():
                if key not in (channel.node1, channel.node2):
                    continue
                policy = channel.edge_from(key).policy
                if policy is None:
                    text = format_short_channel_id(channel.scid)
                    missing = f"{name} has not announced its side of channel {text}"
                else:
                    owned[channel.scid, key] = _Owned(name, channel.channel_point, policy)
        for (scid, key), edge in owned.items():
            channel = self._views[edge.owner].channels[scid]
            other = channel.node2 if channel.node1 == key else channel.node1
            if other in self._names and (scid, other) not in owned and not missing:
                text = format_short_channel_id(scid)
                missing = f"{self._names[other]} does not know its own channel {text}"
        return owned, missing

    def _unknown_to(self, name: str) -> list[EdgeName]:
        channels = self._views[name].channels
        unknown = []
        for (scid, key), owned in self._truth.items():
            channel = channels.get(scid)
            seen = channel.edge_from(key).policy if channel is not None else None
            if seen is None or not _is_current(seen, owned.policy):
                unknown.append((scid, key))
        return unknown

    async def _send_again(self, edges: set[EdgeName]) -> None:
        now = time.monotonic()
        patience = _SEND_AGAIN_SECONDS[self._network.profile]
        for edge in edges:
            if now - self._sent[edge] < patience:
                continue
            owned = self._truth[edge]
            client = self._network.clients[owned.owner]
            # The owner may have changed its mind since; what it says now is what must be known.
            current = (await client.channel(edge[0])).edge_from(edge[1]).policy
            if current is not None and current.last_update <= owned.policy.last_update:
                await client.set_policy(owned.channel_point, current)
            self._sent[edge] = now

    def _describe(self, name: str, edge: EdgeName, count: int) -> str:
        scid, key = edge
        more = f" (and {count - 1} more)" if count > 1 else ""
        return (
            f"{name} does not know the policy of {self._names[key]}"
            f" on channel {format_short_channel_id(scid)}{more}"
        )


def _is_current(seen: ChannelPolicy, truth: ChannelPolicy) -> bool:
    """Whether a node's view is the truth, or newer; the same fees sent again are current, too."""
    return seen.last_update > truth.last_update or seen == replace(
        truth, last_update=seen.last_update
    )
