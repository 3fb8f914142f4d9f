"""One node of a live world: reached, and watched if an agent decides for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lnagents.env.flows import FlowAccount
from lnagents.env.local_view import channel_view, competing_ppm, own_policy
from lnagents.lnd import LndClient, StreamRestarted
from lnagents.model.errors import (
    LndError,
    NodeTimeoutError,
    NodeUnavailableError,
    SettleTimeoutError,
)
from lnagents.model.graph import Channel, ChannelPolicy, LocalChannel, NetworkGraph
from lnagents.model.payment import PaymentOutcome
from lnagents.model.units import Msat, NodeKey, ShortChannelId
from lnagents.model.view import ChannelFlow, NodeView

ANSWER_SECONDS = 3.0
"""How long a node is waited for in a round; one that does not answer counts as down."""

DOWN_SECONDS = 1.0
"""How long one that was down is waited for."""

WATCH_SECONDS = 30.0
"""How long the streams of a node may take to begin."""

EVENTS_SECONDS = 1.0
"""How long after the payments their last events are waited for; they take milliseconds."""

POLICY_SPACING_SECONDS = 1.05
"""Between two updates of one edge: gossip counts in seconds, and others drop a second update within
one (BOLT 7)."""

QUIET_SECONDS = 2.0
"""How long a round waits for its last HTLCs; a node that is down may hold some for longer."""

POLL_SECONDS = 0.02

DOWN = (NodeUnavailableError, NodeTimeoutError)
"""What a node that is off raises."""

Result = TypeVar("Result")


async def within(coroutine: Coroutine[Any, Any, Result], seconds: float = ANSWER_SECONDS) -> Result:
    """The answer of a node.

    Raises:
        NodeTimeoutError: not within `seconds`.
        LndError: as the call raises it.
    """
    try:
        async with asyncio.timeout(seconds):
            return await coroutine
    except TimeoutError as exc:
        raise NodeTimeoutError(f"no answer within {seconds:g} s") from exc


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a round's own payments came to."""

    fees_paid_msat: Msat = 0
    payments_settled: int = 0
    payments_failed: int = 0
    failed_attempts: int = 0

    def after(self, outcome: PaymentOutcome) -> Ledger:
        """The same with one more payment."""
        return Ledger(
            fees_paid_msat=self.fees_paid_msat + outcome.fee_msat,
            payments_settled=self.payments_settled + outcome.settled,
            payments_failed=self.payments_failed + (not outcome.settled),
            failed_attempts=self.failed_attempts + outcome.failed_attempts,
        )


@dataclass(slots=True)
class LiveNode:
    """One node, with what its agent remembers of it."""

    name: str
    key: NodeKey
    client: LndClient
    flows: FlowAccount = field(default_factory=FlowAccount)
    found: dict[ShortChannelId, ChannelPolicy] = field(default_factory=dict)
    """The own policies at the beginning of the episode."""
    ledger: Ledger = field(default_factory=Ledger)
    """Of the last round."""
    passed: Mapping[ShortChannelId, ChannelFlow] = field(default_factory=dict)
    """What passed the channels in the last round."""
    known: tuple[LocalChannel, ...] = ()
    """The own channels as the node last reported them, ascending by id."""
    graph: NetworkGraph = field(default_factory=NetworkGraph)
    """Gossip as the node last reported it."""
    up: bool = True
    """Whether it answered when it was asked last."""
    watching: asyncio.Task[None] | None = None

    async def watch(self) -> None:
        """Count HTLC events from now on.

        Raises:
            SettleTimeoutError: the node did not confirm within `WATCH_SECONDS`.
        """
        began = asyncio.Event()
        self.flows = FlowAccount()
        self.watching = asyncio.ensure_future(self._follow(began))
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                await began.wait()
        except TimeoutError as exc:
            await self.leave()
            raise SettleTimeoutError(f"{self.name} does not tell of its HTLCs") from exc

    async def leave(self) -> None:
        """Count no more events."""
        if self.watching is not None:
            self.watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, LndError):
                await self.watching
            self.watching = None

    async def _follow(self, began: asyncio.Event) -> None:
        async for event in self.client.htlc_events():
            if isinstance(event, StreamRestarted):
                began.set()
            else:
                self.flows.on_event(event)

    async def look(self) -> None:
        """Ask for channels and gossip; a node that is down keeps what was known of it."""
        try:
            patience = ANSWER_SECONDS if self.up else DOWN_SECONDS
            channels, graph = await within(self._ask(), patience)
        except DOWN:
            self.up = False
        else:
            self.up = True
            self.known = tuple(sorted(channels, key=lambda channel: channel.scid))
            self.graph = graph

    async def _ask(self) -> tuple[tuple[LocalChannel, ...], NetworkGraph]:
        return await self.client.channels(), await self.client.graph()

    async def end_round(self) -> None:
        """Take what passed since the last round; call it right after `wait_quiet`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVENTS_SECONDS):
                while self.flows.under_way:  # noqa: ASYNC110 - events come by another task
                    await asyncio.sleep(0.005)
        self.passed = self.flows.take(self.known) if self.up else {}

    async def begin_episode(self) -> None:
        """Forget earlier rounds; the present policies are those that the agent found."""
        await self.look()
        self.flows.take(self.known)
        self.ledger, self.passed = Ledger(), {}
        self.found = {}
        for channel in self.known:
            policy = own_policy(self.graph.channels.get(channel.scid), self.key)
            if policy is not None:
                self.found[channel.scid] = policy

    def view(self, number: int, at: float) -> NodeView:
        """What the agent sees after round `number` at Unix time `at`, from what `look` brought."""
        of_peer: dict[NodeKey, list[Channel]] = {channel.peer: [] for channel in self.known}
        for public in self.graph.channels.values():
            for end in (public.node1, public.node2):
                if end in of_peer:
                    of_peer[end].append(public)
        return NodeView(
            node=self.key,
            round=number,
            time=at,
            channels=tuple(
                channel_view(
                    self.key,
                    channel if self.up else replace(channel, active=False),
                    self.graph.channels.get(channel.scid),
                    flow=self.passed.get(channel.scid, ChannelFlow()),
                    competing=competing_ppm(of_peer[channel.peer], channel.peer, self.key),
                    found=self.found.get(channel.scid),
                )
                for channel in self.known
            ),
            graph=self.graph,
            fees_paid_msat=self.ledger.fees_paid_msat,
            payments_settled=self.ledger.payments_settled,
            payments_failed=self.ledger.payments_failed,
            failed_attempts=self.ledger.failed_attempts,
        )


async def change_policy(
    node: LiveNode, channel: LocalChannel, change: Callable[[ChannelPolicy], ChannelPolicy]
) -> None:
    """Announce what `change` makes of the policy in force, unless that is the same.

    `disabled` and `last_update` are LND's to set.

    Raises:
        LndError: the node is down or refuses.
    """
    current = (await within(node.client.channel(channel.scid))).edge_from(node.key).policy
    if current is None:
        return  # its first announcement is still under way
    wanted = change(current)
    if current == replace(wanted, last_update=current.last_update, disabled=current.disabled):
        return
    await asyncio.sleep(max(0.0, current.last_update + POLICY_SPACING_SECONDS - time.time()))
    await within(node.client.set_policy(channel.channel_point, wanted))


async def wait_quiet(nodes: Sequence[LiveNode], seconds: float) -> None:
    """Look until no node that is up has an HTLC under way, or `seconds` have passed."""
    end = time.monotonic() + seconds
    asked = list(nodes)
    while True:
        await asyncio.gather(*(node.look() for node in asked))
        asked = [node for node in nodes if node.up]
        at_rest = not any(channel.pending_htlcs for node in asked for channel in node.known)
        if at_rest or time.monotonic() > end:
            return
        await asyncio.sleep(POLL_SECONDS)
