"""Purchases and sales in the database: the market's recorder protocols, kept by SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from lnagents.agent.database import Database
from lnagents.market.records import Incident, Purchase, PurchaseState, Sale, Seller
from lnagents.model.errors import StoreError
from lnagents.model.units import Msat, NodeKey, PaymentHash


class PurchaseBook:
    """A `lnagents.market.records.PurchaseRecorder`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def challenged(self, purchase: Purchase) -> None:
        """Record a new purchase before anything is paid for it."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO purchases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    purchase.nonce,
                    purchase.seller.url,
                    purchase.seller.key,
                    purchase.path,
                    purchase.price_msat,
                    purchase.macaroon,
                    purchase.payment_request,
                    purchase.payment_hash,
                    purchase.created_at,
                    purchase.state.value,
                    purchase.preimage,
                    purchase.document,
                    purchase.reason,
                ),
            )

        await self._database.write(work)

    async def paid(self, nonce: str, preimage: bytes) -> None:
        """Record that it was paid."""
        await self._update(
            "UPDATE purchases SET state = 'paid', preimage = ? WHERE nonce = ?", preimage, nonce
        )

    async def delivered(self, nonce: str, document: bytes) -> None:
        """Record the verified document."""
        await self._update(
            "UPDATE purchases SET state = 'delivered', document = ? WHERE nonce = ?",
            document,
            nonce,
        )

    async def failed(self, nonce: str, reason: str) -> None:
        """Record that nothing will come of it."""
        await self._update(
            "UPDATE purchases SET state = 'failed', reason = ? WHERE nonce = ?", reason, nonce
        )

    async def incident(self, incident: Incident) -> None:
        """Record what went wrong."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO incidents (at, seller_key, path, error, reason)"
                " VALUES (?, ?, ?, ?, ?)",
                (incident.at, incident.seller, incident.path, incident.error, incident.reason),
            )

        await self._database.write(work)

    async def incidents(self) -> tuple[Incident, ...]:
        """All that went wrong, oldest first."""

        def work(connection: sqlite3.Connection) -> tuple[Incident, ...]:
            query = "SELECT at, seller_key, path, error, reason FROM incidents ORDER BY id"
            return tuple(Incident(*row) for row in connection.execute(query))

        return await self._database.read(work)

    async def find(self, nonce: str) -> Purchase:
        """The purchase with this nonce.

        Raises:
            StoreError: there is none.
        """

        def work(connection: sqlite3.Connection) -> Purchase:
            query = "SELECT * FROM purchases WHERE nonce = ?"
            row = connection.execute(query, (nonce,)).fetchone()
            if row is None:
                raise StoreError(f"purchase {nonce} is not in the book")
            return _purchase(row)

        return await self._database.read(work)

    async def of_question(self, seller: NodeKey, scope: str) -> tuple[Purchase, ...]:
        """All purchases of one seller's answer to one question, newest first.

        Args:
            seller: the seller's key.
            scope: of the question, a path without the nonce (`Request.scope`).
        """

        def work(connection: sqlite3.Connection) -> tuple[Purchase, ...]:
            rows = connection.execute(
                """SELECT * FROM purchases WHERE seller_key = ?1
                    AND substr(path, 1, length(?2)) = ?2 ORDER BY created_at DESC""",
                (seller, f"{scope}/"),
            )
            return tuple(_purchase(row) for row in rows)

        return await self._database.read(work)

    async def unfinished(self) -> tuple[Purchase, ...]:
        """All that are challenged or paid, oldest first."""

        def work(connection: sqlite3.Connection) -> tuple[Purchase, ...]:
            rows = connection.execute(
                "SELECT * FROM purchases WHERE state IN ('challenged', 'paid') ORDER BY created_at"
            )
            return tuple(_purchase(row) for row in rows)

        return await self._database.read(work)

    async def spent_msat(self, since: float, seller: NodeKey | None = None) -> Msat:
        """Prices of all, or of one seller's, that were created since and are or may be paid."""

        def work(connection: sqlite3.Connection) -> Msat:
            query = """SELECT coalesce(sum(price_msat), 0) FROM purchases
                WHERE created_at >= ?1 AND NOT (state = 'failed' AND preimage = x'')
                AND (?2 IS NULL OR seller_key = ?2)"""
            return int(connection.execute(query, (since, seller)).fetchone()[0])

        return await self._database.read(work)

    async def _update(self, statement: str, *parameters: object) -> None:
        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(statement, parameters).rowcount != 1:
                raise StoreError(f"purchase {parameters[-1]} is not in the book")

        await self._database.write(work)


class SalesBook:
    """A `lnagents.market.records.SalesRecorder`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.on_sale: Callable[[Sale], None] | None = None
        """Told each sale once."""

    async def find_sale(self, payment_hash: PaymentHash) -> Sale | None:
        """What was sold for this payment."""
        return await self._database.read(lambda connection: _find_sale(connection, payment_hash))

    async def answers_since(self, since: float) -> tuple[bytes, ...]:
        """The documents that were sold at or after `since` (Unix seconds)."""

        def work(connection: sqlite3.Connection) -> tuple[bytes, ...]:
            rows = connection.execute("SELECT answer FROM sales WHERE sold_at >= ?", (since,))
            return tuple(row[0] for row in rows)

        return await self._database.read(work)

    async def record_sale(self, sale: Sale) -> Sale:
        """Record `sale` unless its payment hash has one; returns the one that counts."""

        def work(connection: sqlite3.Connection) -> tuple[Sale, bool]:
            cursor = connection.execute(
                "INSERT INTO sales VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    sale.payment_hash,
                    sale.token_id,
                    sale.path,
                    sale.price_msat,
                    sale.answer,
                    sale.sold_at,
                ),
            )
            found = _find_sale(connection, sale.payment_hash)
            if found is None:
                raise StoreError(f"sale {sale.payment_hash} was not recorded")
            return found, cursor.rowcount == 1

        recorded, new = await self._database.write(work)
        if new and self.on_sale is not None:
            self.on_sale(recorded)
        return recorded


def _find_sale(connection: sqlite3.Connection, payment_hash: PaymentHash) -> Sale | None:
    query = "SELECT * FROM sales WHERE payment_hash = ?"
    row = connection.execute(query, (payment_hash,)).fetchone()
    return None if row is None else Sale(*row)


def _purchase(row: tuple[str, ...]) -> Purchase:
    nonce, url, key, path, price, macaroon, request, payment_hash, created, state, *rest = row
    preimage, document, reason = rest
    return Purchase(
        nonce=nonce,
        seller=Seller(url, key),
        path=path,
        price_msat=int(price),
        macaroon=macaroon,
        payment_request=request,
        payment_hash=payment_hash,
        created_at=float(created),
        state=PurchaseState(state),
        preimage=bytes(preimage),  # type: ignore[arg-type] # a BLOB column
        document=bytes(document),  # type: ignore[arg-type] # a BLOB column
        reason=reason,
    )
