"""What the twin starts from is what real nodes report."""

from __future__ import annotations

import numpy as np
import pytest

from lnagents.model.topology import Topology, parse_topology
from lnagents.model.units import MSAT_PER_SAT
from lnagents.testbed.pytest_fixtures import NetworkFactory
from lnagents.twin.commitment import make_liquidity, reported_balance
from lnagents.twin.generate import mainnet_like
from lnagents.twin.loaders import from_topology
from lnagents.twin.sample import sample, to_topology
from lnagents.twin.settings import TwinSettings

TOPOLOGY = """
name: uneven
policy: {base_fee_msat: 7, fee_rate_ppm: 13}
nodes: [{name: a}, {name: b}, {name: c}, {name: d}]
channels:
  - {from: a, to: b, capacity_sat: 1234567, local_fraction: 0.3333}
  - from: c
    to: b
    capacity_sat: 16777215
    policy: {fee_rate_ppm: 250, inbound_base_fee_msat: -30, inbound_fee_rate_ppm: -120}
    reverse_policy: {min_htlc_msat: 2000, max_htlc_msat: 90000000, time_lock_delta: 40}
  - {from: c, to: d, capacity_sat: 54321, local_fraction: 1.0}
  - {from: d, to: a, capacity_sat: 2000001, local_fraction: 0.2}
"""


def sampled(seed: int) -> Topology:
    """A part of a network that looks like the public one, made fit for a testbed."""
    return to_topology(sample(mainnet_like(300, seed), 5, seed), f"sample-{seed}")


@pytest.mark.parametrize(
    "topology",
    [parse_topology(TOPOLOGY, "uneven.yaml"), sampled(1), sampled(2)],
    ids=lambda topology: topology.name,
)
async def test_the_twin_of_a_topology_is_what_its_nodes_report(
    testbed_factory: NetworkFactory, topology: Topology
) -> None:
    testbed = await testbed_factory(topology)
    network = from_topology(topology)
    liquidity = make_liquidity(network, TwinSettings().commitment)
    keys = [(await testbed.client(name).info()).key for name in network.names]
    source, target = network.edge_source(), network.edge_target()
    reported = np.array([reported_balance(liquidity, edge) for edge in range(len(source))])
    for node, name in enumerate(network.names):
        client = testbed.client(name)
        own = {channel.peer: channel for channel in await client.channels()}
        edges = np.flatnonzero(source == node)
        assert len(own) == len(edges)
        for edge in edges:
            channel = own[keys[target[edge]]]
            side = edge & 1
            assert channel.capacity_msat == network.capacity[edge >> 1]
            assert channel.initiator == (network.opener[edge >> 1] == side)
            assert channel.local_balance_msat == reported[edge] // MSAT_PER_SAT * MSAT_PER_SAT
            policy = (await client.channel(channel.scid)).edge_from(keys[node]).policy
            assert policy is not None
            assert tuple(network.policy[edge].tolist()) == (
                policy.base_fee_msat,
                policy.fee_rate_ppm,
                policy.inbound_base_fee_msat,
                policy.inbound_fee_rate_ppm,
                policy.min_htlc_msat,
                policy.max_htlc_msat,
                policy.time_lock_delta,
                policy.disabled,
            )
        assert (await client.channel_balances()).local_msat == reported[edges].sum()
