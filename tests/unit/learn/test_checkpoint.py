from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from lnagents.learn import LearnConfig, OnlineLearner
from lnagents.learn.experience import FloatArray
from lnagents.model.errors import CheckpointError

CONFIG = LearnConfig(
    channel_features=("a", "b"),
    node_features=("d",),
    actions=("x",),
    route_features=("prior", "g"),
    route_prior="prior",
    hidden=4,
)


@dataclass(frozen=True)
class Seen:
    channels: FloatArray
    node: FloatArray


def changed(data: bytes, **changes: Any) -> bytes:
    whole = torch.load(io.BytesIO(data), weights_only=True)
    buffer = io.BytesIO()
    torch.save(whole | changes, buffer)
    return buffer.getvalue()


def test_a_checkpoint_carries_what_it_was_made_with() -> None:
    whole = torch.load(io.BytesIO(OnlineLearner(CONFIG, 4).save()), weights_only=True)
    assert whole["schema"] == "lnagents.learn.online"
    assert whole["version"] == 1
    assert whole["seed"] == 4
    assert LearnConfig(**whole["config"]) == CONFIG


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"channel_features": ("a", "z")},
            r"the checkpoint was made with channel_features \('a', 'b'\), not \('a', 'z'\)",
        ),
        ({"node_features": ("d", "e")}, "the checkpoint was made with node_features"),
        ({"actions": ("y",)}, "the checkpoint was made with actions"),
        ({"route_features": ("g", "prior")}, "the checkpoint was made with route_features"),
        ({"route_prior": "g"}, "the checkpoint was made with route_prior prior, not g"),
        ({"hidden": 8}, "the checkpoint was made with hidden 4, not 8"),
    ],
)
def test_other_networks_are_refused(changes: dict[str, Any], problem: str) -> None:
    learner = OnlineLearner(replace(CONFIG, **changes), 0)
    before = learner.save()
    with pytest.raises(CheckpointError, match=problem):
        learner.load(OnlineLearner(CONFIG, 0).save())
    assert learner.save() == before


def test_other_hyperparameters_are_the_new_ones() -> None:
    still = replace(CONFIG, learning_rate=1e-12, horizon=1)
    learner = OnlineLearner(still, 0)
    learner.load(OnlineLearner(replace(CONFIG, learning_rate=0.5), 0).save())
    whole = torch.load(io.BytesIO(learner.save()), weights_only=True)
    assert whole["config"]["learning_rate"] == 1e-12
    seen = Seen(np.ones((2, 2), dtype=np.float32), np.ones(1, dtype=np.float32))
    for reward in (1.0, 2.0, 3.0):
        learner.act(seen, explore=True)
        learner.reward(reward)
    assert learner.act(seen, explore=False).values == pytest.approx(np.zeros((2, 1)), abs=1e-9)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_half_a_file_is_refused(kept: int) -> None:
    learner = OnlineLearner(CONFIG, 0)
    with pytest.raises(CheckpointError, match="damaged"):
        learner.load(learner.save()[:kept])


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a checkpoint ran code",))


@pytest.mark.parametrize("whole", [{"schema": Trap()}, Trap()])
def test_no_code_in_a_checkpoint_is_run(whole: object) -> None:
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    for data in (buffer.getvalue(), pickle.dumps(whole, 2)):
        with pytest.raises(CheckpointError, match="damaged"):
            OnlineLearner(CONFIG, 0).load(data)


def test_other_things_are_told_apart() -> None:
    data = OnlineLearner(CONFIG, 0).save()
    learner = OnlineLearner(CONFIG, 0)
    with pytest.raises(CheckpointError, match="not a checkpoint of an agent's learner"):
        learner.load(changed(data, schema="something.else"))
    with pytest.raises(CheckpointError, match="has version 2, this code reads 1"):
        learner.load(changed(data, version=2))
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    with pytest.raises(CheckpointError, match="not a checkpoint of an agent's learner"):
        learner.load(buffer.getvalue())


@pytest.mark.parametrize(
    "damage",
    [
        {"state": {}},
        {"state": {"channels": {}, "routes": {}}},
        {"state": 3},
        {"seed": "x"},
        {"config": {}},
        {"config": None},
    ],
)
def test_what_is_missing_inside_is_noticed(damage: dict[str, Any]) -> None:
    learner = OnlineLearner(CONFIG, 0)
    before = learner.save()
    with pytest.raises(CheckpointError, match="damaged"):
        learner.load(changed(before, **damage))
    assert learner.save() == before


def test_weights_of_another_size_are_noticed() -> None:
    small, large = OnlineLearner(CONFIG, 0), OnlineLearner(replace(CONFIG, hidden=8), 0)
    whole = torch.load(io.BytesIO(large.save()), weights_only=True)
    with pytest.raises(CheckpointError, match="damaged"):
        small.load(changed(small.save(), state=whole["state"]))
    routes = np.zeros((2, 2), dtype=np.float32)
    assert small.choose_route(routes, explore=False).index == 0
