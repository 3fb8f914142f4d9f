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

REFUSAL_SECONDS = 0.02
"""How much later than one refusal of two calls that were made at once the other may come."""

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
                        delay = FIRST_DELAY_SECONDS
                    else:
                        refused_since = None
                        yield item
                refused_since = None
                cause = f"{self._connection.endpoint.address}: the node ended the stream"
            except AlreadyExistsError:
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > OTHER_SECONDS:
                    raise
            except (PermissionRefusedError, InvalidRequestError):
                raise
            except LndError as exc:
                cause, refused_since = str(exc), None
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
        # LND confirms nothing, but it refuses a second interceptor. So there are two, and when one
        # of them is refused the other one has begun.
        sides = [_Side(stubs.router.HtlcInterceptor(metadata=stubs.metadata)) for _ in range(2)]
        try:
            side = await self._begun(sides)
            yield None
            while True:
                with self._connection.errors(_ASKED):
                    message = await side.read
                if not isinstance(message, router.ForwardHtlcInterceptRequest):
                    return  # the end of the stream
                # The next one comes while this one is decided on: HTLCs come in bursts, and those
                # that are answered together go on in one commitment.
                side.read = asyncio.ensure_future(side.call.read())
                htlc = convert_payments.held_htlc(message)
                self._held[htlc.incoming_scid, htlc.incoming_htlc_id] = side.call
                yield htlc
        finally:
            self._held.clear()
            for side in sides:
                await side.end()

    async def _begun(self, sides: list[_Side]) -> _Side:
        """The one for which the node holds forwards from now on; the other one is ended.

        Raises:
            AlreadyExistsError: it does so for another program.
            LndError: the node is gone.
        """
        try:
            async with asyncio.timeout(self._connection.timeout):
                await asyncio.wait(
                    [side.read for side in sides], return_when=asyncio.FIRST_COMPLETED
                )
        except TimeoutError as exc:
            address = self._connection.endpoint.address
            raise NodeUnavailableError(f"{address}: HtlcInterceptor did not begin") from exc
        # If it refuses both, both answers are under way.
        await asyncio.wait([side.read for side in sides], timeout=REFUSAL_SECONDS)
        left = [side for side in sides if not side.refused]
        if len(left) == 1:
            return left[0]
        with self._connection.errors(_ASKED):
            await sides[0].read
        raise NodeUnavailableError("HtlcInterceptor: the node ended the stream")


class _Side:
    """One of two calls of which the node takes one."""

    def __init__(self, call: _Call) -> None:
        self.call = call
        self.read: asyncio.Future[object] = asyncio.ensure_future(call.read())

    @property
    def refused(self) -> bool:
        """Whether the node has ended the call with an error."""
        return self.read.done() and self.read.exception() is not None

    async def end(self) -> None:
        self.call.cancel()
        self.read.cancel()
        with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await self.read
