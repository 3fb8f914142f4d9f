"""Ways that lead to an agent which finds the rest of them, atomically by the payment's hash.

The agent is paid by the HTLC itself: it keeps what it does not spend. If it finds no way, or wants
more, it gives the HTLC back and has earned nothing, so no purchase goes before, and nobody has to
trust anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lnagents.agent.candidates import BLOCK_PADDING, Candidate, PathQuery
from lnagents.agent.orders import PaymentOrder, Relay
from lnagents.model.delegation import DELEGATION_RECORD, NOWHERE, Delegation
from lnagents.model.payment import Hop, Route
from lnagents.model.units import Msat

Find = Callable[[PathQuery], list[Candidate]]
"""Routes for a query, the best first."""


def relayed(
    order: PaymentOrder, relay: Relay, max_fee_msat: Msat, height: int, find: Find
) -> list[Candidate]:
    """Ways by `relay`, which is told to pay `order`; `max_fee_msat` is for way and relay together.

    Both ends of the way's fee are known only when the way is: so it is sought at the most that it
    may carry, and where the relay gets all that is left, once more with what that is.
    """
    blocks = order.blocks_left(height)
    amount = order.invoice.amount_msat
    fee = max_fee_msat if relay.fee_msat is None else relay.fee_msat
    least = order.invoice.final_cltv_delta if relay.time_lock is None else relay.time_lock
    query = PathQuery(
        destination=relay.key,
        amount_msat=amount + fee,
        # What is left over for the way; unlimited while the relay's own part is not known.
        max_fee_msat=max_fee_msat - (0 if relay.fee_msat is None else fee),
        final_cltv_delta=least,
        max_time_lock=blocks,
        # At least one channel has to be left for the relay.
        max_hops=order.hop_limit - 1,
        excluded=order.excluded,
    )
    if query.max_fee_msat < 0 or query.max_hops < 1 or relay.key in order.passed:
        return []
    found = find(query)
    if found and (relay.fee_msat is None or relay.time_lock is None):
        route = found[0].route
        if relay.fee_msat is None:
            fee = max_fee_msat - route.fee_msat
        way_blocks = route.total_time_lock - route.hops[-1].expiry
        lock = blocks - way_blocks - BLOCK_PADDING if relay.time_lock is None else least
        if fee < 0 or lock < least:
            return []
        left = max_fee_msat - fee
        found = find(
            replace(query, amount_msat=amount + fee, max_fee_msat=left, final_cltv_delta=lock)
        )
    return [_hand_over(candidate, order, relay, fee) for candidate in found]


def _hand_over(candidate: Candidate, order: PaymentOrder, relay: Relay, fee: Msat) -> Candidate:
    route, invoice = candidate.route, order.invoice
    told = Delegation(
        destination=invoice.destination,
        payment_addr=invoice.payment_addr,
        amount_msat=invoice.amount_msat,
        final_cltv_delta=invoice.final_cltv_delta,
        passed=order.passed,
        fee_budget_msat=fee,
        hop_limit=order.hop_limit - len(route.hops),
        quote=relay.quote,
    )
    arrival = route.hops[-1]
    last = Hop(
        scid=arrival.scid,
        target=relay.key,
        amount_msat=invoice.amount_msat,
        fee_msat=fee,
        expiry=arrival.expiry,
        custom_records={DELEGATION_RECORD: told.to_bytes()},
    )
    # Its "next node" is itself: what LND learns of this hop says nothing about any other pair.
    nowhere = Hop(NOWHERE, relay.key, invoice.amount_msat, 0, arrival.expiry)
    handed = Route(
        hops=(*route.hops[:-1], last, nowhere),
        total_amount_msat=route.total_amount_msat,
        total_time_lock=route.total_time_lock,
    )
    return replace(candidate, candidate=replace(candidate.candidate, route=handed))
