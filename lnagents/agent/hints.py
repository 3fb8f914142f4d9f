"""When to buy a hint: before a payment, about the hop that decides, if it is worth its price.

The rule: take the candidate that would be chosen without learning. Its most uncertain hop, of those
one of whose ends is a configured seller, decides. If the hint says no, another candidate is taken
and a failed attempt is saved, which happens with probability 1 - p. So a hint is worth
(1 - p) × attempt cost, if it is right. How far it can be relied on is learned from what became of
the seller's hints before (`lnagents.market.scores`): its skill is 1 if they were always right, 0 if
they told no more than was believed anyway. A hint is bought if worth × skill is more than its price
and the budgets allow it; so a seller whose information does not help is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from lnagents.agent.candidates import Candidate
from lnagents.agent.config import AgentConfig, BuySection
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.scores import Scores
from lnagents.agent.store import HintRecord
from lnagents.env import AttemptCost
from lnagents.market import (
    Catalogue,
    DocumentBuyer,
    LiquidityHint,
    LiquidityRequest,
    Product,
    Seller,
    new_nonce,
)
from lnagents.model.errors import LnagentsError
from lnagents.model.graph import Edge
from lnagents.model.units import (
    Msat,
    NodeKey,
    PaymentHash,
    ShortChannelId,
    format_msat,
    format_short_channel_id,
)

CERTAIN = 0.05
"""Hops whose chance is within this of 0 or 1 are not asked about."""

PRICE_SECONDS = 60.0
"""How long a catalogue's prices are taken for granted."""

BUY_SECONDS = 15.0
"""A purchase that takes longer is left to `resume` of the buyer; the payment goes on without it."""

SILENCE_SECONDS = 30.0
"""A seller that failed is not asked again for so long."""

_log = structlog.get_logger("lnagents.agent.hints")


class Advisor:
    """Buys hints for a `Payer`."""

    def __init__(
        self,
        buyer: DocumentBuyer,
        liquidity: Liquidity,
        config: Callable[[], AgentConfig],
        record: Callable[[str, str, str, str], None],
        scores: Scores,
    ) -> None:
        """`record` is told subject, verdict (`bought`, `skipped`), what was asked, and why."""
        self._buyer = buyer
        self._liquidity = liquidity
        self._config = config
        self._record = record
        self._scores = scores
        self._catalogues: dict[NodeKey, tuple[float, Catalogue]] = {}
        self._silent_until: dict[NodeKey, float] = {}
        self._buying: dict[tuple[ShortChannelId, NodeKey], asyncio.Event] = {}

    async def advise(self, payment_hash: PaymentHash, candidates: list[Candidate]) -> bool:
        """Buy the hint that decides, if there is one worth it; True if something was learned."""
        config = self._config()
        if len(candidates) < 2:
            return False  # with nothing to choose from no answer would change anything
        found = self._decisive(candidates[0], config.market.buy)
        if found is None:
            return False
        edge, amount, chance, seller = found
        key = (edge.scid, edge.source)
        other = self._buying.get(key)
        if other is not None:
            # Another payment asks the same right now.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BUY_SECONDS + 1.0):
                    await other.wait()
            return True
        self._buying[key] = done = asyncio.Event()
        try:
            return await self._weigh(
                payment_hash, seller, edge, amount, chance, config.routing.attempt_cost()
            )
        finally:
            done.set()
            del self._buying[key]

    def learn(self, hint: LiquidityHint, prior: float | None = None) -> None:
        """Let a verified hint bound what is believed.

        It is scored if `prior`, the chance that was believed before, is known.
        """
        self._liquidity.add_hint(
            HintRecord(
                hint.scid,
                hint.source,
                hint.amount_msat,
                hint.probability,
                hint.issued_at,
                hint.expires_at,
                *(() if prior is None else (hint.issuer, prior)),
            )
        )

    def _decisive(
        self, candidate: Candidate, buy: BuySection
    ) -> tuple[Edge, Msat, float, Seller] | None:
        now = time.time()
        sellers = {
            one.key: Seller(one.url, one.key)
            for one in buy.sellers
            if self._silent_until.get(one.key, 0.0) <= now and self._scores.skill(one.key) > 0.0
        }
        best: tuple[Edge, Msat, float, Seller] | None = None
        hops = list(zip(candidate.edges, candidate.estimates, strict=True))[1:]
        for (edge, amount), estimate in hops:
            seller = sellers.get(edge.source) or sellers.get(edge.target)
            chance = estimate.probability
            if seller is None or not CERTAIN < chance < 1.0 - CERTAIN:
                continue
            if self._liquidity.has_hint(edge, now):
                continue
            if best is None or abs(chance - 0.5) < abs(best[2] - 0.5):
                best = edge, amount, chance, seller
        return best

    async def _weigh(
        self,
        payment_hash: PaymentHash,
        seller: Seller,
        edge: Edge,
        amount: Msat,
        chance: float,
        cost: AttemptCost,
    ) -> bool:
        skill = self._scores.skill(seller.key)
        worth = round((1.0 - chance) * cost.of(amount) * skill)
        asked = f"{format_short_channel_id(edge.scid)} from {edge.source[:8]}"
        asked += f", {format_msat(amount)}"
        try:
            async with asyncio.timeout(BUY_SECONDS):
                price = await self._price(seller, edge.scid)
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
                hint = await self._buyer.buy(seller, request, agreed_price_msat=price)
        except (LnagentsError, TimeoutError) as exc:
            cause = str(exc) or f"no hint within {BUY_SECONDS:.0f} s"
            self._silent_until[seller.key] = time.time() + SILENCE_SECONDS
            self._record(payment_hash, "skipped", asked, cause)
            _log.warning("hint_not_bought", seller=seller.url, asked=asked, cause=cause)
            return False
        assert isinstance(hint, LiquidityHint)  # noqa: S101  (it answers the request)
        self.learn(hint, chance)
        self._record(payment_hash, "bought", asked, f"{said}; answer {hint.probability:.0%}")
        return True

    async def _price(self, seller: Seller, scid: ShortChannelId) -> Msat | None:
        known = self._catalogues.get(seller.key)
        now = time.monotonic()
        if known is None or now - known[0] > PRICE_SECONDS:
            known = self._catalogues[seller.key] = (now, await self._buyer.catalogue(seller))
        return known[1].price_msat(Product.LIQUIDITY, scid)
