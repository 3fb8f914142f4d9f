"""What may be spent on documents: per purchase, hour, day and seller. It outlives the process."""

from __future__ import annotations

from dataclasses import dataclass

from lnagents.market.records import PurchaseRecorder
from lnagents.model.errors import LimitExceededError
from lnagents.model.units import Msat, NodeKey, format_msat

_HOUR = 3_600.0
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that is spent on documents; prices only, routing fees have their own limit."""

    max_price_msat: Msat
    """Of one document."""
    max_fee_msat: Msat
    """In routing fees, for one document."""
    per_hour_msat: Msat
    per_day_msat: Msat
    per_seller_per_day_msat: Msat | None = None
    """With one seller; None: as much as with all."""

    async def check(
        self, recorder: PurchaseRecorder, seller: NodeKey, price_msat: Msat, now: float
    ) -> None:
        """See that `price_msat` may be spent with `seller` at `now` (Unix seconds).

        Raises:
            LimitExceededError: naming the limit.
            StoreError: what was spent is not known.
        """
        price = format_msat(price_msat)
        if price_msat > self.max_price_msat:
            most = format_msat(self.max_price_msat)
            raise LimitExceededError(f"a document for {price} is dearer than {most}")
        rows: list[tuple[str, float, Msat, NodeKey | None]] = [
            ("hour", _HOUR, self.per_hour_msat, None),
            ("day", _DAY, self.per_day_msat, None),
        ]
        if self.per_seller_per_day_msat is not None:
            rows.append(("day with this seller", _DAY, self.per_seller_per_day_msat, seller))
        for name, seconds, limit, whose in rows:
            spent = await recorder.spent_msat(now - seconds, whose)
            if spent + price_msat > limit:
                raise LimitExceededError(
                    f"{format_msat(spent)} of {format_msat(limit)} for documents are spent this"
                    f" {name}, and this one costs {price}"
                )
