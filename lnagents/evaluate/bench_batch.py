"""How the twin's batched mode grows with the processors: many small networks at once.

One thread and as many as there are processors take turns with the same payments on the same
networks, so that a machine that is busy with something else slows both; the quickest turn of each
counts. Time is that of the clock, for that is what threads save. What numba compiles, it compiles
before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnagents.model.errors import LnagentsError
from lnagents.model.workload import AmountSpec
from lnagents.twin.batch import BatchedTwin
from lnagents.twin.demand import draw_traffic
from lnagents.twin.network import Network
from lnagents.twin.traffic import Traffic

AMOUNT_SAT = 10_000
"""The same as in the bench of one twin."""
NETWORKS = 64
NODES = 100
PAYMENTS = 500
"""On each network."""
TURNS = 5
SEED = 1


@dataclass(frozen=True, slots=True)
class BatchBench:
    """Payments a second of all networks together, by number of threads."""

    networks: int
    nodes: int
    """Of all networks together, as channels and payments."""
    channels: int
    payments: int
    payments_per_second: dict[int, float]

    @property
    def scaling(self) -> float:
        """How many times faster all threads are than one."""
        return self.payments_per_second[max(self.payments_per_second)] / self.payments_per_second[1]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "networks": self.networks,
            "nodes": self.nodes,
            "channels": self.channels,
            "payments": self.payments,
            "payments_per_second": {
                str(threads): rate for threads, rate in self.payments_per_second.items()
            },
            "scaling": self.scaling,
        }


def bench_batch(
    networks: Sequence[Network],
    *,
    payments: int = PAYMENTS,
    threads: Sequence[int] | None = None,
    progress: Callable[[str], None],
) -> BatchBench:
    """Measure a batch of `networks`.

    Args:
        networks: at least one.
        payments: on each of them, 10,000 sat from a random node to another.
        threads: how many to compare; None: one, and one for each processor that we may use.
        progress: told what is measured.

    Raises:
        LnagentsError: the outcomes depend on the number of threads.
    """
    numbers = threads or sorted({1, len(os.sched_getaffinity(0))})
    amount = AmountSpec(kind="fixed", median_sat=AMOUNT_SAT)
    traffic = [
        draw_traffic(network, payments, SEED + index, amount=amount)
        for index, network in enumerate(networks)
    ]
    best = dict.fromkeys(numbers, float("inf"))
    fees: set[int] = set()
    for turn in range(TURNS + 1):
        for number in numbers:
            progress(f"batch of {len(networks)}, threads: {number}, turn {turn} of {TURNS}")
            seconds, paid = _run(networks, traffic, number)
            fees.add(paid)
            if turn:
                best[number] = min(best[number], seconds)
    if len(fees) > 1:
        raise LnagentsError("a batch's outcomes depend on the number of threads")
    made = payments * len(networks)
    return BatchBench(
        networks=len(networks),
        nodes=sum(network.nodes for network in networks),
        channels=sum(network.channels for network in networks),
        payments=made,
        payments_per_second={number: made / seconds for number, seconds in best.items()},
    )


def _run(
    networks: Sequence[Network], traffic: Sequence[Traffic], threads: int
) -> tuple[float, int]:
    """Seconds that the payments took, and what they cost together, in msat."""
    with BatchedTwin(networks, seed=SEED, threads=threads) as batch:
        began = time.perf_counter()
        outcomes = batch.run(traffic)
        seconds = time.perf_counter() - began
    return seconds, sum(int(np.sum(one.fee)) for one in outcomes)
