"""Play `mpe2.simple_spread_v3` itself: trained actors, and what to compare them with."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnagents.evaluate.reference.spread import (
    AGENTS,
    CHOICES,
    KEPT,
    LOCAL_RATIO,
    PUSH,
    SECONDS,
    STEPS,
    FloatArray,
    SpreadTask,
    neighbourhood,
    seen_of,
)
from lnagents.model.errors import LnagentsError

if TYPE_CHECKING:
    from lnagents.learn.policy import Policy
    from lnagents.learn.task import Seen

SIDE_BY_SIDE = 50
"""Environments that are played at once, so that actors decide for all of them together."""

AHEAD = SECONDS * (1.0 + KEPT)
"""How far an agent comes by itself, per unit of its velocity, until what it does now shows."""
NEAR = SECONDS**2 * PUSH
"""How far a push moves an agent in the first step: who is nearer had better not push."""

Choices: TypeAlias = NDArray[np.int64]
Actor: TypeAlias = "Callable[[Seen], Choices]"
"""From what there is to see to a choice [batch, agents]."""


def play(actor: Actor, episodes: int, seed: int) -> NDArray[np.float64]:
    """Returns of episodes of mpe2, rewards summed over steps and agents: [episodes].

    Args:
        actor: gets no joint state.
        episodes: how many.
        seed: of the first episode's environment, the next ones count on.

    Raises:
        LnagentsError: mpe2 is not installed.
    """
    parts = [
        _play(actor, range(begin, min(begin + SIDE_BY_SIDE, seed + episodes)))
        for begin in range(seed, seed + episodes, SIDE_BY_SIDE)
    ]
    return np.concatenate(parts)


def most_likely(policy: Policy) -> Actor:
    """What a trained team does without exploring."""
    return lambda seen: policy.act(seen).choice


def at_random(seed: int) -> Actor:
    """Any choice, drawn from `seed`."""
    rng = np.random.default_rng(seed)
    return lambda seen: rng.integers(len(CHOICES), size=seen.whole.shape[:2])


def greedy(seen: Seen) -> Choices:
    """Each agent goes straight to a landmark of its own, so that all ways together are shortest.

    Who goes where is decided anew at every step (Kuhn 1955), from where agents will be two steps
    later, when what they do now begins to show.
    """
    from scipy.optimize import linear_sum_assignment

    observation = seen.whole.astype(float)
    batch, agents = observation.shape[:2]
    velocity = observation[..., 0:2]
    ways = observation[..., 4 : 4 + 2 * agents].reshape(batch, agents, agents, 2)
    ways = ways - AHEAD * velocity[:, :, None]
    lengths = np.sqrt(np.square(ways).sum(-1))
    choices = np.zeros((batch, agents), np.int64)
    for place in range(batch):
        _, taken = linear_sum_assignment(lengths[place])
        way = ways[place, np.arange(agents), taken]
        along_y = np.abs(way[:, 1]) > np.abs(way[:, 0])
        longer = np.where(along_y, way[:, 1], way[:, 0])
        choices[place] = np.where(
            np.abs(longer) < NEAR, 0, 1 + 2 * along_y + (longer > 0.0).astype(np.int64)
        )
    return choices


def simple_spread() -> Any:
    """A `mpe2.simple_spread_v3` in its parallel form, as PettingZoo knows it.

    Raises:
        LnagentsError: mpe2 is not installed.
    """
    # Else pygame, which draws mpe2's pictures, greets on standard output.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        from mpe2 import simple_spread_v3
    except ImportError as exc:
        raise LnagentsError("mpe2 is missing: python -m pip install mpe2") from exc
    return simple_spread_v3.parallel_env(
        N=AGENTS, local_ratio=LOCAL_RATIO, max_cycles=STEPS, continuous_actions=False
    )


def _play(actor: Actor, seeds: range) -> NDArray[np.float64]:
    worlds = [simple_spread() for _ in seeds]
    names = worlds[0].possible_agents
    shape = SpreadTask(len(worlds)).shape
    no_state = np.zeros((shape.batch, shape.state_rows, len(shape.state_features)), np.float32)
    seen = [world.reset(seed=seed)[0] for world, seed in zip(worlds, seeds, strict=True)]
    returns = np.zeros(len(worlds))
    before: FloatArray | None = None
    while worlds[0].agents:
        observation = np.array([[one[name] for name in names] for one in seen], np.float32)
        neighbours = neighbourhood(observation, before)
        before = observation
        chosen = actor(seen_of(shape, observation, neighbours, no_state))
        for place, world in enumerate(worlds):
            actions = dict(zip(names, chosen[place].tolist(), strict=True))
            seen[place], rewards, *_ = world.step(actions)
            returns[place] += sum(rewards.values())
    for world in worlds:
        world.close()
    return returns
