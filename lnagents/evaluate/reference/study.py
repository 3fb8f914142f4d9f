"""The file that says which learners are trained on which task, and what came of each (JSON)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lnagents.model.errors import ConfigError
from lnagents.model.files import StrictModel, parse_yaml, validate

DEFINITION = "runs.yaml"
"""In a study's folder, where its results are kept, too."""
RULES = "rules.json"
"""What those reach on each task who do not learn."""


class TaskName(str, Enum):
    """What is trained on."""

    SPREAD = "spread"
    CROWD = "crowd"


class LearnerSpec(StrictModel):
    """How one algorithm is trained on a task."""

    train: dict[str, Any] = Field(default_factory=dict)
    """`lnagents.learn.settings.TrainSettings`, but the algorithm and the iterations."""
    environments: Annotated[int, Field(ge=1)] = 128
    """At once."""
    steps: Annotated[int, Field(ge=1)] = 20_000_000
    """At most: steps of environments, all agents of one together count once."""
    check: Annotated[int, Field(ge=1)] = 500_000
    """Steps between two looks at how good the actors are."""
    enough: float | None = None
    """No further step once a look finds as good a score."""


class StudyFile(StrictModel):
    """All runs: every task's learners by the name of their algorithm, each with every seed."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    tasks: Annotated[dict[TaskName, dict[str, LearnerSpec]], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class LearnRun:
    """One of them."""

    task: TaskName
    algorithm: str
    seed: int
    spec: LearnerSpec

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.task.value}-{self.algorithm}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Study:
    """A study's folder and what its file says."""

    folder: Path
    file: StudyFile

    def runs(
        self,
        tasks: Collection[str] = (),
        algorithms: Collection[str] = (),
        seeds: Collection[int] = (),
        steps: int | None = None,
    ) -> list[LearnRun]:
        """The runs, the first seed of all learners first.

        Args:
            tasks: only these; all if none are named, as with the next ones.
            algorithms: only these.
            seeds: these instead of the file's.
            steps: at most, instead of the file's.
        """
        runs = []
        for seed in seeds or self.file.seeds:
            for task, learners in self.file.tasks.items():
                for name, spec in learners.items():
                    if (tasks and task.value not in tasks) or (
                        algorithms and name not in algorithms
                    ):
                        continue
                    least = spec if steps is None else spec.model_copy(update={"steps": steps})
                    runs.append(LearnRun(task, name, seed, least))
        return runs


class CurvePoint(StrictModel):
    """How far a run was at one look at its actors."""

    steps: int
    """Of environments."""
    explored: float
    """Score while exploring, mean over the iterations since the look before."""
    score: float
    """Of the actors as they were then, in episodes that are the same at every look."""
    cpu_seconds: float
    """Of collecting and learning so far."""


class Score(StrictModel):
    """A mean over episodes and its 95 % interval."""

    mean: float
    low: float
    high: float


class LearnResult(StrictModel):
    """What came of a run."""

    task: TaskName
    algorithm: str
    seed: int
    spec: LearnerSpec
    stopped: Annotated[str, Field(pattern="^(enough|steps)$")]
    """Why it ended."""
    episodes: int
    """Of the final score; they were never looked at before."""
    final: Score
    curve: Annotated[tuple[CurvePoint, ...], Field(min_length=1)]

    @property
    def steps(self) -> int:
        """Of environments, in all."""
        return self.curve[-1].steps

    @property
    def cpu_seconds(self) -> float:
        """Of collecting and learning, in all."""
        return self.curve[-1].cpu_seconds

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return self.model_dump(mode="json")


def load_study(folder: Path) -> Study:
    """The study in `folder`.

    Raises:
        ConfigError: there is none, or its file is wrong.
    """
    path = folder / DEFINITION
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(str(path), f"cannot be read: {exc}") from exc
    return Study(folder, parse_yaml(text, str(path), StudyFile, ConfigError))


def read_result(folder: Path, run: LearnRun) -> LearnResult | None:
    """What came of `run`; None if it has not ended.

    Raises:
        ConfigError: the file is damaged, or was made with other settings.
    """
    path = folder / f"{run.name}.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise ConfigError(str(path), f"is not valid JSON: {exc}") from exc
    result = validate(found, str(path), LearnResult, ConfigError)
    if result.spec != run.spec:
        problem = f"was made with other settings than {DEFINITION} says; remove it to train anew"
        raise ConfigError(str(path), problem)
    return result


class _RulesFile(StrictModel):
    tasks: dict[TaskName, dict[str, Score]]


def read_rules(folder: Path) -> dict[TaskName, dict[str, Score]]:
    """What those reach who do not learn, by task and by what they are called.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / RULES
    if not path.exists():
        return {}
    return parse_yaml(path.read_text(encoding="utf-8"), str(path), _RulesFile, ConfigError).tasks


def write_rules(folder: Path, rules: Mapping[TaskName, Mapping[str, Score]]) -> None:
    """The same the other way."""
    tasks = {
        task.value: {name: score.model_dump() for name, score in scores.items()}
        for task, scores in rules.items()
    }
    write_json(folder / RULES, {"tasks": tasks})


def write_json(path: Path, document: Any) -> None:
    """Write a result so that it is there as a whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
