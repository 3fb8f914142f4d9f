"""A daemon that sells hints and one that buys them, through a real Aperture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnagents.testbed import Testbed

if TYPE_CHECKING:
    from tests.integration.agent.conftest import AgentProcess, MakeAgent

SELLER, BUYER = "carol", "alice"
AMOUNT_MSAT = 700_000_000
"""Large enough that its chances are uncertain, small enough that several routes may carry it."""


async def start_seller(testbed: Testbed, make_agent: MakeAgent) -> AgentProcess:
    """A daemon that sells everything for 3 satoshi."""
    site = testbed.sellers[SELLER]
    seller = make_agent(
        SELLER,
        {
            "market.sell": {
                "service_host": site.service_host,
                "service_port": site.service_port,
                "pricer_host": site.pricer_host,
                "pricer_port": site.pricer_port,
                "price_sat": 3,
            }
        },
    )
    await seller.start()
    return seller


def _buying(testbed: Testbed) -> dict[str, dict[str, object]]:
    site = testbed.sellers[SELLER]
    seller = {"url": site.url, "key": testbed.nodes[SELLER].key}
    return {"market.buy": {"sellers": [seller]}}


async def test_a_hint_is_bought_before_a_payment_and_used(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    seller = await start_seller(testbed, make_agent)
    buyer = make_agent(BUYER, _buying(testbed))
    await buyer.start()
    invoice = await testbed.client("frank").add_invoice(AMOUNT_MSAT)
    report = await buyer.control.pay(invoice.payment_request)
    assert report.settled
    bought = await buyer.control.status()
    assert bought.hints_bought == 1
    assert bought.hint_costs_msat == 3_000
    assert bought.payments_settled == 1
    sold = await seller.until(lambda status: status.hints_sold == 1, 10.0)
    assert sold.hint_income_msat == 3_000

    # Both books agree, the purchase has a reason, and the route was chosen with the hint.
    verdict, reason = buyer.query(
        "SELECT verdict, reason FROM decisions WHERE verdict IN ('bought', 'skipped')"
    )[0]
    assert verdict == "bought"
    assert "costs 3 sat" in reason
    purchase = buyer.query("SELECT payment_hash, state FROM purchases")
    assert purchase == [(seller.query("SELECT payment_hash FROM sales")[0][0], "delivered")]
    believed = buyer.query("SELECT amount_msat, probability FROM hints")
    assert len(believed) == 1
    attempts = buyer.query(
        "SELECT reason FROM attempts WHERE payment_hash = ?", invoice.payment_hash
    )
    assert attempts
    assert await buyer.terminate() == 0

    # A small payment needs no advice.
    await buyer.start()
    small = await testbed.client("frank").add_invoice(1_000_000)
    assert (await buyer.control.pay(small.payment_request)).settled
    assert (await buyer.control.status()).hints_bought == 1


async def test_without_budget_nothing_is_bought(testbed: Testbed, make_agent: MakeAgent) -> None:
    await start_seller(testbed, make_agent)
    limits = {"limits": {"hint_per_hour_msat": 1_000}}
    buyer = make_agent(BUYER, _buying(testbed) | limits)
    await buyer.start()
    invoice = await testbed.client("frank").add_invoice(AMOUNT_MSAT)
    assert (await buyer.control.pay(invoice.payment_request)).settled
    status = await buyer.control.status()
    assert (status.hints_bought, status.hint_costs_msat) == (0, 0)
    verdict, reason = buyer.query(
        "SELECT verdict, reason FROM decisions WHERE subject != 'node'"
        " AND verdict IN ('bought', 'skipped')"
    )[0]
    assert verdict == "skipped"
    assert "for documents" in reason


async def test_a_seller_that_is_gone_delays_no_payment_for_good(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    buyer = make_agent(BUYER, _buying(testbed))
    await buyer.start()
    invoice = await testbed.client("frank").add_invoice(AMOUNT_MSAT)
    assert (await buyer.control.pay(invoice.payment_request)).settled
    assert (await buyer.control.status()).hints_bought == 0
    assert buyer.query("SELECT count(*) FROM decisions WHERE verdict = 'skipped'")[0][0] == 1
