"""What distinguishes the algorithms: who sees what, and what is learned from it.

All else is the same trainer. Of those that come along only what is seen differs:

- IPPO (de Witt et al. 2020): actor and critic see what their agent sees.
- MAPPO (Yu et al. 2022): the critic sees the joint state, too; it is needed in training only.
- Mean-field PPO (after Yang et al. 2018): actor and critic also see the mean action and the mean
  state of the neighbourhood, as far as the agent itself can observe them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from torch import Tensor

from lnagents.learn import ppo
from lnagents.learn.task import TaskShape

Credit: TypeAlias = Callable[[Tensor], Tensor]
Objective: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]


class AlgorithmName(str, Enum):
    """Those that come along."""

    IPPO = "ippo"
    MAPPO = "mappo"
    MEAN_FIELD = "mean-field"


def own(rewards: Tensor) -> Tensor:
    """Each agent learns from what it got itself."""
    return rewards


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Who sees what, and what is learned from it."""

    neighbours: bool = False
    """Actor and critic see the neighbourhood."""
    joint_state: bool = False
    """The critic sees the joint state."""
    credit: Credit = own
    """From rewards [steps, episodes, agents] to those that each agent learns from."""
    objective: Objective = ppo.clipped_objective
    """What the actor climbs, for every decision: of the log of how much likelier it became, its
    advantage (both broadcast), and `TrainSettings.clip`."""


ALGORITHMS: dict[str, Algorithm] = {
    AlgorithmName.IPPO.value: Algorithm(),
    AlgorithmName.MAPPO.value: Algorithm(joint_state=True),
    AlgorithmName.MEAN_FIELD.value: Algorithm(neighbours=True),
}
"""By the name that configurations use; `register_algorithm` adds to them."""


def register_algorithm(name: str, algorithm: Algorithm) -> None:
    """From now on configurations may name it.

    Raises:
        ValueError: the name is taken.
    """
    if name in ALGORITHMS:
        raise ValueError(f"there is an algorithm {name!r} already")
    ALGORITHMS[name] = algorithm


def known_algorithm(name: str) -> str:
    """The same name.

    Raises:
        ValueError: there is no such algorithm.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"{name!r} is none of {', '.join(ALGORITHMS)}")
    return name


def algorithm_for(name: str, shape: TaskShape) -> Algorithm:
    """The algorithm, if the task offers what it looks at.

    Raises:
        ValueError: it does not.
    """
    algorithm = ALGORITHMS[name]
    if algorithm.neighbours and not shape.neighbour_features:
        raise ValueError(f"{name} needs a task that tells about neighbourhoods")
    if algorithm.joint_state and not (shape.state_rows and shape.state_features):
        raise ValueError(f"{name} needs a task that tells the joint state")
    return algorithm
