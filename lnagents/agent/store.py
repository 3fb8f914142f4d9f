"""What an agent remembers, in one SQLite file: rounds, decisions, rewards, forwards, beliefs.

`Store` opens the file and holds the books: `payments` (`PaymentLedger`), `purchases` and `sales`.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lnagents.agent.database import Database
from lnagents.agent.ledger import PaymentLedger
from lnagents.agent.schema import SCHEMA
from lnagents.agent.trade import PurchaseBook, SalesBook
from lnagents.model.graph import ChannelPolicy
from lnagents.model.payment import Forward, HtlcEvent
from lnagents.model.units import Msat, NodeKey, ShortChannelId
from lnagents.model.view import RewardTerms

KEPT_CHECKPOINTS = 3
"""The newest ones; older ones are deleted."""

HOUR_SECONDS = 3_600.0

KEPT_DAYS = 30
"""After which observations, failed forwards and decisions to change nothing are forgotten."""


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision, or the decision to leave something as it is, and why."""

    round: int
    at: float
    """Unix seconds."""
    subject: str
    """What it is about: a channel's short id, a payment's hash."""
    verdict: str
    """`applied`, `dry_run`, `refused` (by a limit), `failed`, `kept`, `bought`, `skipped`."""
    change: str
    reason: str


@dataclass(frozen=True, slots=True)
class LiquidityRecord:
    """What is believed of one channel: how much of it is on the side of its smaller key."""

    scid: ShortChannelId
    low_msat: Msat
    high_msat: Msat
    capacity_msat: Msat
    at: float


@dataclass(frozen=True, slots=True)
class HintRecord:
    """What a bought hint says of one edge."""

    scid: ShortChannelId
    source: NodeKey
    amount_msat: Msat
    probability: float
    issued_at: float
    expires_at: float
    issuer: NodeKey = ""
    """Who said so; empty: it is not scored."""
    prior: float = 0.5
    """What was believed before."""
    product: str = "liquidity"
    """What it came with (`lnagents.market.Product`)."""


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A saved learner."""

    round: int
    at: float
    data: bytes


@dataclass(slots=True)
class Totals:
    """Sums over an agent's life; of forwards `Store.forward_totals` tells."""

    fees_paid_msat: Msat = 0
    payments_settled: int = 0
    payments_failed: int = 0
    attempts: int = 0
    failed_attempts: int = 0
    policy_updates: int = 0
    hints_bought: int = 0
    hint_costs_msat: Msat = 0
    hints_sold: int = 0
    hint_income_msat: Msat = 0


_TOTALS = """SELECT
    (SELECT coalesce(sum(fee_msat), 0) FROM payments WHERE state = 'settled'),
    (SELECT count(*) FROM payments WHERE state = 'settled' AND purpose = 'payment'),
    (SELECT count(*) FROM payments WHERE state = 'failed' AND purpose = 'payment'),
    (SELECT count(*) FROM attempts),
    (SELECT count(*) FROM attempts WHERE state = 'failed'),
    (SELECT count(*) FROM decisions WHERE verdict = 'applied'),
    (SELECT count(*) FROM purchases WHERE state = 'delivered'),
    (SELECT coalesce(sum(amount_msat), 0) FROM payments
        WHERE state = 'settled' AND purpose = 'hint'),
    (SELECT count(*) FROM sales),
    (SELECT coalesce(sum(price_msat), 0) FROM sales)"""


class Store:
    """An agent's database and the books in it."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        self.payments = PaymentLedger(self.database)
        self.purchases = PurchaseBook(self.database)
        self.sales = SalesBook(self.database)

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Open or create the file at `path`.

        Raises:
            StoreError: it cannot be opened, or is of a newer version.
        """
        store = cls(path)
        await store.database.open(SCHEMA)
        await store.database.write(_prune)
        return store

    async def close(self) -> None:
        """Write what is left and close the file."""
        await self.database.close()

    async def last_round(self) -> int:
        """Number of the newest round, 0 before the first."""

        def work(connection: sqlite3.Connection) -> int:
            return int(connection.execute("SELECT max(round) FROM rounds").fetchone()[0] or 0)

        return await self.database.read(work)

    def record_round(self, number: int, started_at: float, observation: str) -> None:
        """Note a round and what was observed at its beginning (JSON)."""
        self.database.later("INSERT INTO rounds VALUES (?, ?, ?)", number, started_at, observation)

    def record_decision(self, decision: DecisionRecord) -> None:
        """Note a decision or a non-decision."""
        self.database.later(
            "INSERT INTO decisions (round, at, subject, verdict, change, reason)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            decision.round,
            decision.at,
            decision.subject,
            decision.verdict,
            decision.change,
            decision.reason,
        )

    def record_reward(self, number: int, terms: RewardTerms, total: float) -> None:
        """Note a round's reward, term by term."""
        self.database.later(
            "INSERT OR REPLACE INTO rewards VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            number,
            terms.fees_earned_msat,
            terms.fees_paid_msat,
            terms.hint_costs_msat,
            terms.hint_income_msat,
            terms.failed_attempts,
            terms.network_term,
            total,
            terms.forwarded_msat,
        )

    async def record_forwards(self, forwards: Sequence[Forward]) -> None:
        """Take over settled forwards of the node's history; known ones are not counted again."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR IGNORE INTO forwards VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        one.timestamp_ns,
                        _signed(one.incoming_scid),
                        _signed(one.outgoing_scid),
                        one.incoming_amount_msat,
                        one.outgoing_amount_msat,
                        one.fee_msat,
                    )
                    for one in forwards
                ],
            )

        await self.database.write(work)

    async def forward_totals(self) -> tuple[int, Msat, int]:
        """How many forwards settled, their fees, and the time of the newest in ns (0: none)."""

        def work(connection: sqlite3.Connection) -> tuple[int, Msat, int]:
            query = """SELECT count(*), coalesce(sum(fee_msat), 0),
                coalesce(max(timestamp_ns), 0) FROM forwards"""
            count, fees, newest = connection.execute(query).fetchone()
            return count, fees, newest

        return await self.database.read(work)

    def record_failed_forward(self, event: HtlcEvent, outgoing_msat: Msat) -> None:
        """Note a forward that this node refused or that failed further on."""
        self.database.later(
            "INSERT INTO failed_forwards (timestamp_ns, incoming_scid, outgoing_scid,"
            " outgoing_msat, detail) VALUES (?, ?, ?, ?, ?)",
            event.timestamp_ns,
            _signed(event.incoming_scid),
            _signed(event.outgoing_scid),
            outgoing_msat,
            event.failure_detail,
        )

    async def found_policies(self) -> dict[str, ChannelPolicy]:
        """By channel point: what was set when the agent took the channel over."""

        def work(connection: sqlite3.Connection) -> dict[str, ChannelPolicy]:
            rows = connection.execute("SELECT channel_point, policy FROM found_policies")
            return {point: ChannelPolicy(**json.loads(policy)) for point, policy in rows}

        return await self.database.read(work)

    def record_found_policy(self, channel_point: str, policy: ChannelPolicy) -> None:
        """Note what is set on a channel that the agent takes over; the first note stays."""
        self.database.later(
            "INSERT OR IGNORE INTO found_policies VALUES (?, ?)",
            channel_point,
            json.dumps(asdict(policy)),
        )

    async def reserve_fee_update(self, channel_point: str, now: float) -> None:
        """Count an update, durably, before it is sent."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO fee_updates (at, channel_point) VALUES (?, ?)", (now, channel_point)
            )
            connection.execute("DELETE FROM fee_updates WHERE at < ?", (now - 2 * HOUR_SECONDS,))

        await self.database.write(work)

    async def recent_fee_updates(self, now: float) -> list[str]:
        """The channel point of every update of the last hour."""

        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                "SELECT channel_point FROM fee_updates WHERE at > ?", (now - HOUR_SECONDS,)
            )
            return [row[0] for row in rows]

        return await self.database.read(work)

    def save_beliefs(
        self, channels: Iterable[LiquidityRecord], hints: Iterable[HintRecord]
    ) -> None:
        """Keep what is believed of others' channels."""
        for channel in channels:
            self.database.later(
                "INSERT OR REPLACE INTO liquidity VALUES (?, ?, ?, ?, ?)",
                _signed(channel.scid),
                channel.low_msat,
                channel.high_msat,
                channel.capacity_msat,
                channel.at,
            )
        for hint in hints:
            self.database.later(
                "INSERT OR REPLACE INTO hints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                _signed(hint.scid),
                hint.source,
                hint.amount_msat,
                hint.probability,
                hint.issued_at,
                hint.expires_at,
                hint.issuer,
                hint.prior,
                hint.product,
            )

    async def load_beliefs(
        self, now: float
    ) -> tuple[Sequence[LiquidityRecord], Sequence[HintRecord]]:
        """What was believed when the agent last ran, hints that have expired left out."""

        def work(
            connection: sqlite3.Connection,
        ) -> tuple[list[LiquidityRecord], list[HintRecord]]:
            connection.execute("DELETE FROM hints WHERE expires_at <= ?", (now,))
            channels = connection.execute("SELECT * FROM liquidity").fetchall()
            hints = connection.execute("SELECT * FROM hints").fetchall()
            return (
                [LiquidityRecord(_unsigned(scid), *rest) for scid, *rest in channels],
                [HintRecord(_unsigned(scid), *rest) for scid, *rest in hints],
            )

        return await self.database.read(work)

    async def save_checkpoint(self, number: int, at: float, data: bytes) -> None:
        """Keep a learner's state; the newest few are kept."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO checkpoints (round, at, data) VALUES (?, ?, ?)", (number, at, data)
            )
            connection.execute(
                "DELETE FROM checkpoints WHERE id NOT IN"
                " (SELECT id FROM checkpoints ORDER BY id DESC LIMIT ?)",
                (KEPT_CHECKPOINTS,),
            )

        await self.database.write(work)

    async def last_checkpoint(self) -> CheckpointRecord | None:
        """The newest checkpoint."""

        def work(connection: sqlite3.Connection) -> CheckpointRecord | None:
            row = connection.execute(
                "SELECT round, at, data FROM checkpoints ORDER BY id DESC LIMIT 1"
            ).fetchone()
            return None if row is None else CheckpointRecord(*row)

        return await self.database.read(work)

    async def totals(self) -> Totals:
        """Sums over everything recorded."""
        return await self.database.read(
            lambda connection: Totals(*connection.execute(_TOTALS).fetchone())
        )


def _signed(scid: ShortChannelId) -> int:
    """SQLite's integers have 64 bits with a sign; aliases of private channels need the last one."""
    return scid - (1 << 64) if scid >= 1 << 63 else scid


def _unsigned(value: int) -> ShortChannelId:
    return value & ((1 << 64) - 1)


def _prune(connection: sqlite3.Connection) -> None:
    oldest = time.time() - KEPT_DAYS * 24 * HOUR_SECONDS
    connection.execute("DELETE FROM rounds WHERE started_at < ?", (oldest,))
    connection.execute("DELETE FROM decisions WHERE at < ? AND verdict != 'applied'", (oldest,))
    connection.execute("DELETE FROM failed_forwards WHERE timestamp_ns < ?", (int(oldest * 1e9),))
