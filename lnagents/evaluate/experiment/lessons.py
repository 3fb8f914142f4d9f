"""What learners of an experiment are trained on, and with which settings.

A definition names a grid: algorithms, rewards, models of opponents, what agents remember, seeds.
Each cell is one `Training`, on training networks only, with a folder named by its id, which is a
hash of all that decides what is learned.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from lnagents.evaluate.experiment.families import Family
from lnagents.evaluate.training import RewardSpec
from lnagents.model.errors import ExperimentError
from lnagents.model.files import StrictModel, validate

if TYPE_CHECKING:
    from lnagents.evaluate.experiment.arena_task import ArenaTask
    from lnagents.learn.settings import TrainSettings


NO_MODEL = "none"
"""The opponent model of a learner that has none."""

NO_MEMORY = "none"
"""The recurrence of a learner that remembers nothing."""


def id_of(model: StrictModel) -> str:
    """The same for equal models only."""
    text = json.dumps(model.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Lessons(StrictModel):
    """What all learners of an experiment have in common."""

    environments: Annotated[int, Field(ge=1)] = 4
    """Of each family with all seats, and as many with every second one."""
    networks: Annotated[int, Field(ge=1)] = 32
    """Training networks of each family; episodes draw from them."""
    families: tuple[str, ...] = ()
    """On whose networks they learn, by name; none: on all. On the others it then shows what becomes
    of teams in networks of a kind that they have never seen."""
    rounds: Annotated[int, Field(ge=2)] = 25
    """Of an episode."""
    train: dict[str, Any] = Field(default_factory=dict)
    """`lnagents.learn.settings.TrainSettings`, without what the grid says."""


class Training(StrictModel):
    """One run of a trainer; it says everything that decides what is learned, but the code."""

    families: tuple[Family, ...]
    lessons: Lessons
    reward: RewardSpec
    changes: dict[str, Any]
    """Of `lessons.train`."""
    seed: int

    @property
    def id(self) -> str:
        """The same for the same training only."""
        return id_of(self)

    def settings(self) -> TrainSettings:
        """Of the trainer.

        Raises:
            ExperimentError: a key is unknown, or a value is wrong.
        """
        from lnagents.learn.settings import TrainSettings

        given = self.lessons.train | self.changes
        return validate(given, "learners.lessons.train", TrainSettings, ExperimentError)

    def task(self) -> ArenaTask:
        """Of the trainer.

        Raises:
            TopologyError: the file that a family is taken from cannot be read.
        """
        from lnagents.evaluate.experiment.arena_task import ArenaTask, Table
        from lnagents.learn.algorithms import ALGORITHMS
        from lnagents.learn.settings import OpponentMode

        count = self.lessons.environments
        tables = [
            Table(family, everyone, count) for family in self.families for everyone in (True, False)
        ]
        chosen = self.settings()
        settings = self.reward.settings(self.lessons.rounds)
        return ArenaTask(
            tables,
            settings,
            networks=self.lessons.networks,
            joint_state=ALGORITHMS[chosen.algorithm].joint_state,
            foresight=chosen.opponent_model is not OpponentMode.NONE,
        )


class Cell(NamedTuple):
    """One kind of learner."""

    algorithm: str
    reward: str
    opponent_model: str
    recurrence: str

    @property
    def name(self) -> str:
        """What it is called in results."""
        model = () if self.opponent_model == NO_MODEL else (self.opponent_model,)
        memory = () if self.recurrence == NO_MEMORY else (self.recurrence,)
        return "-".join((self.algorithm, self.reward, *model, *memory))


class Learners(StrictModel):
    """A grid of learners: each algorithm, reward, kind of opponent model and kind of memory."""

    algorithms: Annotated[tuple[str, ...], Field(min_length=1)] = ("ippo", "mappo", "mean-field")
    rewards: Annotated[dict[str, RewardSpec], Field(min_length=1)]
    """By name."""
    opponent_models: Annotated[tuple[str, ...], Field(min_length=1)] = (NO_MODEL,)
    only_with: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Opponent models that are not tried with every reward: with which, by name."""
    by_reward: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What learners with a reward have other than `lessons.train`, by the reward's name."""
    recurrences: Annotated[tuple[str, ...], Field(min_length=1)] = (NO_MEMORY,)
    """What agents remember, see `lnagents.learn.settings.Recurrence`."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Trainings of each learner; each of them plays every run."""
    lessons: Lessons = Lessons()

    @model_validator(mode="after")
    def _known(self) -> Learners:
        rewards = [one for each in self.only_with.values() for one in each]
        for key, named, known in (
            ("only_with", self.only_with, self.opponent_models),
            ("only_with", rewards, self.rewards),
            ("by_reward", self.by_reward, self.rewards),
        ):
            strange = [one for one in named if one not in known]
            if strange:
                raise ValueError(f"{key}: {strange[0]!r} is none of them")
        return self

    def cells(self) -> list[Cell]:
        """All kinds of learners."""
        grid = itertools.product(
            self.algorithms, self.rewards, self.opponent_models, self.recurrences
        )
        return [
            Cell(algorithm, reward, model, recurrence)
            for algorithm, reward, model, recurrence in grid
            if reward in self.only_with.get(model, self.rewards)
        ]

    def grid(self, families: Sequence[Family]) -> Mapping[str, tuple[Training, ...]]:
        """The trainings of each learner, by its name.

        Raises:
            ExperimentError: the trainer has no such settings.
        """
        chosen = self.lessons.families or tuple(family.name for family in families)
        grid = {}
        for cell in self.cells():
            changes = self.by_reward.get(cell.reward, {}) | {"algorithm": cell.algorithm}
            if cell.opponent_model != NO_MODEL:
                changes["opponent_model"] = cell.opponent_model
            if cell.recurrence != NO_MEMORY:
                changes["recurrence"] = cell.recurrence
            grid[cell.name] = tuple(
                Training(
                    families=tuple(family for family in families if family.name in chosen),
                    lessons=self.lessons,
                    reward=self.rewards[cell.reward],
                    changes=changes,
                    seed=seed,
                )
                for seed in range(self.seeds)
            )
        return grid


class Range(StrictModel):
    """Where a number is looked for."""

    low: float
    high: float
    log: bool = False
    """Whether its logarithm is drawn."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0.0):
            raise ValueError(f"{self.low:g} to {self.high:g} is not a range that can be searched")
        return self


class Tuning(StrictModel):
    """What is searched, and how long; see `lnagents.evaluate.experiment.tuning`."""

    space: Annotated[dict[str, Range], Field(min_length=1)]
    """Ranges of numbers of `lnagents.learn.settings.TrainSettings`, by name."""
    success_worth: Annotated[dict[str, float], Field(min_length=1)]
    """By reward, each of which has a search of its own: for how much of the profit score one
    percentage point of success may be given up."""
    trials: Annotated[int, Field(ge=1)] = 30
    """Of each search."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Of each trial's trainings; None: as many as the learners have."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Trainings of each trial; trials are told apart from luck by their mean."""
    networks: Annotated[int, Field(ge=1)] = 4
    """Of each family, on which a trial is judged."""
    rounds: Annotated[int, Field(ge=2)] = 40
    """On each of them."""
    seed: int = 0
    """Of the search."""


class Diagnosis(StrictModel):
    """How teams are looked into: who gains by learning against them, how they do among strangers.

    See `lnagents.evaluate.experiment.diagnosis`; it changes no run.
    """

    learners: tuple[str, ...] = ()
    """Whose teams, by name; none: of all."""
    newcomers: tuple[str, ...] = ()
    """Among which of them newcomers learn for money alone, by name; none: among all."""
    iterations: Annotated[int, Field(ge=1)] = 60
    """Of a newcomer's training."""
    environments: Annotated[int, Field(ge=1)] = 8
    """Of each family, in each of which the newcomer has one seat and the team all others."""
    networks: Annotated[int, Field(ge=2)] = 10
    """Held-out ones of each family, on which is compared who gets how much."""
    episodes: Annotated[int, Field(ge=1)] = 2
    """On each of them, in another seat each."""
