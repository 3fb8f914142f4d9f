"""Who knows which policy: announcements travel hop by hop, and too many of them are dropped.

A node enforces what it set last at once. Others hear of it after a delay per hop, unless the
nodes that pass it on refuse it: each allows a burst of updates per channel and direction and then
one per interval (`MaxChannelUpdateBurst`, `ChannelUpdateInterval` in LND's discovery/gossiper.go),
and ignores an update whose timestamp, in whole seconds, is not newer than the one before. A refused
update is lost for everyone but its owner and senders that get it along with a failure.

Row e of `Gossip.policy` is what the owner of edge e enforces. While anyone may still go by an older
version, that lies in a further row, and `previous` leads from newer to older.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lnagents.model.kernel import kernel
from lnagents.twin.network import POLICY_COLUMNS, FloatArray, Int32Array, Int64Array, Network
from lnagents.twin.settings import GossipSettings

UNREACHED = 255
"""Hop distance of a node that gossip never reaches."""

NO_ROW = -1
_SPARE_ROWS = 64
_LEARNED_SLOTS = 256
_EMPTY = -1
_GOLDEN = 0x9E3779B1
"""Odd and near 2^32 / golden ratio: spreads consecutive keys (Knuth's multiplicative hashing)."""

# Elements of `Gossip.clock`.
_SETTLED = 0
_FIRST_HOP = 1
_RELAY = 2
_BURST = 3
_INTERVAL = 4

# Elements of `Gossip.use`.
_FREE = 0
_LEARNED = 1
_DISTANCES = 2


class Gossip(NamedTuple):
    """Policies in force, and who has heard of them."""

    policy: Int64Array
    """[rows, POLICY_COLUMNS]; row e is in force at the owner of edge e, spare rows follow."""
    announced: FloatArray
    """[rows], seconds."""
    passed_on: NDArray[np.bool_]
    """[rows], whether other nodes accepted the announcement."""
    told: NDArray[np.bool_]
    """[rows], whether a failure brought this version to a sender."""
    previous: Int32Array
    """[rows], the row of the version before, `NO_ROW` if nobody can go by it any more."""
    settled_at: FloatArray
    """[edges], from when on everyone goes by row e."""
    accepted_at: FloatArray
    """[edges], when the newest version was announced that other nodes accepted."""
    tokens: FloatArray
    """[edges], what is left of the burst at `refilled`."""
    refilled: FloatArray
    """[edges], seconds."""
    clock: FloatArray
    """The time from which on all edges are settled; delay to the owner's peers, and per hop
    more; burst; interval."""
    use: Int64Array
    """How many spare rows are free, how many entries are learned, how many distance rows exist."""
    free: Int32Array
    """The free spare rows."""
    distance_of: Int32Array
    """[nodes], row of `distance` for announcements of this node, -1 if it never made one."""
    distance: NDArray[np.uint8]
    """[announcing nodes, nodes], hops."""
    learned_key: Int64Array
    """Open-addressed table: node * edges + edge."""
    learned_at: FloatArray
    """When the version was announced that came with a failure."""
    source: Int32Array
    """[edges], the owner of each edge's policy."""
    neighbour_start: Int64Array
    """[nodes + 1]; node n has the neighbours `neighbour_start[n]` to `neighbour_start[n + 1]`."""
    neighbour: Int32Array


def make_gossip(network: Network, settings: GossipSettings) -> Gossip:
    """Gossip in which everyone goes by the network's policies."""
    edges = 2 * network.channels
    source, target = network.edge_source(), network.edge_target()
    start = np.zeros(network.nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(source, minlength=network.nodes), out=start[1:])
    return Gossip(
        policy=np.concatenate(
            [network.policy, np.zeros((_SPARE_ROWS, POLICY_COLUMNS), dtype=np.int64)]
        ),
        announced=np.full(edges + _SPARE_ROWS, -np.inf),
        passed_on=np.ones(edges + _SPARE_ROWS, dtype=np.bool_),
        told=np.zeros(edges + _SPARE_ROWS, dtype=np.bool_),
        previous=np.full(edges + _SPARE_ROWS, NO_ROW, dtype=np.int32),
        settled_at=np.full(edges, -np.inf),
        accepted_at=np.full(edges, -np.inf),
        tokens=np.full(edges, float(settings.max_channel_update_burst)),
        refilled=np.zeros(edges),
        clock=np.array(
            [
                -np.inf,
                settings.first_hop_delay,
                settings.relay_delay,
                settings.max_channel_update_burst,
                settings.channel_update_interval,
            ]
        ),
        use=np.array([_SPARE_ROWS, 0, 0], dtype=np.int64),
        free=np.arange(edges, edges + _SPARE_ROWS, dtype=np.int32)[::-1].copy(),
        distance_of=np.full(network.nodes, -1, dtype=np.int32),
        distance=np.zeros((0, network.nodes), dtype=np.uint8),
        learned_key=np.full(_LEARNED_SLOTS, _EMPTY, dtype=np.int64),
        learned_at=np.zeros(_LEARNED_SLOTS),
        source=source,
        neighbour_start=start,
        neighbour=target[np.argsort(source, kind="stable")],
    )


@kernel
def announce_at_once(gossip: Gossip, edges: Int64Array, policies: Int64Array, now: float) -> int:
    """`announce`, if there is room for all: 1; if `make_room` must be called before: 0.

    -1 if there is no such edge. Nothing is announced then, nor without room.
    """
    for index in range(len(edges)):
        if not 0 <= edges[index] < len(gossip.settled_at):
            return -1
        if gossip.distance_of[gossip.source[edges[index]]] < 0:
            return 0
    forget_settled(gossip, now)
    if len(edges) > gossip.use[_FREE]:
        return 0
    announce(gossip, edges, policies, now)
    return 1


def make_room(gossip: Gossip, edges: Int64Array, now: float) -> Gossip:
    """The same gossip, in which new policies for `edges` can be announced."""
    owners = np.unique(gossip.source[edges])
    missing = owners[gossip.distance_of[owners] < 0]
    if len(missing):
        rows = np.zeros((len(missing), len(gossip.distance_of)), dtype=np.uint8)
        queue = np.empty(len(gossip.distance_of), dtype=np.int32)
        measure_distances(gossip, missing, rows, queue)
        gossip.distance_of[missing] = gossip.use[_DISTANCES] + np.arange(len(missing))
        gossip.use[_DISTANCES] += len(missing)
        gossip = gossip._replace(distance=np.concatenate([gossip.distance, rows]))
    forget_settled(gossip, now)
    lacking = len(edges) - int(gossip.use[_FREE])
    if lacking > 0:
        rows_before = len(gossip.policy)
        more = max(lacking, rows_before - len(gossip.settled_at))
        numbers = np.arange(rows_before, rows_before + more, dtype=np.int32)
        taken = gossip.free[: gossip.use[_FREE]]
        gossip.use[_FREE] += more
        gossip = gossip._replace(
            policy=np.concatenate(
                [gossip.policy, np.zeros((more, POLICY_COLUMNS), dtype=np.int64)]
            ),
            announced=np.concatenate([gossip.announced, np.full(more, -np.inf)]),
            passed_on=np.concatenate([gossip.passed_on, np.ones(more, dtype=np.bool_)]),
            told=np.concatenate([gossip.told, np.zeros(more, dtype=np.bool_)]),
            previous=np.concatenate([gossip.previous, np.full(more, NO_ROW, dtype=np.int32)]),
            free=np.concatenate([taken, numbers, np.zeros(len(gossip.free), dtype=np.int32)]),
        )
    return gossip


def make_room_to_learn(gossip: Gossip, now: float) -> Gossip:
    """The same gossip with a table of what senders learned that has room again."""
    keys, times = gossip.learned_key, gossip.learned_at
    edges = len(gossip.settled_at)
    kept = np.flatnonzero(keys != _EMPTY)
    kept = kept[gossip.settled_at[keys[kept] % edges] > now]
    slots = len(keys)
    while 4 * len(kept) > slots:
        slots *= 2
    gossip = gossip._replace(
        learned_key=np.full(slots, _EMPTY, dtype=np.int64), learned_at=np.zeros(slots)
    )
    gossip.use[_LEARNED] = 0
    for index in kept:
        remember(gossip, keys[index], times[index])
    return gossip


@kernel
def measure_distances(
    gossip: Gossip, owners: Int32Array, distance: NDArray[np.uint8], queue: Int32Array
) -> None:
    """Write the hops from each of `owners` to every node into the rows of `distance`.

    `queue` is room for all nodes.
    """
    for index in range(len(owners)):
        row = distance[index]
        row[:] = UNREACHED
        row[owners[index]] = 0
        queue[0] = owners[index]
        head, tail = 0, 1
        while head < tail:
            node = queue[head]
            head += 1
            for place in range(gossip.neighbour_start[node], gossip.neighbour_start[node + 1]):
                other = gossip.neighbour[place]
                if row[other] == UNREACHED and row[node] < UNREACHED - 1:
                    row[other] = row[node] + 1
                    queue[tail] = other
                    tail += 1


@kernel
def seen_row(gossip: Gossip, node: int, edge: int, now: float) -> int:
    """The row of `Gossip.policy` that `node` goes by for `edge` at time `now`."""
    if is_settled(gossip, now) or now >= gossip.settled_at[edge]:
        return edge
    return _seen_version(gossip, node, edge, now)


@kernel
def is_settled(gossip: Gossip, now: float) -> bool:
    """Whether every node goes by row e of every edge e."""
    return bool(now >= gossip.clock[_SETTLED])


@kernel
def seen_rows(gossip: Gossip, node: int, now: float, rows: Int64Array) -> None:
    """Write `seen_row` of every edge into `rows`."""
    for edge in range(len(rows)):
        rows[edge] = seen_row(gossip, node, edge, now)


@kernel
def _seen_version(gossip: Gossip, node: int, edge: int, now: float) -> int:
    owner = gossip.source[edge]
    if owner == node:
        return edge
    distance = gossip.distance[gossip.distance_of[owner], node]
    delay = np.inf if distance == UNREACHED else _delay(gossip, distance)
    learned = -np.inf
    if gossip.use[_LEARNED]:
        slot = _find(gossip, _key(gossip, node, edge))
        if gossip.learned_key[slot] != _EMPTY:
            learned = gossip.learned_at[slot]
    row = edge
    while gossip.previous[row] != NO_ROW:
        if gossip.announced[row] <= learned:
            return row
        if gossip.passed_on[row] and now >= gossip.announced[row] + delay:
            return row
        row = gossip.previous[row]
    return row


@kernel
def learn_update(gossip: Gossip, node: int, edge: int, now: float) -> bool:
    """A failure told `node` what is in force at `edge`; False: it goes by that already.

    LND applies such an update to its graph without a rate limit (`ApplyChannelUpdate` in
    graph/builder.go), and does not pass it on. It counts as news only if its timestamp is newer.
    """
    row = seen_row(gossip, node, edge, now)
    if row == edge:
        return False
    # Same second, same timestamp: the sender takes it for what it has.
    if np.floor(gossip.announced[row]) == np.floor(gossip.announced[edge]):
        return False
    gossip.told[edge] = True
    remember(gossip, _key(gossip, node, edge), gossip.announced[edge])
    return True


@kernel
def can_learn(gossip: Gossip) -> bool:
    """Whether there is room for what one attempt can teach; else `make_room_to_learn`."""
    return bool(2 * (gossip.use[_LEARNED] + 1) <= len(gossip.learned_key))


@kernel
def announce(gossip: Gossip, edges: Int64Array, policies: Int64Array, now: float) -> None:
    """The owner of each edge sets and announces a new policy; `make_room` has been called."""
    for index in range(len(edges)):
        edge = edges[index]
        changed = False
        for column in range(POLICY_COLUMNS):
            changed = changed or gossip.policy[edge, column] != policies[index, column]
        # Others ignore an update that changes nothing (`IsKeepAliveUpdate`).
        if changed:
            _announce_one(gossip, edge, policies[index], now)


@kernel
def _announce_one(gossip: Gossip, edge: int, policy: Int64Array, now: float) -> None:
    clock = gossip.clock
    if now >= gossip.settled_at[edge]:
        _forget_versions(gossip, edge)
    # A version that went to nobody but its owner leaves no trace.
    if gossip.passed_on[edge] or gossip.told[edge]:
        gossip.use[_FREE] -= 1
        row = gossip.free[gossip.use[_FREE]]
        for column in range(POLICY_COLUMNS):
            gossip.policy[row, column] = gossip.policy[edge, column]
        gossip.announced[row] = gossip.announced[edge]
        gossip.passed_on[row] = gossip.passed_on[edge]
        gossip.told[row] = gossip.told[edge]
        gossip.previous[row] = gossip.previous[edge]
        gossip.previous[edge] = row
    for column in range(POLICY_COLUMNS):
        gossip.policy[edge, column] = policy[column]
    passed_on = np.floor(now) != np.floor(gossip.accepted_at[edge])
    if passed_on:
        grown = gossip.tokens[edge] + (now - gossip.refilled[edge]) / clock[_INTERVAL]
        gossip.tokens[edge] = min(clock[_BURST], grown)
        gossip.refilled[edge] = now
        passed_on = gossip.tokens[edge] >= 1.0
        if passed_on:
            gossip.tokens[edge] -= 1.0
            gossip.accepted_at[edge] = now
    gossip.told[edge] = False
    gossip.announced[edge] = now
    gossip.passed_on[edge] = passed_on
    settled_at = np.inf
    if passed_on:
        settled_at = now + _reach(gossip, gossip.source[edge])
    gossip.settled_at[edge] = settled_at
    clock[_SETTLED] = max(clock[_SETTLED], settled_at)


@kernel
def _reach(gossip: Gossip, owner: int) -> float:
    """Seconds until the last node has heard of an announcement of `owner`."""
    farthest = 0
    row = gossip.distance[gossip.distance_of[owner]]
    for node in range(len(row)):
        if row[node] != UNREACHED and row[node] > farthest:
            farthest = row[node]
    return _delay(gossip, farthest)


@kernel
def _delay(gossip: Gossip, distance: int) -> float:
    """Seconds that an announcement takes over `distance` hops."""
    if distance == 0:
        return 0.0
    return float(gossip.clock[_FIRST_HOP] + (distance - 1.0) * gossip.clock[_RELAY])


@kernel
def _forget_versions(gossip: Gossip, edge: int) -> None:
    row = gossip.previous[edge]
    gossip.previous[edge] = NO_ROW
    while row != NO_ROW:
        older = gossip.previous[row]
        gossip.free[gossip.use[_FREE]] = row
        gossip.use[_FREE] += 1
        row = older


@kernel
def forget_settled(gossip: Gossip, now: float) -> None:
    """Free the rows that nobody goes by any more."""
    latest = -np.inf
    for edge in range(len(gossip.settled_at)):
        if gossip.previous[edge] != NO_ROW:
            if now >= gossip.settled_at[edge]:
                _forget_versions(gossip, edge)
            else:
                _forget_outdated(gossip, edge, now)
                latest = max(latest, gossip.settled_at[edge])
    gossip.clock[_SETTLED] = latest


@kernel
def _forget_outdated(gossip: Gossip, edge: int, now: float) -> None:
    """Cut off what lies behind the newest version that has reached every node."""
    reach = _reach(gossip, gossip.source[edge])
    row = gossip.previous[edge]
    while row != NO_ROW:
        if gossip.passed_on[row] and now >= gossip.announced[row] + reach:
            _forget_versions(gossip, row)
            return
        row = gossip.previous[row]


@kernel
def remember(gossip: Gossip, key: int, announced: float) -> None:
    """Put what a sender learned into the table."""
    slot = _find(gossip, key)
    if gossip.learned_key[slot] == _EMPTY:
        gossip.learned_key[slot] = key
        gossip.use[_LEARNED] += 1
    gossip.learned_at[slot] = announced


@kernel
def _key(gossip: Gossip, node: int, edge: int) -> int:
    return int(node) * len(gossip.settled_at) + int(edge)


@kernel
def _find(gossip: Gossip, key: int) -> int:
    """Where `key` is or would be."""
    mask = len(gossip.learned_key) - 1
    place = ((key & 0x7FFFFFFF) * _GOLDEN >> 16) & mask
    while gossip.learned_key[place] != _EMPTY and gossip.learned_key[place] != key:
        place = (place + 1) & mask
    return place
