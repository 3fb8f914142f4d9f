"""Live pairs: what is compared, and what an interruption leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnagents.evaluate.market import live
from lnagents.evaluate.market.live import LiveResult, compare_live, read_live, with_sellers
from lnagents.testbed import load_topology


def _run(seed: int, buys: bool, failed: int) -> LiveResult:
    return LiveResult(
        seed=seed,
        buys=buys,
        payments=50,
        settled=45,
        fees_msat=100_000,
        failed_attempts=failed,
        cost_msat=1_000_000,
        bought=10 if buys else 0,
        paid_msat=100_000 if buys else 0,
        seconds=5.0,
        load=float(seed),
    )


def test_pairs_are_compared_and_a_half_is_left_out() -> None:
    results = [_run(0, False, 20), _run(0, True, 10), _run(1, True, 5), _run(1, False, 15)]
    found = compare_live([*results, _run(2, True, 500)])
    assert found["pairs"] == 2
    assert found["failed_attempts"]["change"] == pytest.approx(
        {"value": -0.2, "low": -0.2, "high": -0.2}
    )
    assert found["success_percent"]["without"]["value"] == 90.0
    assert found["hints_sat"]["buying"]["value"] == 2.0
    assert found["ms"]["change"]["value"] == 0.0
    assert found["load"] == [0.0, 2.0]


def test_a_torn_line_is_no_run_and_the_next_one_takes_its_place(tmp_path: Path) -> None:
    one, other = _run(0, False, 1), _run(0, True, 2)
    live._append(tmp_path, one)
    with (tmp_path / live.JOURNAL).open("a") as journal:
        journal.write('{"seed": 0, "bu')
    assert read_live(tmp_path) == [one]
    live._append(tmp_path, other)
    assert read_live(tmp_path) == [one, other]


def test_all_routers_of_the_topology_sell() -> None:
    topology = with_sellers(load_topology("default"))
    assert tuple(seller.node for seller in topology.sellers) == live.SELLERS
