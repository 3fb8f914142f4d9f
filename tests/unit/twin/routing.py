"""LND's `findPath` once more, plainly: dictionaries, and no kernels but for estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lnagents.twin.commitment import Liquidity, make_liquidity, sendable
from lnagents.twin.gossip import Gossip, make_gossip
from lnagents.twin.memory import Memory, load_sender, make_memory
from lnagents.twin.mission import report_failure, report_success
from lnagents.twin.network import (
    BASE_FEE,
    DISABLED,
    FEE_RATE,
    INBOUND_BASE_FEE,
    INBOUND_FEE_RATE,
    MAX_HTLC,
    MIN_HTLC,
    POLICY_COLUMNS,
    TIME_LOCK_DELTA,
    Int64Array,
    Network,
)
from lnagents.twin.probability import edge_probability
from lnagents.twin.search import find_route
from lnagents.twin.settings import CommitmentSettings, GossipSettings, SenderSettings
from lnagents.twin.space import TIES, SearchSpace, make_search_space
from lnagents.twin.traffic import NO_LIMIT

HEIGHT = 150
FINAL_DELTA = 83
"""What invoices ask for, and LND's three blocks on top."""


@dataclass(frozen=True)
class Found:
    """What a search found."""

    hops: int
    edges: tuple[int, ...] = ()
    amounts: tuple[int, ...] = ()
    expiries: tuple[int, ...] = ()
    tied: bool = False


class Router:
    """One network and all that searches in it need."""

    def __init__(self, network: Network, settings: SenderSettings | None = None) -> None:
        self.network = network
        self.numbers = (settings or SenderSettings()).numbers()
        self.space: SearchSpace = make_search_space(network)
        self.gossip: Gossip = make_gossip(network, GossipSettings())
        self.liquidity: Liquidity = make_liquidity(network, CommitmentSettings())
        self.memory: Memory = make_memory(network.nodes)

    def find(
        self,
        sender: int,
        target: int,
        amount: int,
        *,
        fee_limit: int = NO_LIMIT,
        now: float = 0.0,
        exhaustive: bool = False,
    ) -> Found:
        hops = find_route(
            self.space,
            self.gossip,
            self.liquidity,
            self.memory,
            self.numbers,
            sender,
            target,
            amount,
            fee_limit,
            HEIGHT,
            now,
            exhaustive,
        )
        if hops < 0:
            return Found(hops)
        space = self.space
        return Found(
            hops,
            tuple(space.route_edge[:hops].tolist()),
            tuple(space.route_amount[:hops].tolist()),
            tuple(space.route_expiry[:hops].tolist()),
            bool(space.report[TIES]),
        )

    def report(self, sender: int, found: Found, failed_at: int, code: int, now: float) -> None:
        """Tell the sender's mission control; `failed_at` -1 if the payment arrived."""
        edges = np.array(found.edges, dtype=np.int32)
        amounts = np.array(found.amounts, dtype=np.int64)
        ends = self.network.channel_nodes
        if failed_at < 0:
            report_success(self.memory, self.numbers, ends, sender, edges, amounts, found.hops, now)
            return
        report_failure(
            self.memory,
            self.numbers,
            ends,
            sender,
            edges,
            amounts,
            found.hops,
            failed_at,
            code,
            now,
        )

    def find_plainly(
        self, sender: int, target: int, amount: int, *, fee_limit: int = NO_LIMIT, now: float = 0.0
    ) -> Found:
        """By the book; -1 if there is no route. Balances are not checked beforehand."""
        load_sender(self.memory, sender)
        policy = self.network.policy
        default = 100_000 + amount * 1_000 // 1_000_000
        cost = float(default)
        labels: dict[int, dict[str, Any]] = {}
        pivot: dict[str, Any] = {
            "node": target,
            "dist": 0,
            "weight": 0,
            "received": amount,
            "out_fee": 0,
            "expiry": HEIGHT + FINAL_DELTA,
            "probability": 1.0,
            "exit": True,
        }
        waiting: dict[int, dict[str, Any]] = {}
        while True:
            for source, edges in self._incoming(pivot["node"]).items():
                if source == target and sender != target:
                    continue
                label = self._extend(sender, source, edges, pivot, policy, amount, cost, now)
                if label is None or label["sent"] - amount > fee_limit:
                    continue
                known = labels.get(source)
                if known is not None:
                    if label["dist"] > known["dist"]:
                        continue
                    if (
                        label["dist"] == known["dist"]
                        and label["probability"] <= known["probability"]
                    ):
                        known["tied"] |= label["probability"] == known["probability"]
                        continue
                labels[source] = waiting[source] = label
            if not waiting:
                break
            nearest = min(waiting.values(), key=lambda at: (at["dist"], -at["probability"]))
            del waiting[nearest["node"]]
            pivot = nearest
            if pivot["node"] == sender:
                break
        if sender not in labels:
            return Found(-1)
        return self._unravel(labels, sender, target)

    def _incoming(self, node: int) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for channel, (first, second) in enumerate(self.network.channel_nodes.tolist()):
            if second == node:
                found.setdefault(first, []).append(2 * channel)
            elif first == node:
                found.setdefault(second, []).append(2 * channel + 1)
        return found

    def _extend(
        self,
        sender: int,
        source: int,
        edges: list[int],
        pivot: dict[str, Any],
        policy: Int64Array,
        amount: int,
        cost: float,
        now: float,
    ) -> dict[str, Any] | None:
        own = source == sender
        usable = []
        for edge in edges:
            sent = pivot["received"]
            inbound = 0
            if not pivot["exit"]:
                inbound = max(_inbound(policy[edge ^ 1], sent), -pivot["out_fee"])
            sent += inbound
            row = policy[edge]
            capacity = int(self.network.capacity[edge >> 1])
            if sent > capacity or sent < row[MIN_HTLC] or 0 < row[MAX_HTLC] < sent:
                continue
            if own:
                left = int(sendable(self.liquidity, edge, sent))
                if sent <= left:
                    usable.append((left, edge, sent, 0, 0, 0))
            elif not row[DISABLED]:
                charged = int(row[BASE_FEE]) + sent * int(row[FEE_RATE]) // 1_000_000
                delta = int(row[TIME_LOCK_DELTA])
                usable.append((charged + inbound, edge, sent, charged, delta, capacity))
        if not usable:
            return None
        best, edge, sent, charged, _, _ = max(reversed(usable), key=lambda one: one[0])
        delta = max(one[4] for one in usable)
        capacity = max(one[5] for one in usable)
        step = edge_probability(
            self.memory, self.numbers, sender, source, pivot["node"], sent, capacity, now
        )
        probability = pivot["probability"] * step
        expiry = pivot["expiry"] + delta
        if step == 0 or probability < 0.01 or expiry > HEIGHT + 2_016:
            return None
        fee = max(0, sent - pivot["received"] + charged)
        weight = pivot["weight"] + fee + sent * delta * 15 // 1_000_000_000
        return {
            "node": source,
            "dist": int(float(weight) + cost / probability),
            "weight": weight,
            "received": sent + charged,
            "out_fee": charged,
            "expiry": expiry,
            "probability": probability,
            "exit": False,
            "edge": edge,
            "sent": sent,
            "tied": sum(one[0] == best for one in usable) > 1,
        }

    def _unravel(self, labels: dict[int, dict[str, Any]], sender: int, target: int) -> Found:
        edges, amounts, expiries, tied = [], [], [], False
        node = sender
        while True:
            label = labels[node]
            edges.append(label["edge"])
            amounts.append(label["sent"])
            tied |= label["tied"]
            edge = label["edge"]
            node = int(self.network.channel_nodes[edge >> 1, 1 - (edge & 1)])
            if node == target:
                expiries.append(HEIGHT + FINAL_DELTA)
                return Found(len(edges), tuple(edges), tuple(amounts), tuple(expiries), tied)
            expiries.append(labels[node]["expiry"])


def _inbound(row: Int64Array, amount: int) -> int:
    rate = max(-10_000_000, min(10_000_000, int(row[INBOUND_FEE_RATE])))
    product = rate * amount
    return int(row[INBOUND_BASE_FEE]) + (
        product // 1_000_000 if product >= 0 else -(-product // 1_000_000)
    )


def network_of(
    *channels: tuple[int, int], capacity_sat: int | tuple[int, ...] = 1_000_000, **columns: Any
) -> Network:
    """Channels split in the middle; `columns` set policy columns by name, for all or per edge."""
    count = len(channels)
    capacity = np.array(np.broadcast_to(capacity_sat, (count,)), dtype=np.int64) * 1_000
    policy = np.zeros((2 * count, POLICY_COLUMNS), dtype=np.int64)
    policy[:, BASE_FEE] = 1_000
    policy[:, TIME_LOCK_DELTA] = 80
    policy[:, MIN_HTLC] = 1
    names = {
        "base": BASE_FEE,
        "rate": FEE_RATE,
        "inbound_base": INBOUND_BASE_FEE,
        "inbound_rate": INBOUND_FEE_RATE,
        "most": MAX_HTLC,
        "least": MIN_HTLC,
        "delta": TIME_LOCK_DELTA,
        "disabled": DISABLED,
    }
    for name, value in columns.items():
        policy[:, names[name]] = value
    first = capacity // 2_000 * 1_000
    return Network(
        names=tuple(f"node-{index}" for index in range(1 + max(map(max, channels)))),
        scids=np.arange(count, dtype=np.int64),
        channel_nodes=np.array(channels, dtype=np.int32),
        capacity=capacity,
        opener=np.zeros(count, dtype=np.int8),
        balance=np.stack([first, capacity - first], axis=1),
        policy=policy,
    )


def random_network(nodes: int, channels: int, rng: np.random.Generator) -> Network:
    """Any network: parallel channels, inbound fees, small channels, disabled edges, ends."""
    ends = []
    for index in range(channels):
        first = index + 1 if index + 1 < nodes else int(rng.integers(nodes))
        second = int(rng.integers(min(first, nodes))) if index + 1 < nodes else first
        while second == first:
            second = int(rng.integers(nodes))
        ends.append((first, second) if rng.random() < 0.5 else (second, first))
    count = len(ends)
    capacity = (
        np.exp(rng.uniform(np.log(30_000), np.log(3_000_000), count)).astype(np.int64) * 1_000
    )
    policy = np.zeros((2 * count, POLICY_COLUMNS), dtype=np.int64)
    policy[:, BASE_FEE] = rng.integers(0, 3_000, 2 * count)
    policy[:, FEE_RATE] = rng.integers(0, 4_000, 2 * count)
    inbound = rng.random(2 * count) < 0.3
    policy[inbound, INBOUND_BASE_FEE] = rng.integers(-2_000, 500, int(inbound.sum()))
    policy[inbound, INBOUND_FEE_RATE] = rng.integers(-3_000, 500, int(inbound.sum()))
    policy[:, MIN_HTLC] = rng.choice([1, 1_000, 5_000_000], 2 * count, p=[0.5, 0.45, 0.05])
    policy[:, MAX_HTLC] = np.repeat(capacity * 99 // 100, 2)
    policy[:, TIME_LOCK_DELTA] = rng.integers(18, 145, 2 * count)
    policy[:, DISABLED] = rng.random(2 * count) < 0.08
    first_part = (capacity * rng.uniform(0.02, 0.98, count)).astype(np.int64) // 1_000 * 1_000
    return Network(
        names=tuple(f"node-{index}" for index in range(nodes)),
        scids=np.arange(count, dtype=np.int64),
        channel_nodes=np.array(ends, dtype=np.int32),
        capacity=capacity,
        opener=rng.integers(0, 2, count).astype(np.int8),
        balance=np.stack([first_part, capacity - first_part], axis=1),
        policy=policy,
    )
