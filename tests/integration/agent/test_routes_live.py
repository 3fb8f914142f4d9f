"""The own route search against LND's: the same hops cost the same and lock the same."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from lnagents.agent.candidates import BLOCK_PADDING, PathQuery, RouteFinder
from lnagents.agent.liquidity import Liquidity
from lnagents.model.graph import ChannelPolicy
from lnagents.testbed import Testbed

FINAL_DELTA = 80


async def _finder(testbed: Testbed, source: str) -> RouteFinder:
    client = testbed.client(source)
    finder = RouteFinder(testbed.nodes[source].key, Liquidity(3_600.0))
    finder.load(await client.graph())
    finder.set_local({channel.scid: channel for channel in await client.channels()})
    return finder


@pytest.mark.parametrize("inbound_ppm", [0, -70])
@pytest.mark.parametrize("amount_msat", [1_000, 54_321_987, 900_000_000])
async def test_amounts_fees_and_expiries_are_those_of_lnd(
    testbed: Testbed, amount_msat: int, inbound_ppm: int
) -> None:
    """With inbound discounts at dave as well: on alice → dave, for what she sends him."""
    source, destination = "alice", "grace"
    client = testbed.client(source)
    dave = testbed.client("dave")
    key = testbed.nodes["dave"].key
    shared = next(c for c in await dave.channels() if c.peer == testbed.nodes[source].key)
    policy = (await dave.channel(shared.scid)).edge_from(key).policy
    assert policy is not None
    if inbound_ppm:
        await dave.set_policy(shared.channel_point, _with_inbound(policy, inbound_ppm))
        await testbed.wait_gossip()
    try:
        finder = await _finder(testbed, source)
        info = await client.info()
        query = PathQuery(
            destination=testbed.nodes[destination].key,
            amount_msat=amount_msat,
            max_fee_msat=10_000_000,
            final_cltv_delta=FINAL_DELTA,
            payment_addr=bytes(32),
        )
        found = finder.find(query, count=5, height=info.block_height, now=time.time())
        assert len(found) == 5
        assert len({one.route.scids for one in found}) == 5
        for one in found:
            theirs = await client.build_route(
                amount_msat,
                [hop.target for hop in one.route.hops],
                final_cltv_delta=FINAL_DELTA + BLOCK_PADDING,
                outgoing_scid=one.route.scids[0],
                payment_addr=bytes(32),
            )
            assert one.route == theirs
    finally:
        if inbound_ppm:
            await dave.set_policy(shared.channel_point, policy)
            await testbed.wait_gossip()


async def test_without_knowledge_the_first_candidate_is_as_good_as_lnds_own(
    testbed: Testbed,
) -> None:
    source, destination = "bob", "frank"
    client = testbed.client(source)
    await client.reset_mission_control()
    finder = await _finder(testbed, source)
    height = (await client.info()).block_height
    query = PathQuery(testbed.nodes[destination].key, 1_000_000, 10_000_000, FINAL_DELTA)
    ours = finder.find(query, count=1, height=height, now=time.time())[0].route
    (theirs,) = await client.query_routes(
        query.destination, query.amount_msat, final_cltv_delta=FINAL_DELTA + BLOCK_PADDING
    )
    # Where several are equally good, each may take another.
    assert len(ours.hops) == len(theirs.hops)
    assert ours.total_amount_msat == theirs.total_amount_msat
    assert ours.total_time_lock == theirs.total_time_lock


def _with_inbound(policy: ChannelPolicy, ppm: int) -> ChannelPolicy:
    return replace(policy, inbound_fee_rate_ppm=ppm)
