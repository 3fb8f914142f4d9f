"""What is free on the own channels at this moment, without asking the node.

Decisions on forwards come many a second and may not wait for a call. So the node is asked in the
background, and in between own counting goes on from its last answer: an HTLC that was let through
counts as gone until an answer shows it, its failure is told, or so much time has passed that an
answer would show it. Money that comes in counts only once an answer shows it. So what is free is
never overrated by own forwards; own payments show with the next answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from lnagents.agent.candidates import sendable_msat
from lnagents.lnd import HeldHtlc
from lnagents.market.pass_book import HtlcName
from lnagents.model.errors import LndError
from lnagents.model.graph import LocalChannel
from lnagents.model.units import Msat, ShortChannelId

REFRESH_SECONDS = 0.5
"""Between two looks at the node's channels while decisions hang on them."""

CALM_SECONDS = 2.0
"""Between two looks otherwise."""

SHOWN_SECONDS = 5.0
"""What was let through so long ago the node's channels show, or it is over."""

_log = structlog.get_logger("lnagents.agent.rooms")


class ChannelNode(Protocol):
    """What is needed of the node; `lnagents.lnd.LndClient` has it."""

    async def channels(self, *, active_only: bool = False) -> tuple[LocalChannel, ...]:
        """The own open channels (ListChannels)."""


COMMITMENT_WEIGHT, HTLC_WEIGHT = 1_124, 172
"""Of a commitment with anchors, and of each HTLC in it (BOLT 3)."""


def htlc_cost_msat(channel: LocalChannel) -> Msat:
    """By how much one more HTLC lowers what can leave, beyond its own amount.

    The opener keeps enough for the commitment at twice the present fee rate, of which it has paid
    the single one off its balance (`lnwallet.CalcFeeBuffer`); each HTLC makes it larger.
    """
    if not channel.initiator:
        return 0
    weight = COMMITMENT_WEIGHT + HTLC_WEIGHT * channel.pending_htlcs
    return -(-2 * HTLC_WEIGHT * channel.commit_fee_msat // weight)


@dataclass(slots=True)
class _Leaving:
    """An HTLC that was let through and that the node's channels do not show yet."""

    scids: tuple[ShortChannelId, ...]
    """By one of these: to the same peer, LND takes whichever channel has room."""
    amount_msat: Msat
    at: float
    settled_at: float | None = None


class Rooms:
    """Own channels, kept current."""

    def __init__(self, node: ChannelNode, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._channels: dict[ShortChannelId, LocalChannel] = {}
        self._to_peer: dict[ShortChannelId, tuple[ShortChannelId, ...]] = {}
        self._leaving: dict[HtlcName, _Leaving] = {}
        self._gone: dict[ShortChannelId, tuple[Msat, int]] = {}
        """What is leaving by each channel: the sum, and of how many HTLCs."""
        self._wanted = asyncio.Event()
        self.on_shown: Callable[[frozenset[HtlcName], float], None] | None = None
        """Told which forwards the node has under way, and when it was asked (monotonic clock)."""

    async def run(self) -> None:
        """Ask the node again and again, until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CALM_SECONDS - REFRESH_SECONDS):
                    await self._wanted.wait()
            with contextlib.suppress(LndError):
                # A node that is away forwards nothing.
                await self.refresh()

    def hurry(self) -> None:
        """Have the node asked soon: what is known may be too old to decide on."""
        self._wanted.set()

    async def refresh(self) -> None:
        """Ask the node now.

        Raises:
            LndError: it does not answer.
        """
        self._wanted.clear()
        asked = self._clock()
        channels = await self._node.channels()
        self._channels = {channel.scid: channel for channel in channels}
        of_peer: dict[str, tuple[ShortChannelId, ...]] = {}
        for channel in channels:
            of_peer[channel.peer] = (*of_peer.get(channel.peer, ()), channel.scid)
        self._to_peer = {channel.scid: of_peer[channel.peer] for channel in channels}
        shown = frozenset[HtlcName]().union(*(channel.forwarded for channel in channels))
        self._leaving = {
            name: one
            for name, one in self._leaving.items()
            if name not in shown
            and (one.settled_at is None or one.settled_at >= asked)
            and one.at > asked - SHOWN_SECONDS
        }
        self._gone = {}
        for one in self._leaving.values():
            self._count(one, 1)
        if self.on_shown is not None:
            self.on_shown(shown, asked)

    def channel(self, scid: ShortChannelId) -> LocalChannel | None:
        """An own channel as the node last showed it."""
        return self._channels.get(scid)

    def free(self, scid: ShortChannelId) -> tuple[Msat, int]:
        """How much could leave over the channel now, and in how many HTLCs; 0 if it is unknown."""
        channel = self._channels.get(scid)
        if channel is None:
            return 0, 0
        gone_msat, gone = self._gone.get(scid, (0, 0))
        slots = channel.max_accepted_htlcs - channel.pending_htlcs - gone
        return sendable_msat(channel) - gone_msat - gone * htlc_cost_msat(channel), slots

    def ways(self, scid: ShortChannelId, amount_msat: Msat) -> tuple[ShortChannelId, ...]:
        """By which channels LND may send what asks for `scid`: all to its peer that have room."""
        found = []
        for one in self._to_peer.get(scid, ()):
            msat, slots = self.free(one)
            if msat >= amount_msat and slots > 0:
                found.append(one)
        return tuple(found)

    def let_through(self, htlc: HeldHtlc) -> None:
        """Count `htlc` as gone from now on."""
        name = htlc.incoming_scid, htlc.incoming_htlc_id
        amount = htlc.outgoing_amount_msat
        scids = self.ways(htlc.outgoing_scid, amount)
        before = self._leaving.get(name)
        if before is not None:  # a node that was interrupted asks about it again
            self._count(before, -1)
        one = self._leaving[name] = _Leaving(scids, amount, self._clock())
        self._count(one, 1)

    def ended(self, name: HtlcName, *, settled: bool) -> None:
        """The forward of HTLC `name` is over."""
        one = self._leaving.get(name)
        if one is None:
            return
        if settled:
            # It left: the next answer shows the balance without it.
            one.settled_at = self._clock()
        else:
            del self._leaving[name]
            self._count(one, -1)

    def _count(self, one: _Leaving, sign: int) -> None:
        for scid in one.scids:
            amount, htlcs = self._gone.get(scid, (0, 0))
            self._gone[scid] = amount + sign * one.amount_msat, htlcs + sign
