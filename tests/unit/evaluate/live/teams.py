"""A trained team that is there at once."""

from __future__ import annotations

from pathlib import Path

import torch

from lnagents.env.encoding import ACTION_NAMES, CHANNEL_FEATURE_NAMES, NODE_FEATURE_NAMES
from lnagents.env.neighbourhood import NEIGHBOUR_FEATURES
from lnagents.learn import team_checkpoint
from lnagents.learn.policy import Policy
from lnagents.learn.settings import Recurrence, TrainSettings
from lnagents.learn.task import TaskShape


def write_team(path: Path, memory: float | None = None) -> Path:
    """Actors with random opinions, as `lnagents train` saves them.

    Args:
        path: of the checkpoint.
        memory: what the weights of their memory are multiplied with; None: they have none.
    """
    shape = TaskShape(
        batch=1,
        agents=2,
        steps=1,
        rows=2,
        row_features=CHANNEL_FEATURE_NAMES,
        whole_features=NODE_FEATURE_NAMES,
        neighbour_features=NEIGHBOUR_FEATURES,
        actions=ACTION_NAMES,
    )
    recurrence = Recurrence.NONE if memory is None else Recurrence.GRU
    settings = TrainSettings(hidden=8, recurrence=recurrence)
    generator = torch.Generator().manual_seed(5)
    policy = Policy(shape, settings, generator)
    for weights in policy.actor.parameters():
        weights.data += 0.3 * torch.randn(weights.shape, generator=generator)
    state = {"actor": policy.actor.state_dict()}
    if memory is not None and policy.memory is not None:
        for weights in policy.memory.parameters():
            weights.data *= memory
        state["memory"] = policy.memory.state_dict()
    path.write_bytes(team_checkpoint.pack(shape, settings, 5, state))
    return path
