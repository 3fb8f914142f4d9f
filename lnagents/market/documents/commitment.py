"""Fee commitments: what an end of a channel promises that its fee will not exceed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lnagents.market.documents.codec import Codec, Document
from lnagents.market.paths import CommitmentRequest, Request
from lnagents.market.stubs import documents_pb2
from lnagents.model.units import Msat, Ppm, ShortChannelId


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeCommitment(Document):
    """Until it expires, what the issuer charges to send over `scid` does not exceed this.

    Base fee and rate are each a limit of their own. A discount on the way in is not part of it.
    """

    scid: ShortChannelId
    base_fee_msat: Msat
    fee_rate_ppm: Ppm

    def answers(self, request: Request) -> bool:
        """Whether this is what `request` asks for, for at least as long."""
        return (
            isinstance(request, CommitmentRequest)
            and self.scid == request.scid
            # Times are kept to the millisecond.
            and self.expires_at - self.issued_at >= request.seconds - 0.001
        )


def _write(commitment: FeeCommitment) -> documents_pb2.FeeCommitment:
    return documents_pb2.FeeCommitment(
        short_channel_id=commitment.scid,
        base_fee_msat=commitment.base_fee_msat,
        fee_rate_ppm=commitment.fee_rate_ppm,
    )


def _read(message: documents_pb2.FeeCommitment) -> dict[str, Any]:
    return {
        "scid": message.short_channel_id,
        "base_fee_msat": message.base_fee_msat,
        "fee_rate_ppm": message.fee_rate_ppm,
    }


FEE_COMMITMENT = Codec("fee commitment", FeeCommitment, documents_pb2.FeeCommitment, _write, _read)
