"""The same question on real nodes: the same payments with agents that buy and agents that do not.

Daemons, Apertures and payments are those of the demo; fees stay as they are, so that nothing but
buying differs. Each pair has payments of its own, and the order in a pair alternates. Documents of
all products are for sale, at one price.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnagents.agent import AgentStatus
from lnagents.env import AttemptCost
from lnagents.evaluate.fleet import FleetSettings
from lnagents.evaluate.market.plays import MARKET_PRICE_SAT
from lnagents.evaluate.record import RunRecord
from lnagents.evaluate.runs import run_with_agents
from lnagents.evaluate.statistics import estimate, interquartile_mean, paired_difference
from lnagents.evaluate.workload import load_workload
from lnagents.model.topology import SellerSpec, Topology
from lnagents.model.units import MSAT_PER_SAT, Msat
from lnagents.model.workload import PaymentIntent, draw_payments
from lnagents.testbed import Testbed

SELLERS = ("carol", "dave", "erin")
"""The routers of the topology `default`."""
WORKLOAD = "default"
JOURNAL = "live.jsonl"

FIGURES = ("success_percent", "failed_attempts", "fees_sat", "hints", "hints_sat", "cost_sat", "ms")


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What one run brought, over all payments; amounts in msat."""

    seed: int
    buys: bool
    payments: int
    settled: int
    fees_msat: Msat
    failed_attempts: int
    cost_msat: Msat
    """See `lnagents.evaluate.market.players.Tally.cost_msat`."""
    bought: int
    paid_msat: Msat
    """For documents."""
    seconds: float
    """Sum over payments, from their beginning to their answer."""
    load: float
    """Of the machine when the run ended: processes that wanted a processor, mean of a minute."""

    @property
    def figures(self) -> dict[str, float]:
        """`FIGURES`, per payment."""
        count = self.payments
        return {
            "success_percent": 100 * self.settled / count,
            "failed_attempts": self.failed_attempts / count,
            "fees_sat": self.fees_msat / count / MSAT_PER_SAT,
            "hints": self.bought / count,
            "hints_sat": self.paid_msat / count / MSAT_PER_SAT,
            "cost_sat": self.cost_msat / count / MSAT_PER_SAT,
            "ms": 1_000 * self.seconds / count,
        }


def with_sellers(topology: Topology) -> Topology:
    """`topology` with agents that sell on all its routers."""
    sellers = tuple(SellerSpec(node=name, price_sat=MARKET_PRICE_SAT) for name in SELLERS)
    return topology.model_copy(update={"name": "value", "sellers": sellers})


async def run_live(
    topology: Topology,
    folder: Path,
    *,
    pairs: int,
    payments: int,
    progress: Callable[[str], None],
) -> None:
    """Make the pairs of runs that `folder` lacks; each run is kept as soon as it is there.

    Raises:
        LnagentsError: the network or a daemon failed.
    """
    done = {(one.seed, one.buys) for one in read_live(folder)}
    waiting = [
        (seed, buys)
        for seed in range(pairs)
        for buys in ((True, False) if seed % 2 else (False, True))
        if (seed, buys) not in done
    ]
    if not waiting:
        return
    workload = load_workload(WORKLOAD, topology)
    async with AsyncExitStack() as stack:
        progress("Starting the network")
        testbed = await Testbed.up(topology, tied=True, progress=progress)
        stack.push_async_callback(testbed.down)
        for place, (seed, buys) in enumerate(waiting):
            if place:
                progress("Putting the network back to its first state")
                await testbed.reset()
            what = "buying" if buys else "not buying"
            progress(f"Pair {seed + 1} of {pairs}, {what}")
            agents = testbed.directory / "agents"
            shutil.rmtree(agents, ignore_errors=True)
            intents = draw_payments(workload, payments, seed)
            settings = FleetSettings(seed=seed, actor="fixed", buy_hints=buys)
            record = await run_with_agents(testbed, intents, agents, settings, _Silent())
            _append(folder, _result(seed, buys, intents, record))


def read_live(folder: Path) -> list[LiveResult]:
    """The runs in `folder`; a line that was torn by an interruption is none."""
    path = folder / JOURNAL
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [LiveResult(**json.loads(line)) for line in lines if line.endswith("\n")]


def compare_live(results: list[LiveResult]) -> dict[str, Any]:
    """Each figure without and with buying, and its change over pairs; at least two pairs."""
    found = {(one.seed, one.buys): one for one in results}
    seeds = sorted(seed for seed, buys in found if buys and (seed, False) in found)
    document: dict[str, Any] = {
        "pairs": len(seeds),
        "load": [min(one.load for one in results), max(one.load for one in results)],
    }
    for name in FIGURES:
        without, buying = (
            np.array([[found[seed, buys].figures[name]] for seed in seeds])
            for buys in (False, True)
        )
        document[name] = {
            "without": estimate(interquartile_mean, without, seed=0)._asdict(),
            "buying": estimate(interquartile_mean, buying, seed=0)._asdict(),
            "change": paired_difference(interquartile_mean, buying, without, seed=0)._asdict(),
        }
    return document


def _result(
    seed: int, buys: bool, intents: tuple[PaymentIntent, ...], record: RunRecord
) -> LiveResult:
    limits = {one.index: one.fee_limit_msat for one in intents}
    cost, paid = AttemptCost(), sum(one.hint_costs_msat for one in record.agents)
    total = paid
    for one in record.outcomes:
        attempt = cost.of(one.amount_msat)
        total += one.failed_attempts * attempt
        total += one.fee_msat if one.settled else limits[one.index] + attempt
    settled = [one for one in record.outcomes if one.settled]
    return LiveResult(
        seed=seed,
        buys=buys,
        payments=len(record.outcomes),
        settled=len(settled),
        fees_msat=sum(one.fee_msat for one in settled),
        failed_attempts=sum(one.failed_attempts for one in record.outcomes),
        cost_msat=total,
        bought=sum(one.hints_bought for one in record.agents),
        paid_msat=paid,
        seconds=round(sum(one.seconds for one in record.outcomes), 3),
        load=round(os.getloadavg()[0], 2),
    )


def _append(folder: Path, result: LiveResult) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOURNAL
    whole = path.read_bytes() if path.exists() else b""
    whole = whole[: whole.rfind(b"\n") + 1]
    path.write_bytes(whole + json.dumps(asdict(result)).encode() + b"\n")


class _Silent:
    """Watches nothing."""

    def sample(self, record: RunRecord, asked: int, statuses: dict[str, AgentStatus]) -> None:
        """Say nothing."""
