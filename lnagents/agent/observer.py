"""The own node, watched: gossip, HTLC events, own channels and payments, made into `NodeView`s."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from lnagents.agent.candidates import RouteFinder
from lnagents.agent.ledger import PaymentRecord, PaymentState
from lnagents.agent.limits import Purpose
from lnagents.agent.store import Store
from lnagents.env.flows import FlowAccount
from lnagents.env.local_view import channel_view, competing_ppm, own_policy
from lnagents.lnd import (
    ChannelClosed,
    GraphUpdate,
    LndClient,
    NodeAnnounced,
    PolicyAnnounced,
    StreamRestarted,
)
from lnagents.model.errors import NodeUnavailableError, NotFoundError, SettleTimeoutError
from lnagents.model.graph import Channel, ChannelPolicy, Edge, LocalChannel, NetworkGraph
from lnagents.model.payment import HtlcEvent, HtlcRole
from lnagents.model.units import Msat, NodeKey, PaymentHash, ShortChannelId
from lnagents.model.view import ChannelFlow, ChannelView, NodeView

HOLD_SECONDS = 1.0
"""How long after it was sent an attempt may not yet show in the balances that the node reports."""

HEIGHT_SECONDS = 1.0
"""How old a known block height may be; `candidates.BLOCK_PADDING` covers the rest."""

NANOSECONDS = 1_000_000_000


AGAIN_SECONDS = 0.5
"""Until a node that starts is asked again."""


async def _until_there(read: Callable[[], Awaitable[None]]) -> None:
    """Read what a stream cannot tell; a node that has just started answers other calls later."""
    while True:
        try:
            return await read()
        except NodeUnavailableError:
            await asyncio.sleep(AGAIN_SECONDS)


@dataclass(slots=True)
class _Round:
    """What own payments and trade brought since the last view."""

    fees_paid_msat: Msat = 0
    payments_settled: int = 0
    payments_failed: int = 0
    failed_attempts: int = 0
    hint_costs_msat: Msat = 0
    hint_income_msat: Msat = 0


class Observer:
    """Knows what the own node knows."""

    def __init__(
        self, client: LndClient, store: Store, finder: RouteFinder, own_key: NodeKey
    ) -> None:
        self._client = client
        self._store = store
        self._finder = finder
        self.own_key = own_key
        self._found: dict[str, ChannelPolicy] = {}
        self._graph_ready = asyncio.Event()
        self._aliases: dict[NodeKey, str] = {}
        self._channels: dict[ShortChannelId, Channel] = {}
        self._of_node: dict[NodeKey, set[ShortChannelId]] = {}
        self._local: dict[ShortChannelId, LocalChannel] = {}
        self._local_at = 0.0
        self._local_lock = asyncio.Lock()
        self._holds: list[tuple[float, ShortChannelId, Msat]] = []
        self._flows = FlowAccount()
        self._round = _Round()
        self._height = 0
        self._height_at = float("-inf")
        self._forwards = 0
        self._fees_earned = 0
        self._newest_forward_ns = 0
        self._recent: deque[tuple[int, Msat]] = deque()
        self._delegated = (0, 0)
        self.followers: list[Callable[[HtlcEvent], None]] = []
        """Told each HTLC event. Those that an interruption swallowed, nobody is told."""
        self.on_policy: Callable[[Edge], None] | None = None
        """Told each policy that gossip brings; LND does not tell when it was made."""
        self.promised: Callable[[ShortChannelId], Msat] | None = None
        """What others were promised of an own channel: own payments leave it to them."""

    async def load(self) -> None:
        """Take over what the store has from before."""
        self._found = await self._store.found_policies()

    # ---- Streams

    async def watch_graph(self) -> None:
        """Follow gossip; after each interruption the whole graph is read anew."""
        async for update in self._client.graph_updates():
            if isinstance(update, StreamRestarted):
                await _until_there(self._load_graph)
            else:
                await self._on_graph(update)

    async def watch_htlcs(self) -> None:
        """Follow HTLC events; what an interruption swallowed, the node's history has."""
        async for event in self._client.htlc_events():
            if isinstance(event, StreamRestarted):
                await _until_there(self.sync_forwards)
            else:
                self.on_htlc(event)

    async def wait_ready(self, timeout: float) -> None:
        """Wait until the graph is known.

        Raises:
            SettleTimeoutError: it was not read in time.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._graph_ready.wait()
        except TimeoutError as exc:
            problem = f"the node's graph was not read within {timeout:.0f} s"
            raise SettleTimeoutError(problem) from exc

    async def sync_forwards(self) -> None:
        """Take over what the node's forwarding history has gained; it is up to 15 s late."""
        start = self._newest_forward_ns // NANOSECONDS
        forwards = await self._client.forwards(start, time.time() + 60.0)
        new = [one for one in forwards if one.timestamp_ns > self._newest_forward_ns]
        if new:
            await self._store.record_forwards(new)
        self._forwards, self._fees_earned, newest = await self._store.forward_totals()
        self._newest_forward_ns = newest
        while self._recent and self._recent[0][0] <= newest:
            self._recent.popleft()

    @property
    def events(self) -> int:
        """HTLC events handled so far."""
        return self._flows.events

    @property
    def forwards(self) -> int:
        """Settled forwards ever, those included that the node's history does not show yet."""
        return self._forwards + len(self._recent) + self._delegated[0]

    @property
    def fees_earned_msat(self) -> Msat:
        """Their fees."""
        return self._fees_earned + sum(fee for _, fee in self._recent) + self._delegated[1]

    async def wait_at_rest(self, seconds: float) -> None:
        """Wait until no forward is under way, as far as events tell, or `seconds` have passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._flows.under_way:  # noqa: ASYNC110 - events come by another task
                    await asyncio.sleep(0.005)

    def on_htlc(self, event: HtlcEvent) -> None:
        """Take in one event."""
        for follower in self.followers:
            follower(event)
        ended = self._flows.on_event(event)
        if ended is None:
            return
        if event.role is HtlcRole.SEND:
            return  # paid for another: the node's history does not have it, `delegated` counts it
        if ended.settled:
            self._recent.append((event.timestamp_ns, ended.fee_msat))
        else:
            self._store.record_failed_forward(event, ended.outgoing_amount_msat)

    # ---- What was paid for others, which the node takes for own payments

    def begin_delegated(
        self, payment_hash: PaymentHash, incoming_scid: ShortChannelId, incoming_msat: Msat
    ) -> None:
        """What leaves as a payment of this hash is a forward of what came in there."""
        self._flows.on_delegated(payment_hash, incoming_scid, incoming_msat)

    def end_delegated(self, payment_hash: PaymentHash) -> None:
        """It was not paid."""
        self._flows.forget_delegated(payment_hash)

    def count_delegated(self, settled: int, earned_msat: Msat) -> None:
        """How many there ever were, and what they earned: on top of the node's own history."""
        self._delegated = settled, earned_msat

    # ---- Gossip

    async def _load_graph(self) -> None:
        graph = await self._client.graph()
        self._aliases = dict(graph.aliases)
        self._channels = dict(graph.channels)
        self._of_node = {}
        for channel in self._channels.values():
            self._index(channel)
        self._finder.load(graph)
        self._graph_ready.set()

    def _index(self, channel: Channel) -> None:
        self._of_node.setdefault(channel.node1, set()).add(channel.scid)
        self._of_node.setdefault(channel.node2, set()).add(channel.scid)

    async def _on_graph(self, update: GraphUpdate) -> None:
        if isinstance(update, NodeAnnounced):
            self._aliases[update.key] = update.alias
        elif isinstance(update, ChannelClosed):
            channel = self._channels.pop(update.scid, None)
            if channel is not None:
                for end in (channel.node1, channel.node2):
                    self._of_node.get(end, set()).discard(update.scid)
                self._finder.remove_channel(update.scid, (channel.node1, channel.node2))
        elif isinstance(update, PolicyAnnounced):
            await self._on_policy(update.edge)
            if self.on_policy is not None:
                self.on_policy(update.edge)

    async def _on_policy(self, edge: Edge) -> None:
        channel = self._channels.get(edge.scid)
        if channel is None:
            try:
                channel = await self._client.channel(edge.scid)
            except NotFoundError:
                return  # closed meanwhile
            self._index(channel)
        elif edge.source == channel.node1:
            channel = replace(channel, policy1=edge.policy)
        else:
            channel = replace(channel, policy2=edge.policy)
        self._channels[edge.scid] = channel
        for one in channel.edges():
            if one.policy is not None:
                self._finder.set_edge(one)

    # ---- The own node

    async def height(self) -> int:
        """The current block, at most `HEIGHT_SECONDS` old."""
        now = time.monotonic()
        if now - self._height_at > HEIGHT_SECONDS:
            self._height = (await self._client.info()).block_height
            self._height_at = now
        return self._height

    async def local_channels(self, max_age: float) -> Mapping[ShortChannelId, LocalChannel]:
        """The own channels as they were at most `max_age` seconds ago; tells the route finder."""
        async with self._local_lock:
            asked = time.monotonic()
            if not self._local or asked - self._local_at > max_age:
                channels = await self._client.channels()
                self._local = {channel.scid: channel for channel in channels}
                self._local_at = asked
                self._holds = [one for one in self._holds if one[0] > asked - HOLD_SECONDS]
                self._tell_finder()
            return self._local

    def known_channels(self) -> tuple[LocalChannel, ...]:
        """The own channels as they were last seen."""
        return tuple(self._local.values())

    def hold(self, scid: ShortChannelId, amount: Msat) -> None:
        """Count `amount` as gone from an own channel until the node's balances show it."""
        self._holds.append((time.monotonic(), scid, amount))
        self._tell_finder()

    def release(self, scid: ShortChannelId, amount: Msat) -> None:
        """Take back a `hold`, for an attempt that failed."""
        for index, (_, held_scid, held) in enumerate(self._holds):
            if (held_scid, held) == (scid, amount):
                del self._holds[index]
                self._tell_finder()
                return

    def _tell_finder(self) -> None:
        channels = dict(self._local)
        gone = [(scid, amount) for _, scid, amount in self._holds]
        if self.promised is not None:
            gone += [(scid, self.promised(scid)) for scid in channels]
        for scid, amount in gone:
            channel = channels.get(scid)
            if channel is not None:
                left = max(0, channel.local_balance_msat - amount)
                channels[scid] = replace(channel, local_balance_msat=left)
        self._finder.set_local(channels)

    # ---- Own payments and trade

    def on_payment(self, record: PaymentRecord, failed_attempts: int) -> None:
        """Take in an own payment that ended, with the attempts that failed this time."""
        this = self._round
        this.failed_attempts += failed_attempts
        if record.purpose is Purpose.FORWARD:
            return  # its flow counts as a forward, with what it earned
        if record.state is PaymentState.SETTLED:
            this.fees_paid_msat += record.fee_msat
            if record.purpose is Purpose.HINT:
                this.hint_costs_msat += record.amount_msat
            else:
                this.payments_settled += 1
        elif record.purpose is Purpose.PAYMENT:
            this.payments_failed += 1

    def on_sale(self, price_msat: Msat) -> None:
        """Take in a hint that was sold."""
        self._round.hint_income_msat += price_msat

    # ---- Views

    def alias(self, key: NodeKey) -> str:
        """How a node calls itself; empty if it never said."""
        return self._aliases.get(key, "")

    def own_policy(self, scid: ShortChannelId) -> ChannelPolicy | None:
        """What this node announces on an own channel, as its graph shows it."""
        return own_policy(self._channels.get(scid), self.own_key)

    def graph(self) -> NetworkGraph:
        """Gossip as it is known now."""
        return NetworkGraph(dict(self._aliases), dict(self._channels))

    async def view(self, number: int) -> NodeView:
        """What the node knows now; flows and payments are those since the view before."""
        local = await self.local_channels(0.0)
        flows = self._flows.take(local.values())
        this, self._round = self._round, _Round()
        views = [self._channel_view(channel, flows[channel.scid]) for channel in local.values()]
        return NodeView(
            node=self.own_key,
            round=number,
            time=time.time(),
            channels=tuple(views),
            graph=self.graph(),
            fees_paid_msat=this.fees_paid_msat,
            payments_settled=this.payments_settled,
            payments_failed=this.payments_failed,
            failed_attempts=this.failed_attempts,
            hint_costs_msat=this.hint_costs_msat,
            hint_income_msat=this.hint_income_msat,
        )

    def _channel_view(self, channel: LocalChannel, flow: ChannelFlow) -> ChannelView:
        of_peer = (self._channels[scid] for scid in self._of_node.get(channel.peer, ()))
        return channel_view(
            self.own_key,
            channel,
            self._channels.get(channel.scid),
            flow=flow,
            competing=competing_ppm(of_peer, channel.peer, self.own_key),
            found=self._found_policy(channel, self.own_policy(channel.scid)),
        )

    def _found_policy(
        self, channel: LocalChannel, own: ChannelPolicy | None
    ) -> ChannelPolicy | None:
        found = self._found.get(channel.channel_point)
        if found is None and own is not None:
            found = self._found[channel.channel_point] = own
            self._store.record_found_policy(channel.channel_point, own)
        return found
