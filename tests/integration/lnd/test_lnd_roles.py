"""Macaroons on a real node: each role may make its own calls and is refused every other."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from lnagents.lnd import LndClient, LndEndpoint, Role, permissions
from lnagents.lnd.connection import Connection
from lnagents.lnd.errors import lnd_error
from lnagents.lnd.stubs import lightning_pb2, router_pb2
from lnagents.model.errors import LnagentsError, NodeTimeoutError, PermissionRefusedError
from lnagents.testbed import Testbed

CALLS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for module in (lightning_pb2, router_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

NODE = "grace"

LISTENING_SECONDS = 0.5
"""A subscription that says nothing for so long was not refused."""


async def answer(connection: Connection, call: str) -> LnagentsError | None:
    """What the node says to an empty request; it looks at the macaroon first."""
    stubs = await connection.stubs()
    method = CALLS[call]
    streams = method.client_streaming or method.server_streaming
    timeout = LISTENING_SECONDS if streams else 30.0
    channel: Any = stubs.channel
    try:
        if method.client_streaming:
            await channel.stream_stream(call)(timeout=timeout, metadata=stubs.metadata).read()
        elif method.server_streaming:
            await channel.unary_stream(call)(b"", timeout=timeout, metadata=stubs.metadata).read()
        else:
            await channel.unary_unary(call)(b"", timeout=timeout, metadata=stubs.metadata)
    except grpc.aio.AioRpcError as exc:
        error = lnd_error(exc.code(), exc.details(), call, connection.endpoint.address)
        return None if streams and isinstance(error, NodeTimeoutError) else error
    return None


def endpoint(testbed: Testbed, role: Role) -> LndEndpoint:
    node = testbed.nodes[NODE]
    return LndEndpoint(node.admin.address, node.admin.tls_certificate, node.macaroons[role])


@pytest.mark.parametrize("role", Role)
async def test_a_role_is_refused_every_call_of_the_others(testbed: Testbed, role: Role) -> None:
    connection = Connection(endpoint(testbed, role), 30.0)
    try:
        for call in CALLS.keys() - permissions([role]):
            refusal = await answer(connection, call)
            assert isinstance(refusal, PermissionRefusedError), (call, refusal)
    finally:
        await connection.close()


@pytest.mark.parametrize("role", Role)
async def test_a_role_may_make_its_own_calls(testbed: Testbed, role: Role) -> None:
    connection = Connection(endpoint(testbed, role), 30.0)
    try:
        for call in permissions([role]):
            error = await answer(connection, call)
            assert not isinstance(error, PermissionRefusedError), call
    finally:
        await connection.close()


async def test_an_agent_may_not_do_what_only_the_owner_may(testbed: Testbed) -> None:
    node = testbed.nodes[NODE]
    async with LndClient(node.agent) as agent:
        assert (await agent.info()).key == node.key
        for forbidden in (
            agent.bake_macaroon(Role),
            agent.new_address(),
            agent.stop(),
            agent.disconnect_peer(node.key),
            agent.close_channel("00" * 32 + ":0"),
            agent.reset_mission_control(),
        ):
            with pytest.raises(PermissionRefusedError, match="permission denied"):
                await forbidden


async def test_a_macaroon_is_needed(testbed: Testbed) -> None:
    admin = testbed.nodes[NODE].admin
    async with LndClient(LndEndpoint(admin.address, admin.tls_certificate, None)) as nobody:
        with pytest.raises(PermissionRefusedError, match="expected 1 macaroon"):
            await nobody.info()
