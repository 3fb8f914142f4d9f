"""What a sender writes to a forwarder that chooses the next channel."""

from __future__ import annotations

from lnagents.env.live.delegation import delegate
from lnagents.model.delegation import DELEGATION_RECORD, NOWHERE, Delegation
from lnagents.model.payment import HOP_BY_HOP_SLACK, Hop, Route

NODES = tuple(f"02{index:064x}" for index in range(5))
WANTED = Delegation(NODES[4], bytes(range(32)), 1_000_000, 80, passed=())

ROUTE = Route(
    hops=(
        Hop(11, NODES[1], 1_003_000, 1_000, 940),
        Hop(12, NODES[2], 1_002_000, 1_000, 860),
        Hop(13, NODES[3], 1_000_000, 2_000, 780),
        Hop(14, NODES[4], 1_000_000, 0, 780),
    ),
    total_amount_msat=1_004_000,
    total_time_lock=1_020,
)


def test_a_route_ends_at_the_first_agent_on_it() -> None:
    sent = delegate(ROUTE, {NODES[2], NODES[3]}, WANTED)
    assert [hop.target for hop in sent.hops] == [NODES[1], NODES[2], NODES[2]]
    assert [hop.scid for hop in sent.hops] == [11, 12, NOWHERE]
    # The agent gets what the rest would have cost, and time for a longer way.
    assert sent.total_amount_msat == ROUTE.total_amount_msat
    assert sent.total_time_lock == ROUTE.total_time_lock + HOP_BY_HOP_SLACK
    assert sent.hops[0].amount_msat == 1_003_000
    assert sent.hops[0].expiry == 940 + HOP_BY_HOP_SLACK
    assert sent.hops[1].expiry == sent.hops[2].expiry == 860
    records = [hop.custom_records for hop in sent.hops]
    assert records == [{}, {DELEGATION_RECORD: WANTED.to_bytes()}, {}]
    assert sent.payment_addr == b""


def test_nobody_chooses_twice_and_the_receiver_never() -> None:
    passed = Delegation(NODES[4], WANTED.payment_addr, 1_000_000, 80, passed=(NODES[1],))
    for agents, chosen in (
        ({NODES[1], NODES[3]}, NODES[3]),
        ({NODES[1], NODES[2]}, NODES[2]),
    ):
        assert delegate(ROUTE, agents, passed).hops[-1].target == chosen
    whole = delegate(ROUTE, {NODES[1], NODES[4]}, passed)
    assert whole.hops == ROUTE.hops
    assert whole.total_time_lock == ROUTE.total_time_lock
    assert (whole.payment_addr, whole.payment_total_msat) == (WANTED.payment_addr, 1_000_000)
