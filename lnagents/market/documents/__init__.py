"""What nodes state and sell: five documents in one signed envelope, which anybody can verify.

`codec` has what all documents share, and their one strict codec; each product has a module:
`hint` (can an amount pass?), `commitment` (what a fee will not exceed), `route` (how to get there,
and for how much), `admission` (priority on a channel). `signature` signs and recovers keys, and
`envelope` joins it all: `sign_document`, `open_document`, `verify_document`.
"""

from lnagents.market.documents.admission import PriorityPass
from lnagents.market.documents.codec import CLOCK_SKEW_SECONDS, Document, MessageSigner
from lnagents.market.documents.commitment import FeeCommitment
from lnagents.market.documents.envelope import (
    MAX_DOCUMENT_BYTES,
    decode_document,
    encode_document,
    kind_of,
    open_document,
    sign_document,
    verify_document,
)
from lnagents.market.documents.forward import ForwardQuote
from lnagents.market.documents.hint import LiquidityHint
from lnagents.market.documents.route import QuotedHop, RouteQuote

__all__ = [
    "CLOCK_SKEW_SECONDS",
    "MAX_DOCUMENT_BYTES",
    "Document",
    "FeeCommitment",
    "ForwardQuote",
    "LiquidityHint",
    "MessageSigner",
    "PriorityPass",
    "QuotedHop",
    "RouteQuote",
    "decode_document",
    "encode_document",
    "kind_of",
    "open_document",
    "sign_document",
    "verify_document",
]
