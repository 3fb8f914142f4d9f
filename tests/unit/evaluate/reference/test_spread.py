"""Our copy of simple_spread is mpe2's, step by step; what simple rules reach on mpe2 itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lnagents.evaluate.reference import mpe
from lnagents.evaluate.reference.spread import (
    AGENTS,
    CHOICES,
    NEIGHBOUR_FEATURES,
    STEPS,
    SpreadTask,
    neighbourhood,
)
from lnagents.learn.task import Actions, Seen, StepResult
from lnagents.model.errors import LnagentsError

EPISODES = 40
CLOSE = 1e-6


def acted(choice: Any) -> Actions:
    choice = np.asarray(choice, np.int64)
    return Actions(np.zeros((*choice.shape, 0, 0), np.float32), choice)


def placed_as(task: SpreadTask, worlds: list[Any]) -> Seen:
    """Begin where mpe2's worlds are."""

    def of(kind: str, what: str) -> Any:
        entities = [[getattr(one.state, what) for one in getattr(world, kind)] for world in worlds]
        return np.array(entities).transpose(1, 2, 0)

    return task.place(of("agents", "p_pos"), of("agents", "p_vel"), of("landmarks", "p_pos"))


def towards_each_other(seen: Seen) -> Any:
    """Choices that press all agents together, so that contact forces matter."""
    others = seen.whole[..., 10:14].reshape(*seen.whole.shape[:2], 2, 2).mean(-2)
    along_y = np.abs(others[..., 1]) > np.abs(others[..., 0])
    longer = np.where(along_y, others[..., 1], others[..., 0])
    return 1 + 2 * along_y + (longer > 0)


@pytest.mark.parametrize("crowded", [False, True])
def test_observations_and_rewards_are_those_of_mpe2(crowded: bool) -> None:
    envs = [mpe.simple_spread() for _ in range(EPISODES)]
    names = envs[0].possible_agents
    shown = [env.reset(seed=seed)[0] for seed, env in enumerate(envs)]
    task = SpreadTask(EPISODES)
    seen = placed_as(task, [env.unwrapped.world for env in envs])
    rng = np.random.default_rng(0)
    touched = 0.0
    for step in range(STEPS):
        expected = [[one[name] for name in names] for one in shown]
        np.testing.assert_allclose(seen.whole, np.array(expected), rtol=CLOSE, atol=CLOSE)
        chosen = rng.integers(len(CHOICES), size=(EPISODES, AGENTS))
        if crowded:
            chosen = np.where(rng.random(chosen.shape) < 0.8, towards_each_other(seen), chosen)
        result = task.step(acted(chosen))
        seen = result.seen
        rewards = []
        for place, env in enumerate(envs):
            actions = dict(zip(names, chosen[place].tolist(), strict=True))
            shown[place], reward, ended, cut, _ = env.step(actions)
            rewards.append([reward[name] for name in names])
            assert not any(ended.values())
            assert all(cut.values()) == result.over == (step == STEPS - 1)
        np.testing.assert_allclose(result.rewards, np.array(rewards), rtol=CLOSE, atol=CLOSE)
        touched += float(result.measures["collisions"].mean())
    assert touched / STEPS > (0.2 if crowded else 0.02)
    assert not task.shape.final  # cut off, not ended


def test_the_joint_state_tells_all_that_the_future_depends_on() -> None:
    task = SpreadTask(2)
    task.reset([3, 4])
    for _ in range(4):
        seen = task.step(acted(np.full((2, AGENTS), 2))).seen
    state = dict(zip(task.shape.state_features, seen.state[1, 0].tolist(), strict=True))
    for agent in range(AGENTS):
        own = dict(zip(task.shape.whole_features, seen.whole[1, agent].tolist(), strict=True))
        for axis in ("x", "y"):
            assert state[f"agent{agent}_velocity_{axis}"] == own[f"velocity_{axis}"]
            assert state[f"agent{agent}_{axis}"] == own[axis]
            for place in range(AGENTS):
                there = state[f"landmark{place}_{axis}"] - own[axis]
                assert own[f"landmark{place}_{axis}"] == pytest.approx(there, abs=1e-6)


def test_the_neighbourhood_is_where_others_are_and_how_they_moved() -> None:
    task = SpreadTask(1)
    position = np.array([[[0.0], [0.0]], [[0.5], [0.0]], [[0.5], [1.0]]])
    velocity = np.array([[[0.0], [0.0]], [[1.0], [0.0]], [[0.0], [-2.0]]])
    seen = task.place(position, velocity, np.zeros_like(position))
    np.testing.assert_allclose(seen.neighbours[0, 0], [0.5, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(seen.neighbours[0, 1], [-0.25, 0.5, 0.0, 0.0])
    seen = task.step(acted(np.zeros((1, AGENTS)))).seen
    # The means of (0.1, 0) and (0, -0.2), as of what the first agent sees while it stays.
    moved = dict(zip(NEIGHBOUR_FEATURES, seen.neighbours[0, 0].tolist(), strict=True))
    assert moved == pytest.approx({"x": 0.55, "y": 0.4, "x_change": 0.05, "y_change": -0.1})
    again = task.reset([1])
    assert not again.neighbours[..., 2:].any()
    np.testing.assert_array_equal(again.neighbours, neighbourhood(again.whole, None))


def test_episodes_depend_on_seed_and_actions_alone() -> None:
    first, second = SpreadTask(4), SpreadTask(4)
    second.reset(range(9, 13))
    second.step(acted(np.ones((4, AGENTS))))
    lived: list[list[StepResult]] = []
    for task in (first, second):
        rng = np.random.default_rng(2)
        task.reset(range(5, 9))
        lived.append(
            [task.step(acted(rng.integers(5, size=(4, AGENTS)))) for _ in range(task.shape.steps)]
        )
    for one, other in zip(*lived, strict=True):
        np.testing.assert_array_equal(one.seen.whole, other.seen.whole)
        np.testing.assert_array_equal(one.seen.state, other.seen.state)
        np.testing.assert_array_equal(one.rewards, other.rewards)
    with pytest.raises(RuntimeError, match="no episodes are under way"):
        first.step(acted(np.zeros((4, AGENTS))))


def test_what_was_seen_is_kept_as_it_was() -> None:
    task = SpreadTask(2)
    seen = task.reset([0, 1])
    copies = [one.copy() for one in (seen.whole, seen.neighbours, seen.state)]
    task.step(acted(np.ones((2, AGENTS))))
    for before, after in zip(copies, (seen.whole, seen.neighbours, seen.state), strict=True):
        np.testing.assert_array_equal(before, after)


def test_rules_on_mpe2_are_as_good_as_is_known() -> None:
    """Random: about -80.5; straight to landmarks of their own: about -23.9 and a little better."""
    random = mpe.play(mpe.at_random(0), 80, seed=0)
    greedy = mpe.play(mpe.greedy, 80, seed=0)
    assert random.shape == greedy.shape == (80,)
    assert random.mean() == pytest.approx(-80.5, abs=7.0)
    assert greedy.mean() == pytest.approx(-23.0, abs=2.5)
    np.testing.assert_array_equal(mpe.play(mpe.greedy, 3, seed=49), greedy[49:52])


def test_without_mpe2_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mpe2", None)
    with pytest.raises(LnagentsError, match="mpe2 is missing: python -m pip install mpe2"):
        mpe.simple_spread()
