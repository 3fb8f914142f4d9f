"""Cases for the fidelity bench: random small networks and what happens in them, all from a seed.

They are drawn to be hard: channels from small to large and often nearly empty on one side, fees of
all sizes, inbound discounts, limits on HTLCs, long time locks, amounts from a satoshi to more than
any channel carries, tight fee limits, and the same pairs again, so that memory matters.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TypeAlias

from lnagents.evaluate.recording import CaseSet
from lnagents.model.generate import Shape, generate_topology
from lnagents.model.topology import (
    OPENER_COSTS_SAT,
    RESERVE_FRACTION,
    ChainSpec,
    ChannelSpec,
    NodeSpec,
    PolicySpec,
    Topology,
)
from lnagents.model.units import MSAT_PER_SAT, Msat
from lnagents.model.workload import Workload, draw_payments

NODES = (4, 12)
CAPACITY_SAT = (60_000, 8_000_000)
FINAL_CLTV_DELTA = 80
"""Blocks that every receiver asks for (LND's option `bitcoin.timelockdelta`)."""

RELAY_SECONDS = 3.0
"""What each relaying node of the late half of the stale cases adds (`gossip.sub-batch-delay`)."""

ARRIVALS_PER_SECOND = 8.0
"""Of payments in concurrent cases; one takes 0.1 to 0.4 s. Which HTLC comes first is then decided
by the machine: at this rate a second live run ended like the first in 99.3 % of 720 payments, at 20
a second in 95 % of 300 (`lnagents bench fidelity --set concurrent --twice`)."""

_NO_FEE_LIMIT_FACTOR = 10
_STRUCTURES = (
    (Shape.BARABASI_ALBERT, 1),
    (Shape.BARABASI_ALBERT, 2),
    (Shape.BARABASI_ALBERT, 2),
    (Shape.BARABASI_ALBERT, 3),
    (Shape.WATTS_STROGATZ, 2),
    (Shape.WATTS_STROGATZ, 2),
    (Shape.RING, 2),
    (Shape.GRID, 2),
)
_LENGTHS = {
    CaseSet.SINGLE: 60,
    CaseSet.BIMODAL: 60,
    CaseSet.MULTIPART: 16,
    CaseSet.CONCURRENT: 60,
    CaseSet.HELD: 40,
    CaseSet.STALE: 48,
}
"""Payments per case."""


@dataclass(frozen=True, slots=True)
class Pay:
    """One payment to be made."""

    source: str
    target: str
    amount_msat: Msat
    fee_limit_msat: Msat
    max_parts: int = 1
    at: float = 0.0
    """Seconds since the run began, in concurrent cases; others pay one after the other."""
    held_for: int = 0
    """How many further payments are made before the receiver lets this one settle."""


@dataclass(frozen=True, slots=True)
class Change:
    """A policy to be set: of the opener's side of a channel, or of the other."""

    channel: int
    """Index in the topology."""
    of_opener: bool
    policy: PolicySpec
    settle_seconds: float
    """How long to wait before anything else happens, so that gossip is where it should be."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing happens until so many seconds after the last change of a policy."""

    seconds: float


Act: TypeAlias = Pay | Change | Wait


@dataclass(frozen=True, slots=True)
class Case:
    """One network and what happens in it."""

    case_set: CaseSet
    seed: int
    index: int
    topology: Topology
    acts: tuple[Act, ...]

    @property
    def name(self) -> str:
        """Of drawn cases `single-1-0`: set, seed, index."""
        return self.topology.name


def draw_case(case_set: CaseSet, seed: int, index: int) -> Case:
    """The case `index` of a set; the same arguments give the same case."""
    rng = random.Random(f"{case_set.value}/{seed}/{index}")  # noqa: S311 - nothing secret
    late = case_set is CaseSet.STALE and index % 2 == 0
    topology = _draw_topology(case_set, f"{case_set.value}-{seed}-{index}", late, rng)
    if case_set is CaseSet.STALE:
        acts = _stale_acts(topology, late, rng)
    else:
        acts = _payments(case_set, topology, rng)
    return Case(case_set, seed, index, topology, tuple(acts))


def workload_case(topology: Topology, workload: Workload, count: int, seed: int) -> Case:
    """The first `count` payments of a workload, at their times."""
    acts = tuple(
        Pay(
            source=intent.source,
            target=intent.destination,
            amount_msat=intent.amount_msat,
            fee_limit_msat=intent.fee_limit_msat,
            at=intent.at_seconds,
        )
        for intent in draw_payments(workload, count, seed)
    )
    return Case(CaseSet.CONCURRENT, seed, 0, topology, acts)


def _draw_topology(case_set: CaseSet, name: str, late: bool, rng: random.Random) -> Topology:
    nodes = rng.randint(*NODES)
    if late:
        nodes = min(nodes, 7)
    shape, degree = rng.choice(_STRUCTURES)
    if shape is Shape.BARABASI_ALBERT:
        degree = min(degree, nodes - 2)
    if shape is Shape.WATTS_STROGATZ:
        degree = min(degree, (nodes - 1) // 2)
    drawn = generate_topology(shape, nodes, rng.getrandbits(32), degree=degree, rewiring=0.3)
    options = [f"--bitcoin.timelockdelta={FINAL_CLTV_DELTA}"]
    if case_set is CaseSet.BIMODAL:
        options.append("--routerrpc.estimator=bimodal")
    if late:
        options.append(f"--gossip.sub-batch-delay={RELAY_SECONDS:g}s")
    elif case_set is CaseSet.STALE:
        options += ["--gossip.max-channel-update-burst=1", "--gossip.channel-update-interval=1h"]
    accepted = {node.name: _plain_policy(rng) for node in drawn.nodes}
    channels = []
    for channel in drawn.channels:
        if case_set is CaseSet.STALE:
            # As nodes announce them when channels open: no change uses up what gossip allows.
            usual = accepted[channel.source]
            policies = (_plain_policy(rng, usual.min_htlc_msat), accepted[channel.target])
        else:
            policies = (_draw_policy(rng, channel), _draw_policy(rng, channel))
        channels.append(_draw_channel(channel, policies, rng))
    return Topology(
        name=name,
        # No block in the middle of a case.
        chain=ChainSpec(block_interval_seconds=1_000_000.0),
        nodes=tuple(
            NodeSpec(name=node.name, agent=False, lnd=tuple(options)) for node in drawn.nodes
        ),
        channels=tuple(channels),
    )


def _draw_channel(
    channel: ChannelSpec, policies: tuple[PolicySpec, PolicySpec], rng: random.Random
) -> ChannelSpec:
    capacity = _log_uniform(CAPACITY_SAT, rng)
    least = (round(capacity * RESERVE_FRACTION) + OPENER_COSTS_SAT) / capacity
    fraction = max(rng.choice((rng.random(), rng.uniform(0.3, 0.7), 1.0)), least + 0.001)
    opener, acceptor = (
        policy.model_copy(update={"max_htlc_msat": _draw_limit(capacity, policy, rng)})
        if policy.max_htlc_msat is not None
        else policy
        for policy in policies
    )
    return ChannelSpec(
        source=channel.source,
        target=channel.target,
        capacity_sat=capacity,
        local_fraction=round(min(1.0, fraction), 6),
        policy=opener,
        reverse_policy=acceptor,
    )


def _draw_limit(capacity_sat: int, policy: PolicySpec, rng: random.Random) -> Msat:
    most = capacity_sat * MSAT_PER_SAT
    return max(policy.min_htlc_msat, rng.randint(most // 10, most * 9 // 10))


def _plain_policy(rng: random.Random, min_htlc_msat: Msat = 1_000) -> PolicySpec:
    return PolicySpec(
        base_fee_msat=rng.choice((0, 1_000, rng.randint(1, 5_000))),
        fee_rate_ppm=_log_uniform((1, 5_000), rng),
        min_htlc_msat=min_htlc_msat,
        time_lock_delta=FINAL_CLTV_DELTA,
    )


def _draw_policy(rng: random.Random, channel: ChannelSpec) -> PolicySpec:
    """`max_htlc_msat` 1 stands for a limit that is drawn when the capacity is known."""
    plain = _plain_policy(rng)
    changes: dict[str, int | None] = {}
    if rng.random() < 0.35:
        changes["inbound_fee_rate_ppm"] = -_log_uniform((1, 4_000), rng)
        changes["inbound_base_fee_msat"] = -rng.choice((0, rng.randint(1, 2_000)))
    if rng.random() < 0.3:
        changes["min_htlc_msat"] = rng.choice((1, _log_uniform((2, 5_000_000), rng)))
    if rng.random() < 0.2:
        changes["max_htlc_msat"] = 1
    if rng.random() < 0.5:
        changes["time_lock_delta"] = rng.choice((rng.randint(24, 200), rng.randint(200, 1_200)))
    return plain.model_copy(update=changes)


def _payments(case_set: CaseSet, topology: Topology, rng: random.Random) -> list[Act]:
    names = [node.name for node in topology.nodes]
    favourites = [tuple(rng.sample(names, 2)) for _ in range(3)]
    clock = 0.0
    acts: list[Act] = []
    for _ in range(_LENGTHS[case_set]):
        pair = rng.choice(favourites) if rng.random() < 0.5 else tuple(rng.sample(names, 2))
        source, target = pair
        split = case_set is CaseSet.MULTIPART
        amount = _draw_amount(topology, source, target, rng, split=split)
        clock += rng.expovariate(ARRIVALS_PER_SECOND)
        acts.append(
            Pay(
                source=source,
                target=target,
                amount_msat=amount,
                fee_limit_msat=_draw_fee_limit(amount, rng),
                max_parts=rng.choice((2, 4, 16)) if split else 1,
                at=clock if case_set is CaseSet.CONCURRENT else 0.0,
                held_for=rng.randint(1, 8)
                if case_set is CaseSet.HELD and rng.random() < 0.4
                else 0,
            )
        )
    return acts


def _draw_amount(
    topology: Topology, source: str, target: str, rng: random.Random, *, split: bool
) -> Msat:
    """From tiny to a little more than can leave the source or reach the target at the start."""
    out = [_balance(channel, source) for channel in topology.channels]
    into = [
        channel.capacity_msat - _balance(channel, target)
        for channel in topology.channels
        if target in (channel.source, channel.target)
    ]
    # In one part: what the best channels carry. In several: what all of them carry together.
    best = min(sum(out), sum(into)) if split else min(max(out), max(into))
    kind = rng.random()
    if kind < 0.15:
        return rng.randint(1_000, 1_000_000)
    if kind < 0.3 and not split:
        edge = rng.choice([amount for amount in out + into if amount > 0] or [best])
        return max(1_000, round(edge * rng.uniform(0.9, 1.02)))
    least = max(10_000_000, best // 10) if split else rng.choice((1_000, max(1_000, best // 20)))
    # Receivers keep the parts of what does not arrive whole for two minutes: not too often.
    most = max(least + 1, round(best * (0.6 if split else 1.05)))
    return _log_uniform((least, most), rng)


def _balance(channel: ChannelSpec, node: str) -> Msat:
    if node == channel.source:
        return (channel.capacity_sat - channel.push_sat) * MSAT_PER_SAT
    return channel.push_sat * MSAT_PER_SAT if node == channel.target else 0


def _draw_fee_limit(amount: Msat, rng: random.Random) -> Msat:
    if rng.random() < 0.75:
        return _NO_FEE_LIMIT_FACTOR * amount + 1_000_000
    return round(amount * rng.uniform(0.0, 0.008)) + rng.choice((0, 1_000, 5_000))


def _stale_acts(topology: Topology, late: bool, rng: random.Random) -> list[Act]:
    """Changes of policies, with payments after each that run into those who do not know it.

    In the late half gossip travels one hop at once and each further one after `RELAY_SECONDS`:
    payments are made in the middle between. In the other half nodes accept one change per edge,
    and never hear of those after it.
    """
    payments = [act for act in _payments(CaseSet.STALE, topology, rng) if isinstance(act, Pay)]
    changes = 5 if late else 8
    each = len(payments) // changes
    few = [
        (rng.randrange(len(topology.channels)), rng.random() < 0.5)
        for _ in range(changes if late else changes // 3 + 1)
    ]
    acts: list[Act] = []
    for number in range(changes):
        channel, of_opener = few[number] if late else rng.choice(few)
        current = topology.channel_policies(topology.channels[channel])[0 if of_opener else 1]
        policy = current.model_copy(
            update={
                "base_fee_msat": rng.choice((0, current.base_fee_msat + rng.randint(1, 20_000))),
                "fee_rate_ppm": _log_uniform((1, 20_000), rng),
                "time_lock_delta": rng.choice((FINAL_CLTV_DELTA, rng.randint(24, 200))),
            }
        )
        group = payments[number * each : (number + 1) * each]
        acts.append(Change(channel, of_opener, policy, settle_seconds=0.6))
        if not late:
            acts += group
            continue
        for window in range(3):
            acts.append(Wait(window * RELAY_SECONDS + 0.6))
            acts += group[window::3]
        acts.append(Wait(len(topology.nodes) * RELAY_SECONDS))
    return acts


def _log_uniform(bounds: tuple[int, int], rng: random.Random) -> int:
    low, high = bounds
    return min(high, max(low, round(math.exp(rng.uniform(math.log(low), math.log(high))))))
