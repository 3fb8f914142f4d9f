"""Agents that remember: what they can learn with it, and that it changes nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lnagents.learn.algorithms import AlgorithmName
from lnagents.learn.improve import Experience
from lnagents.learn.memory import OwnMemory, Remembered
from lnagents.learn.player import Player
from lnagents.learn.policy import Policy
from lnagents.learn.rollout import Rollout, collect, episode_seeds, live, side_by_side
from lnagents.learn.samples import Sight, mapped
from lnagents.learn.settings import TrainSettings
from lnagents.learn.single import SingleActor
from lnagents.learn.task import Actions, Seen, StepResult, TaskShape
from lnagents.learn.trainer import Trainer, load_policy
from lnagents.model.errors import CheckpointError
from tests.unit.learn.tasks import MatchTask
from tests.unit.learn.test_team import untimed

STEPS = 4


class CueTask:
    """A cue is shown at the beginning; at the end the choice that it named is worth 1."""

    def __init__(self, batch: int = 32) -> None:
        self.shape = TaskShape(
            batch=batch,
            agents=2,
            steps=STEPS,
            whole_features=("cue", "last"),
            choices=("down", "up"),
            final=True,
        )

    def reset(self, seeds: Sequence[int]) -> Seen:
        drawn = [np.random.default_rng(seed).integers(0, 2, self.shape.agents) for seed in seeds]
        self._cue = np.array(drawn)
        self._step = 0
        return self._seen()

    def _seen(self) -> Seen:
        seen = Seen.blank(self.shape)
        if self._step == 0:
            seen.whole[..., 0] = 2 * self._cue - 1
        seen.whole[..., 1] = self._step == STEPS - 1
        return seen

    def step(self, actions: Actions) -> StepResult:
        self._step += 1
        over = self._step == STEPS
        rewards = (actions.choice == self._cue) * np.float32(over)
        return StepResult(self._seen(), rewards.astype(np.float32), over, {"reward": rewards})

    def close(self) -> None:
        pass


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {
            "iterations": 60,
            "hidden": 16,
            "epochs": 4,
            "minibatches": 2,
            "learning_rate": 0.01,
            "recurrence": "gru",
            **changes,
        }
    )


@pytest.mark.parametrize("shared", [True, False])
def test_only_who_remembers_can_act_on_what_was_seen_before(shared: bool) -> None:
    earned = {}
    for recurrence in ("none", "gru"):
        trainer = Trainer(CueTask(), settings(recurrence=recurrence, shared=shared), 1)
        last = [trainer.iterate().episode_return for _ in range(40)][-5:]
        earned[recurrence] = sum(last) / len(last)
    assert earned["none"] == pytest.approx(0.5, abs=0.15)
    assert earned["gru"] > 0.9


@pytest.mark.parametrize("algorithm", list(AlgorithmName))
@pytest.mark.parametrize("shared", [True, False])
def test_a_resumed_training_goes_on_bit_for_bit(algorithm: AlgorithmName, shared: bool) -> None:
    chosen = settings(algorithm=algorithm, shared=shared, population={"probability": 1.0})
    whole = Trainer(MatchTask(), chosen, 7)
    whole.iterate()
    saved = whole.save()
    expected = [untimed(whole.iterate()) for _ in range(2)]
    resumed = Trainer(MatchTask(), chosen, 7)
    resumed.load(saved)
    assert [untimed(resumed.iterate()) for _ in range(2)] == expected
    assert resumed.save() == whole.save()


def rollout_of(policy: Policy, task: MatchTask) -> Rollout:
    return collect(task, policy, 5, 2)


@pytest.mark.parametrize("shared", [True, False])
def test_training_remembers_what_was_remembered_when_it_was_lived(shared: bool) -> None:
    task = MatchTask()
    policy = Policy(task.shape, settings(shared=shared), torch.Generator().manual_seed(1))
    rollout = rollout_of(policy, task)
    assert policy.memory is not None
    assert rollout.memory is not None
    sight = mapped(lambda one: one.flatten(0, 1), rollout.sight)
    again = policy.memory.over(sight, task.shape.steps + 1)
    torch.testing.assert_close(again.reshape_as(rollout.memory), rollout.memory)
    assert not torch.equal(rollout.memory[0], rollout.memory[1])
    lived = mapped(lambda one: one[:-1].flatten(0, 1), rollout.sight)
    known = lived.with_memory(rollout.memory[:-1].flatten(0, 1))
    decided = mapped(lambda one: one.flatten(0, 1), rollout.decisions)
    judged = policy.judge(known, decided)
    drawn = known.sets.pick(decided.sample_log_prob.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(judged.sample_log_prob.detach(), drawn, atol=1e-5, rtol=1e-4)


def test_an_episode_begins_with_nothing_and_environments_do_not_mix() -> None:
    task = MatchTask(batch=4)
    policy = Policy(task.shape, settings(together=2), torch.Generator().manual_seed(1))
    seeds = episode_seeds(3, 1, range(4))[0]
    whole = live(task, policy, seeds)
    small = MatchTask(batch=2)
    halves = [live(small, policy, seeds[part]) for part in (slice(0, 2), slice(2, 4))]
    parts = side_by_side(halves)
    assert whole.memory is not None
    assert parts.memory is not None
    assert torch.equal(whole.memory, parts.memory)
    assert torch.equal(whole.decisions.sample, parts.decisions.sample)
    again = live(task, policy, seeds)
    assert again.memory is not None
    assert torch.equal(again.memory, whole.memory)


def test_what_is_remembered_does_not_depend_on_the_order_of_rows() -> None:
    task = MatchTask()
    policy = Policy(task.shape, settings(), torch.Generator().manual_seed(1))
    seen = task.reset(range(8))
    order = np.array([2, 0, 3, 1])
    moved = replace(seen, rows=seen.rows[:, :, order], mask=seen.mask[:, :, order])
    states = []
    for one in (seen, moved):
        player = Player(policy, 8)
        player.look(one)
        assert player.state is not None
        states.append(player.state)
    torch.testing.assert_close(*states)


def test_parts_are_whole_episodes() -> None:
    task = MatchTask()
    policy = Policy(task.shape, settings(), torch.Generator().manual_seed(1))
    rollout = rollout_of(policy, task)
    steps, episodes = rollout.rewards.shape[:2]
    places = torch.arange(steps * episodes).unsqueeze(1).float()
    experience = Experience(
        sight=mapped(lambda one: one[:-1].flatten(0, 1), rollout.sight),
        state=None,
        decisions=mapped(lambda one: one.flatten(0, 1), rollout.decisions),
        advantages=places,
        targets=places,
        steps=steps,
    )
    parts = list(experience.parts(3, torch.Generator().manual_seed(1)))
    assert len(parts) == 3
    for part in parts:
        place = part.targets.long().reshape(steps, -1)
        step, episode = place // episodes, place % episodes
        assert (step == torch.arange(steps).unsqueeze(1)).all()
        assert (episode == episode[0]).all()
    everything = torch.cat([part.targets for part in parts]).flatten().sort().values
    assert torch.equal(everything, places.flatten())


def test_a_single_moment_is_not_enough() -> None:
    task = MatchTask()
    trainer = Trainer(task, settings(), 1)
    policy = load_policy(trainer.save(), task.shape)
    with pytest.raises(ValueError, match="cannot act on a single moment"):
        policy.act(task.reset(range(8)))


def some_policy(task: MatchTask, **changes: Any) -> Policy:
    """One whose actors heed what they remember; fresh ones do not."""
    generator = torch.Generator().manual_seed(1)
    policy = Policy(task.shape, settings(**changes), generator)
    for weights in policy.actor.parameters():
        weights.data += 0.3 * torch.randn(weights.shape, generator=generator)
    return policy


@pytest.mark.parametrize("shared", [True, False])
def test_an_agent_on_its_own_remembers_the_same(shared: bool) -> None:
    task = MatchTask()
    policy = some_policy(task, shared=shared)
    lived = live(task, policy, episode_seeds(3, 1, range(task.shape.batch))[0], explores=False)
    assert lived.memory is not None
    for agent in range(task.shape.agents):
        alone, memory = SingleActor(policy, agent), OwnMemory.of(policy, agent)
        assert memory is not None
        for step in range(task.shape.steps):
            there = lived.sight.mask[step, 0, agent] > 0.0
            seen = Remembered(
                lived.sight.rows[step, 0, agent][there].numpy(),
                lived.sight.whole[step, 0, agent].numpy(),
            )
            known = memory.look(seen).node[len(seen.node) :]
            # Products with a stack of weights are summed up in another order than with one.
            apart = 0.0 if shared else 1e-5
            wanted = lived.memory[step, 0, agent].numpy()
            np.testing.assert_allclose(known, wanted, rtol=apart, atol=apart)
            wanted = lived.decisions.sample[step, 0, agent][there].tanh().numpy()
            np.testing.assert_allclose(alone.act(seen), wanted, rtol=apart)


def test_what_an_agent_on_its_own_remembers_can_be_saved() -> None:
    policy = some_policy(MatchTask())
    whole, part = OwnMemory.of(policy), OwnMemory.of(policy)
    assert whole is not None
    assert part is not None
    draw = np.random.default_rng(1)
    shape = policy.shape
    moments = [
        Remembered(
            draw.random((3, len(shape.row_features)), np.float32),
            draw.random(len(shape.whole_features), np.float32),
        )
        for _ in range(4)
    ]
    seen = [whole.look(one) for one in moments]
    for one in moments[:2]:
        part.look(one)
    state = part.state()
    part.look(moments[3])  # what was saved does not change any more
    again = OwnMemory.of(some_policy(MatchTask()))
    assert again is not None
    again.restore(state)
    for one, wanted in zip(moments[2:], seen[2:], strict=True):
        assert np.array_equal(again.look(one).node, wanted.node)
    with pytest.raises(ValueError, match="node has shape"):
        again.look(Remembered(moments[0].channels, np.zeros(9, np.float32)))
    with pytest.raises(CheckpointError, match="has 3 agents, none is 3"):
        OwnMemory.of(some_policy(MatchTask(), shared=False), 3)


@pytest.mark.parametrize("shared", [True, False])
def test_a_fresh_actor_does_not_heed_what_it_remembers(shared: bool) -> None:
    task = MatchTask()
    rule = {task.shape.actions[0]: {"constant": 0.4}}
    policy = Trainer(task, settings(shared=shared, first_rule=rule), 1).policy
    sight = Sight.of(task.reset(range(8)), policy.algorithm)
    count = (*sight.whole.shape[:2], policy.settings.hidden)
    blank, full = (
        policy.decide(sight.with_memory(state)) for state in (torch.zeros(count), torch.ones(count))
    )
    assert torch.equal(blank.sample, full.sample)
    assert blank.sample.any()


def test_without_a_memory_nothing_is_kept() -> None:
    task = MatchTask()
    policy = Policy(task.shape, settings(recurrence="none"), torch.Generator())
    assert policy.memory is None
    assert rollout_of(policy, task).memory is None
    sight = Sight.of(task.reset(range(8)), policy.algorithm)
    assert sight.with_memory(None) is sight
