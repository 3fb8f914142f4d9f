"""A recording made by hand: two payments over a line of three nodes."""

from __future__ import annotations

from lnagents.evaluate.recording import (
    AttemptRecord,
    CaseSet,
    ChannelRecord,
    EndRecord,
    HtlcRecord,
    NodeBalance,
    PaymentRecord,
    PolicyRecord,
    Recording,
    Step,
)
from lnagents.model.topology import ChannelSpec, NodeSpec, PolicySpec, Topology

CAPACITY_SAT = 1_000_000
OPENER_COST_MSAT = 4_525_000
"""Weight 724 at 6,250 sat per 1000 (BOLT 3, no HTLCs), 25 sat/vbyte being LND's fallback."""

POLICY = PolicyRecord(
    base_fee_msat=1_000,
    fee_rate_ppm=100,
    inbound_base_fee_msat=0,
    inbound_fee_rate_ppm=0,
    min_htlc_msat=1_000,
    max_htlc_msat=990_000_000,
    time_lock_delta=80,
    disabled=0,
)

A_TO_B, B_TO_A, B_TO_C, C_TO_B = range(4)


def line_topology(options: tuple[str, ...] = ()) -> Topology:
    policy = PolicySpec(fee_rate_ppm=100)
    return Topology(
        name="line",
        nodes=tuple(NodeSpec(name=name, lnd=options) for name in "abc"),
        channels=tuple(
            ChannelSpec(
                source=source,
                target=target,
                capacity_sat=CAPACITY_SAT,
                policy=policy,
                reverse_policy=policy,
            )
            for source, target in ("ab", "bc")
        ),
    )


def attempt(
    *hops: tuple[int, int], code: int = 0, failed_at: int = -1, started: float = 1.0
) -> AttemptRecord:
    """Hops as (edge, amount); the last expires at block 100, each one before 80 later."""
    return AttemptRecord(
        hops=tuple(
            HtlcRecord(edge, amount, 100 + 80 * (len(hops) - 1 - place))
            for place, (edge, amount) in enumerate(hops)
        ),
        code=code,
        failed_at=failed_at,
        started=started,
        resolved=started + 0.1,
    )


def payment(
    *attempts: AttemptRecord,
    source: str = "a",
    target: str = "c",
    at: float = 1.0,
    amount_msat: int = 10_000_000,
    reason: str = "",
    fee_msat: int = 0,
) -> PaymentRecord:
    return PaymentRecord(
        at=at,
        source=source,
        target=target,
        amount_msat=amount_msat,
        fee_limit_msat=1_000_000,
        max_parts=1,
        timeout=60.0,
        hold=0.0,
        reason=reason,
        fee_msat=fee_msat,
        seconds=0.1,
        attempts=attempts,
    )


SETTLED = payment(attempt((A_TO_B, 10_002_000), (B_TO_C, 10_000_000)), fee_msat=2_000)
REFUSED = payment(
    attempt((A_TO_B, 400_041_000), (B_TO_C, 400_000_000), code=15, failed_at=1, started=2.0),
    at=2.0,
    amount_msat=400_000_000,
    reason="no_route",
)


def make_recording(
    steps: tuple[Step, ...] = (SETTLED, REFUSED),
    *,
    moved: tuple[int, int] = (10_002_000, 10_000_000),
    case_set: CaseSet = CaseSet.SINGLE,
    topology: Topology | None = None,
) -> Recording:
    """`moved`: msat that changed sides in each of the two channels, from opener to acceptor."""
    half = CAPACITY_SAT * 1_000 // 2
    topology = topology or line_topology()
    balances = tuple((half - amount, half + amount) for amount in moved)
    listed = tuple(
        ((first - OPENER_COST_MSAT) // 1_000, second // 1_000) for first, second in balances
    )
    return Recording(
        name=topology.name,
        case_set=case_set,
        seed=1,
        case=0,
        lnd_version="0.21.1-beta",
        block_height=110,
        topology=topology,
        channels=tuple(
            ChannelRecord(
                scid=(103 << 40) + number,
                source=channel.source,
                target=channel.target,
                capacity_msat=CAPACITY_SAT * 1_000,
                balance_msat=(half, half),
                policy=POLICY,
                reverse_policy=POLICY,
                opener_cost_msat=OPENER_COST_MSAT,
            )
            for number, channel in enumerate(topology.channels)
        ),
        steps=steps,
        end=EndRecord(
            balance_msat=balances,
            listed_sat=listed,
            nodes={
                "a": NodeBalance(balances[0][0] - OPENER_COST_MSAT, balances[0][1]),
                "b": NodeBalance(
                    balances[0][1] + balances[1][0] - OPENER_COST_MSAT,
                    balances[0][0] + balances[1][1],
                ),
                "c": NodeBalance(balances[1][1], balances[1][0]),
            },
        ),
    )
