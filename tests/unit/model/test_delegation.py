"""The record that tells a forwarder what to pay onward: one spelling, and nothing out of range."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.model.delegation import MAX_HOPS, MAX_PASSED, SEAL_BYTES, Delegation, QuoteSeal

keys = st.tuples(st.sampled_from([b"\2", b"\3"]), st.binary(min_size=32, max_size=32)).map(
    lambda parts: b"".join(parts).hex()
)
delegations = st.builds(
    Delegation,
    destination=keys,
    payment_addr=st.binary(min_size=32, max_size=32),
    amount_msat=st.integers(1, 21 * 10**17),
    final_cltv_delta=st.integers(0, 2**16 - 1),
    passed=st.lists(keys, max_size=MAX_PASSED).map(tuple),
    fee_budget_msat=st.integers(0, 21 * 10**17),
    hop_limit=st.integers(1, MAX_HOPS),
    quote=st.none()
    | st.builds(
        QuoteSeal,
        expires_at=st.integers(0, 2**32 - 1),
        seal=st.binary(min_size=SEAL_BYTES, max_size=SEAL_BYTES),
    ),
)


@given(delegations)
def test_a_delegation_survives_its_bytes(delegation: Delegation) -> None:
    assert Delegation.from_bytes(delegation.to_bytes()) == delegation


@given(st.binary(max_size=400))
def test_what_can_be_read_is_written_alike(data: bytes) -> None:
    try:
        delegation = Delegation.from_bytes(b"\2" + data)
    except ValueError:
        return
    assert delegation.to_bytes() == b"\2" + data


@given(delegations, st.integers(1, 15))
def test_what_is_cut_or_of_another_version_is_refused(delegation: Delegation, cut: int) -> None:
    data = delegation.to_bytes()
    with pytest.raises(ValueError, match=r"bytes|quote"):
        Delegation.from_bytes(data[:-cut])
    with pytest.raises(ValueError, match="version 9"):
        Delegation.from_bytes(b"\x09" + data[1:])


def test_limits_are_kept() -> None:
    good = Delegation("02" * 33, bytes(32), 1_000, 80)
    assert Delegation.from_bytes(good.to_bytes()) == good
    for wrong in (
        replace(good, amount_msat=0),
        replace(good, hop_limit=0),
        replace(good, hop_limit=MAX_HOPS + 1),
    ):
        with pytest.raises(ValueError, match="out of range"):
            Delegation.from_bytes(wrong.to_bytes())
    with pytest.raises(ValueError, match="keys"):
        Delegation.from_bytes(replace(good, destination="04" * 33).to_bytes())
