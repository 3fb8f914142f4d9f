"""Topology files: which nodes exist, how they are joined, who sells hints.

Written in YAML, one file for every backend and for the twin; unknown keys are refused. Everything
here is pure: callers read the file and hand over its text.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated

import yaml
from pydantic import ConfigDict, Field, model_validator

from lnagents.model.errors import TopologyError
from lnagents.model.files import StrictModel, parse_yaml
from lnagents.model.graph import ChannelPolicy
from lnagents.model.units import MSAT_PER_SAT, Msat

MIN_CHANNEL_SAT = 20_000
"""Smallest channel that LND opens (`minchansize`)."""
MAX_CHANNEL_SAT = 16_777_215
"""Largest channel without `wumbo` (BOLT 2)."""
RESERVE_FRACTION = 0.01
"""Share of the capacity that each side must keep (LND's default reserve)."""
OPENER_COSTS_SAT = 15_000
"""Kept by the opener beyond its reserve: commitment fee, two anchors, and LND's fee buffer."""

NODE_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


class PolicySpec(StrictModel):
    """Fees of one direction of a channel, at the start."""

    base_fee_msat: Annotated[int, Field(ge=0)] = 1_000
    fee_rate_ppm: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    inbound_base_fee_msat: Annotated[int, Field(le=0)] = 0
    inbound_fee_rate_ppm: Annotated[int, Field(ge=-1_000_000, le=0)] = 0
    min_htlc_msat: Annotated[int, Field(ge=1)] = 1_000
    max_htlc_msat: Annotated[int, Field(ge=1)] | None = None
    """None: the most that the channel allows."""
    time_lock_delta: Annotated[int, Field(ge=24, le=2016)] = 80
    """LND refuses less than 24 (`minTimeLockDelta`)."""

    def to_policy(self, max_htlc_msat: Msat) -> ChannelPolicy:
        """The same as the type that nodes report; `max_htlc_msat` stands in for None."""
        return ChannelPolicy(
            base_fee_msat=self.base_fee_msat,
            fee_rate_ppm=self.fee_rate_ppm,
            inbound_base_fee_msat=self.inbound_base_fee_msat,
            inbound_fee_rate_ppm=self.inbound_fee_rate_ppm,
            min_htlc_msat=self.min_htlc_msat,
            max_htlc_msat=self.max_htlc_msat or max_htlc_msat,
            time_lock_delta=self.time_lock_delta,
        )


class NodeSpec(StrictModel):
    """One LND node."""

    name: str
    agent: bool = True
    """Whether an agent daemon runs beside it."""
    lnd: tuple[str, ...] = ()
    """Further lnd options, such as `--maxpendingchannels=20`."""


class ChannelSpec(StrictModel):
    """One channel; `from` opens and funds it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: Annotated[str, Field(alias="from")]
    target: Annotated[str, Field(alias="to")]
    capacity_sat: Annotated[int, Field(ge=MIN_CHANNEL_SAT, le=MAX_CHANNEL_SAT)]
    local_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Share of the capacity that is on the side of `from` at first."""
    policy: PolicySpec | None = None
    """Of `from`; None takes the topology's `policy`."""
    reverse_policy: PolicySpec | None = None
    """Of `to`; None takes the topology's `policy`."""

    @property
    def capacity_msat(self) -> Msat:
        """Capacity in msat."""
        return self.capacity_sat * MSAT_PER_SAT

    @property
    def push_sat(self) -> int:
        """What the opener gives to the other side at the start."""
        return round(self.capacity_sat * (1.0 - self.local_fraction))


class SellerSpec(StrictModel):
    """A node whose agent sells hints behind an Aperture of its own."""

    node: str
    price_sat: Annotated[int, Field(ge=1, le=100_000)] = 2
    """Asking price of one hint at the start."""


class ChainSpec(StrictModel):
    """How the private chain behaves."""

    block_interval_seconds: Annotated[float, Field(gt=0)] = 600.0
    """A block is mined at least this often; waiting transactions are confirmed at once."""


class Profile(str, Enum):
    """How fast gossip travels."""

    FAST = "fast"
    MAINNET = "mainnet"


class Topology(StrictModel):
    """A whole network."""

    name: str
    profile: Profile = Profile.FAST
    base_port: Annotated[int, Field(ge=0, le=60_000)] = 0
    """First of the ports that the network listens on; 0 takes free ones (native backend only)."""
    chain: ChainSpec = ChainSpec()
    policy: PolicySpec = PolicySpec()
    """For every direction that names none."""
    nodes: Annotated[tuple[NodeSpec, ...], Field(min_length=1)]
    channels: tuple[ChannelSpec, ...] = ()
    sellers: tuple[SellerSpec, ...] = ()

    def channel_policies(self, channel: ChannelSpec) -> tuple[PolicySpec, PolicySpec]:
        """Policies of `from` and of `to`, with the default filled in."""
        return channel.policy or self.policy, channel.reverse_policy or self.policy

    @model_validator(mode="after")
    def _consistent(self) -> Topology:
        if not NODE_NAME.fullmatch(self.name):
            raise ValueError(_at("name", f"{self.name!r} is not a name ({NODE_NAME.pattern})"))
        names: set[str] = set()
        for index, node in enumerate(self.nodes):
            if not NODE_NAME.fullmatch(node.name):
                problem = f"{node.name!r} is not a name ({NODE_NAME.pattern})"
                raise ValueError(_at(f"nodes[{index}].name", problem))
            if node.name in names:
                raise ValueError(_at(f"nodes[{index}].name", f"{node.name!r} occurs twice"))
            names.add(node.name)
        joined: dict[frozenset[str], int] = {}
        for index, channel in enumerate(self.channels):
            self._check_channel(index, channel, names, joined)
        selling: set[str] = set()
        for index, seller in enumerate(self.sellers):
            key = f"sellers[{index}].node"
            if seller.node not in names:
                raise ValueError(_at(key, f"unknown node {seller.node!r}"))
            if seller.node in selling:
                raise ValueError(_at(key, f"{seller.node!r} occurs twice"))
            selling.add(seller.node)
        return self

    @staticmethod
    def _check_channel(
        index: int, channel: ChannelSpec, names: set[str], joined: dict[frozenset[str], int]
    ) -> None:
        key = f"channels[{index}]"
        for end, name in (("from", channel.source), ("to", channel.target)):
            if name not in names:
                raise ValueError(_at(f"{key}.{end}", f"unknown node {name!r}"))
        if channel.source == channel.target:
            raise ValueError(_at(f"{key}.to", f"{channel.target!r} cannot be joined to itself"))
        pair = frozenset((channel.source, channel.target))
        if pair in joined:
            names_of_pair = f"{channel.source!r} and {channel.target!r}"
            problem = f"duplicate channel, {names_of_pair} are joined by channels[{joined[pair]}]"
            raise ValueError(_at(key, problem))
        joined[pair] = index
        least = round(channel.capacity_sat * RESERVE_FRACTION) + OPENER_COSTS_SAT
        if channel.capacity_sat - channel.push_sat < least:
            problem = (
                f"impossible balance, the opener must keep {least} sat of {channel.capacity_sat}"
                " (reserve and commitment fee)"
            )
            raise ValueError(_at(f"{key}.local_fraction", problem))


def _at(key: str, problem: str) -> str:
    return f"{key}: {problem}"


def parse_topology(text: str, source: str) -> Topology:
    """Read a topology from YAML text; `source` names the file in error messages.

    Raises:
        TopologyError: with one sentence that names file and key.
    """
    return parse_yaml(text, source, Topology, TopologyError)


def dump_topology(topology: Topology) -> str:
    """YAML that `parse_topology` reads back; what was never given is left out."""
    data = topology.model_dump(mode="json", by_alias=True, exclude_unset=True)
    text: str = yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=200)
    return text
