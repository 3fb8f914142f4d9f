"""The crowd: its rules, its reference values, and that looking around pays."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from lnagents.evaluate.reference.crowd import (
    CrowdTask,
    capacities,
    even_wait,
    least_wait,
    random_wait,
)
from lnagents.learn.settings import TrainSettings
from lnagents.learn.task import Actions
from lnagents.learn.trainer import Trainer


def acted(choice: Any) -> Actions:
    choice = np.asarray(choice, np.int64)
    return Actions(np.zeros((*choice.shape, 0, 0), np.float32), choice)


def columns(names: tuple[str, ...], values: Any) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def test_agents_wait_by_load_and_see_what_is_around_them() -> None:
    task = CrowdTask(2, agents=4, places=3)
    first = task.reset([5, 6])
    assert not first.whole.any()
    assert not first.neighbours.any()
    capacity = capacities([5, 6], 3)
    assert ((capacity >= 0.1) & (capacity <= 1.0)).all()
    result = task.step(acted([[0, 0, 0, 1], [2, 2, 2, 2]]))
    alone, together = 0.25 / capacity[0, 1], 0.75 / capacity[0, 0]
    np.testing.assert_allclose(result.rewards[0], [-together] * 3 + [-alone], rtol=1e-6)
    np.testing.assert_allclose(result.rewards[1], [-1.0 / capacity[1, 2]] * 4, rtol=1e-6)
    np.testing.assert_allclose(result.measures["wait"], -result.rewards.mean(1), rtol=1e-6)

    shape, seen = task.shape, result.seen
    assert columns(shape.whole_features, seen.whole[0, 3]) == pytest.approx(
        {
            "was_at_place0": 0.0,
            "was_at_place1": 1.0,
            "was_at_place2": 0.0,
            "waited": np.log1p(alone),
        }
    )
    # The one who is alone is told by nobody how long it takes there.
    assert columns(shape.neighbour_features, seen.neighbours[0, 3]) == pytest.approx(
        {
            "share_at_place0": 1.0,
            "share_at_place1": 0.0,
            "share_at_place2": 0.0,
            "wait_at_place0": np.log1p(together),
            "wait_at_place1": 0.0,
            "wait_at_place2": 0.0,
        }
    )
    state = columns(shape.state_features, seen.state[0, 0])
    assert state["capacity_of_place1"] == pytest.approx(capacity[0, 1])
    assert state["share_at_place0"] == 0.75


def test_episodes_depend_on_seed_and_actions_alone() -> None:
    first, second = CrowdTask(3), CrowdTask(3)
    second.reset([1, 2, 3])
    lived = []
    for task in (first, second):
        rng = np.random.default_rng(2)
        task.reset([7, 8, 9])
        lived.append([task.step(acted(rng.integers(5, size=(3, 50)))) for _ in range(20)])
    for one, other in zip(*lived, strict=True):
        np.testing.assert_array_equal(one.rewards, other.rewards)
        np.testing.assert_array_equal(one.seen.neighbours, other.seen.neighbours)
    assert [one.over for one in lived[0]] == [False] * 19 + [True]
    with pytest.raises(RuntimeError, match="no episodes are under way"):
        first.step(acted(np.zeros((3, 50))))


def test_the_optimum_is_that_of_trying_all() -> None:
    capacity = np.exp(np.random.default_rng(0).uniform(np.log(0.1), 0.0, (20, 3)))
    agents = 5
    every = [np.bincount(one, minlength=3) for one in itertools.product(range(3), repeat=agents)]
    waits = (np.square(np.array(every))[:, None] / capacity).sum(-1) / agents**2
    np.testing.assert_allclose(least_wait(capacity, agents), waits.min(0))


def test_in_the_optimum_nobody_gains_much_by_going_elsewhere() -> None:
    """Less than one agent more or less makes: the optimum is the equilibrium, too."""
    capacity = np.exp(np.random.default_rng(3).uniform(np.log(0.1), 0.0, (50, 5)))
    many = 5_000
    equilibrium = 1.0 / capacity.sum(-1)
    np.testing.assert_allclose(least_wait(capacity, many), equilibrium, rtol=1e-3)


def test_what_is_expected_of_chance_is_what_chance_brings() -> None:
    task = CrowdTask(4_000, agents=10, places=4)
    rng = np.random.default_rng(1)
    capacity = capacities(range(4_000), 4)
    by_capacity = capacity / capacity.sum(-1, keepdims=True)
    for expected, share in (
        (random_wait, np.full_like(capacity, 0.25)),
        (even_wait, by_capacity),
    ):
        task.reset(range(4_000))
        drawn = rng.random((4_000, 10, 1)) > share.cumsum(-1)[:, None, :-1]
        waits = -task.step(acted(drawn.sum(-1))).rewards
        assert waits.mean() == pytest.approx(expected(capacity, 10).mean(), rel=0.02)


@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "mean-field"])
def test_learners_come_to_wait_less(algorithm: str) -> None:
    task = CrowdTask(8, agents=12, places=3, steps=8)
    settings = TrainSettings.model_validate(
        {"algorithm": algorithm, "hidden": 16, "learning_rate": 5e-3, "iterations": 30}
    )
    trainer = Trainer(task, settings, 0)
    for _ in range(30):
        trainer.iterate()
    seen, waits = task.reset(range(90, 98)), []
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        result = task.step(trainer.policy.act(seen, generator))
        seen = result.seen
        waits.append(-result.rewards.mean(1))
    later = np.mean(waits[2:], axis=0)
    random, least = (
        one(capacities(range(90, 98), 3), 12).mean() for one in (random_wait, least_wait)
    )
    gained = (random - later.mean()) / (random - least)
    assert gained > (0.3 if algorithm != "mean-field" else 0.5)
