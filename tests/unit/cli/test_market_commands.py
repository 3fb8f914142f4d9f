from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from lnagents.agent.scores import STORE_NAME, Scores
from lnagents.agent.store import HintRecord, Store
from lnagents.cli import market
from lnagents.cli.market import FALSE, UNDECIDABLE
from lnagents.market import (
    Browser,
    Catalogue,
    CommitmentRequest,
    LiquidityRequest,
    Offer,
    PassRequest,
    Quote,
    RouteRequest,
    sign_document,
)
from lnagents.market.documents import ForwardQuote
from lnagents.market.evidence import Evidence
from lnagents.market.forwarding import FORWARD_QUOTES_PREFIX, Terms
from lnagents.market.paths import QuoteMark, ask, quoted_path
from lnagents.model.errors import InputError, NotForSaleError
from tests.unit.market.market_fakes import (
    PEER_KEY,
    SCID,
    SELLER_KEY,
    SELLER_SECRET,
    FakeNode,
    signed_update,
)
from tests.unit.market.test_documents import COMMITMENT, NOW

URL = "http://seller:8081"
NONCE = "00" * 16


TERMS = Terms(
    base_fee_msat=1_000,
    fee_rate_ppm=500,
    max_amount_msat=50_000_000,
    max_hops=10,
    time_lock_delta=80,
    quote_seconds=60,
)


def signed_forward_quote() -> bytes:
    now = int(time.time())
    quote = ForwardQuote(
        issuer=SELLER_KEY,
        issued_at=float(now),
        expires_at=float(now + 60),
        sequence=1,
        destination=PEER_KEY,
        amount_msat=5_000,
        final_cltv_delta=40,
        fee_msat=1_234,
        time_lock=400,
        seal=b"s" * 16,
    )
    return asyncio.run(sign_document(FakeNode(SELLER_KEY), quote))


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers whoever browses."""
    forward_quote = signed_forward_quote()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/catalogue":
            offers = tuple(
                Offer(product=product, channel="103x1x0", peer=PEER_KEY, price_sat=3)
                for product in ("liquidity", "pass")
            )
            catalogue = Catalogue(
                seller=SELLER_KEY, bands=10, valid_seconds=60, offers=offers, forwarding=TERMS
            )
            return httpx.Response(200, content=catalogue.model_dump_json())
        if request.url.path.startswith(FORWARD_QUOTES_PREFIX):
            return httpx.Response(200, content=forward_quote)
        path = quoted_path(
            request.url.path.removeprefix("/v1/quotes"), QuoteMark(3, 1_900_000_000, NONCE)
        )
        quote = Quote(path=path, price_sat=3, expires_at=1_900_000_000)
        return httpx.Response(200, content=quote.model_dump_json())

    original = Browser.__init__
    monkeypatch.setattr(
        Browser, "__init__", lambda self: original(self, httpx.MockTransport(answer))
    )


@pytest.mark.usefixtures("shop")
def test_offers_are_listed() -> None:
    result = CliRunner().invoke(market.app, ["list", URL, SELLER_KEY, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["offers"][0]["price_sat"] == 3
    for_people = CliRunner().invoke(market.app, ["list", URL, SELLER_KEY])
    assert "103x1x0" in for_people.stdout
    assert "for 1 sat and 500 ppm beyond what it costs" in " ".join(for_people.stdout.split())
    assert "A pass costs its price for each 10,000 sat and each 60 s begun." in for_people.stdout


@pytest.mark.usefixtures("shop")
def test_a_price_is_quoted() -> None:
    question = ["liquidity", "103x1x0", SELLER_KEY, "1000"]
    result = CliRunner().invoke(market.app, ["quote", URL, SELLER_KEY, *question, "--json"])
    assert result.exit_code == 0
    quote = json.loads(result.stdout)
    assert quote["price_sat"] == 3
    assert quote["path"].startswith("/v1/hints/liquidity/103x1x0/")


@pytest.mark.usefixtures("shop")
def test_what_finding_a_way_costs_is_quoted() -> None:
    words = ["forward", URL, SELLER_KEY, PEER_KEY, "5000", "--final-cltv-delta", "40"]
    result = CliRunner().invoke(market.app, [*words, "--json"])
    assert result.exit_code == 0, result.exception
    quote = json.loads(result.stdout)
    assert (quote["fee_msat"], quote["time_lock"], quote["seal"]) == (1_234, 400, "73" * 16)
    other = CliRunner().invoke(market.app, ["forward", URL, SELLER_KEY, PEER_KEY, "5001"])
    assert "another question" in str(other.exception)


@pytest.mark.parametrize(
    "words",
    [
        ["forward", URL, SELLER_KEY, "02ab", "5000"],
        ["forward", URL, SELLER_KEY, PEER_KEY, "0"],
        ["list", "nowhere", SELLER_KEY],
        ["list", URL, "02ab"],
        ["quote", URL, SELLER_KEY, "liquidity", "103x1x0"],
        ["quote", URL, SELLER_KEY, "weather"],
    ],
)
def test_bad_input_is_named(words: list[str]) -> None:
    result = CliRunner().invoke(market.app, words)
    assert isinstance(result.exception, InputError)


def test_questions_are_asked_in_words() -> None:
    for words, request in (
        (
            ["liquidity", "103x1x0", SELLER_KEY, "5"],
            LiquidityRequest(scid=SCID, source=SELLER_KEY, amount_msat=5, nonce=NONCE),
        ),
        (
            ["commitment", "103x1x0", "60"],
            CommitmentRequest(scid=SCID, seconds=60, nonce=NONCE),
        ),
        (
            ["route", PEER_KEY, "5"],
            RouteRequest(destination=PEER_KEY, amount_msat=5, nonce=NONCE),
        ),
        (
            ["pass", "103x1x0", "5", "60", "key", PEER_KEY],
            PassRequest(scid=SCID, amount_msat=5, seconds=60, buyer_key=PEER_KEY, nonce=NONCE),
        ),
    ):
        assert ask(words, NONCE) == request
    for wrong in ([], ["route"], ["route", "a/b", "5"], ["pass", PEER_KEY, "5"]):
        with pytest.raises(NotForSaleError):
            ask(wrong, NONCE)


async def _evidence(path: Path, *, fee_rate_ppm: int) -> Path:
    signed = await sign_document(FakeNode(SELLER_KEY), COMMITMENT)
    update = signed_update(
        SELLER_SECRET, scid=SCID, timestamp=int(NOW) + 5, fee_rate_ppm=fee_rate_ppm
    )
    await asyncio.to_thread(path.write_text, Evidence.of(signed, [update]).model_dump_json())
    return path


async def test_a_third_party_sees_that_a_promise_was_broken(tmp_path: Path) -> None:
    broken = await _evidence(tmp_path / "broken.json", fee_rate_ppm=101)
    result = CliRunner().invoke(market.app, ["verify", str(broken), "--json"])
    assert result.exit_code == FALSE
    answer = json.loads(result.stdout)
    assert answer["verdict"] == "false"
    assert "101 ppm" in answer["reason"]
    assert answer["document"]["scid"] == "103x1x0"


async def test_what_nothing_contradicts_is_not_decidable(tmp_path: Path) -> None:
    kept = await _evidence(tmp_path / "kept.json", fee_rate_ppm=100)
    alone = tmp_path / "document"
    alone.write_bytes(await sign_document(FakeNode(SELLER_KEY), COMMITMENT))
    for path in (kept, alone):
        result = CliRunner().invoke(market.app, ["verify", str(path)])
        assert result.exit_code == UNDECIDABLE
        assert result.stdout.startswith("not decidable: ")


async def test_a_forged_document_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "document"
    data = bytearray(await sign_document(FakeNode(SELLER_KEY), COMMITMENT))
    data[-1] ^= 1
    path.write_bytes(data)
    result = CliRunner().invoke(market.app, ["verify", str(path)])
    assert isinstance(result.exception, InputError)
    assert str(path) in str(result.exception)


async def test_scores_are_shown_and_evidence_is_written(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / STORE_NAME)
    scores = Scores(store.database)
    for _ in range(3):
        scores.judged(HintRecord(SCID, SELLER_KEY, 1, 1.0, 0.0, 4e9, SELLER_KEY, 0.5), False)
    evidence = (await _evidence(tmp_path / "one.json", fee_rate_ppm=999)).read_text()
    store.database.later(
        "INSERT INTO broken_promises (seller_key, evidence, reason, at) VALUES (?, ?, '', 0)",
        PEER_KEY,
        evidence,
    )
    await store.close()
    options = ["score", "-d", str(tmp_path), "--evidence", str(tmp_path / "out")]
    result = CliRunner().invoke(market.app, [*options, "--json"])
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    sellers = {one["seller"]: one for one in answer["sellers"]}
    assert sellers[SELLER_KEY]["brier"] == 1.0
    assert not sellers[SELLER_KEY]["helps"]
    assert sellers[PEER_KEY]["broken_promises"] == 1
    (written,) = answer["evidence"]
    assert CliRunner().invoke(market.app, ["verify", written]).exit_code == FALSE
    assert "dropped" in CliRunner().invoke(market.app, options).stdout
