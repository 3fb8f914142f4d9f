"""The database: durable, shared commits; and what survives a process that just ends."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from lnagents.agent.database import Database
from lnagents.agent.schema import SCHEMA
from lnagents.agent.store import DecisionRecord, HintRecord, LiquidityRecord, Store
from lnagents.market.records import Purchase, PurchaseState, Sale, Seller
from lnagents.model.errors import StoreError
from lnagents.model.graph import ChannelPolicy
from lnagents.model.payment import Forward

TABLE = ("CREATE TABLE t (x INTEGER PRIMARY KEY) STRICT;",)
ALIAS_SCID = 16_000_000 << 40
"""Of a private channel: needs all 64 bits."""


@pytest_asyncio.fixture(loop_scope="session")
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "agent.sqlite")
    yield opened
    await opened.close()


async def test_a_job_that_fails_undoes_only_its_own_changes(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.sqlite")
    await database.open(TABLE)

    def insert(number: int, *, then_fail: bool) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO t VALUES (?)", (number,))
            if then_fail:
                raise ValueError(number)

        jobs.append(database.write(work))

    jobs: list[object] = []
    for number in range(20):
        insert(number, then_fail=number % 2 == 1)
    results = await asyncio.gather(*jobs, return_exceptions=True)  # type: ignore[call-overload]
    assert [isinstance(one, ValueError) for one in results] == [n % 2 == 1 for n in range(20)]
    rows = await database.read(lambda c: c.execute("SELECT x FROM t").fetchall())
    assert [row[0] for row in rows] == list(range(0, 20, 2))
    await database.close()


async def test_sqlite_errors_are_store_errors(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.sqlite")
    await database.open(TABLE)
    with pytest.raises(StoreError, match="no such table"):
        await database.write(lambda c: c.execute("INSERT INTO missing VALUES (1)"))
    await database.close()
    with pytest.raises(StoreError, match="closed"):
        await database.write(lambda c: None)


async def test_a_read_sees_what_was_batched_before_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.sqlite")
    await database.open(TABLE)
    for number in range(5):
        database.later("INSERT INTO t VALUES (?)", number)
    count = await database.read(lambda c: c.execute("SELECT count(*) FROM t").fetchone()[0])
    assert count == 5
    database.later("INSERT INTO t VALUES (?)", 5)
    await database.close()
    with sqlite3.connect(tmp_path / "d.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == 6
    connection.close()


async def test_a_newer_or_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="version 99 is newer"):
        await Store.open(path)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        await Store.open(path)


async def test_what_is_recorded_is_there_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    store = await Store.open(path)
    policy = ChannelPolicy(fee_rate_ppm=77)
    store.record_round(1, 1_000.0, "{}")
    store.record_decision(DecisionRecord(1, 4e9, "1x1x1", "applied", "ppm 1→2", "why"))
    store.record_found_policy("point:0", policy)
    store.record_found_policy("point:0", replace(policy, fee_rate_ppm=1))
    belief = LiquidityRecord(ALIAS_SCID, 1, 2, 3, 4.0)
    hint = HintRecord(ALIAS_SCID, "02aa", 5, 0.5, 1.0, 100.0)
    store.save_beliefs([belief], [hint])
    for number in range(5):
        await store.save_checkpoint(number, float(number), bytes([number]))
    await store.close()

    store = await Store.open(path)
    assert await store.found_policies() == {"point:0": policy}
    assert await store.load_beliefs(99.0) == ([belief], [hint])
    assert await store.load_beliefs(100.0) == ([belief], [])
    checkpoint = await store.last_checkpoint()
    assert checkpoint is not None
    assert (checkpoint.round, checkpoint.data) == (4, b"\x04")
    assert (await store.totals()).policy_updates == 1
    # The round is older than what is kept.
    assert await store.last_round() == 0
    await store.close()


async def test_forwards_are_counted_once(store: Store) -> None:
    forwards = [Forward(number, 1, ALIAS_SCID, 1_010, 1_000, 10) for number in (1, 2, 3)]
    await store.record_forwards(forwards[:2])
    await store.record_forwards(forwards)
    assert await store.forward_totals() == (3, 30, 3)


async def test_only_the_last_hours_fee_updates_count(store: Store) -> None:
    for at in (1_000.0, 4_000.0, 4_001.0):
        await store.reserve_fee_update("a", at)
    assert await store.recent_fee_updates(4_700.0) == ["a", "a"]


def _purchase(nonce: str, created_at: float) -> Purchase:
    seller = Seller("http://127.0.0.1:1", "02" + "ab" * 32)
    return Purchase(nonce, seller, f"/p/{nonce}", 2_000, "mac", "lnbc", f"hash{nonce}", created_at)


async def test_purchases_keep_their_state_and_their_cost(store: Store) -> None:
    book = store.purchases
    for number, nonce in enumerate("abcd"):
        await book.challenged(_purchase(nonce, 100.0 + number))
    await book.paid("b", b"preimage")
    await book.paid("c", b"preimage")
    await book.delivered("c", b"document")
    await book.failed("d", "too dear")
    unfinished = await book.unfinished()
    assert [(one.nonce, one.state) for one in unfinished] == [
        ("a", PurchaseState.CHALLENGED),
        ("b", PurchaseState.PAID),
    ]
    assert unfinished[0] == _purchase("a", 100.0)
    assert unfinished[1].preimage == b"preimage"
    assert await book.spent_msat(0.0) == 6_000
    assert await book.spent_msat(102.0) == 2_000
    # Money that was lost stays spent.
    await book.failed("b", "forged")
    assert await book.spent_msat(0.0) == 6_000
    with pytest.raises(StoreError):
        await book.paid("z", b"")


async def test_of_two_sales_for_one_payment_the_first_counts(store: Store) -> None:
    told: list[Sale] = []
    store.sales.on_sale = told.append
    first = Sale("hash", "token", "/p", 2_000, b"one", 1.0)
    second = replace(first, answer=b"two")
    recorded = await asyncio.gather(*map(store.sales.record_sale, (first, second)))
    assert recorded == [first, first]
    assert await store.sales.find_sale("hash") == first
    assert await store.sales.find_sale("other") is None
    assert told == [first]


async def test_payments_of_before_delegation_are_kept(tmp_path: Path) -> None:
    """Their table is made anew, though attempts refer to it."""
    path = tmp_path / "agent.sqlite"
    old = sqlite3.connect(path)
    old.executescript("".join(SCHEMA[:6]) + "PRAGMA user_version = 6;")
    old.execute(
        "INSERT INTO payments VALUES ('ab', 'lnbc1', 'cd', 1, 2, 'hint', 'settled', 1, x'01', '',"
        " 1.0, 2.0)"
    )
    old.execute(
        "INSERT INTO attempts VALUES (7, 'ab', '{}', 1, 0.5, '', 'settled', NULL, NULL, 1.0, 2.0)"
    )
    old.commit()
    old.close()
    store = await Store.open(path)
    await store.close()
    new = sqlite3.connect(path)
    rows = new.execute("SELECT * FROM payments JOIN attempts USING (payment_hash)").fetchall()
    assert [row[0] for row in rows] == ["ab"]
    new.execute("UPDATE payments SET purpose = 'forward'")
    assert new.execute("PRAGMA foreign_key_check").fetchall() == []
    new.commit()
    new.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(sqlite3.IntegrityError):
        new.execute("DELETE FROM payments")
    new.close()
