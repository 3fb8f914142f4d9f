from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.model.graph import ChannelPolicy, forwarding_fee
from lnagents.model.payment import FailureCode
from lnagents.twin.commitment import Liquidity, add_htlc, bandwidth, can_add, make_liquidity
from lnagents.twin.forwarding import (
    ACCEPTED,
    ForwardRequest,
    check_forward,
    check_receive,
    check_send,
    inbound_fee,
    outbound_fee,
)
from lnagents.twin.network import (
    BASE_FEE,
    DISABLED,
    FEE_RATE,
    INBOUND_BASE_FEE,
    INBOUND_FEE_RATE,
    MAX_HTLC,
    MIN_HTLC,
    POLICY_COLUMNS,
    TIME_LOCK_DELTA,
    Int64Array,
    Network,
)
from lnagents.twin.settings import CommitmentSettings

HEIGHT = 150
AMOUNT = 10_000_000
"""msat that the tests send on."""
FEE = 1_000 + 500 * AMOUNT // 1_000_000


def line(
    middle: int = 1, settings: CommitmentSettings | None = None
) -> tuple[Liquidity, Int64Array]:
    """Node 0 to node 1, and `middle` channels from there to node 2; 100,000 sat on each side."""
    channels = 1 + middle
    network = Network(
        names=("sender", "forwarder", "receiver"),
        scids=np.arange(channels, dtype=np.int64),
        channel_nodes=np.array([(0, 1)] + [(1, 2)] * middle, dtype=np.int32),
        capacity=np.full(channels, 200_000_000, dtype=np.int64),
        opener=np.zeros(channels, dtype=np.int8),
        balance=np.full((channels, 2), 100_000_000, dtype=np.int64),
        policy=np.zeros((2 * channels, POLICY_COLUMNS), dtype=np.int64),
    )
    policy = network.policy
    policy[:, BASE_FEE] = 1_000
    policy[:, FEE_RATE] = 500
    policy[:, MIN_HTLC] = 1_000
    policy[:, MAX_HTLC] = 198_000_000
    policy[:, TIME_LOCK_DELTA] = 80
    return make_liquidity(network, settings or CommitmentSettings()), policy


def request(
    *,
    edge_in: int = 0,
    edge_out: int = 2,
    amount: int = AMOUNT,
    fee: int = FEE,
    expiry: int = HEIGHT + 100,
    delta: int = 80,
) -> ForwardRequest:
    return ForwardRequest(edge_in, edge_out, amount + fee, amount, expiry + delta, expiry)


def refusal(liquidity: Liquidity, policy: Int64Array, asked: ForwardRequest) -> int:
    code, edge, _ = check_forward(liquidity, policy, asked, HEIGHT, 0.0)
    assert edge == asked.edge_out
    return code


class TestForward:
    def test_what_fits_exactly_is_sent_on(self) -> None:
        liquidity, policy = line()
        assert check_forward(liquidity, policy, request(), HEIGHT, 0.5) == (ACCEPTED, 2, 1)

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"fee": FEE - 1}, FailureCode.FEE_INSUFFICIENT),
            ({"fee": -1}, FailureCode.FEE_INSUFFICIENT),
            ({"amount": 999}, FailureCode.AMOUNT_BELOW_MINIMUM),
            ({"expiry": HEIGHT + 3}, FailureCode.EXPIRY_TOO_SOON),
            ({"expiry": HEIGHT + 4}, ACCEPTED),
            ({"expiry": HEIGHT + 2016}, ACCEPTED),
            ({"expiry": HEIGHT + 2017}, FailureCode.EXPIRY_TOO_FAR),
            ({"delta": 79}, FailureCode.INCORRECT_CLTV_EXPIRY),
            ({"delta": -1}, FailureCode.INCORRECT_CLTV_EXPIRY),
            ({"delta": 2016}, ACCEPTED),
            ({"delta": 2017}, FailureCode.EXPIRY_TOO_FAR),
            ({"edge_out": 1}, FailureCode.TEMPORARY_CHANNEL_FAILURE),
        ],
    )
    def test_each_limit_is_where_lnd_has_it(self, changes: dict[str, int], code: int) -> None:
        assert refusal(*line(), request(**changes)) == code

    def test_the_largest_htlc_is_the_policys(self) -> None:
        liquidity, policy = line()
        policy[2, MAX_HTLC] = AMOUNT
        assert refusal(liquidity, policy, request()) == ACCEPTED
        larger = request(amount=AMOUNT + 1)
        assert refusal(liquidity, policy, larger) == FailureCode.TEMPORARY_CHANNEL_FAILURE
        # None is announced: no limit but the balance.
        policy[2, MAX_HTLC] = 0
        assert refusal(liquidity, policy, larger) == ACCEPTED

    def test_the_balance_is_asked_to_the_msat(self) -> None:
        liquidity, policy = line()
        most = bandwidth(liquidity, 2)
        assert refusal(liquidity, policy, request(amount=most, fee=10**6)) == ACCEPTED
        asked = request(amount=most + 1, fee=10**6)
        assert refusal(liquidity, policy, asked) == FailureCode.TEMPORARY_CHANNEL_FAILURE

    def test_full_slots_are_a_temporary_failure(self) -> None:
        liquidity, policy = line()
        for _ in range(483):
            add_htlc(liquidity, 2, 1_000)
        assert refusal(liquidity, policy, request()) == FailureCode.TEMPORARY_CHANNEL_FAILURE

    def test_a_flag_that_only_gossip_carries_stops_nothing(self) -> None:
        liquidity, policy = line()
        policy[:, DISABLED] = 1
        assert refusal(liquidity, policy, request()) == ACCEPTED

    def test_checks_come_in_lnds_order(self) -> None:
        liquidity, policy = line()
        ordered = [
            ({"fee": 0}, FailureCode.FEE_INSUFFICIENT),
            ({"amount": 1}, FailureCode.AMOUNT_BELOW_MINIMUM),
            ({"expiry": HEIGHT}, FailureCode.EXPIRY_TOO_SOON),
            ({"delta": 0}, FailureCode.INCORRECT_CLTV_EXPIRY),
        ]
        for first in range(len(ordered)):
            changes: dict[str, int] = {}
            for change, _ in ordered[first:]:
                changes |= change
            assert refusal(liquidity, policy, request(**changes)) == ordered[first][1]
        # A balance that is too small comes before the time lock's delta.
        asked = request(amount=150_000_000, fee=10**6, delta=0)
        assert refusal(liquidity, policy, asked) == FailureCode.TEMPORARY_CHANNEL_FAILURE


class TestInboundFees:
    def test_a_discount_is_the_forwarders_own_on_the_channel_it_came_by(self) -> None:
        liquidity, policy = line()
        policy[0, INBOUND_BASE_FEE] = -10_000
        assert refusal(liquidity, policy, request(fee=FEE - 1)) == FailureCode.FEE_INSUFFICIENT
        policy[1, INBOUND_BASE_FEE] = -1_000
        assert refusal(liquidity, policy, request(fee=FEE - 1_000)) == ACCEPTED
        asked = request(fee=FEE - 1_001)
        assert refusal(liquidity, policy, asked) == FailureCode.FEE_INSUFFICIENT

    def test_nobody_forwards_at_a_loss(self) -> None:
        liquidity, policy = line()
        policy[1, INBOUND_BASE_FEE] = -1_000_000
        assert refusal(liquidity, policy, request(fee=0)) == ACCEPTED
        assert refusal(liquidity, policy, request(fee=-1)) == FailureCode.FEE_INSUFFICIENT

    @given(
        amount=st.integers(1, 10**11),
        base=st.integers(0, 10**6),
        rate=st.integers(0, 10**6),
        inbound_base=st.integers(-(10**6), 10**6),
        inbound_rate=st.integers(-11_000_000, 11_000_000),
    )
    def test_fees_are_those_of_the_model(
        self, amount: int, base: int, rate: int, inbound_base: int, inbound_rate: int
    ) -> None:
        policy = np.zeros((1, POLICY_COLUMNS), dtype=np.int64)
        policy[0, [BASE_FEE, FEE_RATE]] = base, rate
        policy[0, [INBOUND_BASE_FEE, INBOUND_FEE_RATE]] = inbound_base, inbound_rate
        announced = ChannelPolicy(
            base_fee_msat=base,
            fee_rate_ppm=rate,
            inbound_base_fee_msat=inbound_base,
            inbound_fee_rate_ppm=inbound_rate,
        )
        outbound = outbound_fee(policy, 0, amount)
        inbound = inbound_fee(policy, 0, amount + outbound)
        assert outbound == announced.outbound_fee(amount)
        assert inbound == announced.inbound_fee(amount + outbound)
        assert max(0, outbound + inbound) == forwarding_fee(amount, announced, announced)


class TestParallelChannels:
    def test_each_channel_that_can_is_chosen_as_often(self) -> None:
        liquidity, policy = line(middle=4)
        policy[4, MAX_HTLC] = AMOUNT - 1
        counted = Counter[int]()
        for draw in np.arange(0.0, 1.0, 1 / 30):
            code, edge, choices = check_forward(liquidity, policy, request(), HEIGHT, draw)
            assert (code, choices) == (ACCEPTED, 3)
            counted[edge] += 1
        assert counted == {2: 10, 6: 10, 8: 10}

    def test_another_channel_carries_what_the_named_one_cannot(self) -> None:
        liquidity, policy = line(middle=2)
        policy[2, MAX_HTLC] = AMOUNT - 1
        assert check_forward(liquidity, policy, request(), HEIGHT, 0.9) == (ACCEPTED, 4, 1)

    def test_the_refusal_is_that_of_the_named_channel(self) -> None:
        liquidity, policy = line(middle=2)
        policy[2, MAX_HTLC] = AMOUNT - 1
        policy[4, MIN_HTLC] = AMOUNT + 1
        expected = {2: FailureCode.TEMPORARY_CHANNEL_FAILURE, 4: FailureCode.AMOUNT_BELOW_MINIMUM}
        for edge, code in expected.items():
            assert refusal(liquidity, policy, request(edge_out=edge)) == code


@given(
    amount=st.one_of(st.integers(1, 120_000_000), st.integers(900, 1_100)),
    fee=st.integers(-2_000, 80_000),
    expiry=st.integers(HEIGHT - 5, HEIGHT + 2_020),
    delta=st.integers(-5, 200),
    rates=st.tuples(st.integers(0, 2_000), st.integers(-2_000, 0)),
    most=st.integers(0, 120_000_000),
    in_flight=st.lists(st.integers(1, 20_000_000), max_size=8),
    draw=st.floats(0.0, 1.0, exclude_max=True),
)
def test_accepted_is_what_no_rule_forbids(
    amount: int,
    fee: int,
    expiry: int,
    delta: int,
    rates: tuple[int, int],
    most: int,
    in_flight: list[int],
    draw: float,
) -> None:
    liquidity, policy = line()
    policy[2, FEE_RATE], policy[1, INBOUND_FEE_RATE] = rates
    policy[2, MAX_HTLC] = most
    for step, other in enumerate(in_flight):
        if can_add(liquidity, 2 + step % 2, other):
            add_htlc(liquidity, 2 + step % 2, other)
    asked = request(amount=amount, fee=fee, expiry=expiry, delta=delta)
    leaving = ChannelPolicy(base_fee_msat=1_000, fee_rate_ppm=rates[0])
    entered = ChannelPolicy(inbound_fee_rate_ppm=rates[1])
    allowed = (
        fee >= forwarding_fee(amount, leaving, entered)
        and amount >= 1_000
        and (most == 0 or amount <= most)
        and HEIGHT + 3 < expiry <= HEIGHT + 2_016
        and amount <= bandwidth(liquidity, 2)
        and can_add(liquidity, 2, amount)
        and 80 <= delta <= 2_016
    )
    code, edge, choices = check_forward(liquidity, policy, asked, HEIGHT, draw)
    assert (code == ACCEPTED) == allowed
    assert edge == 2
    assert choices >= allowed


class TestSend:
    def check(self, amount: int, expiry: int = HEIGHT + 100, edge: int = 0) -> int:
        liquidity, policy = line()
        return check_send(liquidity, policy, edge, amount, expiry, HEIGHT)

    def test_own_payments_pay_no_fee_but_keep_the_limits(self) -> None:
        most = bandwidth(line()[0], 0)
        assert self.check(most) == ACCEPTED
        assert self.check(most + 1) == FailureCode.TEMPORARY_CHANNEL_FAILURE
        assert self.check(999) == FailureCode.AMOUNT_BELOW_MINIMUM
        assert self.check(AMOUNT, HEIGHT + 3) == FailureCode.EXPIRY_TOO_SOON
        assert self.check(AMOUNT, HEIGHT + 2017) == FailureCode.EXPIRY_TOO_FAR

    def test_too_much_dust_ends_the_payment(self) -> None:
        liquidity, policy = line(settings=CommitmentSettings(max_fee_exposure_sat=10_000))
        add_htlc(liquidity, 2, 3_000_000)
        add_htlc(liquidity, 3, 3_000_000)
        code = check_send(liquidity, policy, 2, 4_000_001, HEIGHT + 100, HEIGHT)
        assert code == FailureCode.INTERNAL_FAILURE
        # The dust alone is within the limit; the link counts the commitment's fee, too.
        code = check_send(liquidity, policy, 2, 4_000_000, HEIGHT + 100, HEIGHT)
        assert code == FailureCode.TEMPORARY_CHANNEL_FAILURE

    def test_a_forwarder_counts_the_dust_on_the_way_in_as_well(self) -> None:
        liquidity, policy = line(settings=CommitmentSettings(max_fee_exposure_sat=10_000))
        asked = request(amount=4_000_000)
        add_htlc(liquidity, 0, asked.amount_in)
        assert refusal(liquidity, policy, asked) == ACCEPTED
        add_htlc(liquidity, 0, 3_000_000)
        add_htlc(liquidity, 0, 3_000_000)
        assert refusal(liquidity, policy, asked) == FailureCode.TEMPORARY_CHANNEL_FAILURE


class TestReceive:
    @pytest.mark.parametrize(
        ("changes", "accepted"),
        [
            ({}, True),
            ({"amount": 0}, False),
            ({"set_total": AMOUNT - 1}, False),
            ({"amount": 1}, True),
            ({"invoice_amount": 0, "set_total": 1}, True),
            ({"invoice_amount": 0, "set_total": 0}, False),
            ({"expiry": HEIGHT + 80}, True),
            ({"expiry": HEIGHT + 79}, False),
            ({"expiry": HEIGHT + 19, "final_cltv_delta": 10}, True),
            ({"expiry": HEIGHT + 18, "final_cltv_delta": 10}, False),
        ],
    )
    def test_what_does_not_match_the_invoice_is_refused(
        self, changes: dict[str, int], accepted: bool
    ) -> None:
        usual = {
            "amount": AMOUNT,
            "set_total": AMOUNT,
            "invoice_amount": AMOUNT,
            "expiry": HEIGHT + 83,
            "final_cltv_delta": 80,
            "height": HEIGHT,
        }
        arguments = usual | changes
        code = check_receive(*(arguments[name] for name in usual))
        refused = FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS
        assert code == (ACCEPTED if accepted else refused)
