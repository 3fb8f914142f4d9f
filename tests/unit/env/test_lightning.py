from __future__ import annotations

import importlib
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.utils import conversions

from lnagents.env import RewardMode, combine, reward
from lnagents.env.arrays import TERM_NAMES
from lnagents.env.flat import FlatLightningEnv
from lnagents.env.lightning import INFO_NAMES, LightningEnv
from lnagents.env.payments import RandomDemand
from lnagents.env.settings import EnvSettings
from lnagents.model.view import RewardTerms
from tests.unit.env.worlds import LARGE, small_world

with warnings.catch_warnings():
    # Where pygame is installed, PettingZoo's tests import a game of its own in a way that it has
    # itself deprecated.
    warnings.filterwarnings("ignore", "The old environment creation API", DeprecationWarning)
    # Without types.
    ZOO: Any = importlib.import_module("pettingzoo.test")
    ZOO_STATE: Any = importlib.import_module("pettingzoo.test.state_test")
TO_AEC: Any = conversions.parallel_to_aec

EVERYTHING = EnvSettings(rounds=6, preferences=True, admission=True, routes=3, choices=2)
DEMAND = RandomDemand(20, LARGE, priority_share=0.2, hop_by_hop_share=0.3)


def make(settings: EnvSettings | None = None, **arguments: Any) -> LightningEnv:
    return LightningEnv(small_world(), DEMAND, settings or EnvSettings(rounds=6), **arguments)


def sampled(env: LightningEnv) -> dict[str, dict[str, Any]]:
    return {agent: env.action_space(agent).sample() for agent in env.agents}


def seeded(env: LightningEnv, seed: int) -> None:
    for index, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(seed + index)


@contextmanager
def only_warnings_about_style() -> Iterator[None]:
    """Nodes have the names that their operators gave them, not `node_0`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="We recommend agents to be named")
        yield


@pytest.mark.parametrize("settings", [EnvSettings(rounds=6), EVERYTHING], ids=["fees", "all"])
def test_pettingzoos_parallel_api(settings: EnvSettings) -> None:
    ZOO.parallel_api_test(make(settings), num_cycles=20)


def test_pettingzoos_aec_api() -> None:
    with only_warnings_about_style():
        ZOO.api_test(TO_AEC(FlatLightningEnv(make())), num_cycles=30)


@pytest.mark.parametrize("settings", [EnvSettings(rounds=6), EVERYTHING], ids=["fees", "all"])
def test_pettingzoos_seeds(settings: EnvSettings) -> None:
    ZOO.parallel_seed_test(lambda: make(settings), num_cycles=6)
    ZOO.seed_test(lambda: TO_AEC(make(settings)), num_cycles=6)


def test_pettingzoos_performance_benchmark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs for five seconds, or until its clock says so."""
    clock = itertools.count()
    monkeypatch.setattr("time.time", lambda: next(clock) / 10)
    ZOO.performance_benchmark(TO_AEC(make()))
    assert "turns per second" in capsys.readouterr().out


def test_the_state_is_in_its_space() -> None:
    env = make()
    ZOO_STATE.test_state_space(env)
    env.reset(seed=3)
    while env.agents:
        assert env.state_space.contains(env.state())
        env.step(sampled(env))


@pytest.mark.parametrize("settings", [EnvSettings(rounds=6), EVERYTHING], ids=["fees", "all"])
def test_the_same_seed_gives_the_same_episode(settings: EnvSettings) -> None:
    def episode(env: LightningEnv) -> list[Any]:
        seeded(env, 5)
        steps: list[Any] = [env.reset(seed=9)]
        while env.agents:
            steps.append(env.step(sampled(env)))
        return steps

    env = make(settings)
    first = episode(env)
    assert data_equivalence(first, episode(env), exact=True)
    assert data_equivalence(first, episode(make(settings)), exact=True)


def test_episodes_differ_unless_they_are_seeded() -> None:
    env = make()
    env.reset(seed=1)
    rewards = []
    for _ in range(2):
        env.reset()
        zeros = sampled(env)
        for action in zeros.values():
            action["fees"][:] = 0.0
        rewards.append(env.step(zeros)[1])
    assert rewards[0] != rewards[1]


def test_observations_keep_to_their_spaces_and_to_themselves() -> None:
    env = make(EVERYTHING)
    seen, _ = env.reset(seed=2)
    kept: list[tuple[Any, Any]] = []
    while env.agents:
        for agent in env.agents:
            assert env.observation_space(agent).contains(seen[agent])
            kept.extend((array, array.copy()) for array in seen[agent].values())
        seen, rewards, *_ = env.step(sampled(env))
        assert all(np.isfinite(value) for value in rewards.values())
    assert all(np.array_equal(array, copy) for array, copy in kept)


def test_an_episode_is_truncated_and_does_not_terminate() -> None:
    env = make(EnvSettings(rounds=2))
    env.reset(seed=0)
    _, _, terminations, truncations, _ = env.step(sampled(env))
    assert not any(terminations.values())
    assert not any(truncations.values())
    _, _, terminations, truncations, _ = env.step(sampled(env))
    assert not any(terminations.values())
    assert all(truncations.values())
    assert env.agents == []
    with pytest.raises(RuntimeError, match="call reset"):
        env.step({})


@pytest.mark.parametrize("mode", list(RewardMode))
def test_rewards_are_made_of_the_terms_in_the_infos(mode: RewardMode) -> None:
    settings = EnvSettings(rounds=3, mode=mode, mix=0.25)
    env = make(settings)
    env.reset(seed=4)
    while env.agents:
        _, rewards, _, _, infos = env.step(sampled(env))
        own = []
        for info in infos.values():
            assert tuple(info) == INFO_NAMES
            terms = RewardTerms(**{name: info[name] for name in TERM_NAMES[:7]})
            own.append(reward(terms, settings.weights) / settings.reward_unit_msat)
            assert info["own_reward"] == pytest.approx(own[-1], abs=1e-9)
        for mine, given in zip(own, rewards.values(), strict=True):
            assert given == pytest.approx(combine(mine, own, mode, 0.25), abs=1e-9)
        assert any(info["fees_earned_msat"] for info in infos.values())
        assert any(info["payments_settled"] for info in infos.values())


def test_chosen_routes_are_the_ones_that_are_tried() -> None:
    """The dearest candidate costs what it says, if it works at the first try."""
    env = make(EnvSettings(rounds=30, routes=3, choices=2))
    seen, _ = env.reset(seed=8)
    paid = 0
    while env.agents:
        actions = sampled(env)
        for agent, action in actions.items():
            action["fees"][:] = 0.0
            action["routes"][:] = seen[agent]["route_mask"].sum(axis=1)
        seen, *_, infos = env.step(actions)
        paid += sum(info["fees_paid_msat"] > 0 for info in infos.values())
    assert paid > 5


def test_a_picture_of_the_network() -> None:
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    assert first is not None
    assert first.dtype == np.uint8
    assert first.shape == (700, 700, 3)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 20
    env.step(sampled(env))
    second = env.render()
    assert second is not None
    assert not np.array_equal(first, second)
    assert make().render() is None
    with pytest.raises(ValueError, match="no render mode 'human'"):
        make(render_mode="human")


def test_vectors_for_learners_that_know_nothing_else() -> None:
    env = FlatLightningEnv(make(EnvSettings(rounds=3, preferences=True, admission=True)))
    inner = env.env
    ZOO.parallel_api_test(env, num_cycles=6)
    seen, _ = env.reset(seed=1)
    for agent in env.agents:
        assert env.observation_space(agent).contains(seen[agent])
    levels = np.linspace(-2.0, 2.0, len(env.action_space("n0").sample()), dtype=np.float32)
    parts = env._parts("n0", levels)
    assert inner.action_space("n0").contains(parts)
    assert parts["fees"].min() == -1.0
    assert parts["reserved"].max() == 1.0
    with pytest.raises(ValueError, match="no place in a vector"):
        FlatLightningEnv(make(EVERYTHING))
