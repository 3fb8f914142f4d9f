"""What a node asks of an HTLC before it sends it on or takes it; LND's checks in LND's order.

A refusal is a `FailureCode`; `ACCEPTED` is 0. See `handlePacketAdd` in LND's htlcswitch/switch.go,
`CheckHtlcForward` and `canSendHtlc` in link.go, and `updateMpp` in invoices/update.go. LND's
forwarders do not look at their own channel's `disabled` flag (only gossip carries it), and a policy
counts from the moment it is set: there is no grace for senders that do not know it yet.

Policies are rows of `Network.policy`, one per edge: those in force now at the edge's source.
"""

from __future__ import annotations

from typing import NamedTuple

from lnagents.model.graph import MAX_INBOUND_RATE_PPM
from lnagents.model.kernel import kernel
from lnagents.model.payment import FailureCode
from lnagents.twin.commitment import (
    Liquidity,
    bandwidth,
    can_add,
    dust_exceeded,
    overexposed,
)
from lnagents.twin.network import (
    BASE_FEE,
    FEE_RATE,
    INBOUND_BASE_FEE,
    INBOUND_FEE_RATE,
    MAX_HTLC,
    MIN_HTLC,
    TIME_LOCK_DELTA,
    Int64Array,
)

ACCEPTED = 0
"""No refusal; no failure code of LND is 0 (`RESERVED`)."""

PPM = 1_000_000
OUTGOING_CLTV_REJECT_DELTA = 3
"""Blocks: an HTLC that expires sooner is not sent on (`lncfg.DefaultOutgoingCltvRejectDelta`)."""
FINAL_CLTV_REJECT_DELTA = 19
"""Blocks: an HTLC that expires sooner is not taken (`lncfg.DefaultFinalCltvRejectDelta`)."""
MAX_OUTGOING_CLTV_EXPIRY = 2016
"""Blocks that an HTLC may be locked for (`max-cltv-expiry`)."""

# Enumerations are not constants to compiled code; plain integers are.
_AMOUNT_BELOW_MINIMUM = int(FailureCode.AMOUNT_BELOW_MINIMUM)
_DETAILS = int(FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS)
_EXPIRY_TOO_FAR = int(FailureCode.EXPIRY_TOO_FAR)
_EXPIRY_TOO_SOON = int(FailureCode.EXPIRY_TOO_SOON)
_FEE_INSUFFICIENT = int(FailureCode.FEE_INSUFFICIENT)
_INCORRECT_CLTV_EXPIRY = int(FailureCode.INCORRECT_CLTV_EXPIRY)
_INTERNAL_FAILURE = int(FailureCode.INTERNAL_FAILURE)
_TEMPORARY_CHANNEL_FAILURE = int(FailureCode.TEMPORARY_CHANNEL_FAILURE)


class ForwardRequest(NamedTuple):
    """An HTLC that a node holds, and what the onion tells the node to do with it."""

    edge_in: int
    """Over which it came."""
    edge_out: int
    """Over which it shall leave."""
    amount_in: int
    """msat."""
    amount_out: int
    """msat."""
    expiry_in: int
    """Block height."""
    expiry_out: int


@kernel
def outbound_fee(policy: Int64Array, edge: int, amount: int) -> int:
    """What the edge's source charges to send `amount` msat out over it (BOLT 7), in msat."""
    fee: int = policy[edge, BASE_FEE] + amount * policy[edge, FEE_RATE] // PPM
    return fee


@kernel
def inbound_fee(policy: Int64Array, edge: int, amount: int) -> int:
    """What the edge's source charges for what comes in over its channel, in msat, mostly negative.

    `amount` is what it sends on plus its outbound fee. LND caps the rate and rounds towards zero
    (`models.InboundFee.CalcFee`).
    """
    rate: int = policy[edge, INBOUND_FEE_RATE]
    base: int = policy[edge, INBOUND_BASE_FEE]
    rate = min(MAX_INBOUND_RATE_PPM, max(-MAX_INBOUND_RATE_PPM, rate))
    product = amount * rate
    return base + (product // PPM if product >= 0 else -(-product // PPM))


@kernel
def check_channel(
    liquidity: Liquidity, policy: Int64Array, edge: int, amount: int, expiry: int, height: int
) -> int:
    """Whether the channel's policy and balance allow an HTLC (`canSendHtlc`): a code or 0."""
    if amount < policy[edge, MIN_HTLC]:
        return _AMOUNT_BELOW_MINIMUM
    if policy[edge, MAX_HTLC] != 0 and amount > policy[edge, MAX_HTLC]:
        return _TEMPORARY_CHANNEL_FAILURE
    if expiry <= height + OUTGOING_CLTV_REJECT_DELTA:
        return _EXPIRY_TOO_SOON
    if expiry > height + MAX_OUTGOING_CLTV_EXPIRY:
        return _EXPIRY_TOO_FAR
    if amount > bandwidth(liquidity, edge):
        return _TEMPORARY_CHANNEL_FAILURE
    return ACCEPTED


@kernel
def check_send(
    liquidity: Liquidity, policy: Int64Array, edge: int, amount: int, expiry: int, height: int
) -> int:
    """Whether the edge's source can send an HTLC of its own over it: a code or 0.

    Without fee and time lock delta, of which its own payments are free. `INTERNAL_FAILURE` means
    that there is too much dust already: LND gives the whole payment up then
    (`errFeeExposureExceeded`).
    """
    code = check_channel(liquidity, policy, edge, amount, expiry, height)
    if code != ACCEPTED:
        return code
    if dust_exceeded(liquidity, edge, amount, False):
        return _INTERNAL_FAILURE
    if overexposed(liquidity, edge, amount) or not can_add(liquidity, edge, amount):
        return _TEMPORARY_CHANNEL_FAILURE
    return ACCEPTED


@kernel
def check_policy(
    liquidity: Liquidity, policy: Int64Array, request: ForwardRequest, edge: int, height: int
) -> int:
    """Whether the forwarder can send the HTLC out over `edge`: a code or 0 (`CheckHtlcForward`).

    Fee, limits, balance, and time lock; `edge` may stand in for `request.edge_out`.
    """
    fee = outbound_fee(policy, edge, request.amount_out)
    # The forwarder's own side of the channel by which the HTLC came.
    fee += inbound_fee(policy, request.edge_in ^ 1, request.amount_out + fee)
    # Nobody forwards at a loss, whatever the discount.
    if request.amount_in - request.amount_out < max(0, fee):
        return _FEE_INSUFFICIENT
    code = check_channel(liquidity, policy, edge, request.amount_out, request.expiry_out, height)
    if code != ACCEPTED:
        return code
    delta = request.expiry_in - request.expiry_out
    if delta < policy[edge, TIME_LOCK_DELTA]:
        return _INCORRECT_CLTV_EXPIRY
    if delta > MAX_OUTGOING_CLTV_EXPIRY:
        return _EXPIRY_TOO_FAR
    return ACCEPTED


@kernel
def check_forward(
    liquidity: Liquidity, policy: Int64Array, request: ForwardRequest, height: int, draw: float
) -> tuple[int, int, int]:
    """What a forwarder does with an HTLC that it holds.

    LND may take any of its channels to the same peer (non-strict forwarding, BOLT 4): of those that
    can carry the HTLC one at random, equally likely. `draw` from [0, 1) decides here, so with more
    than one possible channel an outcome is one of LND's, but not the one. Whether the next node is
    there at all (`UNKNOWN_NEXT_PEER`) is for the caller to ask first.

    Returns:
        The code or 0, the edge by which the HTLC goes on (`request.edge_out` if it is refused), and
        how many channels could have carried it.
    """
    edge = request.edge_out
    # Back over the channel by which it came: refused, for it would only lock up the balance
    # (`allow-circular-route`).
    if request.edge_in >> 1 == edge >> 1:
        return _TEMPORARY_CHANNEL_FAILURE, edge, 0
    code = check_policy(liquidity, policy, request, edge, height)
    choices = 1 if code == ACCEPTED else 0
    other = liquidity.parallel[edge]
    if other != edge:
        while other != edge:
            if check_policy(liquidity, policy, request, other, height) == ACCEPTED:
                choices += 1
            other = liquidity.parallel[other]
        if choices > 0:
            edge = _chosen(liquidity, policy, request, height, int(draw * choices))
    if choices == 0:
        return code, edge, 0
    # By now the HTLC is on the incoming channel, and not yet on the outgoing one.
    if (
        dust_exceeded(liquidity, request.edge_in, request.amount_in, True)
        or dust_exceeded(liquidity, edge, request.amount_out, False)
        or overexposed(liquidity, edge, request.amount_out)
        or not can_add(liquidity, edge, request.amount_out)
    ):
        return _TEMPORARY_CHANNEL_FAILURE, request.edge_out, choices
    return ACCEPTED, edge, choices


@kernel
def _chosen(
    liquidity: Liquidity, policy: Int64Array, request: ForwardRequest, height: int, skipped: int
) -> int:
    """The channel that can carry the HTLC after `skipped` others that can, from `edge_out` on."""
    edge = request.edge_out
    while True:
        if check_policy(liquidity, policy, request, edge, height) == ACCEPTED:
            if skipped == 0:
                return edge
            skipped -= 1
        edge = int(liquidity.parallel[edge])


@kernel
def check_receive(
    amount: int,
    set_total: int,
    invoice_amount: int,
    expiry: int,
    final_cltv_delta: int,
    height: int,
) -> int:
    """Whether a receiver takes an HTLC for an open invoice: a code or 0 (`updateMpp`).

    Args:
        amount: of this HTLC, msat.
        set_total: what the sender says all parts sum to, msat.
        invoice_amount: what the invoice asks for, msat; 0 leaves it to the payer.
        expiry: of this HTLC, block height.
        final_cltv_delta: what the invoice asks for, blocks.
        height: of the chain.
    """
    if amount <= 0 or set_total <= 0 or set_total < invoice_amount:
        return _DETAILS
    if expiry < height + max(FINAL_CLTV_REJECT_DELTA, final_cltv_delta):
        return _DETAILS
    return ACCEPTED
