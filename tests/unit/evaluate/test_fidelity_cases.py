"""The cases that are drawn."""

from __future__ import annotations

import pytest

from lnagents.evaluate.fidelity_cases import (
    NODES,
    Case,
    Change,
    Pay,
    Wait,
    draw_case,
    workload_case,
)
from lnagents.evaluate.recording import CaseSet
from lnagents.model.topology import PolicySpec
from lnagents.model.workload import DemandSpec, Workload, draw_payments
from lnagents.testbed.settings import usual_policy
from tests.unit.evaluate.recordings import line_topology

CASES = 60


@pytest.fixture(scope="module", params=CaseSet)
def cases(request: pytest.FixtureRequest) -> list[Case]:
    return [draw_case(request.param, 7, index) for index in range(CASES)]


def payments_of(case: Case) -> list[Pay]:
    return [act for act in case.acts if isinstance(act, Pay)]


def test_a_seed_names_a_case(cases: list[Case]) -> None:
    for case in cases[:10]:
        assert draw_case(case.case_set, case.seed, case.index) == case
        assert draw_case(case.case_set, case.seed + 1, case.index).acts != case.acts
    assert len({case.name for case in cases}) == CASES


def test_networks_are_connected_and_of_all_sizes(cases: list[Case]) -> None:
    sizes = set()
    for case in cases:
        topology = case.topology
        sizes.add(len(topology.nodes))
        reached = {topology.nodes[0].name}
        for _ in topology.nodes:
            for channel in topology.channels:
                if {channel.source, channel.target} & reached:
                    reached |= {channel.source, channel.target}
        assert len(reached) == len(topology.nodes)
    assert NODES[0] <= min(sizes) <= NODES[0] + 1
    assert max(sizes) == NODES[1]


def test_payments_are_possible_to_ask_for(cases: list[Case]) -> None:
    for case in cases:
        names = {node.name for node in case.topology.nodes}
        for pay in payments_of(case):
            assert pay.source != pay.target
            assert {pay.source, pay.target} <= names
            assert pay.amount_msat >= 1_000
            assert pay.fee_limit_msat >= 0
    payments = [pay for case in cases for pay in payments_of(case)]
    # Not only round amounts, and tight fee limits, too.
    assert any(pay.amount_msat % 1_000 for pay in payments)
    assert any(pay.fee_limit_msat < pay.amount_msat // 100 for pay in payments)


def test_each_set_has_what_it_is_for(cases: list[Case]) -> None:
    case_set = cases[0].case_set
    payments = [pay for case in cases for pay in payments_of(case)]
    assert any(pay.max_parts > 1 for pay in payments) == (case_set is CaseSet.MULTIPART)
    assert any(pay.held_for for pay in payments) == (case_set is CaseSet.HELD)
    assert any(pay.at for pay in payments) == (case_set is CaseSet.CONCURRENT)
    changes = [act for case in cases for act in case.acts if isinstance(act, Change)]
    assert bool(changes) == (case_set is CaseSet.STALE)
    options = {option for case in cases for node in case.topology.nodes for option in node.lnd}
    assert ("--routerrpc.estimator=bimodal" in options) == (case_set is CaseSet.BIMODAL)
    policies = [
        policy
        for case in cases
        for channel in case.topology.channels
        for policy in case.topology.channel_policies(channel)
    ]
    hard = case_set is not CaseSet.STALE
    assert any(policy.inbound_fee_rate_ppm for policy in policies) == hard
    assert any(policy.max_htlc_msat for policy in policies) == hard


def test_stale_cases_start_without_a_change_of_policy() -> None:
    """Nodes announce their policies when channels open, so gossip's limits are still untouched."""
    for index in range(CASES):
        case = draw_case(CaseSet.STALE, 7, index)
        for channel in case.topology.channels:
            opener, acceptor = case.topology.channel_policies(channel)
            assert acceptor == usual_policy(case.topology, channel.target)
            theirs = usual_policy(case.topology, channel.source)
            same = {"base_fee_msat": 0, "fee_rate_ppm": 0}
            assert opener.model_copy(update=same) == theirs.model_copy(update=same)
        assert any(isinstance(act, Wait) for act in case.acts) == (index % 2 == 0)


def test_a_workload_becomes_a_case() -> None:
    workload = Workload(name="w", demands=(DemandSpec(name="d", sources=("a", "b"), sinks=("c",)),))
    topology = line_topology()
    case = workload_case(topology, workload, 20, 3)
    intents = draw_payments(workload, 20, 3)
    assert case.name == topology.name
    assert [
        (pay.at, pay.source, pay.target, pay.amount_msat, pay.fee_limit_msat)
        for pay in payments_of(case)
    ] == [
        (one.at_seconds, one.source, one.destination, one.amount_msat, one.fee_limit_msat)
        for one in intents
    ]


def test_limits_of_htlcs_leave_room(cases: list[Case]) -> None:
    for case in cases:
        for channel in case.topology.channels:
            for policy in case.topology.channel_policies(channel):
                assert isinstance(policy, PolicySpec)
                if policy.max_htlc_msat is not None:
                    assert policy.min_htlc_msat <= policy.max_htlc_msat
                    assert policy.max_htlc_msat <= channel.capacity_msat * 9 // 10
