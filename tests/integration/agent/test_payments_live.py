"""Paying through a daemon on a real network, also when it is killed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lnagents.agent import PaymentReport
from lnagents.lnd import InvoiceStatus
from lnagents.model.errors import (
    InvalidRequestError,
    LimitExceededError,
    LnagentsError,
    PaymentError,
)
from lnagents.model.payment import Invoice, Payment, PaymentStatus
from lnagents.testbed import Testbed

if TYPE_CHECKING:
    from tests.integration.agent.conftest import MakeAgent

SENDER = "alice"


async def _invoices(testbed: Testbed, count: int, amount_msat: int) -> list[tuple[str, Invoice]]:
    names = ("frank", "grace")
    found = []
    for index in range(count):
        name = names[index % 2]
        found.append((name, await testbed.client(name).add_invoice(amount_msat + 1_000 * index)))
    return found


async def _local_msat(testbed: Testbed) -> int:
    return (await testbed.client(SENDER).channel_balances()).local_msat


async def test_it_pays_once_however_often_it_is_asked(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    agent = make_agent(SENDER)
    await agent.start()
    before = await _local_msat(testbed)
    invoice = await testbed.client("frank").add_invoice(30_000_000)
    watched: list[PaymentReport] = []

    async def watch() -> None:
        async for report in agent.control.outcomes():
            watched.append(report)
            return

    watching = asyncio.ensure_future(watch())
    reports = await asyncio.gather(*(agent.control.pay(invoice.payment_request) for _ in range(3)))
    reports.append(await agent.control.pay(invoice.payment_request))
    assert {report.settled for report in reports} == {True}
    assert len({report.preimage for report in reports}) == 1
    await testbed.wait_quiet()
    fee = reports[0].fee_msat
    assert before - await _local_msat(testbed) == 30_000_000 + fee
    async with asyncio.timeout(10.0):
        await watching
    assert watched[0].payment_hash == invoice.payment_hash
    status = await agent.control.status()
    assert status.payments_settled == 1
    assert status.fees_paid_msat == fee
    assert await agent.terminate() == 0


async def test_killed_in_the_middle_it_loses_nothing_and_pays_nothing_twice(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    agent = make_agent(SENDER)
    await agent.start()
    before = await _local_msat(testbed)
    invoices = await _invoices(testbed, 60, 5_000_000)
    reports: list[PaymentReport] = []
    some = asyncio.Event()

    async def ask(request: str) -> None:
        # Those whose answer the kill swallows end in an error, which is the point.
        try:
            reports.append(await agent.control.pay(request, timeout=60.0))
        except LnagentsError:
            return
        if len(reports) == 10:
            some.set()

    tasks = [asyncio.ensure_future(ask(invoice.payment_request)) for _, invoice in invoices]
    async with asyncio.timeout(60.0):
        await some.wait()
    await agent.kill()
    await asyncio.gather(*tasks)
    assert len(reports) < len(invoices)
    interrupted = agent.query("SELECT count(*) FROM payments WHERE state = 'in_flight'")[0][0]
    assert interrupted > 0

    await agent.start()
    await agent.until(lambda status: status.payments_in_flight == 0, 60.0)
    # Every record is what the node's own ledger says.
    ledger = {payment.payment_hash: payment for payment in await _ledger(testbed)}
    rows = agent.query("SELECT payment_hash, state, fee_msat FROM payments")
    for payment_hash, state, fee_msat in rows:
        payment = ledger.get(payment_hash)
        settled = payment is not None and payment.status is PaymentStatus.SETTLED
        assert state == ("settled" if settled else "failed")
        if payment is not None and settled:
            assert fee_msat == payment.fee_msat
    # Whatever was answered before the kill is on record as it was answered.
    recorded = {payment_hash: state for payment_hash, state, _ in rows}
    for report in reports:
        assert recorded[report.payment_hash] == report.state.value

    # Asked again, everything is paid exactly once.
    again = await asyncio.gather(
        *(agent.control.pay(invoice.payment_request, timeout=60.0) for _, invoice in invoices)
    )
    assert [report.reason for report in again if not report.settled] == []
    await testbed.wait_quiet()
    cost = sum(report.amount_msat + report.fee_msat for report in again)
    assert before - await _local_msat(testbed) == cost
    for name, invoice in invoices:
        state = await testbed.client(name).lookup_invoice(invoice.payment_hash)
        assert state.status is InvoiceStatus.SETTLED
        assert state.paid_msat == invoice.amount_msat
    status = await agent.control.status()
    assert status.payments_settled == len(invoices)
    assert await agent.terminate() == 0


async def _ledger(testbed: Testbed) -> tuple[Payment, ...]:
    return await testbed.client(SENDER).list_payments()


async def test_money_limits_hold_also_after_a_restart(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    agent = make_agent(SENDER, {"limits": {"per_hour_msat": 55_000_000, "max_fee_msat": 100_000}})
    await agent.start()
    before = await _local_msat(testbed)
    invoices = await _invoices(testbed, 8, 10_000_000)
    answers = await asyncio.gather(
        *(agent.control.pay(invoice.payment_request) for _, invoice in invoices[:7]),
        return_exceptions=True,
    )
    paid = [one for one in answers if isinstance(one, PaymentReport) and one.settled]
    refused = [one for one in answers if isinstance(one, LimitExceededError)]
    assert (len(paid), len(refused)) == (5, 2)
    await agent.kill()
    await agent.start()
    with pytest.raises(LimitExceededError, match=r"limits\.per_hour_msat"):
        await agent.control.pay(invoices[7][1].payment_request)
    await testbed.wait_quiet()
    assert before - await _local_msat(testbed) <= 55_000_000


async def test_what_cannot_be_paid_says_why(testbed: Testbed, make_agent: MakeAgent) -> None:
    agent = make_agent(SENDER)
    await agent.start()
    with pytest.raises(InvalidRequestError):
        await agent.control.pay("lnbcrt1nonsense")
    own = await testbed.client(SENDER).add_invoice(1_000_000)
    with pytest.raises(PaymentError, match="own"):
        await agent.control.pay(own.payment_request)
    open_amount = await testbed.client("frank").add_invoice(0)
    with pytest.raises(PaymentError, match="no amount"):
        await agent.control.pay(open_amount.payment_request)
    too_much = await testbed.client("frank").add_invoice(4_900_000_000)
    report = await agent.control.pay(too_much.payment_request)
    assert not report.settled
    assert "no route" in report.reason
    unwilling = await testbed.client("frank").add_invoice(20_000_000)
    report = await agent.control.pay(unwilling.payment_request, max_fee_msat=1)
    assert (report.settled, report.attempts) == (False, 0)
