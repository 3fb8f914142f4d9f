"""Taking on ways of others: on which terms, once for each hash, and by the book after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.agent.config import DelegationSection, LimitsSection
from lnagents.agent.delegation import DelegationDesk
from lnagents.agent.delegation_ledger import DelegationLedger, DelegationRefusal, DelegationState
from lnagents.agent.forwarder import Taken
from lnagents.agent.ledger import PaymentRecord
from lnagents.agent.limits import Purpose
from lnagents.agent.observer import Observer
from lnagents.agent.orders import PaymentOrder
from lnagents.agent.store import Store
from lnagents.lnd import FailHtlc, HeldHtlc, HtlcAnswer, SettleHtlc
from lnagents.model.delegation import DELEGATION_RECORD, NOWHERE, Delegation, QuoteSeal
from lnagents.model.errors import LndError, PermissionRefusedError, StoreError
from lnagents.model.graph import LocalChannel
from lnagents.model.payment import HtlcEvent, HtlcEventKind, HtlcRole

OWN, BEFORE, END, FRIEND = ("02" + digit * 64 for digit in "1234")
HASH, OTHER_HASH = "ab" * 32, "cd" * 32
PREIMAGE = b"p" * 32
AMOUNT, BUDGET, FEE = 1_000_000, 10_000, 1_234
HEIGHT, INCOMING, RIGHT = 100, 7, 8
SECTION = DelegationSection(agents=(FRIEND,))
MARGIN = 1_000 + 500
LIMITS = LimitsSection(
    per_payment_msat=5_000_000,
    per_hour_msat=2_500_000,
    per_day_msat=9_000_000,
    max_fee_msat=1_000_000,
    max_fee_ppm=100_000,
    hint_per_purchase_msat=0,
    hint_per_hour_msat=0,
    hint_per_day_msat=0,
)
TOLD = Delegation(END, bytes(32), AMOUNT, 80, fee_budget_msat=BUDGET)


def left_to_us(
    told: Delegation | bytes = TOLD,
    *,
    number: int = 0,
    amount: int = AMOUNT + BUDGET,
    payment_hash: str = HASH,
    expiry: int = HEIGHT + 300,
) -> HeldHtlc:
    data = told.to_bytes() if isinstance(told, Delegation) else told
    return HeldHtlc(
        INCOMING, number, amount, expiry, payment_hash, NOWHERE, AMOUNT, expiry,
        {DELEGATION_RECORD: data}, expiry - 19,
    )  # fmt: skip


class StillObserver:
    own_key = OWN

    def __init__(self) -> None:
        self.arriving: frozenset[int] = frozenset()
        self.counted = (0, 0)
        self.closed = False
        self.at = HEIGHT

    async def local_channels(self, max_age: float) -> dict[int, LocalChannel]:
        channel = LocalChannel(
            INCOMING, "7:0", BEFORE, 10**9, 10**8, 9 * 10**8, 0, 0, 0, 0, 0,
            False, True, False, len(self.arriving), 483, arriving=self.arriving,
        )  # fmt: skip
        right = {RIGHT: replace(channel, scid=RIGHT)}
        return right if self.closed else right | {INCOMING: channel}

    async def height(self) -> int:
        return self.at

    def begin_delegated(self, payment_hash: str, scid: int, amount: int) -> None:
        """Flows are counted elsewhere."""

    def end_delegated(self, payment_hash: str) -> None:
        """Flows are counted elsewhere."""

    def count_delegated(self, settled: int, earned: int) -> None:
        self.counted = settled, earned


@dataclass
class BookPayer:
    """Pays by writing down: as a payer does, and as far as it gets."""

    store: Store
    arrives: bool = True
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first is reserved."""
    orders: list[PaymentOrder] = field(default_factory=list)
    dies: bool = False

    async def forward(self, order: PaymentOrder, *, timeout: float) -> PaymentRecord:
        self.orders.append(order)
        payments, invoice = self.store.payments, order.invoice
        assert order.max_fee_msat is not None
        await payments.reserve(
            invoice,
            max_fee_msat=order.max_fee_msat,
            purpose=order.purpose,
            limits=LIMITS,
            now=time.time(),
            alongside=order.alongside,
        )
        self.asked.set()
        if self.dies:
            raise StoreError("the disk is full")
        await self.gate.wait()
        return await self.end(invoice.payment_hash)

    async def end(self, payment_hash: str) -> PaymentRecord:
        payments = self.store.payments
        if self.arrives:
            return await payments.settle(
                payment_hash, fee_msat=FEE, preimage=PREIMAGE, now=time.time()
            )
        return await payments.fail(payment_hash, reason="no way", now=time.time())

    async def find_preimage(self, payment_hash: str) -> bytes | None:
        record = await self.store.payments.find(payment_hash)
        if record is not None and not record.state.final:
            record = await self.end(payment_hash)
        return record.preimage or None if record is not None else None


@dataclass
class NodeBook:
    """What the node tells of HTLCs that ended; nothing at first."""

    told: bool | None = None
    error: LndError | None = None

    async def htlc_settled(self, scid: int, htlc_id: int) -> bool | None:
        assert (scid, htlc_id) == (INCOMING, 0)
        if self.error is not None:
            raise self.error
        return self.told


@dataclass
class OneQuote:
    """The only quote that was made."""

    told: Delegation

    async def is_own(self, delegation: Delegation) -> bool:
        return delegation == self.told


@dataclass
class Case:
    desk: DelegationDesk
    payer: BookPayer
    store: Store
    observer: StillObserver
    node: NodeBook

    async def answer(self, htlc: HeldHtlc) -> HtlcAnswer:
        decision = self.desk.decide(htlc)
        assert isinstance(decision, Taken)
        return await decision.answer

    async def refused(self, htlc: HeldHtlc) -> str:
        assert await self.answer(htlc) == FailHtlc()
        await self.store.database.flush()
        rows = await self.rows("SELECT error FROM delegation_refusals ORDER BY id")
        return str(rows[-1][0]) if rows else ""

    async def rows(self, query: str) -> list[Any]:
        return await self.store.database.read(lambda one: one.execute(query).fetchall())

    async def state(self, number: int = 0) -> DelegationState | None:
        record = await DelegationLedger(self.store.database).find((INCOMING, number))
        return None if record is None else record.state

    async def ended(self) -> bool:
        """Whether it is written down how the first one ended, and counted, which comes after."""
        unfinished = await self.state() in (DelegationState.ACCEPTED, DelegationState.SETTLING)
        totals = await DelegationLedger(self.store.database).totals()
        return not unfinished and self.desk.totals == totals

    async def at_stake(self) -> int:
        return (await self.store.payments.spending(time.time(), Purpose.FORWARD)).hour_msat


@asynccontextmanager
async def opened(path: Path, **changes: Any) -> AsyncIterator[Case]:
    store = await Store.open(path / "agent.sqlite")
    payer, observer, node = BookPayer(store), StillObserver(), NodeBook()
    payer.gate.set()
    arguments: dict[str, Any] = {"section": SECTION} | changes
    desk = DelegationDesk(
        payer=payer,
        ledger=DelegationLedger(store.database),
        node=node,
        observer=cast(Observer, observer),
        **arguments,
    )
    await desk.load()
    try:
        yield Case(desk, payer, store, observer, node)
    finally:
        await store.close()


def final(number: int = 0, *, settled: bool = True) -> HtlcEvent:
    return HtlcEvent(
        HtlcEventKind.FINAL, HtlcRole.RECEIVE, 1, INCOMING, number, 0, 0,
        failure_detail="" if settled else "failed",
    )  # fmt: skip


async def ended(case: Case) -> None:
    task = asyncio.ensure_future(case.desk.run())
    async with asyncio.timeout(10.0):
        while not await case.ended():  # noqa: ASYNC110 - a task does it
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_taken_on_is_paid_with_what_is_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as case:
        assert await case.answer(left_to_us()) == SettleHtlc(PREIMAGE)
        (order,) = case.payer.orders
        assert order.invoice.destination == END
        assert (order.invoice.amount_msat, order.max_fee_msat) == (AMOUNT, BUDGET - MARGIN)
        assert order.latest_expiry == HEIGHT + 300 - SECTION.time_lock_delta
        assert order.avoided == {INCOMING}
        assert order.excluded == {BEFORE}
        assert (order.passed, order.hop_limit) == ((OWN,), SECTION.max_hops)
        assert [relay.key for relay in order.relays] == [FRIEND]
        # Until its money has come in, what was paid for it is at stake.
        assert await case.state() is DelegationState.SETTLING
        assert await case.at_stake() == AMOUNT + FEE
        case.desk.on_event(final())
        await ended(case)
        assert await case.state() is DelegationState.SETTLED
        assert await case.at_stake() == 0
        assert case.observer.counted == (1, BUDGET - FEE)


async def test_others_are_left_to_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as case:
        htlc = left_to_us()
        assert case.desk.decide(replace(htlc, outgoing_scid=5)) is None
        assert case.desk.decide(replace(htlc, custom_records={})) is None


async def test_each_refusal_has_its_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as case:
        for error, htlc in (
            ("MALFORMED", left_to_us(b"x" * 200)),
            ("LOOP", left_to_us(replace(TOLD, passed=(BEFORE, OWN)))),
            ("LOOP", left_to_us(replace(TOLD, destination=OWN))),
            ("TOO_LARGE", left_to_us(replace(TOLD, amount_msat=50_000_001), amount=10**8)),
            ("UNDERPAID", left_to_us(amount=AMOUNT + BUDGET - 1)),
            ("FEE_TOO_LOW", left_to_us(replace(TOLD, fee_budget_msat=0), amount=AMOUNT + 1_499)),
            ("TOO_LATE", left_to_us(expiry=HEIGHT + 159)),
            ("FORGED_QUOTE", left_to_us(replace(TOLD, quote=QuoteSeal(2**31, bytes(16))))),
            (
                "LIMIT",
                left_to_us(replace(TOLD, amount_msat=4_000_000), amount=4_000_000 + BUDGET),
            ),
        ):
            assert await case.refused(htlc) == error
            assert await case.state() is None
        assert await case.rows("SELECT * FROM payments") == []
        assert set(DelegationRefusal.__members__) - {"KNOWN_HASH", "BUSY"} == {
            name for (name,) in await case.rows("SELECT error FROM delegation_refusals")
        }


async def test_a_hash_is_paid_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as case:
        case.payer.gate.clear()
        first = asyncio.ensure_future(case.answer(left_to_us()))
        await case.payer.asked.wait()
        assert await case.refused(left_to_us(number=1)) == "KNOWN_HASH"
        case.payer.gate.set()
        assert await first == SettleHtlc(PREIMAGE)
        assert await case.refused(left_to_us(number=2)) == "KNOWN_HASH"
        assert len(case.payer.orders) == 1


async def test_what_failed_may_be_asked_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as case:
        case.payer.arrives = False
        assert await case.answer(left_to_us()) == FailHtlc()
        assert await case.state() is DelegationState.FAILED
        assert await case.at_stake() == 0
        case.payer.arrives = True
        other = replace(TOLD, amount_msat=AMOUNT + 1)
        assert await case.answer(left_to_us(other, number=1, amount=AMOUNT + 1 + BUDGET)) == (
            SettleHtlc(PREIMAGE)
        )
        # The first one is gone, whatever became of the second.
        assert await case.answer(left_to_us()) == FailHtlc()


async def test_own_payments_are_not_mixed_up_with_those_of_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as case:
        order = await case.desk._order(left_to_us(), TOLD.to_bytes())
        await case.store.payments.reserve(
            order.invoice, max_fee_msat=0, purpose=Purpose.PAYMENT, limits=LIMITS, now=time.time()
        )
        assert await case.refused(left_to_us()) == "KNOWN_HASH"
        assert await case.state() is None


@pytest.mark.parametrize("arrives", [True, False])
async def test_one_that_is_offered_again_gets_its_end_and_is_not_paid_again(
    tmp_path: Path, arrives: bool
) -> None:
    async with opened(tmp_path) as case:
        case.payer.gate.clear()
        killed = asyncio.ensure_future(case.answer(left_to_us()))
        await case.payer.asked.wait()
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)
    async with opened(tmp_path) as case:
        case.payer.arrives = arrives
        wanted = SettleHtlc(PREIMAGE) if arrives else FailHtlc()
        for _ in range(2):
            assert await case.answer(left_to_us()) == wanted
        assert case.payer.orders == []


async def test_a_store_that_fails_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as case:
        case.payer.dies = True
        assert await case.answer(left_to_us()) == SettleHtlc(PREIMAGE)
        assert len(case.payer.orders) == 1


async def test_what_was_paid_and_went_back_is_lost_and_stays_spent(tmp_path: Path) -> None:
    async with opened(tmp_path) as case:
        assert await case.answer(left_to_us()) == SettleHtlc(PREIMAGE)
        case.desk.on_event(final(settled=False))
        await ended(case)
        assert await case.state() is DelegationState.LOST
        assert (case.desk.totals.lost, case.desk.totals.lost_msat) == (1, AMOUNT + FEE)
        assert await case.at_stake() == AMOUNT + FEE
        # What may be lost in an hour is bounded: the next one does not fit any more.
        next_one = replace(TOLD, amount_msat=1_500_000)
        htlc = left_to_us(next_one, number=1, amount=1_510_000, payment_hash=OTHER_HASH)
        assert await case.refused(htlc) == "LIMIT"


async def test_ends_that_no_event_told_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, clock=lambda: time.time() + 60.0) as case:
        case.observer.arriving = frozenset({0})
        monkeypatch.setattr(DelegationDesk, "on_event", lambda *_: None)
        old = time.time() - 120.0
        assert await case.answer(left_to_us()) == SettleHtlc(PREIMAGE)
        await case.store.database.write(
            lambda one: one.execute("UPDATE delegations SET at = ?", (old,))
        )
        await case.desk.look()
        assert await case.state() is DelegationState.SETTLING
        case.observer.arriving = frozenset()
        await case.desk.look()
        assert await case.state() is DelegationState.SETTLED


@asynccontextmanager
async def died_after_it_told_the_preimage(path: Path) -> AsyncIterator[Case]:
    """An agent that starts again, and whose HTLC is in its channel no more."""
    async with opened(path) as case:
        assert await case.answer(left_to_us()) == SettleHtlc(PREIMAGE)
    async with opened(path) as case:
        yield case


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("settled", [True, False])
async def test_what_ended_while_it_was_away_is_as_the_node_tells(
    tmp_path: Path, settled: bool, closed: bool
) -> None:
    async with died_after_it_told_the_preimage(tmp_path) as case:
        case.observer.closed, case.node.told = closed, settled
        await case.desk.look()
        if settled:
            assert await case.state() is DelegationState.SETTLED
            assert await case.at_stake() == 0
            assert case.desk.totals.earned_msat == BUDGET - FEE
        else:
            assert await case.state() is DelegationState.LOST
            assert await case.at_stake() == AMOUNT + FEE
            assert case.desk.totals.lost_msat == AMOUNT + FEE


@pytest.mark.parametrize("error", [None, PermissionRefusedError("permission denied")])
@pytest.mark.parametrize(
    ("after_expiry", "closed", "state"),
    [
        # The node gives nothing back so early: only the preimage ends it.
        (-20, False, DelegationState.SETTLED),
        (-20, True, DelegationState.SETTLING),
        # From here on it may have done so.
        (-19, False, DelegationState.SETTLING),
        (1_007, False, DelegationState.SETTLING),
        (1_007, True, DelegationState.SETTLING),
        (1_008, False, DelegationState.LOST),
        (1_008, True, DelegationState.LOST),
    ],
)
async def test_what_nobody_tells_counts_as_settled_only_if_it_must_be(
    tmp_path: Path,
    after_expiry: int,
    closed: bool,
    state: DelegationState,
    error: LndError | None,
) -> None:
    async with died_after_it_told_the_preimage(tmp_path) as case:
        case.node.error = error
        case.observer.closed, case.observer.at = closed, HEIGHT + 300 + after_expiry
        await case.desk.look()
        assert await case.state() is state
        assert await case.at_stake() == (0 if state is DelegationState.SETTLED else AMOUNT + FEE)


async def test_a_quote_holds_until_it_expires(tmp_path: Path) -> None:
    now = int(time.time())
    for expires_at, error in ((now + 60, ""), (now - 1, "FEE_TOO_LOW")):
        quoted = replace(TOLD, fee_budget_msat=MARGIN - 1, quote=QuoteSeal(expires_at, bytes(16)))
        path = tmp_path / str(expires_at)
        path.mkdir()
        async with opened(path, quotes=OneQuote(quoted)) as case:
            htlc = left_to_us(quoted, amount=AMOUNT + MARGIN - 1)
            if error:
                assert await case.refused(htlc) == error
            else:
                assert await case.answer(htlc) == SettleHtlc(PREIMAGE)
                # All of the quoted fee may go to the way: the price was promised.
                assert case.payer.orders[0].max_fee_msat == MARGIN - 1


async def test_what_is_kept_for_holders_is_left_to_them(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def leaves_enough(scid: int, amount: int) -> bool:
        asked.append((scid, amount))
        return scid != RIGHT

    async with opened(tmp_path, leaves_enough=leaves_enough) as case:
        assert await case.answer(left_to_us()) == SettleHtlc(PREIMAGE)
        assert case.payer.orders[0].avoided == {INCOMING, RIGHT}
        assert (RIGHT, AMOUNT + BUDGET) in asked


async def test_no_more_than_so_many_at_a_time(tmp_path: Path) -> None:
    section = SECTION.model_copy(update={"max_under_way": 1})
    async with opened(tmp_path, section=section) as case:
        case.payer.gate.clear()
        first = asyncio.ensure_future(case.answer(left_to_us()))
        await case.payer.asked.wait()
        assert await case.refused(left_to_us(number=1, payment_hash=OTHER_HASH)) == "BUSY"
        case.payer.gate.set()
        assert await first == SettleHtlc(PREIMAGE)


@given(amount=st.integers(1, 10**15), base=st.integers(0, 10**6), ppm=st.integers(0, 10**6))
def test_a_margin_is_never_less_than_its_share(amount: int, base: int, ppm: int) -> None:
    terms = DelegationSection(base_fee_msat=base, fee_rate_ppm=ppm).terms()
    margin = terms.margin_msat(amount) - base
    assert 0 <= margin * 1_000_000 - amount * ppm < 1_000_000
