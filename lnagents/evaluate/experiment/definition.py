"""The file that says what an experiment runs (YAML, unknown keys refused)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from lnagents.evaluate.experiment.contestants import (
    Contestant,
    LearnedContestant,
    Opposition,
    Player,
    Same,
)
from lnagents.evaluate.experiment.disturbances import AnyDisturbance
from lnagents.evaluate.experiment.families import Family, Split
from lnagents.evaluate.experiment.lessons import (
    Cell,
    Diagnosis,
    Learners,
    Training,
    Tuning,
    id_of,
)
from lnagents.evaluate.extensions import load_named
from lnagents.model.errors import ExperimentError
from lnagents.model.files import StrictModel, parse_yaml
from lnagents.testbed.data import read_named


class RunSpec(StrictModel):
    """One run: it says everything that decides the result, but the version of the program."""

    contestant: Player
    field: Opposition
    """Who sits on the other seats."""
    family: Family
    split: Split
    index: int
    """Of the network, and of the payments that are made on it."""
    rounds: int
    disturbance: AnyDisturbance | None = None
    """None: nothing goes wrong."""
    deviation: float = 1.0
    """With which the contestant's first seat multiplies the fee rates that it decides on."""

    @property
    def plain(self) -> bool:
        """Whether nothing goes wrong and nobody deviates."""
        return self.disturbance is None and self.deviation == 1.0

    @property
    def training(self) -> int:
        """Which training of a learner played, by its seed; 0 for who was not trained."""
        player = self.contestant
        return player.training.seed if isinstance(player, LearnedContestant) else 0

    @property
    def id(self) -> str:
        """The same for the same run only."""
        return id_of(self)


class Stress(StrictModel):
    """Further runs, each like one that is made anyway but for one thing."""

    disturbances: tuple[AnyDisturbance, ...] = ()
    """What goes wrong."""
    deviations: tuple[Annotated[float, Field(gt=0.0)], ...] = ()
    """With which one seat multiplies its fee rates, to see how far prices are from a best response
    (`lnagents.evaluate.measures.price_over_best_response`)."""
    contestants: tuple[str, ...] = ()
    """Whose runs, by name; none: of all."""
    families: tuple[str, ...] = ()
    """On which networks, by name; none: on all."""

    def variants(self, contestant: str, family: str) -> list[tuple[AnyDisturbance | None, float]]:
        """What goes wrong, and how one seat deviates."""
        if (self.contestants and contestant not in self.contestants) or (
            self.families and family not in self.families
        ):
            return []
        return [
            *((one, 1.0) for one in self.disturbances),
            *((None, factor) for factor in self.deviations if factor != 1.0),
        ]


class Definition(StrictModel):
    """Every contestant meets every field on every network of every family.

    Each training of a learner does so for itself: what luck in training brings can then be told
    from what the networks bring. Half of an arena's agents are the contestant's (the larger half of
    an odd number), the others are the field's. Runs with the same family, split and index have the
    same network, seats and payments, so that contestants can be compared run by run.
    """

    name: str
    extensions: tuple[str, ...] = ()
    """Python files that add heuristics, beside this file; absolute paths once it is loaded."""
    contestants: Annotated[tuple[Contestant, ...], Field(min_length=1)]
    learners: Learners | None = None
    """Trained on training networks of the same families before they compete."""
    tuning: Tuning | None = None
    """How the learners' settings were searched for; it changes no run."""
    diagnosis: Diagnosis | None = None
    """How the trained teams are looked into; it changes no run."""
    fields: Annotated[tuple[Opposition, ...], Field(min_length=1)] = (Same(),)
    """`same`: the contestant has all seats."""
    baseline: str
    """The contestant that the others are compared with, by name."""
    families: Annotated[tuple[Family, ...], Field(min_length=1)]
    split: Split = Split.HELD_OUT
    first: Annotated[int, Field(ge=0)] = 0
    """Number of the first network of each family; of training networks learners have the first
    ones (`lessons.networks`), so those from there on are new to them."""
    seeds: Annotated[int, Field(ge=1)] = 10
    """Networks of each family."""
    rounds: Annotated[int, Field(ge=2)] = 100
    update_cost_msat: Annotated[int, Field(ge=0)] = 1_000
    """What announcing one policy costs in profits. Gossip is paid by all who relay it, and peers
    ignore who updates too often, so an update is not free, though nobody sends a bill."""
    stress: Stress | None = None

    @property
    def numbers(self) -> range:
        """Of the networks of each family."""
        return range(self.first, self.first + self.seeds)

    def trainings(self) -> list[Training]:
        """All that have to be finished before the runs."""
        return [one for each in self._grid().values() for one in each]

    def names(self) -> list[str]:
        """Of all contestants, learners included."""
        return [*(one.name for one in self.contestants), *self._grid()]

    def learned(self) -> list[tuple[Cell, tuple[Training, ...]]]:
        """Each kind of learner with its trainings."""
        grid = self._grid()
        cells = [] if self.learners is None else self.learners.cells()
        return [(cell, grid[cell.name]) for cell in cells]

    def trainings_of(self) -> dict[str, tuple[int, ...]]:
        """The seeds of each contestant's trainings; (0,) for who is not trained."""
        learned = {name: tuple(one.seed for one in each) for name, each in self._grid().items()}
        return {one.name: (0,) for one in self.contestants} | learned

    def _grid(self) -> Mapping[str, tuple[Training, ...]]:
        return {} if self.learners is None else self.learners.grid(self.families)

    def _players(self) -> list[Player]:
        """Who competes on every network; each training of a learner by itself."""
        learned = [
            LearnedContestant(learner=name, training=training)
            for name, trainings in self._grid().items()
            for training in trainings
        ]
        return [*self.contestants, *learned]

    def _variants(self, contestant: str, family: str) -> list[tuple[AnyDisturbance | None, float]]:
        """What goes wrong in a run, and how one seat deviates; the plain one first."""
        stress = [] if self.stress is None else self.stress.variants(contestant, family)
        return [(None, 1.0), *stress]

    def runs(self) -> list[RunSpec]:
        """All runs; those of one network stand together."""
        players = self._players()
        return [
            RunSpec(
                contestant=contestant,
                field=field,
                family=family,
                split=self.split,
                index=index,
                rounds=self.rounds,
                disturbance=disturbance,
                deviation=deviation,
            )
            for index in self.numbers
            for family, field, contestant in itertools.product(self.families, self.fields, players)
            for disturbance, deviation in self._variants(contestant.name, family.name)
        ]

    @model_validator(mode="after")
    def _consistent(self) -> Definition:
        names = self.names()
        stress = self.stress or Stress()
        for key, given in (
            ("contestants", names),
            ("fields", [one.name for one in self.fields]),
            ("families", [one.name for one in self.families]),
            ("stress.disturbances", [one.kind for one in stress.disturbances]),
            ("stress.deviations", [f"{one:g}" for one in stress.deviations]),
        ):
            twice = [name for name, count in Counter(given).items() if count > 1]
            if twice:
                raise ValueError(f"{key}: {twice[0]!r} occurs twice")
        families = [one.name for one in self.families]
        lessons = () if self.learners is None else self.learners.lessons.families
        rewards = {} if self.learners is None else self.learners.rewards
        tuned = () if self.tuning is None else tuple(self.tuning.success_worth)
        looked_into = self.diagnosis or Diagnosis()
        for key, named, known in (
            ("stress.contestants", stress.contestants, names),
            ("stress.families", stress.families, families),
            ("learners.lessons.families", lessons, families),
            ("tuning.success_worth", tuned, list(rewards)),
            ("diagnosis.learners", looked_into.learners, list(self._grid())),
            ("diagnosis.newcomers", looked_into.newcomers, list(self._grid())),
        ):
            strange = [one for one in named if one not in known]
            if strange:
                raise ValueError(f"{key}: {strange[0]!r} is none of them")
        late = [one.kind for one in stress.disturbances if one.begin + one.rounds >= self.rounds]
        if late:
            raise ValueError(
                f"stress.disturbances: {late[0]!r} does not end before the {self.rounds} rounds"
            )
        if self.baseline not in names:
            raise ValueError(f"baseline: {self.baseline!r} is none of the contestants")
        return self


def load_definition(name_or_path: str) -> Definition:
    """A definition that comes along, by its name, or the one in a file.

    Raises:
        ExperimentError: with one sentence that names the file and the key.
    """
    text, source = read_named("experiments", name_or_path, ExperimentError)
    extensions = load_named(text, source, Path(source).parent, ExperimentError)
    definition = parse_yaml(text, source, Definition, ExperimentError)
    return definition.model_copy(update={"extensions": extensions})
