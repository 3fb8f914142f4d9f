"""A real node's mission control after payments of all fates is what the twin makes of the same."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import replace

import numpy as np

from lnagents.lnd import LndClient
from lnagents.model.payment import Attempt, AttemptStatus, FailureCode, Route
from lnagents.model.topology import parse_topology
from lnagents.testbed.pytest_fixtures import NetworkFactory
from lnagents.twin.memory import NEVER, Memory, load_sender, make_memory, results_of
from lnagents.twin.mission import report_failure, report_success
from lnagents.twin.probability import edge_probability
from lnagents.twin.settings import SenderSettings
from tests.integration.twin.beside import Beside

TOPOLOGY = """
name: lessons
policy: {base_fee_msat: 1000, fee_rate_ppm: 100}
nodes: [{name: alice}, {name: bob}, {name: carol}, {name: dave}, {name: erin}]
channels:
  - {from: alice, to: bob, capacity_sat: 2000000, local_fraction: 0.7}
  - {from: alice, to: carol, capacity_sat: 2000000, local_fraction: 0.6}
  - {from: bob, to: dave, capacity_sat: 500000, local_fraction: 0.2}
  - {from: carol, to: dave, capacity_sat: 900000, local_fraction: 0.4}
  - {from: bob, to: carol, capacity_sat: 400000, local_fraction: 0.5}
  - {from: dave, to: erin, capacity_sat: 700000, local_fraction: 0.4}
  - {from: carol, to: erin, capacity_sat: 300000, local_fraction: 0.3}
"""
SECONDS = 1.5
"""LND reports times in whole seconds, and a ledger's time is a bit later than its memory's."""


async def test_memory_and_estimates_are_those_of_lnd(testbed_factory: NetworkFactory) -> None:
    topology = parse_topology(TOPOLOGY, "lessons.yaml")
    beside = await Beside.start(await testbed_factory(topology), topology)
    alice = beside.testbed.client("alice")
    await alice.reset_mission_control()
    await _pay(beside, alice)
    payments = await alice.list_payments()
    attempts = sorted(
        (attempt for payment in payments for attempt in payment.attempts),
        key=lambda attempt: attempt.attempt_id,
    )
    network = beside.network
    memory = make_memory(network.nodes)
    for attempt in attempts:
        _report(beside, memory, attempt)
    codes = {attempt.failure.code for attempt in attempts if attempt.failure}
    assert codes == {
        FailureCode.TEMPORARY_CHANNEL_FAILURE,
        FailureCode.FEE_INSUFFICIENT,
        FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS,
    }

    keys = [beside.testbed.nodes[name].key for name in network.names]
    theirs = {
        (keys.index(pair.source), keys.index(pair.target)): pair
        for pair in await alice.mission_control()
    }
    ours = {(one.from_node, one.to_node): one for one in results_of(memory, 0)}
    assert set(ours) == set(theirs)
    for pair, one in ours.items():
        real = theirs[pair]
        assert (one.failed_amount, one.succeeded_amount) == (real.failed_msat, real.succeeded_msat)
        for mine, its in ((one.failed_at, real.failed_at), (one.succeeded_at, real.succeeded_at)):
            assert (mine == NEVER) == (its == 0)
            assert mine == NEVER or abs(mine - its) < SECONDS

    numbers = SenderSettings().numbers()
    load_sender(memory, 0)
    for edge in beside.edges:
        source, target = (
            int(node) for node in network.channel_nodes[edge >> 1][:: 1 - 2 * (edge & 1)]
        )
        for amount in (1_000_000, 150_000_000, 270_000_000):
            estimate = await alice.estimate(keys[source], keys[target], amount)
            capacity = int(network.capacity[edge >> 1])
            mine = edge_probability(
                memory, numbers, 0, source, target, amount, capacity, time.time()
            )
            # Half a second of an hour's half-life.
            assert abs(mine - estimate.probability) < 1e-4


async def _pay(beside: Beside, alice: LndClient) -> None:
    """Payments that arrive, that run into empty channels, and that are wrong in two ways."""
    draw = random.Random(11)
    for _ in range(16):
        receiver = beside.testbed.client(draw.choice(["bob", "carol", "dave", "erin"]))
        invoice = await receiver.add_invoice(draw.randint(20_000, 450_000) * 1_000)
        await alice.pay(invoice.payment_request, fee_limit_msat=10_000_000, timeout_seconds=20)
    carol, dave = (beside.testbed.nodes[name].key for name in ("carol", "dave"))
    for deficit in (1, 1, 0):
        # The second time in a minute a forwarder is not pardoned; the third has a wrong hash.
        route = await alice.build_route(
            5_000_000, [carol, dave], outgoing_scid=beside.scids[1], payment_addr=bytes(32)
        )
        await alice.send_to_route(secrets.token_hex(32), _cheaper(route, deficit))


def _cheaper(route: Route, deficit: int) -> Route:
    """The same with a first hop that is paid `deficit` msat too little."""
    first = route.hops[0]
    return replace(
        route,
        hops=(replace(first, fee_msat=first.fee_msat - deficit), *route.hops[1:]),
        total_amount_msat=route.total_amount_msat - deficit,
    )


def _report(beside: Beside, memory: Memory, attempt: Attempt) -> None:
    network = beside.network
    keys = [beside.testbed.nodes[name].key for name in network.names]
    edges, amounts = [], [attempt.route.total_amount_msat]
    for hop in attempt.route.hops:
        channel = beside.scids.index(hop.scid)
        target = keys.index(hop.target)
        edges.append(2 * channel + (0 if network.channel_nodes[channel, 1] == target else 1))
        amounts.append(hop.amount_msat)
    hops = len(edges)
    route = np.array(edges, dtype=np.int32), np.array(amounts[:hops], dtype=np.int64)
    numbers = SenderSettings().numbers()
    now = attempt.resolved_at
    assert now is not None
    if attempt.status is AttemptStatus.SETTLED:
        report_success(memory, numbers, network.channel_nodes, 0, *route, hops, now)
    else:
        assert attempt.failure is not None
        report_failure(
            memory,
            numbers,
            network.channel_nodes,
            0,
            *route,
            hops,
            attempt.failure.source_index,
            int(attempt.failure.code),
            now,
        )
