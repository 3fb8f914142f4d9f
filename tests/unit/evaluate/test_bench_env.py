from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lnagents.cli.app import app
from lnagents.env.lightning import LightningEnv
from lnagents.evaluate import bench_env as module
from lnagents.evaluate.bench_env import EnvBench, bench_env
from lnagents.model.errors import LnagentsError
from lnagents.twin.generate import barabasi_albert


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 5)
    monkeypatch.setattr(module, "TURNS", 1)


def test_all_forms_live_the_same_episode() -> None:
    told: list[str] = []
    network = barabasi_albert(12, 1, degree=2)
    result = bench_env(network, agents=3, payments_per_round=8, progress=told.append)
    assert (result.nodes, result.channels, result.agents) == (12, network.channels, 3)
    assert min(result.twin, result.array, result.pettingzoo) > 0
    assert result.array_fraction == result.array / result.twin
    assert result.pettingzoo_fraction == result.pettingzoo / result.twin
    assert told[-1] == "turn 1 of 1: pettingzoo"


def test_a_form_that_goes_its_own_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    step = LightningEnv.step

    def timid(env: LightningEnv, actions: Any) -> Any:
        return step(env, {a: {"fees": np.zeros_like(one["fees"])} for a, one in actions.items()})

    monkeypatch.setattr(LightningEnv, "step", timid)
    with pytest.raises(LnagentsError, match="have not lived the same episode"):
        bench_env(
            barabasi_albert(12, 1, degree=2),
            agents=6,
            payments_per_round=60,
            progress=lambda _: None,
        )


def test_the_number_of_agents_is_checked() -> None:
    network = barabasi_albert(5, 1, degree=2)
    for agents in (0, 6):
        with pytest.raises(ValueError, match=f"agents: {agents} is not between 1 and 5 nodes"):
            bench_env(network, agents=agents, progress=lambda _: None)


def test_the_command_prints_json_or_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    result = EnvBench(100, 475, 10, 50, twin=100_000.0, array=85_000.0, pettingzoo=60_000.0)
    seen: dict[str, Any] = {}

    def measured(network: Any, **arguments: Any) -> EnvBench:
        seen.update(arguments, nodes=network.nodes)
        return replace(result, agents=arguments["agents"])

    monkeypatch.setattr(module, "bench_env", measured)
    done = CliRunner().invoke(app, ["bench", "env", "--json", "--agents", "7"])
    assert done.exit_code == 0
    printed = json.loads(done.stdout)
    assert printed["twin"] == 100_000.0
    assert printed["array_fraction"] == 0.85
    assert printed["pettingzoo_fraction"] == 0.6
    assert (seen["nodes"], seen["agents"], seen["payments_per_round"]) == (100, 7, 50)
    table = CliRunner().invoke(app, ["bench", "env"])
    assert "PettingZoo" in table.stdout
    assert "0.85" in table.stdout
