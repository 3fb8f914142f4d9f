"""Runs a workload of real payments, sent by agent daemons or by LND itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from lnagents.model.errors import LnagentsError, WorkloadError
from lnagents.model.payment import PaymentOutcome
from lnagents.model.topology import Topology
from lnagents.model.units import Msat
from lnagents.model.workload import PaymentIntent, Workload, parse_workload
from lnagents.testbed import Testbed
from lnagents.testbed.data import read_named

MAX_IN_FLIGHT = 24
"""Payments under way at once; arrivals beyond it wait, so that a slow machine is not drowned."""

PAYMENT_TIMEOUT_SECONDS = 30
"""After which a sender gives up on one payment."""


def load_workload(name: str, topology: Topology) -> Workload:
    """The workload `name`: a path, or the name of a file in `regtest/workloads`.

    Raises:
        WorkloadError: it does not exist, is wrong, or names nodes that `topology` lacks.
    """
    text, source = read_named("workloads", name, WorkloadError)
    workload = parse_workload(text, source)
    workload.check_against(topology, source)
    return workload


class SenderAnswer(Protocol):
    """What a sender says of a finished payment."""

    @property
    def settled(self) -> bool:
        """Whether the receiver was paid."""

    @property
    def fee_msat(self) -> Msat:
        """What the forwarders kept."""

    @property
    def attempts(self) -> int:
        """All tries."""

    @property
    def failed_attempts(self) -> int:
        """Tries that failed."""

    @property
    def reason(self) -> str:
        """Why it failed, else empty."""


Sender = Callable[[str, str, Msat], Awaitable[SenderAnswer]]
"""`(name of the paying node, invoice, fee limit in msat)` to an answer."""


async def run_workload(
    testbed: Testbed,
    intents: Sequence[PaymentIntent],
    send: Sender,
    on_outcome: Callable[[PaymentOutcome], None],
) -> None:
    """Make all payments at their times, over `send`; outcomes arrive as they come.

    A payment that ends in an error of ours is an outcome too: it did not settle.
    """
    began = time.monotonic()
    places = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def one(intent: PaymentIntent) -> None:
        async with places:
            on_outcome(await _pay(testbed, intent, send, began))

    async with asyncio.TaskGroup() as group:
        for intent in intents:
            await asyncio.sleep(max(0.0, began + intent.at_seconds - time.monotonic()))
            group.create_task(one(intent))


async def _pay(
    testbed: Testbed, intent: PaymentIntent, send: Sender, began: float
) -> PaymentOutcome:
    started = time.monotonic()
    settled, fee, attempts, failed, reason, payment_hash = False, 0, 0, 0, "", ""
    try:
        invoice = await testbed.client(intent.destination).add_invoice(intent.amount_msat)
        payment_hash = invoice.payment_hash
        async with asyncio.timeout(2 * PAYMENT_TIMEOUT_SECONDS):
            answer = await send(intent.source, invoice.payment_request, intent.fee_limit_msat)
        settled, fee, reason = answer.settled, answer.fee_msat, answer.reason
        attempts, failed = answer.attempts, answer.failed_attempts
    except TimeoutError:
        reason = "no answer from the sender in time"
    except LnagentsError as exc:
        reason = str(exc)
    return PaymentOutcome(
        index=intent.index,
        source=intent.source,
        destination=intent.destination,
        amount_msat=intent.amount_msat,
        settled=settled,
        fee_msat=fee,
        attempts=attempts,
        failed_attempts=failed,
        started_at=started - began,
        seconds=time.monotonic() - started,
        reason=reason,
        payment_hash=payment_hash,
    )
