"""What a trade writes down, and the seams behind which it is kept and paid.

The market knows neither a database nor how a payment finds its way. Whoever runs a buyer or a
seller hands in three things: a `PurchaseRecorder` and a `SalesRecorder`, each of whose methods
returns only when the record would survive a crash, and a `LightningPayer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from lnagents.model.units import Msat, NodeKey, PaymentHash


@dataclass(frozen=True, slots=True)
class Seller:
    """Where a node sells, and the key that its invoices and documents must carry."""

    url: str
    """Of its Aperture, without a path, e.g. `http://127.0.0.1:8081`."""
    key: NodeKey


class PurchaseState(str, Enum):
    """How far a purchase has come. Only the first two are unfinished."""

    CHALLENGED = "challenged"
    """Macaroon and invoice are known; whether it was paid, only the payer can tell."""
    PAID = "paid"
    """The preimage is known; the document is still to be collected."""
    DELIVERED = "delivered"
    """The document is here and verified."""
    FAILED = "failed"
    """Nothing will come of it; `reason` says why, `preimage` whether money was lost."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase, from the challenge on."""

    nonce: str
    """Chosen by the buyer, lower-case hex, part of the path; identifies the purchase."""
    seller: Seller
    path: str
    """What is bought: product, scope, nonce, and the quote (`lnagents.market.paths`)."""
    price_msat: Msat
    """The invoice's amount, at most the agreed price."""
    macaroon: str
    """Base64, as the challenge carried it."""
    payment_request: str
    payment_hash: PaymentHash
    created_at: float
    """Unix seconds."""
    state: PurchaseState = PurchaseState.CHALLENGED
    preimage: bytes = b""
    document: bytes = b""
    """The signed document, as it was delivered."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """A purchase that did not go as it should have, whether it was paid or not."""

    at: float
    """Unix seconds."""
    seller: NodeKey
    path: str
    error: str
    """Name of the exception (`lnagents.model.errors`)."""
    reason: str


class PurchaseRecorder(Protocol):
    """The buyer's memory. Methods may raise `StoreError`; then the purchase goes no further."""

    async def challenged(self, purchase: Purchase) -> None:
        """Record a new purchase, *before* anything is paid for it."""

    async def paid(self, nonce: str, preimage: bytes) -> None:
        """Record that it was paid, before the document is asked for."""

    async def delivered(self, nonce: str, document: bytes) -> None:
        """Record the verified document, before it is used."""

    async def failed(self, nonce: str, reason: str) -> None:
        """Record that nothing will come of it."""

    async def incident(self, incident: Incident) -> None:
        """Record what went wrong, for whoever looks at it later."""

    async def unfinished(self) -> tuple[Purchase, ...]:
        """All that are CHALLENGED or PAID, oldest first."""

    async def spent_msat(self, since: float, seller: NodeKey | None = None) -> Msat:
        """Sum of `price_msat` of all purchases created at or after `since` (Unix seconds).

        With `seller` only of those with it. A purchase counts unless it FAILED without a preimage:
        one that may still be paid is spent.
        """


@dataclass(frozen=True, slots=True)
class Sale:
    """What one paid token was good for."""

    payment_hash: PaymentHash
    """Of the invoice that paid for it; one sale for each."""
    token_id: str
    """Of Aperture's macaroon, lower-case hex."""
    path: str
    price_msat: Msat
    """What the invoice brought in."""
    answer: bytes
    """The signed document, the same for every repetition."""
    sold_at: float
    """Unix seconds."""


class SalesRecorder(Protocol):
    """The seller's memory, by which a token is good for one path only. May raise `StoreError`."""

    async def find_sale(self, payment_hash: PaymentHash) -> Sale | None:
        """What was sold for this payment."""

    async def record_sale(self, sale: Sale) -> Sale:
        """Record `sale` unless its payment hash has one, and return the one that counts now.

        Atomic: of two calls at the same time both return the same sale.
        """


class LightningPayer(Protocol):
    """Pays with the own node; idempotent per payment hash, also across restarts."""

    async def pay_invoice(self, request: str, *, max_fee_msat: Msat) -> bytes:
        """Pay the invoice `request` in full and return its preimage.

        An invoice that was paid before returns its preimage again, one in flight is waited for.

        Raises:
            PaymentError: it was not paid, and will not be by this call.
        """

    async def find_preimage(self, payment_hash: PaymentHash) -> bytes | None:
        """Preimage of an invoice that an earlier call, perhaps before a restart, has paid.

        Starts no payment; one in flight is waited for. None: nothing was paid, and nothing will be
        unless `pay_invoice` is called again.
        """
