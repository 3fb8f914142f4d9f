"""The market of the shared network."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lnagents.agent.store import Store
from lnagents.lnd import LndClient
from lnagents.market import (
    Seller,
)
from lnagents.testbed import Testbed
from tests.integration.market.trading import BUYER, SELLER, WITNESS, Market


@pytest.fixture
async def market(testbed: Testbed, tmp_path: Path) -> AsyncIterator[Market]:
    async with contextlib.AsyncExitStack() as stack:
        buyer_node, seller_node, witness = [
            await stack.enter_async_context(LndClient(testbed.nodes[name].agent))
            for name in (BUYER, SELLER, WITNESS)
        ]
        stores = [await Store.open(tmp_path / name) for name in ("sales", "purchases")]
        for store in stores:
            stack.push_async_callback(store.close)
        buyer_key = testbed.nodes[BUYER].key
        site = testbed.sellers[SELLER]
        market = Market(
            site=site,
            seller_node=seller_node,
            buyer_node=buyer_node,
            witness=witness,
            witness_admin=testbed.client(WITNESS),
            seller=Seller(site.url, testbed.nodes[SELLER].key),
            buyer_key=buyer_key,
            # Not the one that the payments for the hints themselves go over.
            channel=next(each for each in await seller_node.channels() if each.peer != buyer_key),
            sales=stores[0],
            purchases=stores[1],
        )
        stack.push_async_callback(market.close)
        await market.open()
        yield market
