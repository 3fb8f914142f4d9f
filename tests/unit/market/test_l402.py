from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.market.l402 import (
    MAX_HEADER_LENGTH,
    Challenge,
    authorization,
    parse_authorization,
    parse_challenge,
    parse_macaroon,
)
from lnagents.model.errors import ChallengeError, TokenError

PREIMAGE = bytes(range(32))
PAYMENT_HASH = hashlib.sha256(PREIMAGE).digest()
TOKEN_ID = b"\x07" * 32
INVOICE = "lnbcrt20n1p5abc"
CHALLENGE = Challenge("AgEEbHNhdA==", INVOICE)


def macaroon(
    identifier: bytes = b"\0\0" + PAYMENT_HASH + TOKEN_ID, location: bytes | None = b"lsat"
) -> str:
    """As Aperture makes them, with one caveat; all lengths below 128."""
    head = b"" if location is None else bytes([1, len(location)]) + location
    caveat = b"services=hints/v1:0"
    data = b"\2" + head + bytes([2, len(identifier)]) + identifier + b"\0"
    data += bytes([2, len(caveat)]) + caveat + b"\0\0" + b"\6\x20" + b"s" * 32
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "values",
    [
        # Aperture 0.5
        [
            f'LSAT macaroon="{CHALLENGE.macaroon}", invoice="{INVOICE}"',
            f'L402 macaroon="{CHALLENGE.macaroon}", invoice="{INVOICE}"',
        ],
        # the present specification
        [f'L402 version="0", token="{CHALLENGE.macaroon}", invoice="{INVOICE}"'],
        # both in one value, other schemes around
        [
            f'Basic realm="a, b", LSAT macaroon="old", invoice="{INVOICE}",'
            f' L402 invoice="{INVOICE}", macaroon="{CHALLENGE.macaroon}", Bearer'
        ],
        [f"L402 macaroon={CHALLENGE.macaroon} invoice={INVOICE}"],
        [f'l402 macaroon = "{CHALLENGE.macaroon}" , invoice="{INVOICE.upper()}"'],
        [f'LSAT macaroon="{CHALLENGE.macaroon}", invoice="{INVOICE}"'],
        ["Negotiate abc==", f'L402 macaroon="{CHALLENGE.macaroon}", invoice="{INVOICE}"'],
    ],
)
def test_every_known_spelling_of_a_challenge_is_read(values: list[str]) -> None:
    assert parse_challenge(values) == CHALLENGE


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([], "no L402"),
        (["Bearer"], "no L402"),
        ([f'L402 invoice="{INVOICE}"'], "no macaroon"),
        (['L402 macaroon="abc"'], "no invoice"),
        (['L402 macaroon="abc", invoice="http://evil"'], "no invoice"),
        (['L402 macaroon="abc'], "cannot be read"),
        (["L402 " + "a" * MAX_HEADER_LENGTH], "too long"),
    ],
)
def test_a_useless_challenge_is_named(values: list[str], problem: str) -> None:
    with pytest.raises(ChallengeError, match=problem):
        parse_challenge(values)


@given(st.lists(st.text(max_size=200), max_size=3))
def test_garbage_raises_nothing_but_a_challenge_error(values: list[str]) -> None:
    try:
        parse_challenge(values)
    except ChallengeError:
        return


def test_a_token_is_presented_and_recognised() -> None:
    value = authorization(macaroon(), PREIMAGE)
    identity = parse_authorization(["LSAT" + value[4:], value])
    assert identity.payment_hash == PAYMENT_HASH.hex()
    assert identity.token_id == TOKEN_ID.hex()


def test_a_macaroon_needs_no_location() -> None:
    assert parse_macaroon(macaroon(location=None)).token_id == TOKEN_ID.hex()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([], "no token"),
        (["Bearer abc"], "does not hold"),
        ([f"L402 {macaroon()}:{'00' * 32}"], "preimage"),
        ([f"L402 {macaroon()}:{'00' * 31}"], "does not hold"),
        ([f"L402 {macaroon()}"], "does not hold"),
        (
            [
                authorization(macaroon(), PREIMAGE),
                authorization(macaroon(b"\0\0" + PAYMENT_HASH + b"\1" * 32), PREIMAGE),
            ],
            "several",
        ),
        ([authorization("AAA", PREIMAGE)], "not base64"),
        ([authorization("AQ==", PREIMAGE)], "version 2"),
        ([authorization(macaroon(b"\0\1" + PAYMENT_HASH + TOKEN_ID), PREIMAGE)], "identifier"),
        ([authorization(macaroon(b"\0\0" + PAYMENT_HASH), PREIMAGE)], "identifier"),
        ([authorization(macaroon()[:40], PREIMAGE)], "cut off"),
        ([authorization("AgE=", PREIMAGE)], "malformed"),
    ],
)
def test_a_bad_token_is_refused(values: list[str], problem: str) -> None:
    with pytest.raises(TokenError, match=problem):
        parse_authorization(values)


@given(st.binary(max_size=150))
def test_no_bytes_break_the_macaroon_reader(data: bytes) -> None:
    try:
        identity = parse_macaroon(base64.b64encode(b"\2" + data).decode())
    except TokenError:
        return
    assert len(identity.token_id) == len(identity.payment_hash) == 64
