"""What a newcomer gains against a team, and how teams do among each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lnagents.cli.app import app
from lnagents.evaluate.diagnose_run import Effort, best_response, cross_play_of, frozen
from lnagents.evaluate.diagnosis import CrossPlay, Gap, cross_play, responder_settings, seat_gap
from lnagents.evaluate.train_run import begin, train
from lnagents.learn.policy import Policy
from lnagents.learn.seats import Beside
from lnagents.learn.settings import TrainSettings
from lnagents.learn.task import Actions, Seen, StepResult, TaskShape
from lnagents.learn.trainer import Trainer
from lnagents.model.errors import ConfigError
from tests.unit.evaluate.test_training import config

SETTINGS = TrainSettings.model_validate(
    {
        "iterations": 25,
        "hidden": 8,
        "learning_rate": 0.05,
        "epochs": 4,
        "target_divergence": 0.2,
        "discount": 0.0,
        "population": {"every": 1},
        "stagger": 2,
    }
)


class Matrix:
    """Two agents choose; each gets what a matrix says of its own and the other's choice."""

    def __init__(self, payoff: Sequence[Sequence[float]], batch: int = 16) -> None:
        self._payoff = np.array(payoff, np.float32)
        self.shape = TaskShape(
            batch=batch,
            agents=2,
            steps=1,
            whole_features=("one",),
            choices=tuple(f"choice {place}" for place in range(len(payoff))),
            final=True,
        )

    def reset(self, seeds: Sequence[int]) -> Seen:
        seen = Seen.blank(self.shape)
        seen.whole[:] = 1.0
        return seen

    def step(self, actions: Actions) -> StepResult:
        own, other = actions.choice, actions.choice[:, ::-1]
        return StepResult(self.reset(()), self._payoff[own, other], over=True)

    def close(self) -> None:
        pass


def always(task: Matrix, choice: int) -> Policy:
    """A policy that takes one choice whatever it sees."""
    policy = Policy(task.shape, SETTINGS, torch.Generator().manual_seed(1))
    assert policy.actor.choice is not None
    with torch.no_grad():
        last = policy.actor.choice.head[-1]
        assert isinstance(last, torch.nn.Linear)
        last.weight.zero_()
        last.bias.zero_()
        last.bias[choice] = 5.0
    return policy


ROCK_PAPER_SCISSORS = [[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]


@pytest.mark.parametrize(("frozen_choice", "best"), [(0, 1), (1, 2), (2, 0)])
@pytest.mark.parametrize("seat", [0, 1])
def test_a_newcomer_finds_the_best_response(frozen_choice: int, best: int, seat: int) -> None:
    task = Matrix(ROCK_PAPER_SCISSORS)
    team = always(task, frozen_choice)
    cast = Beside(team, np.full(16, seat), explores=False)
    newcomer = Trainer(task, responder_settings(SETTINGS, 25), 3, cast)
    while not newcomer.finished:
        newcomer.iterate()
    chosen = newcomer.policy.act(task.reset(())).choice[:, seat]
    assert (chosen == best).all()
    new, own = seat_gap(task, team, newcomer.policy, seat, seed=1, episodes=2)
    assert new.shape == own.shape == (2, 16)
    gap = Gap((seat,), new[None], own[None], tuple(place % 4 for place in range(16)))
    assert gap.estimate() == (1.0, 1.0, 1.0)


def test_in_an_equilibrium_nobody_gains() -> None:
    """Of the prisoners' dilemma: nothing is better than to defect against one that does."""
    task = Matrix([[3.0, 0.0], [5.0, 1.0]])
    team = always(task, 1)
    newcomer = Trainer(
        task, responder_settings(SETTINGS, 25), 3, Beside(team, np.zeros(16, int), explores=False)
    )
    while not newcomer.finished:
        newcomer.iterate()
    new, own = seat_gap(task, team, newcomer.policy, 0, seed=1, episodes=1)
    assert (new == own).all()
    assert (own == 1.0).all()


def test_nothing_holds_a_newcomer_back() -> None:
    free = responder_settings(SETTINGS, 7)
    assert free.iterations == 7
    assert free.population is None
    assert (free.stagger, free.actor_pace, free.drift_budget) == (1, 1.0, None)
    assert free.hidden == SETTINGS.hidden


def test_conventions_are_lost_among_strangers() -> None:
    """Who agrees gets 1, and each population has agreed on something else."""
    task = Matrix(np.eye(3).tolist(), batch=4)
    teams = [always(task, choice) for choice in (0, 1, 2)]
    crossed = cross_play(task, "abc", teams, seed=1, episodes=3)
    assert np.array_equal(crossed.returns.mean(-1), np.eye(3))
    assert crossed.gap() == (1.0, 1.0, 1.0)
    assert crossed.to_json()["share_lost"] == 1.0
    same = cross_play(task, "ab", [teams[0], always(task, 0)], seed=1, episodes=3)
    assert same.gap().value == 0.0
    with pytest.raises(ValueError, match="two populations at least"):
        cross_play(task, "a", teams[:1], seed=1, episodes=1)


def test_units_are_seats_of_networks() -> None:
    team = np.zeros((2, 3, 4))
    newcomer = team + np.array([[1.0, 2.0, 1.0, 2.0], [5.0, 6.0, 7.0, 8.0]])[:, None]
    gap = Gap((4, 6), newcomer, team, (0, 1, 0, 1))
    assert gap.units().tolist() == [1.0, 2.0, 6.0, 7.0]
    value, low, high = gap.estimate()
    assert value == 4.0
    assert 1.0 <= low < 4.0 < high <= 7.0
    assert gap.to_json()["seats"][1] == {"seat": 6, "newcomer": 6.5, "team": 0.0}


def test_the_gap_of_cross_play_is_own_less_strangers() -> None:
    returns = np.arange(8.0).reshape(2, 2, 2)
    crossed = CrossPlay(("a", "b"), returns)
    assert crossed.gap().value == pytest.approx((0.5 + 6.5) / 2 - (2.5 + 4.5) / 2)


def run_of(folder: Path, **changes: Any) -> Path:
    chosen = config(**changes)
    begin(chosen, folder)
    train(Trainer(chosen.make_task(), chosen.train, chosen.seed), folder)
    return folder


def test_a_diagnosis_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "task": {"opponents": {"kinds": ["wall"]}},
        "train": {"iterations": 1, "algorithm": "mappo"},
    }
    effort = Effort(seats=2, iterations=2, episodes=1)
    gaps = []
    for name, interrupted in (("whole", False), ("parts", True)):
        run = frozen(run_of(tmp_path / name, **changes))
        if interrupted:
            assert best_response(run, effort, stopped=lambda: True) is None
            logs = list((tmp_path / name / "diagnosis").glob("*/log.jsonl"))
            assert [len(one.read_text().splitlines()) for one in logs] == [1]
        gap = best_response(run, effort)
        assert gap is not None
        gaps.append(gap.to_json())
        kept = json.loads((tmp_path / name / "diagnosis" / "best-response.json").read_text())
        assert kept == {"iterations": 2, **gaps[-1]}
    assert gaps[0] == gaps[1]
    assert gaps[0]["units"] == 2
    with pytest.raises(ConfigError, match="has 7 seats, not 8"):
        best_response(run, Effort(seats=8))


def test_runs_of_several_algorithms_play_each_other(tmp_path: Path) -> None:
    runs = [
        frozen(run_of(tmp_path / name, train={"iterations": 1, "algorithm": name}))
        for name in ("ippo", "mean-field")
    ]
    crossed = cross_play_of(runs, Effort(episodes=2))
    assert crossed.names == ("ippo", "mean-field")
    assert crossed.returns.shape == (2, 2, 4)
    assert crossed.returns.std() > 0.0
    kept = json.loads((tmp_path / "ippo" / "diagnosis" / "cross-play.json").read_text())
    assert kept == crossed.to_json()


def test_the_command_says_all_of_it(tmp_path: Path) -> None:
    runs = [str(run_of(tmp_path / str(seed), train={"iterations": 1})) for seed in (1, 2)]
    options = ["--seats", "1", "--iterations", "1", "--episodes", "1"]
    shown = CliRunner().invoke(app, ["diagnose", *runs, *options])
    assert shown.exit_code == 0, shown.output
    assert "Best-response gap" in shown.output
    assert "Cross-play" in shown.output
    told = CliRunner().invoke(app, ["diagnose", *runs, *options, "--json"])
    document = json.loads(told.stdout)
    assert set(document["best_response"]) == set(runs)
    assert len(document["cross_play"]["matrix"]) == 2
    wrong = CliRunner().invoke(app, ["diagnose", str(tmp_path)])
    assert isinstance(wrong.exception, ConfigError)
    assert "is no training run" in str(wrong.exception)
