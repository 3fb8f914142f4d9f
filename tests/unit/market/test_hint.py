from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.market.hint import (
    CLOCK_SKEW_SECONDS,
    KIND,
    LiquidityHint,
    decode_hint,
    encode_hint,
    sign_hint,
    verify_hint,
)
from lnagents.market.paths import MAX_AMOUNT_MSAT, LiquidityRequest
from lnagents.market.stubs import hint_pb2
from lnagents.model.errors import HintInvalidError
from tests.unit.market.market_fakes import PEER_KEY, SCID, SELLER_KEY, STRANGER_KEY, FakeNode

NOW = 1_800_000_000.0
REQUEST = LiquidityRequest(SCID, PEER_KEY, 50_000_000, "00" * 16)
HINT = LiquidityHint(
    issuer=SELLER_KEY,
    scid=SCID,
    source=PEER_KEY,
    amount_msat=50_000_000,
    probability=0.25,
    issued_at=NOW,
    expires_at=NOW + 60,
    sequence=7,
)

keys = st.builds(
    lambda first, rest: first + rest.hex(),
    st.sampled_from(["02", "03"]),
    st.binary(min_size=32, max_size=32),
)
hints = st.builds(
    lambda issued_ms, lasts_ms, ppm, **fields: LiquidityHint(
        issued_at=issued_ms / 1_000,
        expires_at=(issued_ms + lasts_ms) / 1_000,
        probability=ppm / 1_000_000,
        **fields,
    ),
    issued_ms=st.integers(0, 4_000_000_000_000),
    lasts_ms=st.integers(1, 10**9),
    ppm=st.integers(0, 1_000_000),
    issuer=keys,
    source=keys,
    scid=st.integers(0, 2**64 - 1),
    amount_msat=st.integers(1, MAX_AMOUNT_MSAT),
    sequence=st.integers(0, 2**64 - 1),
)


@given(hints)
def test_a_payload_is_read_back_exactly(hint: LiquidityHint) -> None:
    assert decode_hint(encode_hint(hint)) == hint


@given(st.binary(max_size=200))
def test_any_other_payload_is_refused_by_name(payload: bytes) -> None:
    try:
        hint = decode_hint(payload)
    except HintInvalidError:
        return
    assert decode_hint(encode_hint(hint)) == hint


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 2}, "version 2"),
        ({"issuer": b"\2" * 32}, "33 bytes"),
        ({"source": b""}, "33 bytes"),
        ({"probability_ppm": 1_000_001}, "1000001 ppm"),
        ({"expires_at_ms": round(NOW * 1_000)}, "expires before"),
    ],
)
def test_fields_out_of_range_are_refused(change: dict[str, int | bytes], problem: str) -> None:
    message = hint_pb2.LiquidityHint.FromString(encode_hint(HINT))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(HintInvalidError, match=problem):
        decode_hint(message.SerializeToString())


async def test_a_signed_hint_is_verified_by_another_node() -> None:
    document = await sign_hint(FakeNode(SELLER_KEY), HINT)
    verifier = FakeNode(STRANGER_KEY)
    hint = await verify_hint(verifier, document, issuer=SELLER_KEY, request=REQUEST, now=NOW + 1)
    assert hint == HINT


@pytest.mark.parametrize(
    ("hint", "signer", "now", "problem"),
    [
        (HINT, STRANGER_KEY, NOW, "signed by"),
        (replace(HINT, issuer=STRANGER_KEY), STRANGER_KEY, NOW, "issued by"),
        (replace(HINT, issuer=STRANGER_KEY), SELLER_KEY, NOW, "issued by"),
        (replace(HINT, scid=SCID + 1), SELLER_KEY, NOW, "another question"),
        (replace(HINT, source=SELLER_KEY), SELLER_KEY, NOW, "another question"),
        (replace(HINT, amount_msat=1), SELLER_KEY, NOW, "another question"),
        (HINT, SELLER_KEY, NOW + 60, "expired"),
        (HINT, SELLER_KEY, NOW - CLOCK_SKEW_SECONDS - 1, "in the future"),
    ],
)
async def test_forged_foreign_and_stale_hints_are_refused(
    hint: LiquidityHint, signer: str, now: float, problem: str
) -> None:
    document = await sign_hint(FakeNode(signer), hint)
    with pytest.raises(HintInvalidError, match=problem):
        await verify_hint(FakeNode(), document, issuer=SELLER_KEY, request=REQUEST, now=now)


async def test_every_changed_byte_is_noticed() -> None:
    document = await sign_hint(FakeNode(SELLER_KEY), HINT)
    for index in range(len(document)):
        changed = bytearray(document)
        changed[index] ^= 1
        with pytest.raises(HintInvalidError):
            await verify_hint(
                FakeNode(), bytes(changed), issuer=SELLER_KEY, request=REQUEST, now=NOW
            )


async def test_a_signature_under_another_kind_of_document_is_worth_nothing() -> None:
    node = FakeNode(SELLER_KEY)
    payload = encode_hint(HINT)
    signature = await node.sign_message(b"lnagents.market.v1.FeeCommitment\0" + payload)
    document = hint_pb2.SignedDocument(kind=KIND, payload=payload, signature=signature)
    with pytest.raises(HintInvalidError, match="signed by"):
        await verify_hint(
            node, document.SerializeToString(), issuer=SELLER_KEY, request=REQUEST, now=NOW
        )


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"\xff", "not a signed document"),
        (b"", "kind ''"),
        (b"x" * 5_000, "too long"),
        (
            hint_pb2.SignedDocument(
                kind=KIND, payload=encode_hint(HINT), signature="no"
            ).SerializeToString(),
            "malformed",
        ),
    ],
)
async def test_what_is_no_signed_hint_is_refused(document: bytes, problem: str) -> None:
    with pytest.raises(HintInvalidError, match=problem):
        await verify_hint(FakeNode(), document, issuer=SELLER_KEY, request=REQUEST, now=NOW)
