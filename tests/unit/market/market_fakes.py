"""Stand-ins for a node, a payer and a store, for unit tests only."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field, replace

from coincurve import PrivateKey
from coincurve.ecdsa import der_to_cdata, serialize_compact

from lnagents.lnd import InvoiceState, InvoiceStatus
from lnagents.market.documents.signature import double_sha256
from lnagents.market.records import Incident, Purchase, PurchaseState, Sale
from lnagents.model.errors import NotFoundError, PaymentError
from lnagents.model.graph import Channel, LocalChannel
from lnagents.model.payment import Invoice
from lnagents.model.units import Msat, NodeKey, PaymentHash, ShortChannelId

SELLER_SECRET, PEER_SECRET, STRANGER_SECRET = (
    PrivateKey(hashlib.sha256(name).digest()) for name in (b"seller", b"peer", b"stranger")
)
SELLER_KEY, PEER_KEY, STRANGER_KEY = (
    secret.public_key.format().hex() for secret in (SELLER_SECRET, PEER_SECRET, STRANGER_SECRET)
)
SCID = 103 << 40 | 1 << 16
CAPACITY_MSAT = 1_000_000_000

_SECRETS = dict(
    zip(
        (SELLER_KEY, PEER_KEY, STRANGER_KEY),
        (SELLER_SECRET, PEER_SECRET, STRANGER_SECRET),
        strict=True,
    )
)
_ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"


def lnd_signature(secret: PrivateKey, message: bytes) -> str:
    """What LND's SignMessage gives for a node with this key."""
    digest = double_sha256(b"Lightning Signed Message:" + message)
    data = secret.sign_recoverable(digest, None)
    number = int.from_bytes(bytes([31 + data[64]]) + data[:64])
    return "".join(_ZBASE32[number >> shift & 31] for shift in range(515, -1, -5))


def signed_update(
    secret: PrivateKey,
    *,
    scid: ShortChannelId,
    timestamp: int,
    base_fee_msat: Msat = 1_000,
    fee_rate_ppm: int = 100,
    extension: bytes = b"",
) -> bytes:
    """A channel_update (BOLT 7) without its type, as a node with this key announces it."""
    fixed = struct.pack(">QIBBHQII", scid, timestamp, 1, 0, 80, 1_000, base_fee_msat, fee_rate_ppm)
    data = b"c" * 32 + fixed + (10**9).to_bytes(8) + extension
    signature = der_to_cdata(secret.sign(double_sha256(data), None))
    return bytes(serialize_compact(signature)) + data


def local_channel(
    *, local_msat: Msat = 600_000_000, active: bool = True, private: bool = False
) -> LocalChannel:
    return LocalChannel(
        scid=SCID,
        channel_point="ab" * 32 + ":0",
        peer=PEER_KEY,
        capacity_msat=CAPACITY_MSAT,
        local_balance_msat=local_msat,
        remote_balance_msat=CAPACITY_MSAT - local_msat,
        unsettled_msat=0,
        local_reserve_msat=10_000_000,
        remote_reserve_msat=10_000_000,
        commit_fee_msat=0,
        anchors_msat=0,
        initiator=True,
        active=active,
        private=private,
        pending_htlcs=0,
        max_accepted_htlcs=483,
    )


def paid_invoice(
    payment_hash: PaymentHash,
    *,
    status: InvoiceStatus = InvoiceStatus.SETTLED,
    paid_msat: Msat = 2_000,
    description: str = "L402",
) -> InvoiceState:
    return InvoiceState(
        payment_hash=payment_hash,
        payment_request="lnbcrt1",
        status=status,
        amount_msat=paid_msat,
        paid_msat=paid_msat,
        created_at=0.0,
        expires_at=3_600.0,
        settled_at=1_800_000_000.0,
        description=description,
        preimage=b"",
        add_index=1,
        settle_index=1,
    )


@dataclass
class FakeNode:
    """Signs as LND does; knows one channel and the invoices it is given."""

    key: NodeKey = SELLER_KEY
    own: tuple[LocalChannel, ...] = field(default_factory=lambda: (local_channel(),))
    invoices: dict[PaymentHash, InvoiceState] = field(default_factory=dict)
    requests: dict[str, Invoice] = field(default_factory=dict)
    channel_calls: int = 0

    async def sign_message(self, message: bytes) -> str:
        return lnd_signature(_SECRETS[self.key], message)

    async def channels(self, *, active_only: bool = False) -> tuple[LocalChannel, ...]:
        self.channel_calls += 1
        return self.own

    async def lookup_invoice(self, payment_hash: PaymentHash) -> InvoiceState:
        if payment_hash not in self.invoices:
            raise NotFoundError("unable to locate invoice")
        return self.invoices[payment_hash]

    async def decode_invoice(self, request: str) -> Invoice:
        return self.requests[request]

    async def channel(self, scid: ShortChannelId) -> Channel:
        if scid != SCID:
            raise NotFoundError("edge not found")
        return Channel(SCID, "ab" * 32 + ":0", SELLER_KEY, PEER_KEY, CAPACITY_MSAT, None, None)


class MemorySales:
    """A `SalesRecorder` without a disk."""

    def __init__(self) -> None:
        self.sales: dict[PaymentHash, Sale] = {}

    async def find_sale(self, payment_hash: PaymentHash) -> Sale | None:
        return self.sales.get(payment_hash)

    async def record_sale(self, sale: Sale) -> Sale:
        return self.sales.setdefault(sale.payment_hash, sale)


class MemoryPurchases:
    """A `PurchaseRecorder` without a disk."""

    def __init__(self) -> None:
        self.purchases: dict[str, Purchase] = {}
        self.incidents: list[Incident] = []

    @property
    def only(self) -> Purchase:
        (purchase,) = self.purchases.values()
        return purchase

    @property
    def state(self) -> str:
        return self.only.state.value

    async def challenged(self, purchase: Purchase) -> None:
        assert purchase.nonce not in self.purchases
        self.purchases[purchase.nonce] = purchase

    async def paid(self, nonce: str, preimage: bytes) -> None:
        self._change(nonce, state=PurchaseState.PAID, preimage=preimage)

    async def delivered(self, nonce: str, document: bytes) -> None:
        self._change(nonce, state=PurchaseState.DELIVERED, document=document)

    async def failed(self, nonce: str, reason: str) -> None:
        self._change(nonce, state=PurchaseState.FAILED, reason=reason)

    async def incident(self, incident: Incident) -> None:
        self.incidents.append(incident)

    async def unfinished(self) -> tuple[Purchase, ...]:
        states = (PurchaseState.CHALLENGED, PurchaseState.PAID)
        return tuple(each for each in self.purchases.values() if each.state in states)

    async def spent_msat(self, since: float, seller: NodeKey | None = None) -> Msat:
        return sum(
            purchase.price_msat
            for purchase in self.purchases.values()
            if purchase.created_at >= since
            and seller in (None, purchase.seller.key)
            and (purchase.state is not PurchaseState.FAILED or purchase.preimage)
        )

    def _change(self, nonce: str, **changes: object) -> None:
        self.purchases[nonce] = replace(self.purchases[nonce], **changes)  # type: ignore[arg-type]


class MemoryPayer:
    """A `LightningPayer` that knows the preimages; counts what it really paid."""

    def __init__(self) -> None:
        self.preimages: dict[str, bytes] = {}
        """By payment request: what can be paid."""
        self.paid: dict[PaymentHash, bytes] = {}
        self.payments = 0
        self.error: Exception | None = None

    async def pay_invoice(self, request: str, *, max_fee_msat: Msat) -> bytes:
        if self.error is not None:
            raise self.error
        if request not in self.preimages:
            raise PaymentError("no route")
        preimage = self.preimages[request]
        payment_hash = hashlib.sha256(preimage).hexdigest()
        if payment_hash not in self.paid:
            self.paid[payment_hash] = preimage
            self.payments += 1
        return preimage

    async def find_preimage(self, payment_hash: PaymentHash) -> bytes | None:
        return self.paid.get(payment_hash)
