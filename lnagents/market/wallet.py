"""The wallet that `l402-requests` pays with: the own node, over a route of its payer's choice."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from l402_requests import WalletBase

from lnagents.market.records import LightningPayer
from lnagents.model.errors import PaymentError
from lnagents.model.units import Msat, PaymentHash


class LightningWallet(WalletBase):
    """Pays invoices through a `LightningPayer` and tells `on_paid` before anybody else knows."""

    def __init__(
        self,
        payer: LightningPayer,
        *,
        max_fee_msat: Msat,
        on_paid: Callable[[PaymentHash, bytes], Awaitable[None]],
    ) -> None:
        self._payer = payer
        self._max_fee_msat = max_fee_msat
        self._on_paid = on_paid

    async def pay_invoice(self, bolt11: str) -> str:
        """Pay `bolt11` and return its preimage in hex.

        Raises:
            PaymentError: it was not paid.
        """
        preimage = await self._payer.pay_invoice(bolt11, max_fee_msat=self._max_fee_msat)
        await self._on_paid(hashlib.sha256(preimage).hexdigest(), preimage)
        return preimage.hex()

    def pay_invoice_sync(self, bolt11: str) -> str:
        """Refuse: this wallet lives in one event loop.

        Raises:
            PaymentError: always.
        """
        raise PaymentError("this wallet pays from asynchronous clients only")
