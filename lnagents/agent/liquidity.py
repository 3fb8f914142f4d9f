"""What the own node believes of other nodes' channels: how much can pass, and who refuses.

Of a channel of capacity c, the end with the smaller key has a share s, the other end c - s. Nothing
known, s is uniform over 0..c, as in Pickhardt and Richter, "Optimally Reliable & Cheap Payment
Flows on the Lightning Network" (2021). Each attempt narrows the interval that s lies in; with time
it widens again, half of the way in each half-life. A hint bounds the chance of one direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from lnagents.agent.store import HintRecord, LiquidityRecord
from lnagents.model.graph import ChannelPolicy, Edge
from lnagents.model.payment import AttemptFailure, FailureCode
from lnagents.model.units import Msat, NodeKey, ShortChannelId

HOP_RELIABILITY = 0.99
"""Chance that a hop works when its liquidity certainly suffices: nodes go offline, links flap."""

LEAST_CHANCE = 0.005
"""For what certainly does not pass; never zero, as certainty is only belief here."""

RESERVE_SHARE = 0.01
"""What an end must keep for itself, as share of the capacity (LND's default channel reserve)."""

POLICY_BLOCK_SECONDS = 60.0
"""An edge whose policy was misjudged is left alone this long, or until gossip brings another."""

NODE_BLOCK_SECONDS = 60.0
"""A node that failed as a whole is left alone this long."""

CHANNEL_BLOCK_SECONDS = 600.0
"""A channel reported as closed or its peer as gone is left alone this long."""

POLICY_FAILURES = frozenset(
    {
        FailureCode.FEE_INSUFFICIENT,
        FailureCode.INCORRECT_CLTV_EXPIRY,
        FailureCode.AMOUNT_BELOW_MINIMUM,
        FailureCode.CHANNEL_DISABLED,
        FailureCode.EXPIRY_TOO_SOON,
    }
)
"""The forwarder's policy was not what gossip said (BOLT 4, `UPDATE`)."""

CHANNEL_FAILURES = frozenset(
    {
        FailureCode.UNKNOWN_NEXT_PEER,
        FailureCode.PERMANENT_CHANNEL_FAILURE,
        FailureCode.REQUIRED_CHANNEL_FEATURE_MISSING,
    }
)

FINAL_FAILURES = frozenset(
    {
        FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS,
        FailureCode.INCORRECT_PAYMENT_AMOUNT,
        FailureCode.FINAL_INCORRECT_CLTV_EXPIRY,
        FailureCode.FINAL_INCORRECT_HTLC_AMOUNT,
        FailureCode.MPP_TIMEOUT,
    }
)
"""From the receiver itself: the payment arrived, and another route would not help."""


@dataclass(slots=True)
class _Interval:
    """Where the share of the smaller key lies, as known at a time."""

    low: float
    high: float
    capacity: Msat
    at: float

    def aged(self, now: float, half_life: float) -> _Interval:
        kept = 2.0 ** (-max(0.0, now - self.at) / half_life)
        high = self.capacity - (self.capacity - self.high) * kept
        return _Interval(self.low * kept, high, self.capacity, now)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is believed of one edge for one amount."""

    probability: float
    age_seconds: float | None
    """Of the newest observation; None: there is none."""
    hinted: bool


class Liquidity:
    """Beliefs of one node about all edges but its own."""

    def __init__(self, half_life_seconds: float) -> None:
        self.half_life_seconds = half_life_seconds
        self._intervals: dict[ShortChannelId, _Interval] = {}
        self._hints: dict[tuple[ShortChannelId, NodeKey], HintRecord] = {}
        self._lacking: dict[tuple[ShortChannelId, NodeKey], tuple[Msat, float]] = {}
        """What an edge could not carry, and when: the interval says so only but for the reserve."""
        self._refused: dict[tuple[ShortChannelId, NodeKey], tuple[ChannelPolicy | None, float]] = {}
        self._node_refused: dict[NodeKey, float] = {}
        self._changed: set[ShortChannelId] = set()
        self.on_tested: Callable[[HintRecord, bool], None] | None = None
        """Told each hint that an attempt put to the test, and whether its amount passed."""

    def bounds(self, edge: Edge, now: float) -> tuple[Msat, Msat]:
        """What certainly passes and what at most passes over `edge` in msat, as believed now."""
        interval = self._intervals.get(edge.scid)
        if interval is None:
            return 0, edge.capacity_msat
        aged = interval.aged(now, self.half_life_seconds)
        low, high = aged.low, aged.high
        if edge.source > edge.target:
            low, high = aged.capacity - aged.high, aged.capacity - aged.low
        return round(max(0.0, low)), round(max(0.0, high))

    def estimate(self, edge: Edge, amount: Msat, now: float) -> Estimate:
        """The chance that `amount` msat passes `edge`, and where that belief comes from."""
        low, high = self.bounds(edge, now)
        if amount <= low:
            chance = 1.0
        elif amount > high:
            chance = LEAST_CHANCE
        else:
            chance = max(LEAST_CHANCE, (high + 1 - amount) / (high + 1 - low))
        lacking = self._lacking.get((edge.scid, edge.source))
        if lacking is not None and amount >= lacking[0]:
            chance = min(chance, 1.0 - 2.0 ** ((lacking[1] - now) / self.half_life_seconds))
        interval = self._intervals.get(edge.scid)
        observed_at = interval.at if interval is not None else None
        hint = self._hints.get((edge.scid, edge.source))
        hinted = False
        if hint is not None and now < hint.expires_at:
            # The chance falls with the amount, so a hint about one amount bounds all others.
            if amount <= hint.amount_msat:
                chance = max(chance, hint.probability)
            if amount >= hint.amount_msat:
                chance = min(chance, hint.probability)
            hinted = True
            observed_at = max(observed_at or 0.0, hint.issued_at)
        age = None if observed_at is None else max(0.0, now - observed_at)
        return Estimate(max(LEAST_CHANCE, chance * HOP_RELIABILITY), age, hinted)

    def has_hint(self, edge: Edge, now: float) -> bool:
        """Whether a hint about `edge` is still valid."""
        hint = self._hints.get((edge.scid, edge.source))
        return hint is not None and now < hint.expires_at

    def add_hint(self, hint: HintRecord) -> None:
        """Take in a bought and verified hint."""
        self._hints[hint.scid, hint.source] = hint
        self._changed.add(hint.scid)

    def refused(self, edge: Edge, now: float) -> bool:
        """Whether `edge` is to be left alone, because of what a node on it answered."""
        if self._node_refused and (
            self._node_refused.get(edge.source, 0.0) > now
            or self._node_refused.get(edge.target, 0.0) > now
        ):
            return True
        entry = self._refused.get((edge.scid, edge.source))
        if entry is None:
            return False
        policy, until = entry
        if until <= now or (policy is not None and policy != edge.policy):
            del self._refused[edge.scid, edge.source]
            return False
        return True

    def settled(self, edges: Iterable[tuple[Edge, Msat]], now: float) -> None:
        """Learn from a payment that arrived: `edges` and what each carried, the own left out."""
        for edge, amount in edges:
            self._passes(edge, amount, now, moved=True)

    def failed(self, edges: list[tuple[Edge, Msat]], failure: AttemptFailure, now: float) -> None:
        """Learn from an attempt that failed.

        Args:
            edges: the whole route and what each edge was to carry; of the first, the own one,
                nothing is learned.
            failure: whose answer it was, and what; index i refused to use `edges[i]`.
            now: Unix seconds.
        """
        index = failure.source_index
        for edge, amount in edges[1:index]:
            self._passes(edge, amount, now, moved=False)
        if not 0 < index < len(edges):
            return
        edge, amount = edges[index]
        key = (edge.scid, edge.source)
        code = failure.code
        if code is FailureCode.TEMPORARY_CHANNEL_FAILURE:
            self._lacks(edge, amount, now)
        elif code in POLICY_FAILURES:
            self._refused[key] = (edge.policy, now + POLICY_BLOCK_SECONDS)
        elif code in CHANNEL_FAILURES:
            self._refused[key] = (None, now + CHANNEL_BLOCK_SECONDS)
        else:
            self._node_refused[edge.source] = now + NODE_BLOCK_SECONDS

    def unreadable(self, edges: list[tuple[Edge, Msat]], now: float) -> None:
        """Learn from a failure without a source: any of the forwarders may be at fault."""
        for edge, _ in edges[1:]:
            self._refused[edge.scid, edge.source] = (None, now + POLICY_BLOCK_SECONDS)

    def load(self, channels: Iterable[LiquidityRecord], hints: Iterable[HintRecord]) -> None:
        """Take over what was believed before a restart."""
        for one in channels:
            self._intervals[one.scid] = _Interval(
                one.low_msat, one.high_msat, one.capacity_msat, one.at
            )
        for hint in hints:
            self._hints[hint.scid, hint.source] = hint

    def take_changes(self) -> tuple[list[LiquidityRecord], list[HintRecord]]:
        """What has changed since the last call, to be stored."""
        changed, self._changed = self._changed, set()
        channels = [
            LiquidityRecord(scid, round(one.low), round(one.high), one.capacity, one.at)
            for scid in changed
            if (one := self._intervals.get(scid)) is not None
        ]
        hints = [hint for hint in self._hints.values() if hint.scid in changed]
        return channels, hints

    def _now(self, edge: Edge, now: float) -> _Interval:
        interval = self._intervals.get(edge.scid)
        if interval is None:
            interval = _Interval(0.0, edge.capacity_msat, edge.capacity_msat, now)
        else:
            interval = interval.aged(now, self.half_life_seconds)
        self._intervals[edge.scid] = interval
        self._changed.add(edge.scid)
        # What is seen for oneself is newer than any hint, which has done its work.
        hint = self._hints.get((edge.scid, edge.source))
        if hint is not None:
            self._hints[edge.scid, edge.source] = replace(hint, expires_at=now)
        return interval

    def _test_hint(self, edge: Edge, amount: Msat, now: float, *, passed: bool) -> None:
        hint = self._hints.get((edge.scid, edge.source))
        if hint is None or now >= hint.expires_at or self.on_tested is None:
            return
        # More that passes, or less that does not, says what became of the hint's own amount.
        if amount >= hint.amount_msat if passed else amount <= hint.amount_msat:
            self.on_tested(hint, passed)

    def _passes(self, edge: Edge, amount: Msat, now: float, *, moved: bool) -> None:
        """`edge` could carry `amount`; if the payment settled, it has moved to the other side."""
        self._test_hint(edge, amount, now, passed=True)
        self._was_lacking(edge, amount, moved=moved)
        interval = self._now(edge, now)
        capacity = interval.capacity
        if edge.source < edge.target:
            interval.low = min(capacity, max(interval.low, amount))
            interval.high = max(interval.high, interval.low)
            shift = -amount
        else:
            interval.high = max(0.0, min(interval.high, capacity - amount))
            interval.low = min(interval.low, interval.high)
            shift = amount
        if moved:
            interval.low = min(capacity, max(0.0, interval.low + shift))
            interval.high = min(capacity, max(0.0, interval.high + shift))

    def _was_lacking(self, edge: Edge, amount: Msat, *, moved: bool) -> None:
        """Correct what the ends of `edge` are known to lack by `amount` that could pass."""
        there, back = (edge.scid, edge.source), (edge.scid, edge.target)
        lacking = self._lacking.get(there)
        if lacking is not None and amount >= lacking[0]:
            del self._lacking[there]
        elif lacking is not None and moved:
            self._lacking[there] = lacking[0] - amount, lacking[1]
        if moved and back in self._lacking:
            self._lacking[back] = self._lacking[back][0] + amount, self._lacking[back][1]

    def _lacks(self, edge: Edge, amount: Msat, now: float) -> None:
        """`edge` could not carry `amount`: its end has less, not counting the reserve it keeps."""
        self._test_hint(edge, amount, now, passed=False)
        self._lacking[edge.scid, edge.source] = amount, now
        interval = self._now(edge, now)
        most = min(interval.capacity, amount - 1 + RESERVE_SHARE * interval.capacity)
        if edge.source < edge.target:
            interval.high = max(0.0, min(interval.high, float(amount - 1)))
            interval.low = min(interval.low, interval.high)
        else:
            # The other end's share is certain only up to what this end may hold in reserve.
            interval.low = max(interval.low, interval.capacity - most)
            interval.high = max(interval.high, interval.low)
