"""Results survive whatever ends the process that makes them, and come back as they were."""

from pathlib import Path

import duckdb
import pytest

from lnagents.evaluate.results import JOURNAL, PARQUET, Results, RunResult, SeatResult
from lnagents.model.errors import ExperimentError


def seat(node: str, *, contests: bool, fees: int) -> SeatResult:
    return SeatResult(
        node=node,
        plays="lndg" if contests else "as-found",
        contests=contests,
        channels=2,
        capacity_msat=2**50,
        fees_earned_msat=fees,
        fees_paid_msat=10,
        forwards=3,
        forwarded_msat=2**40,
        failed_forwards=1,
        updates=4,
        fee_churn=0.1,
        rate_ppm=100.0,
        deviates=False,
    )


def result(run: str, fees: int = 2**60) -> RunResult:
    return RunResult(
        run=run,
        contestant="lndg",
        field="as-found",
        family="paths",
        split="held-out",
        index=0,
        rounds=10,
        disturbance="calm",
        deviation=1.0,
        payments=100,
        settled=90,
        offered_msat=10_000,
        settled_msat=9_000,
        bound_msat=9_500,
        fees_msat=fees,
        attempts=120,
        failed_attempts=30,
        income_by_round=(fees - 1, 1),
        payments_by_round=(60, 40),
        settled_by_round=(50, 40),
        volume_by_round=(5_000, 4_000),
        seconds=0.5,
        version="1.0",
        team="",
        seats=(seat("n0", contests=True, fees=fees), seat("n1", contests=False, fees=5)),
    )


def test_results_come_back_from_the_journal_and_from_the_table(tmp_path: Path) -> None:
    results = Results(tmp_path / "new")
    assert results.done() == frozenset()
    results.append(result("a"))
    results.gather()
    results.append(result("b", fees=7))
    assert results.done() == {"a", "b"}
    found = results.query("SELECT run, fees_msat, income_by_round FROM runs ORDER BY run")
    assert found == {
        "run": ["a", "b"],
        "fees_msat": [2**60, 7],
        "income_by_round": [[2**60 - 1, 1], [6, 1]],
    }
    results.gather()
    assert not (tmp_path / "new" / JOURNAL).exists()
    assert (tmp_path / "new" / PARQUET).exists()
    sql = "SELECT run, fees_msat, income_by_round FROM runs ORDER BY run"
    assert results.query(sql) == found
    seats = results.query("SELECT * FROM seats WHERE run = ? AND contests", ["b"])
    assert seats["node"] == ["n0"]
    assert seats["fees_earned_msat"] == [7]
    assert seats["fee_churn"] == [0.1]


def test_an_interrupted_line_costs_that_run_only(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.append(result("a"))
    with (tmp_path / JOURNAL).open("a") as journal:
        journal.write('{"run": "b", "contest')
    assert results.done() == {"a"}
    results.append(result("b"))
    results.gather()
    assert results.done() == {"a", "b"}


def test_a_run_counts_once(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.append(result("a"))
    results.append(result("a"))
    results.gather()
    assert results.query("SELECT run FROM runs")["run"] == ["a"]


def test_what_was_made_again_replaces_what_was_there(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.append(result("a", fees=1))
    results.append(result("b", fees=2))
    results.gather()
    results.append(result("a", fees=3))
    sql = "SELECT run, fees_msat FROM runs ORDER BY run"
    assert results.query(sql) == {"run": ["a", "b"], "fees_msat": [3, 2]}
    results.gather()
    assert results.query(sql) == {"run": ["a", "b"], "fees_msat": [3, 2]}


def test_a_column_that_came_later_is_empty_in_older_files(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.append(result("a"))
    results.gather()
    older = tmp_path / "older"
    duckdb.read_parquet(str(tmp_path / PARQUET)).select("* EXCLUDE (team)").write_parquet(
        str(older)
    )
    older.replace(tmp_path / PARQUET)
    assert results.query("SELECT run, team, version FROM runs") == {
        "run": ["a"],
        "team": [None],
        "version": ["1.0"],
    }
    results.append(result("b"))
    assert results.done() == {"a", "b"}


def test_no_results_and_damaged_ones_are_one_sentence(tmp_path: Path) -> None:
    results = Results(tmp_path)
    with pytest.raises(ExperimentError, match="there are no results"):
        results.query("SELECT run FROM runs")
    (tmp_path / PARQUET).write_text("not a table, but long enough to be looked at\n")
    with pytest.raises(ExperimentError, match="cannot be read"):
        results.done()
