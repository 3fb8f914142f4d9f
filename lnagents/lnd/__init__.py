"""One node's typed async client; no protobuf type leaves this package.

    async with LndClient(LndEndpoint("127.0.0.1:10009", tls_certificate, macaroon)) as node:
        print((await node.info()).alias)

Read `types` (what calls take and give beyond `lnagents.model`), `macaroons` (roles), `connection`
(TLS, deadlines, retries) with `errors`, `streams` (subscriptions that reconnect), `interceptor`
(deciding on forwards), `convert` and `convert_payments`, then the calls by subject: `node_calls`,
`channel_calls`, `graph_calls`, `invoice_calls`, `payment_calls`, which `client` joins. `stubs` is
generated from protos/lnd.

Calls raise `lnagents.model.errors.LndError`s. What only reads is tried again while the node is
unreachable, within the deadline; what moves money or changes something is tried once.
"""

from lnagents.lnd.client import LndClient
from lnagents.lnd.interceptor import HtlcInterceptor
from lnagents.lnd.macaroons import Role, permissions
from lnagents.lnd.types import (
    AnnouncedNode,
    ChannelClosed,
    ChannelOpening,
    ClosedChannel,
    FailHtlc,
    GraphUpdate,
    HeldHtlc,
    HtlcAnswer,
    InvoiceState,
    InvoiceStatus,
    LndEndpoint,
    NodeAnnounced,
    PairEstimate,
    PairHistory,
    PolicyAnnounced,
    ResumeHtlc,
    SettleHtlc,
    StreamRestarted,
)

__all__ = [
    "AnnouncedNode",
    "ChannelClosed",
    "ChannelOpening",
    "ClosedChannel",
    "FailHtlc",
    "GraphUpdate",
    "HeldHtlc",
    "HtlcAnswer",
    "HtlcInterceptor",
    "InvoiceState",
    "InvoiceStatus",
    "LndClient",
    "LndEndpoint",
    "NodeAnnounced",
    "PairEstimate",
    "PairHistory",
    "PolicyAnnounced",
    "ResumeHtlc",
    "Role",
    "SettleHtlc",
    "StreamRestarted",
    "permissions",
]
