"""Shows live run and twin beside each other, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lnagents.evaluate.fidelity_compare import CaseComparison, ChannelComparison, PaymentComparison
from lnagents.evaluate.recording import (
    AttemptRecord,
    PaymentRecord,
    Recording,
    UpdateRecord,
)
from lnagents.evaluate.replay import ReplayedPayment
from lnagents.model.units import format_msat

BEFORE, AFTER = 2, 3
"""Attempts shown around the first that differs."""

SAME, OTHER = " ", "!"
"""In front of lines that agree, and of those that do not."""


def explain_case(case: CaseComparison) -> str:
    """Everything that happened, step by step, both sides of each payment."""
    recording = case.recording
    lines = [
        f"{recording.name}: {len(recording.nodes)} nodes, {len(recording.channels)} channels,"
        f" {len(recording.payments)} payments, block {recording.block_height},"
        f" LND {recording.lnd_version}"
    ]
    payments = iter(case.payments)
    for step in recording.steps:
        if isinstance(step, UpdateRecord):
            fields = ", ".join(f"{name} {value}" for name, value in step.policy._asdict().items())
            lines.append(f"  {step.at:9.3f} s  {recording.edge_name(step.edge)} announces {fields}")
        else:
            lines += explain_payment(recording, next(payments))
    lines += [explain_channel(recording, channel) for channel in case.channels]
    if not case.channels:
        lines.append("  all balances are equal to the millisatoshi")
    return "\n".join(lines)


def explain_payment(
    recording: Recording, payment: PaymentComparison, attempts: range | None = None
) -> list[str]:
    """One payment: what was asked for, then the attempts of both sides, or those of a range."""
    live, twin = payment.live, payment.twin
    mark = SAME if payment.sequence and payment.outcome else OTHER
    asked = f"{live.source}→{live.target} {format_msat(live.amount_msat)}"
    asked += f", fee at most {format_msat(live.fee_limit_msat)}"
    if live.max_parts > 1:
        asked += f", up to {live.max_parts} parts"
    if live.hold:
        asked += f", kept for {live.hold:.2f} s"
    tie = "  (a tie)" if payment.tie else ""
    lines = [f"{mark} {live.at:9.3f} s  #{payment.index} {asked}{tie}"]
    shown = attempts or range(max(len(live.attempts), len(twin.attempts)))
    for number in range(max(len(live.attempts), len(twin.attempts))):
        if number not in shown:
            continue
        tied = number < len(twin.tied) and twin.tied[number]
        lines += _sides(
            f"attempt {number + 1}",
            _attempt(recording, live.attempts, number),
            _attempt(recording, twin.attempts, number),
            note="  (tied)" if tied else "",
        )
    return lines + _sides("result", _result(live), _result(twin))


def explain_channel(recording: Recording, channel: ChannelComparison) -> str:
    """One channel whose balances differ at the end."""
    name = recording.edge_name(2 * channel.channel)
    return (
        f"{OTHER} channel {channel.channel} ({name}) ends with {channel.live_msat} msat live,"
        f" {channel.twin_msat} in the twin; listed as {channel.listed_msat} live,"
        f" {channel.reported_msat} in the twin"
    )


def divergences(case: CaseComparison) -> Iterator[str]:
    """The first payment of a case that went another way, or balances that differ all the same.

    What comes after the first divergence may follow from it, so it is not told.
    """
    first = case.first_divergence
    if first is not None:
        at = first.differs_at
        near = range(max(0, at - BEFORE), at + AFTER)
        yield "\n".join([case.recording.name, *explain_payment(case.recording, first, near)])
    elif case.channels:
        lines = [explain_channel(case.recording, channel) for channel in case.channels]
        yield "\n".join([case.recording.name, *lines])


def _sides(what: str, live: str, twin: str, note: str = "") -> list[str]:
    if live == twin:
        return [f"{SAME}              {what}: {live}{note}"]
    return [
        f"{OTHER}              {what}, live: {live}",
        f"{OTHER}              {what}, twin: {twin}{note}",
    ]


def _attempt(recording: Recording, attempts: Sequence[AttemptRecord], number: int) -> str:
    if number >= len(attempts):
        return "no attempt"
    attempt = attempts[number]
    amounts = " ".join(f"{hop.amount_msat}@{hop.expiry}" for hop in attempt.hops)
    return f"{recording.path(attempt)} [{amounts}] {attempt.outcome()}"


def _result(payment: PaymentRecord | ReplayedPayment) -> str:
    return f"fails: {payment.reason}" if payment.reason else f"settled, fee {payment.fee_msat} msat"
