"""The payments of a live round: at their time, by whom they should, and never for ever."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from lnagents.env.live.forwarding import Community, Forwarder
from lnagents.env.live.payments import UNRESOLVED, Payments
from lnagents.env.world import RoundPayment
from lnagents.model.payment import Payment, PaymentStatus
from lnagents.model.workload import PaymentIntent
from tests.unit.env.live.nodes import (
    FAR,
    LEFT,
    OWN,
    PAYMENT_HASH,
    RIGHT,
    ScriptedNode,
    live_node,
    local,
    public,
    route_by,
)

AMOUNT = 10_000_000


class Payer(ScriptedNode):
    """Its LND pays at once, or never answers."""

    seconds = 0.0
    reason = ""

    async def pay(self, request: str, **options: Any) -> Payment:
        self._answer()
        await asyncio.sleep(self.seconds)
        reason = "no_route" if options["fee_limit_msat"] < 1_000 else self.reason
        status = PaymentStatus.FAILED if reason else PaymentStatus.SETTLED
        return Payment(PAYMENT_HASH, status, AMOUNT, 1_000, (), failure_reason=reason)


class Case:
    """`own` pays `far`, over LEFT (channel 2) or RIGHT (channel 3)."""

    def __init__(self) -> None:
        graph = {2: public(2, OWN, LEFT), 3: public(3, OWN, RIGHT)}
        routes = {
            scid: route_by(scid, peer, AMOUNT, fee=1_000) for scid, peer in ((2, LEFT), (3, RIGHT))
        }
        self.payer = Payer([local(2, LEFT), local(3, RIGHT)], graph, routes)
        self.payee = ScriptedNode([], {})
        nodes = {
            "own": live_node(self.payer),
            "far": live_node(self.payee, FAR, "far"),
        }
        self.forwarder = Forwarder(nodes["own"], Community(set(), set()))
        self.priority: set[str] = set()
        self.payments = Payments(nodes, {"own": self.forwarder}, frozenset({OWN}), self.priority)

    async def make(self, seconds: float = 5.0, fee_limit_msat: int = 10_000, **how: Any) -> Any:
        request = RoundPayment(PaymentIntent(4, 0.0, "own", "far", AMOUNT, fee_limit_msat), **how)
        (outcome,) = await self.payments.make([request], seconds)
        assert (outcome.index, outcome.source, outcome.destination) == (4, "own", "far")
        return outcome


async def test_lnd_pays_unless_told_otherwise() -> None:
    case = Case()
    outcome = await case.make()
    assert outcome.settled
    assert (outcome.fee_msat, outcome.reason, outcome.payment_hash) == (1_000, "", PAYMENT_HASH)
    case.payer.reason = "no_route"
    outcome = await case.make()
    assert (outcome.settled, outcome.fee_msat, outcome.reason) == (False, 0, "no_route")


async def test_what_has_no_answer_in_time_is_unresolved() -> None:
    case = Case()
    case.payer.seconds = 60.0
    outcome = await case.make(seconds=0.05)
    assert (outcome.settled, outcome.reason) == (False, UNRESOLVED)


async def test_a_node_that_is_down_is_an_outcome() -> None:
    for side in ("payer", "payee"):
        case = Case()
        cast(ScriptedNode, getattr(case, side)).down = True
        outcome = await case.make()
        assert (outcome.settled, outcome.attempts) == (False, 0)
        assert "down" in outcome.reason


async def test_priority_is_known_before_the_payment_is_sent() -> None:
    case = Case()
    known = []

    def arrives(route: object) -> bool:
        known.append(PAYMENT_HASH in case.priority)
        return True

    case.payer.arrives = arrives
    route = case.payer.routes[2]
    assert (await case.make(route=route)).settled
    assert (await case.make(route=route, priority=True)).settled
    assert known == [False, True]


async def test_hop_by_hop_leaves_by_the_channels_that_the_sender_prefers() -> None:
    case = Case()
    case.forwarder.preferences[3] = 1.0
    outcome = await case.make(hop_by_hop=True)
    assert outcome.settled
    assert outcome.fee_msat == 1_000
    assert [sent.hops[0].scid for sent in case.payer.sent] == [3]
    case.payer.sent.clear()
    case.payer.arrives = lambda route: route.hops[0].scid == 2
    outcome = await case.make(hop_by_hop=True)
    assert (outcome.settled, outcome.attempts, outcome.failed_attempts) == (True, 2, 1)
    assert [sent.hops[0].scid for sent in case.payer.sent] == [3, 2]
    case.payer.arrives = lambda route: False
    outcome = await case.make(hop_by_hop=True)
    assert (outcome.settled, outcome.attempts, outcome.failed_attempts) == (False, 2, 2)
    assert outcome.reason == "temporary_channel_failure"
    case.payer.routes.clear()
    assert (await case.make(hop_by_hop=True)).reason == "no_route"


@pytest.mark.parametrize("hop_by_hop", [False, True])
async def test_every_payment_has_a_fee_limit_of_its_own(*, hop_by_hop: bool) -> None:
    case = Case()
    assert (await case.make(fee_limit_msat=1_000, hop_by_hop=hop_by_hop)).settled
    assert not (await case.make(fee_limit_msat=999, hop_by_hop=hop_by_hop)).settled


async def test_a_route_that_costs_more_than_the_limit_is_not_tried() -> None:
    case = Case()
    case.payer.built_fee_msat = 500
    route = case.payer.routes[2]
    assert (await case.make(route=route, fee_limit_msat=500)).settled
    sent = len(case.payer.sent)
    outcome = await case.make(route=route, fee_limit_msat=499)
    assert (outcome.settled, outcome.attempts, len(case.payer.sent)) == (False, 0, sent)
