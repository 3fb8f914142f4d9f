"""Routes to choose from, found and judged by the paying node itself."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

from lnagents.env.features import share
from lnagents.env.live.delegation import BLOCK_PADDING
from lnagents.env.live.node import LiveNode, within
from lnagents.env.routes import RouteCandidate
from lnagents.lnd import PairEstimate
from lnagents.lnd.graph_calls import DEFAULT_FINAL_CLTV_DELTA
from lnagents.model.errors import LndError, NoRouteError
from lnagents.model.payment import Route
from lnagents.model.units import Msat, NodeKey


async def find_candidates(
    payer: LiveNode, destination: NodeKey, amount_msat: Msat, fee_limit_msat: Msat, limit: int
) -> tuple[RouteCandidate, ...]:
    """At most `limit` routes, best first; none if the node is down or finds none.

    The first is what LND would try. Each further one is its answer when the least likely pair of
    the route before it is forbidden, besides those that were forbidden before.
    """
    found: list[RouteCandidate] = []
    avoided: list[tuple[NodeKey, NodeKey]] = []
    try:
        while len(found) < limit:
            routes = await within(
                payer.client.query_routes(
                    destination,
                    amount_msat,
                    fee_limit_msat=fee_limit_msat,
                    final_cltv_delta=DEFAULT_FINAL_CLTV_DELTA + BLOCK_PADDING,
                    ignored_pairs=avoided,
                )
            )
            estimates = await within(_judge(payer, routes[0]))
            found.append(_candidate(payer, routes[0], estimates))
            # Of several the last, as in the twin.
            weakest = min(reversed(estimates), key=lambda estimate: estimate.probability)
            avoided.append((weakest.history.source, weakest.history.target))
    except (NoRouteError, LndError):
        return tuple(found)
    return tuple(found)


async def _judge(payer: LiveNode, route: Route) -> Sequence[PairEstimate]:
    """What the node thinks of each hop."""
    sources = [payer.key, *(hop.target for hop in route.hops[:-1])]
    amounts = [route.total_amount_msat, *(hop.amount_msat for hop in route.hops[:-1])]
    return await asyncio.gather(
        *(
            payer.client.estimate(source, hop.target, amount)
            for source, hop, amount in zip(sources, route.hops, amounts, strict=True)
        )
    )


def _candidate(payer: LiveNode, route: Route, estimates: Sequence[PairEstimate]) -> RouteCandidate:
    newest = max(max(one.history.failed_at, one.history.succeeded_at) for one in estimates)
    first = next(channel for channel in payer.known if channel.scid == route.hops[0].scid)
    both = first.local_balance_msat + first.remote_balance_msat
    left = max(0, first.local_balance_msat - route.total_amount_msat)
    return RouteCandidate(
        route=route,
        probability=math.prod(one.probability for one in estimates),
        information_age_seconds=max(0.0, time.time() - newest) if newest > 0.0 else None,
        hinted=False,
        local_share_after=share(left, both - left, 0.0),
    )
