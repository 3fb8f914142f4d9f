"""Searches hyperparameters with Optuna, on training networks only.

There is a search for each reward that `Tuning.success_worth` names. Each of its trials trains the
first algorithm of a definition's learners with this reward, and plays on training networks that the
training did not see. What is to be as large as possible is the profit score (interquartile mean)
and `success_worth` for each percentage point of success that is won, so that no setting is found
that only gives up more payments for the money: rules by balance can move along such a line, too.

What was searched, with which budget, and what each trial brought is one JSON file, which is written
after every round of trials, one of each search; a search that was interrupted is told the finished
trials again and goes on as it would have. Results do not depend on how many trainings run at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnagents.evaluate.executors import Executor
from lnagents.evaluate.experiment import school
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.contestants import LearnedContestant, Player
from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.experiment.families import Split
from lnagents.evaluate.experiment.lessons import Training, Tuning
from lnagents.evaluate.page import write_whole
from lnagents.evaluate.results import RunResult
from lnagents.evaluate.statistics import interquartile_mean
from lnagents.model.errors import ExperimentError
from lnagents.model.units import Msat

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

STUDY = "tuning.json"
"""In the folder of an experiment's results."""

ITERATIONS = "iterations"
"""Of `lnagents.learn.settings.TrainSettings`."""


def tune(
    definition: Definition,
    tuning: Tuning,
    folder: Path,
    executor: Executor,
    *,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> dict[str, Any]:
    """Make the trials that are missing; returns what the file then says.

    Args:
        definition: whose learners are tuned; what is not searched is as it says.
        tuning: what to search.
        folder: of the experiment's results.
        executor: trains.
        progress: told how many of all trials are done.

    Raises:
        ExperimentError: a setting does not exist, or the file there is of another search.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    firsts = _first_trainings(definition, tuning)
    path = folder / STUDY
    described = {
        "experiment": definition.name,
        "search": tuning.model_dump(mode="json"),
        "trainings": {name: one.model_dump(mode="json") for name, one in firsts.items()},
    }
    searches = {
        name: _Search(first, trials, _study(tuning))
        for (name, first), trials in zip(
            firsts.items(), _finished(path, described, list(firsts)), strict=True
        )
    }
    court = _Court(definition, tuning)
    for number in range(tuning.trials):
        asked = {name: search.ask(tuning) for name, search in searches.items()}
        waiting = {name: one for name, one in asked.items() if number == len(searches[name].trials)}
        jobs = [
            court.job(_changed(firsts[name], tuning, one.params, seed), folder)
            for name, one in waiting.items()
            for seed in range(tuning.seeds)
        ]
        played = dict(executor.run(_trained_and_played, jobs))
        for place, (name, one) in enumerate(waiting.items()):
            mine = [played[tuning.seeds * place + seed] for seed in range(tuning.seeds)]
            verdict = court.judge(mine, tuning.success_worth[name])
            searches[name].trials.append({"values": one.params, **verdict})
        for name, one in asked.items():
            searches[name].study.tell(one, searches[name].trials[number]["score"])
        whole = described | {
            "searches": {name: search.to_json() for name, search in searches.items()}
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(whole, indent=1) + "\n")
        progress((number + 1) * len(searches), tuning.trials * len(searches))
    return whole


@dataclass(slots=True)
class _Search:
    """That of one reward."""

    first: Training
    trials: list[dict[str, Any]]
    """What is known of them, in their order."""
    study: Study

    def ask(self, tuning: Tuning) -> Trial:
        """The next trial, with its values."""
        trial = self.study.ask()
        for name, one in tuning.space.items():
            trial.suggest_float(name, one.low, one.high, log=one.log)
        return trial

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"best": max(self.trials, key=lambda one: one["score"]), "trials": self.trials}


def _study(tuning: Tuning) -> Study:
    import optuna

    sampler = optuna.samplers.TPESampler(seed=tuning.seed)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _finished(
    path: Path, described: Mapping[str, Any], rewards: Sequence[str]
) -> list[list[dict[str, Any]]]:
    """The trials of each search in the file, if there are some."""
    if not path.exists():
        return [[] for _ in rewards]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = {key: found[key] for key in described} == described
        trials = [found["searches"][reward]["trials"] for reward in (rewards if same else ())]
    except (ValueError, KeyError, TypeError) as exc:
        raise ExperimentError(str(path), f"is no record of a search: {exc}") from exc
    if not same:
        raise ExperimentError(str(path), "is the record of another search; move it away first")
    return trials


def _first_trainings(definition: Definition, tuning: Tuning) -> dict[str, Training]:
    """Of each reward that has a search, that of the first algorithm and model of opponents."""
    first: dict[str, Training] = {}
    for cell, trainings in definition.learned():
        if cell.reward in tuning.success_worth:
            first.setdefault(cell.reward, _without(trainings[0], tuning))
    return first


def _without(training: Training, tuning: Tuning) -> Training:
    """The same without what a search decides: what is found can be put into the definition."""
    lessons = training.lessons
    decided = {*tuning.space, *(() if tuning.iterations is None else (ITERATIONS,))}
    train, changes = (
        {name: value for name, value in given.items() if name not in decided}
        for given in (lessons.train, training.changes)
    )
    shorn = lessons.model_copy(update={"train": train})
    return training.model_copy(update={"lessons": shorn, "changes": changes})


def _changed(first: Training, tuning: Tuning, values: Mapping[str, float], seed: int) -> Training:
    """The training with other settings, and another seed."""
    count = {} if tuning.iterations is None else {ITERATIONS: tuning.iterations}
    changes = {**first.changes, **values, **count}
    return first.model_copy(update={"changes": changes, "seed": seed})


@dataclass(frozen=True, slots=True)
class _Job:
    """One training, and where its team plays."""

    training: Training
    folder: Path
    specs: tuple[RunSpec, ...]


def _trained_and_played(job: _Job) -> list[RunResult]:
    school.train(job.training, school.folder_of(job.folder, job.training))
    team = school.read_team(job.folder, job.training)
    return [play(spec, team) for spec in job.specs]


class _Court:
    """Judges trials by the networks that they play on, beside the definition's baseline."""

    def __init__(self, definition: Definition, tuning: Tuning) -> None:
        self._definition = definition
        self._tuning = tuning
        # After those that trainings draw from.
        self._first = definition.trainings()[0].lessons.networks
        baseline = next(one for one in definition.contestants if one.name == definition.baseline)
        base = [play(spec) for spec in self._specs(baseline)]
        income = np.array([_income(one) for one in base]).reshape(-1, tuning.networks)
        self._unit = np.maximum(1.0, income.mean(axis=1))
        """By family and field, as `lnagents.evaluate.experiment.scores.PROFIT_SCORE`."""
        self._base = np.array([_success(one) for one in base])

    def _specs(self, player: Player) -> tuple[RunSpec, ...]:
        """Networks of one family against one field stand together."""
        return tuple(
            RunSpec(
                contestant=player,
                field=field,
                family=family,
                split=Split.TRAINING,
                index=self._first + place,
                rounds=self._tuning.rounds,
            )
            for family in self._definition.families
            for field in self._definition.fields
            for place in range(self._tuning.networks)
        )

    def job(self, training: Training, folder: Path) -> _Job:
        """What is to be done for one training."""
        player = LearnedContestant(learner="tuned", training=training)
        return _Job(training, folder, self._specs(player))

    def judge(self, played: Sequence[Sequence[RunResult]], worth: float) -> dict[str, float]:
        """What all trainings of a trial brought: the score, and what it is made of.

        Args:
            played: of each training.
            worth: see `Tuning.success_worth`.
        """
        cost = self._definition.update_cost_msat
        profits = np.array([[_profit(one, cost) for one in each] for each in played])
        scores = profits / np.repeat(self._unit, self._tuning.networks)
        profit = float(interquartile_mean(scores))
        success = np.array([[_success(one) for one in each] for each in played])
        points = float((success - self._base).mean())
        return {"score": profit + worth * points, "profit_score": profit, "success_points": points}


def _profit(result: RunResult, update_cost_msat: Msat) -> float:
    return float(
        sum(
            seat.fees_earned_msat - seat.fees_paid_msat - update_cost_msat * seat.updates
            for seat in result.seats
            if seat.contests
        )
    )


def _income(result: RunResult) -> float:
    return float(sum(seat.fees_earned_msat for seat in result.seats if seat.contests))


def _success(result: RunResult) -> float:
    """Percent of the payments."""
    return 100.0 * result.settled / max(1, result.payments)
