"""Actors that begin with a rule instead of with nothing.

A rule here is a level of each action that is linear in what is seen of a row. Actors are fitted to
it before they are trained, on features that are drawn from where features are, each by itself, so
that it holds wherever training leads. Learning then has to find out only what is better than it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from lnagents.learn.adam import Adam
from lnagents.learn.networks import ChannelActor
from lnagents.learn.team import TeamSizes
from lnagents.model.errors import ConfigError

CONSTANT = "constant"
"""Among the weights of a rule: what is added whatever is seen."""

HIGHEST_LEVEL = 0.95
"""Rules are cut off here: bounds of actions are approached, but never reached."""

SAMPLES, ROWS, STEPS, LEARNING_RATE = 32, 8, 600, 3e-3
"""Of the fit: agents and rows of each in a step, how many steps, and Adam's rate."""

NOTHING, LEAST, MOST = 0.4, -0.2, 1.2
"""Features are exactly 0 with this probability, as flows often are, and else between these two."""


def fit_to_rule(
    actor: ChannelActor,
    sizes: TeamSizes,
    rule: Mapping[str, Mapping[str, float]],
    generator: torch.Generator,
) -> float:
    """Move `actor` to where its most likely actions are those of `rule`; returns the squared error.

    Args:
        actor: of rows.
        sizes: what it sees and does.
        rule: by action, the weight of each feature of a row, and of `CONSTANT`; an action that is
            not named begins at 0.
        generator: of the rows.

    Raises:
        ConfigError: there is no such action or feature.
    """
    seen = sizes.seen
    weights = _weights(seen, rule)
    agents = (sizes.copies,) if sizes.copies else ()
    optimiser = Adam(actor.parameters(), LEARNING_RATE)
    mask = torch.ones(*agents, SAMPLES, ROWS)
    error = torch.zeros(())
    for _ in range(STEPS):
        rows = _drawn((*mask.shape, len(seen.channel_features)), generator)
        whole = _drawn((*mask.shape[:-1], len(seen.node_features)), generator)
        levels = (rows @ weights[:-1] + weights[-1]).clamp(-HIGHEST_LEVEL, HIGHEST_LEVEL)
        # Fresh actors do not heed what is foreseen and remembered.
        mean, _ = actor(
            functional.pad(rows, (0, sizes.foreseen)),
            functional.pad(whole, (0, sizes.remembered)),
            mask,
        )
        error = (mean - levels.atanh()).square().mean()
        optimiser.clear()
        torch.autograd.backward(error)
        optimiser.step()
    return float(error.detach())


def _drawn(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = LEAST + (MOST - LEAST) * torch.rand(shape, generator=generator)
    return values * (torch.rand(shape, generator=generator) >= NOTHING)


def _weights(sizes: TeamSizes, rule: Mapping[str, Mapping[str, float]]) -> Tensor:
    """[row features + 1, actions], the constants last."""
    columns = (*sizes.channel_features, CONSTANT)
    weights = torch.zeros(len(columns), len(sizes.actions))
    for action, parts in rule.items():
        if action not in sizes.actions:
            problem = f"first_rule: {action!r} is none of {', '.join(sizes.actions)}"
            raise ConfigError("train", problem)
        for name, weight in parts.items():
            if name not in columns:
                problem = f"first_rule.{action}: {name!r} is none of {', '.join(columns)}"
                raise ConfigError("train", problem)
            weights[columns.index(name), sizes.actions.index(action)] = weight
    return weights
