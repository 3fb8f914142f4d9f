"""A gRPC server of our own with LND's services, certificate and macaroon, in this process."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.message_factory import GetMessageClass

from lnagents.lnd import LndEndpoint
from lnagents.lnd.stubs import lightning_pb2, router_pb2, stateservice_pb2

Handler = Callable[..., Any]

MACAROON = bytes.fromhex("0201036c6e64")


@dataclass(frozen=True)
class Identity:
    """Files that a client needs, and what the server needs."""

    certificate: Path
    macaroon: Path
    key: bytes


def make_identity(folder: Path) -> Identity:
    """An ECDSA certificate for 127.0.0.1, as LND makes one, and a macaroon."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.cert").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "test.macaroon").write_bytes(MACAROON)
    return Identity(
        folder / "tls.cert",
        folder / "test.macaroon",
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


class Node:
    """The server; calls without a handler are unimplemented."""

    def __init__(self, identity: Identity, handlers: dict[str, Handler]) -> None:
        self.identity = identity
        self.handlers = handlers
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def endpoint(self) -> LndEndpoint:
        address = f"127.0.0.1:{self.port}"
        return LndEndpoint(address, self.identity.certificate, self.identity.macaroon)

    async def start(self) -> None:
        """Listen, after a `stop` on the same port."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for module in (lightning_pb2, router_pb2, stateservice_pb2):
            for service in module.DESCRIPTOR.services_by_name.values():
                methods = {
                    method.name: _handler(method, self.handlers[method.name])
                    for method in service.methods
                    if method.name in self.handlers
                }
                generic = grpc.method_handlers_generic_handler(service.full_name, methods)
                server.add_generic_rpc_handlers((generic,))
        credentials = grpc.ssl_server_credentials(
            [(self.identity.key, self.identity.certificate.read_bytes())]
        )
        self.port = server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End all calls and stop listening."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None


_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""By whether the client and the server send many messages."""


def _handler(method: Any, function: Handler) -> grpc.RpcMethodHandler[Any, Any]:
    make: Any = _MAKERS[method.client_streaming, method.server_streaming]
    handler: grpc.RpcMethodHandler[Any, Any] = make(
        function,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )
    return handler


@asynccontextmanager
async def serving(folder: Path, handlers: dict[str, Handler]) -> AsyncIterator[Node]:
    """Run a node whose `handlers` answer the calls that they are named after."""
    node = Node(make_identity(folder), handlers)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
