"""Turns started programs into a network: funds nodes, opens channels, sets policies.

The same for all backends. Everything that can happen at once does: all nodes get ready together,
one transaction funds them all, every opener opens its channels in one batch, and those batches,
which spend the funding before it is in a block, are confirmed and announced together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lnagents.lnd import ChannelOpening, LndClient, Role
from lnagents.model.errors import NodeUnavailableError, NotFoundError
from lnagents.model.graph import ChannelPolicy, LocalChannel
from lnagents.model.topology import ChannelSpec, PolicySpec, Topology
from lnagents.model.units import (
    MSAT_PER_SAT,
    NodeKey,
    ShortChannelId,
    format_short_channel_id,
)
from lnagents.testbed.backend import NodeSite, Progress
from lnagents.testbed.bitcoin import SATOSHI_PER_BITCOIN, BitcoinClient
from lnagents.testbed.gossip import Network, wait_gossip
from lnagents.testbed.private import write_private
from lnagents.testbed.settings import ANNOUNCEMENT_BLOCKS
from lnagents.testbed.state import NodeBooks
from lnagents.testbed.threads import in_thread
from lnagents.testbed.together import together
from lnagents.testbed.waiting import wait_until

SPARE_SAT = 1_000_000
"""What each node gets beyond its channels: for fees, and the reserve that LND keeps for anchors."""
COINBASE_MATURITY = 100
"""Blocks before a mined reward can be spent (consensus)."""
REWARD_SAT = 50 * SATOSHI_PER_BITCOIN
"""Of each of the first 150 blocks on regtest."""
READY_SECONDS = 120.0
SETTLE_SECONDS = 120.0
RECONNECTIONS = 5
STALE_TIP_SECONDS = 3_600
"""LND does not count itself as synced when the last block is more than 2 hours old."""

AGENT_ROLES = (Role.OBSERVER, Role.FEES, Role.ROUTER, Role.SELLER, Role.FORWARDER)
"""What an agent's daemon gets."""

Phase = Callable[[str], None]
"""Told the name of each phase when it begins; for the start-up bench."""


@dataclass(frozen=True, slots=True)
class Lightning:
    """The started nodes."""

    sites: Mapping[str, NodeSite]
    clients: Mapping[str, LndClient]
    keys: Mapping[str, NodeKey]
    addresses: Mapping[str, str]
    """An address of each node's wallet."""


async def prepare_chain(topology: Topology, bitcoin: BitcoinClient) -> None:
    """Make the faucet and fill it, before any LND starts.

    LND looks once a second whether the chain is recent, so it must be when it looks first.

    Raises:
        BackendError: bitcoind refused or does not answer.
        SettleTimeoutError: it did not get ready.
    """
    await bitcoin.wait_ready(READY_SECONDS)
    await bitcoin.open_wallet()
    rewards = -(-sum(_deposits_sat(topology).values()) // REWARD_SAT) + 1
    await bitcoin.mine(COINBASE_MATURITY + rewards - await bitcoin.height())
    if time.time() - await bitcoin.tip_time() > STALE_TIP_SECONDS:
        await bitcoin.mine(1)


async def wait_nodes(sites: Mapping[str, NodeSite], clients: Mapping[str, LndClient]) -> Lightning:
    """Wait until every node answers and has seen all blocks.

    Raises:
        NodeTimeoutError: one did not get ready.
    """

    async def ready(name: str) -> tuple[NodeKey, str]:
        info = await clients[name].wait_ready(READY_SECONDS)
        return info.key, await clients[name].new_address()

    answers = dict(zip(sites, await together(ready(name) for name in sites), strict=True))
    return Lightning(
        sites=sites,
        clients=clients,
        keys={name: key for name, (key, _) in answers.items()},
        addresses={name: address for name, (_, address) in answers.items()},
    )


async def provision(
    topology: Topology,
    bitcoin: BitcoinClient,
    lightning: Lightning,
    *,
    progress: Progress,
    phase: Phase,
) -> dict[str, NodeBooks]:
    """Fund the nodes, open all channels, set all policies, and wait until everyone knows them.

    Raises:
        LndError: a node refused.
        SettleTimeoutError: channels or gossip did not settle; says what is missing.
    """
    phase("fund")
    progress(f"Funding {len(lightning.keys)} nodes")
    deposits = _deposits_sat(topology)
    await together(
        (
            _fund(bitcoin, lightning, deposits),
            together(_connect(lightning, channel) for channel in topology.channels),
        )
    )
    phase("open")
    progress(f"Opening {len(topology.channels)} channels")
    await together(_open_from(name, topology, lightning) for name in lightning.keys)
    phase("confirm")
    await bitcoin.mine(ANNOUNCEMENT_BLOCKS)
    await together(_wait_active(name, topology, lightning) for name in lightning.keys)
    phase("gossip")
    progress("Waiting until every node knows every channel")
    network = Network(lightning.clients, lightning.keys, topology.profile)
    # LND 0.21 looks a channel up while it walks its graph to change a policy: two read transactions
    # of one bbolt file, one in the other. A write between them that makes the file grow waits for
    # the first and is waited for by the second, and the node never answers again. So policies are
    # set when nothing more is written because of the openings.
    await wait_gossip(network, channels=len(topology.channels))
    await together(_set_policies(name, topology, lightning) for name in lightning.keys)
    await wait_gossip(network, channels=len(topology.channels))
    names = list(lightning.keys)
    books = await together(
        _books(lightning.clients[name], lightning.keys[name], deposits[name]) for name in names
    )
    return dict(zip(names, books, strict=True))


async def bake_macaroons(
    clients: Mapping[str, LndClient], directory: Path
) -> dict[str, dict[str, Path]]:
    """Write `directory/NODE/ROLE.macaroon` for each role, and `agent.macaroon` for all of them."""

    async def bake(name: str, file: str, roles: tuple[Role, ...]) -> Path:
        path = directory / name / f"{file}.macaroon"
        await in_thread(write_private, path, await clients[name].bake_macaroon(roles))
        return path

    wanted = {**{role.value: (role,) for role in Role}, "agent": AGENT_ROLES}

    async def bake_all(name: str) -> dict[str, Path]:
        paths = await together(bake(name, file, roles) for file, roles in wanted.items())
        return dict(zip(wanted, paths, strict=True))

    return dict(zip(clients, await together(map(bake_all, clients)), strict=True))


async def wait_active(topology: Topology, lightning: Lightning) -> None:
    """Connect all peers and wait until both ends call every channel active; after a restart.

    Raises:
        SettleTimeoutError: names the node that still waits.
    """

    async def reconnect(channel: ChannelSpec) -> None:
        # Both ends dial at once after a restart, and LND drops one of the two connections.
        for _ in range(RECONNECTIONS):
            with contextlib.suppress(NodeUnavailableError):
                await _connect(lightning, channel)
                break
            await asyncio.sleep(0.2)
        else:
            await _connect(lightning, channel)

    await together(reconnect(channel) for channel in topology.channels)
    await together(_wait_active(name, topology, lightning) for name in lightning.keys)


def _deposits_sat(topology: Topology) -> dict[str, int]:
    deposits = {node.name: SPARE_SAT for node in topology.nodes}
    for channel in topology.channels:
        deposits[channel.source] += channel.capacity_sat
    return deposits


async def _fund(bitcoin: BitcoinClient, lightning: Lightning, deposits: Mapping[str, int]) -> None:
    txid = await bitcoin.pay({lightning.addresses[name]: sat for name, sat in deposits.items()})

    async def funded(name: str) -> None:
        await wait_until(
            lambda: lightning.clients[name].knows_transaction(txid),
            timeout=SETTLE_SECONDS,
            complaint=lambda: f"{name} does not see its funds",
        )

    await together(map(funded, deposits))


async def _connect(lightning: Lightning, channel: ChannelSpec) -> None:
    await lightning.clients[channel.source].connect_peer(
        lightning.keys[channel.target], lightning.sites[channel.target].peer_address
    )


async def _open_from(name: str, topology: Topology, lightning: Lightning) -> None:
    openings = []
    for channel in topology.channels:
        if channel.source == name:
            policy, _ = topology.channel_policies(channel)
            openings.append(
                ChannelOpening(
                    peer=lightning.keys[channel.target],
                    capacity_sat=channel.capacity_sat,
                    push_sat=channel.push_sat,
                    base_fee_msat=policy.base_fee_msat,
                    fee_rate_ppm=policy.fee_rate_ppm,
                )
            )
    if openings:
        # Confirmations 0: the funding itself is not in a block yet.
        await lightning.clients[name].batch_open_channels(openings, min_confirmations=0)


async def _wait_active(name: str, topology: Topology, lightning: Lightning) -> None:
    expected = sum(name in (channel.source, channel.target) for channel in topology.channels)
    active = 0

    async def all_active() -> bool:
        nonlocal active
        active = len(await lightning.clients[name].channels(active_only=True))
        return active >= expected

    await wait_until(
        all_active,
        timeout=SETTLE_SECONDS,
        complaint=lambda: f"{name}: {active} of {expected} channels are active",
    )


async def _set_policies(name: str, topology: Topology, lightning: Lightning) -> None:
    """Set what openings and the node's defaults could not."""
    client, key = lightning.clients[name], lightning.keys[name]
    local = {entry.peer: entry for entry in await client.channels()}

    async def set_one(channel: LocalChannel, wanted: PolicySpec) -> None:
        current = await _announced(client, channel.scid, key)
        policy = wanted.to_policy(current.max_htlc_msat)
        if policy == replace(current, last_update=0):
            return
        # Gossip counts in seconds, and drops a second update within one.
        await asyncio.sleep(max(0.0, current.last_update + 1.05 - time.time()))
        await client.set_policy(channel.channel_point, policy)

    changes = []
    for channel in topology.channels:
        of_opener, of_acceptor = topology.channel_policies(channel)
        if channel.source == name:
            changes.append(set_one(local[lightning.keys[channel.target]], of_opener))
        elif channel.target == name:
            changes.append(set_one(local[lightning.keys[channel.source]], of_acceptor))
    await together(changes)


async def _announced(client: LndClient, scid: ShortChannelId, key: NodeKey) -> ChannelPolicy:
    found: list[ChannelPolicy] = []

    async def announced() -> bool:
        # An active channel may not be in its own node's graph yet.
        with contextlib.suppress(NotFoundError):
            policy = (await client.channel(scid)).edge_from(key).policy
            if policy is not None:
                found.append(policy)
        return bool(found)

    await wait_until(
        announced,
        timeout=SETTLE_SECONDS,
        complaint=lambda: f"{format_short_channel_id(scid)} is not in its own node's graph",
    )
    return found[0]


async def _books(client: LndClient, key: NodeKey, deposit_sat: int) -> NodeBooks:
    channels = await client.channels()
    return NodeBooks(
        key=key,
        deposited_msat=deposit_sat * MSAT_PER_SAT,
        local_msat=(await client.channel_balances()).local_msat,
        commitment_msat=sum(channel.opener_cost_msat for channel in channels if channel.initiator),
        channel_points=tuple(sorted(channel.channel_point for channel in channels)),
    )
