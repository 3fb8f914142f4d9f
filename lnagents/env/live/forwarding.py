"""What an agent does with the HTLCs that its node is asked to forward."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass, replace

from lnagents.env.live.delegation import BLOCK_PADDING, delegate
from lnagents.env.live.node import ANSWER_SECONDS, LiveNode, within
from lnagents.lnd import (
    FailHtlc,
    HeldHtlc,
    HtlcAnswer,
    ResumeHtlc,
    SettleHtlc,
    StreamRestarted,
)
from lnagents.model.delegation import DELEGATION_RECORD, NOWHERE, Delegation
from lnagents.model.errors import LndError, NodeUnavailableError, NoRouteError
from lnagents.model.graph import LocalChannel, forwarding_fee
from lnagents.model.payment import HOP_BY_HOP_SLACK, AttemptStatus, Route
from lnagents.model.units import Msat, NodeKey, PaymentHash, ShortChannelId

NEVER = float("-inf")
"""Preference of a channel that is not to be chosen."""


@dataclass(frozen=True, slots=True)
class Community:
    """What the agents of a world know of each other."""

    agents: Collection[NodeKey]
    """Nodes to which a forward may be left."""
    priority: Collection[PaymentHash]
    """Payments that may use what channels keep for them."""


def admits(channel: LocalChannel, reserved_share: float, amount_msat: Msat) -> bool:
    """Whether enough stays free for payments with priority if `amount_msat` leaves.

    Args:
        channel: before the HTLC is added.
        reserved_share: share of the capacity and of the HTLC slots that is to stay free, 0 to 1.
        amount_msat: of the HTLC.
    """
    slots = channel.max_accepted_htlcs
    return (
        slots - channel.pending_htlcs - 1 >= reserved_share * slots
        and channel.spendable_msat - amount_msat >= reserved_share * channel.capacity_msat
    )


class Forwarder:
    """Admits or refuses forwards, and chooses the next channel of those that are left to it.

    It holds every forward for the time of its decision, a few milliseconds, so it runs only while
    something is to be decided. If its connection breaks after it has paid onward and before it has
    settled, LND gives the incoming HTLC back and the node bears the loss: on a node with money at
    stake set LND's `requireinterceptor`.
    """

    def __init__(self, node: LiveNode, community: Community) -> None:
        self._node = node
        self._community = community
        self._interceptor = node.client.htlc_interceptor()
        self._began = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._deciding: set[asyncio.Task[None]] = set()
        self.preferences: dict[ShortChannelId, float] = {}
        """The higher, the earlier a channel is chosen; 0 for those that are not in it."""
        self.reserved: dict[ShortChannelId, float] = {}
        """Share that is kept free for payments with priority, 0 to 1."""

    @property
    def running(self) -> bool:
        """Whether the node's forwards wait for a decision."""
        return self._following is not None and not self._following.done() and self._began.is_set()

    async def start(self) -> None:
        """Hold forwards from now on; gives up, for now, on a node that does not answer.

        Raises:
            AlreadyExistsError: another program decides on this node's forwards.
            PermissionRefusedError: the client may not.
        """
        if self.running:
            return
        if self._following is None or self._following.done():
            self._began.clear()
            self._following = asyncio.ensure_future(self._follow())
        waiting = asyncio.ensure_future(self._began.wait())
        await asyncio.wait(
            [self._following, waiting],
            timeout=ANSWER_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting.cancel()
        if self._following.done():
            self._following.result()

    async def stop(self) -> None:
        """Let the node forward by itself again."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError, LndError):
                await self._following
            self._following = None
        for task in list(self._deciding):
            task.cancel()
        await asyncio.gather(*self._deciding, return_exceptions=True)

    async def _follow(self) -> None:
        async for item in self._interceptor.htlcs():
            if isinstance(item, StreamRestarted):
                self._began.set()
            else:
                task = asyncio.ensure_future(self._handle(item))
                self._deciding.add(task)
                task.add_done_callback(self._deciding.discard)

    async def _handle(self, htlc: HeldHtlc) -> None:
        delegation = htlc.custom_records.get(DELEGATION_RECORD)
        answer: HtlcAnswer
        try:
            if htlc.outgoing_scid == NOWHERE and delegation is not None:
                answer = await self._go_on(htlc, Delegation.from_bytes(delegation))
            else:
                answer = await self._admit(htlc)
        except (LndError, ValueError):
            answer = FailHtlc()
        await self._interceptor.answer(htlc, answer)

    # ---- Admission

    async def _admit(self, htlc: HeldHtlc) -> HtlcAnswer:
        share = self._share(htlc, htlc.outgoing_scid)
        if share > 0.0:
            for channel in await within(self._node.client.channels()):
                if channel.scid == htlc.outgoing_scid and not admits(
                    channel, share, htlc.outgoing_amount_msat
                ):
                    return FailHtlc()  # LND tells of it as of a forward that failed
        return ResumeHtlc()

    def _share(self, htlc: HeldHtlc, scid: ShortChannelId) -> float:
        """What has to stay free of a channel if this payment uses it."""
        has_priority = htlc.payment_hash in self._community.priority
        return 0.0 if has_priority else self.reserved.get(scid, 0.0)

    # ---- The next channel

    def by_preference(self, channels: Collection[LocalChannel]) -> list[LocalChannel]:
        """What may be chosen: the most preferred first, of equals the one with the lowest id."""

        def rank(channel: LocalChannel) -> tuple[float, ShortChannelId]:
            return -self.preferences.get(channel.scid, 0.0), channel.scid

        usable = [channel for channel in channels if channel.active]
        return sorted((one for one in usable if rank(one)[0] < -NEVER), key=rank)

    async def _go_on(self, htlc: HeldHtlc, delegation: Delegation) -> HtlcAnswer:
        channels = await within(self._node.client.channels())
        came_from = next(one.peer for one in channels if one.scid == htlc.incoming_scid)
        for channel in self.by_preference(channels):
            if channel.scid == htlc.incoming_scid:
                continue
            route = await self._search(htlc, delegation, channel.scid, came_from)
            slack = -1 if route is None else await self._slack(htlc, route, channel)
            if route is not None and slack >= 0:
                preimage = await self._pay(htlc, delegation, route, slack)
                if preimage:
                    return SettleHtlc(preimage)
        return FailHtlc()

    async def _search(
        self, htlc: HeldHtlc, delegation: Delegation, scid: ShortChannelId, came_from: NodeKey
    ) -> Route | None:
        """What the node's own search finds by way of a channel."""
        try:
            routes = await within(
                self._node.client.query_routes(
                    delegation.destination,
                    delegation.amount_msat,
                    fee_limit_msat=htlc.incoming_amount_msat - delegation.amount_msat,
                    final_cltv_delta=delegation.final_cltv_delta + BLOCK_PADDING,
                    outgoing_scids=[scid],
                    ignored_nodes={came_from, *delegation.passed} - {delegation.destination},
                )
            )
        except NoRouteError:
            return None
        return routes[0]

    async def _slack(self, htlc: HeldHtlc, route: Route, channel: LocalChannel) -> int:
        """Blocks to spare for the next agent, if the route leaves the node its fee and its time.

        Negative: it does not, or the channel has no room.
        """
        client, key = self._node.client, self._node.key
        outgoing = (await within(client.channel(channel.scid))).edge_from(key).policy
        incoming = (await within(client.channel(htlc.incoming_scid))).edge_from(key).policy
        if outgoing is None:
            return -1
        amount = route.total_amount_msat
        needed = amount + forwarding_fee(amount, outgoing, incoming)
        if needed > htlc.incoming_amount_msat or not admits(
            channel, self._share(htlc, channel.scid), amount
        ):
            return -1
        latest = htlc.incoming_expiry - outgoing.time_lock_delta
        return min(HOP_BY_HOP_SLACK, latest - route.total_time_lock)

    async def _pay(self, htlc: HeldHtlc, delegation: Delegation, route: Route, slack: int) -> bytes:
        """The preimage that the route brings, empty if it fails."""
        onward = replace(delegation, passed=(*delegation.passed, self._node.key))
        self._node.flows.on_delegated(
            htlc.payment_hash, htlc.incoming_scid, htlc.incoming_amount_msat
        )
        try:
            attempt = await self._node.client.send_to_route(
                htlc.payment_hash, delegate(route, self._community.agents, onward, slack)
            )
        except NodeUnavailableError:
            raise  # nobody knows whether it goes on
        except LndError:
            self._node.flows.on_returned(htlc.payment_hash, route.hops[0].scid)
            return b""
        if attempt.status is AttemptStatus.SETTLED:
            return attempt.preimage
        self._node.flows.on_returned(htlc.payment_hash, route.hops[0].scid)
        return b""
