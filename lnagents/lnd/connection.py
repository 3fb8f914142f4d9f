"""The gRPC channel to one node: TLS, macaroon, deadlines, retries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import Message

from lnagents.lnd.errors import lnd_error
from lnagents.lnd.stubs import invoices_pb2, lightning_pb2, router_pb2, stateservice_pb2
from lnagents.lnd.stubs.invoices_pb2_grpc import InvoicesStub
from lnagents.lnd.stubs.lightning_pb2_grpc import LightningStub
from lnagents.lnd.stubs.router_pb2_grpc import RouterStub
from lnagents.lnd.stubs.stateservice_pb2_grpc import StateStub
from lnagents.lnd.types import LndEndpoint
from lnagents.model.errors import NodeUnavailableError

if TYPE_CHECKING:
    from lnagents.lnd.stubs.invoices_pb2_grpc import InvoicesAsyncStub
    from lnagents.lnd.stubs.lightning_pb2_grpc import LightningAsyncStub
    from lnagents.lnd.stubs.router_pb2_grpc import RouterAsyncStub
    from lnagents.lnd.stubs.stateservice_pb2_grpc import StateAsyncStub

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""DescribeGraph of mainnet is far larger than gRPC's default of 4 MiB."""

_READS = {
    "lnrpc.Lightning": (
        "ChannelBalance",
        "ClosedChannels",
        "DecodePayReq",
        "DescribeGraph",
        "ForwardingHistory",
        "GetChanInfo",
        "GetInfo",
        "GetTransactions",
        "ListChannels",
        "ListInvoices",
        "ListPayments",
        "ListPeers",
        "LookupInvoice",
        "PendingChannels",
        "QueryRoutes",
        "SignMessage",
        "VerifyMessage",
        "WalletBalance",
    ),
    "routerrpc.Router": ("BuildRoute", "QueryMissionControl", "QueryProbability"),
}
"""Calls that change nothing, so that gRPC may repeat them."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A node that vanished without a word is noticed within 30 s, also by an idle subscription.
    # LND takes pings every 5 s (its option `grpc.client-ping-min-wait`).
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC would wait up to 2 minutes before it tries a node again that was restarted.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [
                            {"service": service, "method": method}
                            for service, methods in _READS.items()
                            for method in methods
                        ],
                        "retryPolicy": {
                            "maxAttempts": 4,
                            "initialBackoff": "0.1s",
                            "maxBackoff": "1s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE"],
                        },
                    }
                ]
            }
        ),
    ),
)


_CALL_NAMES: dict[str, str] = {
    method.input_type.full_name: method.name
    for module in (invoices_pb2, lightning_pb2, router_pb2, stateservice_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""For messages to users; no two of our calls take the same request."""

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def call_name(request: Message) -> str:
    """The name of the call that takes `request`, such as `GetInfo`."""
    return _CALL_NAMES[request.DESCRIPTOR.full_name]


class Stubs:
    """The services of one open gRPC channel."""

    def __init__(self, channel: grpc.aio.Channel, macaroon: bytes | None) -> None:
        self.channel = channel
        self.metadata = (("macaroon", macaroon.hex()),) if macaroon is not None else ()
        self.lightning: LightningAsyncStub = LightningStub(channel)
        self.router: RouterAsyncStub = RouterStub(channel)
        self.invoices: InvoicesAsyncStub = InvoicesStub(channel)
        self.state: StateAsyncStub = StateStub(channel)


class Connection:
    """One node's gRPC channel, opened at the first call."""

    def __init__(self, endpoint: LndEndpoint, timeout: float) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        """Deadline in seconds of a call that names none."""
        self.closed = False
        self._stubs: Stubs | None = None
        self._opening = asyncio.Lock()

    async def stubs(self) -> Stubs:
        """The services to call.

        Raises:
            NodeUnavailableError: the certificate or the macaroon cannot be read (yet), or the
                connection was closed.
        """
        if self.closed:
            raise NodeUnavailableError(f"the client of {self.endpoint.address} is closed")
        if self._stubs is None:
            async with self._opening:
                if self._stubs is None:
                    self._stubs = await self._open()
        return self._stubs

    async def _open(self) -> Stubs:
        certificate = await asyncio.to_thread(_read, self.endpoint.tls_certificate)
        macaroon = None
        if self.endpoint.macaroon is not None:
            macaroon = await asyncio.to_thread(_read, self.endpoint.macaroon)
        credentials = grpc.ssl_channel_credentials(certificate)
        channel = grpc.aio.secure_channel(self.endpoint.address, credentials, options=_OPTIONS)
        return Stubs(channel, macaroon)

    async def close(self) -> None:
        """Close the channel for good; calls under way end with an error."""
        self.closed = True
        async with self._opening:
            if self._stubs is not None:
                await self._stubs.channel.close()

    async def ask(
        self,
        call: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
    ) -> Response:
        """Make a call that has one answer, within `timeout` seconds or the connection's own.

        Raises:
            LndError: as `lnagents.lnd.errors` maps it.
        """
        stubs = await self.stubs()
        seconds = self.timeout if timeout is None else timeout
        with self.errors(request):
            return await call(request, timeout=seconds, metadata=stubs.metadata)

    async def first(
        self,
        call: grpc.aio.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
    ) -> Response:
        """Make a call that has many answers and take the first; the deadline is as in `ask`.

        Raises:
            LndError: as `lnagents.lnd.errors` maps it.
            NodeUnavailableError: the node ended the stream without an answer.
        """
        stubs = await self.stubs()
        seconds = self.timeout if timeout is None else timeout
        answers = call(request, timeout=seconds, metadata=stubs.metadata)
        try:
            with self.errors(request):
                async for answer in answers:
                    return answer
        finally:
            answers.cancel()
        raise NodeUnavailableError(
            f"{call_name(request)} at {self.endpoint.address}: ended without an answer"
        )

    @contextmanager
    def errors(self, request: Message) -> Iterator[None]:
        """Turn gRPC's exceptions into ours while `request` is being answered."""
        try:
            yield
        except grpc.aio.AioRpcError as exc:
            name = call_name(request)
            raise lnd_error(exc.code(), exc.details(), name, self.endpoint.address) from exc
        except asyncio.CancelledError as exc:
            # gRPC cancels calls under way when their channel closes; nobody asked that of the task.
            task = asyncio.current_task()
            if self.closed and task is not None and not task.cancelling():
                message = f"the client of {self.endpoint.address} was closed"
                raise NodeUnavailableError(message) from exc
            raise


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise NodeUnavailableError(f"{path} cannot be read: {exc.strerror}") from exc
