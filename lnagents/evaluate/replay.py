"""Lets a recorded live run happen again in the twin.

The twin gets the network, balances, policies and times of the recording, and nothing of what became
of the payments: their routes, outcomes and fees are its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnagents.evaluate.recording import (
    AttemptRecord,
    CaseSet,
    HtlcRecord,
    PaymentRecord,
    Recording,
    UpdateRecord,
)
from lnagents.model.errors import RecordingError
from lnagents.model.topology import Profile
from lnagents.model.units import MSAT_PER_SAT, Msat
from lnagents.testbed.settings import usual_policy
from lnagents.twin import traffic as reasons
from lnagents.twin.network import Network
from lnagents.twin.settings import (
    Estimator,
    GossipSettings,
    LatencySettings,
    SenderSettings,
    TwinSettings,
)
from lnagents.twin.simulator import Twin
from lnagents.twin.traffic import AttemptLog, Outcomes, Traffic

REASONS = {
    reasons.SETTLED: "",
    reasons.TIMEOUT: "timeout",
    reasons.NO_ROUTE: "no_route",
    reasons.ERROR: "error",
    reasons.INCORRECT_PAYMENT_DETAILS: "incorrect_payment_details",
    reasons.INSUFFICIENT_BALANCE: "insufficient_balance",
    reasons.UNRESOLVED: "in_flight",
}
"""The twin's numbers as LND's names, in lower case and without `FAILURE_REASON_`."""

_TOGETHER = (CaseSet.CONCURRENT, CaseSet.HELD)
"""Sets whose payments overlap; in the others each one begins when nothing moves any more."""


@dataclass(frozen=True, slots=True)
class ReplayedPayment:
    """What became of one payment in the twin."""

    reason: str
    """As in `PaymentRecord`."""
    fee_msat: Msat
    attempts: tuple[AttemptRecord, ...]
    tied: tuple[bool, ...]
    """Per attempt, whether another route would have been as good to LND's search."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a recording in the twin."""

    payments: tuple[ReplayedPayment, ...]
    """In the order of the recording's payments."""
    balance_msat: tuple[tuple[Msat, Msat], ...]
    """Per channel at the end, as in `EndRecord`."""
    reported_msat: tuple[tuple[Msat, Msat], ...]
    """Per channel at the end: what opener and acceptor's LND would report as theirs."""


def network_of(recording: Recording) -> Network:
    """The network as it was when the recorded run began."""
    index = {name: number for number, name in enumerate(recording.nodes)}
    channels = recording.channels
    return Network(
        names=recording.nodes,
        scids=np.array([channel.scid for channel in channels], dtype=np.int64),
        channel_nodes=np.array(
            [(index[channel.source], index[channel.target]) for channel in channels],
            dtype=np.int32,
        ).reshape(-1, 2),
        capacity=np.array([channel.capacity_msat for channel in channels], dtype=np.int64),
        opener=np.zeros(len(channels), dtype=np.int8),
        balance=np.array([channel.balance_msat for channel in channels], dtype=np.int64).reshape(
            -1, 2
        ),
        policy=np.array(
            [policy for channel in channels for policy in (channel.policy, channel.reverse_policy)],
            dtype=np.int64,
        ).reshape(2 * len(channels), -1),
    )


def settings_of(recording: Recording) -> TwinSettings:
    """LND's settings in the recorded run, from the profile and the nodes' own options.

    Raises:
        RecordingError: the nodes had different options, which a twin cannot have.
    """
    options = {node.lnd for node in recording.topology.nodes}
    if len(options) > 1:
        raise RecordingError(recording.name, "topology.nodes: the nodes' options for LND differ")
    own = dict(option.removeprefix("--").split("=", 1) for option in options.pop() if "=" in option)
    fast = recording.topology.profile is Profile.FAST
    gossip = GossipSettings() if fast else GossipSettings.mainnet()
    changes: dict[str, float | int] = {}
    if "gossip.sub-batch-delay" in own:
        changes["sub_batch_delay"] = _seconds(own["gossip.sub-batch-delay"])
    if "gossip.max-channel-update-burst" in own:
        changes["max_channel_update_burst"] = int(own["gossip.max-channel-update-burst"])
    if "gossip.channel-update-interval" in own:
        changes["channel_update_interval"] = _seconds(own["gossip.channel-update-interval"])
    bimodal = own.get("routerrpc.estimator") == "bimodal"
    # Held payments overlap, too, but nothing else moves while one begins or ends.
    instant = recording.case_set is CaseSet.HELD
    return TwinSettings(
        sender=SenderSettings(
            estimator=Estimator.BIMODAL if bimodal else Estimator.APRIORI,
            final_cltv_delta=_final_cltv_delta(recording, own),
        ),
        gossip=replace(gossip, **changes),  # type: ignore[arg-type]
        latency=LatencySettings() if instant else LatencySettings.testbed(),
        block_height=recording.block_height,
    )


def _final_cltv_delta(recording: Recording, options: Mapping[str, str]) -> int:
    """What receivers ask for in their invoices: LND's option, which testbeds set by policies."""
    if "bitcoin.timelockdelta" in options:
        return int(options["bitcoin.timelockdelta"])
    topology = recording.topology
    deltas = {usual_policy(topology, name).time_lock_delta for name in recording.nodes}
    if len(deltas) > 1:
        problem = "receivers ask for different time locks, which a twin cannot have"
        raise RecordingError(recording.name, f"topology: {problem}")
    return deltas.pop()


def _seconds(text: str) -> float:
    """Of Go's durations those that our options use."""
    units = {"ms": 0.001, "h": 3_600.0, "m": 60.0, "s": 1.0}
    unit = next(unit for unit in units if text.endswith(unit))
    return float(text.removesuffix(unit)) * units[unit]


def replay(recording: Recording, settings: TwinSettings | None = None) -> Replay:
    """Run a recording in the twin.

    Args:
        recording: what to run.
        settings: of the twin; None takes those of the recorded nodes.

    Raises:
        RecordingError: the twin cannot have the recorded nodes' settings.
    """
    twin = Twin(network_of(recording), settings or settings_of(recording))
    steps = sorted(recording.steps, key=lambda step: step.at)
    done: dict[int, ReplayedPayment] = {}
    waiting: list[tuple[int, PaymentRecord]] = []
    number = 0
    for step in steps:
        if isinstance(step, UpdateRecord):
            _run(twin, recording, waiting, done)
            twin.advance(max(0.0, step.at - twin.now))
            twin.set_policies(
                np.array([step.edge], dtype=np.int64), np.array([step.policy], dtype=np.int64)
            )
            continue
        waiting.append((number, step))
        number += 1
        if recording.case_set not in _TOGETHER:
            # Also if the twin takes longer.
            _run(twin, recording, waiting, done)
    _run(twin, recording, waiting, done)
    balances, reported = twin.balances(), twin.reported_balances().reshape(-1, 2)
    return Replay(
        payments=tuple(done[index] for index in range(number)),
        balance_msat=tuple((int(first), int(second)) for first, second in balances),
        reported_msat=tuple((int(first), int(second)) for first, second in reported),
    )


def as_replay(recording: Recording, again: Recording) -> Replay:
    """Another live run of the same case, as if it were the twin's: how far LND agrees with itself.

    Raises:
        RecordingError: it is of another case.
    """
    if recording.topology != again.topology or sorted(map(_asked, recording.payments)) != sorted(
        map(_asked, again.payments)
    ):
        raise RecordingError(again.name, f"is not the same case as {recording.name}")
    # The order in which channels were opened may differ, the pairs of nodes do not.
    channels = {(channel.source, channel.target): n for n, channel in enumerate(again.channels)}
    order = [channels[channel.source, channel.target] for channel in recording.channels]
    place = {theirs: ours for ours, theirs in enumerate(order)}

    def renumbered(attempt: AttemptRecord) -> AttemptRecord:
        hops = (
            hop._replace(edge=2 * place[hop.edge >> 1] + (hop.edge & 1)) for hop in attempt.hops
        )
        return attempt.model_copy(update={"hops": tuple(hops)})

    return Replay(
        payments=tuple(
            ReplayedPayment(
                reason=payment.reason,
                fee_msat=payment.fee_msat,
                attempts=tuple(map(renumbered, payment.attempts)),
                tied=tuple(False for _ in payment.attempts),
            )
            for payment in _in_order_of(recording.payments, again.payments)
        ),
        balance_msat=tuple(again.end.balance_msat[theirs] for theirs in order),
        reported_msat=tuple(
            (first * MSAT_PER_SAT, second * MSAT_PER_SAT)
            for first, second in (again.end.listed_sat[theirs] for theirs in order)
        ),
    )


def _asked(payment: PaymentRecord) -> tuple[str, str, Msat, Msat, int]:
    """What was asked for: nearly always another amount."""
    return (
        payment.source,
        payment.target,
        payment.amount_msat,
        payment.fee_limit_msat,
        payment.max_parts,
    )


def _in_order_of(
    payments: Sequence[PaymentRecord], others: Sequence[PaymentRecord]
) -> list[PaymentRecord]:
    """The same payments of another run, where two at once may have begun the other way round."""
    waiting: dict[tuple[str, str, Msat, Msat, int], list[PaymentRecord]] = {}
    for other in others:
        waiting.setdefault(_asked(other), []).append(other)
    return [waiting[_asked(payment)].pop(0) for payment in payments]


def _run(
    twin: Twin,
    recording: Recording,
    waiting: list[tuple[int, PaymentRecord]],
    done: dict[int, ReplayedPayment],
) -> None:
    if not waiting:
        return
    index = {name: number for number, name in enumerate(recording.nodes)}
    payments = [payment for _, payment in waiting]
    began = twin.now

    def column(values: Sequence[float], kind: type[np.generic]) -> NDArray[Any]:
        return np.array(values, dtype=kind)

    traffic = Traffic.of(
        np.maximum(0.0, column([payment.at - began for payment in payments], np.float64)),
        column([index[payment.source] for payment in payments], np.int32),
        column([index[payment.target] for payment in payments], np.int32),
        column([payment.amount_msat for payment in payments], np.int64),
        fee_limit=column([payment.fee_limit_msat for payment in payments], np.int64),
        max_parts=column([payment.max_parts for payment in payments], np.int32),
        timeout=column([payment.timeout for payment in payments], np.float64),
        hold=column([payment.hold for payment in payments], np.float64),
    )
    outcomes = twin.run(traffic, record=True)
    for position, replayed in enumerate(_replayed(outcomes, twin.log, began)):
        done[waiting[position][0]] = replayed
    waiting.clear()


def _replayed(outcomes: Outcomes, log: AttemptLog, began: float) -> list[ReplayedPayment]:
    attempts: list[list[AttemptRecord]] = [[] for _ in outcomes.reason]
    tied: list[list[bool]] = [[] for _ in outcomes.reason]
    for number, payment in enumerate(log.payment):
        hops = range(log.first_hop[number], log.first_hop[number + 1])
        attempts[payment].append(
            AttemptRecord(
                hops=tuple(
                    HtlcRecord(int(log.edge[hop]), int(log.amount[hop]), int(log.expiry[hop]))
                    for hop in hops
                ),
                code=int(log.code[number]),
                failed_at=int(log.failed_at[number]),
                started=began + float(log.started[number]),
                resolved=began + float(log.resolved[number]),
            )
        )
        tied[payment].append(bool(log.tied[number]))
    return [
        ReplayedPayment(
            reason=REASONS[int(reason)],
            fee_msat=int(outcomes.fee[index]) if reason == reasons.SETTLED else 0,
            attempts=tuple(attempts[index]),
            tied=tuple(tied[index]),
        )
        for index, reason in enumerate(outcomes.reason)
    ]
