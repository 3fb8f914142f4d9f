"""The one place where a gRPC status becomes one of our exceptions.

LND answers most refusals with the status UNKNOWN and a sentence, so its sentences are looked at,
too. They are those of LND 0.21; one that is not listed stays a plain `LndError`.
"""

from __future__ import annotations

import grpc

from lnagents.model.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    LnagentsError,
    LndError,
    NodeTimeoutError,
    NodeUnavailableError,
    NoRouteError,
    NotFoundError,
    PermissionRefusedError,
    WalletLockedError,
)

_BY_STATUS: dict[grpc.StatusCode, type[LndError]] = {
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.CANCELLED: NodeUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: NodeTimeoutError,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequestError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionRefusedError,
    grpc.StatusCode.UNAUTHENTICATED: PermissionRefusedError,
    grpc.StatusCode.UNAVAILABLE: NodeUnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: InvalidRequestError,
}

_BY_SENTENCE: tuple[tuple[str, type[LnagentsError]], ...] = (
    # macaroons/service.go, and the bakery behind it
    ("permission denied", PermissionRefusedError),
    ("verification failed", PermissionRefusedError),
    ("cannot get macaroon", PermissionRefusedError),
    ("expected 1 macaroon", PermissionRefusedError),
    ("unknown macaroon version", PermissionRefusedError),
    ("binary-encoded macaroon", PermissionRefusedError),
    # rpcperms/interceptor.go
    ("wallet locked", WalletLockedError),
    ("wallet not created", WalletLockedError),
    ("waiting to start", NodeUnavailableError),
    ("in the process of starting", NodeUnavailableError),
    # server.go, and what streams say when the node stops
    ("still in the process of", NodeUnavailableError),
    ("shutting down", NodeUnavailableError),
    ("subscription terminated", NodeUnavailableError),
    # payments/db/errors.go, invoices/errors.go, server.go
    ("already paid", AlreadyExistsError),
    ("payment already exists", AlreadyExistsError),
    ("payment is in transition", AlreadyExistsError),
    ("already exists", AlreadyExistsError),
    ("already connected to peer", AlreadyExistsError),
    ("payment isn't initiated", NotFoundError),
    ("unable to locate invoice", NotFoundError),
    # graph/db/errors.go, server.go, routing/payment_session.go
    ("not found", NotFoundError),
    ("unable to find node", NotFoundError),
    ("is not connected", NotFoundError),
    ("is not online", NotFoundError),
    ("unable to find a path", NoRouteError),
    ("insufficient local balance", NoRouteError),
    ("no matching outgoing channel", NoRouteError),
    # the arguments of many calls
    ("invalid", InvalidRequestError),
    ("unable to decode", InvalidRequestError),
    ("checksum failed", InvalidRequestError),
    ("not supported", InvalidRequestError),
    ("too small", InvalidRequestError),
    ("too large", InvalidRequestError),
    ("cannot be negative", InvalidRequestError),
)


def lnd_error(
    status: grpc.StatusCode, details: str | None, call: str, address: str
) -> LnagentsError:
    """The exception for what the node at `address` answered to `call`; raise it `from` gRPC's."""
    sentence = details or status.name
    message = f"{call} at {address}: {sentence}"
    if status is grpc.StatusCode.UNKNOWN:
        lower = sentence.lower()
        for fragment, kind in _BY_SENTENCE:
            if fragment in lower:
                return kind(message)
    return _BY_STATUS.get(status, LndError)(message)
