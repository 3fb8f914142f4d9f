"""How many payments a second the network makes, alone and with an agent daemon on every node.

The payments are LND's own in both cases, over a line of nodes, so the ratio says what watching,
deciding and learning cost the nodes that share a machine with their agents. Plain runs come before
and after those with agents, so that a machine that drifts does not favour either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from statistics import fmean
from typing import Any

from lnagents.evaluate.fleet import FleetSettings, running_fleet
from lnagents.evaluate.workload import PAYMENT_TIMEOUT_SECONDS
from lnagents.model.errors import TestbedError
from lnagents.model.payment import PaymentStatus
from lnagents.model.topology import Topology
from lnagents.testbed import Testbed

AMOUNT_MSAT = 200_000
"""Small, so that no channel of the line runs dry during the bench."""

WARM_UP_PAYMENTS = 8


@dataclass(frozen=True, slots=True)
class PaymentsRow:
    """One measurement."""

    hops: int
    concurrency: int
    payments_per_second: float
    agents: bool
    payments: int
    """Behind the figure."""


@dataclass(frozen=True, slots=True)
class PaymentsBench:
    """All measurements."""

    rows: tuple[PaymentsRow, ...]

    @property
    def pairs(self) -> tuple[tuple[PaymentsRow, PaymentsRow], ...]:
        """Plain and with agents, for each number of hops and concurrency."""
        plain = {(row.hops, row.concurrency): row for row in self.rows if not row.agents}
        return tuple((plain[row.hops, row.concurrency], row) for row in self.rows if row.agents)

    @property
    def agents_ratio(self) -> float:
        """Geometric mean over the pairs of the rate with agents over the plain one."""
        return exp(
            fmean(
                log(agents.payments_per_second / plain.payments_per_second)
                for plain, agents in self.pairs
            )
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"rows": [asdict(row) for row in self.rows], "agents_ratio": self.agents_ratio}


async def bench_payments(
    topology: Topology,
    *,
    hops: Sequence[int] = (1, 2, 4),
    concurrencies: Sequence[int] = (1, 32),
    payments: int = 160,
    progress: Callable[[str], None],
) -> PaymentsBench:
    """Measure on a fresh network of `topology`, whose nodes form a line in their order.

    Args:
        topology: a line of more nodes than the most hops.
        hops: channels from the payer to the receiver.
        concurrencies: payments under way at once.
        payments: per measurement at the highest concurrency; a quarter of it where serial.
        progress: told what is measured.

    Raises:
        TestbedError: the network failed, or a payment did.
    """
    cases = [(h, c) for h in hops for c in concurrencies]
    async with Testbed.running(topology, progress=progress) as testbed:
        names = list(testbed.nodes)

        async def measure(label: str) -> dict[tuple[int, int], tuple[int, float]]:
            found = {}
            for h, c in cases:
                progress(f"{label}: {h} hops, {c} at once")
                count = payments if c > 1 else payments // 4
                await _pay_many(testbed, names[0], names[h], WARM_UP_PAYMENTS, c)
                found[h, c] = count, await _pay_many(testbed, names[0], names[h], count, c)
            return found

        before = await measure("plain")
        directory = testbed.directory / "agents"
        progress("starting the agents")
        # LND avoids for an hour what raised its fee twice within a minute: on a line, fees rest.
        settings = FleetSettings(buy_hints=False, pinned_policy=topology.policy)
        async with running_fleet(testbed, directory, settings):
            with_agents = [await measure("with agents") for _ in range(2)]
        after = await measure("plain again")
    return PaymentsBench(
        tuple(
            _row(case, agents, runs)
            for agents, runs in ((False, [before, after]), (True, with_agents))
            for case in cases
        )
    )


def _row(
    case: tuple[int, int], agents: bool, runs: Sequence[dict[tuple[int, int], tuple[int, float]]]
) -> PaymentsRow:
    count = sum(run[case][0] for run in runs)
    seconds = sum(run[case][1] for run in runs)
    return PaymentsRow(case[0], case[1], count / seconds, agents, count)


async def _pay_many(
    testbed: Testbed, source: str, destination: str, count: int, concurrency: int
) -> float:
    """Make `count` payments, at most `concurrency` at once; returns the seconds it took.

    Invoices are made beforehand and not timed.
    """
    payer, receiver = testbed.client(source), testbed.client(destination)
    invoices = [await receiver.add_invoice(AMOUNT_MSAT) for _ in range(count)]
    requests = iter([invoice.payment_request for invoice in invoices])

    async def worker() -> None:
        for request in requests:
            payment = await payer.pay(
                request,
                # As much as the payment itself: what agents charge must not decide here.
                fee_limit_msat=AMOUNT_MSAT,
                timeout_seconds=PAYMENT_TIMEOUT_SECONDS,
            )
            if payment.status is not PaymentStatus.SETTLED:
                raise TestbedError(
                    f"a payment from {source} to {destination} failed: {payment.failure_reason}"
                )

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    return time.perf_counter() - began
