"""Who gets through: holders of passes, and everybody else while enough stays free for them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from lnagents.agent import rooms as rooms_module
from lnagents.agent.forwarder import Decision
from lnagents.agent.pass_ledger import PassLedger
from lnagents.agent.passes import UNSEEN_SECONDS, PassDesk
from lnagents.agent.rooms import SHOWN_SECONDS, Rooms
from lnagents.agent.store import Store
from lnagents.lnd import FailHtlc, HeldHtlc, ResumeHtlc
from lnagents.market import PassRequest, PriorityPass, Sale
from lnagents.market.documents import encode_document, kind_of
from lnagents.market.passes import PASS_RECORD, Passage, pass_id, present, public_key
from lnagents.market.stubs import hint_pb2
from lnagents.model.errors import NotForSaleError
from lnagents.model.graph import LocalChannel
from lnagents.model.payment import HtlcEvent, HtlcEventKind, HtlcRole

KEY = b"\1" * 32
CAPACITY, BALANCE, SLOTS = 1_000_000, 600_000, 10
SHARE = 0.2
INCOMING, OUTGOING, TWIN = 1, 2, 3
"""Channels: TWIN leads to the same peer as OUTGOING."""
HASH = "aa" * 32


def channel(scid: int, peer: str, balance: int = BALANCE) -> LocalChannel:
    return LocalChannel(
        scid=scid,
        channel_point=f"{scid}:0",
        peer=peer,
        capacity_msat=CAPACITY,
        local_balance_msat=balance,
        remote_balance_msat=CAPACITY - balance,
        unsettled_msat=0,
        local_reserve_msat=0,
        remote_reserve_msat=0,
        commit_fee_msat=0,
        anchors_msat=0,
        initiator=True,
        active=True,
        private=False,
        pending_htlcs=0,
        max_accepted_htlcs=SLOTS,
    )


@dataclass
class Node:
    shown: list[LocalChannel] = field(
        default_factory=lambda: [channel(INCOMING, "left"), channel(OUTGOING, "right")]
    )

    asked: int = 0

    async def channels(self, *, active_only: bool = False) -> tuple[LocalChannel, ...]:
        self.asked += 1
        return tuple(self.shown)


def htlc(number: int, amount: int, records: dict[int, bytes] | None = None) -> HeldHtlc:
    return HeldHtlc(
        incoming_scid=INCOMING,
        incoming_htlc_id=number,
        incoming_amount_msat=amount + 1,
        incoming_expiry=200,
        payment_hash=HASH,
        outgoing_scid=OUTGOING,
        outgoing_amount_msat=amount,
        outgoing_expiry=160,
        custom_records=records or {},
        auto_fail_height=187,
    )


def event(kind: HtlcEventKind, number: int) -> HtlcEvent:
    return HtlcEvent(kind, HtlcRole.FORWARD, time.time_ns(), INCOMING, number, OUTGOING, number)


@dataclass
class Setting:
    node: Node
    rooms: Rooms
    desk: PassDesk
    store: Store
    ledger: PassLedger
    ticks: list[float]

    def plain(self, number: int, amount: int) -> Decision:
        return self.desk.decide(htlc(number, amount))

    async def held(self, number: int, amount: int, identity: bytes, key: bytes = KEY) -> Decision:
        use = present(key, identity, Passage(HASH, OUTGOING, amount))
        decision = self.desk.decide(htlc(number, amount, {PASS_RECORD: use.to_bytes()}))
        return await decision if isinstance(decision, Awaitable) else decision

    def asked(self, amount: int) -> PassRequest:
        return PassRequest(
            nonce=f"{amount:032x}",
            scid=OUTGOING,
            amount_msat=amount,
            seconds=60,
            buyer_key=public_key(KEY),
        )

    async def sell(self, amount: int) -> bytes:
        asked = self.asked(amount)
        until = time.time() + 60
        self.desk.reserve(asked, self.node.shown[1], until)
        document = PriorityPass(
            issuer="02" + "11" * 32,
            issued_at=time.time(),
            expires_at=until,
            sequence=1,
            scid=OUTGOING,
            amount_msat=amount,
            buyer_key=asked.buyer_key,
        )
        signed = hint_pb2.SignedDocument(
            kind=kind_of(document), payload=encode_document(document), signature="y" * 104
        ).SerializeToString(deterministic=True)
        await self.store.sales.record_sale(
            Sale(f"{amount:064x}", "token", asked.path(), 2_000, signed, time.time())
        )
        return pass_id(signed)


@pytest_asyncio.fixture(loop_scope="session")
async def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setting]:
    # Who signed is what test_documents is about.
    monkeypatch.setattr("lnagents.market.documents.envelope.signed_by", lambda *_: "02" + "11" * 32)
    store = await Store.open(tmp_path / "agent.sqlite")
    yield await make(store, Node())
    await store.close()


async def make(store: Store, node: Node) -> Setting:
    ticks = [time.monotonic()]
    rooms = Rooms(node, clock=lambda: ticks[0])
    ledger = PassLedger(store.database)
    desk = PassDesk(rooms, ledger, reserved_share=SHARE, bands=10, max_seconds=3_600)
    store.sales.on_sale = desk.on_sale
    await desk.load()
    return Setting(node, rooms, desk, store, ledger, ticks)


async def test_others_get_what_is_not_kept(setting: Setting) -> None:
    # 600,000 are free, 200,000 of them are kept.
    assert setting.plain(1, 300_000) is None
    assert setting.plain(2, 100_001) == FailHtlc()
    assert setting.plain(3, 100_000) is None
    assert setting.plain(4, 1) == FailHtlc()


async def test_what_failed_is_free_again(setting: Setting) -> None:
    assert setting.plain(1, 400_000) is None
    assert setting.plain(2, 1) == FailHtlc()
    setting.desk.on_event(event(HtlcEventKind.LINK_FAIL, 1))
    assert setting.plain(3, 400_000) is None
    # What settled is gone, whether the node shows it already or not.
    setting.desk.on_event(event(HtlcEventKind.SETTLE, 3))
    assert setting.plain(4, 1) == FailHtlc()
    setting.node.shown[1] = channel(OUTGOING, "right", BALANCE - 400_000)
    setting.ticks[0] += 0.1
    await setting.rooms.refresh()
    assert setting.rooms.free(OUTGOING) == (200_000, SLOTS)
    assert setting.plain(5, 1) == FailHtlc()


async def test_nothing_is_counted_twice(setting: Setting) -> None:
    assert setting.plain(1, 300_000) is None
    # An answer that does not show it was on its way before.
    await setting.rooms.refresh()
    assert setting.rooms.free(OUTGOING) == (300_000, SLOTS - 1)
    setting.node.shown[1] = replace(
        channel(OUTGOING, "right", BALANCE - 300_000),
        pending_htlcs=1,
        forwarded=frozenset({(INCOMING, 1)}),
    )
    await setting.rooms.refresh()
    assert setting.rooms.free(OUTGOING) == (300_000, SLOTS - 1)


async def test_what_never_shows_is_given_up(setting: Setting) -> None:
    assert setting.plain(1, 300_000) is None
    setting.ticks[0] += SHOWN_SECONDS + 0.1
    await setting.rooms.refresh()
    assert setting.rooms.free(OUTGOING) == (BALANCE, SLOTS)


async def test_what_is_free_is_kept_count_of(setting: Setting) -> None:
    """However HTLCs come, are asked about again, fail, settle and show."""
    rooms, rng = setting.rooms, random.Random(3)
    under_way: dict[int, int] = {}
    settled_msat = 0
    for number in range(400):
        step = rng.random()
        if step < 0.5 or not under_way:
            again = bool(under_way) and rng.random() < 0.1
            name = rng.choice(list(under_way)) if again else number
            amount = under_way.get(name, rng.randrange(1, 2_000))
            rooms.let_through(htlc(name, amount))
            under_way[name] = amount
        elif step < 0.95:
            name = rng.choice(list(under_way))
            amount, settled = under_way.pop(name), rng.random() < 0.5
            rooms.ended((INCOMING, name), settled=settled)
            settled_msat += amount * settled
        else:
            # What settled the node shows as gone, what is under way it does not show yet.
            setting.ticks[0] += 0.01
            balance = BALANCE - settled_msat
            setting.node.shown[1] = replace(
                channel(OUTGOING, "right", balance), max_accepted_htlcs=10_000
            )
            await rooms.refresh()
            left = balance - sum(under_way.values())
            assert rooms.free(OUTGOING) == (left, 10_000 - len(under_way))


@pytest.mark.parametrize("what", ["others", "own payments", "little left", "refused"])
async def test_the_node_is_asked_often_only_while_it_matters(
    setting: Setting, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms_module, "REFRESH_SECONDS", 0.01)
    running = asyncio.ensure_future(setting.rooms.run())
    asked = setting.node.asked
    try:
        match what:
            case "others":
                assert setting.plain(1, 200_000) is None
            case "little left":
                assert setting.plain(1, 350_000) is None
            case "refused":
                assert setting.plain(1, 500_000) == FailHtlc()
            case _:
                sent = HtlcEventKind.FORWARD, HtlcRole.SEND
                setting.desk.on_event(HtlcEvent(*sent, time.time_ns(), 0, 1, OUTGOING, 1))
        await asyncio.sleep(0.2)
        assert setting.node.asked - asked == (0 if what == "others" else 1)
    finally:
        running.cancel()


async def test_slots_are_kept_too(setting: Setting) -> None:
    for number in range(8):
        assert setting.plain(number, 1) is None
    assert setting.plain(9, 1) == FailHtlc()
    identity = await setting.sell(100_000)
    assert await setting.held(10, 1, identity) == ResumeHtlc()


async def test_a_second_channel_to_the_peer_is_no_way_around(setting: Setting) -> None:
    setting.node.shown[1] = channel(OUTGOING, "right", 50_000)
    setting.node.shown.append(channel(TWIN, "right", 250_000))
    await setting.rooms.refresh()
    # OUTGOING has no room for it, so LND would take TWIN, and with it what TWIN keeps.
    assert setting.plain(1, 60_000) == FailHtlc()
    # By neither: LND refuses by itself.
    assert setting.plain(2, 300_000) is None
    setting.node.shown[2] = channel(TWIN, "right", 300_000)
    await setting.rooms.refresh()
    assert setting.plain(3, 60_000) is None


async def test_what_asks_for_an_unknown_channel_is_left_to_the_node(setting: Setting) -> None:
    assert setting.desk.decide(replace(htlc(1, 10**9), outgoing_scid=77)) is None


async def test_a_holder_gets_through_where_others_do_not(setting: Setting) -> None:
    identity = await setting.sell(150_000)
    assert setting.plain(1, 400_000) is None
    assert setting.plain(2, 50_000) == FailHtlc()
    assert await setting.held(3, 50_000, identity) == ResumeHtlc()
    assert await setting.held(4, 50_000, identity) == FailHtlc()
    setting.desk.on_event(event(HtlcEventKind.SETTLE, 3))
    assert await setting.held(5, 100_000, identity) == ResumeHtlc()
    setting.desk.on_event(event(HtlcEventKind.SETTLE, 5))
    assert await setting.held(6, 1, identity) == FailHtlc()
    await setting.store.database.flush()
    assert await setting.ledger.refusals() == [(HASH, "UNDER_WAY"), (HASH, "USED_UP")]
    assert await setting.ledger.spent() == [(identity, 150_000)]


async def test_nonsense_is_refused_and_written_down(setting: Setting) -> None:
    identity = await setting.sell(150_000)
    huge = replace(htlc(1, 1, {PASS_RECORD: b"nonsense"}), outgoing_amount_msat=(1 << 64) - 1)
    huge = replace(huge, outgoing_scid=(1 << 64) - 1)
    assert setting.desk.decide(huge) == FailHtlc()
    assert await setting.held(2, 1, b"?" * 16) == FailHtlc()
    assert await setting.held(3, 1, identity, b"\2" * 32) == FailHtlc()
    await setting.store.database.flush()
    errors = [error for _, error in await setting.ledger.refusals()]
    assert errors == ["UNREADABLE", "UNKNOWN", "NOT_THE_HOLDER"]


async def test_a_restart_forgets_neither_sales_nor_uses(setting: Setting) -> None:
    identity = await setting.sell(150_000)
    assert await setting.held(1, 40_000, identity) == ResumeHtlc()
    setting.desk.on_event(event(HtlcEventKind.SETTLE, 1))
    assert await setting.held(2, 50_000, identity) == ResumeHtlc()
    await setting.store.database.flush()

    after = await make(setting.store, setting.node)
    # The node does not show the second any more, and nobody saw its end: it counts as settled.
    assert after.desk.promised_msat(OUTGOING) == 60_000
    with pytest.raises(NotForSaleError, match="sold out"):
        after.desk.check(after.asked(140_001), setting.node.shown[1])
    after.desk.check(after.asked(110_000), setting.node.shown[1])
    assert await after.held(3, 60_001, identity) == FailHtlc()
    assert await after.held(4, 60_000, identity) == ResumeHtlc()


async def test_a_holder_gets_through_once_its_use_is_on_disk(
    setting: Setting, tmp_path: Path
) -> None:
    identity = await setting.sell(150_000)

    def on_disk() -> list[tuple[bytes, int]]:
        with contextlib.closing(sqlite3.connect(tmp_path / "agent.sqlite")) as file:
            return file.execute("SELECT pass_id, amount_msat FROM pass_uses").fetchall()

    use = present(KEY, identity, Passage(HASH, OUTGOING, 40_000))
    decision = setting.desk.decide(htlc(1, 40_000, {PASS_RECORD: use.to_bytes()}))
    assert isinstance(decision, Awaitable)
    assert on_disk() == []
    # Meanwhile it is under way already.
    assert await setting.held(2, 1, identity) == FailHtlc()
    assert await decision == ResumeHtlc()
    # Nothing is flushed: this is what a process that is killed right now leaves behind.
    assert on_disk() == [(identity, 40_000)]
    after = await make(setting.store, setting.node)
    assert await after.held(3, 110_001, identity) == FailHtlc()


async def test_a_use_whose_end_was_not_told_ends(setting: Setting) -> None:
    identity = await setting.sell(150_000)
    assert await setting.held(1, 50_000, identity) == ResumeHtlc()
    setting.node.shown[1] = replace(setting.node.shown[1], forwarded=frozenset({(INCOMING, 1)}))
    setting.ticks[0] += UNSEEN_SECONDS + 0.1
    await setting.rooms.refresh()
    assert await setting.held(2, 50_000, identity) == FailHtlc(), "it is still under way"
    setting.node.shown[1] = channel(OUTGOING, "right")
    await setting.rooms.refresh()
    assert setting.desk.promised_msat(OUTGOING) == 100_000
    assert await setting.held(3, 50_000, identity) == ResumeHtlc()


async def test_passes_tell_no_more_of_a_balance_than_hints(setting: Setting) -> None:
    """Ten parts: 199,999 and 100,000 are the same to who asks, paying nothing."""
    for balance in (100_000, 199_999):
        shown = channel(OUTGOING, "right", balance)
        setting.desk.check(setting.asked(100_000), shown)
        with pytest.raises(NotForSaleError):
            setting.desk.check(setting.asked(100_001), shown)
    with pytest.raises(NotForSaleError):
        setting.desk.check(setting.asked(1), replace(channel(OUTGOING, "right"), active=False))
