"""What distinguishes the algorithms: who sees what. All else is the same trainer.

- IPPO (de Witt et al. 2020): actor and critic see what their agent sees.
- MAPPO (Yu et al. 2022): the critic sees the joint state, too; it is needed in training only.
- Mean-field PPO (after Yang et al. 2018): actor and critic also see the mean action and the mean
  state of the neighbourhood, as far as the agent itself can observe them.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnagents.learn.settings import AlgorithmName
from lnagents.learn.task import TaskShape


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Who sees what."""

    neighbours: bool = False
    """Actor and critic see the neighbourhood."""
    joint_state: bool = False
    """The critic sees the joint state."""


ALGORITHMS = {
    AlgorithmName.IPPO: Algorithm(),
    AlgorithmName.MAPPO: Algorithm(joint_state=True),
    AlgorithmName.MEAN_FIELD: Algorithm(neighbours=True),
}


def algorithm_for(name: AlgorithmName, shape: TaskShape) -> Algorithm:
    """The algorithm, if the task offers what it looks at.

    Raises:
        ValueError: it does not.
    """
    algorithm = ALGORITHMS[name]
    if algorithm.neighbours and not shape.neighbour_features:
        raise ValueError(f"{name.value} needs a task that tells about neighbourhoods")
    if algorithm.joint_state and not (shape.state_rows and shape.state_features):
        raise ValueError(f"{name.value} needs a task that tells the joint state")
    return algorithm
