"""Quotes of this agent for finding the rest of a way (`lnagents.market.forwarding`)."""

from __future__ import annotations

import time
from collections.abc import Callable

from lnagents.agent.candidates import PathQuery, RouteFinder
from lnagents.agent.config import DelegationSection
from lnagents.agent.observer import Observer
from lnagents.market import sign_document
from lnagents.market.allowance import Allowance
from lnagents.market.documents import ForwardQuote, MessageSigner
from lnagents.market.forwarding import ForwardRequest, QuoteSeals, Terms
from lnagents.model.delegation import Delegation
from lnagents.model.errors import NotForSaleError, SellerBusyError
from lnagents.model.payment import HOP_BY_HOP_SLACK

QUOTES_BURST = 200
QUOTES_PER_SECOND = 20.0
"""A quote costs a search of some milliseconds and a signature, and nobody pays for it."""

LOCAL_SECONDS = 1.0
"""How old the own balances may be for a quote."""


class ForwardQuotes:
    """Makes quotes, and knows them again without remembering any."""

    def __init__(
        self,
        *,
        signer: MessageSigner,
        observer: Observer,
        finder: RouteFinder,
        section: DelegationSection,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signer = signer
        self._observer = observer
        self._finder = finder
        self._section = section
        self._seals = QuoteSeals(signer)
        self._allowance = Allowance(QUOTES_BURST, QUOTES_PER_SECOND, clock)
        self._clock = clock
        self._sequence = 0

    @property
    def terms(self) -> Terms:
        """What is asked for."""
        return self._section.terms()

    async def quote(self, request: ForwardRequest) -> bytes:
        """The fee of the way that seems best now, and what this agent wants to earn with it.

        Raises:
            NotForSaleError: no way is known here, or it is too much.
            SellerBusyError: too many quotes were asked for lately.
            LndError: the node did not answer.
        """
        terms = self.terms
        if request.amount_msat > terms.max_amount_msat:
            problem = f"no more than {terms.max_amount_msat} msat are forwarded for others"
            raise NotForSaleError(problem)
        if request.destination == self._observer.own_key:
            raise NotForSaleError("the destination is this node")
        if not self._allowance.take():
            raise SellerBusyError("too many quotes were asked for lately")
        await self._observer.local_channels(LOCAL_SECONDS)
        height = await self._observer.height()
        query = PathQuery(
            destination=request.destination,
            amount_msat=request.amount_msat,
            max_fee_msat=request.amount_msat,
            final_cltv_delta=request.final_cltv_delta,
            max_hops=terms.max_hops,
        )
        found = self._finder.find(query, count=1, height=height, now=self._clock())
        if not found:
            raise NotForSaleError(f"no way to {request.destination} is known here")
        route = found[0].route
        fee = route.fee_msat + terms.margin_msat(request.amount_msat)
        # A longer way may be taken in the end.
        blocks = route.total_time_lock - height + terms.time_lock_delta + HOP_BY_HOP_SLACK
        now = self._clock()
        expires_at = int(now) + terms.quote_seconds
        seal = await self._seals.seal(request, fee, expires_at)
        # Nanoseconds grow across restarts without a counter on disk.
        self._sequence = max(self._sequence + 1, round(now * 1_000_000_000))
        quote = ForwardQuote(
            issuer=self._observer.own_key,
            issued_at=now,
            expires_at=float(expires_at),
            sequence=self._sequence,
            destination=request.destination,
            amount_msat=request.amount_msat,
            final_cltv_delta=request.final_cltv_delta,
            fee_msat=fee,
            time_lock=blocks,
            seal=seal.seal,
        )
        return await sign_document(self._signer, quote)

    async def is_own(self, delegation: Delegation) -> bool:
        """Whether the delegation's quote was made here, for just this; it may have expired.

        Raises:
            LndError: the node did not sign.
        """
        if delegation.quote is None:
            return False
        request = ForwardRequest(
            delegation.destination, delegation.amount_msat, delegation.final_cltv_delta
        )
        return await self._seals.is_own(request, delegation.fee_budget_msat, delegation.quote)
