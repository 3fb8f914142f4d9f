"""How far the twin of a live run is from itself, and from the nodes, if every hop takes longer.

    python bench/live/slower_twin.py bench/live/drain-busy    # writes slower.jsonl there

Payments that overlap end in another order when hops take longer, and everything after that parts.
So what is left between real nodes and a twin that goes by their clock can be held against what a
slower machine would change by itself. Of the team that stays as it was trained, frozen.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from lnagents.env.twin_world import TwinWorld
from lnagents.evaluate.live.plan import FROZEN, LivePlan, Scenario, load_plan
from lnagents.evaluate.live.play import play
from lnagents.evaluate.live.results import LiveResult, LiveResults
from lnagents.evaluate.live.scores import GapRow, Runs, gap_row
from lnagents.evaluate.live.stage import make_stage
from lnagents.evaluate.live.twins import TwinDeciders, quiet
from lnagents.twin.loaders import from_topology
from lnagents.twin.settings import LatencySettings, TwinSettings

TEAM = Path(__file__).parent / "team.pt"
SLOWER = (0.7, 0.9, 1.1, 1.5, 2.0, 3.0)


def twin_of(plan: LivePlan, live: LiveResult, slower: float) -> LiveResult:
    """The twin of a run, in which each hop takes `slower` times as long as on a quiet testbed."""
    stage = make_stage(plan, live.seed)
    usual = LatencySettings.testbed()
    latency = LatencySettings(
        forward=usual.forward * slower, settle=usual.settle * slower, fail=usual.fail * slower
    )
    world = TwinWorld(
        from_topology(stage.topology),
        [node.name for node in stage.topology.nodes if node.agent],
        settings=TwinSettings(latency=latency),
        times=quiet(plan.round_seconds),
    )
    world.reset(stage.seed)
    with closing(TwinDeciders(world, stage, FROZEN, TEAM, live)) as actors:
        record = play(world, actors, stage, progress=lambda number: None)
    result = LiveResult.of(
        record, stage.routers, run="", world="twin", seed=live.seed, condition=FROZEN
    )
    return LiveResult(**json.loads(json.dumps(asdict(result))))  # as one that was kept


def told(row: GapRow | None) -> dict[str, object]:
    """For people and for JSON."""
    if row is None:
        raise SystemExit("there are no runs of the frozen team on real nodes")
    return {
        "fees_percent": [round(one, 2) for one in row.fees],
        "success_points": [round(one, 2) for one in row.success],
        "same_payments_percent": round(row.same, 1),
    }


def main(folder: Path) -> None:
    """Write one line of JSON for each latency, beside the runs."""
    plan = load_plan("steady").with_scenario(Scenario.DRAIN)
    runs = LiveResults(folder).read().values()
    frozen = [one for one in runs if one.world == "live" and one.condition == FROZEN]
    live: Runs = {(FROZEN, one.seed): one for one in frozen}
    seeds = sorted(seed for _, seed in live)

    def twins(slower: float) -> Runs:
        return {key: twin_of(plan, one, slower) for key, one in live.items()}

    usual = twins(1.0)
    rows: list[dict[str, object]] = [{"nodes_less_twin": told(gap_row(FROZEN, live, usual, seeds))}]
    for slower in SLOWER:
        other = twins(slower)
        rows.append(
            {
                "slower": slower,
                "slower_twin_less_twin": told(gap_row(FROZEN, other, usual, seeds)),
                "nodes_less_slower_twin": told(gap_row(FROZEN, live, other, seeds)),
            }
        )
    (folder / "slower.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
