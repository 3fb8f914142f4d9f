"""Passes in the database: what was sold, each use, each refusal, and the keys of own passes."""

from __future__ import annotations

import sqlite3
from enum import Enum

from lnagents.agent.database import Database
from lnagents.market.pass_book import HtlcName, PassRefusal
from lnagents.market.passes import Passage
from lnagents.market.paths import PASSES_PREFIX
from lnagents.model.units import Msat, NodeKey, format_short_channel_id, parse_short_channel_id

KEPT_REFUSALS = 10_000
"""The newest ones; presenting nonsense costs next to nothing, and must not fill a disk."""

MAX_INTEGER = (1 << 63) - 1
"""Of SQLite; whoever presents a pass may name any amount."""


class PassLedger:
    """What the seller of passes keeps. Only uses and what reads wait for the disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def used(self, identity: bytes, name: HtlcName, passage: Passage, at: float) -> None:
        """HTLC `name` may be let through with a pass, as soon as this is on disk.

        Raises:
            StoreError: it cannot be written.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO pass_uses VALUES (?, ?, ?, ?, ?, ?, 'under_way')"
                " ON CONFLICT DO NOTHING",
                (
                    format_short_channel_id(name[0]),
                    name[1],
                    identity,
                    passage.payment_hash,
                    passage.amount_msat,
                    at,
                ),
            )

        await self._database.write(work)

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


class AttemptState(str, Enum):
    """What became of a use of an own pass."""

    UNDER_WAY = "under_way"
    SETTLED = "settled"
    PASSED = "passed"
    """It was let through, and failed behind the seller."""
    REFUSED = "refused"
    """By the seller itself."""
    LOST = "lost"
    """It did not reach the seller, or nobody knows."""


class OwnPassLedger:
    """What the holder of passes keeps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def secret(self, name: str, new: bytes) -> bytes:
        """The secret of this name, which is `new` from now on if there is none."""

        def work(connection: sqlite3.Connection) -> bytes:
            connection.execute(
                "INSERT INTO secrets VALUES (?, ?) ON CONFLICT DO NOTHING", (name, new)
            )
            query = "SELECT value FROM secrets WHERE name = ?"
            return bytes(connection.execute(query, (name,)).fetchone()[0])

        return await self._database.write(work)

    async def bought_since(self, since: float) -> list[tuple[str, bytes]]:
        """Path and document of each pass that was asked for at or after `since` and delivered."""

        def work(connection: sqlite3.Connection) -> list[tuple[str, bytes]]:
            query = """SELECT path, document FROM purchases
                WHERE state = 'delivered' AND created_at >= ? AND path LIKE ?"""
            return list(connection.execute(query, (since, PASSES_PREFIX + "%")))

        return await self._database.read(work)

    def presented(
        self, attempt: int, hop: int, identity: bytes, seller: NodeKey, amount_msat: Msat
    ) -> None:
        """Attempt `attempt` presents a pass to hop `hop` of its route."""
        self._database.later(
            "INSERT INTO pass_attempts VALUES (?, ?, ?, ?, ?, 'under_way')",
            attempt,
            hop,
            identity,
            seller,
            amount_msat,
        )

    def ended(self, attempt: int, hop: int, state: AttemptState) -> None:
        """What became of it."""
        self._database.later(
            "UPDATE pass_attempts SET state = ? WHERE attempt = ? AND hop = ?",
            state.value,
            attempt,
            hop,
        )

    async def spent(self) -> list[tuple[bytes, Msat]]:
        """What of each pass is, or may be, spent."""

        def work(connection: sqlite3.Connection) -> list[tuple[bytes, Msat]]:
            query = """SELECT pass_id, sum(amount_msat) FROM pass_attempts
                WHERE state IN ('settled', 'under_way') GROUP BY pass_id"""
            return list(connection.execute(query))

        return await self._database.read(work)

    async def records(self) -> list[tuple[NodeKey, int, int]]:
        """Of each seller how many uses it let through, and how many it refused."""

        def work(connection: sqlite3.Connection) -> list[tuple[NodeKey, int, int]]:
            query = """SELECT seller_key, sum(state IN ('settled', 'passed')),
                sum(state = 'refused') FROM pass_attempts GROUP BY seller_key"""
            return list(connection.execute(query))

        return await self._database.read(work)
