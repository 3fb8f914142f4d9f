"""Whether a signed statement was true, as far as that can be shown to somebody who trusts nobody.

What contradicts a promise about fees is a signature of the same node: the `channel_update` of
gossip (BOLT 7), by which it announced a higher fee while the promise held. LND hands out such
updates with their signatures in one place only, the failures of attempts
(`lnrpc.Failure.channel_update`); DescribeGraph, GetChanInfo and SubscribeChannelGraph drop them. So
there are two kinds of evidence: a signed update, which convinces anybody, and what one's own node
has heard, which convinces oneself.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pydantic import ValidationError

from lnagents.market.documents import (
    Document,
    FeeCommitment,
    LiquidityHint,
    RouteQuote,
    open_document,
)
from lnagents.market.documents.signature import is_gossip_signature
from lnagents.model.errors import DocumentInvalidError
from lnagents.model.files import StrictModel
from lnagents.model.graph import ChannelPolicy
from lnagents.model.units import ShortChannelId

MAX_EVIDENCE_BYTES = 65_536
MAX_UPDATE_BYTES = 2_048
"""A channel_update has 136 bytes, and extensions at its end."""

_SIGNATURE_BYTES = 64
_CHAIN_BYTES = 32
_FIXED = struct.Struct(">QIBBHQII")
"""Of a channel_update after signature and chain: channel, timestamp, two bytes of flags, expiry
delta, least amount, base fee, rate."""
_DISABLED = 2
_HAS_MAXIMUM = 1


class Verdict(str, Enum):
    """What can be said of a statement."""

    TRUE = "true"
    FALSE = "false"
    UNDECIDABLE = "not decidable"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class ChannelUpdate:
    """A node's own announcement of its policy for one of its channels."""

    scid: ShortChannelId
    timestamp: int
    """Unix seconds."""
    policy: ChannelPolicy
    signature: bytes
    signed: bytes
    """What the signature covers: all that follows it."""


class Evidence(StrictModel):
    """What is kept and handed around: a document, and what its issuer signed later."""

    document: str
    """The signed document in base64."""
    channel_updates: tuple[str, ...] = ()
    """Whole messages, without their type, in hex."""

    @classmethod
    def of(cls, document: bytes, updates: Sequence[bytes]) -> Evidence:
        """From bytes."""
        return cls(
            document=base64.b64encode(document).decode(),
            channel_updates=tuple(update.hex() for update in updates),
        )


def read_evidence(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The document and the updates in `data`: evidence in JSON, or a signed document alone.

    Raises:
        DocumentInvalidError: it is neither.
    """
    if len(data) > MAX_EVIDENCE_BYTES:
        raise DocumentInvalidError(f"{len(data)} bytes are too long for evidence")
    if not data.lstrip().startswith(b"{"):
        return data, ()
    try:
        evidence = Evidence.model_validate_json(data)
        return (
            base64.b64decode(evidence.document, validate=True),
            tuple(bytes.fromhex(update) for update in evidence.channel_updates),
        )
    except ValidationError as exc:
        problem = exc.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise DocumentInvalidError(f"{key}: {problem['msg']}") from exc
    except (binascii.Error, ValueError) as exc:
        raise DocumentInvalidError(f"not evidence: {exc}") from exc


def parse_channel_update(data: bytes) -> ChannelUpdate:
    """Read a channel_update as it is on the wire, without the message's type.

    Raises:
        DocumentInvalidError: it is none.
    """
    signed = data[_SIGNATURE_BYTES:]
    end = _CHAIN_BYTES + _FIXED.size
    if len(signed) < end or len(data) > MAX_UPDATE_BYTES:
        raise DocumentInvalidError(f"{len(data)} bytes are no channel_update")
    scid, timestamp, message_flags, channel_flags, delta, least, base, rate = _FIXED.unpack(
        signed[_CHAIN_BYTES:end]
    )
    most = 0
    if message_flags & _HAS_MAXIMUM:
        if len(signed) < end + 8:
            raise DocumentInvalidError("the channel_update is cut off")
        most = int.from_bytes(signed[end : end + 8])
    policy = ChannelPolicy(
        base_fee_msat=base,
        fee_rate_ppm=rate,
        min_htlc_msat=least,
        max_htlc_msat=most,
        time_lock_delta=delta,
        disabled=bool(channel_flags & _DISABLED),
        last_update=timestamp,
    )
    return ChannelUpdate(scid, timestamp, policy, data[:_SIGNATURE_BYTES], signed)


def judge_evidence(document: bytes, updates: Sequence[bytes]) -> tuple[Document, Finding]:
    """What `updates` prove about `document`, to anybody; needs no node and no network.

    Raises:
        DocumentInvalidError: the document is forged or damaged, or an update is not its issuer's.
    """
    statement = open_document(document)
    for data in updates:
        update = parse_channel_update(data)
        if not is_gossip_signature(update.signature, update.signed, statement.issuer):
            raise DocumentInvalidError(f"a channel_update is not signed by {statement.issuer}")
        broken = contradiction(statement, update.scid, update.policy)
        if broken:
            return statement, Finding(Verdict.FALSE, f"its issuer announced {broken}")
    if isinstance(statement, LiquidityHint):
        reason = "only who tries can tell what passes, and failures of attempts are not signed"
    elif updates:
        reason = "nothing that its issuer signed here contradicts it"
    else:
        reason = "its issuer signed it; there is nothing here that it could be held against"
    return statement, Finding(Verdict.UNDECIDABLE, reason)


def judge_policy(statement: Document, policy: ChannelPolicy | None, now: float) -> Finding:
    """What the issuer's policy, as the own node has it `now`, says of a statement about fees.

    It convinces who trusts that node: gossip as nodes hand it out carries no signatures. Only the
    newest policy is known, so what was announced in between and taken back stays unseen.
    """
    if not isinstance(statement, FeeCommitment):
        return Finding(Verdict.UNDECIDABLE, "policies say something about promised fees only")
    if policy is None:
        return Finding(Verdict.UNDECIDABLE, "the node knows no policy of the issuer for it")
    broken = contradiction(statement, statement.scid, policy)
    if broken:
        return Finding(Verdict.FALSE, f"the node has heard {broken}")
    if now < statement.expires_at:
        left = statement.expires_at - now
        return Finding(Verdict.UNDECIDABLE, f"not broken so far; it holds for another {left:.0f} s")
    if policy.last_update > statement.issued_at:
        return Finding(Verdict.UNDECIDABLE, "the issuer's policy has changed since, perhaps twice")
    if not _exceeds(policy, statement):
        return Finding(Verdict.TRUE, "the node heard of no change until it expired")
    return Finding(Verdict.UNDECIDABLE, "the node has heard of nothing since before it was issued")


def contradiction(statement: Document, scid: ShortChannelId, policy: ChannelPolicy) -> str:
    """How its issuer's `policy` for `scid` contradicts the statement; empty if it does not.

    Gossip has whole seconds: what may have been announced before or after is no contradiction.
    """
    at = policy.last_update
    if not statement.issued_at <= at <= statement.expires_at - 1.0:
        return ""
    told = f"{policy.base_fee_msat} msat + {policy.fee_rate_ppm} ppm at Unix time {at}"
    if isinstance(statement, FeeCommitment):
        if scid == statement.scid and _exceeds(policy, statement):
            promised = f"{statement.base_fee_msat} msat + {statement.fee_rate_ppm} ppm"
            return f"{told}, and had promised {promised} at most"
    elif isinstance(statement, RouteQuote) and scid == statement.hops[0].scid:
        fee = policy.outbound_fee(statement.hops[0].amount_msat)
        if fee > statement.own_fee_msat:
            return f"{told}, which is {fee} msat here, and had quoted {statement.own_fee_msat}"
    return ""


def _exceeds(policy: ChannelPolicy, commitment: FeeCommitment) -> bool:
    return (
        policy.base_fee_msat > commitment.base_fee_msat
        or policy.fee_rate_ppm > commitment.fee_rate_ppm
    )
