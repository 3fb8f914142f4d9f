"""Trains the team of the live comparison in the twin, on training networks of the same family.

    python bench/live/train_team.py runs/live-team

The team is trained to work together: all are rewarded with the mean of what they earn. Interrupted,
it goes on where it was saved last. `log.jsonl` in the folder tells how it does. It takes a quarter
of an hour of processor time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from lnagents.env.batch import LightningBatch
from lnagents.env.payments import EpisodePayments, WorkloadDemand
from lnagents.env.reward import RewardMode
from lnagents.env.settings import EnvSettings
from lnagents.env.twin_world import TwinTimes, TwinWorld
from lnagents.evaluate import train_run
from lnagents.evaluate.experiment.families import CompetingPaths, Split, draw_arena
from lnagents.evaluate.training import LightningTask
from lnagents.learn.algorithms import AlgorithmName
from lnagents.learn.settings import Schedule, TrainSettings
from lnagents.learn.trainer import Trainer
from lnagents.twin.settings import LatencySettings, TwinSettings

FAMILY = CompetingPaths(kind="competing-paths", name="live")
NETWORKS = 16
ROUNDS = 40
ROUND_SECONDS = 2.0
MARKETS = 100_000
"""So many different payers: what they accept is drawn apart from the network."""


class Markets:
    """The payers of another network of the family in every episode."""

    def draw(
        self, nodes: tuple[str, ...], rounds: int, round_seconds: float, seed: int
    ) -> EpisodePayments:
        """See `Demand.draw`."""
        workload = draw_arena(FAMILY, Split.TRAINING, seed % MARKETS).workload
        return WorkloadDemand(workload).draw(nodes, rounds, round_seconds, seed)


def main(folder: Path) -> None:
    """Train into `folder`."""
    torch.set_num_threads(1)
    settings = TwinSettings(latency=LatencySettings.testbed())
    times = TwinTimes(pay=ROUND_SECONDS)
    arenas = [draw_arena(FAMILY, Split.TRAINING, index) for index in range(NETWORKS)]
    worlds = [TwinWorld(one.network, one.agents, settings=settings, times=times) for one in arenas]
    mode = EnvSettings(rounds=ROUNDS, mode=RewardMode.COOPERATIVE)
    task = LightningTask(LightningBatch(worlds, Markets(), mode))
    train = TrainSettings(
        algorithm=AlgorithmName.IPPO,
        iterations=250,
        learning_rate=Schedule(start=2e-3, end=3e-4),
        entropy=Schedule(start=2e-3, end=1e-4),
        minibatches=4,
        epochs=4,
    )
    folder.mkdir(parents=True, exist_ok=True)

    train_run.train(Trainer(task, train, 1), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
