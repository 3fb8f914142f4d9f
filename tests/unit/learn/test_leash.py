"""An update ends within the divergence that it may bring, whatever the optimiser does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from lnagents.learn import improve as improving
from lnagents.learn.leash import SLOWEST, TRIES, Leash
from lnagents.learn.trainer import Trainer
from tests.unit.learn.tasks import MatchTask
from tests.unit.learn.test_team import settings, untimed, weights

LIMIT = 0.05


@dataclass(frozen=True)
class Way:
    divergence: float


class Walker:
    """A place whose divergence from 0 is half of its squared distance."""

    def __init__(self, limit: float = LIMIT) -> None:
        self.place = Parameter(torch.zeros(2))
        self.leash = Leash([self.place], limit)
        self.looks = 0

    def look(self) -> Way:
        self.looks += 1
        return Way(float(self.place.detach().square().sum()) / 2.0)

    def go(self, *by: float) -> Way:
        def move() -> float:
            with torch.no_grad():
                self.place.add_(torch.tensor(by))
            return 0.0

        self.leash.step(self.look(), move)
        return self.leash.within(self.look)


def test_a_step_that_stays_within_is_left_alone() -> None:
    walker = Walker()
    assert walker.leash.within(walker.look).divergence == 0.0
    seen = walker.go(0.2, -0.1)
    assert walker.place.tolist() == pytest.approx([0.2, -0.1])
    assert seen.divergence == pytest.approx(0.025)
    assert walker.looks == 3  # nothing was looked at twice


@pytest.mark.parametrize("length", [0.4, 3.0, 1e6])
def test_a_step_that_leads_too_far_is_shortened(length: float) -> None:
    walker = Walker()
    seen = walker.go(length, 0.0)
    assert LIMIT / 2.0 < seen.divergence <= LIMIT
    assert walker.look().divergence == seen.divergence  # where it really is
    assert walker.place[1] == 0.0


def test_only_the_last_step_is_shortened() -> None:
    walker = Walker()
    walker.go(0.2, 0.0)
    seen = walker.go(0.0, 1.0)
    assert LIMIT / 4.0 < seen.divergence <= LIMIT
    assert walker.place.tolist()[0] == pytest.approx(0.2)


def test_what_follows_goes_at_half_the_pace_until_there_is_no_use() -> None:
    walker = Walker()
    walker.go(1.0, 0.0)
    before = walker.place.tolist()[0]
    walker.go(-0.1, 0.0)
    assert walker.place.tolist()[0] == pytest.approx(before - 0.05)
    halvings = 1
    while not walker.leash.taut:
        walker.go(1e3, 0.0)
        halvings += 1
    assert 0.5**halvings < SLOWEST <= 0.5 ** (halvings - 1)


def test_where_nothing_helps_a_step_is_taken_back() -> None:
    place = Parameter(torch.ones(3))
    leash = Leash([place], LIMIT)

    def move() -> float:
        with torch.no_grad():
            place.mul_(7.0)
        return 0.0

    leash.step(Way(0.01), move)
    looks = list[float]()

    def look() -> Way:
        looks.append(float(place.detach()[0]))
        return Way(1.0)

    assert leash.within(look).divergence == 1.0
    assert len(looks) == TRIES + 2
    assert looks == sorted(looks, reverse=True)
    assert place.tolist() == [1.0, 1.0, 1.0]
    assert leash.step(Way(1.0), move) == 0.0  # and from beyond the limit nothing breaks
    leash.within(look)
    assert place.tolist() == [1.0, 1.0, 1.0]


def test_only_far_from_the_limit_the_last_step_need_not_be_looked_at() -> None:
    walker = Walker(limit=1.0)
    assert not walker.leash.surely_slack
    walker.go(0.1, 0.0)
    assert not walker.leash.surely_slack  # how long steps are is not known before the second one
    walker.go(0.1, 0.0)
    assert walker.leash.surely_slack
    walker.go(0.6, 0.0)
    walker.go(0.0, 0.1)
    assert not walker.leash.surely_slack


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"choices": False}, {}),  # swept
    ({"choices": False}, {"epochs": 1}),  # one step, which nothing is looked at after
    ({}, {}),
    ({"actions": False}, {}),
    ({}, {"shared": False}),
    ({"choices": False}, {"algorithm": "mappo"}),
    ({"choices": False}, {"recurrence": "gru"}),
]


@pytest.mark.parametrize(("task", "changes"), CASES)
def test_updates_end_within_their_limit(task: dict[str, Any], changes: dict[str, Any]) -> None:
    chosen = {"epochs": 4, **changes}
    trainer = Trainer(
        MatchTask(batch=16, **task),
        settings(learning_rate=0.1, target_divergence=LIMIT, minibatches=1, **chosen),
        7,
    )
    for _ in range(4):
        report = trainer.iterate()
        assert 0.0 < report.divergence <= LIMIT
        assert report.drift < 2.0 * LIMIT  # exact, and on other observations


@pytest.mark.parametrize("choices", [True, False])
def test_it_says_where_an_update_ended(choices: bool) -> None:
    """After the first update the drift is that on the same experience, but exact."""
    trainer = Trainer(
        MatchTask(choices=choices),
        settings(learning_rate=0.1, target_divergence=LIMIT, minibatches=1),
        7,
    )
    report = trainer.iterate()
    assert report.divergence == pytest.approx(report.drift, rel=0.3)


@pytest.mark.parametrize("choices", [True, False])
def test_a_far_limit_changes_nothing_and_costs_no_look(
    choices: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def counted(way: Callable[..., Any]) -> Callable[..., Any]:
        def look(*given: Any) -> Any:
            nonlocal looks
            looks += 1
            return way(*given)

        return look

    for name in ("sweep", "differentiate"):
        monkeypatch.setattr(improving, name, counted(getattr(improving, name)))
    moved = []
    for limit in (1e6, 1e9):
        trainer = Trainer(
            MatchTask(choices=choices),
            settings(learning_rate=0.02, target_divergence=limit, minibatches=2, epochs=3),
            7,
        )
        looks = 0
        report = trainer.iterate()
        assert (looks, report.epochs) == (6, 3)
        moved.append([untimed(report), [one.tolist() for one in weights(trainer.policy)]])
    assert moved[0] == moved[1]


def test_a_shortened_training_is_resumed_bit_for_bit() -> None:
    chosen = settings(learning_rate=0.1, target_divergence=1e-3, iterations=6)
    whole = Trainer(MatchTask(), chosen, 7)
    for _ in range(3):
        whole.iterate()
    saved = whole.save()
    expected = [untimed(whole.iterate()) for _ in range(3)]
    assert all(one["divergence"] <= 1e-3 for one in expected)
    resumed = Trainer(MatchTask(), chosen, 7)
    resumed.load(saved)
    assert [untimed(resumed.iterate()) for _ in range(3)] == expected
    assert resumed.save() == whole.save()


def test_the_critic_goes_all_of_its_way() -> None:
    critics = []
    for limit in (1e-6, 1e6):
        chosen = settings(target_divergence=limit, epochs=1, minibatches=1)
        trainer = Trainer(MatchTask(), chosen, 7)
        trainer.iterate()
        critics.append([one.tolist() for one in trainer._critic.parameters()])
    assert critics[0] == critics[1]
