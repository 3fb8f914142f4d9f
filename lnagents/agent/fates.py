"""What became of a payment, by the node's own ledger: asked until nothing of it is in flight."""

from __future__ import annotations

import asyncio
import time

import structlog

from lnagents.lnd import LndClient
from lnagents.model.errors import LndError
from lnagents.model.payment import Payment, PaymentStatus
from lnagents.model.units import PaymentHash

UNKNOWN_SECONDS = 10.0
"""How long the node may take to show an attempt in its ledger. What it does not show by then it
never got: a request that was on its way is handled within milliseconds."""

POLL_FIRST_SECONDS = 0.1
POLL_LONGEST_SECONDS = 2.0

_log = structlog.get_logger("lnagents.agent.fates")


async def fate_of(client: LndClient, payment_hash: PaymentHash, sent_at: float) -> Payment | None:
    """The payment in the node's ledger once nothing of it is in flight; None: never begun.

    `sent_at` (Unix seconds): what may have been sent then, the ledger may not show at once.
    """
    delay = POLL_FIRST_SECONDS
    while True:
        try:
            payment = await client.track_payment(payment_hash)
        except LndError as exc:
            _log.warning("payment_unknown", payment_hash=payment_hash, cause=str(exc))
        else:
            if payment is not None and payment.status is PaymentStatus.SETTLED:
                return payment
            in_flight = payment is not None and payment.status is PaymentStatus.IN_FLIGHT
            if not in_flight and time.time() > sent_at + UNKNOWN_SECONDS:
                return payment
        await asyncio.sleep(delay)
        delay = min(1.5 * delay, POLL_LONGEST_SECONDS)
