"""A live network and the twin's kernels side by side: what one does, the other is told."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from lnagents.lnd import LndClient
from lnagents.model.errors import NoRouteError
from lnagents.model.payment import Payment, Route
from lnagents.model.topology import Topology
from lnagents.model.units import PaymentHash, ShortChannelId
from lnagents.testbed import Testbed
from lnagents.testbed.waiting import wait_until
from lnagents.twin.commitment import (
    COUNT,
    add_htlc,
    fail_htlc,
    make_liquidity,
    reported_balance,
    sendable,
    settle_htlc,
)
from lnagents.twin.loaders import from_topology
from lnagents.twin.network import MAX_HTLC, MIN_HTLC
from lnagents.twin.settings import CommitmentSettings

SECONDS = 20.0
"""For an exchange between two nodes, which takes milliseconds."""


@dataclass(frozen=True, slots=True)
class HeldHtlc:
    """An HTLC that its receiver keeps, on both sides."""

    edge: int
    amount: int
    preimage: bytes
    payment_hash: PaymentHash
    payment: asyncio.Task[Payment]


class Beside:
    """One network in both worlds."""

    def __init__(
        self, testbed: Testbed, topology: Topology, settings: CommitmentSettings | None = None
    ) -> None:
        self.testbed = testbed
        self.network = from_topology(topology)
        self.settings = settings or CommitmentSettings()
        self.liquidity = make_liquidity(self.network, self.settings)
        self.scids: list[ShortChannelId] = []

    @classmethod
    async def start(
        cls, testbed: Testbed, topology: Topology, settings: CommitmentSettings | None = None
    ) -> Beside:
        """Look up the channels' real ids, and take over which of them have anchors."""
        beside = cls(testbed, topology, settings)
        anchored = make_liquidity(
            beside.network, replace(beside.settings, anchors=True, fee_per_kw=2_500)
        )
        for index, spec in enumerate(topology.channels):
            peer = testbed.nodes[spec.target].key
            channels = await testbed.client(spec.source).channels()
            channel = next(channel for channel in channels if channel.peer == peer)
            beside.scids.append(channel.scid)
            if channel.anchors_msat:
                beside.liquidity.terms[index] = anchored.terms[index]
        return beside

    @property
    def edges(self) -> range:
        """All edges."""
        return range(2 * self.network.channels)

    def scid(self, edge: int) -> ShortChannelId:
        """The edge's channel on the live network."""
        return self.scids[edge >> 1]

    def source(self, edge: int) -> LndClient:
        """The node that sends over the edge."""
        return self.testbed.client(self.name(edge))

    def target(self, edge: int) -> LndClient:
        """The node that the edge leads to."""
        return self.testbed.client(self.name(edge ^ 1))

    def name(self, edge: int) -> str:
        """Of the node that sends over the edge."""
        return self.network.names[int(self.network.edge_source()[edge])]

    async def balances(self) -> tuple[dict[int, int], dict[str, int]]:
        """What the nodes report: whole satoshi per edge (in msat), and exact sums per node."""
        per_edge: dict[int, int] = {}
        sums: dict[str, int] = {}
        for name in self.network.names:
            client = self.testbed.client(name)
            local = {each.scid: each.local_balance_msat for each in await client.channels()}
            for edge in self.edges:
                if self.name(edge) == name:
                    per_edge[edge] = local[self.scid(edge)]
            sums[name] = (await client.channel_balances()).local_msat
        return per_edge, sums

    def expected_balances(self) -> tuple[dict[int, int], dict[str, int]]:
        """The same as the kernels have it."""
        exact = {edge: reported_balance(self.liquidity, edge) for edge in self.edges}
        sums = dict.fromkeys(self.network.names, 0)
        for edge, amount in exact.items():
            sums[self.name(edge)] += amount
        return {edge: amount // 1_000 * 1_000 for edge, amount in exact.items()}, sums

    async def routable(self, edge: int, amount: int) -> bool:
        """Whether the node's own search finds the edge good for `amount` msat."""
        try:
            await self.source(edge).query_routes(
                self.testbed.nodes[self.name(edge ^ 1)].key,
                amount,
                use_mission_control=False,
                outgoing_scids=[self.scid(edge)],
            )
        except NoRouteError:
            return False
        return True

    async def expected_routable(self, edge: int, amount: int) -> bool:
        """The same as the kernels have it."""
        policy = self.network.policy[edge]
        allowed = policy[MIN_HTLC] <= amount <= policy[MAX_HTLC]
        return bool(allowed and amount <= sendable(self.liquidity, edge, amount))

    async def most(self, edge: int, test: Callable[[int, int], Awaitable[bool]]) -> int:
        """The largest amount in msat that passes `test`, by bisection."""
        passes, fails = 0, int(self.network.capacity[edge >> 1])
        while fails - passes > 1:
            middle = (passes + fails) // 2
            if await test(edge, middle):
                passes = middle
            else:
                fails = middle
        return passes

    async def hold(self, edge: int, amount: int) -> HeldHtlc:
        """Send an HTLC over one edge that stays until `resolve`."""
        preimage = secrets.token_bytes(32)
        invoice = await self.target(edge).add_hold_invoice(amount, preimage)
        payment = asyncio.create_task(
            self.source(edge).pay(
                invoice.payment_request,
                fee_limit_msat=0,
                timeout_seconds=60,
                outgoing_scids=[self.scid(edge)],
            )
        )
        add_htlc(self.liquidity, edge, amount)
        await self.wait_pending(edge)
        return HeldHtlc(edge, amount, preimage, invoice.payment_hash, payment)

    async def resolve(self, htlc: HeldHtlc, *, settle: bool) -> None:
        """Let the receiver settle or fail it."""
        receiver = self.target(htlc.edge)
        if settle:
            await receiver.settle_invoice(htlc.preimage)
            settle_htlc(self.liquidity, htlc.edge, htlc.amount)
        else:
            await receiver.cancel_invoice(htlc.payment_hash)
            fail_htlc(self.liquidity, htlc.edge, htlc.amount)
        await htlc.payment
        await self.wait_pending(htlc.edge)

    async def wait_pending(self, edge: int) -> None:
        """Wait until both ends have as many HTLCs on their commitments as the kernels have."""
        pending = self.liquidity.pending
        count = pending[edge, COUNT] + pending[edge ^ 1, COUNT]

        async def settled() -> bool:
            for client in (self.source(edge), self.target(edge)):
                channels = await client.channels()
                if any(c.scid == self.scid(edge) and c.pending_htlcs != count for c in channels):
                    return False
            return True

        await wait_until(
            settled,
            timeout=SECONDS,
            complaint=lambda: f"edge {edge} has not {count} HTLCs at both ends",
        )

    async def route(self, edges: list[int], amount: int) -> Route:
        """A route of LND's own making along the edges, without a payment secret."""
        return await self.source(edges[0]).build_route(
            amount,
            [self.testbed.nodes[self.name(edge ^ 1)].key for edge in edges],
            outgoing_scid=self.scid(edges[0]),
        )

    async def attempt(self, edge: int, route: Route) -> tuple[int, int]:
        """Send along the route, from the edge's source, for an invoice of its last node.

        Returns:
            The code of the failure and the index of the node that refused; -1 for both if it
            settled.
        """
        keys = {node.key: name for name, node in self.testbed.nodes.items()}
        receiver = self.testbed.client(keys[route.hops[-1].target])
        invoice = await receiver.add_invoice(route.payment_total_msat)
        attempt = await self.source(edge).send_to_route(
            invoice.payment_hash, replace(route, payment_addr=invoice.payment_addr)
        )
        failure = attempt.failure
        return (failure.code, failure.source_index) if failure else (-1, -1)
