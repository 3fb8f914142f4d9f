"""One run in the twin, its results, and what is made of them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from lnagents.evaluate.live.conditions import actor_section
from lnagents.evaluate.live.page import live_section, summarise_live, write_live_page
from lnagents.evaluate.live.plan import LivePlan, Scenario
from lnagents.evaluate.live.play import play
from lnagents.evaluate.live.results import FILE, LiveResult, LiveResults, WorldName
from lnagents.evaluate.live.runner import run_live, team_digest
from lnagents.evaluate.live.scores import by_round, fees, gap_row, income, profit, score, success
from lnagents.evaluate.live.stage import make_stage, rivals_decision
from lnagents.evaluate.live.twins import TwinDeciders, make_twin, quiet
from lnagents.model.errors import CheckpointError, ExperimentError
from tests.unit.evaluate.live.teams import write_team
from tests.unit.evaluate.live.test_live_plan import plan


def run(chosen: LivePlan, seed: int, condition: str, team: Path, world: WorldName) -> LiveResult:
    """In the twin, whatever it is called."""
    stage = make_stage(chosen, seed)
    twin = make_twin(stage, chosen.round_seconds)
    rounds: list[int] = []
    with closing(TwinDeciders(twin, stage, condition, team)) as actors:
        record = play(twin, actors, stage, progress=rounds.append)
    assert rounds == list(range(1, chosen.rounds + 1))
    twin.twin.audit()
    return LiveResult.of(
        record,
        stage.routers,
        run=chosen.run_id(seed, condition, team_digest(team)),
        world=world,
        seed=seed,
        condition=condition,
    )


class Silent:
    """A `LiveObserver` that watches nothing."""

    def phase(self, text: str) -> None:
        """See there."""

    def round(self, number: int, count: int) -> None:
        """See there."""


@pytest.fixture(name="team", scope="module")
def _team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_team(tmp_path_factory.mktemp("team") / "team.pt")


@pytest.mark.parametrize("condition", plan().conditions)
def test_what_senders_pay_is_what_routers_earn(condition: str, team: Path) -> None:
    result = run(plan(), 0, condition, team, "twin")
    assert len(result.earned) == len(result.payments) == 6
    assert fees(result) == sum(sum(one) for one in result.earned) > 0
    assert income(result) == pytest.approx(fees(result) / 6_000)
    assert profit(result) == pytest.approx(income(result) - sum(result.updates) / 6)
    assert profit(replace(result, announced=())) == pytest.approx(profit(result))
    assert np.array(result.announced).sum(axis=0).tolist() == list(result.updates)
    shares = [profit(result, routers=[place]) for place in range(len(result.routers))]
    assert sum(shares) == pytest.approx(profit(result))
    assert 0.0 < success(result) <= 100.0
    assert any(result.updates) == (condition != "as-found")
    again = run(plan(), 0, condition, team, "twin")
    # How long it took is all that differs.
    assert again == replace(
        result, round_seconds=again.round_seconds, deciding_seconds=again.deciding_seconds
    )


def test_a_competitor_takes_income_away(team: Path) -> None:
    chosen = plan(rounds=16).with_scenario(Scenario.COMPETITOR)
    result = run(chosen, 0, "frozen", team, "twin")
    at = chosen.changes_at
    assert at is not None
    earned, _ = by_round(result)
    assert earned[at:].sum(axis=1).mean() < earned[:at].sum(axis=1).mean()


def test_with_one_learner_the_others_stay_frozen(team: Path) -> None:
    chosen = plan(rounds=12).with_scenario(Scenario.DRAIN)
    for seed in range(2):
        stage = make_stage(chosen, seed)
        assert stage.learning == (seed,)
        sections = [actor_section("online", team, stage, place) for place in range(2)]
        assert [one.learn for one in sections] == [place == seed for place in range(2)]
        assert sections[seed].method == "demand"
        assert not any(actor_section("frozen", team, stage, place).learn for place in range(2))


def test_in_the_twin_alone_no_node_is_started(tmp_path: Path, team: Path) -> None:
    chosen = plan(rounds=4).with_scenario(Scenario.DRAIN)
    results = LiveResults(tmp_path)
    silent = Silent()
    assert run_live(chosen, team, results, silent, only_twin=True) == 4
    assert {world for _, world in results.read()} == {"twin"}
    assert run_live(chosen, team, results, silent, only_twin=True) == 0


def test_results_survive_an_interruption(tmp_path: Path, team: Path) -> None:
    results = LiveResults(tmp_path / "results")
    assert results.read() == {}
    first = run(plan(), 0, "as-found", team, "twin")
    results.append(first)
    with (tmp_path / "results" / FILE).open("a") as file:
        file.write('{"run": "half')
    second = replace(first, run="other")
    results.append(second)
    read = results.read()
    assert list(read) == [(first.run, "twin"), ("other", "twin")]
    assert profit(read[first.run, "twin"]) == profit(first)
    (tmp_path / "results" / FILE).write_text("{}\n")
    with pytest.raises(ExperimentError, match="line 1 is not a result"):
        results.read()


def test_the_page_tells_what_came_out(tmp_path: Path, team: Path) -> None:
    chosen = plan(rounds=4).with_scenario(Scenario.COMPETITOR)
    results = LiveResults(tmp_path)
    for seed in range(chosen.seeds):
        for condition in chosen.conditions:
            for world in ("live", "twin"):
                results.append(run(chosen, seed, condition, team, world))
    scores = score(chosen, team_digest(team), results.read())
    assert scores.seeds == (0, 1)
    for gap in scores.gaps:
        assert gap.fees.value == gap.success.value == 0.0
        assert gap.same == 100.0
    told = " ".join(summarise_live(scores))
    assert "After the change, the one who learns on earned" in told
    assert "within 5 %" in told
    path = write_live_page(scores, tmp_path)
    text = path.read_text()
    assert "<h1>On real nodes: “small-competitor”</h1>" in text
    assert "http" not in "".join(live_section(scores))
    data = scores.to_json()
    assert data["gap"]["frozen"]["same_payments_percent"] == 100.0
    after = data["learning_on"]["after"]
    assert after["online_less_frozen"][0] == pytest.approx(after["online"][0] - after["frozen"][0])
    in_twin = score(chosen, team_digest(team), results.read(), "twin")
    assert (in_twin.gaps, in_twin.seeds) == ((), (0, 1))
    assert "<h1>In the twin: " in write_live_page(in_twin, tmp_path / "twin").read_text()
    assert data["conditions"]["online"]["profit"][0] == pytest.approx(
        scores.means["online"]["profit"].value
    )


def test_what_is_not_learned_is_told_apart(team: Path) -> None:
    chosen = plan(rounds=16).with_scenario(Scenario.DRAIN, untaught=True)
    stage = make_stage(chosen, 1)
    methods = {
        condition: [actor_section(condition, team, stage, place) for place in (0, 1)]
        for condition in chosen.conditions
    }
    told = {name: [(one.learn, one.method) for one in two] for name, two in methods.items()}
    assert told == {
        "frozen": [(False, "demand"), (False, "demand")],
        "untaught": [(False, "demand"), (True, "untaught")],
        "online": [(False, "demand"), (True, "demand")],
    }
    digest = team_digest(team)
    results = {}
    for seed in range(chosen.seeds):
        for condition in chosen.conditions:
            result = run(chosen, seed, condition, team, "twin")
            results[result.run, result.world] = result
    scores = score(chosen, digest, results, "twin")
    after = scores.learning["after"]
    assert after.untaught is not None
    assert after.taught is not None
    assert after.online.value == pytest.approx(after.untaught.value + after.taught.value)
    assert after.taught.value != after.gain.value != 0.0
    assert "Without learning from payments it is" in " ".join(summarise_live(scores))
    data = scores.to_json()["learning_on"]["after"]
    assert data["online_less_untaught"][0] == pytest.approx(after.taught.value)
    assert "untaught" in "".join(live_section(scores))


def test_a_gap_is_told_in_percent_and_points(team: Path) -> None:
    twin = run(plan(), 0, "as-found", team, "twin")
    number = next(place for place, lived in enumerate(twin.payments) if lived and lived[0][0] == 1)
    lived = list(twin.payments[number])
    lost = lived[0][1]
    lived[0] = (0, 0, 1, 0.5)
    changed = (*twin.payments[:number], tuple(lived), *twin.payments[number + 1 :])
    live = replace(twin, payments=changed)
    row = gap_row("as-found", {("as-found", 0): live}, {("as-found", 0): twin}, [0])
    assert row is not None
    count = sum(map(len, twin.payments))
    assert row.fees_signed.value == pytest.approx(-100.0 * lost / fees(twin))
    assert row.fees.value == pytest.approx(100.0 * lost / fees(twin))
    assert row.success.value == pytest.approx(100.0 / count)
    assert row.same == pytest.approx(100.0 * (count - 1) / count)
    assert row.apart == (number,)


def test_without_a_whole_seed_there_is_nothing_to_tell(team: Path) -> None:
    with pytest.raises(ExperimentError, match="no seed has all its runs"):
        score(plan(), team_digest(team), {})


def test_a_team_that_does_not_fit_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        team_digest(tmp_path / "nothing.pt")


def test_teams_that_remember_play_and_are_told_apart_by_that_too(
    tmp_path: Path, team: Path
) -> None:
    digests = set()
    for sign in (1.0, -1.0):
        file = write_team(tmp_path / "team.pt", memory=sign)
        digests.add(team_digest(file))
        result = run(plan(), 0, "online", file, "twin")
        assert any(result.updates)
    assert len(digests | {team_digest(team)}) == 3


def test_who_explores_draws_the_same_lots_for_the_same_channels(team: Path) -> None:
    chosen = plan()
    stage = make_stage(chosen, 0)
    first = run(chosen, 0, "online", team, "live")

    def played(condition: str, order: list[str]) -> LiveResult:
        twin = make_twin(stage, chosen.round_seconds)
        live = replace(first, peers=(tuple(order),) * len(stage.routers))
        with closing(TwinDeciders(twin, stage, condition, team, live)) as actors:
            record = play(twin, actors, stage, progress=lambda number: None)
        return LiveResult.of(
            record, stage.routers, run="r", world="twin", seed=0, condition=condition
        )

    one, other = played("online", ["n2", "n3"]), played("online", ["n3", "n2"])
    assert (one.peers, other.peers) == ((("n2", "n3"),) * 2, (("n3", "n2"),) * 2)
    assert one.payments != other.payments
    assert played("proportional", ["n2", "n3"]).payments == (
        played("proportional", ["n3", "n2"]).payments
    )


def test_routers_hear_of_the_rival_before_they_decide(team: Path) -> None:
    chosen = plan().with_scenario(Scenario.COMPETITOR)
    stage = make_stage(chosen, 0)
    twin = make_twin(stage, chosen.round_seconds)
    twin.apply(rivals_decision(stage, twin, 0))
    rival = twin.agents["n2"]

    def seen() -> set[int]:
        graph = twin.observe()[twin.agents["n0"]].graph
        policies = [edge.policy for edge in graph.edges() if edge.source == rival]
        return {policy.fee_rate_ppm for policy in policies if policy is not None}

    assert seen() != {5_000}
    with closing(TwinDeciders(twin, stage, "frozen", team)) as actors:
        actors.decide()
    assert seen() == {5_000}


def test_the_twin_of_a_run_has_its_clock(team: Path) -> None:
    chosen = plan()
    stage = make_stage(chosen, 0)
    live = run(chosen, 0, "as-found", team, "live")
    slow = replace(live, deciding_seconds=(3.0,) * 6, round_seconds=(5.0, 20.0, 5.0, 6.0, 5.0, 7.0))

    def lasted(like: LiveResult | None) -> float:
        twin = make_twin(stage, chosen.round_seconds)
        with closing(TwinDeciders(twin, stage, "as-found", team, like)) as actors:
            play(twin, actors, stage, progress=lambda number: None)
        return twin.twin.now

    assert lasted(slow) == pytest.approx(48.0)
    assert lasted(None) == pytest.approx(6.0 * quiet(chosen.round_seconds).whole)
    assert lasted(replace(slow, deciding_seconds=())) == pytest.approx(48.0)
