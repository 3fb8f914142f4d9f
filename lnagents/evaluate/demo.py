"""The main job from end to end: a network, its agents, the same payments twice, a report."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lnagents.evaluate.fleet import FleetSettings
from lnagents.evaluate.report import Experiment, write_report
from lnagents.evaluate.runs import RunObserver, run_with_agents, run_with_lnd
from lnagents.evaluate.workload import load_workload
from lnagents.model.topology import Topology
from lnagents.model.workload import draw_payments
from lnagents.testbed import BackendKind, Testbed

MAX_PRICE_SAT = 20
"""What sellers may ask for a document; a failed attempt costs a sender about 100 sat and more."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What to run."""

    topology: Topology
    out: Path
    """Folder for the report, and for the agents' stores and logs."""
    workload: str = "default"
    payments: int = 400
    seed: int = 0
    backend: BackendKind = BackendKind.NATIVE
    keep: bool = False
    """Leave the network running at the end; the daemons end in any case."""


class DemoObserver(RunObserver, Protocol):
    """Watches a demo for people."""

    def phase(self, text: str) -> None:
        """A new step began."""

    def progress(self, text: str) -> None:
        """Something within the step."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo leaves behind."""

    experiment: Experiment
    page: Path
    document: Path


async def run_demo(settings: DemoSettings, observer: DemoObserver) -> DemoResult:
    """Run the whole demo; what was started is stopped at the end, however it ends.

    Raises:
        InputError: the workload does not fit the topology; nothing was started.
        LnagentsError: a step failed; the message says which and why.
    """
    workload = await asyncio.to_thread(load_workload, settings.workload, settings.topology)
    intents = draw_payments(workload, settings.payments, settings.seed)
    async with AsyncExitStack() as stack:
        observer.phase("Starting the network")
        testbed = await Testbed.up(
            settings.topology,
            backend=settings.backend,
            tied=not settings.keep,
            progress=observer.progress,
        )
        stack.push_async_callback(testbed.down)
        observer.phase("Starting one agent daemon per node")
        agents = await run_with_agents(
            testbed,
            intents,
            testbed.directory / "agents",
            FleetSettings(seed=settings.seed, max_price_sat=MAX_PRICE_SAT),
            observer,
        )
        await asyncio.to_thread(
            shutil.copytree,
            testbed.directory / "agents",
            settings.out / "agents",
            ignore=shutil.ignore_patterns("*.sock", "lock"),
            dirs_exist_ok=True,
        )
        observer.phase("Putting the network back to its first state")
        await testbed.reset()
        observer.phase("The same payments with LND's own defaults")
        baseline = await run_with_lnd(testbed, intents, observer)
        observer.phase("Writing the report")
        info = await testbed.client(next(iter(testbed.nodes))).info()
        experiment = Experiment(
            topology=settings.topology,
            workload=workload.name,
            backend=settings.backend.value,
            seed=settings.seed,
            baseline=baseline,
            agents=agents,
            versions={"lnd": info.version.split(" ")[0]},
        )
        page, document = await asyncio.to_thread(write_report, experiment, settings.out)
        if settings.keep:
            stack.pop_all()
            await testbed.close()
        return DemoResult(experiment, page, document)
