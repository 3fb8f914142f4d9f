"""Sections that an experiment has only if it was asked for what they tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lnagents.evaluate.experiment.sections import collusion_section, resilience_section
from lnagents.evaluate.experiment.stress import Collusion, Resilience
from lnagents.evaluate.experiment.training_log import training_section
from lnagents.evaluate.statistics import Estimate

ORDER = ["thompson", "wall", "as-found"]


def test_what_disturbances_leave_is_told_in_the_order_of_the_scores() -> None:
    some, all_ = Estimate(0.625, 0.5, 0.75), Estimate(1.0, 1.0, 1.0)
    found = [
        Resilience(name, "same", kind, some, all_, Estimate(3.0, 2.0, 4.0), 6)
        for name in ("wall", "thompson")
        for kind in ("jamming", "fee-war")
    ]
    page = "".join(resilience_section([*found[1:]], ORDER))
    assert page.index("thompson") < page.index("wall")
    assert page.index("jamming") > page.index("When something goes wrong")
    assert "62.5<br>" in page
    assert "50.0 … 75.0" in page
    assert "–" in page  # what was not run
    assert "as-found" not in page
    assert resilience_section([], ORDER) == []


def test_what_is_no_clear_sign_of_collusion_is_none() -> None:
    ratios = {
        "wall": Estimate(1.4, 1.1, 1.7),
        "thompson": Estimate(0.8, 0.7, 0.9),
        "as-found": Estimate(1.2, 0.9, 1.5),
    }
    page = "".join(
        collusion_section([Collusion(name, "same", one, 6) for name, one in ratios.items()], ORDER)
    )
    rows = {row.split("</td>")[0]: row for row in page.split("<td>")[1:]}
    assert list(rows)[0::3] == ORDER
    assert page.count("above best response") == 1
    assert page.count("below best response") == 1
    assert page.count("no difference shown") == 1
    assert collusion_section([], ORDER) == []


def test_trainings_show_what_their_logs_have(tmp_path: Path) -> None:
    def log(shift: float) -> list[dict[str, Any]]:
        lines = [
            {"steps": 5 * n, "episode_return": n + shift, "explained": 0.5, "drift": 0.25 * n}
            for n in range(1, 4)
        ]
        return [dict(json.loads(json.dumps(line))) for line in lines]

    page = "".join(training_section({"ippo-selfish": [log(0.0), log(1.0)]}))
    assert "ippo-selfish" in page
    assert "Non-stationarity" in page
    assert ">drift<" in page
    assert ">0.50<" in page  # the mean of 0.25, 0.5 and 0.75
    assert training_section({}) == []
