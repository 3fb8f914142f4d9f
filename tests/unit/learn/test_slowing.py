"""Counter-measures against others that move: in turn, slowly, against the past."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from lnagents.learn.policy import Policy
from lnagents.learn.population import Population
from lnagents.learn.settings import PopulationSettings
from lnagents.learn.slowing import draw_back, keep_within, taken, turn
from lnagents.learn.trainer import Trainer
from lnagents.model.errors import CheckpointError, ConfigError
from tests.unit.learn.tasks import MatchTask
from tests.unit.learn.test_team import settings, untimed, weights

MEASURES: list[dict[str, Any]] = [
    {"stagger": 2},
    {"actor_pace": 0.3},
    {"drift_budget": 1e-4},
    {"population": {"every": 1, "size": 2, "probability": 0.7}},
    {"stagger": 3, "actor_pace": 0.5, "population": {"every": 1}},
]


@pytest.mark.parametrize("measures", MEASURES, ids=lambda one: "+".join(one))
@pytest.mark.parametrize("shared", [True, False])
def test_each_is_resumed_bit_for_bit(measures: dict[str, Any], shared: bool) -> None:
    chosen = settings(shared=shared, iterations=6, **measures)
    whole = Trainer(MatchTask(), chosen, 7)
    for _ in range(3):
        whole.iterate()
    saved = whole.save()
    expected = [untimed(whole.iterate()) for _ in range(3)]
    resumed = Trainer(MatchTask(), chosen, 7)
    resumed.load(saved)
    assert [untimed(resumed.iterate()) for _ in range(3)] == expected
    assert resumed.save() == whole.save()


@pytest.mark.parametrize("measures", MEASURES, ids=lambda one: "+".join(one))
def test_each_changes_what_is_learned(measures: dict[str, Any]) -> None:
    reports = []
    for given in ({}, measures):
        trainer = Trainer(MatchTask(), settings(learning_rate=0.02, **given), 7)
        reports.append([untimed(trainer.iterate()) for _ in range(3)][-1])
    assert reports[0] != reports[1]


def test_groups_learn_in_turn() -> None:
    assert turn(5, 1, 3) is None
    turns = [turn(5, 2, iteration) for iteration in range(3)]
    assert [one.tolist() for one in turns if one is not None] == [
        [1.0, 0.0, 1.0, 0.0, 1.0],
        [0.0, 1.0, 0.0, 1.0, 0.0],
        [1.0, 0.0, 1.0, 0.0, 1.0],
    ]


def test_only_those_whose_turn_it_is_move() -> None:
    trainer = Trainer(MatchTask(), settings(shared=False, stagger=3, learning_rate=0.02), 7)
    for iteration in range(3):
        before = weights(trainer.policy)
        trainer.iterate()
        moved = torch.zeros(3, dtype=torch.bool)
        for one, other in zip(before, weights(trainer.policy), strict=True):
            moved |= (one != other).flatten(1).any(1)
        assert moved.tolist() == [agent == iteration for agent in range(3)]


def test_who_rests_is_not_learned_from_even_with_shared_weights() -> None:
    """Rewards of those who rest reach the critic, never the actor of a first iteration."""

    class Bribed(MatchTask):
        bribe = 0.0

        def step(self, actions: Any) -> Any:
            result = super().step(actions)
            result.rewards[:, 1:] += self.bribe * actions.choice[:, 1:]
            return result

    actors = []
    for bribe in (0.0, 9.0):
        task = Bribed()
        task.bribe = bribe
        trainer = Trainer(task, settings(stagger=3, epochs=1, minibatches=1), 7)
        trainer.iterate()
        actors.append(weights(trainer.policy))
    for one, other in zip(*actors, strict=True):
        assert torch.equal(one, other)


def test_a_team_has_no_more_groups_than_agents() -> None:
    with pytest.raises(ConfigError, match="stagger: 4 groups of 3 agents"):
        Trainer(MatchTask(), settings(stagger=4), 7)


@pytest.mark.parametrize("budget", [1e-3, 1e-5])
def test_actors_stay_within_their_budget(budget: float) -> None:
    free = Trainer(MatchTask(), settings(learning_rate=0.02), 7)
    bound = Trainer(MatchTask(), settings(learning_rate=0.02, drift_budget=budget), 7)
    drifts = [[one.iterate().drift for _ in range(3)] for one in (free, bound)]
    assert min(drifts[0]) > budget
    assert max(drifts[1]) <= budget
    assert min(drifts[1]) > budget / 4


def test_a_slow_actor_goes_a_part_of_the_way() -> None:
    trainers = [
        Trainer(MatchTask(), settings(learning_rate=0.02, actor_pace=pace), 7)
        for pace in (1.0, 0.25)
    ]
    start = weights(trainers[0].policy)
    reports = [one.iterate() for one in trainers]
    ways = [
        [now - then for now, then in zip(weights(one.policy), start, strict=True)]
        for one in trainers
    ]
    for whole, part in zip(*ways, strict=True):
        torch.testing.assert_close(part, 0.25 * whole, atol=1e-6, rtol=1e-3)
    assert reports[1].drift < reports[0].drift
    assert reports[0].fitted == reports[1].fitted


def test_drawing_back_all_the_way_is_where_it_was() -> None:
    actor = torch.nn.Linear(2, 3)
    before = taken(actor)
    with torch.no_grad():
        actor.weight += 1.0

    def way() -> float:
        return float((taken(actor)[0] - before[0]).square().sum())

    keep_within(actor, before, way, 1e-3)
    assert 0.0 < way() <= 1e-3
    draw_back(actor, before, 0.0)
    assert all(torch.equal(*pair) for pair in zip(taken(actor), before, strict=True))
    keep_within(actor, before, lambda: 1.0, 0.5)  # nothing helps: it stays where it was
    assert all(torch.equal(*pair) for pair in zip(taken(actor), before, strict=True))


def population(**changes: Any) -> Population:
    like = Policy(MatchTask().shape, settings(), torch.Generator())
    return Population(PopulationSettings(**changes), like)


def fresh(seed: int) -> Policy:
    policy = Policy(MatchTask().shape, settings(), torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for one in policy.actor.parameters():
            one.fill_(seed)
    return policy


def held(pool: Population) -> list[int]:
    return [int(next(member.actor.parameters()).flatten()[0]) for member in pool._members]


def test_a_pool_is_an_even_sample_of_the_past() -> None:
    counts: Counter[int] = Counter()
    offered = [fresh(iteration) for iteration in range(10)]
    for run in range(80):
        pool = population(size=2, every=2)
        for iteration, policy in enumerate(offered):
            pool.offer(policy, iteration, seed=100 * run + iteration)
        assert len(held(pool)) == 2
        counts.update(held(pool))
    assert set(counts) == {0, 2, 4, 6, 8}
    assert 16 < min(counts.values()) <= max(counts.values()) < 50  # 32 are expected of each


def test_members_stay_as_they_were() -> None:
    pool, policy = population(), fresh(1)
    pool.offer(policy, 0, 1)
    with torch.no_grad():
        for one in policy.actor.parameters():
            one.fill_(2.0)
    assert held(pool) == [1]


def test_past_selves_play_as_often_as_is_said() -> None:
    pool = population(probability=0.25, share=0.5, size=4, every=1)
    for iteration in range(4):
        pool.offer(fresh(iteration), iteration, iteration)
    free = np.ones((400, 5), np.bool_)
    free[:, 0] = False
    guests = pool.guests(free, range(400))
    taken_by = np.array([guest.seats.sum(1) for guest in guests])
    assert set(taken_by.ravel().tolist()) == {0, 2}
    assert 60 < (taken_by.sum(0) > 0).sum() < 140
    assert len(guests) == 4
    assert not any(guest.seats[:, 0].any() for guest in guests)
    again = pool.guests(free[:7], range(7))
    for guest in again:
        same = next(one for one in guests if one.policy is guest.policy)
        assert np.array_equal(guest.seats, same.seats[:7])


def test_somebody_is_left_to_learn() -> None:
    pool = population(probability=1.0, share=0.9)
    assert pool.guests(np.ones((3, 2), np.bool_), range(3)) == ()
    pool.offer(fresh(1), 0, 1)
    (guest,) = pool.guests(np.ones((3, 2), np.bool_), range(3))
    assert guest.seats.sum(1).tolist() == [1, 1, 1]
    assert list(pool.guests(np.ones((3, 1), np.bool_), range(3))) == []


def test_playing_against_the_past_is_reported() -> None:
    trainer = Trainer(MatchTask(), settings(population={"probability": 1.0}), 7)
    report = trainer.iterate()
    assert report.others_return is not None
    assert "others/reward" in report.measures


def test_a_checkpoint_without_the_counter_measure_does_not_fit() -> None:
    saved = Trainer(MatchTask(), settings(), 7).save()
    with pytest.raises(CheckpointError, match="with population None, not "):
        Trainer(MatchTask(), settings(population={}), 7).load(saved)
