"""What was traded in a run, from the stores that its agents leave behind."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lnagents.agent.scores import STORE_NAME, read_scores
from lnagents.market.paths import parse_quoted
from lnagents.model.errors import StoreError
from lnagents.model.units import Msat, NodeKey

_PURCHASES = """SELECT created_at, seller_key, path, price_msat FROM purchases
    WHERE state = 'delivered' ORDER BY created_at"""
_PRICES = "SELECT at, subject, change FROM decisions WHERE verdict = 'set' ORDER BY id"
_PRICE = re.compile(r"→(\d+) sat")
_WEIGHED = """SELECT count(*) FROM decisions
    WHERE verdict = 'bought' OR (verdict = 'skipped' AND length(subject) = 64)"""


@dataclass(frozen=True, slots=True)
class Trade:
    """One document that was bought and delivered. Nodes by name."""

    at_seconds: float
    """Since the run began."""
    buyer: str
    seller: str
    product: str
    """As catalogues call it (`lnagents.market.Product`)."""
    price_msat: Msat


@dataclass(frozen=True, slots=True)
class PriceChange:
    """What a seller asks from a moment on."""

    at_seconds: float
    seller: str
    product: str
    price_sat: int


@dataclass(frozen=True, slots=True)
class SellerFigures:
    """What became of the statements that one agent bought of one seller."""

    buyer: str
    seller: str
    product: str
    tested: int
    brier: float | None
    prior_brier: float | None
    """Of what the buyer believed before; None: nothing was tested."""
    skill: float
    kept_promises: int
    broken_promises: int


@dataclass(frozen=True, slots=True)
class MarketRecord:
    """A run's market."""

    trades: tuple[Trade, ...] = ()
    prices: tuple[PriceChange, ...] = ()
    scores: tuple[SellerFigures, ...] = ()
    weighed: int = 0
    """How often an agent weighed whether something was worth its price."""


def read_market(directory: Path, names: Mapping[NodeKey, str], began_at: float) -> MarketRecord:
    """Read the stores of all agents; blocking.

    Args:
        directory: with a folder for each agent, called as its node.
        names: of the nodes, by key.
        began_at: when the run began, Unix seconds.

    Raises:
        StoreError: a store cannot be read.
    """
    trades: list[Trade] = []
    prices: list[PriceChange] = []
    scores: list[SellerFigures] = []
    weighed = 0
    for store in sorted(directory.glob(f"*/{STORE_NAME}")):
        agent = store.parent.name
        try:
            with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as opened:
                bought = opened.execute(_PURCHASES).fetchall()
                changes = opened.execute(_PRICES).fetchall()
                weighed += int(opened.execute(_WEIGHED).fetchone()[0])
        except sqlite3.Error as exc:
            raise StoreError(f"{store} cannot be read: {exc}") from exc
        for at, seller, path, price in bought:
            product = parse_quoted(path)[0].product.value
            trades.append(Trade(at - began_at, agent, _name(names, seller), product, price))
        for at, subject, change in changes:
            found = _PRICE.search(change)
            if subject.startswith("price ") and found is not None:
                product = subject.removeprefix("price ")
                prices.append(PriceChange(at - began_at, agent, product, int(found[1])))
        for (seller, kind), score in read_scores(store)[0].items():
            scores.append(
                SellerFigures(
                    buyer=agent,
                    seller=_name(names, seller),
                    product=kind.value,
                    tested=score.outcomes,
                    brier=score.brier,
                    prior_brier=score.prior_brier,
                    skill=score.skill,
                    kept_promises=score.kept_promises,
                    broken_promises=score.broken_promises,
                )
            )
    trades.sort(key=lambda trade: trade.at_seconds)
    return MarketRecord(tuple(trades), tuple(prices), tuple(scores), weighed)


def _name(names: Mapping[NodeKey, str], key: NodeKey) -> str:
    return names.get(key, key[:16])
