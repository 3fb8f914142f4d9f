from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from lnagents.lnd import LndClient, LndEndpoint, Role
from lnagents.model.errors import PermissionRefusedError, TestbedError
from lnagents.testbed import ServiceState, Testbed
from lnagents.testbed.bitcoin import BitcoinClient
from lnagents.testbed.waiting import wait_until


async def test_every_channel_is_active_and_known_to_all(testbed: Testbed) -> None:
    expected = len(testbed.topology.channels)
    for name in testbed.nodes:
        graph = await testbed.client(name).graph()
        assert len(graph.channels) == expected
        assert len(list(graph.edges())) == 2 * expected
    active = [await testbed.client(name).channels(active_only=True) for name in testbed.nodes]
    assert sum(map(len, active)) == 2 * expected


async def test_policies_are_those_of_the_topology(testbed: Testbed) -> None:
    graph = await testbed.client("bob").graph()
    by_ends = {frozenset((c.node1, c.node2)): c for c in graph.channels.values()}
    for spec in testbed.topology.channels:
        source, target = testbed.nodes[spec.source].key, testbed.nodes[spec.target].key
        channel = by_ends[frozenset((source, target))]
        assert channel.capacity_msat == spec.capacity_msat
        for key, wanted in zip(
            (source, target), testbed.topology.channel_policies(spec), strict=True
        ):
            policy = channel.edge_from(key).policy
            assert policy is not None
            expected = wanted.to_policy(policy.max_htlc_msat)
            assert replace(policy, last_update=0) == expected


async def test_services_run(testbed: Testbed) -> None:
    states = await testbed.states()
    assert set(states) == {"bitcoind", "miner", "aperture-carol", *testbed.nodes}
    assert set(states.values()) == {ServiceState.RUNNING}
    with pytest.raises(TestbedError, match="no service 'nobody'"):
        await testbed.logs("nobody")
    with pytest.raises(TestbedError, match="no node 'nobody'"):
        testbed.client("nobody")


async def test_payments_settle_and_the_audit_adds_up(testbed: Testbed) -> None:
    outcomes = await asyncio.gather(
        *(
            testbed.pay(source, destination, 1_000_001 * n)
            for n in range(1, 6)
            for source, destination in (("alice", "frank"), ("bob", "grace"), ("grace", "alice"))
        )
    )
    assert all(outcome.settled for outcome in outcomes)
    report = await testbed.audit()
    assert report.difference_msat == 0
    assert report.to_json()["difference_sat"] == 0
    assert sum(node.fees_paid for node in report.nodes.values()) > 0


async def test_a_payment_that_cannot_be_made_is_an_outcome(testbed: Testbed) -> None:
    outcome = await testbed.pay("frank", "alice", 3_900_000_000, timeout_seconds=5)
    assert not outcome.settled
    assert outcome.reason
    assert outcome.fee_msat == 0


async def test_a_fee_change_is_visible_everywhere_when_the_barrier_opens(testbed: Testbed) -> None:
    dave = testbed.nodes["dave"].key
    client = testbed.client("dave")
    channel = (await client.channels())[0]
    before = (await client.channel(channel.scid)).edge_from(dave).policy
    assert before is not None
    wanted = replace(before, fee_rate_ppm=before.fee_rate_ppm + 77)
    await client.set_policy(channel.channel_point, wanted)
    await testbed.wait_gossip()
    for name in testbed.nodes:
        seen = (await testbed.client(name).channel(channel.scid)).edge_from(dave).policy
        assert seen is not None
        assert seen.fee_rate_ppm == wanted.fee_rate_ppm
    # At once, so most likely within the same second: such updates are dropped, and sent again.
    await client.set_policy(channel.channel_point, before)
    await testbed.wait_gossip()
    for name in testbed.nodes:
        seen = (await testbed.client(name).channel(channel.scid)).edge_from(dave).policy
        assert seen is not None
        assert seen.fee_rate_ppm == before.fee_rate_ppm


async def test_mined_blocks_reach_every_node(testbed: Testbed) -> None:
    height = (await testbed.client("alice").info()).block_height
    await testbed.mine(2)
    for name in testbed.nodes:
        assert (await testbed.client(name).info()).block_height >= height + 2


async def test_waiting_transactions_are_mined_by_themselves(testbed: Testbed) -> None:
    client = testbed.client("alice")
    address = await client.new_address()
    before = (await client.wallet_balance()).confirmed_msat
    async with BitcoinClient(await testbed.backend.bitcoind()) as bitcoin:
        await bitcoin.pay({address: 50_000})

    async def confirmed() -> bool:
        return (await client.wallet_balance()).confirmed_msat > before

    await wait_until(confirmed, timeout=30, complaint=lambda: "no block came")
    assert (await client.wallet_balance()).confirmed_msat == before + 50_000_000
    await testbed.reset()
    assert (await client.wallet_balance()).confirmed_msat == before


async def test_macaroons_are_private_and_baked_per_role(testbed: Testbed) -> None:
    node = testbed.nodes["alice"]
    for path in (*node.macaroons.values(), node.agent.macaroon, node.admin.macaroon):
        assert path is not None
        assert path.stat().st_mode & 0o077 == 0 or path == node.admin.macaroon
    assert testbed.directory.stat().st_mode & 0o077 == 0
    endpoint = LndEndpoint(
        node.admin.address, node.admin.tls_certificate, node.macaroons[Role.OBSERVER]
    )
    async with LndClient(endpoint) as observer:
        assert (await observer.info()).key == node.key
        with pytest.raises(PermissionRefusedError):
            await observer.add_invoice(1_000)
