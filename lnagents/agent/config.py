"""An agent's configuration: a TOML file, unknown keys refused, paths relative to the file."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from lnagents.env import AttemptCost, FeeBounds, RewardWeights
from lnagents.env.heuristics import HEURISTICS
from lnagents.market.forwarding import Terms
from lnagents.model.delegation import MAX_HOPS
from lnagents.model.errors import ConfigError
from lnagents.model.files import StrictModel, parse_toml
from lnagents.model.units import Ppm

Network = Literal["regtest", "signet", "testnet", "testnet4", "simnet", "mainnet"]

MAX_FEE_PPM = 1_000_000
"""A fee as large as the payment itself."""

MAX_PRICE_SAT = 100_000
"""Of a unit of any product."""


class Mode(str, Enum):
    """Whether decisions are carried out."""

    LIVE = "live"
    DRY_RUN = "dry-run"


def _check_address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"{value!r} is not HOST:PORT")
    return value


Address = Annotated[str, AfterValidator(_check_address)]
"""`HOST:PORT`."""

NonNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Port = Annotated[int, Field(gt=0, lt=65_536)]


class LndSection(StrictModel):
    """How to reach the own node."""

    address: Address
    tls_certificate: Path
    macaroon: Path
    network: Network
    """What the node must be on; it is asked at the start."""


class RoundsSection(StrictModel):
    """When decisions are made."""

    seconds: Annotated[float, Field(ge=0.1)] = 60.0
    on_request: bool = False
    """True: a round begins when `lnagents agent step` asks for it, and never by itself."""
    checkpoint_every: Positive = 10
    """Rounds between two checkpoints of the learner."""


class FeesSection(StrictModel):
    """Hard bounds of the own fees. No actor can leave them."""

    min_ppm: NonNegative = 0
    max_ppm: Annotated[Ppm, Field(ge=0, le=MAX_FEE_PPM)] = 5_000
    min_base_msat: NonNegative = 0
    max_base_msat: NonNegative = 5_000
    max_inbound_discount_ppm: Annotated[Ppm, Field(ge=0, le=MAX_FEE_PPM)] = 0
    """0 forbids inbound discounts."""
    min_change: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share by which a fee must change to be worth an update."""
    max_updates_per_hour: NonNegative = 60
    """Of the whole node."""
    max_updates_per_hour_per_channel: NonNegative = 10
    """Other LND nodes ignore what exceeds a burst of 10 and then one a minute."""

    @model_validator(mode="after")
    def _ordered(self) -> FeesSection:
        if self.min_ppm > self.max_ppm:
            raise ValueError(f"fees.min_ppm: {self.min_ppm} is above max_ppm {self.max_ppm}")
        if self.min_base_msat > self.max_base_msat:
            problem = f"{self.min_base_msat} is above max_base_msat {self.max_base_msat}"
            raise ValueError(f"fees.min_base_msat: {problem}")
        return self

    def bounds(self) -> FeeBounds:
        """What decisions are decoded within."""
        return FeeBounds(
            min_ppm=self.min_ppm,
            max_ppm=self.max_ppm,
            min_base_msat=self.min_base_msat,
            max_base_msat=self.max_base_msat,
            max_inbound_discount_ppm=self.max_inbound_discount_ppm,
            min_change=self.min_change,
        )


class LimitsSection(StrictModel):
    """Hard limits of the money that may leave, fees included. None has a default, on purpose."""

    per_payment_msat: NonNegative
    per_hour_msat: NonNegative
    per_day_msat: NonNegative
    max_fee_msat: NonNegative
    """Of one payment."""
    max_fee_ppm: Annotated[Ppm, Field(ge=0, le=MAX_FEE_PPM)]
    """Of one payment above 1,000 sat; below, the fee may reach the amount, as by LND's default."""
    hint_per_purchase_msat: NonNegative
    hint_per_hour_msat: NonNegative
    hint_per_day_msat: NonNegative


class RoutingSection(StrictModel):
    """How routes are sought."""

    candidates: Annotated[int, Field(ge=1, le=20)] = 5
    """Routes that one payment is chosen among."""
    liquidity_half_life_seconds: Annotated[float, Field(gt=0)] = 3_600.0
    """In which half of what an attempt taught about a channel is forgotten (LND's is 1 h)."""
    attempt_cost_msat: NonNegative = 100_000
    attempt_cost_ppm: NonNegative = 1_000
    """What avoiding a failed attempt is worth (LND's `routerrpc.attemptcost`, `attemptcostppm`)."""

    def attempt_cost(self) -> AttemptCost:
        """The cost as the environment takes it."""
        return AttemptCost(self.attempt_cost_msat, self.attempt_cost_ppm)


class ActorSection(StrictModel):
    """Who decides."""

    kind: Literal["ppo", "trained", "heuristic", "fixed"] = "ppo"
    """`ppo` learns from nothing, `trained` goes on from a team of `lnagents train`; `heuristic`
    follows rules and `fixed` keeps fees as they are. The last two take the cheapest expected route
    and need no torch."""
    learn: bool = True
    """False: decide as the checkpoint says, without exploring or training."""
    method: Literal["demand", "untaught", "ppo"] = "demand"
    """How `trained` goes on learning: `demand` learns from the number of forwards at which level
    fees earn most and moves the team's there, `ppo` changes the team's actor by what each round
    brought. `untaught` does as `demand`, but keeps to the level of the fees that it found: the
    difference is what was learned."""
    seed: NonNegative = 0
    checkpoint: Path | None = None
    """A file to start from when the own store has no checkpoint yet: of an agent for `ppo`, of a
    team for `trained`, which is always needed."""
    agent: NonNegative = 0
    """Which of the team's agents to be, if each has weights of its own."""
    heuristic: str | None = None
    """Which rules, see `lnagents.env.heuristics`; they begin anew when the daemon does."""

    @model_validator(mode="after")
    def _complete(self) -> ActorSection:
        if self.kind == "trained" and self.checkpoint is None:
            raise ValueError('actor.checkpoint: kind "trained" needs a team\'s')
        if (self.kind == "heuristic") != (self.heuristic is not None):
            raise ValueError('actor.heuristic: needed by kind "heuristic", and by no other')
        if self.heuristic is not None and self.heuristic not in HEURISTICS:
            known = ", ".join(HEURISTICS)
            raise ValueError(f"actor.heuristic: {self.heuristic!r} is none of {known}")
        return self


class RewardSection(StrictModel):
    """Weights of the reward's terms."""

    fees_earned: float = 1.0
    fees_paid: float = 1.0
    hint_costs: float = 1.0
    hint_income: float = 1.0
    failed_attempt_msat: float = 100.0
    network_term_msat: float = 1_000.0
    forwarded_ppm: float = 0.0

    def weights(self) -> RewardWeights:
        """The weights as the environment takes them."""
        return RewardWeights(**self.model_dump())


class SellSection(StrictModel):
    """The document service and the pricer, to which the own Aperture connects."""

    service_host: str = "127.0.0.1"
    service_port: Port
    pricer_host: str = "127.0.0.1"
    pricer_port: Port
    price_sat: Annotated[int, Field(ge=1, le=MAX_PRICE_SAT)] = 2
    """Of every product, or where learning begins."""
    max_price_sat: Annotated[int, Field(ge=1, le=MAX_PRICE_SAT)] | None = None
    """If given, prices are learned from what they bring, between 1 sat and this; where an actor
    decides them, this is their bound."""
    price_period_seconds: Annotated[float, Field(gt=0)] = 300.0
    """For which a price is tried."""
    products: tuple[Literal["liquidity", "commitment", "route", "pass"], ...] = (
        "liquidity",
        "commitment",
        "route",
    )
    """What is sold. Passes need `forwarding.reserved_share`."""
    bands: Annotated[int, Field(ge=1, le=1_000)] = 10
    """Privacy: into how many parts of its capacity answers divide a channel."""
    tell_bands: bool = False
    """Whether hints name the part: what several questions would find out, for one."""
    max_commitment_seconds: Positive = 3_600
    """For how long fees can be promised. Until then, they are not raised."""
    max_pass_seconds: Annotated[int, Field(ge=1, le=86_400)] = 3_600
    """For how long priority can be bought."""

    @model_validator(mode="after")
    def _price_in_bounds(self) -> SellSection:
        if self.max_price_sat is not None and self.price_sat > self.max_price_sat:
            problem = f"{self.price_sat} is above max_price_sat {self.max_price_sat}"
            raise ValueError(f"market.sell.price_sat: {problem}")
        return self


class SellerSection(StrictModel):
    """Somebody who sells hints."""

    url: Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]
    """Of the Aperture, without a path."""
    key: Annotated[str, Field(pattern=r"^0[23][0-9a-f]{64}$")]


class BuySection(StrictModel):
    """What may be bought, and of whom."""

    sellers: tuple[SellerSection, ...] = ()
    discover: bool = False
    """Whether to look for more in node announcements (`lnagents.market.discovery`). Their addresses
    are asked for catalogues then."""
    passes: bool = False
    """Whether to buy priority for own payments, too, where it is worth its price."""
    payment_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """For the payment of one hint; the payment that it is bought for waits as long."""
    per_seller_per_day_msat: NonNegative | None = None
    """The most to spend with one seller; without it, as much as with all."""


class MarketSection(StrictModel):
    """L402 trade."""

    sell: SellSection | None = None
    buy: BuySection = BuySection()


NodeKeyText = Annotated[str, Field(pattern=r"^0[23][0-9a-f]{64}$")]


class DelegationSection(StrictModel):
    """Paying the rest of a way for others (`lnagents.agent.delegation`).

    The node has to be started with `requireinterceptor`: without, a daemon that ends after it paid
    and before it was paid loses the amount. It should be started with
    `store-final-htlc-resolutions`, too, by which a daemon that was away learns how HTLCs ended.
    """

    base_fee_msat: NonNegative = 1_000
    """With the rate below the least to earn with one payment; what the way costs comes on top."""
    fee_rate_ppm: Annotated[Ppm, Field(ge=0, le=MAX_FEE_PPM)] = 500
    max_amount_msat: Positive = 50_000_000
    """Of one payment; `[limits]` holds for what is under way, too."""
    max_hops: Annotated[int, Field(ge=1, le=MAX_HOPS)] = 10
    """Over so many channels at most a way is sought; senders may ask for less."""
    time_lock_delta: Annotated[int, Field(ge=40, le=1_008)] = 80
    """Blocks between the HTLC that comes in and the one that is paid. Less 19, so long the daemon
    may be away at the worst moment and lose nothing."""
    max_under_way: Annotated[int, Field(ge=1, le=200)] = 20
    """Payments for others at a time."""
    payment_seconds: Annotated[float, Field(gt=0)] = 30.0
    """For which new attempts are begun."""
    quote_seconds: Annotated[int, Field(ge=1, le=3_600)] = 60
    """How long a quoted fee holds."""
    agents: tuple[NodeKeyText, ...] = ()
    """Other agents to which the rest may be left when no way is found here, in their order."""

    def terms(self) -> Terms:
        """What is offered to others."""
        return Terms(
            base_fee_msat=self.base_fee_msat,
            fee_rate_ppm=self.fee_rate_ppm,
            max_amount_msat=self.max_amount_msat,
            max_hops=self.max_hops,
            time_lock_delta=self.time_lock_delta,
            quote_seconds=self.quote_seconds,
        )


class ForwardingSection(StrictModel):
    """Deciding on what the own node is asked to forward. Without it, the node decides alone."""

    deadline_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """After which the node forwards what nobody has decided on."""
    reserved_share: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Of each channel's capacity and HTLC slots, what is kept free for holders of passes. At most
    so much is sold."""
    delegation: DelegationSection | None = None
    """Off, unless it is there; an empty one takes the defaults."""


class MetricsSection(StrictModel):
    """The Prometheus endpoint."""

    listen: Address


class AgentConfig(StrictModel):
    """A whole file."""

    name: Annotated[str, Field(min_length=1)]
    data_directory: Path
    mode: Mode | None = None
    """None: live on regtest, dry-run everywhere else."""
    lnd: LndSection
    limits: LimitsSection
    rounds: RoundsSection = RoundsSection()
    fees: FeesSection = FeesSection()
    routing: RoutingSection = RoutingSection()
    actor: ActorSection = ActorSection()
    reward: RewardSection = RewardSection()
    market: MarketSection = MarketSection()
    forwarding: ForwardingSection | None = None
    metrics: MetricsSection | None = None

    @model_validator(mode="after")
    def _passes_can_be_kept(self) -> AgentConfig:
        sells = self.market.sell is not None and "pass" in self.market.sell.products
        if sells and (self.forwarding is None or self.forwarding.reserved_share == 0.0):
            problem = '"pass" needs forwarding.reserved_share above 0'
            raise ValueError(f"market.sell.products: {problem}")
        return self

    @property
    def dry_run(self) -> bool:
        """Whether decisions are only logged."""
        if self.mode is None:
            return self.lnd.network != "regtest"
        return self.mode is Mode.DRY_RUN


def parse_config(text: str, path: Path) -> AgentConfig:
    """Read a configuration; `path` is where it lies, and what relative paths start from.

    Raises:
        ConfigError: with one sentence that names file and key.
    """
    config = parse_toml(text, str(path), AgentConfig, ConfigError)
    base = path.absolute().parent
    lnd, actor = config.lnd, config.actor
    return config.model_copy(
        update={
            "data_directory": base / config.data_directory.expanduser(),
            "lnd": lnd.model_copy(
                update={
                    "tls_certificate": base / lnd.tls_certificate.expanduser(),
                    "macaroon": base / lnd.macaroon.expanduser(),
                }
            ),
            "actor": actor.model_copy(
                update={
                    "checkpoint": actor.checkpoint and base / actor.checkpoint.expanduser(),
                }
            ),
        }
    )


def load_config(path: Path) -> AgentConfig:
    """Read the configuration file at `path`.

    Raises:
        ConfigError: the file cannot be read or is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigError(str(path), f"cannot be read ({reason})") from exc
    return parse_config(text, path)
