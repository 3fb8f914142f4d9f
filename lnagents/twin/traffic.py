"""Payments to be made in the twin, and what became of them, as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnagents.twin.network import FloatArray, Int8Array, Int32Array, Int64Array

NO_LIMIT = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Payments in the order in which they start; one array element per payment."""

    at: FloatArray
    """Seconds since the run began, ascending."""
    source: Int32Array
    target: Int32Array
    amount: Int64Array
    """msat."""
    fee_limit: Int64Array
    """msat; `NO_LIMIT` for none."""
    max_parts: Int32Array
    """1: the payment is not split."""
    timeout: FloatArray
    """Seconds after which no further attempt is made (LND's `timeout_seconds`)."""
    hold: FloatArray
    """Seconds for which the receiver keeps the HTLC before it settles."""

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def of(
        cls,
        at: FloatArray,
        source: Int32Array,
        target: Int32Array,
        amount: Int64Array,
        *,
        fee_limit: Int64Array | int = NO_LIMIT,
        max_parts: Int32Array | int = 1,
        timeout: FloatArray | float = 60.0,
        hold: FloatArray | float = 0.0,
    ) -> Traffic:
        """Make the arrays from whatever broadcasts to one element per payment."""
        count = len(at)

        def column(value: object, kind: type[np.generic]) -> NDArray[np.generic]:
            return np.array(np.broadcast_to(np.asarray(value, dtype=kind), (count,)))

        return cls(
            at=column(at, np.float64),  # type: ignore[arg-type]
            source=column(source, np.int32),  # type: ignore[arg-type]
            target=column(target, np.int32),  # type: ignore[arg-type]
            amount=column(amount, np.int64),  # type: ignore[arg-type]
            fee_limit=column(fee_limit, np.int64),  # type: ignore[arg-type]
            max_parts=column(max_parts, np.int32),  # type: ignore[arg-type]
            timeout=column(timeout, np.float64),  # type: ignore[arg-type]
            hold=column(hold, np.float64),  # type: ignore[arg-type]
        )


# Why a payment failed, as LND's `PaymentFailureReason`; 0 for one that settled.
SETTLED = 0
TIMEOUT = 1
NO_ROUTE = 2
ERROR = 3
INCORRECT_PAYMENT_DETAILS = 4
INSUFFICIENT_BALANCE = 5
UNRESOLVED = 7
"""Still in flight when the run was cut off."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What became of the payments of a `Traffic`, one array element per payment."""

    reason: Int8Array
    """`SETTLED`, or why it failed."""
    fee: Int64Array
    """msat, of what settled."""
    attempts: Int32Array
    failed_attempts: Int32Array
    seconds: FloatArray
    """From the start to the final answer."""

    @property
    def settled(self) -> NDArray[np.bool_]:
        """Which payments arrived."""
        return np.equal(self.reason, SETTLED)


@dataclass(frozen=True, slots=True, eq=False)
class AttemptLog:
    """Every attempt in the order in which they were sent.

    Attempt a has the hops `first_hop[a]` to `first_hop[a + 1]`.
    """

    payment: Int32Array
    first_hop: Int64Array
    """[attempts + 1]."""
    edge: Int32Array
    """[hops]."""
    amount: Int64Array
    """[hops], msat of the HTLC on that edge."""
    expiry: Int32Array
    """[hops], absolute block height of the HTLC on that edge."""
    code: Int32Array
    """[attempts], `lnagents.model.payment.FailureCode`; 0 (reserved there) if it settled."""
    failed_at: Int32Array
    """[attempts], index on the route of the node that refused, 0 for the sender; -1: it settled."""
    started: FloatArray
    resolved: FloatArray
    """[attempts], seconds since the run began."""
    tied: NDArray[np.bool_]
    """[attempts], whether the search could as well have chosen another route at the same cost."""
