"""Deciding on the HTLCs that a node is asked to forward (LND's `HtlcInterceptor`)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
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

WRITE_SECONDS = 5.0
"""How long gRPC may take to accept one answer; then the connection is given up."""

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
        self._session: _Session | None = None

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
                async with aclosing(self._one_session()) as items:
                    async for item in items:
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

    def answer(self, htlc: HeldHtlc, answer: HtlcAnswer) -> asyncio.Future[bool]:
        """Say what becomes of `htlc`, in the order of the calls; nothing need be awaited.

        The result tells, as soon as the answer is on its way, whether the node was still there to
        be told. False: it resumed the HTLC meanwhile, because the connection broke, or this is the
        second answer.
        """
        if self._session is not None:
            return self._session.answer(htlc, answer)
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        told.set_result(False)
        return told

    async def _one_session(self) -> AsyncGenerator[HeldHtlc | None, None]:
        """What one connection gives; the first is None, when the node has begun to hold."""
        stubs = await self._connection.stubs()
        await wait_connected(self._connection, stubs)
        # LND confirms nothing, but it refuses a second interceptor. So there are two, and when one
        # of them is refused the other one has begun.
        sides = [_Side(stubs.router.HtlcInterceptor(metadata=stubs.metadata)) for _ in range(2)]
        try:
            session = self._session = _Session(self._connection, await self._begun(sides))
            yield None
            while (htlc := await session.next()) is not None:
                yield htlc
        finally:
            if self._session is not None:
                await self._session.close()
                self._session = None
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


class _Session:
    """One call for which the node holds forwards.

    Reading and writing do not wait for each other: HTLCs come in bursts, and those that are
    answered together go on in one commitment. gRPC takes one message at a time, so one task writes
    all answers.
    """

    def __init__(self, connection: Connection, side: _Side) -> None:
        self._connection = connection
        self._call = side.call
        self._first: asyncio.Future[object] | None = side.read
        self._held: set[tuple[ShortChannelId, int]] = set()
        self._answers: deque[tuple[router.ForwardHtlcInterceptResponse, asyncio.Future[bool]]]
        self._answers = deque()
        self._answered = asyncio.Event()
        self._writing = asyncio.ensure_future(self._write())

    async def close(self) -> None:
        """Void what was not written."""
        self._held.clear()
        self._writing.cancel()
        await asyncio.wait([self._writing])
        for _, told in self._answers:
            _tell(told, False)

    async def next(self) -> HeldHtlc | None:
        """What the node holds next; None: it ended the stream.

        Raises:
            LndError: the connection broke, or was given up.
        """
        with self._connection.errors(_ASKED):
            try:
                first, self._first = self._first, None
                message = await (self._call.read() if first is None else first)
            except asyncio.CancelledError as exc:
                task = asyncio.current_task()
                if self._writing.done() and task is not None and not task.cancelling():
                    address = self._connection.endpoint.address
                    raise NodeUnavailableError(f"{address} takes no answers") from exc
                raise
        if not isinstance(message, router.ForwardHtlcInterceptRequest):
            return None
        htlc = convert_payments.held_htlc(message)
        self._held.add((htlc.incoming_scid, htlc.incoming_htlc_id))
        return htlc

    def answer(self, htlc: HeldHtlc, answer: HtlcAnswer) -> asyncio.Future[bool]:
        """Have it written; whether it was."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        name = htlc.incoming_scid, htlc.incoming_htlc_id
        if name in self._held and not self._writing.done():
            self._held.remove(name)
            self._answers.append((convert_payments.to_htlc_answer(htlc, answer), told))
            self._answered.set()
        else:
            told.set_result(False)
        return told

    async def _write(self) -> None:
        try:
            while True:
                await self._answered.wait()
                self._answered.clear()
                while self._answers:
                    message, told = self._answers[0]
                    async with asyncio.timeout(WRITE_SECONDS):
                        await self._call.write(message)
                    self._answers.popleft()
                    _tell(told, True)
        except (TimeoutError, grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            self._call.cancel()  # so that the node resumes what it holds


def _tell(told: asyncio.Future[bool], written: bool) -> None:
    if not told.done():  # who asked may have been cancelled
        told.set_result(written)
