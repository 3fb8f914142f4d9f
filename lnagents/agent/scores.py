"""What an agent knows of its sellers: scores of their hints, and evidence of broken promises."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

import structlog

from lnagents.agent.database import Database
from lnagents.agent.store import HintRecord
from lnagents.market import Document, FeeCommitment, RouteQuote, open_document
from lnagents.market.evidence import (
    Evidence,
    Verdict,
    judge_evidence,
    parse_channel_update,
)
from lnagents.market.scores import HintOutcome, SellerScore, score_sellers
from lnagents.model.errors import DocumentInvalidError, StoreError
from lnagents.model.units import NodeKey

STORE_NAME = "agent.sqlite"
"""The store's file in an agent's data directory."""
REMEMBERED_OUTCOMES = 1_000
"""The newest ones make the scores."""

_OUTCOMES = """SELECT seller_key, probability, prior, passed FROM hint_outcomes
    ORDER BY id DESC LIMIT ?"""
_BROKEN = "SELECT seller_key, evidence FROM broken_promises ORDER BY id"
_HELD = "SELECT document FROM purchases WHERE state = 'delivered' AND created_at >= ?"

_log = structlog.get_logger("lnagents.agent.scores")


class Scores:
    """The scores of one agent's sellers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._scores: dict[NodeKey, SellerScore] = {}
        self._held: list[tuple[Document, bytes]] = []

    async def load(self, since: float) -> None:
        """Read what is known, and the documents bought since (Unix seconds) that may still hold."""

        def work(
            connection: sqlite3.Connection,
        ) -> tuple[dict[NodeKey, SellerScore], list[bytes]]:
            held = connection.execute(_HELD, (since,)).fetchall()
            return _scores(connection), [row[0] for row in held]

        self._scores, documents = await self._database.read(work)
        for document in documents:
            self.hold(open_document(document), document)

    def skill(self, seller: NodeKey) -> float:
        """By how much its hints beat what is believed without them; see `SellerScore`."""
        score = self._scores.get(seller)
        return 1.0 if score is None else score.skill

    def judged(self, hint: HintRecord, passed: bool) -> None:
        """A hint was put to the test by an attempt."""
        if not hint.issuer:
            return  # what was believed before it came is not known
        outcome = HintOutcome(hint.issuer, hint.probability, hint.prior, passed)
        self._of(hint.issuer).add(outcome)
        self._database.later(
            "INSERT INTO hint_outcomes (seller_key, probability, prior, passed, at)"
            " VALUES (?, ?, ?, ?, ?)",
            hint.issuer,
            hint.probability,
            hint.prior,
            int(passed),
            time.time(),
        )

    def hold(self, document: Document, signed: bytes) -> None:
        """Watch whether a bought promise is kept."""
        if isinstance(document, FeeCommitment | RouteQuote):
            self._held.append((document, signed))

    def announced(self, update: bytes) -> None:
        """A signed policy came along with a failed attempt: hold it against what was promised."""
        if not update:
            return
        now = time.time()
        # An update may be older than the attempt that brought it.
        self._held = [one for one in self._held if one[0].expires_at > now - 3_600.0]
        try:
            scid = parse_channel_update(update).scid
        except DocumentInvalidError:
            return
        for document, signed in list(self._held):
            about = document.scid if isinstance(document, FeeCommitment) else None
            if isinstance(document, RouteQuote):
                about = document.hops[0].scid
            if about != scid:
                continue
            # The channel's other end signs updates of its own.
            with contextlib.suppress(DocumentInvalidError):
                _, finding = judge_evidence(signed, [update])
                if finding.verdict is Verdict.FALSE:
                    self._held.remove((document, signed))
                    self._broken(document.issuer, Evidence.of(signed, [update]), finding.reason)

    def _broken(self, seller: NodeKey, evidence: Evidence, reason: str) -> None:
        self._of(seller).broken_promises += 1
        self._database.later(
            "INSERT INTO broken_promises (seller_key, evidence, reason, at) VALUES (?, ?, ?, ?)",
            seller,
            evidence.model_dump_json(),
            reason,
            time.time(),
        )
        _log.warning("promise_broken", seller=seller, reason=reason)

    def _of(self, seller: NodeKey) -> SellerScore:
        return self._scores.setdefault(seller, SellerScore(seller))


def read_scores(store: Path) -> tuple[dict[NodeKey, SellerScore], list[tuple[NodeKey, str]]]:
    """Scores, and evidence (JSON) by seller, from a store whose agent may be running.

    Raises:
        StoreError: there is no such store, or it is of an older version.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return _scores(connection), connection.execute(_BROKEN).fetchall()
    except sqlite3.Error as exc:
        raise StoreError(f"{store} cannot be read: {exc}") from exc


def _scores(connection: sqlite3.Connection) -> dict[NodeKey, SellerScore]:
    rows: Iterable[tuple[NodeKey, float, float, int]] = connection.execute(
        _OUTCOMES, (REMEMBERED_OUTCOMES,)
    )
    outcomes = [HintOutcome(key, told, prior, bool(passed)) for key, told, prior, passed in rows]
    return score_sellers(outcomes, [key for key, _ in connection.execute(_BROKEN)])
