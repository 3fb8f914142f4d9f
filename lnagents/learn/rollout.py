"""Experience: whole episodes, which depend on the task, the actors and a seed alone.

What happens in one environment depends on the seed of the iteration and the environment's index,
so it does not matter which environments live side by side, or where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnagents.learn.player import Player
from lnagents.learn.policy import Policy
from lnagents.learn.samples import Decision, JointState, Noise, Others, Sight, joined, some
from lnagents.learn.seats import Cast, Guest, learners
from lnagents.learn.task import Actions, SeatArray, Seen, Task, TaskShape

SeedArray: TypeAlias = NDArray[np.uint32]

OTHERS = "others/"
"""Before the names of measures of seats that are not the learner's."""


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """Episodes side by side, all of one length."""

    sight: Sight
    """Tensors that begin with [steps + 1, episodes, agents]: before every step, and at the end."""
    state: JointState | None
    """Likewise without agents; None if no critic sees it."""
    others: Others | None
    """As `sight`; None if nobody foresees others."""
    decisions: Decision
    """Tensors that begin with [steps, episodes, agents]."""
    rewards: Tensor
    """[steps, episodes, agents]."""
    row_rewards: Tensor | None
    """[steps, episodes, agents, rows], see `StepResult`."""
    measures: Mapping[str, NDArray[np.float64]]
    """[steps, episodes] or [steps, episodes, agents] each: what the task measured."""
    memory: Tensor | None = None
    """[steps + 1, episodes, agents, hidden], what agents remembered; None if they never do."""
    learns: Tensor | None = None
    """[episodes, agents], 1 for the learner's seats; on the others decisions are not what happened.
    None: all are the learner's."""

    @property
    def counted(self) -> Tensor | None:
        """[steps, episodes, agents], `learns` of every step."""
        return None if self.learns is None else self.learns.expand_as(self.rewards)

    def returns(self) -> tuple[float, float | None]:
        """Sums of an episode's rewards: means over the learner's seats and over those of others."""
        whole = self.rewards.sum(0)
        if self.learns is None:
            return float(whole.mean()), None
        learns = self.learns > 0.0
        return float(whole[learns].mean()), float(whole[~learns].mean())

    def means(self) -> dict[str, float]:
        """Of what the task measured, on the learner's seats and, as `others/…`, on the others."""
        means = {}
        learns = None if self.learns is None else self.learns.numpy() > 0.0
        for name, values in self.measures.items():
            if learns is None or values.ndim < 3:
                means[name] = float(values.mean())
            else:
                means[name] = float(values[:, learns].mean())
                means[OTHERS + name] = float(values[:, ~learns].mean())
        return means


def collect(
    task: Task, policy: Policy, seed: int, episodes: int, cast: Cast | None = None
) -> Rollout:
    """Live `episodes` episodes in every environment of `task`.

    Args:
        task: where.
        policy: of the learner.
        seed: of all that is drawn.
        episodes: one after the other.
        cast: who plays seats besides the learner; None: nobody but the task itself.

    Raises:
        ValueError: the task's episodes have not the length that it says, or nobody learns in one.
    """
    seeds = episode_seeds(seed, episodes, range(task.shape.batch))
    return side_by_side([live(task, policy, one, cast) for one in seeds])


def episode_seeds(seed: int, episodes: int, environments: range) -> SeedArray:
    """[episodes, environments, 2], of what happens and of what is drawn in each."""
    return np.array(
        [
            [np.random.SeedSequence((seed, *place)).generate_state(2) for place in row]
            for row in ([(episode, one) for one in environments] for episode in range(episodes))
        ],
        np.uint32,
    )


def side_by_side(rollouts: Sequence[Rollout]) -> Rollout:
    """All of them as one."""
    first, *others = rollouts
    if not others:
        return first
    states = [one.state for one in rollouts if one.state is not None]
    around = [one.others for one in rollouts if one.others is not None]
    memories = [one.memory for one in rollouts if one.memory is not None]
    return Rollout(
        sight=joined(torch.hstack, [one.sight for one in rollouts]),
        state=joined(torch.hstack, states) if states else None,
        others=joined(torch.hstack, around) if around else None,
        decisions=joined(torch.hstack, [one.decisions for one in rollouts]),
        rewards=torch.hstack([one.rewards for one in rollouts]),
        row_rewards=None
        if first.row_rewards is None
        else torch.hstack([one.row_rewards for one in rollouts if one.row_rewards is not None]),
        measures={
            name: np.hstack([one.measures[name] for one in rollouts]) for name in first.measures
        },
        memory=torch.hstack(memories) if memories else None,
        learns=None
        if all(one.learns is None for one in rollouts)
        else torch.vstack(
            [
                torch.ones(one.rewards.shape[1:]) if one.learns is None else one.learns
                for one in rollouts
            ]
        ),
    )


def live(
    task: Task,
    policy: Policy,
    seeds: SeedArray,
    cast: Cast | None = None,
    *,
    explores: bool = True,
) -> Rollout:
    """One episode in every environment.

    Args:
        task: where.
        policy: of the learner.
        seeds: [environments, 2], those of `episode_seeds`.
        cast: see `collect`.
        explores: whether the learner draws its actions, or takes the most likely ones.

    Raises:
        ValueError: the task's episodes have not the length that it says, or nobody learns in one.
    """
    algorithm, shape = policy.algorithm, task.shape
    noise = _noise(shape, seeds[:, 1].tolist())
    sights: list[Sight] = []
    states: list[JointState] = []
    others: list[Others] = []
    decisions: list[Decision] = []
    rewards: list[Tensor] = []
    row_rewards: list[Tensor] = []
    measures: list[Mapping[str, NDArray[np.float64]]] = []
    memories: list[Tensor] = []
    player = Player(policy, shape.batch)
    seen = task.reset(seeds[:, 0].tolist())
    guests, learns = _seated(shape, seen, cast, seeds[:, 1].tolist())
    playing = [
        (Player(guest.policy, len(places)), guest, places)
        for guest, places in ((guest, guest.environments()) for guest in guests)
        if len(places)
    ]
    over = False

    def look() -> None:
        if policy.opponents is not None:
            others.append(Others.of(seen))
        sights.append(player.look(seen))
        if player.state is not None:
            memories.append(player.state)
        if algorithm.joint_state:
            states.append(JointState.of(seen))

    while not over:
        look()
        now = some(noise, len(rewards))
        decisions.append(player.decide(sights[-1], now if explores else None))
        actions = decisions[-1].actions()
        result = task.step(_with_guests(actions, playing, seen, now))
        rewards.append(torch.from_numpy(result.rewards))
        if result.row_rewards is not None:
            row_rewards.append(torch.from_numpy(result.row_rewards))
        measures.append(result.measures)
        seen, over = result.seen, result.over
        if over != (len(rewards) == shape.steps):
            raise ValueError(f"an episode of {shape.steps} steps ended after {len(rewards)}")
    look()
    return Rollout(
        sight=joined(torch.stack, sights),
        state=joined(torch.stack, states) if states else None,
        others=joined(torch.stack, others) if others else None,
        decisions=joined(torch.stack, decisions),
        rewards=torch.stack(rewards),
        row_rewards=torch.stack(row_rewards) if row_rewards else None,
        measures={name: np.stack([one[name] for one in measures]) for name in measures[0]},
        memory=torch.stack(memories) if memories else None,
        learns=None if learns is None else torch.from_numpy(learns.astype(np.float32)),
    )


def _noise(shape: TaskShape, seeds: Sequence[int]) -> Noise:
    """Tensors that begin with [steps, environments, agents]; each environment's are its own."""
    drawn = [Noise.drawn(shape, shape.steps, torch.Generator().manual_seed(one)) for one in seeds]
    return joined(lambda parts: torch.stack(parts, 1), drawn)


def _seated(
    shape: TaskShape, seen: Seen, cast: Cast | None, seeds: Sequence[int]
) -> tuple[Sequence[Guest], SeatArray | None]:
    """The guests of an episode, and whose seats are the learner's; None: all are."""
    if cast is None and seen.learns is None:
        return (), None
    free = np.ones((shape.batch, shape.agents), np.bool_) if seen.learns is None else seen.learns
    guests = cast.guests(free, seeds) if cast is not None else ()
    learns = learners(free, guests)
    return guests, None if learns.all() else learns


def _with_guests(
    own: Actions,
    playing: Sequence[tuple[Player, Guest, NDArray[np.intp]]],
    seen: Seen,
    noise: Noise,
) -> Actions:
    """The learner's actions, and on their seats those of the guests.

    Where a guest sits, what the learner would have drawn is not used; so it draws with the same.
    """
    if not playing:
        return own
    rows, choice = own.rows.copy(), own.choice.copy()
    for player, guest, places in playing:
        sight = player.look(seen.taken(places))
        drawn = some(noise, torch.from_numpy(places)) if guest.explores else None
        theirs = player.decide(sight, drawn).actions()
        seats = guest.seats[places]
        rows[places] = np.where(seats[..., None, None], theirs.rows, rows[places])
        choice[places] = np.where(seats, theirs.choice, choice[places])
    return Actions(rows, choice)
