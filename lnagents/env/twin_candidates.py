"""Candidate routes in the twin: what a sender's LND would try, and what it would try instead."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from lnagents.env.routes import RouteCandidate
from lnagents.model.payment import Hop, Route
from lnagents.model.units import Msat, NodeKey
from lnagents.twin.commitment import reported_balance
from lnagents.twin.gossip import seen_row
from lnagents.twin.memory import results_of
from lnagents.twin.network import DISABLED, Int64Array
from lnagents.twin.probability import edge_probability
from lnagents.twin.search import find_route
from lnagents.twin.simulator import Twin


def find_candidates(
    twin: Twin,
    keys: Sequence[NodeKey],
    source: int,
    target: int,
    amount_msat: Msat,
    fee_limit_msat: Msat,
    limit: int,
) -> tuple[RouteCandidate, ...]:
    """At most `limit` routes, best first; see `World.candidates`.

    Args:
        twin: as it is now; nothing in it changes.
        keys: of its nodes.
        source: who pays.
        target: who is paid.
        amount_msat: what arrives.
        fee_limit_msat: what a route may cost.
        limit: how many routes.
    """
    state = twin.state
    known = {
        (one.from_node, one.to_node): max(one.failed_at, one.succeeded_at)
        for one in results_of(state.mind.memory, source)
    }
    found: list[RouteCandidate] = []
    policy, balance = state.mind.gossip.policy, state.switch.liquidity.balance
    saved: list[tuple[Int64Array, tuple[int, int], int]] = []
    try:
        while len(found) < limit:
            hops = find_route(
                state.mind.space,
                state.mind.gossip,
                state.switch.liquidity,
                state.mind.memory,
                state.mind.numbers,
                source,
                target,
                amount_msat,
                fee_limit_msat,
                twin.settings.block_height,
                twin.now,
                False,
            )
            if hops <= 0:
                break
            edges = state.mind.space.route_edge[:hops].tolist()
            candidate, least = _candidate(twin, keys, source, edges, known)
            found.append(candidate)
            # Whoever is avoided cannot carry anything for the rest of this search.
            worst = edges[least]
            place = (worst >> 1, worst & 1)
            if least == 0:
                saved.append((balance, place, int(balance[place])))
                balance[place] = 0
            else:
                row = (seen_row(state.mind.gossip, source, worst, twin.now), DISABLED)
                saved.append((policy, row, int(policy[row])))
                policy[row] = 1
    finally:
        for array, place, value in reversed(saved):
            array[place] = value
    return tuple(found)


def _candidate(
    twin: Twin,
    keys: Sequence[NodeKey],
    source: int,
    edges: list[int],
    known: Mapping[tuple[int, int], float],
) -> tuple[RouteCandidate, int]:
    """The route that the last search left, and where on it the least likely edge is.

    `known` says when each pair of nodes was last heard of.
    """
    state, network = twin.state, twin.network
    space = state.mind.space
    amounts = space.route_amount[: len(edges)].tolist()
    expiries = space.route_expiry[: len(edges)].tolist()
    ends = [network.channel_nodes[edge >> 1] for edge in edges]
    nodes = [source, *(int(end[1 - (edge & 1)]) for edge, end in zip(edges, ends, strict=True))]
    hops = []
    for index, edge in enumerate(edges):
        last = index + 1 == len(edges)
        forwarded = amounts[index] if last else amounts[index + 1]
        hops.append(
            Hop(
                scid=int(network.scids[edge >> 1]),
                target=keys[nodes[index + 1]],
                amount_msat=forwarded,
                fee_msat=amounts[index] - forwarded,
                expiry=expiries[index] if last else expiries[index + 1],
            )
        )
    chances = [
        edge_probability(
            state.mind.memory,
            state.mind.numbers,
            source,
            nodes[index],
            nodes[index + 1],
            amounts[index],
            int(network.capacity[edge >> 1]),
            twin.now,
        )
        for index, edge in enumerate(edges)
    ]
    ages = [twin.now - known[pair] for pair in itertools.pairwise(nodes) if pair in known]
    first = edges[0]
    local = reported_balance(state.switch.liquidity, first)
    both = local + reported_balance(state.switch.liquidity, first ^ 1)
    candidate = RouteCandidate(
        route=Route(tuple(hops), amounts[0], expiries[0], b"", amounts[-1]),
        probability=float(space.route_probability[0]),
        information_age_seconds=min(ages, default=None),
        hinted=False,
        local_share_after=max(0, local - amounts[0]) / max(1, both),
    )
    return candidate, min(range(len(edges)), key=lambda index: (chances[index], -index))
