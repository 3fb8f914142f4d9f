"""Linear rules: playing them by arrays is the real thing, and what a grid of them tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lnagents.cli import experiment
from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics.linear import LinearLevels, balance_rule
from lnagents.evaluate.experiment import ceiling
from lnagents.evaluate.experiment.ceiling import REFERENCE, find_ceiling
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.contestants import AsFound, LinearContestant
from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.experiment.families import Split
from lnagents.evaluate.experiment.trial import try_out
from lnagents.model.errors import ExperimentError
from lnagents.model.files import parse_yaml

TEXT = """
name: small
baseline: as-found
contestants:
  - as-found
  - {kind: linear, name: mine, weights: {fee_rate: {constant: 0.5, local_share: -0.8}}}
fields: [as-found]
seeds: 2
rounds: 4
families:
  - {name: paths, kind: competing-paths, routers: 3, ends: 2}
"""


def definition(text: str = TEXT) -> Definition:
    return parse_yaml(text, "small.yaml", Definition, ExperimentError)


@pytest.mark.parametrize("index", [0, 1])
def test_by_arrays_a_run_is_that_of_the_contestant(index: int) -> None:
    chosen = definition()
    weights = {
        "fee_rate": {**balance_rule(200, 50)["fee_rate"], "node.forwarded": 0.2, "fee_rate": 0.1},
        "base_fee": {"constant": -0.9},
    }
    contestant = LinearContestant(name="mine", weights=weights, min_change=0.15)
    spec = RunSpec(
        contestant=contestant,
        field=AsFound(),
        family=chosen.families[0],
        split=Split.TRAINING,
        index=index,
        rounds=6,
    )
    whole = play(spec)
    mine = [seat for seat in whole.seats if seat.contests]
    quick = try_out(
        chosen.families[0], index, 6, LinearLevels.of(weights), FeeBounds(min_change=0.15)
    )
    assert quick.income_msat == sum(seat.fees_earned_msat for seat in mine) > 0
    assert quick.paid_msat == sum(seat.fees_paid_msat for seat in mine)
    assert quick.updates == sum(seat.updates for seat in mine) > 0
    assert (quick.payments, quick.settled) == (whole.payments, whole.settled)


def test_a_contestant_has_weights_of_what_exists() -> None:
    with pytest.raises(ExperimentError, match="'colour' is none of"):
        definition(TEXT.replace("weights: {fee_rate", "weights: {colour"))


def test_who_knows_the_network_does_at_least_as_well_on_what_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ceiling, "_RULES", ((60, 1), (200, 100), (1_000, 10)))
    monkeypatch.setattr(ceiling, "SUCCESS_WEIGHTS", (0.0, 50.0))
    done: list[int] = []
    choices = find_ceiling(definition(), 3, progress=lambda one, count: done.append(one))
    assert done == [1, 2, 3]
    assert [(one.of, one.success_weight) for one in choices] == [
        ("reference", 0.0),
        *((of, weight) for of in ("all", "family", "network") for weight in (0.0, 50.0)),
    ]
    assert choices[0].rules == {"paths": [REFERENCE] * 3}
    for_all, careful = choices[1], choices[2]
    # Whoever is after success alone charges the least, and whoever is after money charges more.
    assert careful.rules == {"paths": [(60, 1)] * 3}
    assert careful.success.value >= for_all.success.value
    assert for_all.profit.value > careful.profit.value
    assert choices[0].more_profit == choices[0].more_success == (0.0, 0.0, 0.0)
    assert careful.more_profit.value < 0.0 < careful.more_success.value


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "_RULES", ((60, 1), (200, 100)))
    monkeypatch.setattr(ceiling, "SUCCESS_WEIGHTS", (0.4,))
    (tmp_path / "small.yaml").write_text(TEXT)
    given = ["ceiling", str(tmp_path / "small.yaml"), "--networks", "2", "--json"]
    result = CliRunner().invoke(experiment.app, [*given, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    kept = json.loads((tmp_path / "ceiling.json").read_text())
    assert json.loads(result.stdout) == kept
    assert [one["of"] for one in kept["choices"]] == ["reference", "all", "family", "network"]
