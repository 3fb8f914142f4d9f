"""Deciding on the HTLCs that a node is asked to forward (LND's `HtlcInterceptor`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import grpc

from lnagents.lnd import convert_payments
from lnagents.lnd.connection import Connection
from lnagents.lnd.streams import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, wait_connected
from lnagents.lnd.stubs import router_pb2 as router
from lnagents.lnd.types import HeldHtlc, HtlcAnswer, StreamRestarted
from lnagents.model.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    LndError,
    NodeUnavailableError,
    PermissionRefusedError,
)
from lnagents.model.units import ShortChannelId

if TYPE_CHECKING:
    _Call: TypeAlias = grpc.aio.StreamStreamCall[
        router.ForwardHtlcInterceptResponse, router.ForwardHtlcInterceptRequest
    ]

OTHER_SECONDS = 5.0
"""How long another interceptor of the node is waited for; one of ours whose connection broke is
forgotten within milliseconds."""

_ASKED = router.ForwardHtlcInterceptResponse()
"""Names the call in messages."""


class HtlcInterceptor:
    """Holds every HTLC that the node is asked to forward until `answer` says what becomes of it.

        interceptor = client.htlc_interceptor()
        async for htlc in interceptor.htlcs():
            if isinstance(htlc, HeldHtlc):
                await interceptor.answer(htlc, ResumeHtlc())

    When the connection breaks LND resumes all that it holds (unless its `requireinterceptor` is
    set), and so it does when `htlcs` is left: nothing can get stuck here.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._held: dict[tuple[ShortChannelId, int], _Call] = {}
        self._writing = asyncio.Lock()

    async def htlcs(self) -> AsyncGenerator[HeldHtlc | StreamRestarted, None]:
        """What the node holds from now on, until the client is closed; reconnects by itself.

        A `StreamRestarted` comes when the node has begun to hold forwards, again after each
        interruption; what was held before that has been resumed.

        Raises:
            PermissionRefusedError: the macaroon does not allow it.
            AlreadyExistsError: another program decides on this node's forwards.
            InvalidRequestError: the node does not know the call, or refused an answer.
        """
        restarts = 0
        cause = ""
        delay = FIRST_DELAY_SECONDS
        refused_since: float | None = None
        while not self._connection.closed:
            try:
                async for item in self._session():
                    if item is None:
                        yield StreamRestarted("HtlcInterceptor", restarts, cause)
                        restarts += 1
                        delay, refused_since = FIRST_DELAY_SECONDS, None
                    else:
                        yield item
                cause = f"{self._connection.endpoint.address}: the node ended the stream"
            except AlreadyExistsError:
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > OTHER_SECONDS:
                    raise
            except (PermissionRefusedError, InvalidRequestError):
                raise
            except LndError as exc:
                cause = str(exc)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    async def answer(self, htlc: HeldHtlc, answer: HtlcAnswer) -> bool:
        """Say what becomes of `htlc`; whether the node was still there to be told.

        False: the node resumed it meanwhile, because the connection broke, or this is the second
        answer.
        """
        async with self._writing:  # gRPC takes one message at a time
            call = self._held.pop((htlc.incoming_scid, htlc.incoming_htlc_id), None)
            if call is None:
                return False
            try:
                await call.write(convert_payments.to_htlc_answer(htlc, answer))
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
                return False
            return True

    async def _session(self) -> AsyncGenerator[HeldHtlc | None, None]:
        """What one connection gives; the first is None, when the node has begun to hold."""
        stubs = await self._connection.stubs()
        await wait_connected(self._connection, stubs)
        call = stubs.router.HtlcInterceptor(metadata=stubs.metadata)
        read = asyncio.ensure_future(call.read())
        try:
            await self._wait_begun(stubs.router.HtlcInterceptor(metadata=stubs.metadata), read)
            yield None
            while True:
                with self._connection.errors(_ASKED):
                    message = await read
                if not isinstance(message, router.ForwardHtlcInterceptRequest):
                    return  # the end of the stream
                htlc = convert_payments.held_htlc(message)
                self._held[htlc.incoming_scid, htlc.incoming_htlc_id] = call
                yield htlc
                read = asyncio.ensure_future(call.read())
        finally:
            self._held.clear()
            call.cancel()
            read.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await read

    async def _wait_begun(self, probe: _Call, read: asyncio.Future[object]) -> None:
        """Wait until the node holds forwards for the call that is read by `read`.

        LND confirms nothing, but it refuses a second interceptor: `probe` is one.

        Raises:
            AlreadyExistsError: the call was refused; perhaps `probe` came first.
            LndError: the node is gone.
        """
        refusal = asyncio.ensure_future(probe.read())
        try:
            async with asyncio.timeout(self._connection.timeout):
                await asyncio.wait([read, refusal], return_when=asyncio.FIRST_COMPLETED)
            with self._connection.errors(_ASKED):
                if read.done():
                    await read  # a first HTLC, or why there will be none
                    return
                await refusal
            raise NodeUnavailableError("HtlcInterceptor: the node ended the stream")
        except AlreadyExistsError:
            if read.done():
                raise
        except TimeoutError as exc:
            address = self._connection.endpoint.address
            raise NodeUnavailableError(f"{address}: HtlcInterceptor did not begin") from exc
        finally:
            probe.cancel()
            refusal.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await refusal
