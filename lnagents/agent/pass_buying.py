"""When to buy a pass: right before an attempt, for the hop where priority is worth its price.

A hop that passes the amount with probability p, as is believed, and that lets holders through with
probability q, as its seller's record says, fails the attempt less often by q - p if a pass is
presented. So a pass is worth (q - p) × attempt cost, as in `hints`, and is bought if that is more
than its price and the budgets allow it. What a seller cannot admit it does not sell, and that costs
nothing to find out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from lnagents.agent.candidates import Candidate
from lnagents.agent.config import AgentConfig
from lnagents.agent.pass_wallet import PassWallet
from lnagents.market import Catalogue, Document, PassRequest, Request, Seller, new_nonce
from lnagents.market.paths import PASS_UNIT_MSAT, PASS_UNIT_SECONDS
from lnagents.model.errors import LnagentsError, MarketError
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
"""A seller that failed, or had sold out, is not asked again for so long."""

_log = structlog.get_logger("lnagents.agent.pass_buying")


class Shop(Protocol):
    """Where to buy; `lnagents.agent.buying.BuyingDesk` is one."""

    async def catalogue(self, seller: Seller) -> Catalogue:
        """What a seller offers."""

    async def buy(self, seller: Seller, request: Request, *, agreed_price_msat: Msat) -> Document:
        """Buy the answer to `request`."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A hop that a pass might be worth its price for."""

    seller: Seller
    scid: ShortChannelId
    amount_msat: Msat
    chance: float
    worth_msat: Msat


class PassBuyer:
    """Buys passes for a `Payer`."""

    def __init__(
        self,
        buyer: Shop,
        wallet: PassWallet,
        config: Callable[[], AgentConfig],
        record: Callable[[str, str, str, str], None],
    ) -> None:
        """`record` is told subject, verdict (`bought`, `skipped`), what was asked, and why."""
        self._buyer = buyer
        self._wallet = wallet
        self._config = config
        self._record = record
        self._silent_until: dict[NodeKey, float] = {}

    async def prepare(self, payment_hash: PaymentHash, chosen: Candidate) -> None:
        """Buy the pass that `chosen` gains most from, if there is one worth its price."""
        wanted = self._wanted(payment_hash, chosen)
        if wanted is None:
            return
        asked = f"pass for {format_msat(wanted.amount_msat)}"
        asked += f" over {format_short_channel_id(wanted.scid)}"
        said = f"chance {wanted.chance:.0%}, worth {format_msat(wanted.worth_msat)}"
        try:
            async with asyncio.timeout(BUY_SECONDS):
                price = await self._buy(wanted)
        except (LnagentsError, TimeoutError) as exc:
            cause = str(exc) or f"no pass within {BUY_SECONDS:.0f} s"
            if isinstance(exc, MarketError | TimeoutError):
                self._silent_until[wanted.seller.key] = time.time() + SILENCE_SECONDS
            self._record(payment_hash, "skipped", asked, f"{said}; {cause}")
            _log.info("pass_not_bought", seller=wanted.seller.url, asked=asked, cause=cause)
            return
        bought = price < wanted.worth_msat
        verdict = "bought" if bought else "skipped"
        self._record(payment_hash, verdict, asked, f"{said}, costs {format_msat(price)}")

    def _wanted(self, payment_hash: PaymentHash, chosen: Candidate) -> _Wanted | None:
        config = self._config()
        if not config.market.buy.passes:
            return None
        now = time.time()
        sellers = {
            one.key: Seller(one.url, one.key)
            for one in config.market.buy.sellers
            if self._silent_until.get(one.key, 0.0) <= now
        }
        cost = config.routing.attempt_cost()
        best: _Wanted | None = None
        hops = list(zip(chosen.edges, chosen.estimates, strict=True))[1:]
        for (edge, amount), estimate in hops:
            seller = sellers.get(edge.source)
            if seller is None:
                continue
            gain = self._wallet.reliability(seller.key) - estimate.probability
            worth = round(gain * cost.of(amount))
            if worth <= (0 if best is None else best.worth_msat):
                continue
            if self._wallet.usable(edge.source, edge.scid, amount, payment_hash) is None:
                best = _Wanted(seller, edge.scid, amount, estimate.probability, worth)
        return best

    async def _buy(self, wanted: _Wanted) -> Msat:
        """The price of the pass; it is bought if that is less than it is worth."""
        nonce = new_nonce()
        request = PassRequest(
            nonce=nonce,
            scid=wanted.scid,
            # Whole units, as these are paid for.
            amount_msat=-(-wanted.amount_msat // PASS_UNIT_MSAT) * PASS_UNIT_MSAT,
            seconds=PASS_UNIT_SECONDS,
            buyer_key=self._wallet.key_for(nonce),
        )
        price = (await self._buyer.catalogue(wanted.seller)).price_of(request)
        if price is None:
            raise MarketError(f"{wanted.seller.url} sells no passes for this channel")
        if price < wanted.worth_msat:
            await self._buyer.buy(wanted.seller, request, agreed_price_msat=price)
            await self._wallet.collect()
        return price
