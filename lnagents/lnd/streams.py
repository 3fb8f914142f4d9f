"""Subscriptions that reconnect by themselves and say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from lnagents.lnd.connection import Connection, Stubs, call_name
from lnagents.lnd.types import StreamRestarted
from lnagents.model.errors import (
    InvalidRequestError,
    LndError,
    NodeUnavailableError,
    PermissionRefusedError,
)

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


async def reconnecting(
    connection: Connection,
    call: Callable[[Stubs], grpc.aio.UnaryStreamMultiCallable[Request, Response]],
    request: Callable[[], Request],
) -> AsyncGenerator[Response | StreamRestarted, None]:
    """What the node tells, each time beginning with `StreamRestarted`, until the client is closed.

    Subscribes again whenever the node ends the stream or is not reachable, after ever longer
    pauses; `request` is made anew each time, so that it can say where to go on. There is no
    deadline: keepalive pings find out whether the node is still there.

    Raises:
        PermissionRefusedError: the macaroon does not allow the subscription.
        InvalidRequestError: the node does not know it, or refuses its arguments.
    """
    restarts = 0
    cause = ""
    delay = FIRST_DELAY_SECONDS
    while not connection.closed:
        arguments = request()
        name = call_name(arguments)
        try:
            stubs = await connection.stubs()
            await wait_connected(connection, stubs)
            stream = call(stubs)(arguments, metadata=stubs.metadata)
            try:
                yield StreamRestarted(name, restarts, cause)
                restarts += 1
                with connection.errors(arguments):
                    async for message in stream:
                        delay = FIRST_DELAY_SECONDS
                        yield message
            finally:
                stream.cancel()
            cause = f"{name} at {connection.endpoint.address}: the node ended the stream"
        except (PermissionRefusedError, InvalidRequestError):
            raise
        except LndError as exc:
            cause = str(exc)
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY_SECONDS)


async def wait_connected(connection: Connection, stubs: Stubs) -> None:
    """Wait until the node can be reached; most streams say nothing before their first event.

    Raises:
        NodeUnavailableError: it cannot.
    """
    try:
        async with asyncio.timeout(connection.timeout):
            await stubs.channel.channel_ready()
    except (TimeoutError, grpc.aio.UsageError) as exc:
        raise NodeUnavailableError(f"{connection.endpoint.address} is not reachable") from exc
