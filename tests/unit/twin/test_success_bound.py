from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.csgraph import maximum_flow

from lnagents.model.workload import AmountSpec
from lnagents.twin.demand import draw_traffic
from lnagents.twin.generate import mainnet_like
from lnagents.twin.network import Network
from lnagents.twin.settings import CommitmentSettings, LatencySettings, TwinSettings
from lnagents.twin.simulator import Twin
from lnagents.twin.success_bound import success_bound
from lnagents.twin.traffic import NO_LIMIT, Traffic

SAT = 1_000
FREE = CommitmentSettings(fee_per_kw=0, dust_limit_sat=0, reserve_divisor=10**9)
"""Channels that can be emptied."""


def network(nodes: int, *channels: tuple[int, int, int, int], opener: int = 0) -> Network:
    """Channels are (node, node, balance, balance) in satoshi."""
    table = np.array(channels, np.int64).reshape(-1, 4)
    count = len(table)
    return Network(
        names=tuple(f"n{index}" for index in range(nodes)),
        scids=np.arange(count, dtype=np.int64),
        channel_nodes=table[:, :2].astype(np.int32),
        capacity=table[:, 2:].sum(axis=1) * SAT,
        opener=np.full(count, opener, np.int8),
        balance=table[:, 2:] * SAT,
        policy=np.zeros((2 * count, 8), np.int64),
    )


def traffic(*payments: tuple[int, int, int], fee_limit: int = 0, max_parts: int = 1) -> Traffic:
    """Payments are (payer, receiver, satoshi), one a second."""
    table = np.array(payments, np.int64).reshape(-1, 3)
    return Traffic.of(
        at=np.arange(len(table), dtype=np.float64),
        source=table[:, 0].astype(np.int32),
        target=table[:, 1].astype(np.int32),
        amount=table[:, 2] * SAT,
        fee_limit=fee_limit,
        max_parts=max_parts,
    )


def volume_sat(*args: object, **kwargs: object) -> float:
    result = success_bound(*args, **kwargs)  # type: ignore[arg-type]
    return result.volume_msat / SAT


LINE = network(3, (0, 1, 500_000, 300_000), (1, 2, 200_000, 700_000))


@pytest.mark.parametrize(
    ("payments", "expected"),
    [
        ([(0, 1, 100_000)], 100_000),
        ([(0, 1, 300_000), (0, 1, 300_000)], 500_000),
        # What the middle can pass on limits it.
        ([(0, 2, 150_000), (0, 2, 150_000)], 200_000),
        # Money that comes back can be paid again.
        ([(0, 2, 150_000), (2, 0, 150_000), (0, 2, 150_000)], 450_000),
        # Who pays first does not matter when payments may wait.
        ([(0, 2, 200_000), (0, 2, 200_000), (2, 0, 200_000)], 600_000),
        ([(0, 2, 200_000)], 200_000),
    ],
)
def test_a_line_carries_what_its_balances_allow(
    payments: list[tuple[int, int, int]], expected: int
) -> None:
    assert volume_sat(LINE, traffic(*payments), FREE) == pytest.approx(expected, abs=2)


def test_windows_see_that_payments_do_not_wait() -> None:
    payments = traffic((0, 2, 200_000), (0, 2, 200_000), (2, 0, 200_000))
    assert volume_sat(LINE, payments, FREE) == pytest.approx(600_000, abs=2)
    assert volume_sat(LINE, payments, FREE, windows=3) == pytest.approx(600_000, abs=2)
    in_order = volume_sat(LINE, payments, FREE, windows=3, patience=0.0)
    assert in_order == pytest.approx(400_000, abs=2)
    # The second one may wait for the third, but not for long enough.
    patient = volume_sat(LINE, payments, FREE, windows=3, patience=1.5)
    assert patient == pytest.approx(600_000, abs=2)


def test_one_payment_of_many_parts_can_have_what_a_maximal_flow_carries() -> None:
    square = network(
        4, (0, 1, 40_000, 0), (0, 2, 30_000, 0), (1, 3, 10_000, 0), (2, 3, 50_000, 0),
        (1, 2, 15_000, 5_000),
    )  # fmt: skip
    assert volume_sat(square, traffic((0, 3, 100_000), max_parts=16), FREE) == (
        pytest.approx(10_000 + 30_000 + 15_000, abs=2)
    )


def test_a_payment_that_no_path_is_wide_enough_for_is_left_out() -> None:
    parallel = network(2, (0, 1, 60_000, 0), (0, 1, 60_000, 0))
    one = success_bound(parallel, traffic((0, 1, 100_000), (0, 1, 20_000)), FREE)
    assert one.offered_msat == 120_000 * SAT
    assert one.possible_msat == one.volume_msat == 20_000 * SAT
    assert one.share == pytest.approx(1 / 6)
    two = success_bound(parallel, traffic((0, 1, 100_000), max_parts=2), FREE)
    assert two.volume_msat == pytest.approx(100_000 * SAT)


def test_what_channels_must_keep_is_not_paid() -> None:
    usual = CommitmentSettings()
    reserve = 8_000
    fee = 724 * usual.fee_per_kw // 1_000
    single = network(2, (0, 1, 500_000, 300_000))
    opener = volume_sat(single, traffic((0, 1, 500_000)), usual)
    assert opener == pytest.approx(500_000 - reserve - fee, abs=2)
    other = volume_sat(single, traffic((1, 0, 300_000)), usual)
    assert other == pytest.approx(300_000 - reserve, abs=2)
    anchors = volume_sat(
        single, traffic((0, 1, 500_000)), CommitmentSettings(anchors=True, fee_per_kw=2_500)
    )
    assert anchors == pytest.approx(500_000 - reserve - 660 - 1_124 * 2_500 // 1_000, abs=2)
    below = network(2, (0, 1, 795_000, 5_000))
    assert success_bound(below, traffic((1, 0, 5_000)), usual).volume_msat <= SAT


def test_fees_may_move_money_within_their_limit() -> None:
    # Node 1 can pay 0 only what came in over that channel: the amount, and what it charged for it.
    chain = network(3, (0, 1, 100_000, 0), (1, 2, 90_000, 0))
    payments = traffic((0, 2, 80_000), (1, 0, 85_000))
    for limit_sat, expected in ((0, 160_000), (3_000, 163_000), (9_000, 165_000)):
        limited = replace(payments, fee_limit=np.array([limit_sat * SAT, 0]))
        assert volume_sat(chain, limited, FREE) == pytest.approx(expected, abs=2)
    unlimited = replace(payments, fee_limit=np.array([NO_LIMIT, 0]))
    assert volume_sat(chain, unlimited, FREE) == pytest.approx(165_000, abs=2)


def test_nothing_to_pay_or_nobody_to_reach() -> None:
    empty = success_bound(LINE, traffic(), FREE)
    assert (empty.volume_msat, empty.offered_msat, empty.share) == (0, 0, 1.0)
    apart = success_bound(network(3, (0, 1, 1_000, 0)), traffic((0, 2, 10)), FREE)
    assert (apart.volume_msat, apart.offered_msat) == (0, 10 * SAT)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="windows: 0 is not positive"):
        success_bound(LINE, traffic(), windows=0)
    for patience in (-1.0, math.nan):
        with pytest.raises(ValueError, match="patience"):
            success_bound(LINE, traffic(), patience=patience)


def paths(net: Network, source: int, target: int) -> Iterator[list[int]]:
    """All paths without a repeated node, as edges."""
    starts, leads = net.edge_source().tolist(), net.edge_target().tolist()

    def extend(path: list[int], seen: list[int]) -> Iterator[list[int]]:
        if seen[-1] == target:
            yield path
            return
        for edge, (start, lead) in enumerate(zip(starts, leads, strict=True)):
            if start == seen[-1] and lead not in seen:
                yield from extend([*path, edge], [*seen, lead])

    yield from extend([], [source])


def best_in_order(net: Network, payments: Traffic, fee_percent: int) -> int:
    """The most volume of single-part payments one after the other, by trying everything.

    Forwarding nodes take `fee_percent` of what they pass on.
    """
    choices = [
        list(paths(net, source, target))
        for source, target in zip(payments.source.tolist(), payments.target.tolist(), strict=True)
    ]

    def best(index: int, balance: list[int]) -> int:
        if index == len(payments):
            return 0
        most = best(index + 1, balance)
        for path in choices[index]:
            after, amount, possible = balance.copy(), int(payments.amount[index]), True
            for edge in reversed(path):
                after[edge] -= amount
                after[edge ^ 1] += amount
                possible = possible and after[edge] >= 0
                amount += amount * fee_percent // 100
            if possible:
                most = max(most, int(payments.amount[index]) + best(index + 1, after))
        return most

    return best(0, net.balance.reshape(-1).tolist())


@st.composite
def small_networks(draw: st.DrawFn) -> Network:
    nodes = draw(st.integers(2, 4))
    ends = st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1))
    pairs = draw(st.lists(ends.filter(lambda pair: pair[0] != pair[1]), min_size=1, max_size=5))
    sat = st.integers(0, 20)
    # Empty channels do not exist.
    return network(nodes, *((*pair, draw(sat) * 500 + 1, draw(sat) * 500) for pair in pairs))


@settings(max_examples=60, deadline=None)
@given(small_networks(), st.data(), st.sampled_from([0, 1, 10]))
def test_no_order_of_paths_beats_the_bound(net: Network, data: st.DataObject, fee: int) -> None:
    node = st.integers(0, net.nodes - 1)
    ends = st.tuples(node, node).filter(lambda pair: pair[0] != pair[1])
    drawn = data.draw(st.lists(st.tuples(ends, st.integers(1, 20)), min_size=1, max_size=4))
    payments = traffic(*((*pair, 500 * units) for pair, units in drawn))
    # At most two nodes forward.
    fees = [((100 + fee) ** 2 - 100**2) * int(amount) // 100**2 + 2 for amount in payments.amount]
    payments = replace(payments, fee_limit=np.array(fees))
    best = best_in_order(net, payments, fee)
    serial = [
        success_bound(net, payments, FREE, windows=windows, patience=0.0).volume_msat
        for windows in (1, 2, 4)
    ]
    patient = success_bound(net, payments, FREE, windows=len(payments)).volume_msat
    slack = 2 * SAT
    assert best <= serial[2] <= serial[1] + slack
    assert serial[1] <= serial[0] + slack
    assert best <= patient <= success_bound(net, payments, FREE).volume_msat + slack


@settings(max_examples=40, deadline=None)
@given(small_networks(), st.data())
def test_one_payment_in_tiny_parts_gets_the_maximal_flow(net: Network, data: st.DataObject) -> None:
    source, target = data.draw(st.permutations(range(net.nodes)))[:2]
    most = int(net.capacity.sum()) // SAT
    payment = traffic((source, target, most), max_parts=most)
    forth = net.balance.reshape(-1) // SAT
    ends = (net.edge_source(), net.edge_target())
    widths = sparse.csr_array((forth.astype(np.int32), ends), shape=(net.nodes, net.nodes))
    flow = maximum_flow(widths, source, target).flow_value
    assert volume_sat(net, payment, FREE) == pytest.approx(flow, abs=2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_parts", [1, 16])
def test_the_twin_never_beats_the_bound(seed: int, max_parts: int) -> None:
    net = mainnet_like(25, seed, disabled=False)
    amounts = AmountSpec(median_sat=300_000, sigma=2.0, max_sat=20_000_000)
    payments = draw_traffic(net, 400, seed, amount=amounts)
    payments = replace(payments, max_parts=np.full(400, max_parts, np.int32))
    # Nothing waits where nothing takes any time.
    settled = Twin(net, seed=seed).run(payments).settled
    volume = int(payments.amount[settled].sum())
    bound = success_bound(net, payments, windows=40, patience=0.0)
    assert 0 < volume <= bound.volume_msat
    slow = TwinSettings(latency=LatencySettings.testbed())
    held = replace(payments, hold=np.full(400, 3.0))
    settled = Twin(net, slow, seed=seed).run(held).settled
    volume = int(payments.amount[settled].sum())
    assert 0 < volume <= success_bound(net, payments, windows=10).volume_msat
