"""The ablation of counter-measures, in small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from lnagents.cli.app import app
from lnagents.evaluate.bench_shift import load_ablation, run_ablation, summary
from lnagents.evaluate.diagnosis import CrossPlay, Gap
from lnagents.model.errors import ConfigError

SMALL: dict[str, Any] = {
    "base": {
        "task": {"networks": ["line5"], "environments": 1, "rounds": 3, "payments_per_round": 5},
        "train": {"iterations": 2, "hidden": 4, "epochs": 1, "shared": False},
    },
    "variants": {"none": {}, "staggered": {"stagger": 2}},
    "seeds": [1, 2],
    "diagnosis": {"seats": 1, "iterations": 1, "episodes": 1},
}


def folder_with(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "ablation.yaml").write_text(yaml.safe_dump({**SMALL, **changes}))
    return folder


def test_an_ablation_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    ablation = load_ablation(folder_with(tmp_path / "study"))
    assert ablation.iterations() == 2 * 2 * 3
    made: dict[str, int] = {}
    whole = run_ablation(ablation, tmp_path / "whole", progress=made.__setitem__)
    assert made == {f"{name}-{seed}": 3 for name in SMALL["variants"] for seed in (1, 2)}
    parts, stops = None, 0
    while parts is None:
        parts = run_ablation(ablation, tmp_path / "parts", stopped=lambda: True)
        stops += 1
    assert stops > 4
    assert parts == whole
    assert whole is not None
    assert set(whole["variants"]) == {"none", "staggered"}
    other = load_ablation(
        folder_with(tmp_path / "other", variants={"none": {}, "staggered": {"stagger": 3}})
    )
    with pytest.raises(ConfigError, match="has a run of another ablation"):
        run_ablation(other, tmp_path / "whole")


def test_the_command_keeps_the_result(tmp_path: Path) -> None:
    study = folder_with(tmp_path / "study", variants={"none": {}})
    options = ["bench", "shift", str(study), "--work", str(tmp_path / "work")]
    shown = CliRunner().invoke(app, options)
    assert shown.exit_code == 0, shown.output
    assert "kept in" in shown.output
    assert "none" in shown.output
    kept = json.loads((study / "result.json").read_text())
    told = CliRunner().invoke(app, [*options, "--json"])
    assert json.loads(told.stdout) == kept


def test_figures_are_of_the_later_half() -> None:
    names = ("episode_return", "drift", "value_shift", "explained")
    log = [dict.fromkeys(names, value) for value in (None, 9.0, 1.0, 3.0)]
    gap = Gap((0,), np.ones((1, 2, 2)), np.zeros((1, 2, 2)), (0, 0))
    crossed = CrossPlay(("a", "b"), np.zeros((2, 2, 3)))
    figures = summary([log, log], [gap, gap], crossed)
    assert figures["drift"]["value"] == 2.0
    assert figures["best_response_gap"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert figures["cross_play_gap"]["value"] == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"slow": {"actor_pace": 0.5}}}, "variants: one must be 'none'"),
        (
            {"variants": {"none": {}, "slow": {"pace": 1}}},
            "variants.slow: train: pace: unknown key",
        ),
        ({"variants": {"none": {}, "slow": {"actor_pace": 2}}}, "train: actor_pace: "),
        ({"variants": {"none": {}, "p": {"population": {"siz": 1}}}}, "train: population.siz: "),
        ({"seeds": [1]}, "ablation.yaml: seeds: "),
        ({"sedes": [1]}, "ablation.yaml: sedes: unknown key"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_ablation(folder_with(tmp_path / "study", **changes))
    assert message in str(caught.value)


def test_the_ablation_that_comes_along_is_valid() -> None:
    ablation = load_ablation(Path("bench/shift"))
    assert set(ablation.configs) == {"none", "staggered", "slowed", "population"}
    for config in ablation.configs.values():
        config.make_task().close()
