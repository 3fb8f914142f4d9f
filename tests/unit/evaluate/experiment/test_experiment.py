"""Experiments from the definition to the report, on networks small enough for a test."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnagents.evaluate.executors import Here, Processes
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.definition import Definition, load_definition
from lnagents.evaluate.experiment.families import Split, draw_arena
from lnagents.evaluate.experiment.report import Further, learners_told, to_html, write_report
from lnagents.evaluate.experiment.runner import run_experiment
from lnagents.evaluate.experiment.scores import PROFIT_SCORE, FieldScores, Scores, duel, read_scores
from lnagents.evaluate.experiment.seats import seats_of
from lnagents.evaluate.results import Results
from lnagents.model.errors import ExperimentError, LnagentsError
from lnagents.model.files import parse_yaml

TEXT = """
name: small
baseline: as-found
contestants: [as-found, thompson, {kind: heuristic, heuristic: wall}]
fields: [same, as-found]
seeds: 2
rounds: 4
families:
  - {name: paths, kind: competing-paths, routers: 3, ends: 2}
  - {name: hubs, kind: hub-and-spoke, hubs: 3, spokes: 5}
"""


def definition(**changes: str) -> Definition:
    text = TEXT
    for key, value in changes.items():
        before, rest = text.split(f"\n{key}:", 1)
        after = "" if key == "families" else "\n" + rest.split("\n", 1)[1]
        text = f"{before}\n{key}: {value}{after}"
    return parse_yaml(text, "small.yaml", Definition, ExperimentError)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    made = Results(tmp_path_factory.mktemp("experiment"))
    assert run_experiment(definition(), made, Here(), progress=lambda done, count: None) == 24
    return made


def test_the_definition_that_comes_along_names_every_heuristic() -> None:
    from lnagents.env.heuristics import HEURISTICS

    names = {one.name for one in load_definition("heuristics").contestants}
    assert names == {"as-found", *HEURISTICS}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"contestants": "[as-found, clever]"}, "contestants.*'clever' is none of"),
        ({"contestants": "[as-found, wall, wall]"}, "contestants: 'wall' occurs twice"),
        ({"contestants": "[as-found, same]"}, "contestants"),
        ({"baseline": "lndg"}, "baseline: 'lndg' is none of the contestants"),
        ({"rounds": "4\nspeed: 3"}, "speed: unknown key"),
        ({"families": "[{name: a, kind: torus}]"}, "families"),
        ({"seeds": "0"}, "seeds"),
    ],
)
def test_wrong_definitions_are_refused_by_name(changes: dict[str, str], problem: str) -> None:
    with pytest.raises(ExperimentError, match=problem):
        definition(**changes)


def test_each_run_has_an_id_of_its_own() -> None:
    runs = definition().runs()
    assert len({spec.id for spec in runs}) == len(runs) == 2 * 2 * 2 * 3
    assert [spec.id for spec in runs] == [spec.id for spec in definition().runs()]
    longer = {spec.id for spec in definition(rounds="5").runs()}
    assert longer.isdisjoint(spec.id for spec in runs)


@pytest.mark.parametrize("name", [one.name for one in load_definition("heuristics").families])
def test_networks_of_a_family_are_never_the_same(name: str) -> None:
    family = next(one for one in load_definition("heuristics").families if one.name == name)
    drawn = [draw_arena(family, split, index) for split in Split for index in range(2)]
    again = draw_arena(family, Split.TRAINING, 0)
    assert np.array_equal(again.network.policy, drawn[0].network.policy)
    assert again.workload == drawn[0].workload
    policies = {arena.network.policy.tobytes() for arena in drawn}
    assert len(policies) == len(drawn)
    for arena in drawn:
        assert set(arena.agents) <= set(arena.network.names)
        assert len(set(arena.agents)) == len(arena.agents) >= 2


def test_payers_of_each_network_have_their_own_price() -> None:
    family = definition().families[0]
    medians = [
        {
            one.fee_limit.median_ppm
            for one in draw_arena(family, Split.TRAINING, index).workload.demands
        }
        for index in range(40)
    ]
    assert all(len(of_network) == 1 for of_network in medians)
    logs = np.log([median for (median,) in medians])
    assert logs.mean() == pytest.approx(np.log(1_000), abs=0.3)
    assert logs.std() == pytest.approx(0.5, abs=0.2)
    alike = family.model_copy(update={"market_sigma": 0.0})
    assert {
        one.fee_limit.median_ppm
        for index in range(5)
        for one in draw_arena(alike, Split.TRAINING, index).workload.demands
    } == {1_000}


def test_who_asks_for_too_much_is_not_paid(results: Results) -> None:
    found = results.query(
        "SELECT contestant, sum(settled)::BIGINT AS settled FROM runs WHERE field = 'same'"
        " GROUP BY contestant"
    )
    settled = dict(zip(found["contestant"], found["settled"], strict=True))
    assert settled["wall"] < 0.5 * settled["as-found"]


def test_half_of_the_seats_are_the_contestants() -> None:
    agents = [f"n{index}" for index in range(6)]
    for seed in (0, 1):
        mine = [seat.contests for seat in seats_of(agents, seed, everyone=False)]
        assert mine == [place % 2 == seed for place in range(6)]
        assert all(seat.contests for seat in seats_of(agents, seed, everyone=True))
        assert sum(seat.contests for seat in seats_of(agents[:5], seed, everyone=False)) == 3


def test_the_same_run_gives_the_same_result() -> None:
    spec = next(spec for spec in definition().runs() if spec.contestant.name == "thompson")
    one, other = play(spec), play(spec)
    assert replace(one, seconds=0.0) == replace(other, seconds=0.0)


def test_a_field_of_itself_is_the_same_as_none(results: Results) -> None:
    found = results.query(
        "SELECT family, index, list(DISTINCT fees_msat) AS fees, list(DISTINCT settled) AS settled"
        " FROM runs WHERE contestant = 'as-found' GROUP BY ALL"
    )
    assert len(found["family"]) == 4
    assert all(len(one) == 1 for one in (*found["fees"], *found["settled"]))
    updates = results.query(
        "SELECT plays, sum(updates)::BIGINT AS updates FROM seats GROUP BY plays"
    )
    by_name = dict(zip(updates["plays"], updates["updates"], strict=True))
    assert by_name["as-found"] == 0
    assert by_name["thompson"] > 0


def test_books_add_up(results: Results) -> None:
    runs = results.query(
        "SELECT runs.*, earned FROM runs JOIN (SELECT run, sum(fees_earned_msat) AS earned"
        " FROM seats GROUP BY run) USING (run)"
    )
    for settled, bound, offered in zip(
        runs["settled_msat"], runs["bound_msat"], runs["offered_msat"], strict=True
    ):
        assert settled <= bound <= offered
    # Others forward, too, where a channel of an agent is dry.
    for earned, fees in zip(runs["earned"], runs["fees_msat"], strict=True):
        assert 0 < earned <= fees


def test_what_is_done_is_not_done_again(results: Results) -> None:
    assert run_experiment(definition(), results, Here(), progress=lambda *_: None) == 0
    assert len(results.done()) == 24


def test_several_processes_give_the_same_results(results: Results, tmp_path: Path) -> None:
    few = definition(contestants="[as-found, wall]", fields="[as-found]", seeds="1")
    apart = Results(tmp_path)
    run_experiment(few, apart, Processes(2), progress=lambda done, count: None)
    sql = "SELECT run, fees_msat, settled_msat, seats FROM runs ORDER BY run"
    there = apart.query(sql)
    here = results.query(sql.replace("ORDER", "WHERE list_contains(?, run) ORDER"), [there["run"]])
    assert len(there["run"]) == 4
    assert there == here


def test_what_was_made_before_something_went_wrong_is_kept(tmp_path: Path) -> None:
    few = definition(contestants="[as-found]", fields="[same]", seeds="2")

    class Broken(Here):
        def run(self, function: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
            yield from super().run(function, jobs[:1])
            raise LnagentsError("no more")

    results = Results(tmp_path)
    for _ in range(2):
        with pytest.raises(LnagentsError, match="no more"):
            run_experiment(few, results, Broken(), progress=lambda done, count: None)
    assert len(results.done()) == 2
    shown: list[tuple[int, int]] = []
    made = run_experiment(few, results, Here(), progress=lambda *done: shown.append(done))
    assert made == 2
    assert shown == [(2, 4), (3, 4), (4, 4)]


def test_scores_are_relative_to_the_baseline(results: Results) -> None:
    scores = read_scores(definition(), results)
    assert scores.complete
    assert scores.networks == 2
    same, field = scores.fields
    for one in (same, field):
        base = one.values["as-found"]
        assert base[PROFIT_SCORE].shape == (1, 2, 2)
        # Routers and hubs pay nothing themselves, so profit is income.
        assert np.allclose(base[PROFIT_SCORE].mean(axis=(0, 1)), 1.0)
    assert np.allclose(same.values["thompson"]["share_of_fees"], 100.0)
    assert (field.values["thompson"]["share_of_fees"] < 100.0).any()
    row = next(row for row in scores.rows(field) if row.contestant == "as-found")
    assert row.better.value == 0.5
    assert row.success == (0.0, 0.0, 0.0)


def test_networks_without_all_runs_are_left_out(results: Results, tmp_path: Path) -> None:
    part = Results(tmp_path)
    spec = definition(seeds="1")
    run_experiment(spec, part, Here(), progress=lambda done, count: None)
    scores = read_scores(definition(), part)
    assert scores.networks == 1
    assert not scores.complete
    assert "NOT COMPLETE: 12 of 24" in to_html(scores)
    with pytest.raises(ExperimentError, match="no network of each family"):
        read_scores(definition(rounds="9"), part)


def test_the_page_tells_it_all_and_needs_nothing(results: Results, tmp_path: Path) -> None:
    scores: Scores = read_scores(definition(), results)
    page = write_report(scores, tmp_path).read_text(encoding="utf-8")
    assert 'src="http' not in page
    for told in ("thompson", "as-found", "wall", "95 %", "paths", "hubs"):
        assert told in page
    assert page == write_report(scores, tmp_path).read_text(encoding="utf-8")


def made_up(scores: Scores, factors: dict[str, float]) -> FieldScores:
    """As if contestants earned multiples of what the baseline does, on 6 networks."""
    rng = np.random.default_rng(3)
    base = rng.uniform(0.9, 1.1, (1, 6, 2))
    some = scores.fields[0].values["as-found"]
    return FieldScores(
        "same",
        {
            name: {
                **{key: np.full((1, 6, 2), column.mean()) for key, column in some.items()},
                PROFIT_SCORE: factor * base,
            }
            for name, factor in factors.items()
        },
    )


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (1.5, "score is higher by 0.49 .* do not overlap.* no lower success, is reached by thomp"),
        (1.01, "score is higher by 0.01 .* the intervals overlap.* is reached by no learner"),
        (1.0, "no difference shown, 0.00 .* is reached by no learner"),
        (0.5, "score is lower, by -0.49 .* do not overlap.* is reached by no learner"),
    ],
)
def test_the_headline_says_how_it_fell(results: Results, factor: float, told: str) -> None:
    scores = read_scores(definition(), results)
    field = made_up(scores, {"as-found": 1.0, "thompson": factor, "wall": 0.25})
    rows = scores.rows(field)
    found = " ".join(learners_told(field, rows, frozenset({"thompson"})))
    assert found.startswith("The best learner, thompson, beside the best rule, as-found: ")
    assert re.search(told, found)
    assert re.search(
        r"most settles with the learner thompson, .* and with the rule as-found", found
    )
    assert learners_told(field, rows, frozenset()) == []
    itself = duel(field, "wall", "wall")
    assert (itself.score, itself.gain, itself.apart) == ((0.0, 0.0, 0.0), 0.0, False)


def test_further_sections_have_their_places(results: Results) -> None:
    scores = read_scores(definition(), results)
    further = Further(frozenset({"thompson"}), {"same": ["<p>of same</p>"]}, ["<p>at last</p>"])
    page = to_html(scores, further)
    order = [
        "of same",
        "Where half of the agents",
        "at last",
        "What was run",
        "Every training of a learner",
    ]
    places = [page.rindex(one) for one in order]
    assert places == sorted(places)
    assert "Every training of a learner" not in to_html(scores)
