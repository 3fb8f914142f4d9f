"""What a channel can carry, to the msat, on real nodes and in the twin."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest_asyncio

from lnagents.model.payment import FailureCode
from lnagents.model.topology import parse_topology
from lnagents.testbed.pytest_fixtures import NetworkFactory
from lnagents.twin.commitment import NO_DUST_OFFERED, NO_DUST_RECEIVED, bandwidth, can_add
from lnagents.twin.forwarding import check_send
from lnagents.twin.settings import CommitmentSettings
from tests.integration.twin.beside import Beside, HeldHtlc

# Carol and Dave open channels with anchors, the others without.
TOPOLOGY = """
name: small
nodes:
  - {name: alice}
  - {name: bob}
  - {name: carol, lnd: ["--protocol.anchors"]}
  - {name: dave, lnd: ["--protocol.anchors"]}
channels:
  - {from: alice, to: bob, capacity_sat: 300000}
  - {from: bob, to: carol, capacity_sat: 60001, local_fraction: 0.7}
  - {from: carol, to: dave, capacity_sat: 60000, local_fraction: 0.6}
"""
ALICE_BOB, BOB_ALICE, CAROL_DAVE, DAVE_CAROL = 0, 1, 4, 5

LIMITED = """
name: limited
nodes:
  - name: alice
    lnd: &limits ["--default-remote-max-htlcs=5", "--channel-max-fee-exposure=20000"]
  - {name: bob, lnd: *limits}
channels:
  - {from: alice, to: bob, capacity_sat: 300000}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(testbed_factory: NetworkFactory) -> Beside:
    topology = parse_topology(TOPOLOGY, "small.yaml")
    return await Beside.start(await testbed_factory(topology), topology)


async def check(beside: Beside) -> None:
    """Balances and the last amount that goes through are the same on both sides."""
    assert await beside.balances() == beside.expected_balances()
    for edge in beside.edges:
        most = await beside.most(edge, beside.routable)
        assert most == await beside.most(edge, beside.expected_routable)
        least_outputs = beside.liquidity.terms[edge >> 1, [NO_DUST_OFFERED, NO_DUST_RECEIVED]]
        for amount in (*least_outputs, *(least_outputs - 1)):
            expected = await beside.expected_routable(edge, int(amount))
            assert await beside.routable(edge, int(amount)) == expected


async def test_openers_that_sent_all_they_could(small: Beside) -> None:
    await check(small)
    for edge in (ALICE_BOB, CAROL_DAVE):
        htlc = await small.hold(edge, bandwidth(small.liquidity, edge))
        await check(small)
        await small.resolve(htlc, settle=True)
        assert bandwidth(small.liquidity, edge) == 0
        await check(small)


async def test_peers_that_fill_the_commitments_of_drained_openers(small: Beside) -> None:
    chance = random.Random(0)
    htlcs: list[HeldHtlc] = []
    for edge in (BOB_ALICE, DAVE_CAROL):
        # Each output costs the opener, until it can pay for no more of them, or the other side has
        # no more; then only dust gets through.
        for _ in range(8):
            most = bandwidth(small.liquidity, edge)
            if most < 1_000:
                break
            htlcs.append(await small.hold(edge, min(most, chance.randint(5_000_000, 9_000_000))))
        await check(small)
    for htlc in htlcs:
        await small.resolve(htlc, settle=chance.random() < 0.5)
    await check(small)


async def test_random_htlcs_in_both_directions(small: Beside) -> None:
    chance = random.Random(1)
    htlcs: list[HeldHtlc] = []
    for step in range(1, 31):
        edge = chance.choice(small.edges)
        dust = int(small.liquidity.terms[edge >> 1, chance.choice([8, 9])])
        amount = chance.choice([dust, dust - 1, chance.randint(1_000, 9_000_000)])
        if can_add(small.liquidity, edge, amount) and chance.random() < 0.7:
            htlcs.append(await small.hold(edge, amount))
        elif htlcs:
            htlc = htlcs.pop(chance.randrange(len(htlcs)))
            await small.resolve(htlc, settle=chance.random() < 0.5)
        assert await small.balances() == small.expected_balances()
        if step % 10 == 0:
            await check(small)
    for htlc in htlcs:
        await small.resolve(htlc, settle=True)
    await check(small)


async def test_slots_and_exposure(testbed_factory: NetworkFactory) -> None:
    topology = parse_topology(LIMITED, "limited.yaml")
    settings = CommitmentSettings(max_accepted_htlcs=5, max_fee_exposure_sat=20_000)
    beside = await Beside.start(await testbed_factory(topology), topology, settings)
    policy = beside.network.policy

    async def refusal(amount: int) -> int:
        """What becomes of an HTLC from Alice to Bob; the same on both sides."""
        route = replace(await beside.route([ALICE_BOB], amount), payment_total_msat=amount)
        height = (await beside.source(ALICE_BOB).info()).block_height
        code = check_send(
            beside.liquidity, policy, ALICE_BOB, amount, route.total_time_lock, height
        )
        assert await beside.attempt(ALICE_BOB, route) == (code, 0)
        return code

    # Fee 4,525 sat, and 3 HTLCs of 4,000 sat that are no outputs: 3,475 sat are left.
    htlcs = [await beside.hold(edge, 4_000_000) for edge in (ALICE_BOB, BOB_ALICE, ALICE_BOB)]
    assert await refusal(3_476_000) == FailureCode.TEMPORARY_CHANNEL_FAILURE
    # Dust for the receiver, not for the one who offers it.
    htlcs.append(await beside.hold(ALICE_BOB, 3_475_000))
    await check(beside)
    assert await refusal(4_700_000) == FailureCode.INTERNAL_FAILURE
    for htlc in htlcs:
        await beside.resolve(htlc, settle=False)
    await check(beside)
    htlcs = [await beside.hold(ALICE_BOB, 1_000 + step) for step in range(5)]
    await check(beside)
    for htlc in htlcs:
        await beside.resolve(htlc, settle=True)
    await check(beside)
