"""What a twin's nodes are configured with: LND 0.21's defaults where nothing else is said.

Amounts are msat, times seconds. LND's own option, if there is one, stands beside each field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

MIN_CAPACITY_FRACTION = 0.75
"""The least that LND allows (`minCapacityFraction` in routing/probability_apriori.go)."""


class Estimator(IntEnum):
    """How a sender guesses whether a channel will forward (`routerrpc.estimator`)."""

    APRIORI = 0
    BIMODAL = 1


class SenderNumbers(NamedTuple):
    """`SenderSettings` as kernels take them."""

    attempt_cost: int
    attempt_cost_ppm: int
    min_probability: float
    risk_factor: int
    time_preference: float
    cltv_limit: int
    final_cltv_delta: int
    max_parts: int
    min_shard: int
    estimator: int
    hop_probability: float
    apriori_weight: float
    penalty_half_life: float
    capacity_fraction: float
    bimodal_scale: float
    bimodal_node_weight: float
    bimodal_decay_time: float
    failure_relax_interval: float
    second_chance_interval: float


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """How senders search routes and remember what happened on them.

    Raises:
        ValueError: a value that LND would refuse, too.
    """

    attempt_cost: int = 100_000
    """msat: what a failed attempt is worth avoiding (`routerrpc.attemptcost`, there in sat)."""
    attempt_cost_ppm: int = 1_000
    """The same in parts per million of the amount (`routerrpc.attemptcostppm`)."""
    min_probability: float = 0.01
    """Routes less likely to succeed are not tried (`routerrpc.minrtprob`)."""
    risk_factor: int = 15
    """Billionths of the amount that each block of time lock costs (`RiskFactorBillionths`)."""
    time_preference: float = 0.0
    """-1: only fees count, 1: only reliability does (`time_pref` of SendPaymentV2)."""
    cltv_limit: int = 2016
    """Blocks that a whole route may be locked for (`max-cltv-expiry`)."""
    final_cltv_delta: int = 80
    """Blocks that receivers ask for at the last hop (`bitcoin.timelockdelta`, in invoices)."""
    max_parts: int = 16
    """Parts of a payment at most (`DefaultMaxParts`); a payment's own limit may be lower."""
    min_shard: int = 10_000_000
    """msat, below which a part is not split further (`DefaultShardMinAmt`)."""
    estimator: Estimator = Estimator.APRIORI
    hop_probability: float = 0.6
    """Of success at a hop of which nothing is known (`routerrpc.apriori.hopprob`)."""
    apriori_weight: float = 0.5
    """1: a node's results say nothing about its untried channels (`routerrpc.apriori.weight`)."""
    penalty_half_life: float = 3_600.0
    """Seconds after which a failure counts half (`routerrpc.apriori.penaltyhalflife`)."""
    capacity_fraction: float = 0.9999
    """Share of a capacity that is thought liquid (`routerrpc.apriori.capacityfraction`)."""
    bimodal_scale: int = 300_000_000
    """msat: how far from a channel's ends its liquidity is (`routerrpc.bimodal.scale`)."""
    bimodal_node_weight: float = 0.2
    """What a node's other channels say about one (`routerrpc.bimodal.nodeweight`)."""
    bimodal_decay_time: float = 604_800.0
    """Seconds in which a result loses its worth by e (`routerrpc.bimodal.decaytime`)."""
    failure_relax_interval: float = 60.0
    """Seconds before which a failure's amount is not raised (`DefaultMinFailureRelaxInterval`)."""
    second_chance_interval: float = 60.0
    """Seconds between two pardons of a pair's stale policy (`minSecondChanceInterval`)."""

    def __post_init__(self) -> None:
        between = {
            "min_probability": (self.min_probability, 0.0),
            "hop_probability": (self.hop_probability, 0.0),
            "apriori_weight": (self.apriori_weight, 0.0),
            "capacity_fraction": (self.capacity_fraction, MIN_CAPACITY_FRACTION),
            "bimodal_node_weight": (self.bimodal_node_weight, 0.0),
            "time_preference": (self.time_preference, -1.0),
        }
        for name, (value, least) in between.items():
            if not least <= value <= 1:
                raise ValueError(f"{name}: {value} is not between {least:g} and 1")
        for name in ("bimodal_scale", "bimodal_decay_time", "min_shard", "max_parts"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not above 0")
        for name in (
            "attempt_cost",
            "attempt_cost_ppm",
            "risk_factor",
            "cltv_limit",
            "final_cltv_delta",
            "penalty_half_life",
            "failure_relax_interval",
            "second_chance_interval",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is below 0")

    def numbers(self) -> SenderNumbers:
        """The same for kernels; types are always the same, so that they compile once."""
        return SenderNumbers(
            attempt_cost=int(self.attempt_cost),
            attempt_cost_ppm=int(self.attempt_cost_ppm),
            min_probability=float(self.min_probability),
            risk_factor=int(self.risk_factor),
            time_preference=float(self.time_preference),
            cltv_limit=int(self.cltv_limit),
            final_cltv_delta=int(self.final_cltv_delta),
            max_parts=int(self.max_parts),
            min_shard=int(self.min_shard),
            estimator=int(self.estimator),
            hop_probability=float(self.hop_probability),
            apriori_weight=float(self.apriori_weight),
            penalty_half_life=float(self.penalty_half_life),
            capacity_fraction=float(self.capacity_fraction),
            bimodal_scale=float(self.bimodal_scale),
            bimodal_node_weight=float(self.bimodal_node_weight),
            bimodal_decay_time=float(self.bimodal_decay_time),
            failure_relax_interval=float(self.failure_relax_interval),
            second_chance_interval=float(self.second_chance_interval),
        )


@dataclass(frozen=True, slots=True)
class CommitmentSettings:
    """What channels are opened with, and what their commitment transactions cost.

    The defaults are those of a testbed: LND built with the tag `integration`, on regtest, where
    fees cannot be estimated. With a stock LND it is `anchors=True, fee_per_kw=2_500`.

    Raises:
        ValueError: a value with which no channel works.
    """

    anchors: bool = False
    """Commitment type `anchors_zero_fee_htlc_tx` (BOLT 3), else `static_remotekey`, which LND takes
    with `protocol.no-anchors`, and in its `integration` build without `protocol.anchors`."""
    fee_per_kw: int = 6_250
    """Satoshi per 1000 weight units that commitment transactions pay: LND's guess without estimates
    (`fallBackFeeRate`, 25 sat/vbyte). Anchor channels stay at or below 2500
    (`max-commit-fee-rate-anchors`, 10 sat/vbyte). It stays: LND looks at fees again after 10 to 60
    minutes (`handleUpdateFee`), and the guess does not change."""
    dust_limit_sat: int = 354
    """Smaller outputs do not exist (`lnwallet.DustLimitUnknownWitness`)."""
    reserve_divisor: int = 100
    """Each side leaves capacity // this unspent, and at least the dust limit
    (`RequiredRemoteChanReserve`)."""
    max_accepted_htlcs: int = 483
    """In each direction at once (`default-remote-max-htlcs`, half of `input.MaxHTLCNumber`)."""
    min_htlc_msat: int = 1
    """The smallest HTLC that a channel takes, whatever its policies say (`bitcoin.minhtlc`)."""
    max_fee_exposure_sat: int = 500_000
    """What fee and dust of a channel may come to (`channel-max-fee-exposure`)."""

    def __post_init__(self) -> None:
        for name in ("fee_per_kw", "dust_limit_sat", "max_fee_exposure_sat"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is below 0")
        for name in ("reserve_divisor", "max_accepted_htlcs", "min_htlc_msat"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not above 0")


@dataclass(frozen=True, slots=True)
class GossipSettings:
    """How fast policies travel, and how often they may change.

    The defaults are those of the testbed's profile `fast`.

    Raises:
        ValueError: a delay or limit that makes no sense.
    """

    trickle_delay: float = 0.05
    """Seconds between two rounds in which a node sends on what it heard (`trickledelay`)."""
    sub_batch_delay: float = 0.005
    """Seconds between the batches of one round (`gossip.sub-batch-delay`)."""
    max_channel_update_burst: int = 100
    """Updates of one edge that go through at once (`gossip.max-channel-update-burst`)."""
    channel_update_interval: float = 1.0
    """Seconds until one more goes through (`gossip.channel-update-interval`)."""

    def __post_init__(self) -> None:
        if self.trickle_delay < 0 or self.sub_batch_delay < 0:
            raise ValueError("trickle_delay, sub_batch_delay: must not be negative")
        if self.max_channel_update_burst < 1 or self.channel_update_interval <= 0:
            raise ValueError("max_channel_update_burst, channel_update_interval: not above 0")

    @classmethod
    def mainnet(cls) -> GossipSettings:
        """LND's own defaults."""
        return cls(90.0, 5.0, 10, 60.0)

    @property
    def first_hop_delay(self) -> float:
        """Mean seconds from an announcement until the owner's peers have it: half a round."""
        return self.trickle_delay / 2

    @property
    def relay_delay(self) -> float:
        """Mean seconds for each hop more.

        Half a round, and one batch's turn, because a node's own announcements, even if there are
        none, come before those of others (`splitAndSendAnnBatch` in discovery/gossiper.go).
        """
        return self.trickle_delay / 2 + self.sub_batch_delay


@dataclass(frozen=True, slots=True)
class LatencySettings:
    """How long HTLCs take; by default no time at all.

    Raises:
        ValueError: a time is negative.
    """

    forward: float = 0.0
    """Seconds per hop until an added HTLC is locked in and the next node acts on it."""
    settle: float = 0.0
    """Seconds per hop that the preimage takes on its way back."""
    fail: float = 0.0
    """Seconds per hop that a failure takes on its way back."""
    hold_incomplete: float = 120.0
    """Seconds for which a receiver keeps a part while others are missing
    (`invoices.DefaultHtlcHoldDuration`)."""

    def __post_init__(self) -> None:
        if min(self.forward, self.settle, self.fail, self.hold_incomplete) < 0:
            raise ValueError("times must not be negative")

    @classmethod
    def testbed(cls) -> LatencySettings:
        """As measured on the testbed: 38 ms per hop to settle, 65 ms per hop if a node refuses.

        The preimage goes back at once, a failure only once the removal is locked in.
        """
        return cls(forward=0.036, settle=0.002, fail=0.029)


@dataclass(frozen=True, slots=True)
class TwinSettings:
    """All of a twin's settings."""

    sender: SenderSettings = field(default_factory=SenderSettings)
    commitment: CommitmentSettings = field(default_factory=CommitmentSettings)
    gossip: GossipSettings = field(default_factory=GossipSettings)
    latency: LatencySettings = field(default_factory=LatencySettings)
    block_height: int = 150
    """The chain's height, which stands still; expiries are counted from it."""
