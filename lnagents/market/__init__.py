"""Trade in signed routing information over L402, between nodes that need not trust each other.

A seller is three things: its node's Aperture, which invoices and checks tokens; a `HintSeller` with
its HTTP service and its pricer (`running_seller`), which Aperture asks; and a store of what was
sold. A buyer (`HintBuyer`) pays over its own node within a `Budget`, and records each step first.

Read `paths` (what can be bought), `hint` (what is bought), `records` (what is written down, and the
seams that a daemon fills in), then `seller`, `pricer` and `service`; or `l402`, `wallet`,
`transport` and `buyer`. `stubs` is generated from protos/market.
"""

from lnagents.market.buyer import Budget, BuyerNode, HintBuyer
from lnagents.market.catalogue import LIQUIDITY, Catalogue, Offer
from lnagents.market.hint import LiquidityHint, verify_hint
from lnagents.market.paths import LiquidityRequest
from lnagents.market.records import (
    LightningPayer,
    Purchase,
    PurchaseRecorder,
    PurchaseState,
    Sale,
    SalesRecorder,
    Seller,
)
from lnagents.market.seller import HintSeller, PriceOf, SellerNode, SellerSettings
from lnagents.market.service import create_app, running_seller

__all__ = [
    "LIQUIDITY",
    "Budget",
    "BuyerNode",
    "Catalogue",
    "HintBuyer",
    "HintSeller",
    "LightningPayer",
    "LiquidityHint",
    "LiquidityRequest",
    "Offer",
    "PriceOf",
    "Purchase",
    "PurchaseRecorder",
    "PurchaseState",
    "Sale",
    "SalesRecorder",
    "Seller",
    "SellerNode",
    "SellerSettings",
    "create_app",
    "running_seller",
    "verify_hint",
]
