"""Payments in the database: each is recorded before anything is sent, and resolved once.

    requested ──► in_flight ──► settled | failed
        └───────────────────────────────► failed

`requested`: the money is reserved, no attempt was recorded. `in_flight`: at least one attempt was,
and may have reached the node. A failed payment may be requested again; a settled one never changes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from lnagents.agent.config import LimitsSection
from lnagents.agent.database import Database
from lnagents.agent.limits import DAY_MINUTES, HOUR_MINUTES, Purpose, Spending, check_payment
from lnagents.model.errors import PaymentError, StoreError
from lnagents.model.payment import AttemptFailure, Invoice, Route
from lnagents.model.units import Msat, NodeKey, PaymentHash


class PaymentState(str, Enum):
    """Where a payment stands."""

    REQUESTED = "requested"
    IN_FLIGHT = "in_flight"
    SETTLED = "settled"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing more will come of it by itself."""
        return self in (PaymentState.SETTLED, PaymentState.FAILED)


@dataclass(frozen=True, slots=True)
class PaymentRecord:
    """One payment as the agent's own book has it."""

    payment_hash: PaymentHash
    request: str
    destination: NodeKey
    amount_msat: Msat
    max_fee_msat: Msat
    purpose: Purpose
    state: PaymentState
    fee_msat: Msat
    preimage: bytes
    reason: str
    """Why it failed."""
    requested_at: float
    """Unix seconds, as the one below."""
    resolved_at: float | None
    attempts: int = 0
    failed_attempts: int = 0


_COLUMNS = """payment_hash, request, destination, amount_msat, max_fee_msat, purpose, state,
    fee_msat, preimage, reason, requested_at, resolved_at,
    (SELECT count(*) FROM attempts a WHERE a.payment_hash = p.payment_hash),
    (SELECT count(*) FROM attempts a
        WHERE a.payment_hash = p.payment_hash AND a.state = 'failed')"""


class PaymentLedger:
    """The book of payments; every method returns when its change is on disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(
        self,
        invoice: Invoice,
        *,
        max_fee_msat: Msat,
        purpose: Purpose,
        limits: LimitsSection,
        now: float,
        alongside: Callable[[sqlite3.Connection], None] | None = None,
    ) -> tuple[PaymentRecord, bool]:
        """Record the wish to pay and reserve amount and fee, or find that it was recorded before.

        A new request runs `alongside` in the same transaction.

        Returns:
            The record, and whether it is a new request. If it is not, it settled or is under way.

        Raises:
            LimitExceededError: a budget does not allow it; nothing is recorded.
            PaymentError: it is to be paid for another, and its hash is known here.
        """

        def work(connection: sqlite3.Connection) -> tuple[PaymentRecord, bool]:
            known = _find(connection, invoice.payment_hash)
            if known is not None and known.state is not PaymentState.FAILED:
                if purpose is Purpose.FORWARD:
                    raise PaymentError(f"payment {invoice.payment_hash} is known here")
                return known, False
            cost = invoice.amount_msat + max_fee_msat
            spent = _spending(connection, now, None)
            hints = _spending(connection, now, Purpose.HINT)
            check_payment(limits, purpose, cost, spent, hints)
            connection.execute(
                """INSERT INTO payments (payment_hash, request, destination, amount_msat,
                    max_fee_msat, purpose, state, requested_at)
                VALUES (?, ?, ?, ?, ?, ?, 'requested', ?)
                ON CONFLICT (payment_hash) DO UPDATE SET request = excluded.request,
                    destination = excluded.destination, amount_msat = excluded.amount_msat,
                    max_fee_msat = excluded.max_fee_msat, purpose = excluded.purpose,
                    state = 'requested', reason = '', requested_at = excluded.requested_at,
                    resolved_at = NULL""",
                (
                    invoice.payment_hash,
                    invoice.payment_request,
                    invoice.destination,
                    invoice.amount_msat,
                    max_fee_msat,
                    purpose.value,
                    now,
                ),
            )
            if alongside is not None:
                alongside(connection)
            return _existing(connection, invoice.payment_hash), True

        return await self._database.write(work)

    async def begin_attempt(
        self,
        payment_hash: PaymentHash,
        route: Route,
        *,
        probability: float,
        reason: str,
        now: float,
    ) -> int:
        """Record an attempt before it is sent; returns its number in the book.

        Raises:
            StoreError: the payment is final, or an attempt of it is still in flight.
        """

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                """UPDATE payments SET state = 'in_flight' WHERE payment_hash = ?1
                    AND state IN ('requested', 'in_flight') AND NOT EXISTS (
                        SELECT 1 FROM attempts WHERE payment_hash = ?1 AND state = 'in_flight')
                RETURNING amount_msat, max_fee_msat""",
                (payment_hash,),
            ).fetchone()
            if row is None:
                raise StoreError(f"payment {payment_hash} must not be attempted now")
            if route.amount_msat != row[0] or route.fee_msat > row[1]:
                raise StoreError(f"payment {payment_hash} has no reservation for this route")
            cursor = connection.execute(
                """INSERT INTO attempts (payment_hash, route, fee_msat, probability, reason, state,
                    started_at)
                VALUES (?, ?, ?, ?, ?, 'in_flight', ?)""",
                (payment_hash, _route_text(route), route.fee_msat, probability, reason, now),
            )
            if cursor.lastrowid is None:
                raise StoreError(f"the attempt of payment {payment_hash} got no number")
            return cursor.lastrowid

        return await self._database.write(work)

    async def fail_attempt(self, number: int, failure: AttemptFailure | None, now: float) -> None:
        """Record that an attempt failed, and why if that is known."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                """UPDATE attempts SET state = 'failed', failure_code = ?, failure_index = ?,
                    resolved_at = ? WHERE id = ? AND state = 'in_flight'""",
                (
                    failure.code if failure else None,
                    failure.source_index if failure else None,
                    now,
                    number,
                ),
            )

        await self._database.write(work)

    async def settle(
        self, payment_hash: PaymentHash, *, fee_msat: Msat, preimage: bytes, now: float
    ) -> PaymentRecord:
        """Record that the payment arrived; the money counts as spent from now on."""

        def work(connection: sqlite3.Connection) -> PaymentRecord:
            row = connection.execute(
                """UPDATE payments SET state = 'settled', fee_msat = ?, preimage = ?, reason = '',
                    resolved_at = ?
                WHERE payment_hash = ? AND state != 'settled' RETURNING amount_msat, purpose""",
                (fee_msat, preimage, now, payment_hash),
            ).fetchone()
            if row is not None:
                connection.execute(
                    "UPDATE attempts SET state = 'settled', resolved_at = ?"
                    " WHERE payment_hash = ? AND state = 'in_flight'",
                    (now, payment_hash),
                )
                connection.execute(
                    """INSERT INTO spending (minute, purpose, msat) VALUES (?, ?, ?)
                    ON CONFLICT (minute, purpose) DO UPDATE SET msat = msat + excluded.msat""",
                    (int(now // 60), row[1], row[0] + fee_msat),
                )
            return _existing(connection, payment_hash)

        return await self._database.write(work)

    async def fail(self, payment_hash: PaymentHash, *, reason: str, now: float) -> PaymentRecord:
        """Record that nothing of the payment is in flight any more, and give its money free."""

        def work(connection: sqlite3.Connection) -> PaymentRecord:
            connection.execute(
                "UPDATE payments SET state = 'failed', reason = ?, resolved_at = ?"
                " WHERE payment_hash = ? AND state IN ('requested', 'in_flight')",
                (reason, now, payment_hash),
            )
            connection.execute(
                "UPDATE attempts SET state = 'failed', resolved_at = ?"
                " WHERE payment_hash = ? AND state = 'in_flight'",
                (now, payment_hash),
            )
            return _existing(connection, payment_hash)

        return await self._database.write(work)

    async def find(self, payment_hash: PaymentHash) -> PaymentRecord | None:
        """The record of one payment."""
        return await self._database.read(lambda connection: _find(connection, payment_hash))

    async def unfinished(self) -> tuple[PaymentRecord, ...]:
        """All that are requested or in flight, oldest first."""

        def work(connection: sqlite3.Connection) -> tuple[PaymentRecord, ...]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM payments p"  # noqa: S608 - a constant
                " WHERE state IN ('requested', 'in_flight') ORDER BY requested_at"
            )
            return tuple(_record(row) for row in rows)

        return await self._database.read(work)

    async def last_attempt_at(self, payment_hash: PaymentHash) -> float:
        """When the newest attempt was recorded, Unix seconds; 0 if none was."""

        def work(connection: sqlite3.Connection) -> float:
            query = "SELECT max(started_at) FROM attempts WHERE payment_hash = ?"
            return float(connection.execute(query, (payment_hash,)).fetchone()[0] or 0.0)

        return await self._database.read(work)

    async def spending(self, now: float, purpose: Purpose | None = None) -> Spending:
        """What settled in the last hour and day, plus all that is reserved; of a purpose or all."""
        return await self._database.read(lambda connection: _spending(connection, now, purpose))


def _spending(connection: sqlite3.Connection, now: float, purpose: Purpose | None) -> Spending:
    minute = int(now // 60)
    name = purpose.value if purpose else None
    # No upper bound in time: what a clock that was set back left in the future counts, too.
    hour, day = connection.execute(
        """SELECT coalesce(sum(CASE WHEN minute >= ?1 THEN msat END), 0), coalesce(sum(msat), 0)
        FROM spending WHERE minute >= ?2 AND (?3 IS NULL OR purpose = ?3)""",
        (minute - HOUR_MINUTES, minute - DAY_MINUTES, name),
    ).fetchone()
    reserved = connection.execute(
        """SELECT coalesce(sum(amount_msat + max_fee_msat), 0) FROM payments
        WHERE state IN ('requested', 'in_flight') AND (?1 IS NULL OR purpose = ?1)""",
        (name,),
    ).fetchone()[0]
    return Spending(hour + reserved, day + reserved)


def _find(connection: sqlite3.Connection, payment_hash: PaymentHash) -> PaymentRecord | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM payments p WHERE payment_hash = ?",  # noqa: S608 - a constant
        (payment_hash,),
    ).fetchone()
    return None if row is None else _record(row)


def _existing(connection: sqlite3.Connection, payment_hash: PaymentHash) -> PaymentRecord:
    record = _find(connection, payment_hash)
    if record is None:
        raise StoreError(f"payment {payment_hash} is not in the book")
    return record


def _record(row: tuple[object, ...]) -> PaymentRecord:
    values = list(row)
    values[5] = Purpose(values[5])
    values[6] = PaymentState(values[6])
    return PaymentRecord(*values)  # type: ignore[arg-type]


def _route_text(route: Route) -> str:
    hops = [
        {
            "scid": hop.scid,
            "target": hop.target,
            "amount_msat": hop.amount_msat,
            "fee_msat": hop.fee_msat,
            "expiry": hop.expiry,
        }
        for hop in route.hops
    ]
    return json.dumps({"total_msat": route.total_amount_msat, "hops": hops})
