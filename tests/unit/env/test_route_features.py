from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.env import (
    ROUTE_FEATURE_NAMES,
    ROUTE_PRIOR,
    AttemptCost,
    RouteCandidate,
    encode_routes,
    expected_cost_msat,
)
from lnagents.model.payment import Hop, Route


def candidate(
    fee: int = 0,
    probability: float = 1.0,
    *,
    amount: int = 100_000_000,
    hops: int = 2,
    age: float | None = None,
    delta: int = 80,
    hinted: bool = False,
    left: float = 0.5,
) -> RouteCandidate:
    last = Hop(hops, "02cc", amount, 0, 500)
    between = [Hop(index, "02bb", amount, 0, 500) for index in range(1, hops)]
    route = Route((*between, last), amount + fee, 500 + delta)
    return RouteCandidate(route, probability, age, hinted, left)


CANDIDATES = st.builds(
    candidate,
    st.integers(0, 10**9),
    st.floats(0, 1),
    amount=st.integers(1_000, 10**10),
    hops=st.integers(1, 20),
    age=st.none() | st.floats(0, 1e9),
    delta=st.integers(0, 2_016),
    hinted=st.booleans(),
    left=st.floats(0, 1),
)


def columns(*candidates: RouteCandidate) -> dict[str, list[float]]:
    array = encode_routes(candidates)
    return {name: array[:, index].tolist() for index, name in enumerate(ROUTE_FEATURE_NAMES)}


@given(st.lists(CANDIDATES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_permuting_candidates_permutes_rows_and_nothing_else(
    candidates: list[RouteCandidate], rng: random.Random
) -> None:
    order = list(range(len(candidates)))
    rng.shuffle(order)
    plain = encode_routes(candidates)
    mixed = encode_routes([candidates[index] for index in order])
    assert np.array_equal(mixed, plain[order])


@given(st.lists(CANDIDATES, min_size=1, max_size=6))
def test_rows_are_finite_and_the_prior_follows_expected_cost(
    candidates: list[RouteCandidate],
) -> None:
    array = encode_routes(candidates)
    assert array.shape == (len(candidates), len(ROUTE_FEATURE_NAMES))
    assert np.isfinite(array).all()
    prior = array[:, ROUTE_FEATURE_NAMES.index(ROUTE_PRIOR)]
    costs = [expected_cost_msat(one, AttemptCost()) for one in candidates]
    assert prior[int(np.argmin(costs))] == 0.0
    assert (prior <= 0.0).all()
    assert (prior >= -50.0).all()


def test_expected_cost_is_what_lnd_minimises() -> None:
    cost = AttemptCost()
    assert cost.of(100_000_000) == 200_000
    assert expected_cost_msat(candidate(1_000, 0.5), cost) == 1_000 + 400_000
    assert expected_cost_msat(candidate(0, 0.0), cost) == pytest.approx(200_000_000)


def test_columns() -> None:
    values = columns(
        candidate(),
        candidate(1_000_000, 0.001, hops=5, age=86_399.0, delta=1_008, hinted=True, left=0.25),
    )
    assert values["fee"] == [0.0, 1.0]
    assert values["fee_rate"] == [0.0, 1.0]
    assert values["log_probability"] == [0.0, -1.0]
    assert values["hops"] == pytest.approx([0.4, 1.0])
    assert values["time_lock"] == pytest.approx([80 / 1_008, 1.0])
    assert values["observed"] == [0.0, 1.0]
    assert values["information_age"] == pytest.approx([1.0, 1.0], abs=1e-4)
    assert values["hinted"] == [0.0, 1.0]
    assert values["local_share_after"] == [0.5, 0.25]
    assert values[ROUTE_PRIOR] == [0.0, -50.0]


def test_a_fee_of_one_attempt_cost_weighs_as_much_as_half_the_chance() -> None:
    values = columns(candidate(), candidate(200_000), candidate(0, 0.5))
    assert values[ROUTE_PRIOR] == pytest.approx([0.0, -5.0, -5.0])


def test_news_is_young() -> None:
    young, old = columns(candidate(age=0.0), candidate(age=1e9))["information_age"]
    assert (young, old) == (0.0, 1.0)


def test_there_must_be_something_to_choose() -> None:
    with pytest.raises(ValueError, match="no candidate routes"):
        encode_routes(())


def test_the_attempt_cost_can_be_chosen() -> None:
    pair = (candidate(), candidate(200_000))
    cheap = encode_routes(pair, AttemptCost(base_msat=1_000_000, rate_ppm=0))
    assert cheap[1, -1] == pytest.approx(-1.0)
    assert replace(AttemptCost(), base_msat=0).of(10) == 0
