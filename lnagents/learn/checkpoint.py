"""The saved form of a learner: tensors and plain values, readable without running any code."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch

from lnagents.learn.config import LearnConfig
from lnagents.learn.experience import State
from lnagents.model.errors import CheckpointError

SCHEMA = "lnagents.learn.online"
VERSION = 1

STRUCTURE = (
    "channel_features",
    "node_features",
    "actions",
    "route_features",
    "route_prior",
    "hidden",
)
"""What must be equal for weights to mean the same; other settings may change between runs."""


def pack(config: LearnConfig, seed: int, state: State) -> bytes:
    """Everything in one piece."""
    whole = {
        "schema": SCHEMA,
        "version": VERSION,
        "config": asdict(config),
        "seed": seed,
        "state": state,
    }
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    return buffer.getvalue()


def unpack(data: bytes, config: LearnConfig) -> tuple[int, State]:
    """Seed and state of a checkpoint that fits `config`.

    Raises:
        CheckpointError: it is none, of another version, or does not fit.
    """
    with broken_state_refused():
        whole = torch.load(io.BytesIO(data), weights_only=True)
    if not isinstance(whole, dict) or whole.get("schema") != SCHEMA:
        raise CheckpointError("these bytes are not a checkpoint of an agent's learner")
    if whole.get("version") != VERSION:
        found = whole.get("version")
        raise CheckpointError(f"the checkpoint has version {found}, this code reads {VERSION}")
    with broken_state_refused():
        saved, seed, state = whole["config"], int(whole["seed"]), dict(whole["state"])
        for name in STRUCTURE:
            wanted = getattr(config, name)
            if saved[name] != wanted:
                raise CheckpointError(
                    f"the checkpoint was made with {name} {saved[name]}, not {wanted}"
                )
    return seed, state


@contextmanager
def broken_state_refused() -> Iterator[None]:
    """Whatever goes wrong inside because of the data is a `CheckpointError`."""
    try:
        yield
    except (
        AttributeError,
        EOFError,
        KeyError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as exc:
        raise CheckpointError(f"the checkpoint is damaged: {exc}") from exc
