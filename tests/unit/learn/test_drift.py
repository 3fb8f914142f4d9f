"""What is measured because others learn, and the formulas behind it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from lnagents.learn.algorithms import AlgorithmName
from lnagents.learn.drift import Watch, drift, foreseen, spaced
from lnagents.learn.policy import Behaviour, Policy
from lnagents.learn.samples import Sight
from lnagents.learn.trainer import Trainer
from tests.unit.learn.tasks import MatchTask
from tests.unit.learn.test_team import begun, settings, trained


def behaviours(*, shared: bool) -> tuple[Sight, Policy, Policy]:
    task = MatchTask()
    one = trained(task, AlgorithmName.IPPO, shared=shared, iterations=1).policy
    other = trained(task, AlgorithmName.IPPO, shared=shared, iterations=3).policy
    return Sight.of(begun(task, 5), one.algorithm), one, other


@pytest.mark.parametrize("shared", [True, False])
def test_drift_is_the_divergence_that_torch_knows(shared: bool) -> None:
    sight, one, other = behaviours(shared=shared)
    before, after = one.behaviour(sight), other.behaviour(sight)
    size = before.mean.shape
    normal = kl_divergence(
        Normal(before.mean, before.deviation.expand(size)),
        Normal(after.mean, after.deviation.expand(size)),
    ).sum(-1)
    of_rows = (normal * sight.mask).sum((0, 2)) / sight.mask.sum((0, 2))
    # torch's own is not a number where something cannot be chosen: these have no chance instead.
    chances = [torch.nan_to_num(each.odds.exp()) for each in (before, after)]
    of_choice = kl_divergence(*(Categorical(probs=each + 1e-12) for each in chances)).mean(0)
    torch.testing.assert_close(
        drift(before, after, sight), of_rows + of_choice, atol=1e-5, rtol=1e-4
    )
    assert (drift(before, after, sight) > 0.0).all()


@pytest.mark.parametrize("shared", [True, False])
def test_who_did_not_change_did_not_drift(shared: bool) -> None:
    sight, one, _ = behaviours(shared=shared)
    assert drift(one.behaviour(sight), one.behaviour(sight), sight).tolist() == [0.0] * 3


def test_with_weights_of_their_own_each_agent_drifts_by_itself() -> None:
    sight, one, _ = behaviours(shared=False)
    before = one.behaviour(sight)
    with torch.no_grad():
        for parameter in one.actor.parameters():
            parameter[1] += 0.1
    moved = drift(before, one.behaviour(sight), sight)
    assert [value > 0.0 for value in moved.tolist()] == [False, True, False]


@pytest.mark.parametrize(("actions", "choices"), [(True, False), (False, True)])
def test_a_task_without_actions_or_without_choices_has_a_drift(
    actions: bool, choices: bool
) -> None:
    trainer = trained(MatchTask(actions=actions, choices=choices), AlgorithmName.IPPO)
    assert trainer.iterate().drift > 0.0


def test_padding_does_not_drift() -> None:
    sight, one, other = behaviours(shared=True)
    before, after = one.behaviour(sight), other.behaviour(sight)
    wild = torch.where(sight.mask.unsqueeze(-1) > 0.0, after.mean, 1e3)
    changed = Behaviour(wild, after.deviation, after.odds)
    assert torch.equal(drift(before, after, sight), drift(before, changed, sight))


def test_without_learning_nothing_drifts() -> None:
    trainer = Trainer(MatchTask(), settings(learning_rate=0.0), 1)
    reports = [trainer.iterate() for _ in range(2)]
    assert [one.drift for one in reports] == [0.0, 0.0]
    faster = Trainer(MatchTask(), settings(learning_rate=0.01), 1)
    assert faster.iterate().drift > 0.0


def test_the_probe_stays_the_same() -> None:
    trainer = Trainer(MatchTask(), settings(), 1)
    trainer.iterate()
    probe = trainer._watch.probe
    trainer.iterate()
    assert probe is not None
    assert trainer._watch.probe is probe
    assert len(probe.mask) <= 64


def test_a_shift_is_what_was_foreseen_less_what_is() -> None:
    watch = Watch()
    assert watch.shift(0.1, 0.6) is None
    assert watch.shift(0.4, 0.7) == pytest.approx(0.2)
    assert watch.shift(0.8, 0.7) == pytest.approx(-0.1)


def test_reports_say_how_values_shift() -> None:
    trainer = Trainer(MatchTask(), settings(iterations=6), 1)
    reports = [trainer.iterate() for _ in range(4)]
    assert reports[0].value_shift is None
    for before, now in pairwise(reports):
        assert now.value_shift == pytest.approx(before.fitted - now.explained)


def test_foreseen_counts_what_counts() -> None:
    returns = torch.tensor([[1.0, 2.0], [3.0, 9.0]])
    values = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    counted = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert foreseen(returns, values, counted) == 1.0
    assert foreseen(returns, values) < 0.5
    assert foreseen(returns, torch.zeros(2, 2)) == 0.0
    assert foreseen(torch.ones(3), torch.zeros(3)) == 0.0


@pytest.mark.parametrize(("count", "most"), [(1, 64), (64, 64), (65, 64), (1_000, 64)])
def test_places_are_evenly_apart(count: int, most: int) -> None:
    places = list(range(count))[spaced(count, most)]
    assert 1 <= len(places) <= most
    assert len(places) >= min(count, most) // 2
    assert len({b - a for a, b in pairwise(places)}) <= 1
