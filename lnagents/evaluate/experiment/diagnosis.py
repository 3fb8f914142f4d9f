"""Could anyone gain by learning against an experiment's teams, and how do they do among strangers?

Like `lnagents.evaluate.diagnosis`, for teams whose networks are others in every episode. Everything
is told as *seatings*: one agent sits among agents that are all of one team, on held-out networks.

- **Best response**: a newcomer learns against a frozen team, as the team did, but for money alone,
  on training networks. What it gets in a seat, less what the team's own agent gets there in the
  same episodes, is a lower bound of what can be gained by leaving the team's ways; with a short
  training it may even be negative, which says nothing.
- **Cross-play**: of teams that were trained apart for the same reward, an agent of one sits among
  those of another; it is judged by that reward.

Everybody does what is most likely, as when actors are used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lnagents import __version__
from lnagents.evaluate import train_run
from lnagents.evaluate.diagnosis import responder_settings
from lnagents.evaluate.experiment import school
from lnagents.evaluate.experiment.arena_task import ArenaTask, Table
from lnagents.evaluate.experiment.definition import Definition
from lnagents.evaluate.experiment.families import Family, Split
from lnagents.evaluate.experiment.lessons import Cell, Diagnosis, Training, id_of
from lnagents.evaluate.results import Results
from lnagents.evaluate.training import RewardSpec
from lnagents.model.errors import ExperimentError
from lnagents.model.files import StrictModel

if TYPE_CHECKING:
    from lnagents.learn.policy import Policy
    from lnagents.learn.seats import Guest
    from lnagents.learn.task import SeatArray, TaskShape

FOLDER = "diagnosis"
"""In the folder of an experiment's results."""

MONEY = RewardSpec(failed_attempt_msat=0, network_term_msat=0)
"""What an agent earns less what it pays, and nothing else."""

NEWCOMERS = "newcomers"
NEWCOMER: Literal["newcomer"] = "newcomer"
PROFIT = "(money)"
"""What results call `MONEY`; in brackets, as an experiment may have a reward of that name."""

_STREAM = 5
"""Sets these episodes apart from those of training."""


class Seating(StrictModel):
    """Who sits among whom, and by which reward it is judged."""

    agent: Training | Literal["newcomer"]
    among: Training
    reward: RewardSpec
    diagnosis: Diagnosis
    teams: tuple[str, str]
    """Digests of the checkpoints of both; of a newcomer that of the team it learned against."""

    @property
    def id(self) -> str:
        """The same for the same seating of the same teams only."""
        return id_of(self)


@dataclass(frozen=True, slots=True)
class SeatingResult:
    """What the agent got; lists have an entry for each network."""

    run: str
    """Who sits among whom, in words."""
    made_of: str
    """The seating's id: another team, or another effort, and the seating is made again."""
    agent: str
    """A learner's name, or `newcomer`."""
    agent_training: int
    """By its seed; of a newcomer that of the team it learned against."""
    among: str
    among_training: int
    reward: str
    """By which it is judged, by name; `PROFIT` for what it earns less what it pays."""
    family: tuple[str, ...]
    network: tuple[int, ...]
    returns: tuple[float, ...]
    """Of an episode, mean over episodes; see `arena_task.reward_scale` for the unit."""
    version: str
    """Of lnagents."""


@dataclass(frozen=True, slots=True, eq=False)
class Team:
    """One training's team."""

    cell: Cell
    training: Training
    checkpoint: bytes

    @property
    def name(self) -> str:
        """Of the learner, and the training's seed."""
        return f"{self.cell.name} {self.training.seed}"

    @property
    def digest(self) -> str:
        """Of its checkpoint."""
        return school.digest(self.checkpoint)


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A seating and who takes part in it."""

    seating: Seating
    agent: Team | None
    """None: a newcomer."""
    among: Team
    reward: str

    @property
    def own(self) -> Team:
        """The team of the agent, or the one that a newcomer learned against."""
        return self.agent or self.among

    @property
    def agent_name(self) -> str:
        """What it is called in results."""
        return NEWCOMER if self.agent is None else self.agent.cell.name

    @property
    def name(self) -> str:
        """In words."""
        agent = f"{self.agent_name} {self.own.training.seed}"
        return f"{agent} among {self.among.name}, {self.reward}"


class OneSeat:
    """A `Cast`: one seat of each environment is the learner's, a team has all others."""

    def __init__(self, team: Policy, turn: int | None = None) -> None:
        """With `turn` seats go round, one further with each turn; without, lots are drawn."""
        self._team = team
        self._turn = turn

    def guests(self, learns: SeatArray, seeds: Sequence[int]) -> Sequence[Guest]:
        """See `lnagents.learn.seats.Cast.guests`."""
        from lnagents.learn.seats import Guest

        seats = learns.copy()
        for place, seed in enumerate(seeds):
            free = np.flatnonzero(learns[place])
            turn = place + self._turn if self._turn is not None else seed
            seats[place, free[turn % len(free)]] = False
        return [Guest(self._team, seats, explores=False)]


def teams_of(definition: Definition, diagnosis: Diagnosis, folder: Path) -> list[Team]:
    """The teams that are to be looked into; those that are not there are trained.

    Raises:
        ExperimentError: the definition has no learners.
        CheckpointError: a training was begun by other code.
    """
    teams = []
    for cell, trainings in definition.learned():
        if diagnosis.learners and cell.name not in diagnosis.learners:
            continue
        for one in trainings:
            school.train(one, school.folder_of(folder, one))
            teams.append(Team(cell, one, school.read_team(folder, one)))
    if not teams:
        raise ExperimentError(definition.name, "learners: there are none to look into")
    return teams


def plan(teams: Sequence[Team], diagnosis: Diagnosis) -> list[Planned]:
    """All seatings: own agents and newcomers in each team, and every pair of the same reward."""
    planned = []

    def seat(agent: Team | None, among: Team, reward: RewardSpec, name: str) -> None:
        seating = Seating(
            agent=NEWCOMER if agent is None else agent.training,
            among=among.training,
            reward=reward,
            diagnosis=diagnosis,
            teams=((agent or among).digest, among.digest),
        )
        planned.append(Planned(seating, agent, among, name))

    for team in teams:
        seat(team, team, MONEY, PROFIT)
    for one, other in itertools.product(teams, teams):
        if one.cell.reward == other.cell.reward:
            seat(one, other, one.training.reward, one.cell.reward)
    # What takes longest comes last, one training of each learner after the other.
    for team in sorted(teams, key=lambda one: one.training.seed):
        if not diagnosis.newcomers or team.cell.name in diagnosis.newcomers:
            seat(None, team, MONEY, PROFIT)
    return planned


def diagnose(
    definition: Definition,
    diagnosis: Diagnosis,
    folder: Path,
    *,
    progress: Callable[[int, int], None],
) -> int:
    """Make all seatings that are not there yet; returns how many were made.

    Who learns is kept beside the results, and an interrupted training goes on.

    Args:
        definition: of the experiment.
        diagnosis: how much is done.
        folder: of the experiment's results.
        progress: told how many of all seatings are done.

    Raises:
        ExperimentError: there are no learners, or results are damaged.
        CheckpointError: a checkpoint is of other code.
    """
    import torch

    torch.set_num_threads(1)
    planned = plan(teams_of(definition, diagnosis, folder), diagnosis)
    results = Results(folder / FOLDER, SeatingResult)
    made_of: dict[str, str] = {}
    if results.done():
        found = results.query("SELECT run, made_of FROM runs")
        made_of = dict(zip(found["run"], found["made_of"], strict=True))
    waiting = [one for one in planned if made_of.get(one.name) != one.seating.id]
    progress(len(planned) - len(waiting), len(planned))
    try:
        for made, one in enumerate(waiting, 1):
            results.append(_seated(one, folder))
            progress(len(planned) - len(waiting) + made, len(planned))
    finally:
        results.gather()
    return len(waiting)


def _seated(planned: Planned, folder: Path) -> SeatingResult:
    seating = planned.seating
    task = _held_out_task(planned)
    among = _policy(planned.among.checkpoint, task.shape)
    agent = planned.agent
    checkpoint = _newcomer(planned, folder) if agent is None else agent.checkpoint
    returns = _returns(task, _policy(checkpoint, task.shape), among, seating.diagnosis.episodes)
    families = seating.among.families
    networks = seating.diagnosis.networks
    return SeatingResult(
        run=planned.name,
        made_of=seating.id,
        agent=planned.agent_name,
        agent_training=planned.own.training.seed,
        among=planned.among.cell.name,
        among_training=planned.among.training.seed,
        reward=planned.reward,
        family=tuple(family.name for family in families for _ in range(networks)),
        network=tuple(range(networks)) * len(families),
        returns=tuple(returns),
        version=__version__,
    )


def _newcomer(planned: Planned, folder: Path) -> bytes:
    """The checkpoint of one who has learned against a team."""
    from lnagents.learn.trainer import Trainer

    diagnosis, team = planned.seating.diagnosis, planned.among.training
    task = ArenaTask(
        [Table(family, True, diagnosis.environments) for family in team.families],
        MONEY.settings(team.lessons.rounds),
        networks=team.lessons.networks,
        joint_state=_central(team),
        foresight=_foresees(team),
    )
    among = _policy(planned.among.checkpoint, task.shape)
    settings = responder_settings(team.settings(), diagnosis.iterations)
    place = folder / FOLDER / NEWCOMERS / planned.seating.id
    place.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(task, settings, team.seed, OneSeat(among))
    train_run.train(trainer, place)
    return (place / train_run.CHECKPOINT).read_bytes()


def _held_out_task(planned: Planned) -> ArenaTask:
    agent, among = planned.own.training, planned.among.training
    return _arenas(
        among.families,
        planned.seating.reward,
        among.lessons.rounds,
        planned.seating.diagnosis.networks,
        any(_central(one) for one in (agent, among)),
        any(_foresees(one) for one in (agent, among)),
    )


@lru_cache(maxsize=8)
def _arenas(
    families: tuple[Family, ...],
    reward: RewardSpec,
    rounds: int,
    networks: int,
    joint_state: bool,
    foresight: bool,
) -> ArenaTask:
    """An environment for each held-out network."""
    return ArenaTask(
        [Table(family, True, networks) for family in families],
        reward.settings(rounds),
        networks=networks,
        joint_state=joint_state,
        foresight=foresight,
        split=Split.HELD_OUT,
        in_turn=True,
    )


def _central(training: Training) -> bool:
    from lnagents.learn.algorithms import ALGORITHMS

    return ALGORITHMS[training.settings().algorithm].joint_state


def _foresees(training: Training) -> bool:
    from lnagents.learn.settings import OpponentMode

    return training.settings().opponent_model is not OpponentMode.NONE


def _policy(checkpoint: bytes, shape: TaskShape) -> Policy:
    from lnagents.learn.trainer import load_policy

    return load_policy(checkpoint, shape)


def _returns(task: ArenaTask, agent: Policy, among: Policy, episodes: int) -> list[float]:
    """[environments], what the agent gets in an episode, mean over episodes."""
    from lnagents.learn.rollout import episode_seeds, live

    seed = int(np.random.SeedSequence(_STREAM).generate_state(1)[0])
    every = []
    for turn, seeds in enumerate(episode_seeds(seed, episodes, range(task.shape.batch))):
        rollout = live(task, agent, seeds, OneSeat(among, turn), explores=False)
        if rollout.learns is None:
            raise ValueError("an agent alone is not among others")
        every.append((rollout.rewards.sum(0) * rollout.learns).sum(1).double().numpy())
    returns: list[float] = np.mean(every, axis=0).tolist()
    return returns
