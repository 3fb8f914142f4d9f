"""Buys documents: agrees on a price, pays, collects, verifies, and survives every crash in between.

`l402-requests` runs the exchange (ask, 402, pay, ask again) with our wallet. What it lacks is a
memory: in a crash it forgets macaroon and preimage. So a response hook, which runs before the
client pays, checks and records the challenge, and the wallet records the preimage before it hands
it over. The client's credentials and budgets live in memory only and are not used: a token is good
for one path anyway, and a budget must outlive the process. After a restart `resume()` presents the
recorded token itself, as then there is nothing left to pay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import httpx
import stamina
import structlog
from l402_requests import (
    AsyncL402Client,
    CredentialCache,
    L402Credential,
    L402Error,
    PaymentFailedError,
    SpendingLog,
)

from lnagents.market.browse import EXCHANGE_SECONDS, MAX_ANSWER_BYTES, Browser
from lnagents.market.budget import Budget
from lnagents.market.catalogue import Catalogue, Quote
from lnagents.market.documents import Document, verify_document
from lnagents.market.l402 import Challenge, authorization, parse_challenge, parse_macaroon
from lnagents.market.paths import LiquidityRequest, Request, parse_quoted
from lnagents.market.records import (
    Incident,
    LightningPayer,
    Purchase,
    PurchaseRecorder,
    PurchaseState,
    Seller,
)
from lnagents.market.transport import BoundedTransport, cause_of, refusal_of
from lnagents.market.wallet import LightningWallet
from lnagents.model.errors import (
    ChallengeError,
    DocumentInvalidError,
    InvalidRequestError,
    LnagentsError,
    MarketError,
    NotForSaleError,
    PaymentError,
    PriceError,
    StoreError,
    TokenError,
)
from lnagents.model.graph import Channel
from lnagents.model.payment import Invoice
from lnagents.model.units import (
    MSAT_PER_SAT,
    Msat,
    PaymentHash,
    ShortChannelId,
    format_msat,
    format_short_channel_id,
)

COLLECT_SECONDS = 10.0
"""For which a seller that fails after it was paid is asked again; after that `resume()` has to."""
ABANDON_SECONDS = 86_400.0
"""After which a document that was paid and never delivered is given up."""


_log = structlog.get_logger()


class BuyerNode(Protocol):
    """What buying needs of the own node; `lnagents.lnd.LndClient` has it."""

    async def decode_invoice(self, request: str) -> Invoice:
        """Read a BOLT 11 invoice (DecodePayReq)."""

    async def channel(self, scid: ShortChannelId) -> Channel:
        """A channel of the graph; raises NotFoundError (GetChanInfo)."""


@dataclass(slots=True)
class _Open:
    """A purchase under way in this process."""

    seller: Seller
    path: str
    nonce: str
    agreed_msat: Msat
    purchase: Purchase | None = None
    """None until the challenge is recorded."""
    preimage: bytes = b""


class _NoCredentials(CredentialCache):
    """Offers no token a second time: each is good for one path, which is asked for once."""

    def __bool__(self) -> bool:
        # The client takes what is false for "none given", and an empty cache has length 0.
        return True

    def get(self, domain: str, path: str) -> L402Credential | None:
        return None


class DocumentBuyer:
    """Buys for one node. An async context manager; call `resume()` once at the start."""

    def __init__(
        self,
        node: BuyerNode,
        payer: LightningPayer,
        recorder: PurchaseRecorder,
        budget: Budget,
        *,
        collect_seconds: float = COLLECT_SECONDS,
        clock: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._node = node
        self._payer = payer
        self._recorder = recorder
        self._budget = budget
        self._collect_seconds = collect_seconds
        self._clock = clock
        self._spending = asyncio.Lock()
        self._open: dict[str, _Open] = {}
        """By path; every path has a nonce of its own."""
        bounded = BoundedTransport(EXCHANGE_SECONDS, MAX_ANSWER_BYTES, transport)
        self._browser = Browser(bounded)
        self._plain = httpx.AsyncClient(transport=bounded, timeout=EXCHANGE_SECONDS)
        self._paying = AsyncL402Client(
            wallet=LightningWallet(
                payer, max_fee_msat=budget.max_fee_msat, on_paid=self._record_paid
            ),
            budget=None,
            credential_cache=_NoCredentials(max_size=1),
            transport=bounded,
            timeout=EXCHANGE_SECONDS,
            event_hooks={"response": [self._on_answer]},
        )

    async def __aenter__(self) -> DocumentBuyer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._paying.aclose()
        await self._plain.aclose()
        await self._browser.__aexit__(None, None, None)

    async def catalogue(self, seller: Seller) -> Catalogue:
        """What `seller` offers now, for free; see `Browser`."""
        return await self._browser.catalogue(seller)

    async def quote(self, seller: Seller, request: Request) -> Quote:
        """The price of `request`, for free; see `Browser`."""
        return await self._browser.quote(seller, request)

    async def buy(
        self,
        seller: Seller,
        request: Request,
        *,
        agreed_price_msat: Msat | None = None,
        quote: Quote | None = None,
    ) -> Document:
        """Buy the answer to `request`.

        Args:
            seller: from whom.
            request: the question; its nonce must be new.
            agreed_price_msat: the most to pay. Without a quote it is taken for the present price.
            quote: a quote of this seller for this request. If neither is given, one is asked for.

        If this call is interrupted after the challenge, `resume()` finds what it paid for.

        Raises:
            NotForSaleError: the seller does not offer it, or its quote has expired.
            PriceError: it costs more than was agreed or quoted; nothing was paid.
            ChallengeError: the 402 answer or its invoice is wrong; nothing was paid.
            LimitExceededError: the budget does not allow it; nothing was paid.
            PaymentError: the payment failed.
            DocumentInvalidError: what was delivered is forged, stale, or about something else.
            TokenError: the seller took the payment and refuses the token.
            MarketError: the seller does not answer; if it was paid, `resume()` will ask it again.
            LndError, StoreError: the own node or store failed.
        """
        try:
            return await self._buy(seller, request, agreed_price_msat, quote)
        except StoreError:
            raise
        except LnagentsError as exc:
            await self._note(seller, request.scope(), exc)
            raise

    async def _buy(
        self,
        seller: Seller,
        request: Request,
        agreed_price_msat: Msat | None,
        quote: Quote | None,
    ) -> Document:
        await self._check_competence(seller, request)
        if quote is None and agreed_price_msat is None:
            quote = await self.quote(seller, request)
        path = request.path()
        if quote is not None:
            path = quote.path
            if agreed_price_msat is not None and quote.price_msat > agreed_price_msat:
                asked, agreed = format_msat(quote.price_msat), format_msat(agreed_price_msat)
                raise PriceError(f"the quote asks for {asked}, {agreed} were agreed")
            agreed_price_msat = quote.price_msat
        assert agreed_price_msat is not None  # noqa: S101  (one of both is given)
        state = self._open[path] = _Open(seller, path, request.nonce, agreed_price_msat)
        try:
            response = await self._exchange(state)
            if state.purchase is None:
                raise self._unsold(seller, quote, response)
            return await self._deliver(state.purchase, state.preimage, response)
        finally:
            del self._open[path]
            # The client's own log would keep every preimage in memory for ever.
            self._paying.spending_log = SpendingLog()

    async def resume(self, nonces: Collection[str] | None = None) -> tuple[Document, ...]:
        """Collect what was paid for before and not delivered yet; starts no payment.

        Call it at the start, and again from time to time. What fails for good is recorded and
        logged; a seller that does not answer stays for the next call.

        Args:
            nonces: only these purchases; None: all.

        Raises:
            StoreError: the own store failed.
        """
        busy = set(self._open)
        unfinished = await self._recorder.unfinished()
        # Those that `buy` has under way, or had when the records were read, are not ours to finish.
        busy |= set(self._open)
        waiting = [
            purchase
            for purchase in unfinished
            if purchase.path not in busy and (nonces is None or purchase.nonce in nonces)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._complete(purchase)) for purchase in waiting]
        return tuple(one for task in tasks if (one := task.result()) is not None)

    async def _complete(self, purchase: Purchase) -> Document | None:
        try:
            return await self._collect(purchase)
        except StoreError:
            raise
        except LnagentsError as exc:
            await self._note(purchase.seller, purchase.path, exc)
            _log.warning("purchase_not_completed", nonce=purchase.nonce, cause=str(exc))
            return None

    async def _collect(self, purchase: Purchase) -> Document:
        preimage: bytes | None = purchase.preimage
        if purchase.state is PurchaseState.CHALLENGED:
            preimage = await self._payer.find_preimage(purchase.payment_hash)
            if preimage is None:
                raise await self._failed(purchase, PaymentError("it was never paid"))
            await self._recorder.paid(purchase.nonce, preimage)
        assert preimage  # noqa: S101  (recorded with the state PAID)
        if self._clock() - purchase.created_at > ABANDON_SECONDS:
            raise await self._failed(purchase, MarketError("paid, but never delivered"))
        return await self._deliver(purchase, preimage, None)

    async def _note(self, seller: Seller, path: str, error: LnagentsError) -> None:
        name = type(error).__name__
        await self._recorder.incident(Incident(self._clock(), seller.key, path, name, str(error)))

    async def _check_competence(self, seller: Seller, request: Request) -> None:
        """A node can vouch for its own channels only, so nothing else is worth buying."""
        if request.channel is None:
            return
        channel = await self._node.channel(request.channel)
        ends = (channel.node1, channel.node2)
        needed = {seller.key}
        if isinstance(request, LiquidityRequest):
            needed.add(request.source)
        for key in needed.difference(ends):
            name = format_short_channel_id(request.channel)
            raise NotForSaleError(f"{key} is not an end of channel {name}")

    def _unsold(
        self, seller: Seller, quote: Quote | None, response: httpx.Response | None
    ) -> MarketError:
        """Why there was no challenge: Aperture says 500 whatever the pricer had against it."""
        if quote is not None and quote.expires_at <= self._clock():
            return NotForSaleError(f"the quote of {seller.url} has expired")
        return MarketError(f"{seller.url} sells nothing: {refusal_of(response)}")

    async def _exchange(self, state: _Open) -> httpx.Response | None:
        """Ask, pay, and ask again; None: it was paid, but then the seller did not answer."""
        try:
            return await self._paying.get(_url(state.seller, state.path))
        except httpx.HTTPError as exc:
            if state.preimage:
                return None
            raise MarketError(f"{state.seller.url} does not answer: {cause_of(exc)}") from exc
        except PaymentFailedError as exc:
            # The client wraps what our wallet raised.
            cause = exc.__cause__
            if isinstance(cause, PaymentError) and state.purchase is not None:
                await self._failed(state.purchase, cause)
            if isinstance(cause, LnagentsError):
                raise cause from exc
            raise MarketError(f"the payment to {state.seller.url} is open: {exc}") from exc
        except L402Error as exc:
            # The client refuses to pay what its own reading of the invoice does not allow.
            error = ChallengeError(f"{state.seller.url} sent an unusable challenge: {exc}")
            if state.purchase is not None:
                await self._failed(state.purchase, error)
            raise error from exc

    async def _on_answer(self, response: httpx.Response) -> None:
        """Hook of the paying client: it pays what this lets through."""
        if response.status_code != httpx.codes.PAYMENT_REQUIRED:
            return
        state = self._open[response.request.url.path]
        if state.purchase is not None:
            return  # The answer to a paid token: the client pays once only.
        challenge = parse_challenge(response.headers.get_list("www-authenticate"))
        state.purchase = await self._accept(state, challenge)
        # In the one spelling that the client understands.
        response.headers["www-authenticate"] = (
            f'L402 macaroon="{challenge.macaroon}", invoice="{challenge.payment_request}"'
        )

    async def _accept(self, state: _Open, challenge: Challenge) -> Purchase:
        """Check the challenge against what was agreed, and record it."""
        try:
            invoice = await self._node.decode_invoice(challenge.payment_request)
            token = parse_macaroon(challenge.macaroon)
        except (InvalidRequestError, TokenError) as exc:
            raise ChallengeError(f"{state.seller.url} sent an unusable challenge: {exc}") from exc
        now = self._clock()
        if invoice.destination != state.seller.key:
            raise ChallengeError(f"the invoice pays {invoice.destination}, not the seller")
        if invoice.payment_hash != token.payment_hash:
            raise ChallengeError("the invoice does not pay for the macaroon that came with it")
        if invoice.expires_at <= now:
            raise ChallengeError("the invoice has expired")
        if invoice.amount_msat < MSAT_PER_SAT or invoice.amount_msat % MSAT_PER_SAT:
            raise ChallengeError("the invoice is not for a whole number of satoshi")
        if invoice.amount_msat > state.agreed_msat:
            asked, agreed = format_msat(invoice.amount_msat), format_msat(state.agreed_msat)
            raise PriceError(f"the invoice asks for {asked}, {agreed} were agreed")
        purchase = Purchase(
            nonce=state.nonce,
            seller=state.seller,
            path=state.path,
            price_msat=invoice.amount_msat,
            macaroon=challenge.macaroon,
            payment_request=challenge.payment_request,
            payment_hash=invoice.payment_hash,
            created_at=now,
        )
        async with self._spending:
            await self._budget.check(self._recorder, state.seller.key, purchase.price_msat, now)
            await self._recorder.challenged(purchase)
        return purchase

    async def _record_paid(self, payment_hash: PaymentHash, preimage: bytes) -> None:
        """Called by the wallet, before anybody else learns the preimage."""
        for state in self._open.values():
            purchase = state.purchase
            if purchase is not None and purchase.payment_hash == payment_hash:
                await self._recorder.paid(purchase.nonce, preimage)
                state.preimage = preimage
                return
        raise MarketError(f"{payment_hash} was paid, but is no open purchase")

    async def _deliver(
        self, purchase: Purchase, preimage: bytes, response: httpx.Response | None
    ) -> Document:
        """From the first answer to the paid token, None if there was none, to the document."""
        if response is None or _is_temporary(response):
            response = await self._present(purchase, preimage)
        if response.status_code != httpx.codes.OK:
            kind = NotForSaleError if response.status_code == httpx.codes.NOT_FOUND else TokenError
            message = f"{purchase.seller.url} was paid and refuses: {refusal_of(response)}"
            raise await self._failed(purchase, kind(message))
        content = response.content
        try:
            document = verify_document(
                content,
                issuer=purchase.seller.key,
                request=parse_quoted(purchase.path)[0],
                now=self._clock(),
            )
        except DocumentInvalidError as exc:
            raise await self._failed(purchase, exc) from exc
        await self._recorder.delivered(purchase.nonce, content)
        return document

    async def _present(self, purchase: Purchase, preimage: bytes) -> httpx.Response:
        """Present the paid token until the seller answers with something definite."""
        headers = {"authorization": authorization(purchase.macaroon, preimage)}
        url = _url(purchase.seller, purchase.path)
        try:
            async for attempt in stamina.retry_context(
                on=(httpx.HTTPError, _NotYetError), attempts=None, timeout=self._collect_seconds
            ):
                with attempt:
                    response = await self._plain.get(url, headers=headers)
                    if _is_temporary(response):
                        raise _NotYetError(refusal_of(response))
        except (httpx.HTTPError, _NotYetError) as exc:
            message = f"{purchase.seller.url} was paid and has not delivered yet: {cause_of(exc)}"
            raise MarketError(message) from exc
        return response

    async def _failed(self, purchase: Purchase, error: LnagentsError) -> LnagentsError:
        """Record that nothing will come of the purchase; returns `error` to be raised."""
        await self._recorder.failed(purchase.nonce, str(error))
        return error


class _NotYetError(Exception):
    """The seller has a passing trouble."""


def _url(seller: Seller, path: str) -> str:
    return seller.url.rstrip("/") + path


def _is_temporary(response: httpx.Response) -> bool:
    return response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS
