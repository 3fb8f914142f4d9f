"""Trade in signed statements over L402, between nodes that need not trust each other.

A seller is three things: its node's Aperture, which invoices and checks tokens; a `DocumentSeller`
with its HTTP service and its pricer (`running_seller`), which Aperture asks; and a store of what
was sold. A buyer (`DocumentBuyer`) pays over its own node within a `Budget`, and records each step
first.

Read `paths` (what can be bought), `documents` (what is bought), `records` (what is written down,
and the seams that a daemon fills in); then `prices`, `issuers`, `seller`, `pricer` and `service`;
or
`discovery`, `l402`, `wallet`, `transport`, `budget` and `buyer`; `passes` and `pass_book`, how a
priority pass is used and counted; and `evidence`, what can be shown to others
when a statement was false. `stubs` is generated from protos/market.
"""

from lnagents.market.browse import Browser
from lnagents.market.budget import Budget
from lnagents.market.buyer import BuyerNode, DocumentBuyer
from lnagents.market.catalogue import Catalogue, Offer, Quote
from lnagents.market.discovery import find_sellers
from lnagents.market.documents import (
    Document,
    FeeCommitment,
    LiquidityHint,
    PriorityPass,
    QuotedHop,
    RouteQuote,
    open_document,
    sign_document,
    verify_document,
)
from lnagents.market.issuers import FeeKeeper, Issuer, PassKeeper
from lnagents.market.paths import (
    CommitmentRequest,
    LiquidityRequest,
    PassRequest,
    Product,
    Request,
    RouteRequest,
    new_nonce,
)
from lnagents.market.prices import PriceBook, PriceLearner
from lnagents.market.records import (
    LightningPayer,
    Purchase,
    PurchaseRecorder,
    PurchaseState,
    Sale,
    SalesRecorder,
    Seller,
)
from lnagents.market.seller import DocumentSeller, SellerNode, SellerSettings, standard_issuers
from lnagents.market.service import create_app, running_seller

__all__ = [
    "Browser",
    "Budget",
    "BuyerNode",
    "Catalogue",
    "CommitmentRequest",
    "Document",
    "DocumentBuyer",
    "DocumentSeller",
    "FeeCommitment",
    "FeeKeeper",
    "Issuer",
    "LightningPayer",
    "LiquidityHint",
    "LiquidityRequest",
    "Offer",
    "PassKeeper",
    "PassRequest",
    "PriceBook",
    "PriceLearner",
    "PriorityPass",
    "Product",
    "Purchase",
    "PurchaseRecorder",
    "PurchaseState",
    "Quote",
    "QuotedHop",
    "Request",
    "RouteQuote",
    "RouteRequest",
    "Sale",
    "SalesRecorder",
    "Seller",
    "SellerNode",
    "SellerSettings",
    "create_app",
    "find_sellers",
    "new_nonce",
    "open_document",
    "running_seller",
    "sign_document",
    "standard_issuers",
    "verify_document",
]
