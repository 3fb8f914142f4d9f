"""Calls about the node's own channels: opening, closing, balances, policies, forwards."""

from __future__ import annotations

from collections.abc import Sequence

from lnagents.lnd import convert
from lnagents.lnd.connection import Connection
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.types import ChannelOpening, ClosedChannel
from lnagents.model.errors import (
    InvalidRequestError,
    NodeUnavailableError,
    NotFoundError,
)
from lnagents.model.graph import ChannelBalances, ChannelPolicy, LocalChannel
from lnagents.model.payment import Forward
from lnagents.model.units import ShortChannelId

FORWARDS_PER_PAGE = 10_000

RESOLUTIONS_OPTION = "store-final-htlc-resolutions"
"""Without which LND does not keep how HTLCs ended."""

OPENING_SECONDS = 120.0
"""A batch asks every peer in turn and then signs and publishes one transaction."""


class ChannelCalls:
    """Opening and closing, balances, policies, forwards."""

    _connection: Connection

    async def batch_open_channels(
        self,
        openings: Sequence[ChannelOpening],
        *,
        sat_per_vbyte: int = 1,
        min_confirmations: int = 1,
    ) -> tuple[str, ...]:
        """Open channels with one transaction; gives their channel points (`txid:index`), in order.

        They are pending until the transaction is deep enough. Spends only outputs with at least
        `min_confirmations`; 0 includes those that are in no block yet.

        Raises:
            LndError: one of them failed, then none is opened.
        """
        stubs = await self._connection.stubs()
        request = ln.BatchOpenChannelRequest(
            channels=[convert.to_opening(opening) for opening in openings],
            sat_per_vbyte=sat_per_vbyte,
            min_confs=min_confirmations,
            spend_unconfirmed=min_confirmations == 0,
        )
        answer = await self._connection.ask(
            stubs.lightning.BatchOpenChannel, request, OPENING_SECONDS
        )
        return tuple(
            convert.funding_outpoint(channel.txid, channel.output_index)
            for channel in answer.pending_channels
        )

    async def close_channel(
        self, channel_point: str, *, force: bool = False, sat_per_vbyte: int = 1
    ) -> str:
        """Start to close a channel and give the closing transaction's id once it is published.

        Raises:
            LndError: the peer or the node refused, for instance because HTLCs are pending.
            NodeTimeoutError: no closing transaction in time.
        """
        stubs = await self._connection.stubs()
        request = ln.CloseChannelRequest(
            channel_point=convert.to_channel_point(channel_point),
            force=force,
            # The rate of a forced close was fixed with the commitment.
            sat_per_vbyte=0 if force else sat_per_vbyte,
        )
        update = await self._connection.first(stubs.lightning.CloseChannel, request)
        return (update.close_pending.txid or update.chan_close.closing_txid)[::-1].hex()

    async def channels(self, *, active_only: bool = False) -> tuple[LocalChannel, ...]:
        """All open channels of the node, or only those whose peer is connected and ready."""
        stubs = await self._connection.stubs()
        request = ln.ListChannelsRequest(active_only=active_only)
        answer = await self._connection.ask(stubs.lightning.ListChannels, request)
        return tuple(convert.local_channel(channel) for channel in answer.channels)

    async def pending_channel_count(self) -> int:
        """How many channels are opening or closing."""
        stubs = await self._connection.stubs()
        request = ln.PendingChannelsRequest()
        answer = await self._connection.ask(stubs.lightning.PendingChannels, request)
        return (
            len(answer.pending_open_channels)
            + len(answer.waiting_close_channels)
            + len(answer.pending_force_closing_channels)
        )

    async def closed_channels(self) -> tuple[ClosedChannel, ...]:
        """The channels whose closing is complete."""
        stubs = await self._connection.stubs()
        request = ln.ClosedChannelsRequest()
        answer = await self._connection.ask(stubs.lightning.ClosedChannels, request)
        return tuple(convert.closed_channel(channel) for channel in answer.channels)

    async def channel_balances(self) -> ChannelBalances:
        """Sums over all channels, exact to the msat."""
        stubs = await self._connection.stubs()
        return convert.channel_balances(
            await self._connection.ask(stubs.lightning.ChannelBalance, ln.ChannelBalanceRequest())
        )

    async def set_policy(self, channel_point: str, policy: ChannelPolicy) -> None:
        """Announce `policy` for the own side of a channel.

        `disabled` and `last_update` are ignored, `max_htlc_msat` 0 keeps what is set. Gossip has a
        resolution of 1 s: of two updates within a second the other nodes drop the second for good.

        Raises:
            InvalidRequestError: the node refused it; the message says which field and why.
            NotFoundError: no such channel.
        """
        stubs = await self._connection.stubs()
        request = convert.to_policy_update(channel_point, policy)
        answer = await self._connection.ask(stubs.lightning.UpdateChannelPolicy, request)
        # LND answers OK even when it changed nothing.
        for failed in answer.failed_updates:
            message = f"UpdateChannelPolicy of {channel_point}: {failed.update_error}"
            if failed.reason == ln.UpdateFailure.UPDATE_FAILURE_NOT_FOUND:
                raise NotFoundError(message)
            if failed.reason == ln.UpdateFailure.UPDATE_FAILURE_PENDING:
                raise NodeUnavailableError(message)
            raise InvalidRequestError(message)

    async def htlc_settled(self, scid: ShortChannelId, htlc_id: int) -> bool | None:
        """How an HTLC that came in over `scid` ended, also on chain: settled, or given back.

        None: not for good yet, or the node does not keep it (`NodeInfo.keeps_resolutions`).
        """
        stubs = await self._connection.stubs()
        request = ln.LookupHtlcResolutionRequest(chan_id=scid, htlc_index=htlc_id)
        try:
            return (
                await self._connection.ask(stubs.lightning.LookupHtlcResolution, request)
            ).settled
        except NotFoundError:
            return None
        except NodeUnavailableError as exc:
            if RESOLUTIONS_OPTION in str(exc):
                return None  # LND's status for it is the one of a node that is away
            raise

    async def forwards(self, start: float, end: float) -> tuple[Forward, ...]:
        """Settled forwards from `start` to `end` (Unix seconds, whole seconds count), in order."""
        stubs = await self._connection.stubs()
        found: list[Forward] = []
        while True:
            request = ln.ForwardingHistoryRequest(
                start_time=int(start),
                end_time=int(end),
                index_offset=len(found),
                num_max_events=FORWARDS_PER_PAGE,
            )
            answer = await self._connection.ask(stubs.lightning.ForwardingHistory, request)
            found += map(convert.forward, answer.forwarding_events)
            if len(answer.forwarding_events) < FORWARDS_PER_PAGE:
                return tuple(found)
