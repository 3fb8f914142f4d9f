"""The live world: what every world does, and what only real nodes can do to it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from lnagents.env.conformance import CHECKS, ROUNDING_MSAT, Check
from lnagents.env.fees import FeeBounds
from lnagents.env.lightning import LightningEnv
from lnagents.env.live_world import LiveWorld
from lnagents.env.payments import RandomDemand
from lnagents.env.settings import EnvSettings
from lnagents.env.world import RoundPayment, World
from lnagents.model.payment import PaymentOutcome
from lnagents.model.view import ChannelDecision, NodeDecision
from lnagents.model.workload import AmountSpec, PaymentIntent
from lnagents.testbed import Testbed, load_topology
from lnagents.testbed.pytest_fixtures import NetworkFactory

ROUND_SECONDS = 0.3
OVERTIME_SECONDS = 4.0
SLACK_SECONDS = 10.0
"""What a round may take beyond that: looks at nodes that do not answer, on a busy machine."""

PATIENCE_SECONDS = 60.0
"""For nodes that come back."""


@pytest.fixture(scope="module", name="world")
def _world() -> Iterator[LiveWorld]:
    with LiveWorld(
        load_topology("default"), round_seconds=ROUND_SECONDS, overtime_seconds=OVERTIME_SECONDS
    ) as world:
        yield world


def payments(*pairs: tuple[str, str], amount_msat: int = 5_000_000) -> list[RoundPayment]:
    return [
        RoundPayment(PaymentIntent(index, 0.0, source, destination, amount_msat, amount_msat // 20))
        for index, (source, destination) in enumerate(pairs)
    ]


def timed_round(world: World, requests: list[RoundPayment]) -> list[PaymentOutcome]:
    """Run a round, which has to end in time whatever happens to the nodes."""
    began = time.monotonic()
    outcomes = world.run(requests)
    assert time.monotonic() - began < ROUND_SECONDS + OVERTIME_SECONDS + SLACK_SECONDS
    return outcomes


def all_active(world: LiveWorld) -> bool:
    return all(channel.active for view in world.observe().values() for channel in view.channels)


def play_until_healed(world: LiveWorld) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not all_active(world):
        assert time.monotonic() < end
        world.run([])


def test_a_live_world_is_a_world(world: LiveWorld) -> None:
    assert isinstance(world, World)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_does_what_every_world_does(check: Check, world: LiveWorld) -> None:
    check(world)


def test_a_reset_brings_back_every_balance_while_the_nodes_run_on(world: LiveWorld) -> None:
    world.reset(1)
    began = {one.scid: one for one in world.truth()}
    count = world.with_testbed(_payments_of_alice)
    pairs = [pair for pair in itertools.permutations(world.nodes, 2) if pair != ("alice", "bob")]
    outcomes = world.run(payments(*pairs, amount_msat=90_000_000))
    assert sum(one.settled for one in outcomes) > len(pairs) / 2
    assert any(
        abs(one.balance1_msat - began[one.scid].balance1_msat) > 50_000_000 for one in world.truth()
    )
    world.reset(2)
    for one in world.truth():
        assert abs(one.balance1_msat - began[one.scid].balance1_msat) <= ROUNDING_MSAT
        assert abs(one.balance2_msat - began[one.scid].balance2_msat) <= ROUNDING_MSAT
    # A snapshot would have taken the nodes' memory of payments back, too.
    assert world.with_testbed(_payments_of_alice) > count


async def _payments_of_alice(testbed: Testbed) -> int:
    return len(await testbed.client("alice").list_payments())


def test_a_node_may_restart_in_the_middle_of_an_episode(world: LiveWorld) -> None:
    world.reset(3)
    assert all(one.settled for one in timed_round(world, payments(("alice", "carol"))))
    world.with_testbed(lambda testbed: testbed.backend.kill(["carol"]))
    outcomes = timed_round(
        world, payments(("bob", "grace"), ("carol", "grace"), ("alice", "carol"))
    )
    assert [one.settled for one in outcomes] == [True, False, False]
    assert all(one.reason for one in outcomes[1:])
    carol = world.agents["carol"]
    view = world.observe()[carol]
    assert not any(channel.active for channel in view.channels)
    assert view.payments_failed == 1
    others = world.observe()[world.agents["alice"]]
    assert any(not channel.active for channel in others.channels if channel.peer == carol)
    # Nobody can carry this out now, and nobody has to wait for it.
    scid = view.channels[0].scid
    world.apply({carol: NodeDecision({scid: ChannelDecision(fee_rate_ppm=17)})})
    world.with_testbed(lambda testbed: testbed.backend.start(["carol"]))
    play_until_healed(world)
    view = world.observe()[carol]
    assert view.channels[0].policy.fee_rate_ppm != 17
    world.apply({carol: NodeDecision({scid: ChannelDecision(fee_rate_ppm=18)})})
    outcomes = timed_round(world, payments(("carol", "grace"), ("alice", "carol")))
    assert all(one.settled for one in outcomes)
    view = world.observe()[carol]
    assert view.payments_settled == 1
    assert sum(channel.flow.sent_msat for channel in view.channels) == 5_000_000
    assert view.channels[0].policy.fee_rate_ppm == 18
    world.reset(4)
    assert world.observe()[carol].channels[0].policy.fee_rate_ppm == 1


def test_a_frozen_node_cannot_hold_up_a_round(world: LiveWorld) -> None:
    world.reset(5)
    world.with_testbed(lambda testbed: testbed.backend.pause(["dave"]))
    try:
        outcomes = timed_round(world, payments(("alice", "dave"), ("dave", "grace")))
        assert not any(one.settled for one in outcomes)
        assert not any(channel.active for channel in world.observe()[world.agents["dave"]].channels)
    finally:
        world.with_testbed(lambda testbed: testbed.backend.resume(["dave"]))
    play_until_healed(world)
    assert all(one.settled for one in timed_round(world, payments(("alice", "dave"))))


def test_a_reset_heals_what_payments_cannot(world: LiveWorld) -> None:
    world.reset(6)
    before = world.truth()
    world.run(payments(("alice", "erin")))
    world.with_testbed(lambda testbed: testbed.backend.kill(["erin"]))
    world.reset(7)
    assert all_active(world)
    for was, now in zip(before, world.truth(), strict=True):
        assert abs(was.balance1_msat - now.balance1_msat) <= ROUNDING_MSAT
    assert all(one.settled for one in timed_round(world, payments(("alice", "erin"))))


def test_an_episode_of_the_environment(world: LiveWorld) -> None:
    settings = EnvSettings(
        rounds=4,
        bounds=FeeBounds(max_inbound_discount_ppm=100),
        preferences=True,
        admission=True,
        routes=3,
    )
    demand = RandomDemand(
        payments_per_round=12,
        amount=AmountSpec(median_sat=20_000, max_sat=100_000),
        priority_share=0.5,
        hop_by_hop_share=0.25,
    )
    env = LightningEnv(world, demand, settings)
    for seed in (1, 2):
        observations, _ = env.reset(seed=seed)
        settled = rounds = 0.0
        while env.agents:
            for agent, observation in observations.items():
                assert env.observation_space(agent).contains(observation), agent
            actions = {agent: env.action_space(agent).sample() for agent in env.agents}
            observations, rewards, _, _, infos = env.step(actions)
            assert set(rewards) == set(infos) == set(world.agents)
            settled += sum(info["payments_settled"] for info in infos.values())
            rounds += 1
        assert rounds == settings.rounds
        assert settled > rounds
        assert env.state().shape == env.state_space.shape


async def test_a_network_that_runs_already_is_found_and_left_running(
    testbed_factory: NetworkFactory,
) -> None:
    line = await testbed_factory("line5")
    assert (await line.pay("alice", "erin", 7_000_000)).settled
    with LiveWorld(line, agents=["bob", "carol"], round_seconds=0.1) as world:
        assert world.testbed_name == line.name
        assert list(world.agents) == ["bob", "carol"]
        assert len(world.nodes) == 5
        world.reset(0)
        (outcome,) = world.run(payments(("alice", "erin")))
        assert outcome.settled
        kept = world.snapshot()
        world.restore(kept)
        with pytest.raises(TypeError, match="no snapshot of a live world"):
            world.restore(object())
        with pytest.raises(ValueError, match="no node 'nobody'"):
            world.run(payments(("alice", "nobody")))
    world.close()
    assert (await line.pay("alice", "erin", 7_000_000)).settled
    with pytest.raises(ValueError, match="no node 'zoe'"):
        LiveWorld(line, agents=["zoe"])
    assert (await line.pay("alice", "erin", 7_000_000)).settled
    await line.down()
