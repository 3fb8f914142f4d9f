"""What docs/extend.md tells researchers works as it stands there, and is as short as promised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lnagents.cli.app import app
from lnagents.env.heuristics import HEURISTICS
from lnagents.env.reward import REWARDS
from lnagents.evaluate import extensions
from lnagents.evaluate.experiment.definition import load_definition
from lnagents.evaluate.results import Results
from lnagents.evaluate.train_run import read_config, read_log
from lnagents.learn.algorithms import ALGORITHMS
from lnagents.model.errors import ConfigError

PAGE = (Path(__file__).parents[2] / "docs" / "extend.md").read_text(encoding="utf-8")
BLOCKS = {
    name: text for text, name in re.findall(r"```(?:python|yaml)\n(# (\S+)\n.*?)```", PAGE, re.S)
}
MOST_LINES = 50


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """What tests register is forgotten again."""
    tables: list[dict[str, Any]] = [ALGORITHMS, HEURISTICS, REWARDS, extensions._LOADED]
    kept = [dict(table) for table in tables]
    yield
    for table, before in zip(tables, kept, strict=True):
        table.clear()
        table.update(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def lnagents(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_has_all_three() -> None:
    assert set(BLOCKS) == {
        f"{name}.{kind}" for name in ("fair", "surge", "prudent") for kind in ("py", "yaml")
    }


@pytest.mark.parametrize("name", ["fair", "surge", "prudent"])
def test_each_takes_fewer_lines_than_promised(name: str) -> None:
    lines = [*BLOCKS[f"{name}.py"].splitlines(), *BLOCKS[f"{name}.yaml"].splitlines()]
    assert len(lines) < MOST_LINES


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("fair", {"algorithm: fair-mappo": "algorithm: mappo"}),
        ("prudent", {"function: prudent": "function: weighted"}),
    ],
)
def test_an_algorithm_and_a_reward_are_trained_with(
    folder: Path, name: str, plain: dict[str, str]
) -> None:
    lnagents("train", str(folder / f"{name}.yaml"), "--run", str(folder / "run"))
    log = read_log(folder / "run")
    assert len(log) == 2
    # A run knows its extensions, and what they do makes a difference.
    assert read_config(folder / "run" / "config.yaml").extensions == (str(folder / f"{name}.py"),)
    lnagents("resume", str(folder / "run"))
    text = BLOCKS[f"{name}.yaml"]
    for one, other in plain.items():
        assert one in text
        text = text.replace(one, other)
    (folder / "plain.yaml").write_text(text)
    lnagents("train", str(folder / "plain.yaml"), "--run", str(folder / "plain"))
    key = "explained" if name == "fair" else "reward"
    assert [line[key] for line in read_log(folder / "plain")] != [line[key] for line in log]


def test_a_heuristic_competes(folder: Path) -> None:
    definition, out = str(folder / "surge.yaml"), str(folder / "results")
    lnagents("experiment", "run", definition, "--out", out, "--processes", "2")
    found = Results(folder / "results").query(
        "SELECT DISTINCT plays, sum(updates)::BIGINT AS updates FROM seats GROUP BY ALL"
    )
    assert dict(zip(found["plays"], found["updates"], strict=True))["surge"] > 0
    assert load_definition(definition).extensions == (str(folder / "surge.py"),)
    lnagents("experiment", "report", definition, "--out", out)
    assert "surge" in (folder / "results" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "extensions: .*wrong.py does not run, ZeroDivisionError"),
        (BLOCKS["fair.py"].replace("fair-mappo", "ippo"), "there is an algorithm 'ippo' already"),
        (None, "extensions: cannot be read"),
    ],
)
def test_what_is_wrong_with_an_extension_is_told(
    folder: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (folder / "wrong.py").write_text(text)
    (folder / "fair.yaml").write_text(BLOCKS["fair.yaml"].replace("fair.py", "wrong.py"))
    with pytest.raises(ConfigError, match=message):
        read_config(folder / "fair.yaml")


def test_an_extension_that_changed_is_not_run_twice(folder: Path) -> None:
    read_config(folder / "fair.yaml")
    read_config(folder / "fair.yaml")
    (folder / "fair.py").write_text("")
    with pytest.raises(ConfigError, match="has changed since it was loaded"):
        read_config(folder / "fair.yaml")


def test_who_does_not_load_it_does_not_know_the_name(folder: Path) -> None:
    (folder / "fair.yaml").write_text(BLOCKS["fair.yaml"].replace("extensions: [fair.py]\n", ""))
    with pytest.raises(ConfigError, match="algorithm: 'fair-mappo' is none of ippo, mappo"):
        read_config(folder / "fair.yaml")
