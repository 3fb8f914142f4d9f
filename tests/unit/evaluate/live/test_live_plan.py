"""What a live comparison runs: plans, and the stage that all conditions share."""

from __future__ import annotations

from typing import Any

import pytest

from lnagents.evaluate.live.plan import LivePlan, Scenario, load_plan, scenario_named
from lnagents.evaluate.live.stage import drains, make_stage, rivals_decision
from lnagents.evaluate.live.twins import make_twin
from lnagents.model.errors import ExperimentError, InputError


def plan(**changes: Any) -> LivePlan:
    whole: dict[str, Any] = {
        "name": "small",
        "family": {"name": "live", "kind": "competing-paths", "routers": 2, "ends": 1},
        "seeds": 2,
        "rounds": 6,
        "round_seconds": 1.0,
        "heuristics": ("as-found", "proportional"),
        "baseline": "as-found",
    }
    return LivePlan.model_validate(whole | changes)


@pytest.mark.parametrize("name", ["steady", "smoke"])
def test_plans_that_come_along_can_be_built(name: str) -> None:
    stage = make_stage(load_plan(name), 0)
    assert len(stage.topology.nodes) == (10 if name == "steady" else 4)
    assert all(node.agent for node in stage.topology.nodes)
    assert stage.rival is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heuristics": ("best",)}, "'best' is none of as-found, lnd-default"),
        ({"heuristics": ("wall", "wall")}, "twice"),
        ({"baseline": "wall"}, "baseline: 'wall' is none of the conditions"),
        ({"scenario": "drain", "change_round": 6}, "change_round: 6 is not within"),
        ({"untaught": True}, "untaught: only with method demand"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_unknown_names_are_input_errors() -> None:
    with pytest.raises(ExperimentError, match="not one of live"):
        load_plan("nothing")
    with pytest.raises(InputError, match="'war' is none of steady, competitor, drain"):
        scenario_named("war")


def test_only_what_decides_a_run_is_in_its_id() -> None:
    one = plan()
    assert one.run_id(0, "frozen", "a") == plan(seeds=5).run_id(0, "frozen", "a")
    assert one.run_id(0, "as-found", "a") == one.run_id(0, "as-found", "b")
    different = {
        one.run_id(0, "frozen", "a"),
        one.run_id(0, "frozen", "b"),
        one.run_id(0, "online", "a"),
        one.run_id(1, "frozen", "a"),
        plan(rounds=7).run_id(0, "frozen", "a"),
    }
    assert len(different) == 5


def test_who_learns_and_how_decides_only_runs_in_which_somebody_does() -> None:
    one, other = plan(), plan(learners="one", method="demand")
    assert one.run_id(0, "frozen", "a") == other.run_id(0, "frozen", "a")
    assert one.run_id(0, "online", "a") != other.run_id(0, "online", "a")
    assert [other.learning(seed, 2) for seed in range(3)] == [(0,), (1,), (0,)]
    assert one.learning(1, 2) == (0, 1)
    ablated = plan(learners="one", method="demand", untaught=True)
    assert ablated.conditions == ("as-found", "proportional", "frozen", "untaught", "online")
    assert ablated.run_id(0, "online", "a") == other.run_id(0, "online", "a")
    assert ablated.run_id(0, "untaught", "a") != ablated.run_id(0, "untaught", "b")


def test_a_small_version_keeps_its_proportions() -> None:
    changed = plan(rounds=48).with_scenario(Scenario.COMPETITOR)
    assert (changed.rounds, changed.changes_at, changed.conditions) == (
        72,
        24,
        ("frozen", "online"),
    )
    small = changed.quick()
    assert (small.rounds, small.changes_at, small.seeds) == (12, 4, 2)
    longer = changed.sized(7, 144)
    assert (longer.rounds, longer.changes_at, longer.seeds) == (144, 48, 7)
    assert changed.name == "small-competitor"
    assert load_plan("steady").with_scenario(Scenario.DRAIN).name == "drain"


def test_the_stage_of_a_seed_is_always_the_same() -> None:
    one, again, other = make_stage(plan(), 0), make_stage(plan(), 0), make_stage(plan(), 1)
    assert one.topology == again.topology
    assert one.payments == again.payments
    assert one.topology.channels != other.topology.channels
    assert len(one.payments) == 6
    assert all(len(lived) > 0 for lived in one.payments)
    assert one.routers == ("n0", "n1")


def test_the_competitor_enters_cheap() -> None:
    changed = plan().with_scenario(Scenario.COMPETITOR)
    stage = make_stage(changed, 0)
    assert (stage.routers, stage.rival) == (("n0", "n1"), "n2")
    world = make_twin(stage, 1.0)
    assert stage.changes_at == 3
    assert not rivals_decision(stage, world, 2)
    rates = []
    for number in (0, 3):
        world.apply(rivals_decision(stage, world, number))
        view = world.observe()[world.agents["n2"]]
        rates.append({channel.policy.fee_rate_ppm for channel in view.channels})
    assert rates == [{5_000}, {1}]


def test_draining_empties_every_second_channel_of_a_router() -> None:
    stage = make_stage(plan().with_scenario(Scenario.DRAIN), 0)
    world = make_twin(stage, 1.0)
    assert not drains(stage, world, 0)
    assert stage.changes_at == 3
    outcomes = world.run(drains(stage, world, 3))
    assert [one.settled for one in outcomes] == [True, True]
    assert not any(one.fee_msat for one in outcomes)
    for name in stage.routers:
        channels = world.observe()[world.agents[name]].channels
        shares = sorted(one.local_balance_msat / one.capacity_msat for one in channels)
        assert shares[0] < 0.021 < shares[1]
