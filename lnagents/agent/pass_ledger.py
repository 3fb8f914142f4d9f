"""Passes in the database: what was sold, each use, each refusal, and the keys of own passes."""

from __future__ import annotations

import sqlite3

from lnagents.agent.database import Database
from lnagents.market.pass_book import HtlcName, PassRefusal
from lnagents.market.passes import Passage
from lnagents.market.paths import PASSES_PREFIX
from lnagents.model.units import Msat, format_short_channel_id, parse_short_channel_id

KEPT_REFUSALS = 10_000
"""The newest ones; presenting nonsense costs next to nothing, and must not fill a disk."""

MAX_INTEGER = (1 << 63) - 1
"""Of SQLite; whoever presents a pass may name any amount."""


class PassLedger:
    """What the seller of passes keeps. Nothing here waits, but what reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def used(self, identity: bytes, name: HtlcName, passage: Passage, at: float) -> None:
        """HTLC `name` is let through with a pass."""
        self._database.later(
            "INSERT INTO pass_uses VALUES (?, ?, ?, ?, ?, ?, 'under_way') ON CONFLICT DO NOTHING",
            format_short_channel_id(name[0]),
            name[1],
            identity,
            passage.payment_hash,
            passage.amount_msat,
            at,
        )

    def ended(self, name: HtlcName, *, settled: bool, known: bool) -> None:
        """It is over; not `known`: nobody told how."""
        self._database.later(
            "UPDATE pass_uses SET state = ? WHERE incoming_channel = ? AND incoming_htlc = ?",
            ("settled" if settled else "failed") if known else "unknown",
            format_short_channel_id(name[0]),
            name[1],
        )

    def refused(
        self,
        identity: bytes,
        name: HtlcName,
        passage: Passage,
        refusal: PassRefusal,
        at: float,
    ) -> None:
        """HTLC `name` presented what does not let it through."""
        self._database.later(
            "INSERT INTO pass_refusals (at, pass_id, incoming_channel, payment_hash, channel,"
            " amount_msat, error, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            at,
            identity,
            format_short_channel_id(name[0]),
            passage.payment_hash,
            format_short_channel_id(passage.scid),
            min(passage.amount_msat, MAX_INTEGER),
            refusal.name,
            refusal.value,
        )
        self._database.later(
            "DELETE FROM pass_refusals WHERE id <= (SELECT max(id) FROM pass_refusals) - ?",
            KEPT_REFUSALS,
        )

    async def sold_since(self, since: float) -> list[tuple[str, bytes]]:
        """Path and document of each pass that was sold at or after `since` (Unix seconds)."""

        def work(connection: sqlite3.Connection) -> list[tuple[str, bytes]]:
            query = "SELECT path, answer FROM sales WHERE sold_at >= ? AND path LIKE ?"
            return list(connection.execute(query, (since, PASSES_PREFIX + "%")))

        return await self._database.read(work)

    async def spent(self) -> list[tuple[bytes, Msat]]:
        """What of each pass is spent."""

        def work(connection: sqlite3.Connection) -> list[tuple[bytes, Msat]]:
            query = """SELECT pass_id, sum(amount_msat) FROM pass_uses
                WHERE state IN ('settled', 'unknown') GROUP BY pass_id"""
            return list(connection.execute(query))

        return await self._database.read(work)

    async def under_way(self) -> list[tuple[bytes, HtlcName, Msat]]:
        """Uses whose end was not told."""

        def work(connection: sqlite3.Connection) -> list[tuple[bytes, HtlcName, Msat]]:
            query = """SELECT pass_id, incoming_channel, incoming_htlc, amount_msat FROM pass_uses
                WHERE state = 'under_way'"""
            return [
                (identity, (parse_short_channel_id(channel), number), amount)
                for identity, channel, number, amount in connection.execute(query)
            ]

        return await self._database.read(work)

    async def refusals(self) -> list[tuple[str, str]]:
        """Payment hash and error of each refusal, oldest first."""

        def work(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            query = "SELECT payment_hash, error FROM pass_refusals ORDER BY id"
            return list(connection.execute(query))

        return await self._database.read(work)
