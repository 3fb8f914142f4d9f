"""Paying when the node gives no clear answer: nothing is sent again before the outcome is known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from lnagents.agent import fates, payments
from lnagents.agent.actor import FixedActor
from lnagents.agent.candidates import Candidate, RouteFinder
from lnagents.agent.config import AgentConfig, parse_config
from lnagents.agent.ledger import PaymentRecord, PaymentState
from lnagents.agent.limits import Purpose
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.observer import Observer
from lnagents.agent.orders import PaymentOrder, Relay
from lnagents.agent.payments import Payer
from lnagents.agent.store import Store
from lnagents.agent.template import render_template
from lnagents.model.delegation import NOWHERE
from lnagents.model.errors import (
    AlreadyExistsError,
    LndError,
    NodeTimeoutError,
    NodeUnavailableError,
    PaymentError,
)
from lnagents.model.graph import Channel, ChannelPolicy, LocalChannel, NetworkGraph
from lnagents.model.payment import (
    Attempt,
    AttemptFailure,
    AttemptStatus,
    FailureCode,
    Invoice,
    Payment,
    PaymentStatus,
    Route,
)

OWN, TOP, LOW, END = ("02" + digit * 64 for digit in "1234")
HASH = "ab" * 32
AMOUNT = 10_000_000
REQUEST = "lnbcrt1..."

Answer = Callable[[Route], Attempt | LndError]


def _settled(route: Route) -> Attempt:
    return Attempt(1, route, AttemptStatus.SETTLED, 1.0, 2.0, preimage=b"preimage")


def _failed(code: FailureCode, index: int) -> Answer:
    def answer(route: Route) -> Attempt:
        failure = AttemptFailure(code, index)
        return Attempt(1, route, AttemptStatus.FAILED, 1.0, 2.0, failure=failure)

    return answer


def _raises(error: LndError) -> Answer:
    return lambda route: error


def _tracked(status: PaymentStatus) -> Payment:
    return Payment(HASH, status, AMOUNT, 1_234, (), preimage=b"preimage")


@dataclass
class ScriptedNode:
    """A node whose answers are written down beforehand; the last of each is repeated."""

    sends: list[Answer]
    tracks: Sequence[Payment | LndError | None] = field(default_factory=lambda: [None])
    sent: list[Route] = field(default_factory=list)
    tracked: int = 0

    async def decode_invoice(self, request: str) -> Invoice:
        return Invoice(request, HASH, END, AMOUNT, time.time() + 600, 80, b"secret" * 5)

    async def send_to_route(self, payment_hash: str, route: Route) -> Attempt:
        self.sent.append(route)
        answer = self.sends[min(len(self.sent), len(self.sends)) - 1](route)
        if isinstance(answer, LndError):
            raise answer
        return answer

    async def track_payment(self, payment_hash: str) -> Payment | None:
        self.tracked += 1
        answer = self.tracks[min(self.tracked, len(self.tracks)) - 1]
        if isinstance(answer, LndError):
            raise answer
        return answer


class StillObserver:
    """Balances and blocks that never change."""

    own_key = OWN

    async def local_channels(self, max_age: float) -> dict[int, LocalChannel]:
        return {}

    async def height(self) -> int:
        return 100

    def hold(self, scid: int, amount: int) -> None:
        """Balances are plenty."""

    def release(self, scid: int, amount: int) -> None:
        """Balances are plenty."""


def _config(mode: str = "live") -> AgentConfig:
    text = render_template(
        name="a", address="h:1", tls_certificate="t", macaroon="m", network="regtest"
    )
    return parse_config(f'mode = "{mode}"\n' + text, Path("/agent.toml"))


def _finder() -> RouteFinder:
    ends = {1: (OWN, TOP), 2: (TOP, END), 3: (OWN, LOW), 4: (LOW, END)}
    policies = {2: ChannelPolicy(fee_rate_ppm=10), 4: ChannelPolicy(fee_rate_ppm=500)}
    capacity = 1_000_000_000
    graph = NetworkGraph(
        {},
        {
            scid: Channel(
                scid, f"{scid}:0", one, other, capacity,
                policies.get(scid, ChannelPolicy()), ChannelPolicy(),
            )
            for scid, (one, other) in ends.items()
        },
    )  # fmt: skip
    finder = RouteFinder(OWN, Liquidity(3_600.0))
    finder.load(graph)
    local = LocalChannel(
        1, "1:0", TOP, capacity, 900_000_000, 100_000_000, 0, 0, 0, 0, 0, False, True, False, 0, 483
    )
    finder.set_local({1: local, 3: replace(local, scid=3, peer=LOW)})
    return finder


@asynccontextmanager
async def _payer(
    path: Path, node: ScriptedNode, *, mode: str = "live"
) -> AsyncIterator[tuple[Payer, list[PaymentRecord]]]:
    store = await Store.open(path / "agent.sqlite")
    finder = _finder()
    config = _config(mode)
    ended: list[PaymentRecord] = []
    payer = Payer(
        client=cast(Any, node),
        store=store,
        observer=cast(Observer, StillObserver()),
        finder=finder,
        liquidity=finder.liquidity,
        chooser=FixedActor(),
        config=lambda: config,
        on_outcome=lambda record, attempts, failed: ended.append(record),
    )
    try:
        yield payer, ended
    finally:
        await payer.stop()
        await store.close()


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNKNOWN_SECONDS", "POLL_FIRST_SECONDS", "POLL_LONGEST_SECONDS"):
        monkeypatch.setattr(fates, name, 0.001)
    for name in ("POLL_LONGEST_SECONDS", "MARGIN_SECONDS"):
        monkeypatch.setattr(payments, name, 0.001)


async def test_the_next_route_is_tried_when_one_fails(tmp_path: Path) -> None:
    node = ScriptedNode([_failed(FailureCode.TEMPORARY_CHANNEL_FAILURE, 1), _settled])
    async with _payer(tmp_path, node) as (payer, ended):
        record = await payer.pay(REQUEST)
        assert record.state is PaymentState.SETTLED
        assert (record.attempts, record.failed_attempts) == (2, 1)
        assert [route.scids for route in node.sent] == [(1, 2), (3, 4)]
        assert record.fee_msat == node.sent[1].fee_msat
        assert ended == [record]
        assert await payer.pay(REQUEST) == record
        assert len(node.sent) == 2


async def test_what_pays_for_information_goes_the_own_way_and_buys_none_for_itself(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    class Eager:
        """Would buy before anything."""

        async def advise(self, payment_hash: str, candidates: list[Candidate]) -> bool:
            asked.append("advice")
            return True

    async def prepare(payment_hash: str, chosen: Candidate) -> None:
        asked.append("pass")

    class Cheap(ScriptedNode):
        """Invoices are for the price of a document."""

        async def decode_invoice(self, request: str) -> Invoice:
            return replace(await super().decode_invoice(request), amount_msat=3_000)

    node = Cheap([_failed(FailureCode.TEMPORARY_CHANNEL_FAILURE, 1), _settled])
    async with _payer(tmp_path, node) as (payer, _):
        payer.advisor, payer.prepare = Eager(), prepare
        assert await payer.pay_invoice(REQUEST, max_fee_msat=1_000_000)
        # The chooser's routes, in the order of expected cost; none of LND's own.
        assert [route.scids for route in node.sent] == [(1, 2), (3, 4)]
        assert asked == []
    (tmp_path / "other").mkdir()
    async with _payer(tmp_path / "other", ScriptedNode([_settled])) as (payer, _):
        payer.advisor, payer.prepare = Eager(), prepare
        assert (await payer.pay(REQUEST)).state is PaymentState.SETTLED
        assert asked == ["advice", "pass"]


@pytest.mark.parametrize("error", [NodeTimeoutError("late"), NodeUnavailableError("gone")])
async def test_an_unknown_outcome_is_waited_for_and_nothing_is_sent_meanwhile(
    tmp_path: Path, error: LndError
) -> None:
    in_flight = _tracked(PaymentStatus.IN_FLIGHT)
    answers: list[Payment | LndError | None]
    answers = [NodeUnavailableError("down"), in_flight, in_flight, _tracked(PaymentStatus.SETTLED)]
    node = ScriptedNode([_raises(error)], answers)
    async with _payer(tmp_path, node) as (payer, _):
        record = await payer.pay(REQUEST)
        assert record.state is PaymentState.SETTLED
        assert record.fee_msat == 1_234
        assert (len(node.sent), node.tracked) == (1, 4)


async def test_what_the_node_never_got_is_sent_another_way(tmp_path: Path) -> None:
    node = ScriptedNode([_raises(NodeUnavailableError("gone")), _settled], [None])
    async with _payer(tmp_path, node) as (payer, _):
        record = await payer.pay(REQUEST)
        assert (record.state, record.attempts) == (PaymentState.SETTLED, 2)


async def test_what_was_paid_by_others_is_taken_over(tmp_path: Path) -> None:
    node = ScriptedNode(
        [_raises(AlreadyExistsError("already paid"))], [_tracked(PaymentStatus.SETTLED)]
    )
    async with _payer(tmp_path, node) as (payer, _):
        record = await payer.pay(REQUEST)
        assert (record.state, record.preimage) == (PaymentState.SETTLED, b"preimage")
        assert len(node.sent) == 1


async def test_the_receivers_refusal_is_final(tmp_path: Path) -> None:
    refusal = _failed(FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS, 2)
    node = ScriptedNode([refusal, _settled])
    async with _payer(tmp_path, node) as (payer, _):
        record = await payer.pay(REQUEST)
        assert record.state is PaymentState.FAILED
        assert "INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS" in record.reason
        assert len(node.sent) == 1


async def test_one_still_on_its_way_says_so_and_is_joined_later(tmp_path: Path) -> None:
    node = ScriptedNode([_raises(NodeTimeoutError("late"))], [_tracked(PaymentStatus.IN_FLIGHT)])
    async with _payer(tmp_path, node) as (payer, _):
        record = await payer.pay(REQUEST, timeout=0.2)
        assert record.state is PaymentState.IN_FLIGHT
        assert payer.in_flight == 1
        node.tracks = [_tracked(PaymentStatus.SETTLED)]
        record = await payer.pay(REQUEST, timeout=30.0)
        assert record.state is PaymentState.SETTLED
        assert len(node.sent) == 1


@pytest.mark.parametrize(
    ("ledger", "state"),
    [
        (_tracked(PaymentStatus.SETTLED), PaymentState.SETTLED),
        (_tracked(PaymentStatus.FAILED), PaymentState.FAILED),
        (None, PaymentState.FAILED),
    ],
)
async def test_after_a_restart_the_nodes_ledger_decides_and_nothing_is_sent(
    tmp_path: Path, ledger: Payment | None, state: PaymentState
) -> None:
    sent, hanging = asyncio.Event(), asyncio.Event()

    class Hanging(ScriptedNode):
        async def send_to_route(self, payment_hash: str, route: Route) -> Attempt:
            sent.set()
            await hanging.wait()
            raise AssertionError("nobody answers")

    before = Hanging([_settled])
    store = await Store.open(tmp_path / "agent.sqlite")
    async with _payer(tmp_path, before) as (payer, _):
        paying = asyncio.ensure_future(payer.pay(REQUEST))
        await sent.wait()
        # As a crash leaves it: the attempt is recorded, its end is not.
        paying.cancel()
        for task in list(payer._running.values()):
            task.cancel()
    (left,) = await store.payments.unfinished()
    assert left.state is PaymentState.IN_FLIGHT
    await store.close()

    node = ScriptedNode([_settled], [_tracked(PaymentStatus.IN_FLIGHT), ledger])
    async with _payer(tmp_path, node) as (payer, ended):
        assert await payer.resume() == 1
        assert await payer.find_preimage(HASH) == (
            b"preimage" if ledger and state is PaymentState.SETTLED else None
        )
        assert node.sent == []
        assert [record.state for record in ended] == [state]


async def test_a_hint_is_paid_from_its_own_budget(tmp_path: Path) -> None:
    node = ScriptedNode([_settled])
    async with _payer(tmp_path, node) as (payer, _):
        with pytest.raises(PaymentError, match="hint_per_purchase_msat"):
            await payer.pay_invoice(REQUEST, max_fee_msat=1_000)
        with pytest.raises(PaymentError, match="hint_per_purchase_msat"):
            await payer.pay(REQUEST, purpose=Purpose.HINT)
        assert node.sent == []


async def test_dry_run_pays_nothing(tmp_path: Path) -> None:
    node = ScriptedNode([_settled])
    async with _payer(tmp_path, node, mode="dry-run") as (payer, _):
        with pytest.raises(PaymentError, match="dry-run"):
            await payer.pay(REQUEST)
        assert node.sent == []


def _left_to(relays: tuple[Relay, ...], **changes: Any) -> PaymentOrder:
    invoice = Invoice("", HASH, END, AMOUNT, 0.0, 80, b"s" * 32)
    order = PaymentOrder(invoice=invoice, purpose=Purpose.FORWARD, passed=(OWN,), relays=relays)
    return replace(order, **changes)


async def test_a_way_is_left_to_an_agent_that_may_give_it_back(tmp_path: Path) -> None:
    node = ScriptedNode([_failed(FailureCode.TEMPORARY_CHANNEL_FAILURE, 1)])
    async with _payer(tmp_path, node) as (payer, _):
        record = await payer.pay(REQUEST, relay=Relay(TOP, 5_000, 300))
        assert record.state is PaymentState.FAILED
        assert "found no way, or wants more" in record.reason
        # It is not asked again, by whatever way.
        (sent,) = node.sent
        assert sent.scids == (1, NOWHERE)
        assert sent.fee_msat == 5_000
        # Nor is it held against its channels: it was the agent that refused.
        again = await payer.pay(REQUEST)
        assert again.attempts == 3
        assert node.sent[1].scids == (1, 2)


async def test_another_agent_is_asked_when_one_gives_it_back(tmp_path: Path) -> None:
    node = ScriptedNode([_failed(FailureCode.TEMPORARY_CHANNEL_FAILURE, 1), _settled])
    async with _payer(tmp_path, node) as (payer, _):
        order = _left_to((Relay(TOP), Relay(LOW)), direct=False, max_fee_msat=9_000)
        record = await payer.forward(order, timeout=5.0)
        assert record.state is PaymentState.SETTLED
        assert [route.scids for route in node.sent] == [(1, NOWHERE), (3, NOWHERE)]
        assert [route.fee_msat for route in node.sent] == [9_000, 9_000]


async def test_what_is_known_is_not_paid_for_another(tmp_path: Path) -> None:
    node = ScriptedNode([_settled])
    async with _payer(tmp_path, node) as (payer, _):
        assert (await payer.forward(_left_to(()), timeout=5.0)).purpose is Purpose.FORWARD
        with pytest.raises(PaymentError, match="is known here"):
            await payer.forward(_left_to(()), timeout=5.0)
        # Nor is it passed off as paid by whoever has the invoice.
        with pytest.raises(PaymentError, match="left to this agent"):
            await payer.pay(REQUEST)
        assert len(node.sent) == 1


async def test_a_forward_keeps_to_its_limits(tmp_path: Path) -> None:
    node = ScriptedNode([_settled])
    async with _payer(tmp_path, node) as (payer, _):
        for changes in (
            {"hop_limit": 1},
            {"excluded": frozenset({TOP, LOW})},
            {"avoided": frozenset({1, 3})},
            {"latest_expiry": 100 + 80},
        ):
            record = await payer.forward(_left_to((), **changes), timeout=5.0)
            assert record.state is PaymentState.FAILED, changes
        record = await payer.forward(_left_to((), excluded=frozenset({TOP})), timeout=5.0)
        assert record.state is PaymentState.SETTLED
        assert [route.scids for route in node.sent] == [(3, 4)]
