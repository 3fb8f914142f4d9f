"""All runs of a plan that have no result yet: each on real nodes first, then in the twin."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lnagents.agent.trained import read_team
from lnagents.env.live_world import LiveWorld
from lnagents.evaluate.live.daemons import DaemonDeciders
from lnagents.evaluate.live.plan import LivePlan
from lnagents.evaluate.live.play import Record, play
from lnagents.evaluate.live.results import LiveResult, LiveResults, WorldName
from lnagents.evaluate.live.stage import Stage, make_stage
from lnagents.evaluate.live.twins import TwinDeciders, make_twin
from lnagents.testbed import BackendKind

OVERTIME_SECONDS = 30.0
"""How long a round waits for payments on a machine that is busy with other things."""


class LiveObserver(Protocol):
    """Watches the runs for people."""

    def phase(self, text: str) -> None:
        """A new step began."""

    def round(self, number: int, count: int) -> None:
        """So many rounds of the run are over."""


def team_digest(team: Path) -> str:
    """What tells one trained team from another: a hash of the weights that its agents have.

    Raises:
        CheckpointError: it cannot be read, or is not the checkpoint of a team for nodes.
    """
    digest = hashlib.sha256()
    for network, state in read_team(team).weights().items():
        # Results of teams that are nothing but actors were named before there were others.
        place = "" if network == "actor" else f"{network}."
        for name, weights in sorted(state.items()):
            digest.update(f"{place}{name}".encode() + weights.numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Job:
    """One condition of one seed."""

    plan: LivePlan
    stage: Stage
    seed: int
    condition: str
    team: Path
    run: str

    def result(self, record: Record, world: WorldName) -> LiveResult:
        return LiveResult.of(
            record,
            self.stage.routers,
            run=self.run,
            world=world,
            seed=self.seed,
            condition=self.condition,
        )


def run_live(
    plan: LivePlan,
    team: Path,
    results: LiveResults,
    observer: LiveObserver,
    *,
    backend: BackendKind = BackendKind.NATIVE,
    only_twin: bool = False,
) -> int:
    """Make the runs that `results` lacks; returns how many were made on real nodes.

    Each result is kept as soon as it is there. What was started ends however this ends.

    Args:
        plan: what to run.
        team: the checkpoint of the trained team.
        results: where results are kept.
        observer: told what goes on.
        backend: what runs the nodes.
        only_twin: start no nodes; then it returns how many runs were made in the twin.

    Raises:
        CheckpointError: the team cannot be used; nothing was started.
        ExperimentError: the plan does not fit, or the results are damaged.
        LnagentsError: the network or a daemon failed.
    """
    team = team.absolute()
    digest = team_digest(team)
    count = plan.seeds * len(plan.conditions)
    made = 0
    for seed in range(plan.seeds):
        stage = make_stage(plan, seed)
        jobs = [
            _Job(plan, stage, seed, condition, team, plan.run_id(seed, condition, digest))
            for condition in plan.conditions
        ]
        done = results.read().keys()
        waiting = [job for job in jobs if (job.run, "live") not in done]
        if waiting and not only_twin:
            observer.phase(f"seed {seed}: starting {len(stage.topology.nodes)} nodes")
            with LiveWorld(
                stage.topology,
                agents=[] if stage.rival is None else [stage.rival],
                round_seconds=plan.round_seconds,
                overtime_seconds=OVERTIME_SECONDS,
                backend=backend,
            ) as world:
                for job in waiting:
                    first = seed * len(jobs) + jobs.index(job)
                    observer.phase(f"seed {seed}: {job.condition}, run {first + 1} of {count}")
                    results.append(_on_nodes(job, world, observer))
                    made += 1
        for job in jobs:
            if (job.run, "twin") not in done:
                observer.phase(f"seed {seed}: {job.condition} in the twin")
                live = None if only_twin else results.read()[job.run, "live"]
                results.append(_in_twin(job, live, observer))
                made += only_twin
    return made


def _on_nodes(job: _Job, world: LiveWorld, observer: LiveObserver) -> LiveResult:
    stage = job.stage
    world.reset(stage.seed)
    # Sockets have short paths only.
    with tempfile.TemporaryDirectory(prefix="lnagents-live-") as folder:
        daemons = DaemonDeciders(world, stage, job.condition, job.team, Path(folder))
        with closing(daemons):
            record = play(world, daemons, stage, progress=_rounds(job, observer))
    return job.result(record, "live")


def _in_twin(job: _Job, live: LiveResult | None, observer: LiveObserver) -> LiveResult:
    """The same as `live`, also in the lots that those who explore draw, and in its clock."""
    world = make_twin(job.stage, job.plan.round_seconds)
    with closing(TwinDeciders(world, job.stage, job.condition, job.team, live)) as actors:
        record = play(world, actors, job.stage, progress=_rounds(job, observer))
    return job.result(record, "twin")


def _rounds(job: _Job, observer: LiveObserver) -> Callable[[int], None]:
    return lambda number: observer.round(number, job.plan.rounds)
