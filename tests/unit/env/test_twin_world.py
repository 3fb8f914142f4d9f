from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lnagents.env.lightning import LightningEnv
from lnagents.env.payments import RandomDemand
from lnagents.env.settings import EnvSettings
from lnagents.env.twin_views import key_of
from lnagents.env.twin_world import TwinTimes, TwinWorld
from lnagents.model.topology import Profile, Topology
from lnagents.model.view import ChannelDecision, NodeDecision
from lnagents.testbed import load_topology
from lnagents.twin.network import FEE_RATE
from lnagents.twin.settings import GossipSettings
from tests.unit.env.worlds import LARGE, line_network, line_world, payment, small_network


def observed(world: TwinWorld, settings: EnvSettings) -> dict[str, dict[str, np.ndarray]]:
    env = LightningEnv(world, RandomDemand(10, LARGE), settings)
    return env.reset(seed=6)[0]


def test_nobody_sees_the_balances_of_others() -> None:
    """Moving money between two other nodes changes nothing in what an agent sees before it acts."""
    network = small_network()
    settings = EnvSettings(rounds=2, routes=3, choices=4)
    plain = observed(TwinWorld(network, ["n0", "n1", "n2"]), settings)
    for agent in ("n0", "n1", "n2"):
        place = network.names.index(agent)
        others = np.flatnonzero((network.channel_nodes != place).all(axis=1))
        balance = network.balance.copy()
        balance[others] = balance[others, ::-1]
        moved = replace(network, balance=balance)
        assert not np.array_equal(balance, network.balance)
        hidden = observed(TwinWorld(moved, ["n0", "n1", "n2"]), settings)
        for name, array in plain[agent].items():
            assert np.array_equal(array, hidden[agent][name]), name
        view, other = (
            TwinWorld(one, ["n0", "n1", "n2"]).observe()[key_of(agent)] for one in (network, moved)
        )
        assert view == other


def test_an_own_balance_is_seen() -> None:
    """So the test above could fail."""
    network = small_network()
    settings = EnvSettings(rounds=2)
    own = np.flatnonzero((network.channel_nodes == 0).any(axis=1))
    balance = network.balance.copy()
    balance[own] = balance[own, ::-1]
    seen = observed(TwinWorld(network, ["n0"]), settings)["n0"]["channels"]
    moved = observed(TwinWorld(replace(network, balance=balance), ["n0"]), settings)["n0"]
    assert not np.array_equal(seen, moved["channels"])


def test_outcomes_say_what_became_of_each_payment() -> None:
    world = line_world(3)
    far, near, too_large = (
        payment("n0", "n2", 10_000),
        payment("n1", "n0", 5_000, index=1, at=1.0),
        payment("n0", "n2", 17_000_000, index=2, at=2.0),
    )
    outcomes = world.run([far, near, too_large])
    assert [one.index for one in outcomes] == [0, 1, 2]
    assert [one.settled for one in outcomes] == [True, True, False]
    assert [one.reason for one in outcomes] == ["", "", "insufficient_balance"]
    assert [one.started_at for one in outcomes] == [0.0, 1.0, 2.0]
    assert outcomes[0].fee_msat > 0
    assert outcomes[1].fee_msat == 0
    views = world.observe()
    assert views[world.agents["n0"]].fees_paid_msat == outcomes[0].fee_msat
    assert views[world.agents["n0"]].payments_failed == 1
    earned = [c.flow.fees_earned_msat for c in views[world.agents["n1"]].channels]
    assert sum(earned) == outcomes[0].fee_msat


def test_a_node_that_is_down_takes_no_part() -> None:
    world = line_world(3)
    world.set_nodes_down(["n1"])
    (outcome,) = world.run([payment("n0", "n2", 1_000)])
    assert not outcome.settled
    views = world.observe()
    assert not any(channel.active for view in views.values() for channel in view.channels)
    key = world.agents["n0"]
    scid = views[key].channels[0].scid
    before = world.twin.policies()
    world.apply({key: NodeDecision({scid: ChannelDecision(fee_rate_ppm=777)})})
    assert np.array_equal(world.twin.policies(), before)
    world.set_nodes_down([])
    (outcome,) = world.run([payment("n0", "n2", 1_000)])
    assert outcome.settled
    with pytest.raises(KeyError, match="n9"):
        world.set_nodes_down(["n9"])


def test_fees_reach_gossip_late_on_mainnet_and_at_once_on_fast_networks() -> None:
    fast = load_topology("default")
    for profile, heard in ((Profile.FAST, True), (Profile.MAINNET, False)):
        topology: Topology = fast.model_copy(update={"profile": profile})
        world = TwinWorld.of_topology(topology, times=TwinTimes(pay=1.0, answer=1.0))
        (key, view), *others = world.observe().items()
        scid = view.channels[0].scid
        world.apply({key: NodeDecision({scid: ChannelDecision(fee_rate_ppm=4_321)})})
        world.run([])
        own = world.observe()[key].channels[0].policy
        assert own.fee_rate_ppm == 4_321
        told = []
        for other, _ in others:
            policy = world.observe()[other].graph.channels[scid].edge_from(key).policy
            assert policy is not None
            told.append(policy.fee_rate_ppm == 4_321)
        assert all(told) is heard


def test_agents_and_profile_come_from_the_topology() -> None:
    topology = load_topology("default")
    world = TwinWorld.of_topology(topology)
    assert list(world.agents) == [node.name for node in topology.nodes if node.agent]
    assert list(world.nodes) == [node.name for node in topology.nodes]
    mainnet = topology.model_copy(update={"profile": Profile.MAINNET})
    assert TwinWorld.of_topology(mainnet).twin.settings.gossip == GossipSettings.mainnet()


def test_keys_are_keys() -> None:
    key = "03" + "ab" * 32
    assert key_of(key) == key
    assert key_of("alice") == key_of("alice") != key_of("bob")
    assert len(key_of("alice")) == 66


def test_a_snapshot_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="not a snapshot of a twin's world"):
        line_world().restore(object())


@pytest.mark.parametrize(
    ("agents", "problem"),
    [
        (["n0", "x"], "the network has no node 'x'"),
        ([], "there must be one"),
        (["n0", "n0"], "each must be named once"),
    ],
)
def test_impossible_agents(agents: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        TwinWorld(line_network(), agents)


def test_impossible_times() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        TwinTimes(pay=-1.0)


def test_an_agents_fees_are_levels_around_what_it_found() -> None:
    world = line_world(2)
    rounds = world.rounds(EnvSettings().bounds)
    found = world.network.policy[:, FEE_RATE].copy()
    env = LightningEnv(world, RandomDemand(1), EnvSettings(rounds=20))
    env.reset(seed=0)
    for level in [1.0] * 8 + [0.0] * 8:
        action = {"fees": np.full(env.action_space("n0")["fees"].shape or (), level, np.float32)}
        env.step(dict.fromkeys(env.agents, action))
        if level == 1.0:
            assert (world.twin.policies()[:, FEE_RATE] > found).all()
    back = world.twin.policies()[:, FEE_RATE]
    assert (np.abs(back - found) <= 0.05 * (found + 10) + 1).all()
    assert rounds is not world.rounds(EnvSettings().bounds)
