"""The market of a run is read from what its agents leave behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnagents.agent.scores import STORE_NAME, Scores
from lnagents.agent.store import DecisionRecord, HintRecord, Store
from lnagents.evaluate.trades import MarketRecord, PriceChange, Trade, read_market
from lnagents.market import Purchase, Seller
from lnagents.model.errors import StoreError

KEY = "02" * 33
PATH = f"/v1/routes/{KEY}/5/{'0' * 32}"


async def test_what_was_bought_priced_and_judged_is_found(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    store = await Store.open(tmp_path / "ann" / STORE_NAME)
    for nonce, at in (("a", 12.0), ("b", 11.0), ("c", 13.0)):
        seller = Seller("http://s", KEY if nonce == "a" else "03" * 33)
        await store.purchases.challenged(
            Purchase(nonce, seller, PATH, 2_000, "mac", "lnbc", nonce, at)
        )
    for nonce in "ab":
        await store.purchases.paid(nonce, b"preimage")
        await store.purchases.delivered(nonce, b"signed")
    for subject, verdict, change in (
        ("price route", "set", "→2 sat"),
        ("price route", "set", "2→5 sat"),
        ("1x2x3", "set", "ppm 1→2"),
        ("ab" * 32, "bought", "x"),
        ("ab" * 32, "skipped", "x"),
        ("node", "kept", ""),
    ):
        store.record_decision(DecisionRecord(1, 10.5, subject, verdict, change, "why"))
    scores = Scores(store.database)
    scores.judged(HintRecord(1, KEY, 1, 1.0, 0.0, 4e9, KEY, 0.5, "route"), True)
    await store.close()

    market = read_market(tmp_path, {KEY: "ben"}, 10.0)
    assert market.trades == (
        Trade(1.0, "ann", ("03" * 33)[:16], "route", 2_000),
        Trade(2.0, "ann", "ben", "route", 2_000),
    )
    assert market.prices == (
        PriceChange(0.5, "ann", "route", 2),
        PriceChange(0.5, "ann", "route", 5),
    )
    [score] = market.scores
    assert (score.buyer, score.seller, score.product) == ("ann", "ben", "route")
    assert (score.tested, score.brier, score.prior_brier) == (1, 0.0, 0.25)
    assert market.weighed == 2


def test_without_agents_there_is_no_market(tmp_path: Path) -> None:
    assert read_market(tmp_path, {}, 0.0) == MarketRecord()
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / STORE_NAME).write_text("no database, " * 100)
    with pytest.raises(StoreError, match="cannot be read"):
        read_market(tmp_path, {}, 0.0)
