"""The study of the market in the twin: the daemon's rules decide, no money is made or lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lnagents.agent.questions import Question
from lnagents.env import AttemptCost
from lnagents.evaluate.experiment.families import CompetingPaths, Split, draw_arena
from lnagents.evaluate.market.findings import Findings
from lnagents.evaluate.market.players import Ground, Honesty, Payer
from lnagents.evaluate.market.plays import (
    FREE,
    FREE_RIDE,
    INFORMED,
    LEARNED,
    MARKET,
    MARKET_PRICE_SAT,
    NO_MARKET,
    RESALE,
    Play,
    lying,
)
from lnagents.evaluate.market.session import Session, SessionResult
from lnagents.evaluate.market.study import (
    FIRST_BUYER,
    GROUPS,
    MarketResult,
    MarketRun,
    Study,
    play_run,
    roles_of,
    run_study,
)
from lnagents.evaluate.results import Results
from lnagents.market.scores import HintOutcome
from lnagents.model.workload import AmountSpec, draw_payments
from lnagents.twin.simulator import Twin

FAMILY = CompetingPaths(
    kind="competing-paths",
    name="few-paths",
    routers=3,
    ends=2,
    payments_per_second=1.0,
    amount=AmountSpec(median_sat=400_000, max_sat=3_000_000),
)
PAYMENTS = 300
SHORT = 60
SCARCE = 3
"""A network where liars get caught quickly: much of what is asked about does not pass."""


def _played(play: Play, *, index: int = 0, payments: int = PAYMENTS) -> SessionResult:
    arena = draw_arena(FAMILY, Split.TRAINING, index)
    intents = draw_payments(arena.workload, payments, index)
    return Session(arena.network, roles_of(arena), play, period=20).run(intents)


@pytest.fixture(scope="module")
def honest() -> SessionResult:
    return _played(MARKET)


@pytest.mark.parametrize("play", [NO_MARKET, MARKET, FREE, RESALE, FREE_RIDE, INFORMED, LEARNED])
def test_what_one_loses_others_win(play: Play) -> None:
    result = _played(play, payments=SHORT)
    assert sum(result.profit_msat) == 0
    earned = sum(one.hints_earned_msat + one.resold_msat for one in result.tallies)
    paid = sum(one.hints_paid_msat for one in result.tallies)
    assert earned == paid


def test_profit_is_fees_and_hints(honest: SessionResult) -> None:
    roles = roles_of(draw_arena(FAMILY, Split.TRAINING, 0))
    for buyer in roles.buyers:
        tally = honest.tallies[buyer]
        if honest.forwards[buyer] == 0:
            spent = tally.fees_msat + tally.hints_paid_msat + tally.hints_fees_msat
            assert honest.profit_msat[buyer] == -spent


def test_the_same_run_is_the_same_bit_for_bit() -> None:
    run = MarketRun(FAMILY, 3, MARKET, 60, 20)
    one, other = play_run(run), play_run(run)
    assert replace(one, seconds=0.0) == replace(other, seconds=0.0)


def test_hints_are_bought_where_they_pay_and_save_attempts(honest: SessionResult) -> None:
    free, without = _played(FREE), _played(NO_MARKET)
    assert sum(one.hints_bought for one in without.tallies) == 0
    assert sum(one.hints_bought for one in honest.tallies) > 0
    dear = _played(replace(MARKET, name="dear", price_sat=10_000))
    assert sum(one.hints_bought for one in dear.tallies) == 0
    assert dear.profit_msat == without.profit_msat
    assert sum(one.failed_attempts for one in free.tallies) < sum(
        one.failed_attempts for one in without.tallies
    )


LIES = (Honesty.YES, Honesty.NO, Honesty.INVERTS)


@pytest.fixture(scope="module")
def among_liars() -> dict[Honesty, SessionResult]:
    return {one: _played(lying(one), index=SCARCE) for one in LIES}


def _first_seller() -> int:
    return roles_of(draw_arena(FAMILY, Split.TRAINING, SCARCE)).sellers[0]


@pytest.mark.parametrize("honesty", LIES)
def test_a_liar_is_dropped_and_nobody_else(
    among_liars: dict[Honesty, SessionResult], honesty: Honesty
) -> None:
    first, result = _first_seller(), among_liars[honesty]
    dropped = [
        one.until_dropped
        for one in result.dealings
        if one.seller == first and one.until_dropped is not None
    ]
    assert dropped
    assert max(dropped) < 10
    others = [one for one in result.dealings if one.seller != first]
    assert all(one.until_dropped is None for one in others)


def test_one_who_says_no_is_never_found_out_by_those_who_believe_it() -> None:
    first = _first_seller()
    believing = replace(lying(Honesty.NO), name="believed", believes_no=True)
    result = _played(believing, index=SCARCE)
    assert all(one.until_dropped is None for one in result.dealings if one.seller == first)
    assert result.tallies[first].hints_sold > 0


def test_who_tells_what_is_believed_anyway_has_no_skill_and_loses_its_custom() -> None:
    arena = draw_arena(FAMILY, Split.TRAINING, 0)
    ground = Ground(Twin(arena.network), bands=10)
    roles = roles_of(arena)
    payer = Payer.of(ground, roles.buyers[0], 3_600.0)
    key = ground.keys[roles.sellers[0]]
    score = payer.with_seller(key).score
    question = Question(ground.edges(ground.twin.policies())[0], 100_000_000, 0.5, key, 0)
    assert question.worth_msat(AttemptCost(), score.skill) == 100_000
    for number in range(200):
        score.add(HintOutcome(key, 0.5, 0.5, number % 2 == 0))
    assert score.skill < 0.05
    assert question.worth_msat(AttemptCost(), score.skill) < 1_000 * MARKET_PRICE_SAT


def test_sellers_say_what_they_know_or_what_they_like() -> None:
    arena = draw_arena(FAMILY, Split.TRAINING, 0)
    ground = Ground(Twin(arena.network), bands=10)
    capacity, balance = int(arena.network.capacity[0]), int(arena.network.balance[0, 0])
    assert ground.answer(Honesty.HONEST, 0, balance // 2) == 1.0
    assert ground.answer(Honesty.HONEST, 0, min(capacity, 2 * balance)) == 0.0
    assert ground.answer(Honesty.INVERTS, 0, balance // 2) == 0.0
    assert ground.answer(Honesty.YES, 0, capacity) == 1.0
    assert ground.answer(Honesty.NO, 0, 1) == 0.0
    assert ground.answer(Honesty.PRIOR, 0, capacity // 4) == pytest.approx(0.75, abs=1e-6)


def test_a_rider_buys_nothing() -> None:
    first = roles_of(draw_arena(FAMILY, Split.TRAINING, 0)).buyers[0]
    rider = _played(FREE_RIDE, payments=SHORT).tallies[first]
    assert rider.hints_bought == 0
    assert rider.payments > 0


def test_prices_are_learned_within_bounds() -> None:
    result = _played(LEARNED, payments=200)
    assert len(result.prices_sat) == 10
    assert all(1 <= price <= 200 for period in result.prices_sat for price in period)
    assert len({tuple(period) for period in result.prices_sat}) > 1
    earned = sum(one.hints_earned_msat for one in result.tallies)
    assert sum(map(sum, result.revenue_msat)) == earned


def test_a_study_goes_on_where_it_was_and_says_what_it_found(tmp_path: Path) -> None:
    study = Study(((FAMILY, 40, (NO_MARKET, MARKET, lying(Honesty.NO))),), 2, 60, 20)
    results = Results(tmp_path, MarketResult)
    told: list[tuple[int, int]] = []
    begun = run_study(
        study,
        results,
        progress=lambda done, count: told.append((done, count)),
        stopped=lambda: len(told) > 3,
    )
    assert (begun, told[-1]) == (3, (3, 8))
    rest = run_study(study, results, progress=lambda done, count: None)
    assert rest == 5
    assert run_study(study, results, progress=lambda done, count: None) == 0
    names = results.query("SELECT DISTINCT name FROM groups")["name"]
    assert set(names) == set(GROUPS)
    found = Findings(Results(tmp_path, MarketResult))
    row = found.value("few-paths")["no market"]
    assert row["seeds"] == 2
    assert row["cost_sat_change"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found.liars("few-paths")["market"]["gain_sat"]["value"] == 0.0
    learned = found.learned("few-paths")
    assert learned is not None
    assert learned["periods"] == 3
    assert FIRST_BUYER in names
