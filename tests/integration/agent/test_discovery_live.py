"""A seller that announces itself with LND's own means is found, and bought from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lnagents.market.discovery import SELLER_FEATURE_BIT
from lnagents.testbed import Testbed
from lnagents.testbed.toolchain import Product, find_or_provide
from lnagents.testbed.toolchain.processes import run_program
from tests.integration.agent.commands import run_command
from tests.integration.agent.test_hints_live import AMOUNT_MSAT, BUYER, SELLER, start_seller

if TYPE_CHECKING:
    from tests.integration.agent.conftest import MakeAgent


@asynccontextmanager
async def _announced(testbed: Testbed) -> AsyncIterator[None]:
    """The seller's node announces the feature and its Aperture's address."""
    lncli = (await find_or_provide(Product.LND))["lncli"]
    admin = testbed.nodes[SELLER].admin
    address = testbed.sellers[SELLER].url.removeprefix("http://")

    async def update(verb: str) -> None:
        await run_program(
            *lncli.command,
            f"--rpcserver={admin.address}",
            f"--tlscertpath={admin.tls_certificate}",
            f"--macaroonpath={admin.macaroon}",
            "--network=regtest",
            "peers",
            "updatenodeannouncement",
            f"--feature_bit_{verb}={SELLER_FEATURE_BIT}",
            f"--address_{verb}={address}",
            timeout=60.0,
        )

    await update("add")
    try:
        yield
    finally:
        await update("remove")


async def test_an_announced_seller_is_found_and_bought_from(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    await start_seller(testbed, make_agent)
    buyer = make_agent(BUYER, {"market.buy": {"discover": True}})
    expected = [{"url": testbed.sellers[SELLER].url, "key": testbed.nodes[SELLER].key}]
    found = []
    async with _announced(testbed):
        for _ in range(50):
            code, out, err = await run_command("market", "find", "-c", str(buyer.config), "--json")
            assert code == 0, err
            found = json.loads(out)
            if found:
                break
            await asyncio.sleep(0.2)
        assert found == expected
        await buyer.start()
        # It looks at once; nothing tells when it has found.
        async with asyncio.timeout(60.0):
            while '"sellers_found"' not in buyer.log.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        invoice = await testbed.client("frank").add_invoice(AMOUNT_MSAT)
        assert (await buyer.control.pay(invoice.payment_request)).settled
        assert (await buyer.control.status()).hints_bought == 1
