"""A `LightningEnv` in which an observation and an action are one vector each."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from lnagents.env.lightning import LightningEnv

Vector = NDArray[np.float32]


class FlatLightningEnv(ParallelEnv[str, Vector, Vector]):
    """For learners that know nothing but vectors: all numbers in the order of the dict's keys.

    Actions are from -1 to 1, stretched to the ranges of what they stand for, and clipped.
    """

    metadata = LightningEnv.metadata

    def __init__(self, env: LightningEnv) -> None:
        """A wrapper of `env`, which is closed with it.

        Raises:
            ValueError: agents of `env` choose routes, which are no numbers.
        """
        if env.settings.routes:
            raise ValueError("routes: a choice among candidates has no place in a vector")
        self.env = env
        self.render_mode = env.render_mode
        self.possible_agents = env.possible_agents
        self.agents = env.agents
        self.state_space = env.state_space
        self._observation_spaces: dict[str, Any] = {
            agent: spaces.flatten_space(env.observation_space(agent)) for agent in env.world.agents
        }
        self._boxes = {
            agent: {
                key: box
                for key, box in env.action_space(agent).spaces.items()
                if isinstance(box, spaces.Box)
            }
            for agent in env.world.agents
        }
        self._action_spaces = {
            agent: spaces.Box(-1.0, 1.0, (sum(_size(box) for box in boxes.values()),), np.float32)
            for agent, boxes in self._boxes.items()
        }

    def observation_space(self, agent: str) -> spaces.Space[Vector]:
        """One vector."""
        space: spaces.Space[Vector] = self._observation_spaces[agent]
        return space

    def action_space(self, agent: str) -> spaces.Space[Vector]:
        """One vector."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Vector], dict[str, dict[str, Any]]]:
        """See `LightningEnv.reset`."""
        observations, infos = self.env.reset(seed, options)
        self.agents = self.env.agents
        return self._flat(observations), infos

    def step(
        self, actions: dict[str, Vector]
    ) -> tuple[
        dict[str, Vector],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """See `LightningEnv.step`."""
        parts = {agent: self._parts(agent, actions[agent]) for agent in self.agents}
        observations, rewards, terminations, truncations, infos = self.env.step(parts)
        self.agents = self.env.agents
        return self._flat(observations), rewards, terminations, truncations, infos

    def _flat(self, observations: dict[str, dict[str, Any]]) -> dict[str, Vector]:
        return {
            agent: np.concatenate([np.ravel(seen[key]) for key in sorted(seen)], dtype=np.float32)
            for agent, seen in observations.items()
        }

    def _parts(self, agent: str, action: Vector) -> dict[str, Any]:
        parts, begin = {}, 0
        for key, box in self._boxes[agent].items():
            end = begin + _size(box)
            level = (np.clip(action[begin:end], -1.0, 1.0) + 1.0) / 2.0
            low, high = box.low.ravel(), box.high.ravel()
            parts[key] = (low + level * (high - low)).reshape(box.shape).astype(np.float32)
            begin = end
        return parts

    def state(self) -> NDArray[Any]:
        """See `LightningEnv.state`."""
        return self.env.state()

    def render(self) -> NDArray[np.uint8] | None:
        """See `LightningEnv.render`."""
        return self.env.render()

    def close(self) -> None:
        """Close the world."""
        self.env.close()


def _size(box: spaces.Box) -> int:
    return int(np.prod(box.shape))
