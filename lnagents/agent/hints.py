"""Buying information before a payment: whatever gains most over its price, within the budgets.

What could be bought, and what it would be worth, `lnagents.agent.worth` says. One thing is bought
for a payment, at most; a seller whose statements do not help is worth nothing and so is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from lnagents.agent.candidates import Candidate, RouteFinder
from lnagents.agent.config import AgentConfig
from lnagents.agent.liquidity import LEAST_CHANCE, Liquidity
from lnagents.agent.questions import Noes, is_no
from lnagents.agent.store import HintRecord
from lnagents.agent.worth import Buyer, EdgeUses, Record, Wish, spread
from lnagents.market import (
    Catalogue,
    Document,
    FeeCommitment,
    LiquidityHint,
    Product,
    Request,
    RouteQuote,
    Seller,
    new_nonce,
)
from lnagents.model.errors import LnagentsError, PriceError
from lnagents.model.units import Msat, NodeKey, PaymentHash, ShortChannelId, format_msat

BUY_SECONDS = 15.0
"""A purchase that takes longer is left to `resume` of the buyer; the payment goes on without it."""

ASSUMED_SECONDS = 3_600
"""For how long a seller promises fees, as long as its catalogue is not known."""

SILENCE_SECONDS = 30.0
"""A seller that failed is not asked again for so long."""

_log = structlog.get_logger("lnagents.agent.hints")


class Desk(Protocol):
    """Where to buy; `lnagents.agent.buying.BuyingDesk` is one, and has what comes in learned."""

    async def catalogue(self, seller: Seller) -> Catalogue:
        """What a seller offers now."""

    async def buy(self, seller: Seller, request: Request, *, agreed_price_msat: Msat) -> Document:
        """Buy it; raises what `DocumentBuyer.buy` raises."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """A wish, who fulfils it, and at what price."""

    seller: Seller
    wish: Wish
    price_msat: Msat

    @property
    def gain_msat(self) -> Msat:
        return self.wish.worth_msat - self.price_msat

    @property
    def why(self) -> str:
        worth, price = format_msat(self.wish.worth_msat), format_msat(self.price_msat)
        return f"{self.wish.why}, worth {worth}, costs {price}"


class Advisor:
    """Buys information for a `Payer`."""

    def __init__(
        self,
        desk: Desk,
        finder: RouteFinder,
        liquidity: Liquidity,
        config: Callable[[], AgentConfig],
        record: Callable[[str, str, str, str], None],
        scores: Record,
    ) -> None:
        """`record` is told subject, verdict (`bought`, `skipped`), what was asked, and why."""
        self._desk = desk
        self._finder = finder
        self._liquidity = liquidity
        self._config = config
        self._record = record
        self._scores = scores
        self._uses = EdgeUses()
        self._promise_seconds: dict[NodeKey, int] = {}
        self._silent_until: dict[NodeKey, float] = {}
        self._noes: defaultdict[NodeKey, Noes] = defaultdict(Noes)
        self._buying: dict[tuple[object, ...], asyncio.Event] = {}

    async def advise(self, payment_hash: PaymentHash, candidates: list[Candidate]) -> bool:
        """Buy what gains most over its price, if anything does; True if something was learned."""
        self._uses.note(candidates[0], time.time())
        for last in (False, True):
            offers = await self._offers(payment_hash, candidates)
            if not offers:
                return False
            best = max(offers, key=lambda offer: offer.gain_msat)
            if best.gain_msat <= 0:
                self._record(payment_hash, "skipped", best.wish.asked, best.why)
                return False
            try:
                return await self._fulfil(payment_hash, best) and best.wish.tells
            except PriceError as exc:
                # It went up since the catalogue was read: weigh again, once.
                if last:
                    self._record(payment_hash, "skipped", best.wish.asked, str(exc))
        return False

    def learn(self, document: Document) -> None:
        """Let a verified document bound what is believed; it is scored against what was before.

        A quote is taken for hints about all edges of its route.
        """
        if isinstance(document, LiquidityHint):
            edges = [(document.scid, document.source, document.amount_msat)]
            self._believe(document, Product.LIQUIDITY, edges, [document.probability])
        elif isinstance(document, RouteQuote):
            sources = [document.issuer, *(hop.target for hop in document.hops)]
            edges = [
                (hop.scid, source, hop.amount_msat)
                for hop, source in zip(document.hops, sources, strict=False)
            ]
            # The first is the issuer's own, whose balance it knows and leaves out of the chance.
            before = [self._chance(*edge) or 1.0 for edge in edges[1:]]
            rest = spread(max(LEAST_CHANCE, document.probability), before) if before else []
            self._believe(document, Product.ROUTE, edges, [1.0, *rest])

    def _believe(
        self,
        document: Document,
        product: Product,
        edges: Sequence[tuple[ShortChannelId, NodeKey, Msat]],
        chances: Sequence[float],
    ) -> None:
        now = time.time()
        for (scid, source, amount), chance in zip(edges, chances, strict=True):
            edge = self._finder.edge(scid, source)
            if product is Product.ROUTE and (edge is None or self._liquidity.has_hint(edge, now)):
                continue  # an end of the channel knows better
            prior = self._chance(scid, source, amount)
            self._liquidity.add_hint(
                HintRecord(
                    scid,
                    source,
                    amount,
                    chance,
                    document.issued_at,
                    document.expires_at,
                    "" if prior is None else document.issuer,
                    0.5 if prior is None else prior,
                    product.value,
                )
            )

    def _chance(self, scid: ShortChannelId, source: NodeKey, amount: Msat) -> float | None:
        """What is believed now; None: the edge is not known."""
        edge = self._finder.edge(scid, source)
        if edge is None:
            return None
        return self._liquidity.estimate(edge, amount, time.time()).probability

    def _known_sellers(self) -> dict[NodeKey, Seller]:
        """Those that are configured and answer."""
        now = time.time()
        return {
            one.key: Seller(one.url, one.key)
            for one in self._config().market.buy.sellers
            if self._silent_until.get(one.key, 0.0) <= now
        }

    def _wishes(self, candidates: Sequence[Candidate]) -> list[tuple[Seller, Wish]]:
        sellers = self._known_sellers()
        if not sellers:
            return []
        cost = self._config().routing.attempt_cost()
        buyer = Buyer(self._liquidity, self._uses, self._scores, cost)
        promises = {key: self._promise_seconds.get(key, ASSUMED_SECONDS) for key in sellers}
        wishes = buyer.wishes(candidates, sellers, promises, time.time())
        return [(sellers[wish.seller], wish) for wish in wishes]

    async def _offers(
        self, payment_hash: PaymentHash, candidates: Sequence[Candidate]
    ) -> list[_Offer]:
        """All that could be bought now and what it costs."""
        catalogues = await self._catalogues(payment_hash, self._wishes(candidates))
        # Once more: meanwhile another payment may have learned what this one needs.
        return [
            _Offer(seller, wish, price)
            for seller, wish in self._wishes(candidates)
            if seller.key in catalogues
            and (price := catalogues[seller.key].price_of(wish.request)) is not None
        ]

    async def _fulfil(self, payment_hash: PaymentHash, offer: _Offer) -> bool:
        """Buy it, or wait for another payment that does; whether it is here.

        Raises:
            PriceError: it costs more by now.
        """
        about = offer.wish.about
        other = self._buying.get(about)
        if other is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BUY_SECONDS + 1.0):
                    await other.wait()
            return True
        self._buying[about] = done = asyncio.Event()
        try:
            return await self._buy(payment_hash, offer)
        finally:
            done.set()
            del self._buying[about]

    async def _catalogues(
        self, payment_hash: PaymentHash, wishes: Sequence[tuple[Seller, Wish]]
    ) -> dict[NodeKey, Catalogue]:
        """What those offer who could fulfil a wish."""
        found: dict[NodeKey, Catalogue] = {}
        for seller, wish in wishes:
            if seller.key in found or self._silent_until.get(seller.key, 0.0) > time.time():
                continue
            try:
                async with asyncio.timeout(BUY_SECONDS):
                    catalogue = found[seller.key] = await self._desk.catalogue(seller)
            except (LnagentsError, TimeoutError) as exc:
                self._failed(payment_hash, seller, wish, exc)
            else:
                self._promise_seconds[seller.key] = catalogue.max_seconds
        return found

    async def _buy(self, payment_hash: PaymentHash, offer: _Offer) -> bool:
        seller, wish = offer.seller, offer.wish
        request = replace(wish.request, nonce=new_nonce())
        try:
            async with asyncio.timeout(BUY_SECONDS):
                document = await self._desk.buy(seller, request, agreed_price_msat=offer.price_msat)
        except PriceError:
            raise
        except (LnagentsError, TimeoutError) as exc:
            self._failed(payment_hash, seller, wish, exc)
            return False
        tested = self._is_tested(document, offer)
        said = f"{offer.why}; {_answer(document)}{', which is put to the test' if tested else ''}"
        self._record(payment_hash, "bought", wish.asked, said)
        return not tested

    def _is_tested(self, document: Document, offer: _Offer) -> bool:
        """Whether the payment goes the way that the answer is against, to see if that is so."""
        if not isinstance(document, LiquidityHint) or not is_no(document.probability):
            return False
        test = self._config().routing.attempt_cost().of(document.amount_msat)
        stake = offer.price_msat + offer.wish.detour_msat
        return self._noes[document.issuer].puts_to_test(stake, test)

    def _failed(
        self, payment_hash: PaymentHash, seller: Seller, wish: Wish, error: Exception
    ) -> None:
        cause = str(error) or f"no answer within {BUY_SECONDS:.0f} s"
        self._silent_until[seller.key] = time.time() + SILENCE_SECONDS
        self._record(payment_hash, "skipped", wish.asked, cause)
        _log.warning("hint_not_bought", seller=seller.url, asked=wish.asked, cause=cause)


def _answer(document: Document) -> str:
    """What a document says, in a few words."""
    if isinstance(document, LiquidityHint):
        return f"answer {document.probability:.0%}"
    if isinstance(document, RouteQuote):
        fee = format_msat(document.total_fee_msat)
        return f"{len(document.hops)} hops, fee {fee}, chance {document.probability:.0%}"
    if isinstance(document, FeeCommitment):
        return f"at most {document.base_fee_msat} msat + {document.fee_rate_ppm} ppm"
    return type(document).__name__
