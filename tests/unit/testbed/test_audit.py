from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.testbed.audit import NodeFacts, reconcile

NAMES = ("alice", "bob", "carol", "dave")
COMMITMENT = 5_185_000
FEE_ON_CHAIN = 198_000

Payment = tuple[str, list[str], str, int, list[int]]


@st.composite
def payments(draw: st.DrawFn) -> list[Payment]:
    """Settled payments: sender, forwarders, receiver, amount, fee of each forwarder (msat)."""
    made = []
    for _ in range(draw(st.integers(0, 12))):
        path = draw(st.permutations(NAMES))[: draw(st.integers(2, 4))]
        amount = draw(st.integers(1, 10**9))
        fees = [draw(st.integers(0, 10**6)) for _ in path[1:-1]]
        made.append((path[0], path[1:-1], path[-1], amount, fees))
    return made


def network(made: list[Payment], rounds: int = 0) -> dict[str, NodeFacts]:
    """The facts of a network in which each node opened one channel and those payments were made.

    `rounds` times a commitment's fee has risen since the start.
    """
    nodes = {}
    for name in NAMES:
        sent = [(amount, sum(fees)) for source, _, _, amount, fees in made if source == name]
        received = sum(amount for _, _, target, amount, _ in made if target == name)
        earned = sum(
            fee
            for _, forwarders, _, _, fees in made
            for forwarder, fee in zip(forwarders, fees, strict=True)
            if forwarder == name
        )
        start = 10**12 - COMMITMENT
        paid, fees_paid = sum(amount for amount, _ in sent), sum(fee for _, fee in sent)
        dearer = rounds * 1_000
        nodes[name] = NodeFacts(
            deposited=2 * 10**12,
            local_at_start=start,
            commitment_at_start=COMMITMENT,
            wallet=10**12 - FEE_ON_CHAIN,
            on_chain_fees=FEE_ON_CHAIN,
            funded=10**12,
            local=start + received + earned - paid - fees_paid - dearer,
            unsettled=0,
            commitment=COMMITMENT + dearer,
            received=received,
            sent=paid,
            fees_paid=fees_paid,
            fees_earned=earned,
        )
    return nodes


@given(payments(), st.integers(0, 5))
def test_an_honest_network_adds_up_to_the_msat(made: list[Payment], rounds: int) -> None:
    report = reconcile(network(made, rounds))
    assert report.difference_msat == 0
    assert report.difference_sat == 0
    assert all(statement.difference == 0 for statement in report.statements)


@given(
    payments(),
    st.sampled_from(NAMES),
    st.sampled_from([field.name for field in fields(NodeFacts)]),
    st.integers(-(10**6), 10**6).filter(bool),
)
def test_any_wrong_number_is_found(made: list[Payment], name: str, field: str, error: int) -> None:
    nodes = network(made)
    nodes[name] = replace(nodes[name], **{field: getattr(nodes[name], field) + error})
    report = reconcile(nodes)
    assert report.difference_msat >= abs(error)
    assert report.difference_sat >= 1
    wrong = [statement.what for statement in report.statements if statement.difference]
    assert wrong


@given(payments(), st.integers(1, 10**6))
def test_two_errors_do_not_cancel_out(made: list[Payment], error: int) -> None:
    nodes = network(made)
    nodes["alice"] = replace(nodes["alice"], local=nodes["alice"].local + error)
    nodes["bob"] = replace(nodes["bob"], local=nodes["bob"].local - error)
    assert reconcile(nodes).difference_msat == 2 * error


@pytest.mark.parametrize(("error", "satoshi"), [(1, 1), (999, 1), (1_000, 1), (1_001, 2)])
def test_a_part_of_a_satoshi_counts_as_one(error: int, satoshi: int) -> None:
    nodes = network([])
    nodes["dave"] = replace(nodes["dave"], wallet=nodes["dave"].wallet - error)
    report = reconcile(nodes)
    assert report.difference_sat == satoshi
    document = report.to_json()
    assert document["difference_sat"] == satoshi
    wrong = [entry for entry in document["statements"] if entry["difference_msat"]]
    assert [entry["what"] for entry in wrong] == ["dave: on chain"]
    assert wrong[0]["difference_msat"] == -error
    assert document["nodes"]["dave"]["deposited_msat"] == 2 * 10**12


def test_a_payment_on_its_way_is_not_lost() -> None:
    nodes = network([])
    alice = nodes["alice"]
    nodes["alice"] = replace(alice, local=alice.local - 7_000, unsettled=7_000)
    assert reconcile(nodes).difference_msat == 0
