"""One environment, two worlds: the same decisions and payments show agents the same on both."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import pytest

from lnagents.env.conformance import ROUNDING_MSAT
from lnagents.env.encoding import encode
from lnagents.env.features import FloatArray
from lnagents.env.live_world import LiveWorld
from lnagents.env.twin_world import TwinTimes, TwinWorld
from lnagents.env.world import RoundPayment, World
from lnagents.model.units import NodeKey
from lnagents.model.view import ChannelDecision, ChannelView, NodeDecision
from lnagents.model.workload import PaymentIntent
from lnagents.testbed import load_topology

ROUND_SECONDS = 6.0
PAYMENTS = 12
"""Each of them is over when the next one begins: half a second is enough for three hops."""

Outcome: TypeAlias = tuple[bool, int, int]
"""Settled, fee in msat, failed attempts."""

Counts: TypeAlias = tuple[int, int, int]
"""Payments that settled and failed, and failed attempts."""


@pytest.fixture(scope="module", name="worlds")
def _worlds() -> Iterator[tuple[LiveWorld, TwinWorld]]:
    topology = load_topology("default")
    times = TwinTimes(pay=ROUND_SECONDS)
    with LiveWorld(topology, round_seconds=ROUND_SECONDS) as live:
        yield live, TwinWorld.of_topology(topology, times=times)


def by_names(world: World) -> dict[tuple[str, str], ChannelView]:
    """All channels by their node's and their peer's name; nobody has two with the same peer."""
    names: dict[NodeKey, str] = {key: name for name, key in world.nodes.items()}
    return {
        (names[key], names[channel.peer]): channel
        for key, view in world.observe().items()
        for channel in view.channels
    }


def play(world: World, seed: int) -> tuple[list[Outcome], dict[str, Counts]]:
    """Fees of which no two are alike, so that nothing is left to chance, then payments."""
    world.reset(seed)
    rng = random.Random(seed)
    channels = by_names(world)
    decisions: dict[str, dict[int, ChannelDecision]] = {name: {} for name in world.agents}
    for name, peer in sorted(channels):
        decisions[name][channels[name, peer].scid] = ChannelDecision(
            fee_rate_ppm=rng.randrange(1, 900), base_fee_msat=rng.randrange(1, 2_000)
        )
    world.apply({world.agents[name]: NodeDecision(own) for name, own in decisions.items()})
    payments = []
    for index in range(PAYMENTS):
        source, destination = rng.sample(sorted(world.nodes), 2)
        amount = rng.randrange(100_000, 2_400_000) * 1_000
        at = index * ROUND_SECONDS / PAYMENTS
        # Some of these limits are too low for any route.
        limit = amount * rng.randrange(100, 3_000) // 1_000_000
        payments.append(RoundPayment(PaymentIntent(index, at, source, destination, amount, limit)))
    outcomes = world.run(payments)
    counted = {
        name: (view.payments_settled, view.payments_failed, view.failed_attempts)
        for name, view in zip(world.agents, world.observe().values(), strict=True)
    }
    assert any(one.failed_attempts for one in outcomes)
    return [(one.settled, one.fee_msat, one.failed_attempts) for one in outcomes], counted


def arrays(world: World, name: str) -> tuple[FloatArray, dict[str, FloatArray]]:
    """What the agent's actor is given: of the node, and of each channel by its peer's name."""
    names = {key: other for other, key in world.nodes.items()}
    view = world.observe()[world.agents[name]]
    observation = encode(view)
    rows = zip(view.channels, observation.channels, strict=True)
    return observation.node, {names[channel.peer]: row for channel, row in rows}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_agents_see_the_same_in_both(worlds: tuple[LiveWorld, TwinWorld], seed: int) -> None:
    live, twin = worlds
    assert play(live, seed) == play(twin, seed)
    in_live, in_twin = by_names(live), by_names(twin)
    assert in_live.keys() == in_twin.keys()
    for place, channel in in_live.items():
        other = in_twin[place]
        assert abs(channel.local_balance_msat - other.local_balance_msat) <= ROUNDING_MSAT, place
        assert abs(channel.flow.received_msat - other.flow.received_msat) <= ROUNDING_MSAT, place
        for name in ("forwarded_in_msat", "forwarded_out_msat", "fees_earned_msat", "sent_msat"):
            assert getattr(channel.flow, name) == getattr(other.flow, name), (place, name)
        assert channel.flow.forwards == other.flow.forwards, place
        assert channel.flow.failed_forwards == other.flow.failed_forwards, place
        assert channel.competing_ppm == other.competing_ppm, place
    # So do the arrays that actors are given.
    for name in live.agents:
        (ours, our_rows), (theirs, their_rows) = arrays(live, name), arrays(twin, name)
        assert np.allclose(ours, theirs, atol=1e-4), name
        assert our_rows.keys() == their_rows.keys()
        for peer, row in our_rows.items():
            assert np.allclose(row, their_rows[peer], atol=1e-4), (name, peer)
