from __future__ import annotations

import asyncio
import signal
from dataclasses import replace

import pytest

from lnagents.model.errors import NodeDiedError, TestbedError
from lnagents.testbed import ServiceState, Testbed
from lnagents.testbed.processes import send_signal
from lnagents.testbed.pytest_fixtures import NetworkFactory
from lnagents.testbed.state import StateFolder


@pytest.fixture(scope="module", name="line")
async def _line(testbed_factory: NetworkFactory) -> Testbed:
    return await testbed_factory("line5")


async def _balances(testbed: Testbed) -> dict[str, int]:
    return {
        name: (await testbed.client(name).channel_balances()).local_msat for name in testbed.nodes
    }


async def test_reset_brings_back_every_balance_and_policy_again_and_again(line: Testbed) -> None:
    first = await _balances(line)
    keys = {name: (await line.client(name).info()).key for name in line.nodes}
    graph = await line.client("alice").graph()
    for round_number in range(5):
        outcomes = await asyncio.gather(
            *(line.pay("alice", "erin", 7_000_003) for _ in range(3)),
            line.pay("erin", "bob", 2_500_000),
        )
        assert all(outcome.settled for outcome in outcomes), round_number
        client, key = line.client("carol"), line.nodes["carol"].key
        channel = (await client.channels())[0]
        policy = graph.channels[channel.scid].edge_from(key).policy
        assert policy is not None
        await client.set_policy(channel.channel_point, replace(policy, fee_rate_ppm=4_321))
        await line.wait_gossip()
        assert await _balances(line) != first
        await line.reset()
        assert await _balances(line) == first
        assert {name: (await line.client(name).info()).key for name in line.nodes} == keys
        assert (await line.client("alice").graph()).channels == graph.channels
        for name in line.nodes:
            assert await line.client(name).closed_channels() == ()
            assert await line.client(name).pending_channel_count() == 0
            assert await line.client(name).list_payments() == ()
    assert (await line.pay("alice", "erin", 1_000_000)).settled
    assert (await line.audit()).difference_msat == 0
    await line.reset()


async def test_reset_forgets_what_mission_control_learned(line: Testbed) -> None:
    assert (await line.pay("alice", "erin", 1_000_000)).settled
    assert await line.client("alice").mission_control()
    await line.reset()
    assert await line.client("alice").mission_control() == ()


async def test_reset_heals_what_was_killed_and_frozen(line: Testbed) -> None:
    await line.backend.kill(["bob"])
    await line.backend.pause(["carol"])
    states = await line.states()
    assert states["bob"] is ServiceState.STOPPED
    assert states["carol"] is ServiceState.PAUSED
    await line.reset()
    assert set((await line.states()).values()) == {ServiceState.RUNNING}
    assert (await line.pay("alice", "erin", 1_000_000)).settled
    await line.reset()


async def test_a_later_snapshot_is_what_reset_goes_back_to(testbed_factory: NetworkFactory) -> None:
    own = await testbed_factory("line5")
    try:
        assert (await own.pay("alice", "erin", 5_000_000)).settled
        await own.wait_quiet()
        await own.snapshot()
        kept = await _balances(own)
        assert (await own.pay("alice", "erin", 5_000_000)).settled
        await own.reset()
        assert await _balances(own) == kept
        assert (await own.audit()).difference_msat == 0
        # One by name stands beside it.
        assert (await own.pay("alice", "erin", 3_000_000)).settled
        await own.snapshot("later")
        later = await _balances(own)
        await own.reset()
        assert await _balances(own) == kept
        await own.reset("later")
        assert await _balances(own) == later
        await own.discard_snapshot("later")
        with pytest.raises(TestbedError, match="no snapshot 'later'"):
            await own.reset("later")
    finally:
        await own.down()


async def test_a_frozen_node_goes_on_where_it_was(line: Testbed) -> None:
    await line.backend.pause(["carol"])
    payment = asyncio.ensure_future(line.pay("alice", "erin", 1_000_000))
    await asyncio.sleep(0.3)
    assert not payment.done()
    await line.backend.resume(["carol"])
    assert (await payment).settled
    await line.reset()


async def test_a_node_that_dies_is_named_with_its_last_words(
    testbed_factory: NetworkFactory,
) -> None:
    own = await testbed_factory("line5")
    try:
        # Stopped behind the backend's back, so nobody asked for it.
        await own.client("dave").stop()
        with pytest.raises(NodeDiedError, match=r"dave ended by itself(.|\n)*Shutdown complete"):
            await asyncio.wait_for(own.backend.watch(), 30)
        assert (await own.states())["dave"] is ServiceState.DIED
        with pytest.raises(NodeDiedError, match="dave ended by itself"):
            await own.wait_gossip()
        # The whole network comes back all the same, also without its chain.
        assert send_signal(StateFolder(own.name).processes()["bitcoind"], signal.SIGKILL)
        with pytest.raises(NodeDiedError, match=r"(bitcoind|dave) ended by itself"):
            await own.mine(1)
        await own.reset()
        assert (await own.pay("alice", "erin", 1_000_000)).settled
    finally:
        await own.down()
    assert not own.directory.exists()
