from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.market.documents import (
    CLOCK_SKEW_SECONDS,
    Document,
    FeeCommitment,
    LiquidityHint,
    PriorityPass,
    QuotedHop,
    RouteQuote,
    decode_document,
    encode_document,
    kind_of,
    open_document,
    sign_document,
    verify_document,
)
from lnagents.market.paths import (
    MAX_AMOUNT_MSAT,
    CommitmentRequest,
    LiquidityRequest,
    PassRequest,
    Request,
    RouteRequest,
)
from lnagents.market.stubs import documents_pb2, hint_pb2
from lnagents.model.errors import DocumentInvalidError
from tests.unit.market.market_fakes import PEER_KEY, SCID, SELLER_KEY, STRANGER_KEY, FakeNode

NOW = 1_800_000_000.0
NONCE = "00" * 16
HASH = "ab" * 32
TIMES: dict[str, Any] = {
    "issuer": SELLER_KEY,
    "issued_at": NOW,
    "expires_at": NOW + 60,
    "sequence": 7,
}
HINT = LiquidityHint(scid=SCID, source=PEER_KEY, amount_msat=50_000_000, probability=0.25, **TIMES)
COMMITMENT = FeeCommitment(scid=SCID, base_fee_msat=1_000, fee_rate_ppm=100, **TIMES)
ROUTE = RouteQuote(
    destination=STRANGER_KEY,
    amount_msat=1_000_000,
    total_fee_msat=1_500,
    probability=0.9,
    hops=(QuotedHop(SCID, PEER_KEY, 1_000_500), QuotedHop(SCID + 1, STRANGER_KEY, 1_000_000)),
    **TIMES,
)
PASS = PriorityPass(scid=SCID, amount_msat=5_000, payment_hash=HASH, **TIMES)
PASS_BY_KEY = PriorityPass(scid=SCID, amount_msat=5_000, buyer_key=STRANGER_KEY, **TIMES)
ALL = (HINT, COMMITMENT, ROUTE, PASS, PASS_BY_KEY)
REQUESTS: dict[type[Document], Request] = {
    LiquidityHint: LiquidityRequest(
        scid=SCID, source=PEER_KEY, amount_msat=50_000_000, nonce=NONCE
    ),
    FeeCommitment: CommitmentRequest(scid=SCID, seconds=60, nonce=NONCE),
    RouteQuote: RouteRequest(destination=STRANGER_KEY, amount_msat=1_000_000, nonce=NONCE),
    PriorityPass: PassRequest(
        scid=SCID, amount_msat=5_000, seconds=60, payment_hash=HASH, nonce=NONCE
    ),
}

OLD_HINT = bytes.fromhex(
    "0a206c6e6167656e74732e6d61726b65742e76312e4c697175696469747948696e74126a0801122103955df0"
    "806489f81210511d21e63e2f7ae1e09f7f5e0619adc2ace01f33209a071900000100006700002221036dd012"
    "e609447dec3d49932842b7177cd8b0f99b3422976a7fd6393cdfa375c92880e1eb173090a10f3880a0f1c2b1"
    "3440e0f4f4c2b13448071a6872626a7133667a70657961697a65387a686731786263396e6470706b6e676a33"
    "6733656a337a7a3966346e7a633937646d6a67796377667235346275356733336b3873777437787937776566"
    "3333386836653839716437626e3736617a75756b71786e66786e6677"
)
"""As the first version wrote and signed `HINT`."""

keys = st.builds(
    lambda first, rest: first + rest.hex(),
    st.sampled_from(["02", "03"]),
    st.binary(min_size=32, max_size=32),
)
amounts = st.integers(1, MAX_AMOUNT_MSAT)
scids = st.integers(0, 2**64 - 1)
ppm = st.integers(0, 1_000_000).map(lambda value: value / 1_000_000)
headers = st.builds(
    lambda issued_ms, lasts_ms, issuer, sequence: {
        "issuer": issuer,
        "issued_at": issued_ms / 1_000,
        "expires_at": (issued_ms + lasts_ms) / 1_000,
        "sequence": sequence,
    },
    issued_ms=st.integers(0, 4_000_000_000_000),
    lasts_ms=st.integers(1, 10**9),
    issuer=keys,
    sequence=st.integers(0, 2**64 - 1),
)


@st.composite
def hints(draw: st.DrawFn) -> LiquidityHint:
    amount, low = draw(amounts), draw(st.integers(0, MAX_AMOUNT_MSAT - 1))
    high = draw(st.integers(low + 1, MAX_AMOUNT_MSAT))
    banded = draw(st.booleans())
    probability = draw(ppm)
    if banded and not low < amount < high:
        probability = 1.0 if amount <= low else 0.0
    return LiquidityHint(
        scid=draw(scids),
        source=draw(keys),
        amount_msat=amount,
        probability=probability,
        band=(low, high) if banded else None,
        **draw(headers),
    )


@st.composite
def routes(draw: st.DrawFn) -> RouteQuote:
    header = draw(headers)
    targets = draw(st.lists(keys, min_size=1, max_size=20, unique=True))
    targets = [key for key in targets if key != header["issuer"]] or ["02" + "0" * 64]
    falling = sorted(
        draw(
            st.lists(st.integers(1, 10**15), min_size=len(targets) + 1, max_size=len(targets) + 1)
        ),
        reverse=True,
    )
    hops = zip(draw(st.lists(scids, min_size=20, max_size=20)), targets, falling[1:], strict=False)
    return RouteQuote(
        destination=targets[-1],
        amount_msat=falling[-1],
        total_fee_msat=falling[0] - falling[-1],
        probability=draw(ppm),
        hops=tuple(QuotedHop(*hop) for hop in hops),
        **header,
    )


commitments = st.builds(
    lambda header, **fields: FeeCommitment(**fields, **header),
    headers,
    scid=scids,
    base_fee_msat=st.integers(0, 2**32 - 1),
    fee_rate_ppm=st.integers(0, 2**32 - 1),
)
passes = st.builds(
    lambda header, holder, **fields: PriorityPass(**holder, **fields, **header),
    headers,
    st.one_of(
        st.binary(min_size=32, max_size=32).map(lambda data: {"payment_hash": data.hex()}),
        keys.map(lambda key: {"buyer_key": key}),
    ),
    scid=scids,
    amount_msat=amounts,
)
documents: st.SearchStrategy[Document] = st.one_of(hints(), routes(), commitments, passes)
kinds = st.sampled_from([kind_of(document) for document in ALL])


@given(documents)
def test_every_document_is_read_back_exactly(document: Document) -> None:
    assert decode_document(kind_of(document), encode_document(document)) == document


@given(kinds, st.binary(max_size=300))
def test_any_other_payload_is_refused_by_name(kind: str, payload: bytes) -> None:
    try:
        document = decode_document(kind, payload)
    except DocumentInvalidError:
        return
    assert encode_document(document) == payload


@given(documents, st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_a_damaged_payload_is_refused_or_another_document(
    document: Document, place: int, junk: bytes
) -> None:
    payload = encode_document(document)
    place %= len(payload) + 1
    changed = payload[:place] + junk + payload[place + len(junk) :]
    try:
        read = decode_document(kind_of(document), changed)
    except DocumentInvalidError:
        return
    assert (read == document) == (changed == payload)


@pytest.mark.parametrize("document", ALL)
def test_unknown_fields_and_other_spellings_are_refused(document: Document) -> None:
    payload = encode_document(document)
    kind = kind_of(document)
    for changed in (
        payload + b"\xfa\x01\x01x",  # field 31
        payload + payload[:2],  # the version again
        payload[2:] + payload[:2],  # in another order
        payload.replace(b"\x08\x01", b"\x08\x81\x00", 1),  # a longer number
    ):
        with pytest.raises(DocumentInvalidError, match=r"canonical|payload is not"):
            decode_document(kind, changed)


@pytest.mark.parametrize(
    ("document", "change", "problem"),
    [
        (HINT, {"version": 2}, "version 2"),
        (COMMITMENT, {"version": 0}, "version 0"),
        (HINT, {"issuer": b"\2" * 32}, "issuer: not a compressed key"),
        (HINT, {"issuer": b"\4" * 33}, "issuer: not a compressed key"),
        (HINT, {"source": b""}, "source: not a compressed key"),
        (HINT, {"probability_ppm": 1_000_001}, "1000001 ppm"),
        (HINT, {"amount_msat": 0}, "amount_msat: 0"),
        (HINT, {"amount_msat": MAX_AMOUNT_MSAT + 1}, "amount_msat"),
        (HINT, {"band_low_msat": 5, "band_high_msat": 5}, "a band from 5 to 5"),
        (HINT, {"band_low_msat": 60_000_000, "band_high_msat": 70_000_000}, "contradict"),
        (PASS, {"expires_at_ms": round(NOW * 1_000)}, "expires before"),
        (PASS, {"issued_at_ms": -1}, "time out of range"),
        (PASS, {"payment_hash": b"\1" * 31}, "payment_hash: not 32 bytes"),
        (PASS, {"buyer_key": b"\1" * 33}, "buyer_key: not a compressed key"),
        (ROUTE, {"amount_msat": 999_999}, "does not bring the amount"),
        (ROUTE, {"destination": bytes.fromhex(PEER_KEY)}, "does not bring the amount"),
        (ROUTE, {"total_fee_msat": 400}, "grow on the way"),
        (ROUTE, {"total_fee_msat": MAX_AMOUNT_MSAT + 1}, "a fee of"),
        (ROUTE, {"issuer": bytes.fromhex(PEER_KEY)}, "visits a node twice"),
    ],
)
def test_fields_out_of_range_are_refused(
    document: Document, change: dict[str, Any], problem: str
) -> None:
    kinds: dict[type[Document], Any] = {
        LiquidityHint: hint_pb2.LiquidityHint,
        FeeCommitment: documents_pb2.FeeCommitment,
        RouteQuote: documents_pb2.RouteQuote,
        PriorityPass: documents_pb2.PriorityPass,
    }
    message = kinds[type(document)].FromString(encode_document(document))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(DocumentInvalidError, match=problem):
        decode_document(kind_of(document), message.SerializeToString(deterministic=True))


def test_a_route_without_hops_and_a_pass_for_nobody_are_refused() -> None:
    quote = documents_pb2.RouteQuote.FromString(encode_document(ROUTE))
    del quote.hops[:]
    with pytest.raises(DocumentInvalidError, match="0 hops"):
        decode_document(kind_of(ROUTE), quote.SerializeToString(deterministic=True))
    admission = documents_pb2.PriorityPass.FromString(encode_document(PASS))
    admission.ClearField("payment_hash")
    with pytest.raises(DocumentInvalidError, match="for nobody"):
        decode_document(kind_of(PASS), admission.SerializeToString(deterministic=True))


def test_the_issuers_own_fee_is_part_of_a_quote() -> None:
    assert ROUTE.own_fee_msat == 1_000


def test_hints_of_the_first_version_are_still_read() -> None:
    assert open_document(OLD_HINT) == HINT


async def test_what_is_written_now_has_the_bytes_of_the_first_version() -> None:
    assert await sign_document(FakeNode(SELLER_KEY), HINT) == OLD_HINT


@pytest.mark.parametrize("document", ALL[:4])
async def test_a_signed_document_is_verified_without_a_node(document: Document) -> None:
    signed = await sign_document(FakeNode(SELLER_KEY), document)
    assert open_document(signed) == document
    verified = verify_document(
        signed, issuer=SELLER_KEY, request=REQUESTS[type(document)], now=NOW + 1
    )
    assert verified == document


@pytest.mark.parametrize("document", ALL[:4])
async def test_forged_foreign_and_stale_documents_are_refused(document: Document) -> None:
    request = REQUESTS[type(document)]

    async def refused(changed: Document, signer: str, now: float, problem: str) -> None:
        signed = await sign_document(FakeNode(signer), changed)
        with pytest.raises(DocumentInvalidError, match=problem):
            verify_document(signed, issuer=SELLER_KEY, request=request, now=now)

    await refused(document, STRANGER_KEY, NOW, "signed by")
    if not isinstance(document, RouteQuote):
        await refused(replace(document, issuer=STRANGER_KEY), STRANGER_KEY, NOW, "issued by")
        await refused(replace(document, issuer=STRANGER_KEY), SELLER_KEY, NOW, "signed by")
    await refused(document, SELLER_KEY, NOW + 60, "expired")
    early = NOW - CLOCK_SKEW_SECONDS - 1
    await refused(document, SELLER_KEY, early, "in the future")


def _other_questions() -> Iterator[tuple[Document, Request]]:
    for document in ALL:
        for kind, request in REQUESTS.items():
            if kind is not type(document):
                yield document, request
    hint, commitment, route, admission = REQUESTS.values()
    yield from (
        (HINT, replace(hint, scid=SCID + 1)),  # type: ignore[call-arg]
        (HINT, replace(hint, source=SELLER_KEY)),  # type: ignore[call-arg]
        (HINT, replace(hint, amount_msat=1)),  # type: ignore[call-arg]
        (COMMITMENT, replace(commitment, scid=SCID + 1)),  # type: ignore[call-arg]
        (COMMITMENT, replace(commitment, seconds=61)),  # type: ignore[call-arg]
        (ROUTE, replace(route, destination=PEER_KEY)),  # type: ignore[call-arg]
        (ROUTE, replace(route, amount_msat=1)),  # type: ignore[call-arg]
        (PASS, replace(admission, payment_hash="cd" * 32)),  # type: ignore[call-arg]
        (PASS, replace(admission, seconds=61)),  # type: ignore[call-arg]
        (PASS_BY_KEY, admission),
    )


@pytest.mark.parametrize(("document", "request_"), list(_other_questions()))
def test_an_answer_to_another_question_is_none(document: Document, request_: Request) -> None:
    assert not document.answers(request_)


@pytest.mark.parametrize("document", ALL)
async def test_every_changed_byte_is_noticed(document: Document) -> None:
    signed = await sign_document(FakeNode(SELLER_KEY), document)
    for index in range(len(signed)):
        changed = bytearray(signed)
        changed[index] ^= 1
        with pytest.raises(DocumentInvalidError):
            open_document(bytes(changed))


async def test_a_signature_under_another_kind_of_document_is_worth_nothing() -> None:
    node = FakeNode(SELLER_KEY)
    payload = encode_document(HINT)
    signature = await node.sign_message(b"lnagents.market.v1.FeeCommitment\0" + payload)
    signed = hint_pb2.SignedDocument(kind=kind_of(HINT), payload=payload, signature=signature)
    with pytest.raises(DocumentInvalidError, match="signed by"):
        open_document(signed.SerializeToString())


@pytest.mark.parametrize(
    ("signed", "problem"),
    [
        (b"\xff", "not a signed document"),
        (b"", "kind ''"),
        (b"x" * 5_000, "too long"),
        (
            hint_pb2.SignedDocument(
                kind=kind_of(HINT), payload=encode_document(HINT), signature="no"
            ).SerializeToString(),
            "malformed",
        ),
        (
            hint_pb2.SignedDocument(
                kind=kind_of(HINT), payload=encode_document(HINT), signature="y" * 104
            ).SerializeToString(),
            "malformed",
        ),
        (OLD_HINT + b"\xfa\x01\x01x", "canonical"),
    ],
)
def test_what_is_no_signed_document_is_refused(signed: bytes, problem: str) -> None:
    with pytest.raises(DocumentInvalidError, match=problem):
        open_document(signed)
