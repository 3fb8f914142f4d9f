"""All agents of a twin observed and steered at once, straight from and to the twin's arrays.

Features, sums and fees are those of `lnagents.env.encoding`, `reward` and `fees`: the same
functions of numbers that a daemon calls as they are, compiled here.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from lnagents.env.encoding import (
    ChannelFacts,
    NodeFacts,
    channel_features,
    node_features,
    with_channel,
)
from lnagents.env.features import (
    FloatArray,
    against,
    base_fee_scale,
    count_scale,
    fee_scale,
    flow_scale,
    log_scale,
    money_scale,
    rate_scale,
    share,
)
from lnagents.env.fees import BASE_OFFSET_MSAT, RATE_OFFSET_PPM, FeeBounds, moved_fee
from lnagents.env.reward import network_share
from lnagents.model.kernel import kernel
from lnagents.model.units import MSAT_PER_SAT
from lnagents.twin.commitment import Liquidity, reported_balance
from lnagents.twin.gossip import Gossip, seen_row
from lnagents.twin.network import (
    BASE_FEE,
    DISABLED,
    FEE_RATE,
    INBOUND_FEE_RATE,
    POLICY_COLUMNS,
    Int8Array,
    Int32Array,
    Int64Array,
    Network,
)
from lnagents.twin.state import (
    FAILED_FORWARDS,
    FEES_EARNED,
    FORWARDED_IN,
    FORWARDED_OUT,
    FORWARDS,
    RECEIVED,
    SENT,
)

BoolArray: TypeAlias = NDArray[np.bool_]
DoubleArray: TypeAlias = NDArray[np.float64]

for _function in (
    against,
    log_scale,
    fee_scale,
    rate_scale,
    base_fee_scale,
    money_scale,
    count_scale,
    flow_scale,
    share,
    channel_features,
    node_features,
    with_channel,
    network_share,
    moved_fee,
):
    register_jitable(_function)

# Columns of `PaymentCounts`, what became of each agent's own payments in the last round.
SETTLED = 0
FAILED = 1
FAILED_ATTEMPTS = 2
FEES_PAID = 3
"""msat, of what settled."""
COUNT_COLUMNS = 4

# Elements of `AgentChannels.edge_rate` that are no rates.
_OFF = -1
_DIFFERS = -2


class AgentChannels(NamedTuple):
    """Who decides, and about which edges; never changes."""

    node: Int32Array
    """[agents], positions in the network."""
    agent_of: Int32Array
    """[nodes], position among the agents, -1 for other nodes."""
    first: Int64Array
    """[agents + 1]; agent a has the own edges `first[a]` to `first[a + 1]`."""
    edge: Int32Array
    """[own edges], ascending for each agent."""
    target: Int32Array
    """[own edges]."""
    capacity: Int64Array
    """[own edges], msat."""
    into_first: Int64Array
    """[nodes + 1]; into node n lead `into_first[n]` to `into_first[n + 1]`."""
    into: Int32Array
    """[edges], grouped by target."""
    into_source: Int32Array
    """[edges], the source of each edge of `into`."""
    edge_rate: Int64Array
    """[edges], working memory: what each edge charges, see `_look_up_rates`."""
    source: Int32Array
    """[edges]."""
    rates: Int64Array
    """Working memory: as many elements as edges lead into one node at most."""


def agent_channels(network: Network, nodes: Int32Array) -> AgentChannels:
    """The agents on `nodes`, in this order."""
    source, target = network.edge_source(), network.edge_target()
    agent_of = np.full(network.nodes, -1, np.int32)
    agent_of[nodes] = np.arange(len(nodes))
    own = np.flatnonzero(agent_of[source] >= 0)
    own = own[np.argsort(agent_of[source[own]], kind="stable")]
    first = np.zeros(len(nodes) + 1, np.int64)
    np.cumsum(np.bincount(agent_of[source[own]], minlength=len(nodes)), out=first[1:])
    into_first = np.zeros(network.nodes + 1, np.int64)
    np.cumsum(np.bincount(target, minlength=network.nodes), out=into_first[1:])
    into = np.argsort(target, kind="stable").astype(np.int32)
    return AgentChannels(
        node=np.asarray(nodes, np.int32),
        agent_of=agent_of,
        first=first,
        edge=own.astype(np.int32),
        target=target[own],
        capacity=network.capacity[own >> 1],
        into_first=into_first,
        into=into,
        into_source=source[into],
        edge_rate=np.zeros(len(into), np.int64),
        source=source,
        rates=np.zeros(max(1, int(np.diff(into_first).max(initial=0))), np.int64),
    )


@kernel
def count_payments(
    agent_of: Int32Array,
    source: Int32Array,
    reason: NDArray[np.int8],
    fee: Int64Array,
    failed_attempts: Int32Array,
    counts: Int64Array,
) -> None:
    """Write the sums over each agent's own payments into `counts`.

    Args:
        agent_of: see `AgentChannels`.
        source: of each payment.
        reason: why it failed, 0 if it settled.
        fee: msat.
        failed_attempts: of each payment.
        counts: [agents, COUNT_COLUMNS].
    """
    counts[:] = 0
    for payment in range(len(source)):
        agent = agent_of[source[payment]]
        if agent >= 0:
            row = counts[agent]
            row[FAILED_ATTEMPTS] += failed_attempts[payment]
            if reason[payment] == 0:
                row[SETTLED] += 1
                row[FEES_PAID] += fee[payment]
            else:
                row[FAILED] += 1


@kernel
def _look_up_rates(agents: AgentChannels, gossip: Gossip, now: float) -> None:
    """Fill `edge_rate`: ppm, `_OFF` of disabled edges, `_DIFFERS` if not everyone sees the same.

    One pass in order is much quicker than to look each policy up when it is needed.
    """
    for edge in range(len(agents.edge_rate)):
        if now < gossip.settled_at[edge]:
            agents.edge_rate[edge] = _DIFFERS
        elif gossip.policy[edge, DISABLED] != 0:
            agents.edge_rate[edge] = _OFF
        else:
            agents.edge_rate[edge] = gossip.policy[edge, FEE_RATE]


@kernel
def _competing_rate(agents: AgentChannels, gossip: Gossip, node: int, peer: int, now: float) -> int:
    """Median fee rate of what others than `node` announce into `peer`, ppm; -1 if nobody does.

    As `lnagents.env.local_view.competing_ppm`: of an even number the mean of both in the middle,
    rounded to even; disabled edges do not compete. `_look_up_rates` has been called.
    """
    rates = agents.rates
    count = 0
    for place in range(agents.into_first[peer], agents.into_first[peer + 1]):
        if agents.into_source[place] == node:
            continue
        edge = agents.into[place]
        rate = agents.edge_rate[edge]
        if rate == _DIFFERS:
            row = seen_row(gossip, node, edge, now)
            rate = _OFF if gossip.policy[row, DISABLED] != 0 else gossip.policy[row, FEE_RATE]
        if rate != _OFF:
            rates[count] = rate
            count += 1
    return middle_rate(rates, count)


@kernel
def middle_rate(rates: Int64Array, count: int) -> int:
    """The median of the first `count`, rounded to even, -1 if there are none; reorders them."""
    if count == 0:
        return -1
    upper = _smallest(rates, count, count // 2)
    if count % 2 == 1:
        return upper
    # What is left of the place is not larger.
    lower = rates[0]
    for place in range(1, count // 2):
        lower = max(lower, rates[place])
    half = (lower + upper) // 2
    return int(half + ((lower + upper) % 2) * (half % 2))


@kernel
def _smallest(values: Int64Array, count: int, rank: int) -> int:
    """The value of `rank`, counted from 0; afterwards none before its place is larger (Hoare)."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if rank <= right:
            high = right
        elif rank >= left:
            low = left
        else:
            break
    value: int = values[rank]
    return value


@kernel
def encode_agents(
    agents: AgentChannels,
    liquidity: Liquidity,
    gossip: Gossip,
    flows: Int64Array,
    down: BoolArray,
    found: Int64Array,
    counts: Int64Array,
    now: float,
    channels: FloatArray,
    channel_mask: NDArray[np.int8],
    node: FloatArray,
    terms: DoubleArray,
) -> None:
    """Write what all agents see now into the arrays of a `RoundArrays`.

    Balances are in whole satoshi, as LND tells them.

    Args:
        agents: who sees.
        liquidity: of the twin.
        gossip: of the twin.
        flows: of the twin, since the round began.
        down: [nodes], who is off.
        found: [own edges, POLICY_COLUMNS], policies when the agents took over.
        counts: [agents, COUNT_COLUMNS], own payments.
        now: seconds.
        channels: [agents, most channels, `CHANNEL_FEATURES`].
        channel_mask: [agents, most channels].
        node: [agents, `NODE_FEATURES`].
        terms: [agents, `TERM_NAMES`].
    """
    _look_up_rates(agents, gossip, now)
    for agent in range(len(agents.node)):
        own = agents.node[agent]
        count = counts[agent]
        sums = NodeFacts(
            channels=0,
            active=0,
            local=0,
            remote=0,
            capacity=0,
            one_sided=0,
            even_capacity=0,
            forwarded_out=0,
            fees_earned=0,
            forwards=0,
            failed_forwards=0,
            payments_settled=count[SETTLED],
            payments_failed=count[FAILED],
            failed_attempts=count[FAILED_ATTEMPTS],
            fees_paid=count[FEES_PAID],
            hint_costs=0,
            hint_income=0,
        )
        begin = agents.first[agent]
        for place in range(begin, agents.first[agent + 1]):
            edge, peer = agents.edge[place], agents.target[place]
            policy, flow = gossip.policy[edge], flows[edge]
            active = not (down[own] or down[peer])
            facts = ChannelFacts(
                local=reported_balance(liquidity, edge) // MSAT_PER_SAT * MSAT_PER_SAT,
                remote=reported_balance(liquidity, edge ^ 1) // MSAT_PER_SAT * MSAT_PER_SAT,
                capacity=agents.capacity[place],
                active=active,
                fee_rate=policy[FEE_RATE],
                base_fee=policy[BASE_FEE],
                inbound_fee_rate=policy[INBOUND_FEE_RATE],
                found_fee_rate=found[place, FEE_RATE],
                peer_fee_rate=gossip.policy[seen_row(gossip, own, edge ^ 1, now), FEE_RATE],
                competing=_competing_rate(agents, gossip, own, peer, now),
                forwarded_in=flow[FORWARDED_IN],
                forwarded_out=flow[FORWARDED_OUT],
                sent=flow[SENT],
                received=flow[RECEIVED],
                fees_earned=flow[FEES_EARNED],
                forwards=flow[FORWARDS],
                failed_forwards=flow[FAILED_FORWARDS],
            )
            sums = with_channel(sums, facts)
            row = place - begin
            values = channel_features(facts)
            for column in range(len(values)):
                channels[agent, row, column] = values[column]
            channel_mask[agent, row] = 1
        whole = node_features(sums)
        for column in range(len(whole)):
            node[agent, column] = whole[column]
        terms[agent, 0] = sums.fees_earned
        terms[agent, 1] = sums.fees_paid
        terms[agent, 2] = sums.hint_costs
        terms[agent, 3] = sums.hint_income
        terms[agent, 4] = sums.failed_attempts
        terms[agent, 5] = network_share(
            sums.even_capacity,
            sums.capacity,
            sums.payments_settled + sums.forwards,
            sums.payments_failed + sums.failed_forwards,
        )
        terms[agent, 6] = sums.forwarded_out
        terms[agent, 7] = sums.payments_settled
        terms[agent, 8] = sums.payments_failed


class BoundNumbers(NamedTuple):
    """`FeeBounds` as kernels take them."""

    min_ppm: int
    max_ppm: int
    min_base: int
    max_base: int
    max_discount: int
    min_change: float


def bound_numbers(bounds: FeeBounds) -> BoundNumbers:
    """`bounds` for kernels; types are always the same, so that they compile once."""
    return BoundNumbers(
        int(bounds.min_ppm),
        int(bounds.max_ppm),
        int(bounds.min_base_msat),
        int(bounds.max_base_msat),
        int(bounds.max_inbound_discount_ppm),
        float(bounds.min_change),
    )


@kernel
def decode_fees(
    agents: AgentChannels,
    policy: Int64Array,
    down: BoolArray,
    found: Int64Array,
    bounds: BoundNumbers,
    fees: FloatArray,
    decides: Int8Array,
    edges: Int64Array,
    policies: Int64Array,
) -> int:
    """The policies that the agents want to change; how many, or -1 if a number is not finite.

    Args:
        agents: who decides.
        policy: [edges, POLICY_COLUMNS], what is in force; more rows may follow.
        down: [nodes], who is off.
        found: [own edges, POLICY_COLUMNS], policies when the agents took over.
        bounds: what may be set.
        fees: [agents, most channels, `ACTION_NAMES`].
        decides: [agents], 0 for those whose policies stay.
        edges: [own edges], where the changed edges are written.
        policies: [own edges, POLICY_COLUMNS], and their new policies.
    """
    changed = 0
    for agent in range(len(agents.node)):
        if not decides[agent]:
            continue
        begin = agents.first[agent]
        for place in range(begin, agents.first[agent + 1]):
            levels = fees[agent, place - begin]
            if not (np.isfinite(levels[0]) and np.isfinite(levels[1]) and np.isfinite(levels[2])):
                return -1
            edge = agents.edge[place]
            if down[agents.node[agent]] or down[agents.target[place]]:
                continue
            row, before = policy[edge], found[place]
            rate = moved_fee(
                before[FEE_RATE],
                row[FEE_RATE],
                levels[0],
                RATE_OFFSET_PPM,
                bounds.min_ppm,
                bounds.max_ppm,
                bounds.min_change,
            )
            discount = max(0, -row[INBOUND_FEE_RATE])
            new_discount = moved_fee(
                max(0, -before[INBOUND_FEE_RATE]),
                discount,
                levels[1],
                RATE_OFFSET_PPM,
                0,
                bounds.max_discount,
                bounds.min_change,
            )
            base = moved_fee(
                before[BASE_FEE],
                row[BASE_FEE],
                levels[2],
                BASE_OFFSET_MSAT,
                bounds.min_base,
                bounds.max_base,
                bounds.min_change,
            )
            if rate == row[FEE_RATE] and base == row[BASE_FEE] and new_discount == discount:
                continue
            edges[changed] = edge
            for column in range(POLICY_COLUMNS):
                policies[changed, column] = row[column]
            policies[changed, FEE_RATE] = rate
            policies[changed, BASE_FEE] = base
            if new_discount != discount:
                policies[changed, INBOUND_FEE_RATE] = -new_discount
            changed += 1
    return changed


@kernel
def scatter_rows(
    agents: AgentChannels,
    down: BoolArray,
    values: FloatArray,
    decides: Int8Array,
    least: float,
    by_edge: DoubleArray,
) -> None:
    """Write the agents' values for their channels, clipped to `least` to 1, where their edges are.

    Args:
        agents: whose values they are.
        down: [nodes], who is off; channels that cannot be used keep what they have.
        values: [agents, most channels].
        decides: [agents], 0 for those whose channels keep what they have.
        least: what smaller values become.
        by_edge: [edges], changed where agents have channels.
    """
    for agent in range(len(agents.node)):
        if not decides[agent]:
            continue
        begin = agents.first[agent]
        for place in range(begin, agents.first[agent + 1]):
            if not (down[agents.node[agent]] or down[agents.target[place]]):
                by_edge[agents.edge[place]] = min(1.0, max(least, values[agent, place - begin]))
