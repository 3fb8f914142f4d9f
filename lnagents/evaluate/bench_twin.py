"""How fast the twin is: payments per second of one processor, and memory, by size of the network.

Each network has a process of its own, so that the peak of its memory is its own, too. What numba
compiles is compiled, and kept on disk, by another process before. Every payment is LND's: route
search, checks at each hop, and what the sender learns; 10,000 sat from a random node to another.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnagents.model.workload import AmountSpec
from lnagents.twin.demand import draw_traffic
from lnagents.twin.generate import barabasi_albert
from lnagents.twin.loaders import load_network
from lnagents.twin.network import Network
from lnagents.twin.simulator import Twin

AMOUNT_SAT = 10_000
NODES = (100, 500, 1_000, 5_000)
"""Sizes of the Barabási-Albert networks that are measured where no file is given."""
REPEATS = 3
"""The quickest counts: a busy machine makes a run slower, nothing makes it faster."""
SEED = 1
_WARM_UP_NODES = 10
_WARM_UP_PAYMENTS = 50


@dataclass(frozen=True, slots=True)
class TwinBenchRow:
    """One network."""

    nodes: int
    channels: int
    payments: int
    payments_per_cpu_second: float
    success: float
    """Share of the payments that arrived."""
    attempts: float
    """Per payment."""
    peak_rss_mb: float
    """Most memory that the process had, interpreter and libraries included, in MiB."""
    bytes_per_channel: float
    """Of what the process grew by when it made the network and its payments."""


@dataclass(frozen=True, slots=True)
class TwinBench:
    """All networks."""

    rows: tuple[TwinBenchRow, ...]

    @property
    def growth(self) -> dict[str, float]:
        """By which power of nodes, and of channels, the time for a payment grows (least squares).

        Empty with fewer than two networks.
        """
        if len(self.rows) < 2:
            return {}
        seconds = [-math.log(row.payments_per_cpu_second) for row in self.rows]
        sizes = {
            "nodes": [math.log(row.nodes) for row in self.rows],
            "channels": [math.log(row.channels) for row in self.rows],
        }
        return {name: float(np.polyfit(size, seconds, 1)[0]) for name, size in sizes.items()}

    def to_json(self) -> dict[str, Any]:
        """As plain data; of a single network only what was measured on it."""
        if len(self.rows) == 1:
            return asdict(self.rows[0])
        return {"networks": [asdict(row) for row in self.rows], "growth": self.growth}


def bench_twin(
    graphs: Sequence[int | Path] = NODES,
    *,
    payments: int = 20_000,
    progress: Callable[[str], None],
) -> TwinBench:
    """Measure on each of `graphs`: files, or numbers of nodes of Barabási-Albert networks.

    Args:
        graphs: what to measure on.
        payments: on each of them.
        progress: told what is measured.

    Raises:
        ValueError: there are no payments.
        TopologyError: a file is no network.
    """
    if payments < 1:
        raise ValueError(f"payments: {payments} is below 1")
    for graph in graphs:
        if isinstance(graph, Path):
            # A wrong file is found before anything takes long.
            load_network(graph)
    progress("compiling, which takes a minute or two the first time")
    _apart(measure_graph, _WARM_UP_NODES, _WARM_UP_PAYMENTS)
    rows = []
    for graph in graphs:
        progress(f"{graph.name}" if isinstance(graph, Path) else f"{graph:,} nodes")
        rows.append(_apart(measure_graph, graph, payments))
    return TwinBench(tuple(rows))


def measure_graph(graph: int | Path, payments: int) -> TwinBenchRow:
    """Measure on one network, in this process.

    Raises:
        TopologyError: a file is no network.
    """
    # Machine code is loaded first, so that neither time nor growth counts it.
    _run(barabasi_albert(_WARM_UP_NODES, SEED), _WARM_UP_PAYMENTS)
    before = _peak_rss()
    network = load_network(graph) if isinstance(graph, Path) else barabasi_albert(graph, SEED)
    seconds = math.inf
    for _ in range(REPEATS):
        taken, success, attempts = _run(network, payments)
        seconds = min(seconds, taken)
    peak = _peak_rss()
    return TwinBenchRow(
        nodes=network.nodes,
        channels=network.channels,
        payments=payments,
        payments_per_cpu_second=payments / seconds,
        success=success,
        attempts=attempts,
        peak_rss_mb=peak / 2**20,
        bytes_per_channel=(peak - before) / network.channels,
    )


def _run(network: Network, payments: int) -> tuple[float, float, float]:
    """Processor seconds of the payments, the share that arrived, and attempts per payment."""
    amount = AmountSpec(kind="fixed", median_sat=AMOUNT_SAT)
    traffic = draw_traffic(network, payments, SEED, amount=amount)
    twin = Twin(network, seed=SEED)
    start = time.process_time()
    outcomes = twin.run(traffic)
    seconds = time.process_time() - start
    return seconds, float(outcomes.settled.mean()), float(outcomes.attempts.mean())


def _peak_rss() -> int:
    """Bytes; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


def _apart(
    measure: Callable[[int | Path, int], TwinBenchRow], graph: int | Path, payments: int
) -> TwinBenchRow:
    """Call it in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(measure, graph, payments).result()
