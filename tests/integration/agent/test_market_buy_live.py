"""`lnagents market buy …` as its users type it: a running agent pays, once, also across crashes."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lnagents.market import FeeCommitment, LiquidityHint, RouteQuote, open_document
from lnagents.model.units import format_short_channel_id
from lnagents.testbed import Testbed
from tests.integration.agent.commands import run_command
from tests.integration.agent.test_hints_live import BUYER, SELLER, start_seller

if TYPE_CHECKING:
    from tests.integration.agent.conftest import AgentProcess, MakeAgent


async def _bought(agent: AgentProcess, *arguments: str) -> dict[str, Any]:
    code, out, err = await run_command(
        "market", "buy", *arguments, "-c", str(agent.config), "--json"
    )
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


async def _channel(testbed: Testbed) -> str:
    """One of the seller's channels."""
    return format_short_channel_id((await testbed.client(SELLER).channels())[0].scid)


def _settled(agent: AgentProcess) -> int:
    rows = agent.query("SELECT count(*) FROM payments WHERE state = 'settled'")
    return int(rows[0][0])


async def test_every_product_is_bought_once_and_kept_where_it_says(
    testbed: Testbed, make_agent: MakeAgent, tmp_path: Path
) -> None:
    seller = await start_seller(testbed, make_agent)
    buyer = make_agent(BUYER)
    await buyer.start()
    node = testbed.nodes[SELLER].key
    where = (testbed.sellers[SELLER].url, node)
    channel, frank = await _channel(testbed), testbed.nodes["frank"].key
    for question, kind in (
        (("liquidity", channel, node, "1000000"), LiquidityHint),
        (("commitment", channel, "600"), FeeCommitment),
        (("route", frank, "1000000"), RouteQuote),
    ):
        answer = await _bought(buyer, *where, *question)
        assert (answer["price_msat"], answer["paid_now"]) == (3_000, True)
        kept = Path(answer["file"])
        assert kept.parent == buyer.directory / "documents"
        assert isinstance(open_document(await asyncio.to_thread(kept.read_bytes)), kind)
        assert answer["document"]["kind"] == kind.__name__
        again = await _bought(buyer, *where, *question)
        assert (again["nonce"], again["paid_now"]) == (answer["nonce"], False)
        # Nothing contradicts it yet, and `verify` reads what `buy` wrote.
        code, out, _ = await run_command("market", "verify", str(kept))
        assert (code, out.split(":")[0]) == (4, "not decidable")
    # The own policy chose the way of each of the three payments, and no advice was bought for them.
    assert _settled(buyer) == 3
    reasons = buyer.query("SELECT reason FROM attempts")
    assert len(reasons) >= 3
    assert all("least expected cost" in reason for (reason,) in reasons)
    assert (await seller.control.status()).hints_sold == 3
    assert (await buyer.control.status()).hints_bought == 3

    out_file = tmp_path / "new.signed"
    anew = ("commitment", channel, "600", "-c", str(buyer.config), "--again")
    code, out, _ = await run_command("market", "buy", *where, *anew, "--out", str(out_file))
    assert (code, out_file.exists()) == (0, True)
    assert out.startswith("paid 3 sat\n")
    assert f"kept in {out_file}" in out
    assert _settled(buyer) == 4


async def test_bad_input_is_2_and_what_cannot_be_bought_says_why(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    await start_seller(testbed, make_agent)
    buyer = make_agent(BUYER, {"limits": {"hint_per_hour_msat": 2_000}})
    url, node = testbed.sellers[SELLER].url, testbed.nodes[SELLER].key
    channel = await _channel(testbed)
    good = ("commitment", channel, "600")
    at = ("-c", str(buyer.config))
    code, _, err = await run_command("market", "buy", url, node, *good, *at)
    assert code == 1
    assert "no agent listens" in err
    await buyer.start()
    for wrong in (
        (url, "02ab", *good, *at),
        ("ftp://x", node, *good, *at),
        (url, node, "weather", "1", *at),
        (url, node, "commitment", "1x2", "600", *at),
        (url, node, *good),
        (url, node, *good, *at, "--max-price-sat", "0"),
    ):
        code, out, err = await run_command("market", "buy", *wrong)
        assert (code, out) == (2, ""), err
        assert "Traceback" not in err
    for arguments, complaint in (
        ((url, node, *good, *at, "--max-price-sat", "2"), "2 sat are the most to pay"),
        ((url, node, *good, *at), "for documents are spent this hour"),
        ((url, node, "commitment", channel, "999999", *at), "no promise is made for more"),
        (("http://127.0.0.1:9", node, *good, *at), "does not answer"),
    ):
        code, out, err = await run_command("market", "buy", *arguments)
        assert (code, out) == (1, "")
        assert complaint in err
    assert (_settled(buyer), (await buyer.control.status()).hints_bought) == (0, 0)


@pytest.mark.parametrize("collected_by", ["restart", "command"])
async def test_killed_after_it_paid_it_collects_and_pays_nothing_again(
    testbed: Testbed, make_agent: MakeAgent, collected_by: str
) -> None:
    seller = await start_seller(testbed, make_agent)
    buyer = make_agent(BUYER)
    await buyer.start()
    where = (testbed.sellers[SELLER].url, testbed.nodes[SELLER].key)
    question = ("commitment", await _channel(testbed), "600")
    asking = asyncio.create_task(
        run_command("market", "buy", *where, *question, "-c", str(buyer.config))
    )

    async def until(state: str) -> None:
        async with asyncio.timeout(60.0):
            while buyer.query("SELECT state FROM purchases") != [(state,)]:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    # The seller's service hangs once it has told its price; its node takes the money all the same.
    await until("challenged")
    seller.signal(signal.SIGSTOP)
    try:
        await until("paid")
        if collected_by == "restart":
            await buyer.kill()
            assert (await asking)[0] == 1
            await buyer.start()
        else:
            code, _, err = await asking
            assert code == 1
            assert "was paid and has not delivered yet" in err
    finally:
        seller.signal(signal.SIGCONT)
    if collected_by == "restart":
        await until("delivered")
    answer = await _bought(buyer, *where, *question)
    assert (answer["paid_now"], answer["price_msat"]) == (False, 3_000)
    assert buyer.query("SELECT nonce, state FROM purchases") == [(answer["nonce"], "delivered")]
    assert _settled(buyer) == 1
    assert (await seller.control.status()).hints_sold == 1


async def test_a_fee_above_a_bought_promise_is_noticed_by_gossip(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    await start_seller(testbed, make_agent)
    buyer = make_agent(BUYER)
    await buyer.start()
    seller = testbed.client(SELLER)
    channel = (await seller.channels())[0]
    where = (testbed.sellers[SELLER].url, testbed.nodes[SELLER].key)
    name = format_short_channel_id(channel.scid)
    answer = await _bought(buyer, *where, "commitment", name, "600")
    before = (await seller.channel(channel.scid)).edge_from(where[1]).policy
    assert before is not None
    assert answer["document"]["fee_rate_ppm"] == before.fee_rate_ppm
    # Its agent would keep the promise; its operator raises the fee by hand.
    await asyncio.sleep(2.0)  # gossip counts whole seconds
    dearer = replace(before, fee_rate_ppm=before.fee_rate_ppm + 100)
    await seller.set_policy(channel.channel_point, dearer)
    try:
        async with asyncio.timeout(30.0):
            while not buyer.query("SELECT * FROM broken_promises"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        found = buyer.query("SELECT reason FROM broken_promises")
        assert f"{dearer.fee_rate_ppm} ppm" in found[0][0]
    finally:
        await asyncio.sleep(1.1)
        await seller.set_policy(channel.channel_point, before)
    code, out, _ = await run_command("market", "score", "-c", str(buyer.config), "--json")
    assert code == 0
    [score] = json.loads(out)["sellers"]
    assert (score["product"], score["broken_promises"]) == ("commitment", 1)
    assert (score["skill"], score["helps"]) == (0.0, False)
