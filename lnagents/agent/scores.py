"""What an agent knows of its sellers: scores of their hints, and evidence of broken promises."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import structlog

from lnagents.agent.database import Database
from lnagents.agent.store import HintRecord
from lnagents.market import Document, FeeCommitment, Product, RouteQuote, open_document
from lnagents.market.evidence import (
    Evidence,
    Verdict,
    contradiction,
    judge_evidence,
    parse_channel_update,
)
from lnagents.market.scores import HintOutcome, SellerScore, score_sellers
from lnagents.model.errors import DocumentInvalidError, StoreError
from lnagents.model.graph import Edge
from lnagents.model.units import NodeKey, ShortChannelId

STORE_NAME = "agent.sqlite"
"""The store's file in an agent's data directory."""
REMEMBERED_OUTCOMES = 1_000
"""The newest ones of a product make the scores."""
LATE_SECONDS = 3_600.0
"""How long after its end something that contradicts a promise may still come to light."""

SellerScores = dict[tuple[NodeKey, Product], SellerScore]

_OUTCOMES = """SELECT seller_key, probability, prior, passed FROM hint_outcomes
    WHERE product = ? ORDER BY id DESC LIMIT ?"""
_BROKEN = "SELECT seller_key, evidence FROM broken_promises ORDER BY id"
_HELD = "SELECT document FROM purchases WHERE state = 'delivered' AND created_at >= ?"
_COMMITMENTS = """SELECT document FROM purchases
    WHERE state = 'delivered' AND path LIKE '/v1/commitments/%'"""

_log = structlog.get_logger("lnagents.agent.scores")


class Scores:
    """The scores of one agent's sellers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._scores: SellerScores = {}
        self._broken_by: Counter[NodeKey] = Counter()
        self._held: list[tuple[Document, bytes]] = []

    async def load(self, since: float) -> None:
        """Read what is known, and the documents bought since (Unix seconds) that may still hold."""

        def work(
            connection: sqlite3.Connection,
        ) -> tuple[SellerScores, list[NodeKey], list[bytes]]:
            held = connection.execute(_HELD, (since,)).fetchall()
            broken = [key for key, _ in connection.execute(_BROKEN)]
            return _scores(connection), broken, [row[0] for row in held]

        self._scores, broken, documents = await self._database.read(work)
        self._broken_by.update(broken)
        for document in documents:
            self.hold(open_document(document), document)

    def skill(self, seller: NodeKey, product: Product) -> float:
        """By how much its statements beat what is believed without them; see `SellerScore`.

        A promise counts in full until one is broken; who breaks one, has no skill at all.
        """
        if self._broken_by[seller]:
            return 0.0
        score = self._scores.get((seller, product))
        return 1.0 if score is None else score.skill

    def promised_until(self, seller: NodeKey, scid: ShortChannelId) -> float:
        """Until when a commitment of the seller about this channel holds; 0: there is none."""
        return max(
            (
                one.expires_at
                for one, _ in self._held
                if isinstance(one, FeeCommitment) and (one.issuer, one.scid) == (seller, scid)
            ),
            default=0.0,
        )

    def quoted_until(self, seller: NodeKey, destination: NodeKey) -> float:
        """Until when a route of the seller to this node holds; 0: there is none."""
        return max(
            (
                one.expires_at
                for one, _ in self._held
                if isinstance(one, RouteQuote)
                and (one.issuer, one.destination) == (seller, destination)
            ),
            default=0.0,
        )

    def judged(self, hint: HintRecord, passed: bool) -> None:
        """A hint was put to the test by an attempt."""
        if not hint.issuer:
            return  # what was believed before it came is not known
        outcome = HintOutcome(hint.issuer, hint.probability, hint.prior, passed)
        product = Product(hint.product)
        key = (hint.issuer, product)
        self._scores.setdefault(key, SellerScore(hint.issuer, product)).add(outcome)
        self._database.later(
            "INSERT INTO hint_outcomes (seller_key, probability, prior, passed, at, product)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            hint.issuer,
            hint.probability,
            hint.prior,
            int(passed),
            time.time(),
            hint.product,
        )

    def hold(self, document: Document, signed: bytes) -> None:
        """Watch whether a bought promise is kept."""
        # An update that contradicts one may come an hour later.
        late = time.time() - LATE_SECONDS
        self._held = [one for one in self._held if one[0].expires_at > late]
        if isinstance(document, FeeCommitment | RouteQuote):
            self._held.append((document, signed))

    def announced(self, update: bytes) -> None:
        """A signed policy came along with a failed attempt: hold it against what was promised."""
        if not update:
            return
        try:
            scid = parse_channel_update(update).scid
        except DocumentInvalidError:
            return
        for document, signed in list(self._held):
            if _about(document) != scid:
                continue
            # The channel's other end signs updates of its own.
            with contextlib.suppress(DocumentInvalidError):
                _, finding = judge_evidence(signed, [update])
                if finding.verdict is Verdict.FALSE:
                    self._held.remove((document, signed))
                    self._broken(document.issuer, Evidence.of(signed, [update]), finding.reason)

    def doubts(self, edge: Edge) -> bool:
        """Whether gossip about `edge` may contradict a promise: `heard` needs its time to tell."""
        if edge.policy is None:
            return False
        policy = replace(edge.policy, last_update=int(time.time()))
        return any(
            document.issuer == edge.source and contradiction(document, edge.scid, policy)
            for document, _ in self._held
        )

    def heard(self, edge: Edge) -> None:
        """Gossip as the own node has it, with its time, which convinces nobody else."""
        for document, signed in list(self._held):
            if edge.policy is None or (_about(document), document.issuer) != (
                edge.scid,
                edge.source,
            ):
                continue
            reason = contradiction(document, edge.scid, edge.policy)
            if reason:
                self._held.remove((document, signed))
                told = f"the own node heard {reason}"
                self._broken(document.issuer, Evidence.of(signed, []), told)

    def _broken(self, seller: NodeKey, evidence: Evidence, reason: str) -> None:
        self._broken_by[seller] += 1
        self._database.later(
            "INSERT INTO broken_promises (seller_key, evidence, reason, at) VALUES (?, ?, ?, ?)",
            seller,
            evidence.model_dump_json(),
            reason,
            time.time(),
        )
        _log.warning("promise_broken", seller=seller, reason=reason)


def _about(document: Document) -> ShortChannelId | None:
    """The issuer's channel whose fee is promised."""
    if isinstance(document, RouteQuote):
        return document.hops[0].scid
    return document.scid if isinstance(document, FeeCommitment) else None


def read_scores(store: Path) -> tuple[SellerScores, list[tuple[NodeKey, str]]]:
    """Scores, and evidence (JSON) by seller, from a store whose agent may be running.

    Raises:
        StoreError: there is no such store, or it is of an older version.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return _scores(connection), connection.execute(_BROKEN).fetchall()
    except sqlite3.Error as exc:
        raise StoreError(f"{store} cannot be read: {exc}") from exc


def _scores(connection: sqlite3.Connection) -> SellerScores:
    scores: SellerScores = {}
    for product in (Product.LIQUIDITY, Product.ROUTE):
        rows: Iterable[tuple[NodeKey, float, float, int]] = connection.execute(
            _OUTCOMES, (product.value, REMEMBERED_OUTCOMES)
        )
        outcomes = [HintOutcome(key, told, prior, bool(ok)) for key, told, prior, ok in rows]
        for seller, score in score_sellers(outcomes).items():
            score.product = product
            scores[seller, product] = score
    broken = Counter(key for key, _ in connection.execute(_BROKEN))
    ended = Counter(
        document.issuer
        for (signed,) in connection.execute(_COMMITMENTS)
        if (document := open_document(signed)).expires_at < time.time()
    )
    for seller in broken | ended:
        promises = SellerScore(seller, Product.COMMITMENT)
        promises.kept_promises = max(0, ended[seller] - broken[seller])
        scores[seller, Product.COMMITMENT] = promises
    for score in scores.values():
        score.broken_promises = broken[score.seller]
    return scores
