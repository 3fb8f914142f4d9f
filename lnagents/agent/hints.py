"""Buying hints before payments: what `lnagents.agent.questions` asks for, within the budgets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from lnagents.agent.candidates import Candidate, RouteFinder
from lnagents.agent.config import AgentConfig
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.questions import Question, decisive_question
from lnagents.agent.scores import Scores
from lnagents.agent.store import HintRecord
from lnagents.market import (
    Catalogue,
    Document,
    LiquidityHint,
    LiquidityRequest,
    Product,
    Request,
    Seller,
    new_nonce,
)
from lnagents.model.errors import LnagentsError
from lnagents.model.units import (
    Msat,
    NodeKey,
    PaymentHash,
    ShortChannelId,
    format_msat,
    format_short_channel_id,
)

BUY_SECONDS = 15.0
"""A purchase that takes longer is left to `resume` of the buyer; the payment goes on without it."""

SILENCE_SECONDS = 30.0
"""A seller that failed is not asked again for so long."""

_log = structlog.get_logger("lnagents.agent.hints")


class Desk(Protocol):
    """Where to buy; `lnagents.agent.buying.BuyingDesk` is one, and has what comes in learned."""

    async def catalogue(self, seller: Seller) -> Catalogue:
        """What a seller offers now."""

    async def buy(self, seller: Seller, request: Request, *, agreed_price_msat: Msat) -> Document:
        """Buy it; raises what `DocumentBuyer.buy` raises."""


class Advisor:
    """Buys hints for a `Payer`."""

    def __init__(
        self,
        desk: Desk,
        finder: RouteFinder,
        liquidity: Liquidity,
        config: Callable[[], AgentConfig],
        record: Callable[[str, str, str, str], None],
        scores: Scores,
    ) -> None:
        """`record` is told subject, verdict (`bought`, `skipped`), what was asked, and why."""
        self._desk = desk
        self._finder = finder
        self._liquidity = liquidity
        self._config = config
        self._record = record
        self._scores = scores
        self._silent_until: dict[NodeKey, float] = {}
        self._buying: dict[tuple[ShortChannelId, NodeKey], asyncio.Event] = {}

    async def advise(self, payment_hash: PaymentHash, candidates: list[Candidate]) -> bool:
        """Buy the hint that decides, if there is one worth it; True if something was learned."""
        question = decisive_question(
            candidates, self._known_sellers(), self._liquidity, time.time()
        )
        if question is None:
            return False
        key = (question.edge.scid, question.edge.source)
        other = self._buying.get(key)
        if other is not None:
            # Another payment asks the same right now.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BUY_SECONDS + 1.0):
                    await other.wait()
            return True
        self._buying[key] = done = asyncio.Event()
        try:
            return await self._weigh(payment_hash, question)
        finally:
            done.set()
            del self._buying[key]

    def learn(self, hint: LiquidityHint) -> None:
        """Let a verified hint bound what is believed; it is scored against what was before."""
        edge = self._finder.edge(hint.scid, hint.source)
        scored: tuple[NodeKey, float] | tuple[()] = ()
        if edge is not None:
            before = self._liquidity.estimate(edge, hint.amount_msat, time.time())
            scored = (hint.issuer, before.probability)
        self._liquidity.add_hint(
            HintRecord(
                hint.scid,
                hint.source,
                hint.amount_msat,
                hint.probability,
                hint.issued_at,
                hint.expires_at,
                *scored,
            )
        )

    def _known_sellers(self) -> dict[NodeKey, Seller]:
        """Those that are configured, answer, and have been of use."""
        now = time.time()
        return {
            one.key: Seller(one.url, one.key)
            for one in self._config().market.buy.sellers
            if self._silent_until.get(one.key, 0.0) <= now and self._scores.skill(one.key) > 0.0
        }

    async def _weigh(self, payment_hash: PaymentHash, question: Question) -> bool:
        seller = self._known_sellers()[question.seller]
        edge, amount, chance = question.edge, question.amount_msat, question.chance
        worth = question.worth_msat(
            self._config().routing.attempt_cost(), self._scores.skill(seller.key)
        )
        asked = f"{format_short_channel_id(edge.scid)} from {edge.source[:8]}"
        asked += f", {format_msat(amount)}"
        try:
            async with asyncio.timeout(BUY_SECONDS):
                catalogue = await self._desk.catalogue(seller)
                price = catalogue.price_msat(Product.LIQUIDITY, edge.scid)
                if price is None:
                    return False
                said = (
                    f"chance {chance:.0%}, worth {format_msat(worth)}, costs {format_msat(price)}"
                )
                if price >= worth:
                    self._record(payment_hash, "skipped", asked, said)
                    return False
                request = LiquidityRequest(
                    scid=edge.scid, source=edge.source, amount_msat=amount, nonce=new_nonce()
                )
                hint = await self._desk.buy(seller, request, agreed_price_msat=price)
        except (LnagentsError, TimeoutError) as exc:
            cause = str(exc) or f"no hint within {BUY_SECONDS:.0f} s"
            self._silent_until[seller.key] = time.time() + SILENCE_SECONDS
            self._record(payment_hash, "skipped", asked, cause)
            _log.warning("hint_not_bought", seller=seller.url, asked=asked, cause=cause)
            return False
        assert isinstance(hint, LiquidityHint)  # noqa: S101  (it answers the request)
        self._record(payment_hash, "bought", asked, f"{said}; answer {hint.probability:.0%}")
        return True
