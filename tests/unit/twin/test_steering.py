"""Routes that agents decide on, admission and priority."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lnagents.model.payment import FailureCode
from lnagents.twin import BY_HOP, BY_ROUTE, Directions, Network, Outcomes, Twin
from lnagents.twin.network import BASE_FEE
from lnagents.twin.state import FORWARDS
from lnagents.twin.traffic import ERROR, NO_ROUTE, SETTLED
from tests.unit.twin.networks import CAPACITY, line, network, pay

# Edges 2c and 2c + 1 of channel c: 0 – 1, 1 – 2, 1 – 3, 2 – 4, 3 – 4, 1 – 5.
DIAMOND = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (1, 5)]


def along(twin: Twin, edges: Sequence[int], **options: int) -> Outcomes:
    route = Directions.of(1, mode=BY_ROUTE, routes=[edges])
    return twin.run(pay(0, 4, 1_000_000, **options), directions=route, record=True)


class TestByRoute:
    def test_the_route_is_taken_whatever_it_costs(self) -> None:
        drawn = network(6, DIAMOND)
        drawn.policy[[4], BASE_FEE] = 50_000
        twin = Twin(drawn)
        outcomes = along(twin, [0, 4, 8])
        assert outcomes.reason.tolist() == [SETTLED]
        assert outcomes.fee.tolist() == [50_000 + 1_000 + 2 * 100]
        assert twin.log.edge.tolist() == [0, 4, 8]
        assert along(Twin(drawn), [0, 4, 8], fee_limit=51_000).reason.tolist() == [NO_ROUTE]

    def test_it_is_tried_once(self) -> None:
        drawn = network(6, DIAMOND)
        drawn.balance[4] = (CAPACITY // 100, CAPACITY * 99 // 100)
        outcomes = along(Twin(drawn), [0, 4, 8])
        assert outcomes.reason.tolist() == [ERROR]
        assert outcomes.attempts.tolist() == outcomes.failed_attempts.tolist() == [1]

    def test_it_may_be_a_circle(self) -> None:
        drawn = network(3, [(0, 1), (1, 2), (2, 0)])
        twin = Twin(drawn)
        circle = Directions.of(1, mode=BY_ROUTE, routes=[[0, 2, 4]])
        assert twin.run(pay(0, 0, 1_000_000), directions=circle).reason.tolist() == [SETTLED]
        moved = twin.balances() - drawn.balance
        assert moved[0, 0] < -1_000_000
        assert moved[2, 1] == 1_000_000

    @pytest.mark.parametrize("edges", [[0, 8], [0, 4], [4, 8], [], [0, 4, 99]])
    def test_routes_that_lead_nowhere(self, edges: list[int]) -> None:
        with pytest.raises(ValueError, match="directions"):
            along(Twin(network(6, DIAMOND)), edges)


class TestByHop:
    def run(self, drawn: Network, preferred: Sequence[int], agents: Sequence[int] = (1,)) -> Twin:
        twin = Twin(drawn)
        preferences = np.zeros(2 * drawn.channels)
        preferences[list(preferred)] = np.arange(len(preferred), 0, -1)
        twin.set_preferences(agents, preferences)
        self.outcomes = twin.run(
            pay(0, 4, 1_000_000), directions=Directions.of(1, mode=BY_HOP), record=True
        )
        twin.audit()
        return twin

    def test_the_forwarder_decides(self) -> None:
        for edge in (2, 4):
            twin = self.run(network(6, DIAMOND), [edge])
            assert self.outcomes.reason.tolist() == [SETTLED]
            assert twin.flows[[2, 4], FORWARDS].tolist() == [edge == 2, edge == 4]

    def test_it_takes_the_next_if_one_does_not_lead_there(self) -> None:
        # Edge 10 is a dead end; channel 2 – 4 has nothing to send.
        drawn = network(6, DIAMOND)
        drawn.balance[3] = (CAPACITY // 100, CAPACITY * 99 // 100)
        twin = self.run(drawn, [10, 2, 4])
        assert self.outcomes.reason.tolist() == [SETTLED]
        assert self.outcomes.attempts.tolist() == [1]
        assert twin.flows[[2, 4, 10], FORWARDS].tolist() == [0, 1, 0]

    def test_it_never_takes_what_it_does_not_want(self) -> None:
        twin = Twin(network(6, DIAMOND))
        twin.set_preferences([1], np.full(12, -np.inf))
        outcomes = twin.run(
            pay(0, 4, 1_000_000), directions=Directions.of(1, mode=BY_HOP), record=True
        )
        assert outcomes.reason.tolist() == [NO_ROUTE]
        assert set(twin.log.code) == {FailureCode.TEMPORARY_CHANNEL_FAILURE}
        assert set(twin.log.failed_at) == {1}

    def test_the_sender_decides_if_it_is_an_agent(self) -> None:
        drawn = network(4, [(0, 1), (1, 3), (0, 2), (2, 3)])
        for edge in (0, 4):
            twin = Twin(drawn)
            preferences = np.zeros(8)
            preferences[edge] = 1.0
            twin.set_preferences([0], preferences)
            by_hop = Directions.of(1, mode=BY_HOP)
            twin.run(pay(0, 3, 1_000_000), directions=by_hop, record=True)
            assert twin.log.edge[0] == edge

    def test_the_budget_is_what_the_sender_gave(self) -> None:
        drawn = network(6, DIAMOND)
        drawn.policy[8, BASE_FEE] = 500_000
        twin = self.run(drawn, [4, 2])
        assert self.outcomes.reason.tolist() == [SETTLED]
        assert twin.flows[[2, 4], FORWARDS].tolist() == [1, 0]

    def test_others_do_as_they_are_told(self) -> None:
        twin = Twin(network(6, DIAMOND))
        twin.set_preferences([], np.full(12, -np.inf))
        by_hop = Directions.of(1, mode=BY_HOP)
        assert twin.run(pay(0, 4, 1_000_000), directions=by_hop).reason.tolist() == [SETTLED]


class TestAdmission:
    def test_what_is_kept_free_is_for_priority(self) -> None:
        shares = np.zeros(4)
        shares[2] = 0.4
        twin = Twin(line(3))
        twin.set_admission(shares)
        amount = CAPACITY * 2 // 10
        first = Directions.of(1, priority=1)
        assert twin.run(pay(0, 2, amount), record=True).reason.tolist() == [NO_ROUTE]
        assert twin.log.code.tolist() == [FailureCode.TEMPORARY_CHANNEL_FAILURE]
        twin.reset_memory()
        assert twin.run(pay(0, 2, amount), directions=first).reason.tolist() == [SETTLED]
        # The node's own payments are its own affair.
        assert twin.run(pay(1, 2, CAPACITY // 10)).reason.tolist() == [SETTLED]

    def test_nothing_is_kept_at_first(self) -> None:
        assert Twin(line(3)).run(pay(0, 2, CAPACITY * 4 // 10)).reason.tolist() == [SETTLED]
