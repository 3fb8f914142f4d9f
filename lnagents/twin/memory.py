"""What each sender remembers of its attempts: the table behind LND's mission control.

A *result* is what one sender knows about one directed pair of nodes: the last failure (time and
least amount) and the last success (time and greatest amount). All senders' results lie in one
sparse table; the results of one sender about the channels of one node are a *group*, linked to
the sender's other groups. Whoever asks or reports loads a sender first (`load_sender`), which makes
its groups known by node.

How an outcome changes a result is LND's routing/missioncontrol_state.go; which outcome an attempt
is for whom says `lnagents.twin.mission`. Amounts are msat, times seconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lnagents.model.kernel import inlined, kernel
from lnagents.twin.network import FloatArray, Int32Array, Int64Array
from lnagents.twin.settings import SenderNumbers

NEVER = -np.inf
"""The time of what has not happened."""
NOBODY = -1

# Columns of `pair_amount` and `pair_time`.
FAILURE = 0
SUCCESS = 1
SECOND_CHANCE = 2
"""Of `pair_time` only: when a stale policy of the pair was last pardoned."""

# Elements of `used`.
PAIRS = 0
GROUPS = 1
LOADED = 2
"""The sender whose groups `node_group` shows."""

# Columns of `group_sums`; see `lnagents.twin.probability`.
SUMMED_AT = 0
SUCCESSES = 1
FAILURE_WEIGHT = 2

# Columns of `group_link`.
FROM = 0
NEXT_GROUP = 1
FIRST_PAIR = 2

# Columns of `pair_link`.
GROUP = 0
TO = 1
NEXT_PAIR = 2

TABLED_NODES = 2_048
"""Up to so many nodes a table of groups by sender and node is small (16 MiB), and a sender's row of
it is loaded much faster than groups are followed one by one."""

NOTED = 128
"""Pairs that one attempt can say something about: three for each hop of the longest route are
more than it needs."""


class Memory(NamedTuple):
    """The results of all senders; change it by this module's kernels only."""

    sender_first: Int32Array
    """[nodes], a sender's newest group; -1 if it has none."""
    node_group: Int32Array
    """[nodes], the loaded sender's group about each node; -1 if there is none."""
    sender_groups: Int32Array
    """[nodes, nodes], group + 1 of each sender about each node, 0 if there is none; without rows
    in a network of more than `TABLED_NODES`."""
    group_link: Int32Array
    """[groups, 3]: the node it is about, the sender's next group, the newest pair."""
    group_bounds: Int64Array
    """[groups, 2], the amounts (above, up to) for which `group_sums` holds."""
    group_sums: FloatArray
    """[groups, 3], what `lnagents.twin.probability` adds up over a group."""
    pair_link: Int32Array
    """[pairs, 3]: its group, the node it leads to, the group's next pair."""
    pair_amount: Int64Array
    """[pairs, 2], msat."""
    pair_time: FloatArray
    """[pairs, 3], seconds or `NEVER`."""
    slots: Int32Array
    """Open-addressed hash table of pair + 1; 0 is empty. Its length is a power of two."""
    used: Int64Array
    """How many pairs and groups there are, and whose `node_group` shows."""
    noted: Int64Array
    """[NOTED, 4], scratch of `lnagents.twin.mission`."""


def make_memory(nodes: int, pairs: int = 1 << 14) -> Memory:
    """An empty memory for a network of `nodes`, with room for `pairs` results.

    Pages that are not used cost no memory, so room is cheap.
    """
    size = 1 << max(pairs * 2 - 1, 1).bit_length()
    used = np.zeros(3, dtype=np.int64)
    used[LOADED] = NOBODY
    return Memory(
        sender_first=np.full(nodes, NOBODY, dtype=np.int32),
        node_group=np.full(nodes, NOBODY, dtype=np.int32),
        sender_groups=np.zeros((nodes if nodes <= TABLED_NODES else 0, nodes), dtype=np.int32),
        group_link=np.empty((pairs, 3), dtype=np.int32),
        group_bounds=np.empty((pairs, 2), dtype=np.int64),
        group_sums=np.empty((pairs, 3), dtype=np.float64),
        pair_link=np.empty((pairs, 3), dtype=np.int32),
        pair_amount=np.empty((pairs, 2), dtype=np.int64),
        pair_time=np.empty((pairs, 3), dtype=np.float64),
        slots=np.zeros(size, dtype=np.int32),
        used=used,
        noted=np.empty((NOTED, 4), dtype=np.int64),
    )


def grown(memory: Memory) -> Memory:
    """The same memory with room for twice as many results."""
    bigger = make_memory(len(memory.sender_first), 2 * len(memory.pair_link))
    for name, old in memory._asdict().items():
        if name != "slots":
            getattr(bigger, name)[: len(old)] = old
    _index(bigger)
    return bigger


def forget(memory: Memory) -> None:
    """Every sender forgets everything (`ResetMissionControl` at all nodes)."""
    memory.sender_first.fill(NOBODY)
    memory.node_group.fill(NOBODY)
    memory.sender_groups.fill(0)
    memory.slots.fill(0)
    memory.used[:] = (0, 0, NOBODY)


@kernel
def has_room(memory: Memory, hops: int) -> bool:
    """Whether an attempt of so many hops can be reported; if not, `grown` comes first."""
    # Each hop in both directions, and one pardon.
    return bool(memory.used[PAIRS] + 2 * hops + 1 <= len(memory.pair_link))


@inlined
def load_sender(memory: Memory, sender: int) -> None:
    """Make `node_group` show what `sender` knows; nothing to do if it does so already."""
    loaded = memory.used[LOADED]
    if loaded == sender:
        return
    memory.used[LOADED] = sender
    if len(memory.sender_groups) > 0:
        for node in range(len(memory.node_group)):
            memory.node_group[node] = memory.sender_groups[sender, node] - 1
        return
    if loaded != NOBODY:
        group = memory.sender_first[loaded]
        while group != NOBODY:
            memory.node_group[memory.group_link[group, FROM]] = NOBODY
            group = memory.group_link[group, NEXT_GROUP]
    group = memory.sender_first[sender]
    while group != NOBODY:
        memory.node_group[memory.group_link[group, FROM]] = group
        group = memory.group_link[group, NEXT_GROUP]


@kernel
def has_results(memory: Memory, from_node: int) -> bool:
    """Whether the loaded sender has tried any channel of `from_node`."""
    return bool(memory.node_group[from_node] != NOBODY)


@inlined
def find_pair(memory: Memory, group: int, to_node: int) -> int:
    """The pair of a group that leads to `to_node`; -1 if there is none."""
    mask = len(memory.slots) - 1
    slot = _hash(group, to_node) & mask
    while True:
        pair = int(memory.slots[slot]) - 1
        if pair < 0:
            return NOBODY
        if memory.pair_link[pair, GROUP] == group and memory.pair_link[pair, TO] == to_node:
            return pair
        slot = (slot + 1) & mask


@inlined
def succeed(memory: Memory, pair: int, amount: int, now: float) -> None:
    """Remember the greatest amount that arrived; a smaller one that failed failed by chance."""
    memory.pair_time[pair, SUCCESS] = now
    memory.pair_amount[pair, SUCCESS] = max(memory.pair_amount[pair, SUCCESS], amount)
    if memory.pair_time[pair, FAILURE] != NEVER and amount >= memory.pair_amount[pair, FAILURE]:
        memory.pair_amount[pair, FAILURE] = amount + 1
    _unsum(memory, memory.pair_link[pair, GROUP])


@kernel
def fail(memory: Memory, numbers: SenderNumbers, pair: int, amount: int, now: float) -> None:
    """Remember the least amount that failed; it is not raised soon after (results overtake)."""
    age = now - memory.pair_time[pair, FAILURE]
    if amount > memory.pair_amount[pair, FAILURE] and age < numbers.failure_relax_interval:
        return
    memory.pair_time[pair, FAILURE] = now
    memory.pair_amount[pair, FAILURE] = amount
    if amount == 0:
        memory.pair_amount[pair, SUCCESS] = 0
    elif amount <= memory.pair_amount[pair, SUCCESS]:
        memory.pair_amount[pair, SUCCESS] = amount - 1
    _unsum(memory, memory.pair_link[pair, GROUP])


@kernel
def fail_all(memory: Memory, sender: int, node: int, now: float) -> None:
    """Everything that the loaded sender has tried from and to `node` failed for any amount."""
    group = memory.sender_first[sender]
    while group != NOBODY:
        if memory.group_link[group, FROM] == node:
            pair = memory.group_link[group, FIRST_PAIR]
            while pair != NOBODY:
                _fail_any(memory, pair, now)
                pair = memory.pair_link[pair, NEXT_PAIR]
        else:
            pair = find_pair(memory, group, node)
            if pair != NOBODY:
                _fail_any(memory, pair, now)
        group = memory.group_link[group, NEXT_GROUP]


@kernel
def _fail_any(memory: Memory, pair: int, now: float) -> None:
    if is_result(memory, pair):
        memory.pair_time[pair, FAILURE] = now
        memory.pair_time[pair, SUCCESS] = NEVER
        memory.pair_amount[pair, FAILURE] = 0
        memory.pair_amount[pair, SUCCESS] = 0
        _unsum(memory, memory.pair_link[pair, GROUP])


@kernel
def is_result(memory: Memory, pair: int) -> bool:
    """Whether anything happened on the pair; else it is there for its second chance only."""
    return bool(
        memory.pair_time[pair, FAILURE] != NEVER or memory.pair_time[pair, SUCCESS] != NEVER
    )


@kernel
def pardon(
    memory: Memory, numbers: SenderNumbers, sender: int, from_node: int, to_node: int, now: float
) -> bool:
    """Whether a stale policy is forgiven this time (`requestSecondChance`)."""
    pair = pair_of(memory, sender, from_node, to_node)
    if now - memory.pair_time[pair, SECOND_CHANCE] > numbers.second_chance_interval:
        memory.pair_time[pair, SECOND_CHANCE] = now
        return True
    return False


@inlined
def pair_of(memory: Memory, sender: int, from_node: int, to_node: int) -> int:
    """The loaded sender's pair, made if it is new."""
    group = memory.node_group[from_node]
    if group != NOBODY:
        pair = find_pair(memory, group, to_node)
        if pair != NOBODY:
            return pair
    # There are never more groups than pairs.
    if memory.used[PAIRS] >= len(memory.pair_link):
        raise IndexError("the memory is full: has_room was not asked")
    if group == NOBODY:
        group = memory.used[GROUPS]
        memory.used[GROUPS] = group + 1
        memory.group_link[group, FROM] = from_node
        memory.group_link[group, NEXT_GROUP] = memory.sender_first[sender]
        memory.group_link[group, FIRST_PAIR] = NOBODY
        memory.sender_first[sender] = group
        memory.node_group[from_node] = group
        if len(memory.sender_groups) > 0:
            memory.sender_groups[sender, from_node] = group + 1
        _unsum(memory, group)
    pair = memory.used[PAIRS]
    memory.used[PAIRS] = pair + 1
    memory.pair_link[pair, GROUP] = group
    memory.pair_link[pair, TO] = to_node
    memory.pair_link[pair, NEXT_PAIR] = memory.group_link[group, FIRST_PAIR]
    memory.group_link[group, FIRST_PAIR] = pair
    memory.pair_amount[pair] = 0
    memory.pair_time[pair] = NEVER
    _enter(memory, pair)
    return int(pair)


@kernel
def _unsum(memory: Memory, group: int) -> None:
    memory.group_sums[group, SUMMED_AT] = NEVER


@kernel
def _hash(group: int, to_node: int) -> int:
    mixed = (int(group) * 73856093) ^ (int(to_node) * 19349663)
    return mixed ^ (mixed >> 17)


@kernel
def _enter(memory: Memory, pair: int) -> None:
    mask = len(memory.slots) - 1
    slot = _hash(memory.pair_link[pair, GROUP], memory.pair_link[pair, TO]) & mask
    while memory.slots[slot] != 0:
        slot = (slot + 1) & mask
    memory.slots[slot] = pair + 1


@kernel
def _index(memory: Memory) -> None:
    for pair in range(memory.used[PAIRS]):
        _enter(memory, pair)


class PairResult(NamedTuple):
    """What one sender knows of a directed pair of nodes; amounts msat, times seconds."""

    from_node: int
    to_node: int
    failed_at: float
    """`NEVER`, or when it failed last."""
    failed_amount: int
    """What failed, and everything above."""
    succeeded_at: float
    succeeded_amount: int
    """What arrived, and everything below."""


def results_of(memory: Memory, sender: int) -> list[PairResult]:
    """All that `sender` knows (`QueryMissionControl`), by nodes."""
    found: list[PairResult] = []
    group = memory.sender_first[sender]
    while group != NOBODY:
        pair = memory.group_link[group, FIRST_PAIR]
        while pair != NOBODY:
            if is_result(memory, pair):
                found.append(
                    PairResult(
                        int(memory.group_link[group, FROM]),
                        int(memory.pair_link[pair, TO]),
                        float(memory.pair_time[pair, FAILURE]),
                        int(memory.pair_amount[pair, FAILURE]),
                        float(memory.pair_time[pair, SUCCESS]),
                        int(memory.pair_amount[pair, SUCCESS]),
                    )
                )
            pair = memory.pair_link[pair, NEXT_PAIR]
        group = memory.group_link[group, NEXT_GROUP]
    return sorted(found)
