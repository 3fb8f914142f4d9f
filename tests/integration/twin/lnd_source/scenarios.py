"""Random networks, histories and questions, for LND's code and for the twin's."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnagents.twin.commitment import bandwidth, make_liquidity
from lnagents.twin.network import Network
from lnagents.twin.settings import CommitmentSettings, Estimator, SenderSettings

HEIGHT = 150
FINAL_DELTA = 83
"""What invoices ask for, and LND's padding."""
NANOSECONDS = 1_000_000_000
NO_FEE_LIMIT = 1 << 62
ROUNDS = 4
"""How often each search is asked for: LND's map order may change its answer."""

_CODES = [15] * 8 + [12] * 4 + list(range(1, 26)) + [999]
"""Mostly what really happens, but all of them."""


@dataclass(frozen=True)
class Scenario:
    """One network, what its senders went through, and what they are asked."""

    network: Network
    settings: SenderSettings
    question: dict[str, Any]
    """For the oracle."""


def draw_scenario(seed: int) -> Scenario:
    """A connected network of 3 to 40 nodes, some joined by several channels."""
    draw = random.Random(seed)
    nodes = draw.randint(3, 40)
    pairs = [(draw.randrange(node), node) for node in range(1, nodes)]
    pairs += [tuple(draw.sample(range(nodes), 2)) for _ in range(draw.randrange(3 * nodes))]  # type: ignore[misc]
    pairs += [draw.choice(pairs) for _ in range(draw.randrange(nodes // 2 + 1))]
    draw.shuffle(pairs)
    network = _draw_network(draw, nodes, pairs)
    settings = _draw_settings(draw)
    senders = draw.sample(range(nodes), 3)
    steps = _draw_steps(draw, pairs, senders)
    now = steps[-1]["Now"] if steps else NANOSECONDS
    question = {
        "Channels": _channels(network),
        "Estimator": _estimator(settings),
        "Search": {
            "MinProbability": settings.min_probability,
            "AttemptCost": settings.attempt_cost,
            "AttemptCostPpm": settings.attempt_cost_ppm,
            "CltvLimit": settings.cltv_limit,
            "TimePreference": settings.time_preference,
            "Height": HEIGHT,
            "FinalDelta": FINAL_DELTA,
        },
        "Steps": steps,
        "Asks": [_draw_ask(draw, pairs, senders, now) for _ in range(30)],
        "Queries": [_draw_query(draw, network, senders, now) for _ in range(12)],
        "Repeat": ROUNDS,
    }
    return Scenario(network, settings, question)


def _draw_network(draw: random.Random, nodes: int, pairs: list[tuple[int, int]]) -> Network:
    coarse = draw.random() < 0.3
    capacity = [draw.choice([10**6, draw.randrange(100_000, 5_000_000)]) for _ in pairs]
    policy = [_draw_policy(draw, capacity[edge >> 1], coarse) for edge in range(2 * len(pairs))]
    msat = np.array(capacity, dtype=np.int64) * 1_000
    # An opener can always pay for its commitment.
    share = np.array([draw.choice([0.5, draw.uniform(0.3, 0.97)]) for _ in pairs])
    opener = np.array([draw.randrange(2) for _ in pairs], dtype=np.int8)
    openers = (msat * share).astype(np.int64)
    balance = np.stack([openers, msat - openers], axis=1)
    balance[opener == 1] = balance[opener == 1][:, ::-1]
    return Network(
        names=tuple(f"n{node}" for node in range(nodes)),
        scids=np.arange(100, 100 + len(pairs), dtype=np.int64) << 40,
        channel_nodes=np.array(pairs, dtype=np.int32),
        capacity=msat,
        opener=opener,
        balance=balance,
        policy=np.array(policy, dtype=np.int64),
    )


def _draw_policy(draw: random.Random, capacity_sat: int, coarse: bool) -> list[int]:
    """A row of `Network.policy`; `coarse` makes routes of equal cost likely."""
    whole = capacity_sat * 990
    inbound = draw.random() < 0.4
    return [
        1_000 if coarse else draw.choice([0, 1_000, draw.randrange(5_000)]),
        draw.choice([1, 100, 500]) if coarse else draw.randrange(draw.choice([300, 3_000])),
        draw.randrange(-3_000, 1_000) if inbound else 0,
        draw.randrange(-1_500, 300) if inbound else 0,
        draw.choice([1, 1_000, 1_000, draw.randrange(1, 20_000_000)]),
        draw.choice([whole, whole, whole // 2, draw.randrange(1_000, whole)]),
        draw.choice([80, 80, 40, 144, draw.randrange(18, 300)]),
        int(draw.random() < 0.06),
    ]


def _draw_settings(draw: random.Random) -> SenderSettings:
    estimator = draw.choice([Estimator.APRIORI, Estimator.APRIORI, Estimator.BIMODAL])
    if draw.random() < 0.6:
        return SenderSettings(estimator=estimator)
    return SenderSettings(
        estimator=estimator,
        attempt_cost=draw.choice([1_000, 1_000_000]),
        attempt_cost_ppm=draw.choice([0, 5_000]),
        min_probability=draw.choice([0.01, 0.1]),
        time_preference=draw.choice([-1.0, -0.3, 0.5, 1.0]),
        cltv_limit=draw.choice([500, 2_016]),
        hop_probability=draw.uniform(0.1, 1.0),
        apriori_weight=draw.choice([0.05, 0.75, 0.99, 1.0]),
        penalty_half_life=float(draw.randrange(1, 7_200)),
        capacity_fraction=draw.choice([0.75, 0.9, 1.0]),
        bimodal_scale=draw.randrange(1, 10**9),
        bimodal_node_weight=draw.choice([0.0, 0.2, 1.0]),
        bimodal_decay_time=float(draw.randrange(60, 10**5)),
    )


def _draw_steps(
    draw: random.Random, pairs: list[tuple[int, int]], senders: list[int]
) -> list[dict[str, Any]]:
    neighbours: dict[int, list[int]] = {}
    for first, second in pairs:
        neighbours.setdefault(first, []).append(second)
        neighbours.setdefault(second, []).append(first)
    now = NANOSECONDS
    steps = []
    for _ in range(draw.choice([0, 5, 30])):
        now += int(draw.choice([0.01, 1, 100, 4_000]) * draw.random() * NANOSECONDS)
        walk = [draw.choice(senders)]
        for _ in range(draw.randint(1, 5)):
            onward = [node for node in neighbours[walk[-1]] if node not in walk]
            if onward:
                walk.append(draw.choice(onward))
        hops = len(walk) - 1
        if hops == 0:
            continue
        amount = draw.choice([10**7, draw.randrange(10**6, 10**9)])
        steps.append(
            {
                "Nodes": walk,
                "Amounts": [amount + 1_000 * (hops - 1 - hop) for hop in range(hops)],
                "FailedAt": -1 if draw.random() < 0.4 else draw.randint(0, hops),
                "Code": draw.choice(_CODES),
                "Now": now,
            }
        )
    return steps


def _draw_ask(
    draw: random.Random, pairs: list[tuple[int, int]], senders: list[int], now: int
) -> dict[str, Any]:
    source, target = draw.sample(draw.choice(pairs), 2)
    amount = draw.choice([10**7, draw.randrange(1, 10**9)])
    return {
        "Sender": draw.choice(senders),
        "From": source,
        "To": target,
        "Amount": amount,
        "CapacitySat": draw.choice([10**6, 16_777_215, amount // 1_000 + 1]),
        "Now": now + draw.randrange(1, 100 * NANOSECONDS),
    }


def _draw_query(
    draw: random.Random, network: Network, senders: list[int], now: int
) -> dict[str, Any]:
    sender = draw.choice(senders)
    others = [node for node in range(network.nodes) if node != sender]
    amount = draw.choice(
        [10**7, draw.randrange(1_000_000, 10**8), draw.randrange(10**6, 2 * 10**9)]
    )
    liquidity = make_liquidity(network, CommitmentSettings())
    source = network.edge_source()
    return {
        "Sender": sender,
        "Target": draw.choice(others) if draw.random() < 0.95 else sender,
        "Amount": amount,
        "FeeLimit": draw.choice([NO_FEE_LIMIT, amount // 20, amount // 500 + 1_000]),
        "Now": now + draw.randrange(1, 100 * NANOSECONDS),
        "Bandwidth": {
            str(network.scids[edge >> 1]): int(bandwidth(liquidity, edge))
            for edge in range(2 * network.channels)
            if source[edge] == sender
        },
    }


def _channels(network: Network) -> list[dict[str, Any]]:
    names = ("Base", "Rate", "InBase", "InRate", "Min", "Max", "Delta")
    return [
        {
            "ID": int(network.scids[channel]),
            "Nodes": network.channel_nodes[channel].tolist(),
            "CapacitySat": int(network.capacity[channel]) // 1_000,
            "Policies": [
                dict(zip(names, row[:-1], strict=True), Disabled=bool(row[-1]))
                for row in network.policy[2 * channel : 2 * channel + 2].tolist()
            ],
        }
        for channel in range(network.channels)
    ]


def _estimator(settings: SenderSettings) -> dict[str, Any]:
    return {
        "Bimodal": settings.estimator is Estimator.BIMODAL,
        "HopProbability": settings.hop_probability,
        "Weight": settings.apriori_weight,
        "HalfLife": int(settings.penalty_half_life * NANOSECONDS),
        "Fraction": settings.capacity_fraction,
        "Scale": settings.bimodal_scale,
        "NodeWeight": settings.bimodal_node_weight,
        "DecayTime": int(settings.bimodal_decay_time * NANOSECONDS),
    }
