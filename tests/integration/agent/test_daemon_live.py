"""A daemon's life on a real network: deciding, learning, pausing, reloading, stopping."""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio

from lnagents.lnd import Role
from lnagents.model.errors import InvalidRequestError, NodeUnavailableError, PaymentError
from lnagents.model.graph import ChannelPolicy
from lnagents.testbed import Testbed

if TYPE_CHECKING:
    from tests.integration.agent.conftest import AgentProcess, MakeAgent

NODE = "dave"
SENDER = "bob"


async def _policies(testbed: Testbed, node: str) -> dict[str, ChannelPolicy]:
    """By channel point, what `node` announces."""
    key = testbed.nodes[node].key
    graph = await testbed.client(node).graph()
    return {
        channel.channel_point: policy
        for channel in graph.channels.values()
        if key in (channel.node1, channel.node2)
        and (policy := channel.edge_from(key).policy) is not None
    }


def _fees(policies: dict[str, ChannelPolicy]) -> dict[str, tuple[int, int, int]]:
    return {
        point: (policy.base_fee_msat, policy.fee_rate_ppm, policy.inbound_fee_rate_ppm)
        for point, policy in policies.items()
    }


@pytest_asyncio.fixture(loop_scope="session")
async def untouched(testbed: Testbed) -> AsyncIterator[None]:
    """Puts the policies of the nodes used here back."""
    before = {node: await _policies(testbed, node) for node in (NODE, SENDER)}
    yield
    for node, policies in before.items():
        now = _fees(await _policies(testbed, node))
        for point, policy in policies.items():
            if now[point] != _fees(policies)[point]:
                await testbed.client(node).set_policy(point, policy)
    await testbed.wait_gossip()


async def _pay_through(testbed: Testbed, agent: AgentProcess, count: int) -> None:
    """From bob to alice: nearly all ways lead through dave."""
    for _ in range(count):
        invoice = await testbed.client("alice").add_invoice(20_000_000)
        assert (await agent.control.pay(invoice.payment_request)).settled


@pytest.mark.usefixtures("untouched")
async def test_it_learns_online_and_goes_on_where_it_stopped(
    testbed: Testbed, make_agent: MakeAgent, free_ports: Callable[[], int]
) -> None:
    metrics = f"127.0.0.1:{free_ports()}"
    sections = {
        "actor": {"kind": "ppo", "seed": 7},
        "rounds": {"seconds": 0.2},
        "fees": {"max_updates_per_hour": 100_000, "max_updates_per_hour_per_channel": 3_600},
        "metrics": {"listen": metrics},
    }
    agent = make_agent(NODE, sections)
    sender = make_agent(SENDER)
    await agent.start()
    await sender.start()
    await _pay_through(testbed, sender, 10)
    status = await agent.until(
        lambda one: one.learner.fee_updates > 0 and one.policy_updates > 0, 120.0
    )
    assert status.reward_terms is not None
    assert status.fees_earned_msat > 0
    assert status.forwards > 0

    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://{metrics}/metrics")
    told = [
        line for line in answer.text.splitlines() if line.startswith("lnagents_forwards_total ")
    ]
    # Events of the last payments may have come since the status was asked for.
    assert status.forwards <= float(told[0].split()[1]) <= 10.0
    assert "lnagents_channel_fee_rate_ppm{" in answer.text

    assert stat.S_IMODE(agent.control.path.stat().st_mode) == 0o600
    assert await agent.terminate() == 0
    assert not agent.control.path.exists()
    with pytest.raises(NodeUnavailableError, match="no agent listens"):
        await agent.control.status()

    # One record for each round: what was seen, decided with a reason, and earned term by term.
    rounds = agent.query("SELECT max(round), count(*) FROM rounds")[0]
    assert rounds[0] == rounds[1]
    assert agent.query("SELECT count(*) FROM decisions WHERE reason = ''")[0][0] == 0
    assert agent.query("SELECT count(*) FROM rewards")[0][0] >= rounds[0] - 1
    assert agent.query("SELECT max(round) FROM checkpoints")[0][0] == rounds[0]

    await agent.start()
    later = await agent.until(lambda one: one.round > rounds[0], 30.0)
    assert later.fees_earned_msat >= status.fees_earned_msat
    assert later.policy_updates >= status.policy_updates
    assert await agent.terminate() == 0


@pytest.mark.usefixtures("untouched")
async def test_fees_outside_the_bounds_are_brought_inside_once(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    agent = make_agent(NODE, {"fees": {"min_ppm": 700, "max_ppm": 800}, "rounds": {"seconds": 0.3}})
    before = await _policies(testbed, NODE)
    await agent.start()
    await agent.until(lambda one: one.policy_updates >= len(before), 30.0)
    await testbed.wait_gossip()
    key = testbed.nodes[NODE].key
    seen = await testbed.client("grace").graph()
    rates = [
        edge.policy.fee_rate_ppm
        for edge in seen.edges()
        if edge.source == key and edge.policy is not None
    ]
    assert set(rates) == {700}
    settled = await agent.control.status()
    later = await agent.until(lambda one: one.round >= settled.round + 3, 30.0)
    assert later.policy_updates == len(before)


async def test_dry_run_with_an_observers_macaroon_changes_nothing(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    macaroon = testbed.nodes[NODE].macaroons[Role.OBSERVER]
    sections = {
        "actor": {"kind": "ppo", "seed": 7},
        "fees": {"min_ppm": 700, "max_ppm": 800},
        "rounds": {"seconds": 0.2},
    }
    agent = make_agent(NODE, sections, macaroon=macaroon)
    before = _fees(await _policies(testbed, NODE))
    await agent.start("--dry-run")
    status = await agent.until(lambda one: one.round >= 12, 60.0)
    assert status.dry_run
    # A learner would have learned by now, from consequences that there were none of.
    assert status.learner.fee_updates == 0
    assert status.policy_updates == 0
    assert await agent.terminate() == 0
    assert _fees(await _policies(testbed, NODE)) == before
    wanted = agent.query("SELECT DISTINCT change, reason FROM decisions WHERE verdict = 'dry_run'")
    assert wanted
    assert all("→700" in change and reason for change, reason in wanted)
    assert agent.query("SELECT count(*) FROM fee_updates")[0][0] == 0


async def test_dry_run_does_not_pay(testbed: Testbed, make_agent: MakeAgent) -> None:
    agent = make_agent(SENDER)
    await agent.start("--dry-run")
    invoice = await testbed.client("grace").add_invoice(1_000_000)
    with pytest.raises(PaymentError, match="dry-run"):
        await agent.control.pay(invoice.payment_request)
    assert await testbed.client(SENDER).track_payment(invoice.payment_hash) is None


async def test_another_network_is_refused(make_agent: MakeAgent) -> None:
    agent = make_agent(NODE, {"lnd": {"network": "signet"}})
    await agent.launch()
    assert await agent.wait() == 2
    assert "lnd.network: the node is on regtest, not on signet" in agent.log.read_text()


async def test_two_agents_cannot_share_a_data_directory(make_agent: MakeAgent) -> None:
    agent = make_agent(NODE)
    await agent.start()
    other = make_agent(SENDER, {"": {"data_directory": str(agent.directory)}})
    await other.launch()
    assert await other.wait() == 2
    assert "another agent runs" in other.log.read_text()
    assert (await agent.control.status()).name == NODE


@pytest.mark.usefixtures("untouched")
async def test_a_paused_agent_observes_and_a_bad_reload_changes_nothing(
    testbed: Testbed, make_agent: MakeAgent, tmp_path: Path
) -> None:
    agent = make_agent(NODE, {"rounds": {"seconds": 0.2}})
    await agent.start()
    await agent.control.pause()
    paused = await agent.control.status()
    await agent.until(lambda one: one.round > paused.round + 1, 30.0)

    bounds: dict[str, dict[str, object]] = {
        "fees": {"min_ppm": 700, "max_ppm": 800},
        "rounds": {"seconds": 0.2},
    }
    agent.configure(bounds | {"limits": {"per_day_msat": "much"}})
    with pytest.raises(InvalidRequestError, match=r"limits\.per_day_msat"):
        await agent.control.reload()
    agent.configure(bounds | {"lnd": {"network": "signet"}})
    with pytest.raises(InvalidRequestError, match="lnd: cannot change"):
        await agent.control.reload()
    agent.configure(bounds)
    await agent.control.reload()

    still = await agent.control.status()
    still = await agent.until(lambda one: one.round > still.round + 1, 30.0)
    assert (still.paused, still.policy_updates) == (True, 0)
    await agent.control.resume()
    await agent.until(lambda one: one.policy_updates > 0, 30.0)
    assert await agent.terminate() == 0
    await testbed.wait_gossip()


async def test_forwards_while_the_agent_was_down_are_in_its_books(
    testbed: Testbed, make_agent: MakeAgent
) -> None:
    agent = make_agent(NODE)
    await agent.start()
    await agent.kill()
    sender = make_agent(SENDER)
    await sender.start()
    await _pay_through(testbed, sender, 5)
    await testbed.wait_quiet()
    await agent.start()
    # LND writes its own history up to 15 s late, and the agent reads it every 20 s.
    status = await agent.until(lambda one: one.forwards >= 5, 60.0)
    history = await testbed.client(NODE).forwards(testbed.began_at - 60.0, time.time() + 60.0)
    assert status.forwards == len(history)
    assert status.fees_earned_msat == sum(forward.fee_msat for forward in history)
