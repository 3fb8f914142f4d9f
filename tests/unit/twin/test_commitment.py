from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.twin import commitment
from lnagents.twin.commitment import (
    Liquidity,
    add_htlc,
    bandwidth,
    can_add,
    dust_exceeded,
    fail_htlc,
    make_liquidity,
    overexposed,
    reported_balance,
    sendable,
    settle_htlc,
)
from lnagents.twin.network import POLICY_COLUMNS, Network
from lnagents.twin.settings import CommitmentSettings

STATIC = CommitmentSettings()
ANCHORS = CommitmentSettings(anchors=True, fee_per_kw=2_500)

DUST_OFFERED_SAT = 354 + 6_250 * 663 // 1_000
DUST_RECEIVED_SAT = 354 + 6_250 * 703 // 1_000


def network_of(
    *balances_sat: tuple[int, int],
    nodes: tuple[tuple[int, int], ...] | None = None,
    opener: tuple[int, ...] | None = None,
) -> Network:
    """Channels between nodes 0 and 1 unless said otherwise, opened by their first node."""
    count = len(balances_sat)
    ends = nodes or ((0, 1),) * count
    balance = np.array(balances_sat, dtype=np.int64).reshape(count, 2) * 1_000
    return Network(
        names=tuple(f"node-{index}" for index in range(1 + max(map(max, ends), default=0))),
        scids=np.arange(count, dtype=np.int64),
        channel_nodes=np.array(ends, dtype=np.int32).reshape(count, 2),
        capacity=balance.sum(axis=1),
        opener=np.array(opener or (0,) * count, dtype=np.int8),
        balance=balance,
        policy=np.zeros((2 * count, POLICY_COLUMNS), dtype=np.int64),
    )


def channel(
    own_sat: int, others_sat: int, settings: CommitmentSettings = STATIC, *, opener: int = 0
) -> Liquidity:
    return make_liquidity(network_of((own_sat, others_sat), opener=(opener,)), settings)


class TestEmptyChannel:
    """The figures are what LND 0.21.1 reported of such channels."""

    @pytest.mark.parametrize(
        ("settings", "own_sat", "others_sat", "reported", "sends"),
        [
            (STATIC, 500_000, 500_000, (495_475_000, 500_000_000), (476_650_000, 490_000_000)),
            (STATIC, 150_000, 150_000, (145_475_000, 150_000_000), (133_650_000, 147_000_000)),
            (STATIC, 30_000, 30_000, (25_475_000, 30_000_000), (16_050_000, 29_400_000)),
            (ANCHORS, 36_000, 24_000, (32_530_000, 24_000_000), (27_400_000, 23_400_000)),
        ],
    )
    def test_balances_and_bandwidth_are_lnds(
        self,
        settings: CommitmentSettings,
        own_sat: int,
        others_sat: int,
        reported: tuple[int, int],
        sends: tuple[int, int],
    ) -> None:
        liquidity = channel(own_sat, others_sat, settings)
        assert tuple(reported_balance(liquidity, edge) for edge in (0, 1)) == reported
        assert tuple(bandwidth(liquidity, edge) for edge in (0, 1)) == sends

    def test_the_side_that_opened_is_the_one_that_pays(self) -> None:
        liquidity = channel(150_000, 150_000, opener=1)
        assert reported_balance(liquidity, 0) == 150_000_000
        assert reported_balance(liquidity, 1) == 145_475_000
        assert bandwidth(liquidity, 0) == 147_000_000
        assert bandwidth(liquidity, 1) == 133_650_000

    def test_what_is_not_there_cannot_be_sent(self) -> None:
        liquidity = channel(10_000, 290_000)
        assert bandwidth(liquidity, 0) == 0
        assert not can_add(liquidity, 0, 1_000)
        assert sendable(liquidity, 0, 1_000) == 0

    def test_an_opener_that_cannot_pay_the_fee_reports_nothing(self) -> None:
        liquidity = channel(4_524, 295_476)
        assert reported_balance(liquidity, 0) == 0
        # Not even dust: the commitment as it stands cannot be paid for.
        assert not can_add(liquidity, 1, 1_000)

    def test_a_small_channel_keeps_the_dust_limit(self) -> None:
        liquidity = channel(10_000, 20_000)
        assert bandwidth(liquidity, 1) == 20_000_000 - 354_000


class TestLimits:
    def test_the_last_amount_is_exact(self) -> None:
        liquidity = channel(150_000, 150_000)
        for edge, most in ((0, 133_650_000), (1, 147_000_000)):
            assert can_add(liquidity, edge, most)
            assert not can_add(liquidity, edge, most + 1)

    def test_nothing_is_no_htlc(self) -> None:
        assert not can_add(channel(150_000, 150_000), 0, 0)
        liquidity = channel(150_000, 150_000, replace(STATIC, min_htlc_msat=5))
        assert not can_add(liquidity, 0, 4)
        assert can_add(liquidity, 0, 5)

    def test_slots_count_per_direction(self) -> None:
        liquidity = channel(150_000, 150_000, replace(STATIC, max_accepted_htlcs=2))
        add_htlc(liquidity, 0, 1_000)
        assert can_add(liquidity, 0, 1_000)
        add_htlc(liquidity, 0, 1_000)
        assert not can_add(liquidity, 0, 1_000)
        assert can_add(liquidity, 1, 1_000)
        # Bandwidth does not know of slots; the route search must ask for both.
        assert bandwidth(liquidity, 0) > 0
        assert sendable(liquidity, 0, 1_000) == 0
        settle_htlc(liquidity, 0, 1_000)
        assert sendable(liquidity, 0, 1_000) == bandwidth(liquidity, 0)

    def test_the_amount_in_flight_is_limited_per_direction(self) -> None:
        liquidity = channel(150_000, 150_000)
        liquidity.terms[0, commitment.MAX_IN_FLIGHT] = 10_000_000
        add_htlc(liquidity, 0, 6_000_000)
        assert can_add(liquidity, 0, 4_000_000)
        assert not can_add(liquidity, 0, 4_000_001)
        assert can_add(liquidity, 1, 10_000_000)


class TestOutputs:
    def test_an_output_costs_the_opener_and_dust_does_not(self) -> None:
        before = channel(150_000, 150_000)
        least = DUST_OFFERED_SAT * 1_000
        for amount, fee in ((least - 1, 0), (least, 1_075_000)):
            liquidity = channel(150_000, 150_000)
            add_htlc(liquidity, 0, amount)
            expected = reported_balance(before, 0) - amount - fee
            assert reported_balance(liquidity, 0) == expected
            assert reported_balance(liquidity, 1) == 150_000_000

    def test_the_two_commitments_differ_in_what_is_dust(self) -> None:
        # Between both limits: an output on the commitment of the one that offered it, only.
        amount = DUST_OFFERED_SAT * 1_000
        assert amount < DUST_RECEIVED_SAT * 1_000
        liquidity = channel(150_000, 150_000)
        add_htlc(liquidity, 1, amount)
        # The opener's own commitment has no output and no higher fee, the other one has.
        assert reported_balance(liquidity, 0) == 145_475_000
        assert bandwidth(liquidity, 0) == 133_650_000 - 2 * 6_250 * 172 // 1_000 * 1_000

    def test_an_opener_without_means_lets_only_dust_through(self) -> None:
        # 3,000 reserve; 4,525 of fee, and 1,075 for each output.
        liquidity = channel(3_000 + 4_525 + 1_074, 291_401)
        assert bandwidth(liquidity, 1) == DUST_OFFERED_SAT * 1_000 - 1
        assert can_add(liquidity, 1, DUST_OFFERED_SAT * 1_000 - 1)
        assert not can_add(liquidity, 1, DUST_OFFERED_SAT * 1_000)
        liquidity = channel(3_000 + 4_525 + 1_075, 291_400)
        assert bandwidth(liquidity, 1) == 291_400_000 - 3_000_000

    def test_what_fee_and_dust_come_to_is_limited(self) -> None:
        # Fee 4,525; each HTLC of 4,000 sat is dust on both commitments.
        liquidity = channel(150_000, 150_000, replace(STATIC, max_fee_exposure_sat=13_000))
        assert not overexposed(liquidity, 0, 4_000_999)
        add_htlc(liquidity, 0, 4_000_999)
        # LND counts the new one in whole satoshi, and those that are there to the msat.
        assert not overexposed(liquidity, 0, 4_474_000)
        assert overexposed(liquidity, 0, 4_475_000)
        assert not dust_exceeded(liquidity, 0, 4_475_000, False)
        add_htlc(liquidity, 0, 4_475_000)
        # Dust on the receiver's commitment alone, from either side.
        for edge in (0, 1):
            assert not dust_exceeded(liquidity, edge, 13_000_000 - 8_475_999, False)
            assert dust_exceeded(liquidity, edge, 13_000_001 - 8_475_999, False)
        assert not dust_exceeded(liquidity, 0, 4_475_000, True)
        # An output is no dust, but its fee counts.
        assert not dust_exceeded(liquidity, 0, 5_000_000, False)
        assert overexposed(liquidity, 0, 5_000_000)


class TestParallelChannels:
    def test_rings_join_edges_of_the_same_nodes_and_direction(self) -> None:
        network = network_of(
            *[(20_000, 20_000)] * 5, nodes=((0, 1), (1, 2), (2, 1), (1, 2), (0, 2))
        )
        ring = make_liquidity(network, STATIC).parallel
        assert [ring[edge] for edge in (0, 1, 8, 9)] == [0, 1, 8, 9]
        assert {int(ring[2]), int(ring[5]), int(ring[6])} == {2, 5, 6}
        assert ring[ring[ring[2]]] == 2
        assert ring[2] != 2
        assert ring[ring[ring[3]]] == 3
        source, target = network.edge_source(), network.edge_target()
        assert np.array_equal(source[ring], source)
        assert np.array_equal(target[ring], target)

    def test_a_network_may_be_empty(self) -> None:
        assert len(make_liquidity(network_of(), STATIC).parallel) == 0


@pytest.mark.parametrize(
    "field", ["fee_per_kw", "dust_limit_sat", "reserve_divisor", "max_accepted_htlcs"]
)
def test_settings_that_make_no_channel_are_refused(field: str) -> None:
    values: dict[str, Any] = {field: -1}
    with pytest.raises(ValueError, match=f"^{field}: -1 "):
        CommitmentSettings(**values)


@dataclass
class Commitments:
    """Both commitment transactions of one channel, written out HTLC by HTLC (BOLT 2 and 3)."""

    settings: CommitmentSettings
    capacity: int
    opener: int
    balance: list[int]
    """msat of each side that is not in flight."""
    htlcs: list[tuple[int, int]]
    """(who offered it, msat)."""

    def fee(self, owner: int, htlcs: list[tuple[int, int]], *, rate: int, spare: int = 0) -> int:
        outputs = spare
        for side, amount in htlcs:
            weight = 0 if self.settings.anchors else (663 if side == owner else 703)
            fee_sat = self.settings.fee_per_kw * weight // 1_000
            outputs += amount // 1_000 - fee_sat >= self.settings.dust_limit_sat
        weight = (1_124 if self.settings.anchors else 724) + 172 * outputs
        return rate * weight // 1_000 * 1_000

    def accepts(self, side: int, amount: int) -> bool:
        settings = self.settings
        added = [*self.htlcs, (side, amount)]
        offered = [each for who, each in added if who == side]
        share = self.capacity // 1_000 // settings.reserve_divisor
        if (
            amount < settings.min_htlc_msat
            or len(offered) > settings.max_accepted_htlcs
            or sum(offered) > self.capacity - share * 1_000
        ):
            return False
        reserve = max(share, settings.dust_limit_sat) * 1_000
        rate = settings.fee_per_kw
        for owner in (0, 1):
            left = list(self.balance)
            left[side] -= amount
            if settings.anchors:
                left[self.opener] -= 660_000
            before = self.balance[1 - side] - (660_000 if settings.anchors else 0)
            before -= self.fee(owner, self.htlcs, rate=rate)
            if self.opener == side:
                fee = self.fee(owner, added, rate=2 * rate, spare=1)
            else:
                fee = self.fee(owner, added, rate=rate)
            if fee >= left[self.opener]:
                return False
            left[self.opener] -= fee
            if left[side] < reserve:
                return False
            if self.opener != side and left[1 - side] < before and left[1 - side] < reserve:
                return False
        return True


amounts = st.one_of(
    st.integers(0, 120_000_000),
    st.sampled_from([353_999, 354_000, 354_001]),
    st.integers(-2, 2).map(lambda step: DUST_OFFERED_SAT * 1_000 + step),
    st.integers(-2, 2).map(lambda step: DUST_RECEIVED_SAT * 1_000 + step),
)
operations = st.lists(
    st.tuples(st.integers(0, 1), amounts, st.booleans(), st.integers(0, 30)), max_size=40
)
settings_of_channels = st.sampled_from(
    [
        STATIC,
        ANCHORS,
        replace(STATIC, fee_per_kw=253),
        replace(STATIC, max_accepted_htlcs=5),
        replace(ANCHORS, reserve_divisor=20),
    ]
)


@given(
    settings=settings_of_channels,
    opener=st.integers(0, 1),
    own_sat=st.integers(0, 120_000),
    steps=operations,
)
def test_capacity_is_conserved_and_limits_are_those_of_the_commitments(
    settings: CommitmentSettings,
    opener: int,
    own_sat: int,
    steps: list[tuple[int, int, bool, int]],
) -> None:
    capacity_sat = 120_000
    liquidity = channel(own_sat, capacity_sat - own_sat, settings, opener=opener)
    start = liquidity.balance.copy()
    model = Commitments(
        settings=settings,
        capacity=capacity_sat * 1_000,
        opener=opener,
        balance=[int(amount) for amount in liquidity.balance[0]],
        htlcs=[],
    )
    for side, amount, settles, which in steps:
        allowed = can_add(liquidity, side, amount)
        assert allowed == model.accepts(side, amount)
        if allowed:
            add_htlc(liquidity, side, amount)
            model.balance[side] -= amount
            model.htlcs.append((side, amount))
        if model.htlcs and which < 20:
            offered_by, resolved = model.htlcs.pop(which % len(model.htlcs))
            if settles:
                settle_htlc(liquidity, offered_by, resolved)
                model.balance[1 - offered_by] += resolved
            else:
                fail_htlc(liquidity, offered_by, resolved)
                model.balance[offered_by] += resolved
        in_flight = liquidity.pending[:, commitment.AMOUNT]
        assert liquidity.balance.sum() + in_flight.sum() == capacity_sat * 1_000
        assert list(liquidity.balance[0]) == model.balance
        assert liquidity.pending[:, commitment.COUNT].sum() == len(model.htlcs)
        assert min(model.balance) >= 0
        for edge in (0, 1):
            check_reports(liquidity, model, edge)
    while model.htlcs:
        fail_htlc(liquidity, *model.htlcs.pop())
    assert not liquidity.pending.any()
    if not any(settles for _, _, settles, _ in steps):
        assert np.array_equal(liquidity.balance, start)


def check_reports(liquidity: Liquidity, model: Commitments, side: int) -> None:
    """What a side sees agrees with what it can do."""
    cost = model.fee(side, model.htlcs, rate=model.settings.fee_per_kw)
    own = model.balance[side] - (660_000 if model.settings.anchors else 0)
    expected = max(0, own - cost) if model.opener == side else model.balance[side]
    if expected >= 1_000:
        assert reported_balance(liquidity, side) == expected
    most = bandwidth(liquidity, side)
    assert 0 <= most <= model.balance[side]
    if most and sendable(liquidity, side, most):
        assert model.accepts(side, most)
    # The opener keeps room for an output, so a little more of what is none may go.
    least = 0 if model.opener != side else int(liquidity.terms[0, commitment.NO_DUST_RECEIVED])
    assert not (most and model.accepts(side, max(most + 1, least)))
