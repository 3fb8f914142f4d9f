"""The control service of a daemon, and its client: gRPC over a Unix socket of the own user."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from grpc import aio

from lnagents.agent.ledger import PaymentRecord
from lnagents.agent.messages import (
    payment_message,
    payment_report,
    purchase_message,
    purchase_report,
    status,
    status_message,
)
from lnagents.agent.status import AgentStatus, CheckpointReport, PaymentReport, PurchaseReport
from lnagents.agent.stubs import control_pb2 as pb
from lnagents.agent.stubs.control_pb2_grpc import (
    AgentControlServicer,
    AgentControlStub,
    add_AgentControlServicer_to_server,
)
from lnagents.model.errors import (
    ConfigError,
    InputError,
    InvalidRequestError,
    LimitExceededError,
    LnagentsError,
    MarketError,
    NodeTimeoutError,
    NodeUnavailableError,
    PaymentError,
)
from lnagents.model.units import Msat, NodeKey

SOCKET_NAME = "control.sock"

MAX_SOCKET_PATH_BYTES = 107
"""`sun_path` of unix(7) has 108 bytes, the last of which is 0."""

CALL_SECONDS = 10.0
"""Deadline of the client's calls, payments aside."""

STEP_SECONDS = 60.0
"""For a round, in which a learner may learn."""

PAY_MARGIN_SECONDS = 20.0
"""How much longer than its timeout a payment is waited for: a hint may be bought first."""

STOP_SECONDS = 1.0

OUTCOMES_QUEUE = 10_000
"""Outcomes that a slow watcher may be behind; then the oldest are dropped."""

Answer = TypeVar("Answer")
Context = aio.ServicerContext[Any, Any]


class Controlled(Protocol):
    """What the service needs of a daemon."""

    async def pay(
        self,
        request: str,
        *,
        max_fee_msat: Msat | None,
        timeout: float,
        delegate: NodeKey | None = None,
    ) -> PaymentRecord:
        """Pay an invoice."""

    async def buy(
        self,
        seller_url: str,
        seller_key: NodeKey,
        path: str,
        *,
        max_price_msat: Msat | None,
        again: bool,
        timeout: float,
    ) -> PurchaseReport:
        """Buy a document."""

    async def status(self) -> AgentStatus:
        """The agent now."""

    def pause(self) -> None:
        """Stop deciding."""

    def resume(self) -> None:
        """Decide again."""

    async def reload(self) -> None:
        """Read the configuration again."""

    async def step(self) -> int:
        """Live one round now."""

    async def checkpoint(self) -> CheckpointReport:
        """Save the learner."""


class Outcomes:
    """Hands each ended payment to all who watch."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[PaymentRecord]] = set()

    def publish(self, record: PaymentRecord) -> None:
        """Tell everybody; never waits."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(record)

    async def watch(self, ready: Callable[[], Awaitable[None]]) -> AsyncIterator[PaymentRecord]:
        """All that are published from now on; `ready` is awaited once nothing is missed."""
        queue: asyncio.Queue[PaymentRecord] = asyncio.Queue(OUTCOMES_QUEUE)
        self._queues.add(queue)
        try:
            await ready()
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)


def socket_path(data_directory: Path) -> Path:
    """Where the agent with this data directory listens.

    Raises:
        ConfigError: the path is longer than sockets may have.
    """
    path = data_directory.absolute() / SOCKET_NAME
    length = len(bytes(path))
    if length > MAX_SOCKET_PATH_BYTES:
        problem = f"{path} has {length} bytes, a socket's path may have {MAX_SOCKET_PATH_BYTES}"
        raise ConfigError("data_directory", problem)
    return path


# ---- The service

_STATUS_OF_ERROR: tuple[tuple[type[LnagentsError], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (LimitExceededError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (PaymentError, grpc.StatusCode.FAILED_PRECONDITION),
    (MarketError, grpc.StatusCode.ABORTED),
    (LnagentsError, grpc.StatusCode.INTERNAL),
)


class _Service(AgentControlServicer):
    def __init__(self, daemon: Controlled, outcomes: Outcomes) -> None:
        self._daemon = daemon
        self._outcomes = outcomes

    async def Pay(self, request: pb.PayRequest, context: Context) -> pb.Payment:  # noqa: N802
        limit = request.max_fee_msat if request.HasField("max_fee_msat") else None
        work = self._daemon.pay(
            request.payment_request,
            max_fee_msat=limit,
            timeout=request.timeout_seconds,
            delegate=request.delegate.hex() if request.HasField("delegate") else None,
        )
        return payment_message(await _answer(context, work))

    async def Buy(self, request: pb.BuyRequest, context: Context) -> pb.Purchase:  # noqa: N802
        limit = request.max_price_msat if request.HasField("max_price_msat") else None
        work = self._daemon.buy(
            request.seller_url,
            request.seller_key.hex(),
            request.path,
            max_price_msat=limit,
            again=request.again,
            timeout=request.timeout_seconds,
        )
        return purchase_message(await _answer(context, work))

    async def GetStatus(  # noqa: N802
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.Status:
        return status_message(await _answer(context, self._daemon.status()))

    async def WatchOutcomes(  # noqa: N802
        self, request: pb.WatchOutcomesRequest, context: Context
    ) -> AsyncIterator[pb.Payment]:
        async def ready() -> None:
            await context.send_initial_metadata(())

        async with contextlib.aclosing(self._outcomes.watch(ready)) as records:  # type: ignore[type-var]
            async for record in records:
                yield payment_message(record)

    async def Pause(  # noqa: N802
        self, request: pb.PauseRequest, context: Context
    ) -> pb.PauseResponse:
        self._daemon.pause()
        return pb.PauseResponse()

    async def Resume(  # noqa: N802
        self, request: pb.ResumeRequest, context: Context
    ) -> pb.ResumeResponse:
        self._daemon.resume()
        return pb.ResumeResponse()

    async def Reload(  # noqa: N802
        self, request: pb.ReloadRequest, context: Context
    ) -> pb.ReloadResponse:
        await _answer(context, self._daemon.reload())
        return pb.ReloadResponse()

    async def Step(  # noqa: N802
        self, request: pb.StepRequest, context: Context
    ) -> pb.StepResponse:
        return pb.StepResponse(round=await _answer(context, self._daemon.step()))

    async def SaveCheckpoint(  # noqa: N802
        self, request: pb.SaveCheckpointRequest, context: Context
    ) -> pb.SaveCheckpointResponse:
        report = await _answer(context, self._daemon.checkpoint())
        return pb.SaveCheckpointResponse(round=report.round, bytes=report.bytes)


async def _answer(context: Context, work: Awaitable[Answer]) -> Answer:
    try:
        return await work
    except LnagentsError as exc:
        status = next(code for kind, code in _STATUS_OF_ERROR if isinstance(exc, kind))
        await context.abort(status, str(exc))


@contextlib.asynccontextmanager
async def serve_control(
    daemon: Controlled, outcomes: Outcomes, data_directory: Path
) -> AsyncIterator[None]:
    """Listen in the data directory until the block ends.

    Raises:
        ConfigError: the socket's path is too long, or cannot be made.
    """
    path = socket_path(data_directory)
    # The data directory is locked by this process: an old socket is a dead one's.
    path.unlink(missing_ok=True)
    server = aio.server()
    add_AgentControlServicer_to_server(_Service(daemon, outcomes), server)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as exc:
        raise ConfigError("data_directory", f"cannot listen on {path}") from exc
    path.chmod(0o600)
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_SECONDS)
        path.unlink(missing_ok=True)


# ---- The client


class AgentControl:
    """Talks to the daemon with this data directory; it need not run yet.

    async with AgentControl(directory) as agent:
        report = await agent.pay(invoice, max_fee_msat=10_000)
    """

    def __init__(self, data_directory: Path) -> None:
        self.path = socket_path(data_directory)
        self._channel = aio.insecure_channel(
            f"unix:{self.path}",
            options=(
                # A daemon that starts is there within seconds, so try again soon.
                ("grpc.max_reconnect_backoff_ms", 500),
                ("grpc.use_local_subchannel_pool", 1),
            ),
        )
        self._stub = AgentControlStub(self._channel)

    async def __aenter__(self) -> AgentControl:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def pay(
        self,
        request: str,
        *,
        max_fee_msat: Msat | None = None,
        timeout: float = 60.0,
        delegate: NodeKey | None = None,
    ) -> PaymentReport:
        """Pay an invoice and wait for its end; one still on its way after `timeout` says so.

        `delegate` is the key of an agent that is to find the rest of the way, for the fee that it
        quotes, or for `max_fee_msat`.

        Raises:
            LimitExceededError: a money limit of the agent forbids it.
            PaymentError: it cannot be paid, for instance in dry-run.
            InvalidRequestError: not an invoice of this network.
            NodeUnavailableError: the daemon does not run, or ended; the payment may go on.
        """
        message = pb.PayRequest(
            payment_request=request,
            max_fee_msat=max_fee_msat,
            timeout_seconds=timeout,
            delegate=None if delegate is None else bytes.fromhex(delegate),
        )
        return payment_report(
            await self._ask(self._stub.Pay(message, timeout=timeout + PAY_MARGIN_SECONDS))
        )

    async def buy(
        self,
        seller_url: str,
        seller_key: NodeKey,
        path: str,
        *,
        max_price_msat: Msat | None = None,
        again: bool = False,
        timeout: float = 60.0,
    ) -> PurchaseReport:
        """Buy the document that `path` asks for; asking again while it holds pays nothing more.

        Args:
            seller_url: of the seller's Aperture.
            seller_key: of its node.
            path: the question (`lnagents.market.Request.path`), with a nonce that is new.
            max_price_msat: the most to pay; None: what the agent's budget allows.
            again: buy also if an answer to the same question still holds.
            timeout: seconds. What was paid for by then, the agent collects all the same.

        Raises:
            MarketError: it is not for sale, costs more, or was paid for and has not come yet.
            LimitExceededError: a budget of the agent forbids it.
            PaymentError: it was not paid, for instance in dry-run.
            InvalidRequestError: nothing can be sold under such a path.
            NodeUnavailableError: the daemon does not run, or ended; what it paid for it collects
                when it starts again.
        """
        message = pb.BuyRequest(
            seller_url=seller_url,
            seller_key=bytes.fromhex(seller_key),
            path=path,
            max_price_msat=max_price_msat,
            again=again,
            timeout_seconds=timeout,
        )
        return purchase_report(
            await self._ask(self._stub.Buy(message, timeout=timeout + PAY_MARGIN_SECONDS))
        )

    async def status(self) -> AgentStatus:
        """The agent now.

        Raises:
            NodeUnavailableError: the daemon does not run.
        """
        message = pb.GetStatusRequest()
        return status(await self._ask(self._stub.GetStatus(message, timeout=CALL_SECONDS)))

    async def outcomes(self) -> AsyncIterator[PaymentReport]:
        """Every payment that ends from now on, until the daemon stops.

        Raises:
            NodeUnavailableError: the daemon does not run.
        """
        call = self._stub.WatchOutcomes(pb.WatchOutcomesRequest())
        try:
            async for message in call:
                yield payment_report(message)
        except aio.AioRpcError as exc:
            self._raise(exc)
        finally:
            call.cancel()

    async def pause(self) -> None:
        """Stop decisions; observing and paying go on."""
        await self._ask(self._stub.Pause(pb.PauseRequest(), timeout=CALL_SECONDS))

    async def resume(self) -> None:
        """Decide again."""
        await self._ask(self._stub.Resume(pb.ResumeRequest(), timeout=CALL_SECONDS))

    async def reload(self) -> None:
        """Read the configuration file again.

        Raises:
            InvalidRequestError: it is wrong; nothing has changed.
        """
        await self._ask(self._stub.Reload(pb.ReloadRequest(), timeout=CALL_SECONDS))

    async def step(self) -> int:
        """Let the agent live one round now, and wait for it; its number.

        Raises:
            InvalidRequestError: the agent's rounds begin by themselves.
            LnagentsError: the round could not take place.
        """
        answer = await self._ask(self._stub.Step(pb.StepRequest(), timeout=STEP_SECONDS))
        return answer.round

    async def checkpoint(self) -> CheckpointReport:
        """Save the learner now."""
        message = pb.SaveCheckpointRequest()
        answer = await self._ask(self._stub.SaveCheckpoint(message, timeout=CALL_SECONDS))
        return CheckpointReport(answer.round, answer.bytes)

    async def _ask(self, call: Awaitable[Answer]) -> Answer:
        try:
            return await call
        except aio.AioRpcError as exc:
            self._raise(exc)

    def _raise(self, exc: aio.AioRpcError) -> NoReturn:
        details = exc.details() or exc.code().name
        if exc.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise NodeUnavailableError(f"no agent listens on {self.path}") from exc
        if details == "Deadline Exceeded":  # gRPC's own words: an agent would say what took so long
            raise NodeTimeoutError(f"the agent on {self.path} did not answer in time") from exc
        raise _ERROR_OF_STATUS.get(exc.code(), LnagentsError)(details) from exc


_ERROR_OF_STATUS: dict[grpc.StatusCode, type[LnagentsError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceededError,
    grpc.StatusCode.FAILED_PRECONDITION: PaymentError,
    grpc.StatusCode.ABORTED: MarketError,
    grpc.StatusCode.DEADLINE_EXCEEDED: NodeTimeoutError,
}
