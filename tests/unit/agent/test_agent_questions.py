"""What is asked before a payment: the hop whose hint saves most, if there is a way around it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.agent.candidates import Candidate
from lnagents.agent.liquidity import Estimate, Liquidity
from lnagents.agent.questions import Noes, Question, decisive_question
from lnagents.agent.store import HintRecord
from lnagents.env import AttemptCost, RouteCandidate
from lnagents.model.graph import ChannelPolicy, Edge
from lnagents.model.payment import Hop, Route

COST = AttemptCost()
OWN, FIRST, SECOND, END, ASIDE = ("02" + digit * 64 for digit in "12345")
AMOUNT = 1_000_000
CHANCES = st.floats(0.06, 0.94)


def way(nodes: Sequence[str], chances: Sequence[float], scids: Sequence[int]) -> Candidate:
    """A candidate over `nodes`; the own channel is certain, the others have `chances`."""
    edges = tuple(
        (Edge(scid, source, target, 10 * AMOUNT, ChannelPolicy()), AMOUNT)
        for scid, (source, target) in zip(scids, itertools.pairwise(nodes), strict=True)
    )
    hops = tuple(Hop(edge.scid, edge.target, AMOUNT, 0, 180) for edge, _ in edges)
    estimates = tuple(Estimate(chance, None, False) for chance in (1.0, *chances))
    whole = RouteCandidate(Route(hops, AMOUNT, 260), math.prod(chances), None, False, 0.5)
    return Candidate(whole, edges, estimates)


def long_way(one: float, two: float) -> Candidate:
    return way((OWN, FIRST, SECOND, END), (one, two), (1, 2, 3))


AROUND = way((OWN, ASIDE, END), (0.5,), (4, 5))


def ask(
    candidates: Sequence[Candidate],
    sellers: set[str],
    liquidity: Liquidity | None = None,
    now: float = 0.0,
) -> Question | None:
    return decisive_question(candidates, sellers, liquidity or Liquidity(3_600.0), COST, now)


@given(one=CHANCES, two=CHANCES, around=CHANCES)
def test_it_is_worth_the_failed_attempts_that_a_right_answer_spares(
    one: float, two: float, around: float
) -> None:
    """Against all that may happen, with the answer and without; how good the other way is, is
    the same to both."""
    second_best = way((OWN, ASIDE, END), (around,), (4, 5))
    for seller, place in ((FIRST, 0), (END, 1)):
        question = ask([long_way(one, two), second_best], {seller})
        assert question is not None
        assert question.edge.scid == (2, 3)[place]
        spared = 0.0
        for passes in itertools.product((True, False), repeat=3):
            chance = math.prod(
                likely if passed else 1.0 - likely
                for likely, passed in zip((one, two, around), passes, strict=True)
            )
            arrives = passes[0] and passes[1]
            without = 0 if arrives else 1 + (not passes[2])
            told = without if passes[place] else int(not passes[2])
            spared += chance * (without - told)
        worth = question.worth_msat(COST, 0.5)
        assert worth == pytest.approx(0.5 * spared * COST.of(AMOUNT), abs=1.0)


def test_the_hop_whose_answer_spares_most_is_asked_about() -> None:
    everybody = {OWN, FIRST, SECOND, END}
    for chances, scid in (((0.4, 0.5), 2), ((0.9, 0.4), 3), ((0.5, 0.1), 3)):
        question = ask([long_way(*chances), AROUND], everybody)
        assert question is not None
        assert question.edge.scid == scid


def test_a_wrong_no_costs_the_way_around() -> None:
    attempt = COST.of(AMOUNT)
    question = ask([long_way(0.9, 0.5), AROUND], {END})
    assert question is not None
    # The way around arrives with 1/2, this one would with 9/10.
    assert question.detour_msat == round(attempt / 0.5 - attempt / 0.9)
    better = way((OWN, ASIDE, END), (0.99,), (4, 5))
    question = ask([long_way(0.9, 0.5), better], {END})
    assert question is not None
    assert question.detour_msat == 0


def test_nothing_is_asked_where_there_is_no_way_around() -> None:
    same_end = way((OWN, ASIDE, SECOND, END), (0.5, 0.4), (4, 6, 3))
    question = ask([long_way(0.9, 0.4), same_end], {END})
    assert question is None
    # Around the hop before there is one, though that says less.
    question = ask([long_way(0.9, 0.4), same_end], {FIRST, END})
    assert question is not None
    assert question.edge.scid == 2
    assert ask([long_way(0.9, 0.4)], {FIRST, END}) is None


def test_what_is_known_is_not_asked_about() -> None:
    hinted = Liquidity(3_600.0)
    hinted.add_hint(HintRecord(3, SECOND, AMOUNT, 0.4, 0.0, 60.0, END, 0.5))
    known = [long_way(0.97, 0.4), AROUND]
    assert ask(known, {FIRST, END}, hinted, 59.0) is None
    question = ask(known, {FIRST, END}, hinted, 61.0)
    assert question is not None
    assert question.edge.scid == 3
    assert ask(known, {ASIDE}) is None


@given(
    stakes=st.lists(st.integers(0, 500_000), min_size=1, max_size=60),
    test=st.integers(1_000, 400_000),
)
def test_believing_noes_never_costs_much_more_than_the_tests(stakes: list[int], test: int) -> None:
    noes, believed = Noes(), 0
    for stake in stakes:
        if noes.puts_to_test(stake, test):
            believed = 0
        else:
            believed += stake
            assert believed < test * 3**noes.tests
    # Whoever is honest loses by tests no more than was at stake.
    assert test * sum(3**number for number in range(noes.tests)) <= sum(stakes)


def test_fewer_and_fewer_noes_are_put_to_the_test() -> None:
    noes = Noes()
    tested = [number for number in range(1, 131) if noes.puts_to_test(10_000, 100_000)]
    assert tested == [10, 40, 130]
