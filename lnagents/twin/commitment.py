"""A channel's money: what a side can send, and what adding and resolving an HTLC does to it.

LND keeps two commitment transactions per channel, one for each side to publish, and both must stay
valid. The side that opened the channel pays for them: the fee grows with every HTLC that is large
enough to be an output of its own, so what it can send is its balance less the reserve, less the
anchors, less the fee at twice the rate with room for one HTLC more (LND's fee buffer). The other
side can send what it has above its reserve, as long as the opener can pay for one more output.
See `AvailableBalance`, `validateCommitmentSanity` and `CalcFeeBuffer` in LND's lnwallet/channel.go,
and BOLT 3 for the weights.

An HTLC counts on both commitments from `add_htlc` until `settle_htlc` or `fail_htlc`: the exchange
of signatures that takes milliseconds on real nodes takes no time here.

`balance` is what a side would have if the commitment transaction cost nothing, so that both sides
and all HTLCs in flight sum to the capacity at any time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lnagents.model.kernel import kernel
from lnagents.model.units import MSAT_PER_SAT
from lnagents.twin.network import Int32Array, Int64Array, Network
from lnagents.twin.settings import CommitmentSettings

COMMITMENT_WEIGHT = 724
"""Weight of a commitment transaction without HTLCs and anchors (BOLT 3)."""
ANCHORS_COMMITMENT_WEIGHT = 1_124
"""The same with anchors (BOLT 3)."""
HTLC_WEIGHT = 172
"""What each HTLC output adds (BOLT 3)."""
HTLC_TIMEOUT_WEIGHT = 663
"""Weight of the transaction that takes back an offered HTLC (BOLT 3, without anchors)."""
HTLC_SUCCESS_WEIGHT = 703
"""Weight of the transaction that takes a received HTLC (BOLT 3, without anchors)."""
ANCHOR_MSAT = 330_000
"""Value of each of the two anchor outputs (BOLT 3, `lnwallet.AnchorSize`)."""

# Columns of `Liquidity.terms`, one row per channel. Amounts are msat.
OPENER = 0
"""Which side pays for the commitment transactions, 0 or 1."""
FEE_PER_KW = 1
WEIGHT = 2
"""Of the commitment transaction without HTLCs."""
ANCHORS = 3
"""What the opener has set aside for both anchors."""
RESERVE = 4
MAX_IN_FLIGHT = 5
"""Most that the HTLCs of one direction may sum to."""
MAX_HTLCS = 6
"""Most HTLCs of one direction."""
LEAST_HTLC = 7
NO_DUST_OFFERED = 8
"""An HTLC from this amount on is an output on the commitment of the side that offered it."""
NO_DUST_RECEIVED = 9
"""The same on the commitment of the side that received it."""
MAX_EXPOSURE = 10
"""What fee and dust may come to."""
TERM_COLUMNS = 11

# Columns of `Liquidity.pending`, one row per edge: the HTLCs in flight over it.
AMOUNT = 0
COUNT = 1
OUTPUTS_OFFERED = 2
"""How many of them are outputs on the commitment of the edge's source."""
OUTPUTS_RECEIVED = 3
"""The same on the commitment of its target."""
DUST_OFFERED = 4
"""Sum of those that are none on the source's commitment."""
DUST_RECEIVED = 5
PENDING_COLUMNS = 6


class Liquidity(NamedTuple):
    """The money in all channels; amounts in msat. Kernels change it in place."""

    balance: Int64Array
    """[channels, 2], what belongs to each side and is not in flight."""
    pending: Int64Array
    """[edges, PENDING_COLUMNS], HTLCs in flight."""
    terms: Int64Array
    """[channels, TERM_COLUMNS], what the two sides agreed on when they opened the channel."""
    parallel: Int32Array
    """[edges], the next edge with the same source and target, in a ring; the edge itself if there
    is no other."""


def make_liquidity(network: Network, settings: CommitmentSettings) -> Liquidity:
    """The channels of a network with nothing in flight."""
    count = network.channels
    capacity_sat = network.capacity // MSAT_PER_SAT
    dust = settings.dust_limit_sat
    rate = settings.fee_per_kw
    # Second-level transactions of anchor channels pay no fee (`option_anchors_zero_fee_htlc_tx`).
    timeout_fee = 0 if settings.anchors else rate * HTLC_TIMEOUT_WEIGHT // 1_000
    success_fee = 0 if settings.anchors else rate * HTLC_SUCCESS_WEIGHT // 1_000
    terms = np.empty((count, TERM_COLUMNS), dtype=np.int64)
    terms[:, OPENER] = network.opener
    terms[:, FEE_PER_KW] = rate
    terms[:, WEIGHT] = ANCHORS_COMMITMENT_WEIGHT if settings.anchors else COMMITMENT_WEIGHT
    terms[:, ANCHORS] = 2 * ANCHOR_MSAT if settings.anchors else 0
    share = capacity_sat // settings.reserve_divisor
    terms[:, RESERVE] = np.maximum(share, dust) * MSAT_PER_SAT
    terms[:, MAX_IN_FLIGHT] = (capacity_sat - share) * MSAT_PER_SAT
    terms[:, MAX_HTLCS] = settings.max_accepted_htlcs
    terms[:, LEAST_HTLC] = settings.min_htlc_msat
    terms[:, NO_DUST_OFFERED] = (dust + timeout_fee) * MSAT_PER_SAT
    terms[:, NO_DUST_RECEIVED] = (dust + success_fee) * MSAT_PER_SAT
    terms[:, MAX_EXPOSURE] = settings.max_fee_exposure_sat * MSAT_PER_SAT
    return Liquidity(
        balance=network.balance.copy(),
        pending=np.zeros((2 * count, PENDING_COLUMNS), dtype=np.int64),
        terms=terms,
        parallel=_rings(network),
    )


def _rings(network: Network) -> Int32Array:
    """For each edge the next one that joins the same two nodes in the same direction."""
    source, target = network.edge_source(), network.edge_target()
    order = np.lexsort((np.arange(len(source)), target, source))
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (np.diff(source[order]) != 0) | (np.diff(target[order]) != 0)
    starts = np.flatnonzero(first)
    following = np.arange(1, len(order) + 1)
    # The last of each group leads back to its first.
    following[np.append(starts[1:], len(order))[: len(starts)] - 1] = starts
    ring = np.empty(len(order), dtype=np.int32)
    ring[order] = order[following] if len(order) else order
    return ring


@kernel
def commitment_fee(liquidity: Liquidity, channel: int, outputs: int) -> int:
    """What a commitment transaction with that many HTLC outputs costs the opener, in msat."""
    terms = liquidity.terms
    weight = terms[channel, WEIGHT] + HTLC_WEIGHT * outputs
    fee: int = terms[channel, FEE_PER_KW] * weight // 1_000 * MSAT_PER_SAT
    return fee


@kernel
def fee_buffer(liquidity: Liquidity, channel: int, outputs: int) -> int:
    """What LND keeps for the fee when it pays for it: twice the rate and one HTLC more, in msat."""
    terms = liquidity.terms
    weight = terms[channel, WEIGHT] + HTLC_WEIGHT * (outputs + 1)
    fee: int = 2 * terms[channel, FEE_PER_KW] * weight // 1_000 * MSAT_PER_SAT
    return fee


@kernel
def reported_balance(liquidity: Liquidity, edge: int) -> int:
    """What the edge's source sees as its balance in the channel, in msat (LND's `local_balance`).

    Its own commitment's: the opener's is short of the fee and the anchors.
    """
    channel, side = edge >> 1, edge & 1
    balance: int = liquidity.balance[channel, side]
    if liquidity.terms[channel, OPENER] != side:
        return balance
    balance -= liquidity.terms[channel, ANCHORS]
    pending = liquidity.pending
    outputs = pending[edge, OUTPUTS_OFFERED] + pending[edge ^ 1, OUTPUTS_RECEIVED]
    fee = commitment_fee(liquidity, channel, outputs)
    # LND compares whole satoshi (`createUnsignedCommitmentTx`).
    if balance < 0 or fee // MSAT_PER_SAT > balance // MSAT_PER_SAT:
        return 0
    return balance - fee


@kernel
def bandwidth(liquidity: Liquidity, edge: int) -> int:
    """The most that the edge's source may send over it now, in msat (LND's `link.Bandwidth`).

    Slots and limits on what is in flight are not part of it; see `can_add`.
    """
    channel, side = edge >> 1, edge & 1
    balance, terms, pending = liquidity.balance, liquidity.terms, liquidity.pending
    own: int = balance[channel, side]
    others: int = balance[channel, 1 - side]
    reserve: int = terms[channel, RESERVE]
    back = edge ^ 1
    outputs_own = pending[edge, OUTPUTS_OFFERED] + pending[back, OUTPUTS_RECEIVED]
    outputs_others = pending[edge, OUTPUTS_RECEIVED] + pending[back, OUTPUTS_OFFERED]
    if terms[channel, OPENER] == side:
        # Room for this HTLC as an output, on the commitment that has more of them.
        outputs = max(outputs_own, outputs_others) + 1
        own -= terms[channel, ANCHORS] + reserve
        needed = fee_buffer(liquidity, channel, outputs)
        return own - needed if needed < own else 0
    own = max(0, own - reserve)
    others = max(0, others - terms[channel, ANCHORS] - reserve)
    htlc_fee = terms[channel, FEE_PER_KW] * HTLC_WEIGHT // 1_000 * MSAT_PER_SAT
    result = own
    # If the opener cannot pay for one output more, only dust can be sent.
    fee = commitment_fee(liquidity, channel, outputs_own) + htlc_fee
    if others < fee and own >= terms[channel, NO_DUST_OFFERED]:
        result = min(result, terms[channel, NO_DUST_OFFERED] - 1)
    fee = commitment_fee(liquidity, channel, outputs_others) + htlc_fee
    if others < fee and own >= terms[channel, NO_DUST_RECEIVED]:
        result = min(result, terms[channel, NO_DUST_RECEIVED] - 1)
    return result


@kernel
def can_add(liquidity: Liquidity, edge: int, amount: int) -> bool:
    """Whether both commitments stay valid with one HTLC of `amount` msat more over the edge.

    LND's `MayAddOutgoingHtlc`: balances and reserves, the opener's fee, slots, amount in flight.
    """
    channel, side = edge >> 1, edge & 1
    balance, terms, pending = liquidity.balance, liquidity.terms, liquidity.pending
    back = edge ^ 1
    if (
        amount < terms[channel, LEAST_HTLC]
        or pending[edge, COUNT] >= terms[channel, MAX_HTLCS]
        or pending[edge, AMOUNT] + amount > terms[channel, MAX_IN_FLIGHT]
    ):
        return False
    reserve, anchors = terms[channel, RESERVE], terms[channel, ANCHORS]
    own = balance[channel, side] - amount
    others = balance[channel, 1 - side]
    outputs_own = pending[edge, OUTPUTS_OFFERED] + pending[back, OUTPUTS_RECEIVED]
    outputs_others = pending[edge, OUTPUTS_RECEIVED] + pending[back, OUTPUTS_OFFERED]
    output_own = amount >= terms[channel, NO_DUST_OFFERED]
    output_others = amount >= terms[channel, NO_DUST_RECEIVED]
    if terms[channel, OPENER] == side:
        own -= anchors
        outputs = max(outputs_own + output_own, outputs_others + output_others)
        needed = fee_buffer(liquidity, channel, outputs)
        return bool(needed < own and own - needed >= reserve)
    if own < reserve:
        return False
    others -= anchors
    # The opener must be able to pay, and may be below its reserve only if this costs it nothing.
    fee = commitment_fee(liquidity, channel, outputs_own + output_own)
    if fee >= others or (output_own and others - fee < reserve):
        return False
    fee = commitment_fee(liquidity, channel, outputs_others + output_others)
    return bool(fee < others and not (output_others and others - fee < reserve))


@kernel
def sendable(liquidity: Liquidity, edge: int, amount: int) -> int:
    """What LND's route search takes as the bandwidth of an own channel for an HTLC of `amount`.

    msat; 0 if the HTLC cannot be added at all (`bandwidthManager.availableChanBandwidth`).
    """
    return bandwidth(liquidity, edge) if can_add(liquidity, edge, amount) else 0


@kernel
def overexposed(liquidity: Liquidity, edge: int, amount: int) -> bool:
    """Whether one HTLC more over the edge brings fee and dust above the limit.

    LND's `isOverexposedWithHtlc`, which the link asks before it adds an HTLC.
    """
    channel = edge >> 1
    terms, pending = liquidity.terms, liquidity.pending
    back = edge ^ 1
    outputs_own = pending[edge, OUTPUTS_OFFERED] + pending[back, OUTPUTS_RECEIVED]
    outputs_others = pending[edge, OUTPUTS_RECEIVED] + pending[back, OUTPUTS_OFFERED]
    fee = commitment_fee(liquidity, channel, max(outputs_own, outputs_others))
    htlc_fee = terms[channel, FEE_PER_KW] * HTLC_WEIGHT // 1_000 * MSAT_PER_SAT
    # LND counts this HTLC in whole satoshi here.
    rounded = amount // MSAT_PER_SAT * MSAT_PER_SAT
    dust_own = fee + pending[edge, DUST_OFFERED] + pending[back, DUST_RECEIVED]
    dust_own += htlc_fee if amount >= terms[channel, NO_DUST_OFFERED] else rounded
    dust_others = fee + pending[edge, DUST_RECEIVED] + pending[back, DUST_OFFERED]
    dust_others += htlc_fee if amount >= terms[channel, NO_DUST_RECEIVED] else rounded
    limit = terms[channel, MAX_EXPOSURE]
    return bool(dust_own > limit or dust_others > limit)


@kernel
def dust_exceeded(liquidity: Liquidity, edge: int, amount: int, incoming: bool) -> bool:
    """Whether dust alone is above the limit; what LND's switch asks (`dustExceedsFeeThreshold`).

    Asked by the edge's source with the HTLC not yet added, or by its target (`incoming`) with the
    HTLC already on it.
    """
    channel = edge >> 1
    terms, pending = liquidity.terms, liquidity.pending
    back = edge ^ 1
    limit = terms[channel, MAX_EXPOSURE]
    added = 0 if incoming else amount
    if amount < terms[channel, NO_DUST_OFFERED]:
        dust = pending[edge, DUST_OFFERED] + pending[back, DUST_RECEIVED]
        if dust + added > limit:
            return True
    if amount < terms[channel, NO_DUST_RECEIVED]:
        dust = pending[edge, DUST_RECEIVED] + pending[back, DUST_OFFERED]
        if dust + added > limit:
            return True
    return False


@kernel
def add_htlc(liquidity: Liquidity, edge: int, amount: int) -> None:
    """Put `amount` msat of the edge's source in flight. Ask `can_add` first."""
    liquidity.balance[edge >> 1, edge & 1] -= amount
    _count_htlc(liquidity, edge, amount, 1)


@kernel
def settle_htlc(liquidity: Liquidity, edge: int, amount: int) -> None:
    """Give an HTLC of `amount` msat that is in flight over the edge to its target."""
    _count_htlc(liquidity, edge, amount, -1)
    liquidity.balance[edge >> 1, 1 - (edge & 1)] += amount


@kernel
def fail_htlc(liquidity: Liquidity, edge: int, amount: int) -> None:
    """Give an HTLC of `amount` msat that is in flight over the edge back to its source."""
    _count_htlc(liquidity, edge, amount, -1)
    liquidity.balance[edge >> 1, edge & 1] += amount


@kernel
def _count_htlc(liquidity: Liquidity, edge: int, amount: int, sign: int) -> None:
    terms, pending = liquidity.terms, liquidity.pending
    channel = edge >> 1
    pending[edge, AMOUNT] += sign * amount
    pending[edge, COUNT] += sign
    if amount >= terms[channel, NO_DUST_OFFERED]:
        pending[edge, OUTPUTS_OFFERED] += sign
    else:
        pending[edge, DUST_OFFERED] += sign * amount
    if amount >= terms[channel, NO_DUST_RECEIVED]:
        pending[edge, OUTPUTS_RECEIVED] += sign
    else:
        pending[edge, DUST_RECEIVED] += sign * amount
