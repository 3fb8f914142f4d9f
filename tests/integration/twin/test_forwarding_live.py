"""What real nodes refuse, and with which code, is what the twin's checks say."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from lnagents.lnd import ChannelOpening
from lnagents.model.payment import FailureCode, Route
from lnagents.model.topology import parse_topology
from lnagents.testbed.pytest_fixtures import NetworkFactory
from lnagents.testbed.settings import ANNOUNCEMENT_BLOCKS
from lnagents.testbed.waiting import wait_until
from lnagents.twin.commitment import add_htlc, bandwidth, fail_htlc, settle_htlc
from lnagents.twin.forwarding import (
    ACCEPTED,
    ForwardRequest,
    check_forward,
    check_receive,
    check_send,
)
from tests.integration.twin.beside import SECONDS, Beside

TOPOLOGY = """
name: relay
policy:
  base_fee_msat: 1100
  fee_rate_ppm: 777
  inbound_base_fee_msat: -300
  inbound_fee_rate_ppm: -200
  min_htlc_msat: 2000
nodes: [{name: alice}, {name: bob}, {name: carol}]
channels:
  - {from: alice, to: bob, capacity_sat: 300000, local_fraction: 0.9}
  - from: bob
    to: carol
    capacity_sat: 200000
    policy:
      base_fee_msat: 1300
      fee_rate_ppm: 654
      min_htlc_msat: 3000
      max_htlc_msat: 150000000
      time_lock_delta: 60
"""
ALICE_BOB, BOB_ALICE, BOB_CAROL = 0, 1, 2
AMOUNT = 20_000_001
FINAL_DELTA = 80
"""What invoices ask for by default (`bitcoin.timelockdelta`)."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def relay(testbed_factory: NetworkFactory) -> Beside:
    topology = parse_topology(TOPOLOGY, "relay.yaml")
    return await Beside.start(await testbed_factory(topology), topology)


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to LND's own route from Alice over Bob to Carol."""

    amount: int = AMOUNT
    fee: int = 0
    """msat on top."""
    forwarder_delta: int = 0
    """Blocks on top, for Bob."""
    final_delta: int = 0
    """Blocks on top, for Carol."""

    def apply(self, route: Route) -> Route:
        first, last = route.hops
        fee = first.fee_msat + self.fee
        expiry = last.expiry + self.final_delta
        return replace(
            route,
            hops=(
                replace(first, fee_msat=fee, amount_msat=self.amount, expiry=expiry),
                replace(last, amount_msat=self.amount, expiry=expiry),
            ),
            total_amount_msat=self.amount + fee,
            total_time_lock=route.total_time_lock + self.final_delta + self.forwarder_delta,
            payment_total_msat=self.amount,
        )


def expected(beside: Beside, edges: tuple[int, int], route: Route, height: int) -> tuple[int, int]:
    """Code and index of the node that refuses, by the kernels; -1 for both if nobody does."""
    liquidity, policy = beside.liquidity, beside.network.policy
    first, last = route.hops
    sent, locked = route.total_amount_msat, route.total_time_lock
    code = check_send(liquidity, policy, edges[0], sent, locked, height)
    if code != ACCEPTED:
        return code, 0
    add_htlc(liquidity, edges[0], sent)
    request = ForwardRequest(*edges, sent, last.amount_msat, locked, first.expiry)
    code, _, _ = check_forward(liquidity, policy, request, height, 0.0)
    if code != ACCEPTED:
        fail_htlc(liquidity, edges[0], sent)
        return code, 1
    total = route.payment_total_msat
    code = check_receive(last.amount_msat, total, total, last.expiry, FINAL_DELTA, height)
    if code != ACCEPTED:
        fail_htlc(liquidity, edges[0], sent)
        return code, 2
    add_htlc(liquidity, edges[1], last.amount_msat)
    for edge, amount in zip(edges, (sent, last.amount_msat), strict=True):
        settle_htlc(liquidity, edge, amount)
    return -1, -1


SETTLED = (-1, -1)
CHANGES = {
    "as it is": (Change(), SETTLED),
    "least fee": (Change(fee=-1), (FailureCode.FEE_INSUFFICIENT, 1)),
    "more fee": (Change(fee=1), SETTLED),
    "loss": (Change(fee=-100_000), (FailureCode.FEE_INSUFFICIENT, 1)),
    "fee before time lock": (
        Change(fee=-1, forwarder_delta=-1),
        (FailureCode.FEE_INSUFFICIENT, 1),
    ),
    "time lock": (Change(forwarder_delta=-1), (FailureCode.INCORRECT_CLTV_EXPIRY, 1)),
    "smallest": (Change(amount=3_000), SETTLED),
    "too small": (Change(amount=2_999), (FailureCode.AMOUNT_BELOW_MINIMUM, 1)),
    "too large": (
        Change(amount=150_000_001, fee=200_000),
        (FailureCode.TEMPORARY_CHANNEL_FAILURE, 1),
    ),
    "more than the sender has": (
        Change(amount=254_000_000),
        (FailureCode.TEMPORARY_CHANNEL_FAILURE, 0),
    ),
    "too small for the sender": (
        Change(amount=1_000, fee=-9_500),
        (FailureCode.AMOUNT_BELOW_MINIMUM, 0),
    ),
    "late": (Change(final_delta=2016 - 140), SETTLED),
    "too late": (Change(final_delta=2016 - 139), (FailureCode.EXPIRY_TOO_FAR, 0)),
    "soon for the receiver": (
        Change(final_delta=-1),
        (FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS, 2),
    ),
    "soon for the forwarder": (Change(final_delta=-77), (FailureCode.EXPIRY_TOO_SOON, 1)),
    "not as soon": (
        Change(final_delta=-76),
        (FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS, 2),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_refusals_are_the_same(relay: Beside, name: str) -> None:
    change, answer = CHANGES[name]
    route = change.apply(await relay.route([ALICE_BOB, BOB_CAROL], AMOUNT))
    height = (await relay.source(ALICE_BOB).info()).block_height
    assert await relay.attempt(ALICE_BOB, route) == answer
    assert expected(relay, (ALICE_BOB, BOB_CAROL), route, height) == answer
    await relay.wait_pending(ALICE_BOB)
    await relay.wait_pending(BOB_CAROL)
    assert await relay.balances() == relay.expected_balances()


async def test_the_forwarders_balance_decides_to_the_msat(relay: Beside) -> None:
    most = bandwidth(relay.liquidity, BOB_CAROL)
    route = await relay.route([ALICE_BOB, BOB_CAROL], AMOUNT)
    for amount, answer in (
        (most + 1, (FailureCode.TEMPORARY_CHANNEL_FAILURE, 1)),
        (most, SETTLED),
        (3_000, (FailureCode.TEMPORARY_CHANNEL_FAILURE, 1)),
    ):
        changed = Change(amount=amount, fee=200_000).apply(route)
        height = (await relay.source(ALICE_BOB).info()).block_height
        assert await relay.attempt(ALICE_BOB, changed) == answer
        assert expected(relay, (ALICE_BOB, BOB_CAROL), changed, height) == answer
        await relay.wait_pending(ALICE_BOB)
        await relay.wait_pending(BOB_CAROL)
        assert await relay.balances() == relay.expected_balances()


async def test_nothing_goes_back_over_the_channel_by_which_it_came(relay: Beside) -> None:
    route = await relay.route([ALICE_BOB], 5_000_000)
    alice = relay.testbed.nodes["alice"].key
    last = replace(route.hops[0], target=alice, fee_msat=0)
    first = replace(route.hops[0], fee_msat=100_000)
    route = replace(
        route,
        hops=(first, last),
        total_amount_msat=5_100_000,
        total_time_lock=route.total_time_lock + 80,
        payment_total_msat=5_000_000,
    )
    height = (await relay.source(ALICE_BOB).info()).block_height
    answer = (FailureCode.TEMPORARY_CHANNEL_FAILURE, 1)
    assert await relay.attempt(ALICE_BOB, route) == answer
    assert expected(relay, (ALICE_BOB, BOB_ALICE), route, height) == answer


async def test_a_forwarder_takes_any_of_its_channels_to_the_next_node(
    testbed_factory: NetworkFactory,
) -> None:
    """The fact that `check_forward` rests its draw on: the route's own channel is only a hint."""
    topology = parse_topology(TOPOLOGY, "relay.yaml")
    testbed = await testbed_factory(topology)
    beside = await Beside.start(testbed, topology)
    bob, carol = testbed.client("bob"), testbed.nodes["carol"].key
    await bob.batch_open_channels([ChannelOpening(peer=carol, capacity_sat=100_000)])
    await testbed.mine(ANNOUNCEMENT_BLOCKS)

    async def balances() -> dict[int, int]:
        channels = await bob.channels(active_only=True)
        return {each.scid: each.local_balance_msat for each in channels if each.peer == carol}

    async def both_active() -> bool:
        return len(await balances()) == 2

    await wait_until(both_active, timeout=SECONDS, complaint=lambda: "the channel is not active")
    before = await balances()
    route = await beside.route([ALICE_BOB, BOB_CAROL], 1_000_000)
    # More than the policies of either ask for.
    route = Change(amount=1_000_000, fee=10_000, forwarder_delta=80).apply(route)
    for _ in range(24):
        assert await beside.attempt(ALICE_BOB, route) == SETTLED
    await beside.wait_pending(ALICE_BOB)
    await testbed.wait_quiet()
    used = {scid: before[scid] - left for scid, left in (await balances()).items()}
    assert sum(used.values()) == 24_000_000
    # With equal chances, all by one channel happens once in eight million runs.
    assert min(used.values()) > 0
