"""Seats that are not the learner's are played, seen, and never learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from lnagents.learn.algorithms import AlgorithmName
from lnagents.learn.policy import Policy
from lnagents.learn.rollout import collect, episode_seeds, live, side_by_side
from lnagents.learn.seats import Guest, learners
from lnagents.learn.settings import AdvantageScale
from lnagents.learn.task import Actions, SeatArray, Seen, StepResult
from lnagents.learn.trainer import Trainer
from tests.unit.learn.tasks import MatchTask
from tests.unit.learn.test_team import settings, trained, untimed, weights


class Shared(MatchTask):
    """The task plays some seats itself, and rewards them with what it likes."""

    def __init__(self, learns: SeatArray, theirs: float) -> None:
        super().__init__()
        self._learns = learns
        self._theirs = np.float32(theirs)

    def reset(self, seeds: Sequence[int]) -> Seen:
        return replace(super().reset(seeds), learns=self._learns)

    def step(self, actions: Actions) -> StepResult:
        result = super().step(actions)
        rewards = np.where(self._learns, result.rewards, self._theirs)
        return replace(
            result, rewards=rewards, measures={"reward": rewards, "mean": np.full(8, 3.0)}
        )


@dataclass
class Fixed:
    """The same guests in every episode."""

    given: Sequence[Guest]
    seeds: list[int] = field(default_factory=list)

    def guests(self, learns: SeatArray, seeds: Sequence[int]) -> Sequence[Guest]:
        self.seeds += seeds
        return self.given


def seats(*taken: int) -> SeatArray:
    """The seats of these agents, in all eight environments."""
    return np.isin(np.arange(3), taken)[None].repeat(8, 0)


@pytest.mark.parametrize("algorithm", list(AlgorithmName))
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("scale", list(AdvantageScale))
def test_what_others_earn_changes_nothing(
    algorithm: AlgorithmName, shared: bool, scale: AdvantageScale
) -> None:
    results = []
    for theirs in (0.0, 1e6):
        task = Shared(~seats(1), theirs)
        chosen = settings(algorithm=algorithm, shared=shared, advantages=scale.value, entropy=0.1)
        trainer = Trainer(task, chosen, 3)
        reports = [untimed(trainer.iterate()) for _ in range(3)]
        assert [one["others_return"] for one in reports] == [5 * theirs] * 3
        for one in reports:
            one.pop("others_return")
            assert one["measures"].pop("others/reward") == theirs
            assert one["measures"]["mean"] == 3.0
        results.append((reports, trainer.save()))
    assert results[0] == results[1]


def test_an_agent_without_a_seat_of_its_own_stays_what_it_was() -> None:
    trainer = Trainer(Shared(~seats(1), 5.0), settings(shared=False, entropy=0.1), 3)
    before = weights(trainer.policy)
    for _ in range(3):
        trainer.iterate()
    for one, other in zip(before, weights(trainer.policy), strict=True):
        assert torch.equal(one[1], other[1])
        assert not torch.equal(one[0], other[0]) or one[0].numel() == 0


def test_whose_seats_all_are_learns_as_if_nothing_were_said() -> None:
    plain, said = MatchTask(), Shared(~seats(), 0.0)
    one, other = (Trainer(task, settings(), 3) for task in (plain, said))
    for _ in range(2):
        first, second = untimed(one.iterate()), untimed(other.iterate())
        del first["measures"], second["measures"]
        assert first == second
    assert one.save() == other.save()


@pytest.mark.parametrize("explores", [True, False])
def test_guests_play_their_seats_and_nobody_else_s(explores: bool) -> None:
    task = MatchTask()
    learner = trained(task, AlgorithmName.IPPO).policy
    guest = trained(task, AlgorithmName.MEAN_FIELD, shared=False, iterations=3).policy
    taken = seats(2)
    taken[5:] = False
    acted: list[Actions] = []

    class Watched(MatchTask):
        def step(self, actions: Actions) -> StepResult:
            acted.append(actions)
            return super().step(actions)

    cast = Fixed([Guest(guest, taken, explores)])
    rollout = collect(Watched(), learner, 4, 1, cast)
    seeds = episode_seeds(4, 1, range(8))[0]
    assert rollout.learns is not None
    assert np.array_equal(rollout.learns.numpy() == 0.0, taken)
    own = rollout.decisions.actions()
    likely = guest.act(task.reset(seeds[:, 0].tolist()))
    rows = np.stack([one.rows for one in acted])
    np.testing.assert_array_equal(rows[:, ~taken], own.rows[:, ~taken])
    assert not np.array_equal(rows[:, taken], own.rows[:, taken])
    same = np.allclose(rows[0, taken], likely.rows[taken], atol=1e-6)
    assert same is not explores


def test_guests_are_drawn_anew_for_every_episode_and_the_same_again() -> None:
    task = MatchTask()
    policy = trained(task, AlgorithmName.IPPO).policy
    cast = Fixed([Guest(policy, seats(0))])
    whole, again = (collect(task, policy, 4, 3, cast) for _ in range(2))
    assert len(set(cast.seeds)) == 24
    assert cast.seeds[:24] == cast.seeds[24:]
    assert whole.learns is not None
    assert whole.learns.shape == (24, 3)
    assert torch.equal(whole.rewards, again.rewards)
    mine, theirs = whole.returns()
    assert theirs is not None
    assert mine * 2 / 3 + theirs / 3 == pytest.approx(float(whole.rewards.sum(0).mean()), rel=1e-4)


def test_a_guest_s_luck_changes_nothing_but_what_is_seen() -> None:
    """With a critic and rewards that do not look at others, a guest could be anybody."""
    task = MatchTask()
    saved = []
    for iterations in (0, 3):
        guest = trained(task, AlgorithmName.IPPO, iterations=iterations).policy
        trainer = Trainer(task, settings(), 3, Fixed([Guest(guest, seats(1), explores=False)]))
        for _ in range(2):
            trainer.iterate()
        saved.append(trainer.save())
    assert saved[0] == saved[1]


def test_seats_are_given_away_once_and_somebody_learns() -> None:
    policy = trained(MatchTask(), AlgorithmName.IPPO).policy
    with pytest.raises(ValueError, match="not free"):
        learners(~seats(), [Guest(policy, seats(0)), Guest(policy, seats(0, 1))])
    with pytest.raises(ValueError, match="not free"):
        learners(~seats(1), [Guest(policy, seats(1))])
    with pytest.raises(ValueError, match="nobody learns"):
        learners(~seats(1), [Guest(policy, seats(0)), Guest(policy, seats(2))])


def test_guests_do_the_same_wherever_an_environment_lives() -> None:
    """Four machines with two environments each, or one with all eight."""
    chosen = settings(together=2)
    learner = Policy(MatchTask().shape, chosen, torch.Generator().manual_seed(1))
    guest = Policy(MatchTask().shape, chosen, torch.Generator().manual_seed(2))
    taken = seats(1)
    taken[[1, 4, 5]] = False
    seeds = episode_seeds(3, 1, range(8))[0]
    whole = live(MatchTask(), learner, seeds, Fixed([Guest(guest, taken)]))
    parts = [
        live(MatchTask(2), learner, seeds[part], Fixed([Guest(guest, taken[part])]))
        for part in (slice(begin, begin + 2) for begin in range(0, 8, 2))
    ]
    joined = side_by_side(parts)
    assert torch.equal(whole.rewards, joined.rewards)
    assert whole.learns is not None
    assert joined.learns is not None
    assert torch.equal(whole.learns, joined.learns)
    assert whole.means() == joined.means()
