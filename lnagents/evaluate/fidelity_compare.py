"""Compares a recorded live run with its replay in the twin, payment by payment.

Two sides agree on a payment's
*outcome* if it settled on both, or failed on both with the same reason of LND's;
*first route* if the first attempts have the same channels, amounts and expiries (or none was made);
*sequence* if all attempts do, in the same order, and each ended alike: settled, or refused by the
same node with the same code. Then the fee is the same, too.

LND goes through a node's channels in the order of a hash map, which differs from run to run. Where
its search finds two routes of exactly the same cost, that order decides, and no model can know it.
The twin's search says so; a payment on which the sides differ from such an attempt on is a *tie*.
It and the rest of its case, whose balances it has changed, are counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lnagents.evaluate.recording import AttemptRecord, PaymentRecord, Recording
from lnagents.evaluate.replay import Replay, ReplayedPayment
from lnagents.evaluate.statistics import wilson
from lnagents.model.units import MSAT_PER_SAT


@dataclass(frozen=True, slots=True)
class PaymentComparison:
    """The two sides of one payment."""

    index: int
    """Among the recording's payments."""
    live: PaymentRecord
    twin: ReplayedPayment
    outcome: bool
    first_route: bool
    sequence: bool
    tie: bool
    """They differ from an attempt on for which the twin's search had equally good routes."""

    @property
    def differs_at(self) -> int:
        """The first attempt that differs; the number of attempts if none does."""
        return _common(self.live.attempts, self.twin.attempts)


@dataclass(frozen=True, slots=True)
class ChannelComparison:
    """One channel whose balances at the end differ; all in msat, of opener and acceptor."""

    channel: int
    live_msat: tuple[int, int]
    twin_msat: tuple[int, int]
    listed_msat: tuple[int, int]
    """What LND's ListChannels says, in whole satoshi."""
    reported_msat: tuple[int, int]
    """What the twin's nodes would report."""


@dataclass(frozen=True, slots=True)
class CaseComparison:
    """One recording against its replay."""

    recording: Recording
    payments: tuple[PaymentComparison, ...]
    channels: tuple[ChannelComparison, ...]
    """Those that differ at the end."""

    @property
    def tied_from(self) -> int:
        """Index of the first payment that a tie decided; how many payments there are if none."""
        ties = (payment.index for payment in self.payments if payment.tie)
        return next(ties, len(self.payments))

    @property
    def compared(self) -> tuple[PaymentComparison, ...]:
        """The payments before the first tie."""
        return self.payments[: self.tied_from]

    @property
    def same_sequences(self) -> bool:
        """Whether every payment of the case went the same way on both sides."""
        return all(payment.sequence for payment in self.payments)

    @property
    def first_divergence(self) -> PaymentComparison | None:
        """The first payment that went another way; those after it may differ because of it."""
        return next((payment for payment in self.payments if not payment.sequence), None)


@dataclass(slots=True)
class Agreement:
    """Counts over many payments."""

    cases: int = 0
    payments: int = 0
    """Compared ones: without ties and what came after them."""
    outcome: int = 0
    first_route: int = 0
    sequence: int = 0
    ties: int = 0
    after_ties: int = 0
    settled: int = 0
    """Of the compared ones, on the live side."""
    attempts: int = 0
    """Of the compared ones, on the live side."""
    channels_compared: int = 0
    """In cases in which all sequences agree."""
    balance_mismatches: int = 0
    """Of those channels."""

    def add(self, case: CaseComparison) -> None:
        """Count one more case."""
        self.cases += 1
        for payment in case.compared:
            self.payments += 1
            self.outcome += payment.outcome
            self.first_route += payment.first_route
            self.sequence += payment.sequence
            self.settled += payment.live.settled
            self.attempts += len(payment.live.attempts)
        if len(case.compared) < len(case.payments):
            self.ties += 1
            self.after_ties += len(case.payments) - len(case.compared) - 1
        if case.same_sequences:
            self.channels_compared += len(case.recording.channels)
            self.balance_mismatches += len(case.channels)

    def to_json(self) -> dict[str, object]:
        """For scripts: shares from 0 to 1 with their 95 % intervals, and counts."""
        document: dict[str, object] = {"cases": self.cases, "payments": self.payments}
        for name, successes in self.shares():
            document[f"{name}_agreement"] = successes / self.payments if self.payments else None
            document[f"{name}_interval"] = list(wilson(successes, self.payments))
        return document | {
            "balance_mismatches": self.balance_mismatches,
            "channels_compared": self.channels_compared,
            "ties": self.ties,
            "after_ties": self.after_ties,
            "settled": self.settled,
            "attempts": self.attempts,
        }

    def shares(self) -> tuple[tuple[str, int], ...]:
        """What is compared, and on how many payments the two sides agree."""
        return (
            ("outcome", self.outcome),
            ("first_route", self.first_route),
            ("sequence", self.sequence),
        )


def agreement(cases: Iterable[CaseComparison]) -> Agreement:
    """All cases counted together."""
    total = Agreement()
    for case in cases:
        total.add(case)
    return total


def compare(recording: Recording, replay: Replay) -> CaseComparison:
    """Lay the two sides beside each other."""
    payments = tuple(
        _compare_payment(index, live, twin)
        for index, (live, twin) in enumerate(zip(recording.payments, replay.payments, strict=True))
    )
    return CaseComparison(recording, payments, tuple(_differing(recording, replay)))


def _compare_payment(index: int, live: PaymentRecord, twin: ReplayedPayment) -> PaymentComparison:
    common = _common(live.attempts, twin.attempts)
    sequence = common == len(live.attempts) == len(twin.attempts)
    # The search that found (or would have to find) the first differing attempt.
    tied = twin.tied[common : common + 1] or (False,)
    return PaymentComparison(
        index=index,
        live=live,
        twin=twin,
        outcome=live.reason == twin.reason,
        first_route=[attempt.hops for attempt in live.attempts[:1]]
        == [attempt.hops for attempt in twin.attempts[:1]],
        sequence=sequence,
        tie=not sequence and tied[0],
    )


def _common(live: Sequence[AttemptRecord], twin: Sequence[AttemptRecord]) -> int:
    """How many attempts agree before the first that does not."""
    count = 0
    for one, other in zip(live, twin, strict=False):
        if (one.hops, one.code, one.failed_at) != (other.hops, other.code, other.failed_at):
            break
        count += 1
    return count


def _differing(recording: Recording, replay: Replay) -> Iterator[ChannelComparison]:
    end = recording.end
    for channel, (exact, listed, balance, reported) in enumerate(
        zip(
            end.balance_msat, end.listed_sat, replay.balance_msat, replay.reported_msat, strict=True
        )
    ):
        in_sat = tuple(amount // MSAT_PER_SAT for amount in reported)
        if exact != balance or listed != in_sat:
            yield ChannelComparison(
                channel,
                exact,
                balance,
                (listed[0] * MSAT_PER_SAT, listed[1] * MSAT_PER_SAT),
                reported,
            )
