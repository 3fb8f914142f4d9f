"""Beliefs about liquidity, and the routes that follow from them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.agent.candidates import PathQuery, RouteFinder, sendable_msat
from lnagents.agent.liquidity import LEAST_CHANCE, Liquidity
from lnagents.agent.store import HintRecord
from lnagents.model.graph import Channel, ChannelPolicy, Edge, LocalChannel, NetworkGraph
from lnagents.model.payment import AttemptFailure, FailureCode, Route
from lnagents.model.units import Msat, NodeKey

CAPACITY = 1_000_000
HALF_LIFE = 100.0
NOW = 1_000_000.0
OWN, TOP, LOW, END = ("02" + digit * 64 for digit in "1234")


def _edge(source: NodeKey, target: NodeKey, scid: int = 1, *, fee_rate_ppm: int = 1) -> Edge:
    return Edge(scid, source, target, CAPACITY, ChannelPolicy(fee_rate_ppm=fee_rate_ppm))


def _local(scid: int, peer: NodeKey, balance: Msat = 900_000_000) -> LocalChannel:
    return LocalChannel(
        scid=scid,
        channel_point=f"{scid}:0",
        peer=peer,
        capacity_msat=1_000_000_000,
        local_balance_msat=balance,
        remote_balance_msat=1_000_000_000 - balance,
        unsettled_msat=0,
        local_reserve_msat=10_000_000,
        remote_reserve_msat=10_000_000,
        commit_fee_msat=2_000_000,
        anchors_msat=660_000,
        initiator=False,
        active=True,
        private=False,
        pending_htlcs=0,
        max_accepted_htlcs=483,
    )


# ---- Liquidity


@given(
    amounts=st.lists(st.integers(1, CAPACITY), min_size=2, max_size=6),
    seen=st.lists(
        st.tuples(st.booleans(), st.sampled_from("psf"), st.integers(1, CAPACITY)), max_size=8
    ),
    hint=st.none() | st.tuples(st.integers(1, CAPACITY), st.floats(0.0, 1.0)),
    age=st.floats(0.0, 1_000.0),
)
def test_chances_stay_chances_and_fall_with_the_amount(
    amounts: list[int],
    seen: list[tuple[bool, str, int]],
    hint: tuple[int, float] | None,
    age: float,
) -> None:
    liquidity = Liquidity(HALF_LIFE)
    own = _edge(OWN, TOP, 9)
    for forwards, what, amount in seen:
        edge = _edge(TOP, LOW) if forwards else _edge(LOW, TOP)
        if what == "s":
            liquidity.settled([(edge, amount)], NOW)
        else:
            index = 1 if what == "f" else 2
            failure = AttemptFailure(FailureCode.TEMPORARY_CHANNEL_FAILURE, index)
            liquidity.failed([(own, amount), (edge, amount)], failure, NOW)
    if hint is not None:
        liquidity.add_hint(HintRecord(1, TOP, *hint, issued_at=NOW, expires_at=NOW + 500.0))
    for edge in (_edge(TOP, LOW), _edge(LOW, TOP)):
        low, high = liquidity.bounds(edge, NOW + age)
        assert 0 <= low <= high <= CAPACITY
        chances = [
            liquidity.estimate(edge, amount, NOW + age).probability for amount in sorted(amounts)
        ]
        assert all(LEAST_CHANCE <= chance <= 1.0 for chance in chances)
        assert chances == sorted(chances, reverse=True)


def test_what_an_attempt_taught_is_forgotten_by_half_in_each_half_life() -> None:
    liquidity = Liquidity(HALF_LIFE)
    edge = _edge(TOP, LOW)
    failure = AttemptFailure(FailureCode.TEMPORARY_CHANNEL_FAILURE, 1)
    liquidity.failed([(_edge(OWN, TOP, 9), 400_001), (edge, 400_001)], failure, NOW)
    assert liquidity.bounds(edge, NOW) == (0, 400_000)
    assert liquidity.bounds(edge, NOW + HALF_LIFE) == (0, 700_000)
    # The other side has the rest, but for what this side may keep as a reserve.
    low, high = liquidity.bounds(_edge(LOW, TOP), NOW)
    assert (low, high) == (600_000, CAPACITY)


@pytest.mark.parametrize(("source", "target"), [(TOP, LOW), (LOW, TOP)])
def test_what_an_edge_lacked_is_not_tried_again_whatever_its_end_keeps_in_reserve(
    source: NodeKey, target: NodeKey
) -> None:
    liquidity = Liquidity(HALF_LIFE)
    edge = _edge(source, target)
    failure = AttemptFailure(FailureCode.TEMPORARY_CHANNEL_FAILURE, 1)
    liquidity.failed([(_edge(OWN, source, 9), 400_000), (edge, 400_000)], failure, NOW)
    assert liquidity.estimate(edge, 400_000, NOW).probability == LEAST_CHANCE
    assert liquidity.estimate(edge, 200_000, NOW).probability > 0.4
    assert liquidity.estimate(edge, 400_000, NOW + HALF_LIFE).probability > 0.2
    # What comes back over the channel can leave again.
    liquidity.settled([(_edge(target, source), 100_000)], NOW)
    assert liquidity.estimate(edge, 450_000, NOW).probability > 0.05
    assert liquidity.estimate(edge, 500_000, NOW).probability == LEAST_CHANCE


def test_money_that_passed_is_on_the_other_side_now() -> None:
    liquidity = Liquidity(HALF_LIFE)
    liquidity.settled([(_edge(TOP, LOW), 300_000)], NOW)
    assert liquidity.bounds(_edge(TOP, LOW), NOW) == (0, 700_000)
    assert liquidity.bounds(_edge(LOW, TOP), NOW) == (300_000, CAPACITY)


def test_a_hint_bounds_chances_until_it_expires_or_something_newer_is_seen() -> None:
    liquidity = Liquidity(HALF_LIFE)
    edge = _edge(TOP, LOW)
    before = liquidity.estimate(edge, 500_000, NOW)
    assert (before.age_seconds, before.hinted) == (None, False)
    liquidity.add_hint(HintRecord(1, TOP, 500_000, 0.0, NOW, NOW + 60.0))
    hinted = liquidity.estimate(edge, 500_000, NOW + 1.0)
    assert hinted.hinted
    assert hinted.probability == LEAST_CHANCE
    assert liquidity.estimate(edge, 500_000, NOW + 60.0) == before
    liquidity.settled([(edge, 500_000)], NOW + 2.0)
    assert not liquidity.has_hint(edge, NOW + 2.0)


def test_an_edge_with_a_stale_policy_is_left_alone_until_gossip_changes_it() -> None:
    liquidity = Liquidity(HALF_LIFE)
    edge = _edge(TOP, LOW, fee_rate_ppm=5)
    failure = AttemptFailure(FailureCode.FEE_INSUFFICIENT, 1)
    liquidity.failed([(_edge(OWN, TOP, 9), 1), (edge, 1)], failure, NOW)
    assert liquidity.refused(edge, NOW + 1.0)
    assert not liquidity.refused(_edge(LOW, TOP), NOW + 1.0)
    assert not liquidity.refused(_edge(TOP, LOW, fee_rate_ppm=6), NOW + 1.0)


def test_a_node_that_failed_is_left_alone_for_a_while() -> None:
    liquidity = Liquidity(HALF_LIFE)
    failure = AttemptFailure(FailureCode.TEMPORARY_NODE_FAILURE, 1)
    liquidity.failed([(_edge(OWN, TOP, 9), 1), (_edge(TOP, LOW), 1)], failure, NOW)
    assert liquidity.refused(_edge(TOP, END, 5), NOW + 1.0)
    assert not liquidity.refused(_edge(LOW, END, 6), NOW + 1.0)
    assert not liquidity.refused(_edge(TOP, END, 5), NOW + 61.0)


def test_beliefs_survive_being_stored() -> None:
    liquidity = Liquidity(HALF_LIFE)
    liquidity.settled([(_edge(TOP, LOW), 300_000)], NOW)
    liquidity.add_hint(HintRecord(2, TOP, 5, 0.3, NOW, NOW + 60.0))
    changes = liquidity.take_changes()
    assert liquidity.take_changes() == ([], [])
    again = Liquidity(HALF_LIFE)
    again.load(*changes)
    for scid in (1, 2):
        edge = _edge(TOP, LOW, scid)
        assert again.estimate(edge, 5, NOW + 9.0) == liquidity.estimate(edge, 5, NOW + 9.0)


# ---- Candidates


def _graph(**policies: ChannelPolicy) -> NetworkGraph:
    """OWN to END over TOP (channels 1, 2), over LOW (3, 4), and TOP - LOW (5)."""
    ends = {1: (OWN, TOP), 2: (TOP, END), 3: (OWN, LOW), 4: (LOW, END), 5: (TOP, LOW)}
    channels = {
        scid: Channel(
            scid,
            f"{scid}:0",
            node1,
            node2,
            1_000_000_000,
            policies.get(f"from1_{scid}", ChannelPolicy()),
            policies.get(f"from2_{scid}", ChannelPolicy()),
        )
        for scid, (node1, node2) in ends.items()
    }
    return NetworkGraph({}, channels)


def _finder(graph: NetworkGraph, *, balance: Msat = 900_000_000) -> RouteFinder:
    finder = RouteFinder(OWN, Liquidity(HALF_LIFE))
    finder.load(graph)
    finder.set_local({1: _local(1, TOP, balance), 3: _local(3, LOW, balance)})
    return finder


def _find(
    finder: RouteFinder, amount: Msat, max_fee: Msat = 10_000_000, **more: object
) -> list[Route]:
    query = PathQuery(END, amount, max_fee, 80)
    found = finder.find(query, count=5, height=100, now=NOW, **more)  # type: ignore[arg-type]
    return [one.route for one in found]


def test_all_ways_are_found_and_the_best_comes_first() -> None:
    dear = ChannelPolicy(fee_rate_ppm=5_000)
    routes = _find(_finder(_graph(from1_2=dear)), 10_000_000)
    assert {route.scids for route in routes} == {(1, 2), (3, 4), (1, 5, 4), (3, 5, 2)}
    assert routes[0].scids == (3, 4)


@given(
    amount=st.integers(1_000, 800_000_000),
    base=st.integers(0, 5_000),
    ppm=st.integers(0, 10_000),
    inbound=st.integers(-10_000, 0),
)
def test_every_hop_gets_exactly_what_it_asks_for(
    amount: int, base: int, ppm: int, inbound: int
) -> None:
    outgoing = ChannelPolicy(base_fee_msat=base, fee_rate_ppm=ppm, time_lock_delta=40)
    incoming = ChannelPolicy(inbound_fee_rate_ppm=inbound)
    finder = _finder(_graph(from1_2=outgoing, from2_1=incoming))
    for route in _find(finder, amount, max_fee=amount + 1_000_000):
        assert route.amount_msat == amount
        carried = route.total_amount_msat
        expiry = route.total_time_lock
        for hop in route.hops:
            assert hop.amount_msat + hop.fee_msat == carried
            carried, expiry = hop.amount_msat, min(expiry, hop.expiry)
        assert carried == amount
        assert route.hops[-1].expiry == 100 + 80 + 3
        if route.scids == (1, 2):
            outbound = base + amount * ppm // 1_000_000
            discount = math.floor((amount + outbound) * -inbound / 1_000_000)
            assert route.fee_msat == max(0, outbound - discount)
            assert route.total_time_lock == route.hops[-1].expiry + 40


@pytest.mark.parametrize(
    "policy",
    [
        ChannelPolicy(disabled=True),
        ChannelPolicy(max_htlc_msat=9_999_999),
        ChannelPolicy(min_htlc_msat=10_000_001),
        ChannelPolicy(base_fee_msat=6_000_000),
        ChannelPolicy(time_lock_delta=2_016),
    ],
)
def test_what_breaks_a_limit_is_no_candidate(policy: ChannelPolicy) -> None:
    routes = _find(_finder(_graph(from1_2=policy)), 10_000_000, max_fee=5_000_000)
    assert routes
    assert all(2 not in route.scids for route in routes)


def test_the_own_balance_keeps_its_reserve() -> None:
    finder = _finder(_graph(), balance=110_000_000)
    assert _find(finder, 99_000_000)
    assert _find(finder, 100_000_001) == []
    assert sendable_msat(_local(1, TOP, 110_000_000)) == 100_000_000


def test_tried_routes_and_avoided_channels_are_left_out() -> None:
    finder = _finder(_graph())
    left = _find(finder, 10_000_000, tried={(1, 2), (3, 4)})
    assert {route.scids for route in left} == {(1, 5, 4), (3, 5, 2)}
    left = _find(finder, 10_000_000, avoided={1})
    assert left
    assert all(route.scids[0] == 3 for route in left)


def test_a_pass_leads_where_nothing_got_through_before() -> None:
    finder = _finder(_graph())
    amount = 100_000_000
    free = _find(finder, amount)
    best = free[0].scids
    assert len(best) == 2
    last = finder.edge(best[1], free[0].hops[0].target)
    assert last is not None
    failure = AttemptFailure(FailureCode.TEMPORARY_CHANNEL_FAILURE, 1)
    own = finder.edge(best[0], OWN)
    assert own is not None
    finder.liquidity.failed([(own, amount), (last, amount)], failure, NOW)
    assert best not in [one.scids for one in _find(finder, amount)]

    def admitted(edge: Edge, carried: Msat) -> float:
        assert carried >= amount
        return 0.95 if edge.scid == last.scid else 0.0

    query = PathQuery(END, amount, 10_000_000, 80)
    found = finder.find(query, count=5, height=100, now=NOW, admitted=admitted)
    assert found[0].route.scids == best
    assert [one.probability for one in found[0].estimates] == [1.0, 0.95]


def test_a_closed_channel_is_forgotten_and_a_new_one_found() -> None:
    finder = _finder(_graph())
    finder.remove_channel(2, (TOP, END))
    assert all(2 not in route.scids for route in _find(finder, 10_000_000))
    for source, target in ((TOP, END), (END, TOP)):
        finder.set_edge(Edge(6, source, target, 1_000_000_000, ChannelPolicy()))
    assert (1, 6) in {route.scids for route in _find(finder, 10_000_000)}
