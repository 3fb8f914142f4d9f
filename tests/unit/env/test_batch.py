from __future__ import annotations

import numpy as np
import pytest

from lnagents.env.arrays import ActionArrays
from lnagents.env.batch import BatchStep, LightningBatch
from lnagents.env.lightning import LightningEnv
from lnagents.env.payments import RandomDemand
from lnagents.env.reward import RewardMode
from lnagents.env.settings import EnvSettings
from tests.unit.env.worlds import LARGE, line_world, random_levels, small_world

SETTINGS = EnvSettings(rounds=4, mode=RewardMode.MIXED)
DEMAND = RandomDemand(20, LARGE)


def episode(batch: LightningBatch) -> list[BatchStep]:
    batch.reset(seed=3)
    rng = np.random.default_rng(4)
    steps: list[BatchStep] = []
    while not steps or not steps[-1].over:
        shape = (len(batch), batch.agents, batch.max_channels, 3)
        steps.append(batch.step(ActionArrays(random_levels(rng, shape))))
    return steps


def assert_same(one: list[BatchStep], other: list[BatchStep]) -> None:
    assert len(one) == len(other) == SETTINGS.rounds
    for first, second in zip(one, other, strict=True):
        assert np.array_equal(first.seen.channels, second.seen.channels)
        assert np.array_equal(first.seen.node, second.seen.node)
        assert np.array_equal(first.seen.terms, second.seen.terms)
        assert np.array_equal(first.rewards, second.rewards)


def test_threads_change_nothing() -> None:
    batches = [
        LightningBatch([small_world() for _ in range(3)], DEMAND, SETTINGS, threads=threads)
        for threads in (1, 2)
    ]
    results = [episode(batch) for batch in batches]
    assert_same(*results)
    assert results[0][-1].rewards.any()
    for batch in batches:
        batch.close()


def test_worlds_of_different_sizes_are_padded() -> None:
    batch = LightningBatch([line_world(4), small_world(4)], DEMAND, SETTINGS)
    assert batch.max_channels == small_world(4).max_channels > line_world(4).max_channels
    seen = batch.reset(seed=1)
    assert seen.channel_mask[0].sum() == 6  # a line of four: 1 + 2 + 2 + 1
    assert seen.channel_mask[1].sum() > 6
    step = episode(batch)[-1]
    assert not step.seen.channels[0, :, line_world(4).max_channels :].any()


def test_a_batch_of_one_is_the_environment() -> None:
    batch = LightningBatch([small_world()], DEMAND, SETTINGS)
    env = LightningEnv(small_world(), DEMAND, SETTINGS)
    seen = batch.reset(seed=9)
    observations, _ = env.reset(seed=9)
    rng = np.random.default_rng(0)
    while env.agents:
        for index, agent in enumerate(env.possible_agents):
            assert np.array_equal(seen.channels[0, index], observations[agent]["channels"])
            assert np.array_equal(seen.channel_mask[0, index], observations[agent]["channel_mask"])
            assert np.array_equal(seen.node[0, index], observations[agent]["node"])
        levels = random_levels(rng, (4, batch.max_channels, 3))
        actions = {a: {"fees": one} for a, one in zip(env.agents, levels, strict=True)}
        observations, rewards, *_ = env.step(actions)
        step = batch.step(ActionArrays(levels[None]))
        seen = step.seen
        assert step.rewards[0].tolist() == list(rewards.values())
    assert step.over


def test_between_episodes_nothing_can_be_done() -> None:
    batch = LightningBatch([small_world()], DEMAND, SETTINGS)
    with pytest.raises(RuntimeError, match="call reset"):
        batch.step(batch.no_actions())
    episode(batch)
    with pytest.raises(RuntimeError, match="call reset"):
        batch.step(batch.no_actions())


def test_impossible_batches() -> None:
    with pytest.raises(ValueError, match="the same number of agents"):
        LightningBatch([small_world(2), small_world(3)])
    with pytest.raises(ValueError, match="the same number of agents"):
        LightningBatch([])
    with pytest.raises(ValueError, match="a batch does not offer"):
        LightningBatch([small_world()], settings=EnvSettings(routes=2))
    with pytest.raises(ValueError, match="threads: 0 is less than 1"):
        LightningBatch([small_world()], threads=0)
    batch = LightningBatch([small_world()], DEMAND, SETTINGS)
    batch.reset(seed=0)
    with pytest.raises(ValueError, match="fees: the shape is"):
        batch.step(ActionArrays.zeros(4, batch.max_channels))
