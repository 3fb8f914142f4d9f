from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnagents.model.payment import FailureCode
from lnagents.twin.search import NO_BALANCE, NO_PATH
from lnagents.twin.settings import Estimator, SenderSettings
from lnagents.twin.space import UNREACHED
from tests.unit.twin.routing import HEIGHT, Found, Router, network_of, random_network

TEMPORARY = int(FailureCode.TEMPORARY_CHANNEL_FAILURE)
FEE_INSUFFICIENT = int(FailureCode.FEE_INSUFFICIENT)
FINAL = HEIGHT + 83


def test_a_line_is_paid_hop_by_hop() -> None:
    router = Router(network_of((0, 1), (1, 2), (2, 3), base=1_000, rate=500, delta=40))
    found = router.find(0, 3, 10_000_000)
    # Node 2 takes 1000 + 0.05 % of what it sends on, node 1 the same of what it sends on.
    to_second = 10_000_000 + 1_000 + 5_000
    to_first = to_second + 1_000 + to_second * 500 // 1_000_000
    assert found.edges == (0, 2, 4)
    assert found.amounts == (to_first, to_second, 10_000_000)
    assert found.expiries == (FINAL + 80, FINAL + 40, FINAL)


def test_a_discount_cannot_exceed_the_fee() -> None:
    network = network_of((0, 1), (1, 2), base=1_000, inbound_base=-5_000)
    assert Router(network).find(0, 2, 1_000_000).amounts == (1_000_000, 1_000_000)


def test_a_discount_is_part_of_the_fee() -> None:
    network = network_of((0, 1), (1, 2), base=1_000, inbound_rate=-300)
    # 300 ppm of 1,001,000, rounded towards zero.
    assert Router(network).find(0, 2, 1_000_000).amounts == (1_001_000 - 300, 1_000_000)


def test_the_receiver_charges_nothing() -> None:
    network = network_of((0, 1), (1, 2), base=1_000, inbound_base=700)
    assert Router(network).find(0, 1, 1_000_000).amounts == (1_000_000,)
    assert Router(network).find(0, 2, 1_000_000).amounts == (1_001_700, 1_000_000)


def test_the_own_channel_with_most_left_is_used() -> None:
    network = network_of((0, 1), (0, 1), (0, 1), capacity_sat=(500_000, 2_000_000, 1_000_000))
    found = Router(network).find(0, 1, 10_000_000)
    assert found.edges == (2,)
    assert not found.tied


def test_of_others_channels_the_dearest_is_paid_for() -> None:
    network = network_of(
        (0, 1), (1, 2), (1, 2), base=[0, 0, 100, 0, 900, 0], delta=[40, 40, 120, 40, 40, 40]
    )
    found = Router(network).find(0, 2, 1_000_000)
    assert found.edges == (0, 4)
    assert found.amounts == (1_000_900, 1_000_000)
    assert found.expiries == (FINAL + 120, FINAL)


def test_equal_ways_are_a_tie() -> None:
    network = network_of((0, 1), (0, 2), (1, 3), (2, 3))
    assert Router(network).find(0, 3, 1_000_000, exhaustive=True).tied


def test_a_disabled_edge_is_not_used_but_ones_own_is() -> None:
    network = network_of((0, 1), (1, 2), disabled=[1, 0, 0, 0])
    assert Router(network).find(0, 2, 1_000_000).hops == 2
    network = network_of((0, 1), (1, 2), disabled=[0, 0, 1, 0])
    assert Router(network).find(0, 2, 1_000_000).hops == NO_PATH


@pytest.mark.parametrize(("most", "hops"), [(999_999, NO_PATH), (1_000_000, 2), (0, 2)])
def test_a_maximum_is_kept_and_zero_is_none(most: int, hops: int) -> None:
    network = network_of((0, 1), (1, 2), most=[0, 0, most, 0])
    assert Router(network).find(0, 2, 1_000_000).hops == hops


def test_fee_limit() -> None:
    router = Router(network_of((0, 1), (1, 2), base=1_000))
    assert router.find(0, 2, 1_000_000, fee_limit=1_000).hops == 2
    assert router.find(0, 2, 1_000_000, fee_limit=999).hops == NO_PATH


def test_time_lock_limit() -> None:
    line = [(node, node + 1) for node in range(5)]
    # Four forwarders, and 83 blocks for the receiver.
    limit = 4 * 480 + 83
    network = network_of(*line, delta=480)
    assert Router(network, SenderSettings(cltv_limit=limit)).find(0, 5, 1_000_000).hops == 5
    assert Router(network, SenderSettings(cltv_limit=limit - 1)).find(0, 5, 1_000_000).hops < 0


def test_a_route_must_be_likely_enough() -> None:
    # 0.95 for the own channel, 0.6 for each other: 0.95 * 0.6 ** 8 is above 0.01, 9 below.
    line = [(node, node + 1) for node in range(10)]
    router = Router(network_of(*line))
    for exhaustive in (True, False):
        assert router.find(0, 9, 1_000_000, exhaustive=exhaustive).hops == 9
        assert router.find(0, 10, 1_000_000, exhaustive=exhaustive).hops == NO_PATH


def test_balance_too_small_in_all_and_in_each_channel() -> None:
    router = Router(network_of((0, 1), (0, 2), (1, 2), capacity_sat=1_000_000))
    assert router.find(0, 1, 1_100_000_000).hops == NO_BALANCE
    assert router.find(0, 1, 600_000_000).hops == NO_PATH
    assert router.find(0, 1, 400_000_000).hops == 1


def test_neighbours_that_are_off_have_no_channel() -> None:
    router = Router(network_of((0, 1), (0, 2), (1, 3), (2, 3)))
    router.space.down[1] = True
    assert router.find(0, 3, 1_000_000).edges == (2, 6)
    router.space.down[2] = True
    assert router.find(0, 3, 1_000_000).hops == NO_BALANCE


def test_paying_in_a_circle_does_not_see_that_it_turns_back() -> None:
    # Node 1 is cheaper than node 2, and LND's search does not mind the same channel twice.
    router = Router(network_of((0, 1), (1, 2), (2, 0), base=[0, 10, 0, 0, 20, 0]))
    found = router.find(0, 0, 1_000_000)
    assert found == router.find_plainly(0, 0, 1_000_000)
    assert found.edges == (0, 1)
    assert found.amounts == (1_000_010, 1_000_000)


def test_nothing_is_left_over_from_a_search() -> None:
    rng = np.random.default_rng(5)
    router = Router(random_network(30, 60, rng))
    for exhaustive in (True, False):
        for target in range(1, 30):
            router.find(0, target, 1_000_000, exhaustive=exhaustive)
            assert (router.space.distance == UNREACHED).all()
            assert not router.space.final.any()
            assert (router.space.own_pair == -1).all()
            assert len(set(router.space.loss.ravel().tolist())) == 1


def outcome(router: Router, found: Found, rng: np.random.Generator) -> tuple[int, int]:
    """Somewhere on the route it fails, for some reason, or it arrives."""
    if found.hops < 2 or rng.random() < 0.6:
        return -1, 0
    code = FEE_INSUFFICIENT if rng.random() < 0.15 else TEMPORARY
    return int(rng.integers(1, found.hops)), code


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    nodes=st.integers(4, 30),
    density=st.floats(1.0, 3.0),
    amount=st.integers(1_000, 200_000_000),
)
def test_all_three_searches_find_the_same(
    seed: int, nodes: int, density: float, amount: int
) -> None:
    """With histories of successes and failures, over time; ties aside."""
    rng = np.random.default_rng(seed)
    router = Router(random_network(nodes, int(nodes * density), rng))
    now = 0.0
    for _ in range(25):
        sender, target = rng.choice(min(nodes, 6), 2, replace=False).tolist()
        if rng.random() < 0.5:
            target = int(rng.integers(nodes))
        if sender == target:
            continue
        now += float(rng.exponential(300))
        fee_limit = int(rng.choice([2_000, 20_000, 2**62]))
        directed = router.find(sender, target, amount, fee_limit=fee_limit, now=now)
        exhaustive = router.find(
            sender, target, amount, fee_limit=fee_limit, now=now, exhaustive=True
        )
        plain = router.find_plainly(sender, target, amount, fee_limit=fee_limit, now=now)
        if exhaustive.hops < 0:
            assert directed.hops == exhaustive.hops
            if exhaustive.hops == NO_PATH and plain.hops > 0:
                raise AssertionError(f"there is a route: {plain}")
            continue
        if not exhaustive.tied:
            assert plain == exhaustive
            assert directed == exhaustive
        failed_at, code = outcome(router, exhaustive, rng)
        router.report(sender, exhaustive, failed_at, code, now)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), amount=st.sampled_from([100_000, 10_000_000, 400_000_000]))
def test_larger_networks(seed: int, amount: int) -> None:
    rng = np.random.default_rng(seed)
    router = Router(random_network(300, 1_200, rng))
    now = 0.0
    for _ in range(60):
        sender, target = int(rng.integers(4)), int(rng.integers(4, 300))
        now += float(rng.exponential(600))
        directed = router.find(sender, target, amount, now=now)
        exhaustive = router.find(sender, target, amount, now=now, exhaustive=True)
        assert directed.hops == exhaustive.hops or exhaustive.tied
        if exhaustive.hops < 0:
            continue
        if not exhaustive.tied:
            assert directed == exhaustive
        failed_at, code = outcome(router, exhaustive, rng)
        router.report(sender, exhaustive, failed_at, code, now)


@pytest.mark.parametrize(
    "sender",
    [
        SenderSettings(estimator=Estimator.BIMODAL),
        SenderSettings(hop_probability=1.0),
        SenderSettings(min_probability=0.0),
        SenderSettings(time_preference=-1.0),
        SenderSettings(time_preference=1.0),
        SenderSettings(apriori_weight=1.0, attempt_cost=0, attempt_cost_ppm=0),
        SenderSettings(apriori_weight=0.0, hop_probability=0.3),
    ],
    ids=["bimodal", "certain", "unlikely", "cheap", "reliable", "free", "by-results"],
)
def test_other_settings(sender: SenderSettings) -> None:
    rng = np.random.default_rng(11)
    router = Router(random_network(60, 150, rng), sender)
    now = 0.0
    routes = 0
    for _ in range(150):
        source, target = int(rng.integers(3)), int(rng.integers(3, 60))
        now += float(rng.exponential(60))
        directed = router.find(source, target, 20_000_000, now=now)
        exhaustive = router.find(source, target, 20_000_000, now=now, exhaustive=True)
        assert directed.hops == exhaustive.hops or exhaustive.tied
        if exhaustive.hops > 0:
            routes += 1
            if not exhaustive.tied:
                assert directed == exhaustive
            failed_at, code = outcome(router, exhaustive, rng)
            router.report(source, exhaustive, failed_at, code, now)
    assert routes > 10
