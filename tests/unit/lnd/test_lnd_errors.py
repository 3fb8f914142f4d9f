"""What LND says, and which of our exceptions that is."""

from __future__ import annotations

import grpc
import pytest

from lnagents.lnd.errors import lnd_error
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


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExistsError),
        (grpc.StatusCode.CANCELLED, NodeUnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, NodeTimeoutError),
        (grpc.StatusCode.INTERNAL, LndError),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionRefusedError),
        (grpc.StatusCode.UNAUTHENTICATED, PermissionRefusedError),
        (grpc.StatusCode.UNAVAILABLE, NodeUnavailableError),
        (grpc.StatusCode.UNIMPLEMENTED, InvalidRequestError),
    ],
)
def test_a_status_that_says_it(status: grpc.StatusCode, kind: type[LndError]) -> None:
    assert type(lnd_error(status, "why", "GetInfo", "host:1")) is kind


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("permission denied", PermissionRefusedError),
        ("verification failed: signature mismatch after caveat", PermissionRefusedError),
        ("expected 1 macaroon, got 0", PermissionRefusedError),
        ("cannot determine data format of binary-encoded macaroon", PermissionRefusedError),
        ("wallet locked, unlock it to enable full RPC access", WalletLockedError),
        ("wallet not created, create one to enable full RPC access", WalletLockedError),
        (
            "the RPC server is in the process of starting up, but not yet ready to accept calls",
            NodeUnavailableError,
        ),
        ("server is still in the process of starting", NodeUnavailableError),
        ("waiting to start, RPC services not available", NodeUnavailableError),
        ("routerrpc server shutting down", NodeUnavailableError),
        ("htlc event subscription terminated", NodeUnavailableError),
        ("invoice is already paid", AlreadyExistsError),
        ("payment is in transition", AlreadyExistsError),
        ("already connected to peer: 02ab@127.0.0.1:1", AlreadyExistsError),
        ("unable to locate invoice", NotFoundError),
        ("edge not found", NotFoundError),
        ("peer 02ab is not connected", NotFoundError),
        ("unable to find a path to destination", NoRouteError),
        ("insufficient local balance", NoRouteError),
        ("no matching outgoing channel available for node index 1", NoRouteError),
        ("invalid bech32 string length 7", InvalidRequestError),
        ("time lock delta of 3 is too small, minimum supported is 24", InvalidRequestError),
        ("Wallet Locked", WalletLockedError),
        ("dial tcp 127.0.0.1:1: connect: connection refused", LndError),
    ],
)
def test_a_sentence_that_says_it(sentence: str, kind: type[LnagentsError]) -> None:
    error = lnd_error(grpc.StatusCode.UNKNOWN, sentence, "GetInfo", "host:1")
    assert type(error) is kind
    assert str(error) == f"GetInfo at host:1: {sentence}"


def test_the_sentence_of_a_clear_status_is_not_interpreted() -> None:
    error = lnd_error(grpc.StatusCode.UNAVAILABLE, "permission denied", "GetInfo", "host:1")
    assert type(error) is NodeUnavailableError


def test_without_a_sentence_the_status_is_named() -> None:
    error = lnd_error(grpc.StatusCode.INTERNAL, None, "GetInfo", "host:1")
    assert str(error) == "GetInfo at host:1: INTERNAL"
