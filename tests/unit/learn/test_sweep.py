"""A sweep comes to what torch's own gradients come to, and is taken where it knows everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lnagents.learn import sweep as module
from lnagents.learn.algorithms import AlgorithmName
from lnagents.learn.improve import Experience, can_be_swept, differentiate, sweep
from lnagents.learn.policy import Policy
from lnagents.learn.samples import JointState, Sight
from lnagents.learn.settings import TrainSettings
from lnagents.learn.task import Seen
from lnagents.learn.team import TeamCritic
from tests.unit.learn.tasks import MatchTask

SAMPLES = 40


class Case:
    """Networks that are not fresh any more, and experience with slightly other ones."""

    def __init__(self, task: MatchTask, **settings: Any) -> None:
        generator = torch.Generator().manual_seed(1)
        chosen = TrainSettings.model_validate({"hidden": 8, "clip": 0.1, **settings})
        self.policy = Policy(task.shape, chosen, generator)
        self.critic = TeamCritic(self.policy.sizes, task.shape, self.policy.algorithm, generator)
        self.parameters = [*self.policy.actor.parameters(), *self.critic.parameters()]
        self.shake(generator)
        seen = task.reset(range(SAMPLES))
        sight = Sight.of(seen, self.policy.algorithm)
        agents = sight.whole.shape[:2]
        actions = len(task.shape.actions)
        decisions = self.policy.decide(sight)
        noise = torch.randn(*sight.mask.shape, actions, generator=generator)
        drawn = decisions.sample + 0.3 * noise
        log_prob = -0.5 * noise.square().sum(-1) * sight.mask
        self.experience = Experience(
            sight=sight,
            state=JointState.of(seen) if self.policy.algorithm.joint_state else None,
            decisions=replace(decisions, sample=drawn, sample_log_prob=log_prob),
            advantages=torch.randn(agents, generator=generator),
            targets=torch.randn(agents, generator=generator),
        )
        self.shake(generator)

    @torch.no_grad()
    def shake(self, generator: torch.Generator) -> None:
        for one in self.parameters:
            one.add_(0.1 * torch.randn(one.shape, generator=generator))

    def gradients(self, way: Any) -> tuple[list[float], list[Tensor]]:
        for one in self.parameters:
            one.grad = None
        look = way(self.policy, self.critic, self.experience, 0.01)
        look.derive()
        found = [one.grad for one in self.parameters if one.grad is not None]
        assert len(found) == len(self.parameters)
        return [look.divergence, look.entropy, look.value_loss], found


class Several(MatchTask):
    """Several actions are taken for each row, and two rows may be the same."""

    def __init__(self) -> None:
        super().__init__(batch=SAMPLES, choices=False)
        self.shape = replace(self.shape, actions=("level", "base", "inbound"))

    def reset(self, seeds: Any) -> Seen:
        seen = super().reset(seeds)
        seen.rows[::3, :, 1] = seen.rows[::3, :, 0]
        return seen


def task() -> MatchTask:
    return Several()


@pytest.fixture(params=[8, 640])
def block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", request.param * 8**2)


@pytest.mark.usefixtures("block_rows")
@pytest.mark.parametrize("algorithm", [AlgorithmName.IPPO, AlgorithmName.MEAN_FIELD])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bound", [0.03, 0.5])
def test_gradients_are_those_of_torch(algorithm: str, masked: bool, bound: float) -> None:
    # With the second bound the deviation is below its least, and does not move.
    case = Case(task(), algorithm=algorithm, min_deviation=bound, initial_deviation=0.5)
    with torch.no_grad():
        case.policy.actor.rows.log_deviation.sub_(0.3)  # type: ignore[union-attr]
    if masked:
        generator = torch.Generator().manual_seed(2)
        shape = case.experience.targets.shape
        case.experience = replace(
            case.experience,
            acted=(torch.rand(shape, generator=generator) < 0.5).float(),
            judged=(torch.rand(shape, generator=generator) < 0.5).float(),
            row_advantages=torch.randn(*shape, 4, generator=generator),
        )
    assert can_be_swept(case.policy, case.critic, case.experience)
    numbers, gradients = case.gradients(sweep)
    expected, as_derived = case.gradients(differentiate)
    assert expected[0] > 0.01  # the clip has something to do
    np.testing.assert_allclose(numbers, expected, rtol=1e-4)
    torch.testing.assert_close(gradients, as_derived, rtol=1e-3, atol=1e-6)
    assert bool(gradients[0].any()) == (bound < 0.1)


def test_a_sweep_follows_the_networks() -> None:
    case = Case(task())
    case.gradients(sweep)
    case.shake(torch.Generator().manual_seed(3))
    again = case.gradients(sweep)[1]
    torch.testing.assert_close(again, case.gradients(differentiate)[1], rtol=1e-3, atol=1e-6)


def test_the_same_sweep_gives_the_same_bits() -> None:
    first, second = (Case(task()).gradients(sweep) for _ in range(2))
    assert first[0] == second[0]
    assert all(map(torch.equal, first[1], second[1]))


def test_weights_that_are_views_are_refused() -> None:
    case = Case(task())
    layer = case.policy.actor.rows.last  # type: ignore[union-attr]
    layer.weight.data = layer.weight.detach().t().contiguous().t()
    with pytest.raises(ValueError, match="do not lie side by side"):
        case.gradients(sweep)


class Bare(MatchTask):
    """Somebody has no rows at all."""

    def reset(self, seeds: Any) -> Seen:
        seen = super().reset(seeds)
        seen.mask[3, 1] = 0.0
        return seen


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        (MatchTask(batch=SAMPLES), {}),
        (Bare(batch=SAMPLES, choices=False), {}),
        (task(), {"algorithm": AlgorithmName.MAPPO}),
        (task(), {"shared": False}),
        (task(), {"recurrence": "gru"}),
    ],
    ids=["choices", "no rows", "central critic", "weights of their own", "memory"],
)
def test_what_is_not_usual_is_left_to_torch(given: MatchTask, changes: dict[str, Any]) -> None:
    if "recurrence" in changes:
        case = Case(task())
        remembering = Policy(
            given.shape, TrainSettings.model_validate(changes), torch.Generator().manual_seed(1)
        )
        assert not can_be_swept(remembering, case.critic, case.experience)
        return
    case = Case(given, **changes)
    assert not can_be_swept(case.policy, case.critic, case.experience)
