"""Sellers are scored by what became of their hints and promises, across restarts."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lnagents.agent.liquidity import Liquidity
from lnagents.agent.schema import SCHEMA
from lnagents.agent.scores import Scores, read_scores
from lnagents.agent.store import HintRecord, Store
from lnagents.market import FeeCommitment, Product, Purchase, Seller, sign_document
from lnagents.market.evidence import Verdict, judge_evidence, read_evidence
from lnagents.model.errors import StoreError
from lnagents.model.graph import ChannelPolicy, Edge
from lnagents.model.payment import AttemptFailure, FailureCode
from tests.unit.market.market_fakes import (
    PEER_KEY,
    SCID,
    SELLER_KEY,
    SELLER_SECRET,
    STRANGER_SECRET,
    FakeNode,
    signed_update,
)

EDGE = Edge(SCID, SELLER_KEY, PEER_KEY, 10**9, ChannelPolicy())
OWN = Edge(1, "02" * 33, SELLER_KEY, 10**9, ChannelPolicy())


def hint(probability: float = 0.9, issuer: str = SELLER_KEY) -> HintRecord:
    return HintRecord(SCID, SELLER_KEY, 50_000, probability, 0.0, 4e9, issuer, 0.4)


@pytest.mark.parametrize(
    ("amount", "passed", "tested"),
    [
        (50_000, True, [True]),
        (60_000, True, [True]),
        (40_000, True, []),
        (50_000, False, [False]),
        (40_000, False, [False]),
        (60_000, False, []),
    ],
)
def test_an_attempt_tests_the_hint_if_it_decides_its_amount(
    amount: int, passed: bool, tested: list[bool]
) -> None:
    liquidity = Liquidity(3_600.0)
    found: list[tuple[HintRecord, bool]] = []
    liquidity.on_tested = lambda *one: found.append(one)
    liquidity.add_hint(hint())
    for _ in range(2):  # once seen, the hint has done its work
        if passed:
            liquidity.settled([(EDGE, amount)], 10.0)
        else:
            failure = AttemptFailure(FailureCode.TEMPORARY_CHANNEL_FAILURE, 1)
            liquidity.failed([(OWN, amount), (EDGE, amount)], failure, 10.0)
    assert found == [(hint(), result) for result in tested]


async def test_scores_outlive_a_restart_and_can_be_read_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    store = await Store.open(path)
    scores = Scores(store.database)
    await scores.load(0.0)
    assert scores.skill(SELLER_KEY, Product.LIQUIDITY) == 1.0
    scores.judged(hint(1.0), False)
    scores.judged(hint(1.0), False)
    scores.judged(hint(1.0, issuer=""), False)
    skill = scores.skill(SELLER_KEY, Product.LIQUIDITY)
    assert skill < 0.0
    await store.database.flush()
    read, evidence = read_scores(path)
    key = (SELLER_KEY, Product.LIQUIDITY)
    assert (read[key].outcomes, read[key].skill) == (2, skill)
    assert (set(read), evidence) == ({key}, [])
    await store.close()

    store = await Store.open(path)
    again = Scores(store.database)
    await again.load(0.0)
    assert again.skill(SELLER_KEY, Product.LIQUIDITY) == skill
    await store.close()


def promise(expires_in: float = 60.0) -> FeeCommitment:
    now = round(time.time(), 3)
    return FeeCommitment(
        issuer=SELLER_KEY,
        issued_at=now - 10,
        expires_at=now + expires_in,
        sequence=1,
        scid=SCID,
        base_fee_msat=1_000,
        fee_rate_ppm=100,
    )


async def bought(store: Store, commitment: FeeCommitment, nonce: str = "ab") -> None:
    seller, path = Seller("http://s", SELLER_KEY), f"/v1/commitments/fee/103x1x0/60/{nonce}"
    purchase = Purchase(nonce, seller, path, 1_000, "mac", "lnbc", nonce, commitment.issued_at)
    await store.purchases.challenged(purchase)
    await store.purchases.paid(nonce, b"preimage")
    signed = await sign_document(FakeNode(SELLER_KEY), commitment)
    await store.purchases.delivered(nonce, signed)


async def test_a_dearer_policy_in_a_failure_is_evidence_of_a_broken_promise(
    tmp_path: Path,
) -> None:
    now, commitment = time.time(), promise()
    path = tmp_path / "agent.sqlite"
    store = await Store.open(path)
    await bought(store, commitment)
    scores = Scores(store.database)
    await scores.load(now - 60)
    assert scores.promised_until(SELLER_KEY, SCID) == commitment.expires_at
    assert scores.promised_until(SELLER_KEY, 1) == 0.0

    def update(secret: object = SELLER_SECRET, ppm: int = 101, scid: int = SCID) -> bytes:
        return signed_update(secret, scid=scid, timestamp=int(now), fee_rate_ppm=ppm)  # type: ignore[arg-type]

    for harmless in (b"", b"junk", update(ppm=100), update(scid=1), update(STRANGER_SECRET)):
        scores.announced(harmless)
    assert scores.skill(SELLER_KEY, Product.LIQUIDITY) == 1.0
    scores.announced(update())
    scores.announced(update())
    assert scores.skill(SELLER_KEY, Product.LIQUIDITY) == 0.0
    await store.close()

    read, [(seller, evidence)] = read_scores(path)
    score = read[seller, Product.COMMITMENT]
    assert (seller, score.broken_promises, score.kept_promises) == (SELLER_KEY, 1, 0)
    document, finding = judge_evidence(*read_evidence(evidence.encode()))
    assert (document, finding.verdict) == (commitment, Verdict.FALSE)


async def test_each_product_has_a_score_of_its_own(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "agent.sqlite")
    scores = Scores(store.database)
    await scores.load(0.0)
    for _ in range(3):
        scores.judged(replace(hint(1.0), product="route"), False)
        scores.judged(hint(1.0), True)
    assert scores.skill(SELLER_KEY, Product.ROUTE) < 0.0
    assert scores.skill(SELLER_KEY, Product.LIQUIDITY) == 1.0
    await store.database.flush()
    read, _ = read_scores(tmp_path / "agent.sqlite")
    assert {key[1]: one.outcomes for key, one in read.items()} == {
        Product.LIQUIDITY: 3,
        Product.ROUTE: 3,
    }
    await store.close()


async def test_gossip_that_exceeds_a_promise_breaks_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    store = await Store.open(path)
    await bought(store, promise())
    await bought(store, promise(expires_in=-5.0), "cd")
    scores = Scores(store.database)
    await scores.load(0.0)
    read, _ = read_scores(path)
    assert read[SELLER_KEY, Product.COMMITMENT].kept_promises == 1

    def edge(ppm: int, at: float, source: str = SELLER_KEY, base: int = 1_000) -> Edge:
        policy = ChannelPolicy(base_fee_msat=base, fee_rate_ppm=ppm, last_update=int(at))
        return Edge(SCID, source, PEER_KEY, 10**9, policy)

    now = time.time()
    # As it streams in, gossip has no time: what exceeds the promise is looked at closer.
    assert [scores.doubts(one) for one in (edge(100, 0), edge(101, 0), edge(101, 0, PEER_KEY))] == [
        False,
        True,
        False,
    ]
    for harmless in (edge(100, now), edge(101, now - 60), edge(101, now, PEER_KEY)):
        scores.heard(harmless)
    assert scores.skill(SELLER_KEY, Product.COMMITMENT) == 1.0
    scores.heard(edge(100, now, base=1_001))
    scores.heard(edge(100, now, base=1_001))
    for product in Product:
        assert scores.skill(SELLER_KEY, product) == 0.0
    await store.close()
    read, [(_, evidence)] = read_scores(path)
    assert read[SELLER_KEY, Product.COMMITMENT].broken_promises == 1
    # It convinces the own node alone: nothing that the seller signed says so.
    _, finding = judge_evidence(*read_evidence(evidence.encode()))
    assert finding.verdict is Verdict.UNDECIDABLE


async def test_an_old_store_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA[0] + "PRAGMA user_version = 1;")
    connection.execute("INSERT INTO hints VALUES (5, '02aa', 1000, 0.5, 1.0, 4e9)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="cannot be read"):
        read_scores(path)
    store = await Store.open(path)
    _, hints = await store.load_beliefs(0.0)
    assert hints == [HintRecord(5, "02aa", 1_000, 0.5, 1.0, 4e9)]
    await store.close()
    assert read_scores(path) == ({}, [])
