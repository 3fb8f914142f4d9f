"""The saved form of a team in training: tensors and plain values, readable without running code."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass

import torch

from lnagents import __version__
from lnagents.learn.checkpoint import broken_state_refused
from lnagents.learn.experience import State
from lnagents.learn.settings import OpponentMode, TrainSettings
from lnagents.learn.task import TaskShape
from lnagents.model.errors import CheckpointError

SCHEMA = "lnagents.learn.team"
VERSION = 2

OBSERVATION = ("row_features", "whole_features", "neighbour_features", "actions", "choices")
"""What must be equal for an actor's weights to mean the same; it fits any number of rows."""

FORESIGHT = ("foresight_features", "moves", "move_sizes", "liquidity_bins")
"""Likewise for a model of other agents."""


@dataclass(frozen=True, slots=True, eq=False)
class TeamCheckpoint:
    """Everything that a trainer continues from."""

    shape: TaskShape
    settings: TrainSettings
    seed: int
    code: str
    """Version of the code that wrote it."""
    state: State


def pack(shape: TaskShape, settings: TrainSettings, seed: int, state: State) -> bytes:
    """Everything in one piece."""
    whole = {
        "schema": SCHEMA,
        "version": VERSION,
        "code": __version__,
        "shape": asdict(shape),
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "state": state,
    }
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    return buffer.getvalue()


def unpack(data: bytes) -> TeamCheckpoint:
    """What `pack` was given.

    Raises:
        CheckpointError: it is no checkpoint of a team, or of another version.
    """
    with broken_state_refused():
        whole = torch.load(io.BytesIO(data), weights_only=True)
    if not isinstance(whole, dict) or whole.get("schema") != SCHEMA:
        raise CheckpointError("these bytes are not a checkpoint of a team in training")
    if whole.get("version") != VERSION:
        found = whole.get("version")
        raise CheckpointError(f"the checkpoint has version {found}, this code reads {VERSION}")
    with broken_state_refused():
        return TeamCheckpoint(
            shape=TaskShape(**whole["shape"]),
            settings=TrainSettings.model_validate(whole["settings"]),
            seed=int(whole["seed"]),
            code=str(whole["code"]),
            state=dict(whole["state"]),
        )


def refuse_other(saved: TeamCheckpoint, shape: TaskShape, settings: TrainSettings) -> None:
    """Training can only go on as it began.

    Raises:
        CheckpointError: code, task or settings are others than the checkpoint's.
    """
    if saved.code != __version__:
        raise CheckpointError(
            f"the checkpoint was written by version {saved.code}, this is {__version__}"
        )
    for name, wanted in asdict(shape).items():
        found = getattr(saved.shape, name)
        if found != wanted:
            raise CheckpointError(f"the checkpoint is of a task with {name} {found}, not {wanted}")
    for name, value in settings:
        found = getattr(saved.settings, name)
        if found != value:
            raise CheckpointError(f"the checkpoint was trained with {name} {found}, not {value}")


def refuse_other_observations(saved: TeamCheckpoint, shape: TaskShape) -> None:
    """Actors can act wherever there is the same to see and to do.

    Raises:
        CheckpointError: names of columns are others than the checkpoint's, or every agent has
            weights of its own and there is another number of agents.
    """
    foresees = saved.settings.opponent_model is not OpponentMode.NONE
    for name in OBSERVATION + (FORESIGHT if foresees else ()):
        found, wanted = getattr(saved.shape, name), getattr(shape, name)
        if found != wanted:
            raise CheckpointError(f"the checkpoint was made with {name} {found}, not {wanted}")
    if not saved.settings.shared and saved.shape.agents != shape.agents:
        raise CheckpointError(
            f"the checkpoint has actors of {saved.shape.agents} agents, not {shape.agents}"
        )
