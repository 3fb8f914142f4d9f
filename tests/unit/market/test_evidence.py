from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lnagents.market.documents import Document, sign_document
from lnagents.market.evidence import (
    Evidence,
    Verdict,
    judge_evidence,
    judge_policy,
    parse_channel_update,
    read_evidence,
)
from lnagents.model.errors import DocumentInvalidError
from lnagents.model.graph import ChannelPolicy
from tests.unit.market.market_fakes import (
    SCID,
    SELLER_KEY,
    SELLER_SECRET,
    STRANGER_SECRET,
    FakeNode,
    signed_update,
)
from tests.unit.market.test_documents import COMMITMENT, HINT, NOW, PASS, ROUTE

WITHIN = int(NOW) + 10


async def verdict(document: Document, *updates: bytes) -> Verdict:
    signed = await sign_document(FakeNode(SELLER_KEY), document)
    statement, finding = judge_evidence(signed, updates)
    assert statement == document
    return finding.verdict


def update(**changes: int) -> bytes:
    fields = {"scid": SCID, "timestamp": WITHIN} | changes
    return signed_update(SELLER_SECRET, **fields)  # type: ignore[arg-type]


def test_an_update_is_read_as_it_was_signed() -> None:
    data = signed_update(
        SELLER_SECRET, scid=SCID, timestamp=WITHIN, fee_rate_ppm=7, extension=b"\xfd\xd9\x03\0"
    )
    read = parse_channel_update(data)
    assert (read.scid, read.timestamp) == (SCID, WITHIN)
    assert read.policy == ChannelPolicy(
        base_fee_msat=1_000, fee_rate_ppm=7, max_htlc_msat=10**9, last_update=WITHIN
    )
    assert read.signature + read.signed == data


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fee_rate_ppm": 101}, Verdict.FALSE),
        ({"base_fee_msat": 1_001}, Verdict.FALSE),
        ({"base_fee_msat": 0, "fee_rate_ppm": 101}, Verdict.FALSE),
        ({"fee_rate_ppm": 100, "base_fee_msat": 1_000}, Verdict.UNDECIDABLE),
        ({"fee_rate_ppm": 101, "scid": SCID + 1}, Verdict.UNDECIDABLE),
        ({"fee_rate_ppm": 101, "timestamp": int(NOW) - 1}, Verdict.UNDECIDABLE),
        ({"fee_rate_ppm": 101, "timestamp": int(NOW)}, Verdict.FALSE),
        ({"fee_rate_ppm": 101, "timestamp": int(NOW) + 59}, Verdict.FALSE),
        ({"fee_rate_ppm": 101, "timestamp": int(NOW) + 60}, Verdict.UNDECIDABLE),
    ],
)
async def test_a_dearer_announcement_while_it_holds_breaks_a_commitment(
    changes: dict[str, int], expected: Verdict
) -> None:
    assert await verdict(COMMITMENT, update(**changes)) is expected


async def test_what_may_have_been_announced_just_before_is_no_contradiction() -> None:
    later = replace(COMMITMENT, issued_at=NOW + 0.2)
    assert await verdict(later, update(fee_rate_ppm=101, timestamp=int(NOW))) is Verdict.UNDECIDABLE


async def test_one_contradiction_among_many_updates_is_found() -> None:
    updates = [update(timestamp=WITHIN + index) for index in range(3)]
    assert await verdict(COMMITMENT, *updates, update(fee_rate_ppm=500)) is Verdict.FALSE


async def test_a_quote_is_broken_by_a_dearer_first_hop() -> None:
    # 1,000 msat are quoted for 1,000,500 msat: 1,000 + 100 ppm are 1,100.
    assert await verdict(ROUTE, update()) is Verdict.FALSE
    assert await verdict(ROUTE, update(fee_rate_ppm=0)) is Verdict.UNDECIDABLE
    assert await verdict(ROUTE, update(scid=SCID + 1)) is Verdict.UNDECIDABLE


async def test_hints_and_passes_cannot_be_decided_by_updates() -> None:
    for document in (HINT, PASS):
        assert await verdict(document) is Verdict.UNDECIDABLE
        assert await verdict(document, update(fee_rate_ppm=9_999)) is Verdict.UNDECIDABLE


async def test_an_update_that_somebody_else_signed_or_altered_is_no_evidence() -> None:
    foreign = signed_update(STRANGER_SECRET, scid=SCID, timestamp=WITHIN, fee_rate_ppm=999)
    altered = bytearray(update())
    altered[-20] ^= 1
    for data in (foreign, bytes(altered)):
        with pytest.raises(DocumentInvalidError, match="not signed by"):
            await verdict(COMMITMENT, data)
    with pytest.raises(DocumentInvalidError, match="no channel_update"):
        await verdict(COMMITMENT, update()[:100])


async def test_a_forged_commitment_proves_nothing() -> None:
    signed = bytearray(await sign_document(FakeNode(SELLER_KEY), COMMITMENT))
    signed[-1] ^= 1
    with pytest.raises(DocumentInvalidError):
        judge_evidence(bytes(signed), [update(fee_rate_ppm=999)])


@pytest.mark.parametrize(
    ("policy", "now", "expected"),
    [
        (None, NOW + 61, Verdict.UNDECIDABLE),
        (ChannelPolicy(1_000, 100, last_update=int(NOW) - 5), NOW + 61, Verdict.TRUE),
        (ChannelPolicy(1_000, 100, last_update=int(NOW) - 5), NOW + 59, Verdict.UNDECIDABLE),
        (ChannelPolicy(1_000, 100, last_update=WITHIN), NOW + 61, Verdict.UNDECIDABLE),
        (ChannelPolicy(1_000, 900, last_update=int(NOW) - 5), NOW + 61, Verdict.UNDECIDABLE),
        (ChannelPolicy(1_000, 101, last_update=WITHIN), NOW + 30, Verdict.FALSE),
        (ChannelPolicy(1_000, 101, last_update=WITHIN + 90), NOW + 100, Verdict.UNDECIDABLE),
    ],
)
def test_the_own_nodes_gossip_decides_what_it_can(
    policy: ChannelPolicy | None, now: float, expected: Verdict
) -> None:
    assert judge_policy(COMMITMENT, policy, now).verdict is expected
    assert judge_policy(HINT, policy, now).verdict is Verdict.UNDECIDABLE


async def test_evidence_travels_as_json_or_as_the_document_alone() -> None:
    signed = await sign_document(FakeNode(SELLER_KEY), COMMITMENT)
    updates = (update(), update(fee_rate_ppm=500))
    written = Evidence.of(signed, updates).model_dump_json().encode()
    assert read_evidence(written) == (signed, updates)
    assert read_evidence(signed) == (signed, ())


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"{}",
        json.dumps({"document": "???"}).encode(),
        json.dumps({"document": "", "channel_updates": ["xyz"]}).encode(),
        json.dumps({"document": "", "more": 1}).encode(),
        b"{" + b" " * 70_000,
    ],
)
def test_what_is_no_evidence_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentInvalidError):
        read_evidence(data)
