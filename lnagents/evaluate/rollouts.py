"""An iteration's episodes, lived wherever an executor does its jobs.

A part is one episode of the environments that are decided for together. What happens in it depends
on its seeds and the actors alone, so parts that live apart are, bit for bit, what they are together
(on processors of one kind: others may multiply matrices in another order).
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lnagents.evaluate.executors import Executor
from lnagents.evaluate.train_run import TrainConfig
from lnagents.evaluate.training import LightningTask

if TYPE_CHECKING:
    from lnagents.learn.policy import Policy
    from lnagents.learn.rollout import Rollout, SeedArray


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One job."""

    config: TrainConfig
    environments: range
    seeds: SeedArray
    """[environments, 2], see `lnagents.learn.rollout.episode_seeds`."""
    weights: dict[str, dict[str, Any]]
    """Of the policy, see `Policy.weights`; as arrays."""


class SpreadRollouts:
    """Collects experience for a `Trainer`."""

    def __init__(self, config: TrainConfig, executor: Executor) -> None:
        """Parts of the task of `config`, done by `executor`."""
        self._config = config
        self._executor = executor
        count = config.task.environments
        together = config.train.together or count
        self._groups = [
            range(begin, min(begin + together, count)) for begin in range(0, count, together)
        ]

    @property
    def parts(self) -> int:
        """How many jobs there are in an iteration: more workers have nothing to do."""
        return len(self._groups) * self._config.train.episodes

    def __call__(self, policy: Policy, seed: int, episodes: int) -> Rollout:
        """As `lnagents.learn.rollout.collect` does."""
        from lnagents.learn.rollout import episode_seeds, side_by_side

        weights = {
            network: {name: one.numpy() for name, one in state.items()}
            for network, state in policy.weights().items()
        }
        seeds = [episode_seeds(seed, episodes, group) for group in self._groups]
        parts = [
            Part(self._config, group, seeds[place][episode], weights)
            for episode in range(episodes)
            for place, group in enumerate(self._groups)
        ]
        lived = dict(self._executor.run(live_part, parts))
        return side_by_side([pickle.loads(lived[place]) for place in range(len(parts))])  # noqa: S301 - from our own workers


def live_part(part: Part) -> bytes:
    """The `Rollout` of one part, pickled."""
    import torch

    from lnagents.learn.policy import Policy
    from lnagents.learn.rollout import live

    torch.set_num_threads(part.config.threads)
    task = _task(part.config, part.environments)
    weights = {
        network: {name: torch.from_numpy(one) for name, one in state.items()}
        for network, state in part.weights.items()
    }
    policy = Policy(task.shape, part.config.train, torch.Generator()).copied(weights)
    return pickle.dumps(live(task, policy, part.seeds))


@lru_cache(maxsize=4)
def _task(config: TrainConfig, environments: range) -> LightningTask:
    """Worlds are made once in every process."""
    return config.make_task(environments)
