"""HTLCs whose way was left to this agent, in the database: each is paid onward at most once.

    accepted ──► settling ──► settled | lost
        └──────► failed | lost

`accepted` is written together with the reservation of what is paid onward (`PaymentLedger`), before
anything is sent. `settling`: the way is paid, and the node is handed the preimage. `settled`: the
HTLC's money has come in, and what was paid for it is at stake no more. `lost`: it was paid onward,
and the HTLC went back, or nobody can tell whether it did. That counts as spent for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from lnagents.agent.database import Database
from lnagents.agent.ledger import PaymentState
from lnagents.agent.limits import Purpose
from lnagents.lnd import HeldHtlc
from lnagents.market.pass_book import HtlcName
from lnagents.model.units import (
    Msat,
    PaymentHash,
    format_short_channel_id,
    parse_short_channel_id,
)

KEPT_REFUSALS = 10_000
"""The newest ones; asking for nonsense costs next to nothing, and must not fill a disk."""

MAX_INTEGER = (1 << 63) - 1
"""Of SQLite."""


class DelegationState(str, Enum):
    """Where an HTLC stands that was taken on."""

    ACCEPTED = "accepted"
    SETTLING = "settling"
    SETTLED = "settled"
    FAILED = "failed"
    LOST = "lost"


class DelegationRefusal(str, Enum):
    """Why an HTLC was not taken on."""

    MALFORMED = "what the sender wrote cannot be read"
    LOOP = "it has passed this node before"
    KNOWN_HASH = "its hash was paid, or is being paid"
    UNDERPAID = "less has arrived than its sender sent along"
    TOO_LARGE = "the amount is above what this agent forwards"
    FEE_TOO_LOW = "the fee budget does not pay for this agent"
    TOO_LATE = "it expires too soon for what comes after"
    FORGED_QUOTE = "this agent made no such quote"
    BUSY = "as many are under way as may be"
    LIMIT = "a money limit of this agent forbids it"


@dataclass(frozen=True, slots=True)
class DelegationRecord:
    """One HTLC that was taken on."""

    name: HtlcName
    payment_hash: PaymentHash
    incoming_expiry: int
    """Block at which it expires."""
    state: DelegationState
    at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class DelegationTotals:
    """What came of all that was taken on."""

    settled: int = 0
    earned_msat: Msat = 0
    """What came in beyond what was paid onward."""
    failed: int = 0
    lost: int = 0
    lost_msat: Msat = 0


class DelegationLedger:
    """The book of delegations; what is awaited is on disk when it returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def accepting(
        self, htlc: HeldHtlc, *, quoted: bool, now: float
    ) -> Callable[[sqlite3.Connection], None]:
        """Writes that `htlc` is taken on, in the transaction that reserves its payment."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO delegations VALUES (?, ?, ?, ?, ?, ?, 'accepted', ?, NULL)",
                (
                    format_short_channel_id(htlc.incoming_scid),
                    htlc.incoming_htlc_id,
                    htlc.payment_hash,
                    htlc.incoming_amount_msat,
                    htlc.incoming_expiry,
                    quoted,
                    now,
                ),
            )

        return work

    def refused(self, htlc: HeldHtlc, refusal: DelegationRefusal, reason: str, at: float) -> None:
        """`htlc` is not taken on; does not wait."""
        self._database.later(
            "INSERT INTO delegation_refusals (at, incoming_channel, incoming_htlc, payment_hash,"
            " incoming_msat, error, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
            at,
            format_short_channel_id(htlc.incoming_scid),
            htlc.incoming_htlc_id,
            htlc.payment_hash,
            min(htlc.incoming_amount_msat, MAX_INTEGER),
            refusal.name,
            reason,
        )
        self._database.later(
            "DELETE FROM delegation_refusals"
            " WHERE id <= (SELECT max(id) FROM delegation_refusals) - ?",
            KEPT_REFUSALS,
        )

    async def find(self, name: HtlcName) -> DelegationRecord | None:
        """One that was taken on."""

        def work(connection: sqlite3.Connection) -> DelegationRecord | None:
            return _find(connection, name)

        return await self._database.read(work)

    async def known(self, payment_hash: PaymentHash) -> bool:
        """Whether an HTLC of this hash was taken on, and did not fail."""

        def work(connection: sqlite3.Connection) -> bool:
            query = "SELECT 1 FROM delegations WHERE payment_hash = ? AND state != 'failed'"
            return connection.execute(query, (payment_hash,)).fetchone() is not None

        return await self._database.read(work)

    async def unfinished(self) -> tuple[DelegationRecord, ...]:
        """Those whose end is not known."""

        def work(connection: sqlite3.Connection) -> tuple[DelegationRecord, ...]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM delegations WHERE state IN ('accepted', 'settling')"  # noqa: S608 - a constant
            )
            return tuple(map(_record, rows))

        return await self._database.read(work)

    async def settling(self, name: HtlcName) -> None:
        """Its way is paid, and the node is to be told the preimage."""
        await self._set(name, DelegationState.SETTLING, None, ("accepted",))

    async def failed(self, name: HtlcName, now: float) -> None:
        """Nothing was paid onward, and it goes back."""
        await self._set(name, DelegationState.FAILED, now, ("accepted",))

    async def ended(self, name: HtlcName, *, settled: bool, now: float) -> DelegationState | None:
        """The HTLC has left its channel, `settled` or given back; its state after that.

        One that was given back while its way may still be paid stays as it is. None: it was not
        taken on.
        """

        def work(connection: sqlite3.Connection) -> DelegationState | None:
            record = _find(connection, name)
            if record is None or record.state not in _OPEN:
                return None if record is None else record.state
            payment, amount, fee, resolved_at = connection.execute(
                "SELECT state, amount_msat, fee_msat, resolved_at FROM payments"
                " WHERE payment_hash = ?",
                (record.payment_hash,),
            ).fetchone()
            paid = payment == PaymentState.SETTLED.value
            if not paid and payment != PaymentState.FAILED.value:
                return record.state
            state = DelegationState.LOST if paid else DelegationState.FAILED
            if paid and settled:
                state = DelegationState.SETTLED
                connection.execute(
                    "UPDATE spending SET msat = msat - ? WHERE minute = ? AND purpose = ?",
                    (amount + fee, int(resolved_at // 60), Purpose.FORWARD.value),
                )
            _set(connection, name, state, now)
            return state

        return await self._database.write(work)

    async def totals(self) -> DelegationTotals:
        """Over the agent's whole life."""

        def work(connection: sqlite3.Connection) -> DelegationTotals:
            row = connection.execute(
                """SELECT count(*) FILTER (WHERE d.state = 'settled'),
                    coalesce(sum(incoming_msat - amount_msat - fee_msat)
                        FILTER (WHERE d.state = 'settled'), 0),
                    count(*) FILTER (WHERE d.state = 'failed'),
                    count(*) FILTER (WHERE d.state = 'lost'),
                    coalesce(sum(amount_msat + fee_msat) FILTER (WHERE d.state = 'lost'), 0)
                FROM delegations d JOIN payments USING (payment_hash)"""
            ).fetchone()
            return DelegationTotals(*row)

        return await self._database.read(work)

    async def _set(
        self, name: HtlcName, state: DelegationState, now: float | None, before: tuple[str, ...]
    ) -> None:
        def work(connection: sqlite3.Connection) -> None:
            record = _find(connection, name)
            if record is not None and record.state.value in before:
                _set(connection, name, state, now)

        await self._database.write(work)


_OPEN = (DelegationState.ACCEPTED, DelegationState.SETTLING)
_COLUMNS = "incoming_channel, incoming_htlc, payment_hash, incoming_expiry, state, at"


def _find(connection: sqlite3.Connection, name: HtlcName) -> DelegationRecord | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM delegations"  # noqa: S608 - a constant
        " WHERE incoming_channel = ? AND incoming_htlc = ?",
        (format_short_channel_id(name[0]), name[1]),
    ).fetchone()
    return None if row is None else _record(row)


def _record(row: tuple[str, int, str, int, str, float]) -> DelegationRecord:
    channel, number, payment_hash, expiry, state, at = row
    name = parse_short_channel_id(channel), number
    return DelegationRecord(name, payment_hash, expiry, DelegationState(state), at)


def _set(
    connection: sqlite3.Connection, name: HtlcName, state: DelegationState, now: float | None
) -> None:
    connection.execute(
        "UPDATE delegations SET state = ?, resolved_at = ?"
        " WHERE incoming_channel = ? AND incoming_htlc = ?",
        (state.value, now, format_short_channel_id(name[0]), name[1]),
    )
