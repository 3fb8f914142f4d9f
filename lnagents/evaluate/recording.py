"""Recordings: what a live network was, what was asked of it, and what became of it (JSON).

A recording has all that is needed to let the same happen in the twin, without the network: the
topology, the balances and policies in force when the run began, every payment with every attempt,
every change of a policy, and every balance at the end. Edges are numbered as in the twin: edge 2c
leads from the opener of channel c to the node that accepted it, edge 2c + 1 back; channels are
ordered by their short channel ids. Amounts are msat, times seconds since the run began.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from lnagents.model.errors import RecordingError
from lnagents.model.files import StrictModel, validate
from lnagents.model.payment import FailureCode
from lnagents.model.topology import Topology
from lnagents.model.units import Msat


class CaseSet(str, Enum):
    """What a case tries."""

    SINGLE = "single"
    """Serial payments in one part each."""
    BIMODAL = "bimodal"
    """The same with LND's other estimator."""
    MULTIPART = "multipart"
    """Serial payments that may be split."""
    CONCURRENT = "concurrent"
    """Payments that overlap."""
    HELD = "held"
    """Receivers keep some HTLCs for a while, and others pay meanwhile."""
    STALE = "stale"
    """Fees change, and payers do not know it (yet)."""


class PolicyRecord(NamedTuple):
    """A `ChannelPolicy`, in the order of the columns of a twin's policies."""

    base_fee_msat: Msat
    fee_rate_ppm: int
    inbound_base_fee_msat: Msat
    inbound_fee_rate_ppm: int
    min_htlc_msat: Msat
    max_htlc_msat: Msat
    time_lock_delta: int
    disabled: int


class HtlcRecord(NamedTuple):
    """One hop of an attempt."""

    edge: int
    amount_msat: Msat
    expiry: int
    """Absolute block height."""


class AttemptRecord(StrictModel):
    """One attempt of a payment."""

    hops: tuple[HtlcRecord, ...]
    code: int
    """`FailureCode`; 0 if it settled, -1 if its end is not known."""
    failed_at: int
    """Index on the route of the node that refused, 0 for the sender; -1: none did."""
    started: float
    resolved: float | None = None

    def outcome(self) -> str:
        """What became of it, for people."""
        if self.code == 0:
            return "settled"
        if self.code < 0:
            return "unresolved"
        return f"{FailureCode(self.code).name} at node {self.failed_at}"


class PaymentRecord(StrictModel):
    """One payment: what was asked for, and what became of it."""

    kind: Literal["payment"] = "payment"
    at: float
    source: str
    target: str
    amount_msat: Msat
    fee_limit_msat: Msat
    max_parts: int
    timeout: float
    hold: float
    """For how long the receiver was to keep it; 0 for not at all."""
    reason: str
    """Empty if it settled, else LND's failure reason."""
    fee_msat: Msat
    """Of what settled."""
    seconds: float
    """From the start to the final answer."""
    attempts: tuple[AttemptRecord, ...]

    @property
    def settled(self) -> bool:
        """Whether it arrived."""
        return not self.reason


class UpdateRecord(StrictModel):
    """A node changed its policy for one of its edges."""

    kind: Literal["update"] = "update"
    at: float
    edge: int
    policy: PolicyRecord


Step = Annotated[PaymentRecord | UpdateRecord, Field(discriminator="kind")]


class ChannelRecord(StrictModel):
    """A channel when the run began."""

    scid: int
    source: str
    """The opener."""
    target: str
    capacity_msat: Msat
    balance_msat: tuple[Msat, Msat]
    """Of opener and acceptor; the opener's part includes the costs of the commitment."""
    policy: PolicyRecord
    """Of the opener's edge."""
    reverse_policy: PolicyRecord
    opener_cost_msat: Msat
    """What LND counts off the opener's balance for the commitment transaction."""


class NodeBalance(NamedTuple):
    """What one node's LND says of all its channels together."""

    local_msat: Msat
    remote_msat: Msat


class EndRecord(StrictModel):
    """What the nodes said when everything had come to rest."""

    balance_msat: tuple[tuple[Msat, Msat], ...]
    """Per channel, as in `ChannelRecord`: from the start and what LND's ledgers say has settled."""
    listed_sat: tuple[tuple[int, int], ...]
    """Per channel: `local_balance` in ListChannels of opener and acceptor."""
    nodes: dict[str, NodeBalance]
    """Per node: ChannelBalance, exact to the msat."""


class Recording(StrictModel):
    """One run of one live network."""

    version: Literal[1] = 1
    name: str
    case_set: CaseSet
    seed: int
    case: int
    lnd_version: str
    block_height: int
    topology: Topology
    channels: tuple[ChannelRecord, ...]
    steps: tuple[Step, ...]
    """In the order in which they began."""
    end: EndRecord

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names by index."""
        return tuple(node.name for node in self.topology.nodes)

    @property
    def payments(self) -> tuple[PaymentRecord, ...]:
        """Without the changes of policies."""
        return tuple(step for step in self.steps if isinstance(step, PaymentRecord))

    def edge_name(self, edge: int) -> str:
        """`source→target` of an edge."""
        channel = self.channels[edge >> 1]
        ends = (channel.source, channel.target)
        return "→".join(ends[::-1] if edge & 1 else ends)

    def path(self, attempt: AttemptRecord) -> str:
        """The nodes of a route, in order."""
        first = self.edge_name(attempt.hops[0].edge).split("→")[0]
        return "→".join([first, *(self.edge_name(hop.edge).split("→")[1] for hop in attempt.hops)])


def dump_recording(recording: Recording) -> str:
    """JSON that `parse_recording` reads back, with one line per step."""
    data: dict[str, Any] = recording.model_dump(mode="json", exclude={"topology"})
    data["topology"] = recording.topology.model_dump(mode="json", by_alias=True, exclude_unset=True)
    lines = []
    for key, value in data.items():
        if key in ("steps", "channels"):
            rows = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in value)
            lines.append(f" {json.dumps(key)}: [\n  {rows}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse_recording(text: str, source: str) -> Recording:
    """Read a recording from JSON text; `source` names the file in error messages.

    Raises:
        RecordingError: with one sentence that names file and key.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as exc:
        raise RecordingError(source, f"line {exc.lineno}: not valid JSON, {exc.msg}") from exc
    recording = validate(data, source, Recording, RecordingError)
    _check(recording, source)
    return recording


def load_recording(path: Path) -> Recording:
    """Read a recording from a file.

    Raises:
        RecordingError: it cannot be read, or is wrong.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise RecordingError(str(path), f"cannot be read, {exc}") from exc
    return parse_recording(text, str(path))


def _check(recording: Recording, source: str) -> None:
    """See that all names and numbers point to something."""
    names = set(recording.nodes)
    edges = 2 * len(recording.channels)
    for index, channel in enumerate(recording.channels):
        if not {channel.source, channel.target} <= names:
            raise RecordingError(source, f"channels[{index}]: names an unknown node")
        if sum(channel.balance_msat) != channel.capacity_msat:
            problem = "the two balances do not sum to the capacity"
            raise RecordingError(source, f"channels[{index}].balance_msat: {problem}")
    for index, step in enumerate(recording.steps):
        if isinstance(step, UpdateRecord):
            used = {step.edge}
        else:
            used = {hop.edge for attempt in step.attempts for hop in attempt.hops}
            if not {step.source, step.target} <= names:
                raise RecordingError(source, f"steps[{index}]: names an unknown node")
        if any(not 0 <= edge < edges for edge in used):
            raise RecordingError(source, f"steps[{index}]: names an unknown edge")
    if len(recording.end.balance_msat) != len(recording.channels):
        problem = f"has {len(recording.end.balance_msat)} entries"
        raise RecordingError(source, f"end.balance_msat: {problem}, one per channel is needed")
