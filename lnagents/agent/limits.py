"""The hard limits that sit below the actor: no decision, however bad, gets past them.

Money limits count what settled and what is reserved for payments under way; `PaymentLedger.reserve`
checks and reserves in one transaction. A budget of an hour covers at least the last 60 minutes: it
is counted in whole minutes, the first of which may reach back up to 60 s further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from lnagents.agent.config import FeesSection, LimitsSection
from lnagents.model.errors import LimitExceededError
from lnagents.model.graph import ChannelPolicy
from lnagents.model.units import Msat, format_msat
from lnagents.model.view import ChannelDecision

SMALL_PAYMENT_MSAT = 1_000_000
"""Up to this amount LND allows fees of 100 % (`lnwallet.DefaultRoutingFeeLimitForAmount`)."""

HOUR_MINUTES = 60
DAY_MINUTES = 24 * 60


class Purpose(str, Enum):
    """What a payment is for."""

    PAYMENT = "payment"
    HINT = "hint"
    FORWARD = "forward"
    """Paid onward for another, whose HTLC brings the money back."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What left in some time, and what may still leave for payments under way, in msat."""

    hour_msat: Msat
    day_msat: Msat


def fee_limit(limits: LimitsSection, amount_msat: Msat, wanted_msat: Msat | None) -> Msat:
    """The most that a payment of `amount_msat` may cost in fees; `wanted_msat` only lowers it."""
    if amount_msat <= SMALL_PAYMENT_MSAT:
        allowed = min(limits.max_fee_msat, amount_msat)
    else:
        allowed = min(limits.max_fee_msat, amount_msat * limits.max_fee_ppm // 1_000_000)
    return allowed if wanted_msat is None else min(allowed, max(0, wanted_msat))


def check_payment(
    limits: LimitsSection, purpose: Purpose, cost_msat: Msat, all_: Spending, hints: Spending
) -> None:
    """See that `cost_msat`, fee limit included, fits every budget.

    Args:
        limits: the limits.
        purpose: hints have budgets of their own, besides those of all payments.
        cost_msat: amount and fee limit.
        all_: what all payments have taken.
        hints: what purchases of hints have taken of it.

    Raises:
        LimitExceededError: naming the limit.
    """
    rows: list[tuple[str, Msat, Msat]] = [
        ("per_payment_msat", limits.per_payment_msat, 0),
        ("per_hour_msat", limits.per_hour_msat, all_.hour_msat),
        ("per_day_msat", limits.per_day_msat, all_.day_msat),
    ]
    if purpose is Purpose.HINT:
        rows += [
            ("hint_per_purchase_msat", limits.hint_per_purchase_msat, 0),
            ("hint_per_hour_msat", limits.hint_per_hour_msat, hints.hour_msat),
            ("hint_per_day_msat", limits.hint_per_day_msat, hints.day_msat),
        ]
    for name, limit, used in rows:
        if used + cost_msat > limit:
            taken = f", {format_msat(used)} of it are taken" if used else ""
            raise LimitExceededError(
                f"{format_msat(cost_msat)} with fees exceed limits.{name}"
                f" of {format_msat(limit)}{taken}"
            )


@dataclass(frozen=True, slots=True)
class FeeRequest:
    """What an actor wants for one channel."""

    channel_point: str
    policy: ChannelPolicy
    """As it is now."""
    decision: ChannelDecision


@dataclass(frozen=True, slots=True)
class FeeVerdict:
    """What the limits make of a request."""

    policy: ChannelPolicy | None
    """To be set; None: leave it."""
    reason: str
    """Why not, or what was cut down; empty if the request passed as it was."""


def clamp(fees: FeesSection, policy: ChannelPolicy) -> ChannelPolicy:
    """`policy` with its fees brought within the bounds.

    Inbound fees may be discounts only: LND nodes refuse positive ones unless told otherwise
    (`accept-positive-inbound-fees`).
    """
    return replace(
        policy,
        fee_rate_ppm=min(fees.max_ppm, max(fees.min_ppm, policy.fee_rate_ppm)),
        base_fee_msat=min(fees.max_base_msat, max(fees.min_base_msat, policy.base_fee_msat)),
        inbound_fee_rate_ppm=min(
            0, max(-fees.max_inbound_discount_ppm, policy.inbound_fee_rate_ppm)
        ),
        inbound_base_fee_msat=min(0, policy.inbound_base_fee_msat)
        if fees.max_inbound_discount_ppm
        else 0,
    )


def judge_fees(
    fees: FeesSection, requests: Sequence[FeeRequest], recent: Sequence[str]
) -> list[FeeVerdict]:
    """What of `requests` may be done.

    `recent` has the channel point of each update of the last hour. Larger changes come first when
    the hour's updates do not suffice for all.
    """
    left = fees.max_updates_per_hour - len(recent)
    verdicts: dict[int, FeeVerdict] = {}
    order = sorted(range(len(requests)), key=lambda index: -_size(requests[index]))
    used = {request.channel_point: recent.count(request.channel_point) for request in requests}
    for index in order:
        request = requests[index]
        wanted = _wanted(request)
        target = clamp(fees, wanted)
        if _same_fees(target, request.policy):
            verdicts[index] = FeeVerdict(None, "the fee bounds leave nothing to change")
        elif used[request.channel_point] >= fees.max_updates_per_hour_per_channel:
            limit = f"fees.max_updates_per_hour_per_channel of {used[request.channel_point]}"
            verdicts[index] = FeeVerdict(None, f"{limit} is reached")
        elif left <= 0:
            limit = f"fees.max_updates_per_hour of {fees.max_updates_per_hour}"
            verdicts[index] = FeeVerdict(None, f"{limit} is reached")
        else:
            left -= 1
            used[request.channel_point] += 1
            cut = "" if _same_fees(target, wanted) else "cut down to the fee bounds"
            verdicts[index] = FeeVerdict(target, cut)
    return [verdicts[index] for index in range(len(requests))]


def _wanted(request: FeeRequest) -> ChannelPolicy:
    policy, decision = request.policy, request.decision
    return replace(
        policy,
        fee_rate_ppm=policy.fee_rate_ppm
        if decision.fee_rate_ppm is None
        else decision.fee_rate_ppm,
        base_fee_msat=policy.base_fee_msat
        if decision.base_fee_msat is None
        else decision.base_fee_msat,
        inbound_fee_rate_ppm=policy.inbound_fee_rate_ppm
        if decision.inbound_fee_rate_ppm is None
        else decision.inbound_fee_rate_ppm,
        max_htlc_msat=policy.max_htlc_msat
        if decision.max_htlc_msat is None
        else decision.max_htlc_msat,
    )


def _size(request: FeeRequest) -> float:
    wanted, policy = _wanted(request), request.policy
    return (
        abs(wanted.fee_rate_ppm - policy.fee_rate_ppm)
        + abs(wanted.inbound_fee_rate_ppm - policy.inbound_fee_rate_ppm)
        + abs(wanted.base_fee_msat - policy.base_fee_msat) / 100
    )


def _same_fees(one: ChannelPolicy, other: ChannelPolicy) -> bool:
    return (
        one.fee_rate_ppm == other.fee_rate_ppm
        and one.base_fee_msat == other.base_fee_msat
        and one.inbound_fee_rate_ppm == other.inbound_fee_rate_ppm
        and one.inbound_base_fee_msat == other.inbound_base_fee_msat
        and one.max_htlc_msat == other.max_htlc_msat
    )
