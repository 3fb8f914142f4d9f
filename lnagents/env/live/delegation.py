"""Where a route is cut so that an agent on it goes on as it likes (`lnagents.model.delegation`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from lnagents.model.delegation import DELEGATION_RECORD, NOWHERE, Delegation
from lnagents.model.payment import HOP_BY_HOP_SLACK, Hop, Route
from lnagents.model.units import NodeKey

BLOCK_PADDING = 3
"""Blocks beyond what an invoice asks for, for those mined meanwhile (LND's
`routing.BlockPadding`)."""


def delegate(
    route: Route,
    agents: Collection[NodeKey],
    delegation: Delegation,
    slack: int = HOP_BY_HOP_SLACK,
) -> Route:
    """`route` as far as the first of `agents` on it, which is told to go on as it likes.

    That agent is handed what the rest of the route would have cost, and `slack` blocks more. If
    there is no such agent it is the whole route, which carries the payment secret to its end.
    """
    for place, hop in enumerate(route.hops[:-1]):
        if hop.target in agents and hop.target not in delegation.passed:
            return _cut(route, place, delegation, slack)
    return replace(
        route,
        payment_addr=delegation.payment_addr,
        payment_total_msat=delegation.amount_msat,
    )


def _cut(route: Route, place: int, delegation: Delegation, slack: int) -> Route:
    chooser = route.hops[place]
    hops = [replace(hop, expiry=hop.expiry + slack) for hop in route.hops[:place]]
    records = {DELEGATION_RECORD: delegation.to_bytes()}
    # Its "next node" is itself: what LND learns of this hop says nothing about any other pair.
    nowhere = Hop(NOWHERE, chooser.target, chooser.amount_msat, 0, chooser.expiry)
    return Route(
        hops=(*hops, replace(chooser, custom_records=records), nowhere),
        total_amount_msat=route.total_amount_msat,
        total_time_lock=route.total_time_lock + slack,
    )
