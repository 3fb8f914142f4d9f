"""One seller and one buyer of the shared network, with a real Aperture between them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from lnagents.agent.store import Store
from lnagents.lnd import InvoiceState, LndClient
from lnagents.market import (
    Budget,
    Document,
    DocumentBuyer,
    DocumentSeller,
    LiquidityRequest,
    PassKeeper,
    PriceBook,
    Product,
    Purchase,
    Request,
    Seller,
    SellerSettings,
    new_nonce,
    running_seller,
    standard_issuers,
)
from lnagents.model.errors import (
    PaymentError,
)
from lnagents.model.graph import LocalChannel
from lnagents.model.payment import PaymentStatus
from lnagents.model.units import Msat, NodeKey, PaymentHash, Ppm, ShortChannelId
from lnagents.testbed.backend import SellerSite

BUYER, SELLER, WITNESS = "alice", "carol", "grace"
BUDGET = Budget(max_price_msat=10_000, max_fee_msat=5_000, per_hour_msat=10**8, per_day_msat=10**8)
PRICE_SAT = 2


class NodePayer:
    """Pays with the node's own route search; LND's ledger makes it idempotent."""

    def __init__(self, node: LndClient) -> None:
        self._node = node
        self.after_payment: Callable[[], Awaitable[None]] | None = None

    async def pay_invoice(self, request: str, *, max_fee_msat: Msat) -> bytes:
        payment = await self._node.pay(request, fee_limit_msat=max_fee_msat, timeout_seconds=30)
        if payment.status is not PaymentStatus.SETTLED:
            raise PaymentError(payment.failure_reason)
        if self.after_payment is not None:
            await self.after_payment()
        return payment.preimage

    async def find_preimage(self, payment_hash: PaymentHash) -> bytes | None:
        payment = await self._node.track_payment(payment_hash)
        settled = payment is not None and payment.status is PaymentStatus.SETTLED
        return payment.preimage if payment is not None and settled else None


@dataclass
class ForgingNode:
    """A seller's node whose documents another node signs."""

    node: LndClient
    forger: LndClient

    async def sign_message(self, message: bytes) -> str:
        return await self.forger.sign_message(message)

    async def channels(self, *, active_only: bool = False) -> tuple[LocalChannel, ...]:
        return await self.node.channels(active_only=active_only)

    async def lookup_invoice(self, payment_hash: PaymentHash) -> InvoiceState:
        return await self.node.lookup_invoice(payment_hash)


class FixedFees:
    """Fees that nobody changes."""

    def promise(self, scid: ShortChannelId, until: float) -> tuple[Msat, Ppm]:
        return 1_000, 100


@dataclass
class Market:
    """carol sells to alice; both act with the rights of an agent only."""

    site: SellerSite
    seller_node: LndClient
    buyer_node: LndClient
    witness: LndClient
    witness_admin: LndClient
    """The same node, with all rights."""
    seller: Seller
    buyer_key: NodeKey
    channel: LocalChannel
    sales: Store
    purchases: Store
    prices: PriceBook = field(default_factory=lambda: PriceBook(dict.fromkeys(Product, PRICE_SAT)))
    service: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    payer: NodePayer = field(init=False)

    def __post_init__(self) -> None:
        self.payer = NodePayer(self.buyer_node)

    async def open(
        self,
        node: LndClient | ForgingNode | None = None,
        *,
        kind: type[DocumentSeller] = DocumentSeller,
        settings: SellerSettings | None = None,
        passes: PassKeeper | None = None,
    ) -> None:
        """Start selling."""
        settings = settings or SellerSettings()
        seller = kind(
            node or self.seller_node,
            self.seller.key,
            self.sales.sales,
            self.prices,
            standard_issuers(
                self.seller.key,
                settings,
                router=self.seller_node,
                keeper=FixedFees(),
                passes=passes,
            ),
            settings,
        )
        await self.service.enter_async_context(
            running_seller(
                seller,
                service_host=self.site.service_host,
                service_port=self.site.service_port,
                pricer_host=self.site.pricer_host,
                pricer_port=self.site.pricer_port,
            )
        )

    async def close(self) -> None:
        """Stop selling."""
        await self.service.aclose()

    def buyer(
        self, collect_seconds: float = 5.0, transport: httpx.AsyncBaseTransport | None = None
    ) -> DocumentBuyer:
        return DocumentBuyer(
            self.buyer_node,
            self.payer,
            self.purchases.purchases,
            BUDGET,
            collect_seconds=collect_seconds,
            transport=transport,
        )

    def question(self, amount_msat: Msat = 1_000_000, source: NodeKey = "") -> LiquidityRequest:
        return LiquidityRequest(
            scid=self.channel.scid,
            source=source or self.seller.key,
            amount_msat=amount_msat,
            nonce=new_nonce(),
        )

    async def buy(self, request: Request | None = None) -> Document:
        async with self.buyer() as buyer:
            return await buyer.buy(self.seller, request or self.question())

    async def purchase(self) -> tuple[Purchase, Document]:
        """Buy, and read the record of it as a crash right before the delivery would leave it."""
        kept: list[Purchase] = []

        async def keep() -> None:
            kept.extend(await self.purchases.purchases.unfinished())

        self.payer.after_payment = keep
        hint = await self.buy()
        self.payer.after_payment = None
        return kept[-1], hint

    async def preimage(self, purchase: Purchase) -> bytes:
        preimage = await self.payer.find_preimage(purchase.payment_hash)
        assert preimage is not None
        return preimage

    async def get(
        self, path: str, token: str = "", *, past_aperture: bool = False
    ) -> httpx.Response:
        url = f"http://{self.site.service_host}:{self.site.service_port}"
        headers = {"authorization": token} if token else {}
        async with httpx.AsyncClient(trust_env=False) as http:
            base = url if past_aperture else self.site.url
            return await http.get(base + path, headers=headers)

    async def bought(self) -> tuple[int, Msat]:
        """Hints delivered, and what all purchases cost."""
        delivered = (await self.purchases.totals()).hints_bought
        return delivered, await self.purchases.purchases.spent_msat(0.0)

    async def sold(self) -> tuple[int, Msat]:
        """Hints sold, and what they brought in."""
        totals = await self.sales.totals()
        return totals.hints_sold, totals.hint_income_msat

    async def settled_payments(self) -> int:
        payments = await self.buyer_node.list_payments()
        return sum(payment.status is PaymentStatus.SETTLED for payment in payments)

    async def income_msat(self) -> Msat:
        return sum(each.paid_msat for each in await self.seller_node.list_invoices())
