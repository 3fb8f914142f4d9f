"""Searches hyperparameters with Optuna, on training networks only.

Each trial trains the first algorithm of a definition's learners with the first of its rewards, and
plays on training networks that the training did not see. What was searched, with which budget, and
what each trial brought is one JSON file, which is written after every trial; a search that was
interrupted is told the finished trials again and goes on as it would have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lnagents.evaluate.experiment import school
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.contestants import LearnedContestant
from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.experiment.families import Split
from lnagents.evaluate.experiment.lessons import Lessons, Training, Tuning
from lnagents.evaluate.results import RunResult
from lnagents.model.errors import ExperimentError

STUDY = "tuning.json"
"""In the folder of an experiment's results."""


def tune(
    definition: Definition,
    tuning: Tuning,
    folder: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> dict[str, Any]:
    """Make the trials that are missing; returns what the file then says.

    Args:
        definition: whose learners are tuned; its `learners.lessons.train` is where trials begin.
        tuning: what to search.
        folder: of the experiment's results.
        progress: told how many of all trials are done.

    Raises:
        ExperimentError: the definition has no learners, a setting does not exist, or the file there
            is of another search.
    """
    import optuna

    described = {
        "experiment": definition.name,
        "search": tuning.model_dump(mode="json"),
        "training": _first_training(definition).model_dump(mode="json"),
    }
    path = folder / STUDY
    trials = _finished(path, described)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=tuning.seed)
    )
    for number in range(tuning.trials):
        trial = study.ask()
        values = {
            name: trial.suggest_float(name, one.low, one.high, log=one.log)
            for name, one in tuning.space.items()
        }
        if number == len(trials):
            score = _judge(definition, tuning, values, folder)
            trials.append({"values": values, "score": score})
        study.tell(trial, trials[number]["score"])
        best = max(trials, key=lambda one: one["score"])
        whole = described | {"best": best, "trials": trials}
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
        progress(number + 1, tuning.trials)
    return whole


def _finished(path: Path, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trials in the file, if there are some."""
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = all(found[key] == value for key, value in described.items())
        trials: list[dict[str, Any]] = found["trials"]
    except (ValueError, KeyError, TypeError) as exc:
        raise ExperimentError(str(path), f"is no record of a search: {exc}") from exc
    if not same:
        raise ExperimentError(str(path), "is the record of another search; move it away first")
    return trials


def _first_training(definition: Definition) -> Training:
    trainings = definition.trainings()
    if not trainings:
        raise ExperimentError(definition.name, "learners: there are none to be tuned")
    return trainings[0]


def _judge(
    definition: Definition, tuning: Tuning, values: Mapping[str, float], folder: Path
) -> float:
    """Train, and play: the mean of profits, each as a part of what the baseline earns there."""
    first = _first_training(definition)
    train = {**first.lessons.train, **values, "iterations": tuning.iterations}
    lessons = Lessons.model_validate(first.lessons.model_dump() | {"train": train})
    training = first.model_copy(update={"lessons": lessons})
    school.train(training, school.folder_of(folder, training))
    team = school.read_team(folder, training)
    learned = LearnedContestant(learner="tuned", training=training)
    baseline = next(one for one in definition.contestants if one.name == definition.baseline)
    scores = []
    for family in definition.families:
        for field in definition.fields:
            for place in range(tuning.networks):
                spec = RunSpec(
                    contestant=learned,
                    field=field,
                    family=family,
                    split=Split.TRAINING,
                    # After those that the training draws from.
                    index=lessons.networks + place,
                    rounds=tuning.rounds,
                )
                base = play(spec.model_copy(update={"contestant": baseline}))
                cost = definition.update_cost_msat
                scores.append(_profit(play(spec, team), cost) / max(1.0, _income(base)))
    return float(np.mean(scores))


def _profit(result: RunResult, update_cost_msat: int) -> float:
    return float(
        sum(
            seat.fees_earned_msat - seat.fees_paid_msat - update_cost_msat * seat.updates
            for seat in result.seats
            if seat.contests
        )
    )


def _income(result: RunResult) -> float:
    return float(sum(seat.fees_earned_msat for seat in result.seats if seat.contests))
