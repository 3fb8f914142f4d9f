"""What goes wrong in a run, and what is left of income and volume then."""

from __future__ import annotations

import numpy as np
import pytest

from lnagents.env.twin_world import TwinWorld
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.experiment.disturbances import (
    Disturbance,
    FeeWar,
    Jamming,
    LiquidityDrain,
    NodeCrash,
)
from lnagents.evaluate.experiment.families import Arena, Split, draw_arena
from lnagents.evaluate.measures import kept, price_over_best_response, recovery_rounds
from lnagents.evaluate.results import RunResult
from lnagents.model.errors import ExperimentError
from lnagents.model.files import parse_yaml
from lnagents.twin.network import FEE_RATE

TEXT = """
name: small
baseline: as-found
contestants: [as-found, proportional]
fields: [as-found]
seeds: 1
rounds: 8
stress:
  disturbances:
    - {kind: node-crash, begin: 2, rounds: 2}
    - {kind: liquidity-drain, begin: 2, rounds: 1}
    - {kind: fee-war, begin: 2, rounds: 2}
    - {kind: jamming, begin: 2, rounds: 2, share: 1.0}
  deviations: [0.5, 1, 2]
families:
  - {name: paths, kind: competing-paths, routers: 4, ends: 2, payments_per_second: 10}
"""


def definition(text: str = TEXT) -> Definition:
    return parse_yaml(text, "small.yaml", Definition, ExperimentError)


def results_of(contestant: str) -> dict[tuple[str, float], RunResult]:
    chosen = [spec for spec in definition().runs() if spec.contestant.name == contestant]
    return {(one.disturbance, one.deviation): one for one in map(play, chosen)}


@pytest.fixture(scope="module", name="found")
def _found() -> dict[tuple[str, float], RunResult]:
    return results_of("proportional")


def test_each_run_is_made_calm_and_with_all_that_can_go_wrong() -> None:
    runs = definition().runs()
    assert len({spec.id for spec in runs}) == len(runs) == 2 * (1 + 4 + 2)
    assert sum(spec.plain for spec in runs) == 2
    few = definition(TEXT.replace("stress:", "stress:\n  contestants: [proportional]"))
    assert sum(not spec.plain for spec in few.runs()) == 4 + 2
    none = definition(TEXT.replace("  deviations", "  families: [paths]\n  deviations"))
    assert none.runs() == runs
    with pytest.raises(ExperimentError, match="families: 'hubs' is none of them"):
        definition(TEXT.replace("  deviations", "  families: [hubs]\n  deviations"))


@pytest.mark.parametrize("kind", ["node-crash", "liquidity-drain", "fee-war", "jamming"])
def test_until_it_begins_nothing_is_different(
    found: dict[tuple[str, float], RunResult], kind: str
) -> None:
    calm, other = found["calm", 1.0], found[kind, 1.0]
    assert other.payments_by_round == calm.payments_by_round
    assert other.settled_by_round[:2] == calm.settled_by_round[:2]
    assert other.income_by_round[:2] == calm.income_by_round[:2]
    assert other.income_by_round[2:] != calm.income_by_round[2:]


def test_rounds_add_up(found: dict[tuple[str, float], RunResult]) -> None:
    for one in found.values():
        earned = sum(seat.fees_earned_msat for seat in one.seats if seat.contests)
        assert sum(one.income_by_round) == earned
        assert sum(one.payments_by_round) == one.payments
        assert sum(one.settled_by_round) == one.settled
        assert sum(one.volume_by_round) == one.settled_msat
        assert len(one.volume_by_round) == 8


@pytest.mark.parametrize("kind", ["node-crash", "fee-war", "jamming"])
def test_who_is_hit_earns_less_while_it_lasts(
    found: dict[tuple[str, float], RunResult], kind: str
) -> None:
    calm, other = found["calm", 1.0], found[kind, 1.0]
    assert sum(other.income_by_round[2:4]) < sum(calm.income_by_round[2:4])
    assert sum(other.income_by_round[4:]) > 0


def test_jammed_channels_forward_nothing(found: dict[tuple[str, float], RunResult]) -> None:
    assert sum(found["jamming", 1.0].income_by_round[2:4]) == 0


def drawn() -> tuple[Arena, TwinWorld, tuple[str, ...]]:
    arena = draw_arena(definition().families[0], Split.TRAINING, 0)
    return arena, TwinWorld(arena.network, arena.agents), arena.agents[:2]


@pytest.mark.parametrize(
    "disturbance",
    [NodeCrash(begin=1, rounds=2), FeeWar(begin=1, rounds=2), Jamming(begin=1, rounds=2)],
)
def test_afterwards_everything_is_as_it_was(disturbance: Disturbance) -> None:
    _, world, seats = drawn()

    def state() -> tuple[bytes, bytes, bytes]:
        policies = world.twin.policies()
        return policies.tobytes(), world.down.tobytes(), world.reserved.tobytes()

    before, seen = state(), []
    for number in range(4):
        disturbance.before_round(number, world, seats, 0)
        seen.append(state())
        world.twin.advance(5.0)
    assert [one == before for one in seen] == [True, False, False, True]


def test_a_drain_moves_liquidity_and_makes_none() -> None:
    _, world, seats = drawn()
    before = world.twin.balances()
    LiquidityDrain(begin=1, share=0.5).before_round(1, world, seats, 7)
    after = world.twin.balances()
    moved = np.abs(after - before).sum() / 2
    assert moved > 0.02 * world.network.capacity.sum()
    world.twin.advance(60.0)
    world.twin.audit()


def test_in_a_fee_war_only_the_others_are_cheap() -> None:
    _, world, seats = drawn()
    FeeWar(begin=1, rate_ppm=3).before_round(1, world, seats, 0)
    names = np.array(world.network.names)[world.network.edge_source()]
    mine = np.isin(names, seats)
    rates = world.twin.policies()[:, FEE_RATE]
    assert (rates[~mine] == 3).all()
    assert (rates[mine] == world.network.policy[mine, FEE_RATE]).all()


def test_one_seat_deviates_from_what_it_decides() -> None:
    found = results_of("proportional")
    calm, dearer = found["calm", 1.0], found["calm", 2.0]
    (deviator,) = [seat for seat in dearer.seats if seat.deviates]
    assert deviator.contests
    same = next(seat for seat in calm.seats if seat.node == deviator.node)
    assert not same.deviates
    assert 1.7 * same.rate_ppm < deviator.rate_ppm < 2.3 * same.rate_ppm
    for seat in calm.seats:
        if not seat.contests:
            other = next(one for one in dearer.seats if one.node == seat.node)
            assert other.rate_ppm == seat.rate_ppm


def test_a_disturbance_has_to_end_in_time() -> None:
    with pytest.raises(ExperimentError, match="'node-crash' does not end before the 4 rounds"):
        definition(TEXT.replace("rounds: 8", "rounds: 4"))
    twice = TEXT.replace("kind: jamming, begin: 2, rounds: 2, share: 1.0", "kind: fee-war")
    with pytest.raises(ExperimentError, match="disturbances: 'fee-war' occurs twice"):
        definition(twice.replace("rounds: 8", "rounds: 40"))


def test_the_same_run_is_disturbed_in_the_same_way() -> None:
    def chosen() -> RunSpec:
        return next(
            spec
            for spec in definition().runs()
            if spec.disturbance is not None and spec.disturbance.kind == "liquidity-drain"
        )

    one, other = play(chosen()), play(chosen())
    assert one.volume_by_round == other.volume_by_round


def test_what_is_left() -> None:
    calm = [[10, 10, 10, 10], [10, 10, 0, 0]]
    assert kept([[10, 10, 5, 0], [0, 0, 0, 0]], calm, 2).tolist()[0] == 0.25
    assert np.isnan(kept([[10, 10, 5, 0], [0, 0, 0, 0]], calm, 2)[1])


@pytest.mark.parametrize(
    ("disturbed", "rounds"),
    [
        ([5, 9, 9, 9, 9, 9], 0),
        ([5, 0, 9, 9, 9, 9], 1),
        ([5, 0, 0, 9, 9, 9], 2),
        ([5, 9, 9, 9, 0, 9], 4),
        ([5, 0, 0, 0, 0, 0], 5),
    ],
)
def test_recovery_is_when_it_stays_well(disturbed: list[int], rounds: int) -> None:
    assert recovery_rounds(disturbed, [5, 10, 10, 10, 10, 10], 1, window=1) == rounds


def test_prices_above_a_best_response() -> None:
    factors = [0.5, 1.0, 2.0]
    incomes = [[9.0, 5.0, 1.0], [1.0, 5.0, 1.0], [1.0, 2.0, 3.0]]
    assert price_over_best_response(incomes, factors).tolist() == [2.0, 1.0, 0.5]
    for wrong in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="factors"):
            price_over_best_response([[1.0] * len(wrong)], wrong)
