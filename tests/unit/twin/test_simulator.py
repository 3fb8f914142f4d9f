"""The twin from outside: payments in time, and money that neither appears nor vanishes."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnagents.model.payment import FailureCode
from lnagents.twin import (
    BatchedTwin,
    LatencySettings,
    Network,
    Outcomes,
    SenderSettings,
    Traffic,
    Twin,
    TwinSettings,
)
from lnagents.twin.commitment import COUNT
from lnagents.twin.network import BASE_FEE, MAX_HTLC
from lnagents.twin.state import FEES_EARNED, FORWARDED_IN, FORWARDED_OUT, FORWARDS, RECEIVED, SENT
from lnagents.twin.traffic import (
    ERROR,
    INCORRECT_PAYMENT_DETAILS,
    INSUFFICIENT_BALANCE,
    NO_ROUTE,
    SETTLED,
    TIMEOUT,
    UNRESOLVED,
)
from tests.unit.twin.networks import (
    CAPACITY,
    MSAT,
    line,
    network,
    pay,
    random_network,
    random_traffic,
)

SLOW = TwinSettings(latency=LatencySettings(forward=0.1, settle=0.1, fail=0.1))


def same(one: Outcomes, other: Outcomes) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(astuple(one), astuple(other), strict=True))


class TestOnePayment:
    def test_moves_money_and_pays_the_forwarder(self) -> None:
        twin = Twin(line(3))
        outcomes = twin.run(pay(0, 2, 100_000_000))
        fee = 1_000 + 100_000_000 * 100 // 1_000_000
        assert outcomes.reason.tolist() == [SETTLED]
        assert outcomes.fee.tolist() == [fee]
        half = CAPACITY // 2
        assert twin.balances().tolist() == [
            [half - 100_000_000 - fee, half + 100_000_000 + fee],
            [half - 100_000_000, half + 100_000_000],
        ]

    def test_is_counted_by_all_whom_it_passes(self) -> None:
        twin = Twin(line(3))
        fee = int(twin.run(pay(0, 2, 100_000_000)).fee[0])
        flows = twin.flows
        assert flows[0, SENT] == 100_000_000 + fee
        assert flows[1, FORWARDED_IN] == 100_000_000 + fee
        assert flows[2].tolist()[FORWARDED_OUT : FORWARDS + 1] == [100_000_000, fee, 1]
        assert flows[3, RECEIVED] == 100_000_000
        assert flows.sum() == 4 * 100_000_000 + 3 * fee + 1

    def test_without_balance(self) -> None:
        outcomes = Twin(line(3)).run(pay(0, 2, CAPACITY * 6 // 10))
        assert outcomes.reason.tolist() == [INSUFFICIENT_BALANCE]
        assert outcomes.attempts.tolist() == [0]

    def test_that_a_forwarder_cannot_carry(self) -> None:
        drawn = line(3)
        drawn.balance[1] = (CAPACITY // 10, CAPACITY * 9 // 10)
        twin = Twin(drawn)
        outcomes = twin.run(pay(0, 2, CAPACITY // 5), record=True)
        assert outcomes.reason.tolist() == [NO_ROUTE]
        assert outcomes.attempts.tolist() == outcomes.failed_attempts.tolist() == [1]
        assert twin.log.code.tolist() == [FailureCode.TEMPORARY_CHANNEL_FAILURE]
        assert twin.log.failed_at.tolist() == [1]
        assert twin.log.edge.tolist() == [0, 2]
        assert np.array_equal(twin.balances(), drawn.balance)

    def test_that_asks_for_too_little_time_at_the_end(self) -> None:
        asked = TwinSettings(sender=SenderSettings(final_cltv_delta=9))
        outcomes = Twin(line(2), asked).run(pay(0, 1, 1_000_000))
        assert outcomes.reason.tolist() == [INCORRECT_PAYMENT_DETAILS]

    def test_beyond_its_fee_limit(self) -> None:
        assert Twin(line(3)).run(pay(0, 2, 1_000_000, fee_limit=1_099)).reason[0] == NO_ROUTE
        assert Twin(line(3)).run(pay(0, 2, 1_000_000, fee_limit=1_100)).reason[0] == SETTLED

    def test_of_a_sender_that_is_off(self) -> None:
        twin = Twin(line(3))
        twin.set_nodes_down([0])
        assert twin.run(pay(0, 2, 1_000_000)).reason.tolist() == [ERROR]
        twin.set_nodes_down([])
        assert twin.run(pay(0, 2, 1_000_000)).reason.tolist() == [SETTLED]

    def test_to_a_receiver_that_is_off(self) -> None:
        twin = Twin(line(3))
        twin.set_nodes_down([2])
        assert twin.run(pay(0, 2, 1_000_000), record=True).reason.tolist() == [NO_ROUTE]
        assert twin.log.code.tolist() == [FailureCode.UNKNOWN_NEXT_PEER]
        assert twin.log.failed_at.tolist() == [1]

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"source": np.array([7], dtype=np.int32)}, "payment 0"),
            ({"amount": np.array([0])}, "payment 0"),
        ],
    )
    def test_that_cannot_be(self, changed: dict[str, object], message: str) -> None:
        columns = dict(zip(Traffic.__slots__, astuple(pay(0, 2, 1)), strict=True))
        with pytest.raises(ValueError, match=message):
            Twin(line(3)).run(Traffic(**(columns | changed)))


class TestTime:
    def test_each_hop_takes_its_time(self) -> None:
        timing = LatencySettings(forward=0.1, settle=0.02, fail=0.03)
        twin = Twin(line(4), TwinSettings(latency=timing))
        outcomes = twin.run(pay(0, 3, 1_000_000), record=True)
        assert outcomes.seconds[0] == pytest.approx(3 * 0.1 + 3 * 0.02)
        assert twin.now == outcomes.seconds[0]
        assert twin.log.resolved.tolist() == outcomes.seconds.tolist()

    def test_a_refusal_comes_back_from_where_it_was(self) -> None:
        drawn = line(4)
        drawn.balance[2] = (CAPACITY // 100, CAPACITY * 99 // 100)
        timing = LatencySettings(forward=0.1, settle=0.02, fail=0.03)
        outcomes = Twin(drawn, TwinSettings(latency=timing)).run(pay(0, 3, CAPACITY // 5))
        assert outcomes.seconds[0] == pytest.approx(2 * 0.1 + 2 * 0.03)

    def test_held_payments_lock_what_others_need(self) -> None:
        twin = Twin(line(3))
        amount = CAPACITY * 3 // 10
        both = Traffic.of(
            np.array([0.0, 1.0]),
            np.array([0, 0]),
            np.array([2, 2]),
            np.array([amount, amount]),
            hold=np.array([10.0, 0.0]),
        )
        outcomes = twin.run(both)
        assert outcomes.reason.tolist() == [SETTLED, INSUFFICIENT_BALANCE]
        assert outcomes.seconds.tolist() == [10.0, 0.0]
        # The same a second after the first has settled: the far side has it now.
        late = Traffic.of(np.array([11.0]), np.array([2]), np.array([0]), np.array([amount]))
        assert twin.run(late).reason.tolist() == [SETTLED]

    def test_what_is_in_flight_goes_on_in_the_next_run(self) -> None:
        twin = Twin(line(3))
        outcomes = twin.run(pay(0, 2, 100_000_000, hold=10.0), until=4.0)
        assert outcomes.reason.tolist() == [UNRESOLVED]
        assert twin.now == 4.0
        assert twin.in_flight().tolist() == [100_011_000, 0, 100_000_000, 0]
        twin.audit()
        assert twin.run(pay(2, 0, 1_000_000), until=4.0).reason.tolist() == [SETTLED]
        assert twin.in_flight()[2] == 100_000_000
        twin.advance(4.0)
        assert not twin.in_flight().any()
        assert twin.flows[3, RECEIVED] == 100_000_000

    def test_no_attempt_is_made_after_the_time_limit(self) -> None:
        drawn = network(4, [(0, 1), (1, 3), (0, 2), (2, 3)])
        drawn.balance[[1, 3]] = (CAPACITY // 100, CAPACITY * 99 // 100)
        timing = LatencySettings(forward=1.0, fail=1.0)
        twin = Twin(drawn, TwinSettings(latency=timing))
        limited = twin.run(pay(0, 3, CAPACITY // 5, timeout=1.5))
        assert limited.reason.tolist() == [TIMEOUT]
        assert limited.attempts.tolist() == [1]
        twin.reset_memory()
        assert twin.run(pay(0, 3, CAPACITY // 5, timeout=9.0)).attempts.tolist() == [2]

    def test_does_not_go_back(self) -> None:
        with pytest.raises(ValueError, match="back"):
            Twin(line(2)).advance(-1.0)


class TestParts:
    def two_ways(self) -> Network:
        return network(4, [(0, 1), (1, 3), (0, 2), (2, 3)])

    def test_a_payment_too_large_for_one_way_takes_both(self) -> None:
        amount = CAPACITY * 7 // 10
        whole = Twin(self.two_ways()).run(pay(0, 3, amount))
        assert whole.reason.tolist() == [NO_ROUTE]
        twin = Twin(self.two_ways())
        split = twin.run(pay(0, 3, amount, max_parts=4), record=True)
        assert split.reason.tolist() == [SETTLED]
        assert split.attempts.tolist() == [2]
        last = twin.log.first_hop[1:] - 1
        assert twin.log.amount[last].tolist() == [amount // 2, amount // 2]
        assert twin.flows[[3, 7], RECEIVED].sum() == amount

    def test_takes_the_same_ways_with_and_without_latency(self) -> None:
        amount = CAPACITY * 7 // 10
        quick, slow = Twin(self.two_ways()), Twin(self.two_ways(), SLOW)
        for twin in (quick, slow):
            twin.run(pay(0, 3, amount, max_parts=4), record=True)
        assert quick.log.edge.tolist() == slow.log.edge.tolist()
        assert np.array_equal(quick.balances(), slow.balances())

    def test_the_receiver_gives_an_incomplete_payment_back(self) -> None:
        drawn = self.two_ways()
        drawn.balance[3] = (CAPACITY // 100, CAPACITY * 99 // 100)
        twin = Twin(drawn)
        outcomes = twin.run(pay(0, 3, CAPACITY * 7 // 10, max_parts=2), record=True)
        assert outcomes.reason.tolist() == [NO_ROUTE]
        assert FailureCode.MPP_TIMEOUT in twin.log.code
        assert outcomes.seconds.tolist() == [120.0]
        assert np.array_equal(twin.balances(), drawn.balance)

    def test_all_parts_are_held_together(self) -> None:
        twin = Twin(self.two_ways())
        twin.run(pay(0, 3, CAPACITY * 7 // 10, max_parts=4, hold=5.0), until=4.0)
        assert (twin.in_flight() > 0).sum() == 4
        twin.advance(2.0)
        assert not twin.in_flight().any()
        assert twin.flows[[3, 7], RECEIVED].sum() == CAPACITY * 7 // 10


class TestGossip:
    def test_a_raised_fee_fails_those_who_have_not_heard(self) -> None:
        drawn = line(3)
        twin = Twin(drawn)
        twin.advance(100.0)
        raised = drawn.policy[[2]].copy()
        raised[0, BASE_FEE] += 5_000
        twin.set_policies(np.array([2]), raised)
        assert twin.policies()[2, BASE_FEE] == 6_000
        assert twin.policies_seen(1)[2, BASE_FEE] == 6_000
        assert twin.policies_seen(0)[2, BASE_FEE] == 1_000
        outcomes = twin.run(pay(0, 2, 1_000_000), record=True)
        # The failure brought the new policy along, and LND pardons it once.
        assert twin.log.code.tolist() == [FailureCode.FEE_INSUFFICIENT, 0]
        assert outcomes.fee.tolist() == [6_000 + 100]
        assert twin.policies_seen(0)[2, BASE_FEE] == 6_000
        assert twin.policies_seen(2)[2, BASE_FEE] == 1_000
        twin.advance(1.0)
        assert twin.policies_seen(2)[2, BASE_FEE] == 6_000

    @pytest.mark.parametrize(
        ("edges", "shape"), [([4], (1, 8)), ([-1], (1, 8)), ([0], (2, 8)), ([0], (1, 7))]
    )
    def test_policies_that_do_not_fit(self, edges: list[int], shape: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match=r"edges|policies"):
            Twin(line(3)).set_policies(np.array(edges), np.zeros(shape, dtype=np.int64))


class TestState:
    @given(st.integers(0, 10_000))
    @settings(max_examples=20)
    def test_no_millisatoshi_is_lost(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        nodes = int(rng.integers(3, 9))
        drawn = random_network(rng, nodes, int(rng.integers(0, 8)))
        timing = LatencySettings(*rng.choice([0.0, 0.5], 3))
        twin = Twin(drawn, TwinSettings(latency=timing), seed=seed)
        for _ in range(3):
            traffic = random_traffic(
                rng,
                nodes,
                30,
                max_parts=rng.choice([1, 4], 30),
                hold=rng.choice([0.0, 7.0], 30),
            )
            outcomes = twin.run(traffic, until=float(rng.choice([10.0, 1_000.0])))
            twin.audit()
            assert (outcomes.fee[outcomes.settled] >= 0).all()
            assert (outcomes.failed_attempts <= outcomes.attempts).all()
        twin.advance(1_000.0)
        twin.audit()
        assert not twin.in_flight().any()
        pending = twin.state.switch.liquidity.pending
        assert not pending[:, COUNT].any()
        # What nodes earned, paid and received is what moved.
        flows = twin.flows
        gained = flows[:, RECEIVED] + flows[:, FORWARDED_IN] - flows[:, SENT]
        gained -= flows[:, FORWARDED_OUT]
        moved = twin.balances() - drawn.balance
        assert np.array_equal(gained, moved.reshape(-1))
        assert flows[:, SENT].sum() == flows[:, RECEIVED].sum() + flows[:, FEES_EARNED].sum()

    @given(st.integers(0, 10_000))
    @settings(max_examples=15)
    def test_payments_that_take_no_time_are_the_same_by_events(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = random_network(rng, 7, 5)
        traffic = random_traffic(rng, 7, 60, max_parts=4)
        # So little that the sum of it all does not change any probability.
        moment = LatencySettings(forward=1e-12, settle=1e-12, fail=1e-12)
        quick, slow = Twin(drawn), Twin(drawn, TwinSettings(latency=moment))
        at_once = quick.run(traffic, record=True)
        by_events = slow.run(traffic, record=True)
        assert at_once.reason.tolist() == by_events.reason.tolist()
        assert quick.log.edge.tolist() == slow.log.edge.tolist()
        assert quick.log.code.tolist() == slow.log.code.tolist()
        assert np.array_equal(quick.balances(), slow.balances())
        assert np.array_equal(quick.flows, slow.flows)

    def test_comes_back_from_a_snapshot_in_every_bit(self) -> None:
        rng = np.random.default_rng(5)
        drawn = random_network(rng, 8, 6)
        twin = Twin(drawn, SLOW)
        twin.run(random_traffic(rng, 8, 40, hold=5.0), until=20.0)
        assert twin.in_flight().any()
        raised = drawn.policy[[3, 4]] + 1
        twin.set_policies(np.array([3, 4]), raised)
        then = twin.snapshot()
        traffic = random_traffic(rng, 8, 60, max_parts=3)
        first = twin.run(traffic)
        balances, flows, now = twin.balances(), twin.flows.copy(), twin.now
        for _ in range(2):
            twin.restore(then)
            assert same(twin.run(traffic), first)
            assert np.array_equal(twin.balances(), balances)
            assert np.array_equal(twin.flows, flows)
            assert twin.now == now

    def test_refuses_the_snapshot_of_another_network(self) -> None:
        with pytest.raises(ValueError, match="another network"):
            Twin(line(3)).restore(Twin(line(3)).snapshot())

    def test_the_same_seed_gives_the_same_results(self) -> None:
        pairs = [(0, 1), (0, 1), (1, 2), (1, 2), (1, 2), (2, 3), (2, 3)]
        results = []
        for seed in (1, 1, 2):
            twin = Twin(network(4, pairs), seed=seed)
            twin.run(random_traffic(np.random.default_rng(3), 4, 100))
            results.append(twin.balances().tolist())
        assert results[0] == results[1]
        # Which of parallel channels a forwarder takes is drawn.
        assert results[0] != results[2]

    def test_arrays_grow_where_they_are_full(self) -> None:
        rng = np.random.default_rng(2)
        drawn = random_network(rng, 12, 20)
        everyone_at_once = random_traffic(rng, 12, 300, hold=1_000.0, max_parts=3)
        twin = Twin(drawn, TwinSettings(latency=LatencySettings(forward=30.0)))
        room = len(twin.state.desk.attempts.number)
        twin.run(everyone_at_once, until=400.0, record=True)
        assert len(twin.state.desk.attempts.number) > room
        twin.audit()
        log = twin.log
        assert len(log.edge) == log.first_hop[-1]
        assert (log.resolved > log.started).all()

    def test_reported_balances_leave_out_what_the_opener_pays(self) -> None:
        drawn = line(2)
        reported = Twin(drawn).reported_balances()
        assert reported[1] == drawn.balance[0, 1]
        assert reported[0] < drawn.balance[0, 0]

    def test_a_run_that_records_nothing_has_no_log(self) -> None:
        twin = Twin(line(2))
        twin.run(pay(0, 1, 1_000 * MSAT))
        with pytest.raises(RuntimeError, match="recorded"):
            _ = twin.log

    def test_an_htlc_limit_applies_to_forwards(self) -> None:
        drawn = line(3)
        drawn.policy[2, MAX_HTLC] = 1_000_000
        outcomes = Twin(drawn).run(pay(0, 2, 2_000_000))
        assert outcomes.reason.tolist() == [NO_ROUTE]


class TestBatch:
    def test_does_what_each_twin_does_alone(self) -> None:
        rng = np.random.default_rng(1)
        networks = [random_network(rng, nodes, 4) for nodes in (4, 6, 9)]
        traffic = [random_traffic(rng, drawn.nodes, 50) for drawn in networks]
        with BatchedTwin(networks, SLOW, seed=4, threads=3) as batch:
            together = batch.run(traffic)
            again = batch.run(traffic, until=20.0)
            for index, drawn in enumerate(networks):
                alone = Twin(drawn, SLOW, seed=4 + index)
                assert same(together[index], alone.run(traffic[index]))
                assert same(again[index], alone.run(traffic[index], until=20.0))
                assert np.array_equal(batch[index].balances(), alone.balances())

    def test_wants_traffic_for_each(self) -> None:
        with BatchedTwin([line(2)] * 2) as batch, pytest.raises(ValueError, match="1 traffics"):
            batch.run([pay(0, 1, 1_000_000)])
