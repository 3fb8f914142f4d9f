"""What several agents are trained on: many equal environments at once, as arrays, without dicts.

A task is B environments of N agents. Each agent sees a set of rows (its channels), what concerns
it as a whole, and what it can tell about its neighbourhood; only central critics see the joint
state. What a task does not have is an array of length zero. An agent without a set, say with one
vector as its observation, has no rows and everything in `whole`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lnagents.learn.experience import FloatArray

MoveArray: TypeAlias = NDArray[np.int64]
ChoiceArray: TypeAlias = NDArray[np.int64]
SeatArray: TypeAlias = NDArray[np.bool_]
Number = TypeVar("Number", np.float32, np.int64)


@dataclass(frozen=True, slots=True)
class TaskShape:
    """Sizes and names of the columns: networks are built from them, checkpoints carry them.

    Raises:
        ValueError: a size is out of its range, or there is nothing to decide.
    """

    batch: int
    """Environments, B."""
    agents: int
    """In each environment, N."""
    steps: int
    """Length of every episode; all environments begin and end theirs together."""
    rows: int = 0
    """Most rows of an agent, R."""
    row_features: tuple[str, ...] = ()
    whole_features: tuple[str, ...] = ()
    neighbour_features: tuple[str, ...] = ()
    """Mean action and mean state of the neighbourhood, as far as an agent can observe them."""
    state_rows: int = 0
    """Most rows of the joint state, E; a state that is one vector has one row."""
    state_features: tuple[str, ...] = ()
    foresight_features: tuple[str, ...] = ()
    """Of every row, for a model that foresees the others: what an agent can observe of them."""
    moves: tuple[str, ...] = ()
    """Of every row, what others set and such a model foresees to be moved."""
    move_sizes: tuple[float, ...] = ()
    """Where classes of moves end, ascending, up and down alike: the largest moves down are class 0,
    no move at all is the class in the middle."""
    liquidity_bins: int = 0
    """Of every row, bins in which the hidden balances of others lie."""
    actions: tuple[str, ...] = ()
    """Continuous, each from -1 to 1, for every row."""
    choices: tuple[str, ...] = ()
    """Of which every agent takes one."""
    final: bool = False
    """Whether nothing is worth anything after the last step; else an episode is only cut off."""

    def __post_init__(self) -> None:
        for name in ("batch", "agents", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("rows", "state_rows", "liquidity_bins"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if not self.actions and not self.choices:
            raise ValueError("a task needs actions or choices")
        if self.actions and not self.rows:
            raise ValueError("actions belong to rows, and there are none")
        if bool(self.rows) != bool(self.row_features):
            raise ValueError("rows have features, or there are neither")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What there is to see at one moment. A task makes fresh arrays each time: they are kept."""

    rows: FloatArray
    """[B, N, R, row features]."""
    mask: FloatArray
    """[B, N, R], 1 for real rows, 0 for padding; what rows of padding hold never matters."""
    whole: FloatArray
    """[B, N, whole features]."""
    neighbours: FloatArray
    """[B, N, neighbour features]; without features where no algorithm asked for them."""
    state: FloatArray
    """[B, E, state features]; for central critics only, actors never get it."""
    state_mask: FloatArray
    """[B, E], 1 for real rows, 0 for padding."""
    choice_mask: FloatArray
    """[B, N, choices], 1 for those that may be taken: at least one."""
    learns: SeatArray | None = None
    """[B, N], false where the task plays a seat itself, whatever it is told to do there; the same
    for a whole episode, in which every environment has a learner. None: all seats learn."""
    foresight: FloatArray | None = None
    """[B, N, R, foresight features]; None: the task tells nothing of others."""
    moves: MoveArray | None = None
    """[B, N, R, moves], the classes of the moves since the moment before, negative if not known;
    agents observe them. None as for `foresight`."""
    liquidity: FloatArray | None = None
    """[B, N, R, liquidity bins], where the hidden balances are: shares that sum to 1, or zeros if
    there are none. For training and scores only, actors never get it. None as for `foresight`."""

    def taken(self, places: NDArray[np.intp]) -> Seen:
        """The same of some environments, in this order."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        some: dict[str, Any] = {
            name: None if array is None else array[places] for name, array in given.items()
        }
        return Seen(**some)

    @classmethod
    def blank(cls, shape: TaskShape) -> Seen:
        """Zeros to be filled in; all rows and choices are real."""
        agents = (shape.batch, shape.agents)
        state = (shape.batch, shape.state_rows)

        def others(kind: type[Number], count: int) -> NDArray[Number] | None:
            return (
                np.zeros((*agents, shape.rows, count), kind) if shape.foresight_features else None
            )

        return cls(
            rows=np.zeros((*agents, shape.rows, len(shape.row_features)), np.float32),
            mask=np.ones((*agents, shape.rows), np.float32),
            whole=np.zeros((*agents, len(shape.whole_features)), np.float32),
            neighbours=np.zeros((*agents, len(shape.neighbour_features)), np.float32),
            state=np.zeros((*state, len(shape.state_features)), np.float32),
            state_mask=np.ones(state, np.float32),
            choice_mask=np.ones((*agents, len(shape.choices)), np.float32),
            foresight=others(np.float32, len(shape.foresight_features)),
            moves=others(np.int64, len(shape.moves)),
            liquidity=others(np.float32, shape.liquidity_bins),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Actions:
    """What all agents want."""

    rows: FloatArray
    """[B, N, R, actions], from -1 to 1; 0 for rows of padding."""
    choice: ChoiceArray
    """[B, N], the index of what is taken; 0 if the task has no choices."""


@dataclass(frozen=True, slots=True, eq=False)
class StepResult:
    """What one step brought."""

    seen: Seen
    """After the step; after the last one of an episode the last that is seen of it."""
    rewards: FloatArray
    """[B, N]."""
    over: bool
    """Whether the episodes have ended: all do at once, after `TaskShape.steps` steps."""
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Figures to be logged beside the rewards: [B, N], or [B] of an environment as a whole."""
    row_rewards: FloatArray | None = None
    """[B, N, R], the parts of the rewards that are known to be due to single rows; None: none."""


class Task(Protocol):
    """B environments in lockstep.

    What happens in one depends on its seed and actions alone, bit for bit, and not on the others:
    so the environments of one task can as well be those of several, on several machines.
    """

    @property
    def shape(self) -> TaskShape:
        """Stays the same."""

    def reset(self, seeds: Sequence[int]) -> Seen:
        """Begin episodes in all environments, also while others are under way.

        Args:
            seeds: [B], below 2**32.
        """

    def step(self, actions: Actions) -> StepResult:
        """Live one step everywhere.

        Raises:
            RuntimeError: no episodes are under way.
        """

    def close(self) -> None:
        """Free what the task holds."""
