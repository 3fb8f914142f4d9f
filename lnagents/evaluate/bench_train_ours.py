"""Our side of `lnagents.evaluate.bench_train`, under a watch that says where the time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from lnagents.env.arrays import ActionArrays, RoundArrays
from lnagents.env.batch import LightningBatch
from lnagents.env.fees import FeeBounds
from lnagents.env.payments import RoundPayments
from lnagents.env.twin_rounds import TwinRounds
from lnagents.env.twin_world import TwinWorld
from lnagents.evaluate.bench_train import LEARNING_RATE, SEED, TrainBenchSpec, TrainSide
from lnagents.evaluate.training import LightningTask
from lnagents.twin.network import Network

if TYPE_CHECKING:
    from lnagents.learn.task import Actions, Seen, StepResult

Result = TypeVar("Result")

_NO_END = 1_000_000
"""Iterations; schedules stay where they begin."""


class OurSide:
    """A trainer that makes one iteration at a time."""

    def __init__(self, spec: TrainBenchSpec) -> None:
        import torch

        from lnagents.learn.settings import TrainSettings, constant
        from lnagents.learn.trainer import Trainer

        torch.set_num_threads(1)
        network, self._watch = spec.network(), Watch()
        names = spec.agent_names(network)
        worlds = [_World(network, names, self._watch) for _ in range(spec.environments)]
        batch = LightningBatch(worlds, spec.demand(), spec.settings())
        settings = TrainSettings(
            hidden=spec.hidden,
            epochs=spec.epochs,
            minibatches=spec.minibatches,
            learning_rate=constant(LEARNING_RATE),
            target_divergence=1e9,  # BenchMARL makes all passes
            iterations=_NO_END,
        )
        self._trainer = Trainer(_Task(batch, self._watch), settings, SEED)
        self._steps = spec.steps

    def iterate(self) -> TrainSide:
        """One iteration, and what it took."""
        watch = self._watch
        watch.clear()
        report = self._trainer.iterate()
        twin, encode, task = watch.share("twin"), watch.share("encode"), watch.processor
        seconds = {
            "twin": twin,
            "encode": encode,
            "arrays": task - twin - encode,
            "actor": report.collect_seconds - task,
            "train": report.train_seconds,
        }
        where = {name: 1e6 * value / self._steps for name, value in seconds.items()}
        return TrainSide(self._trainer.parameters, where)


class Watch:
    """Seconds of the task, and of places within it.

    To ask for the processor's time takes a microsecond, which would show if it were asked around
    every call. So places are measured by the clock, and have the same share of the processor's time
    as of the clock's.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.processor = 0.0
        """In the task."""
        self._clock = {"task": 0.0, "twin": 0.0, "encode": 0.0}

    def count(self, place: str, began: float) -> None:
        """Count what began at a time of the clock and is done now."""
        self._clock[place] += time.perf_counter() - began

    def on_task(self, work: Callable[[], Result]) -> Result:
        """Do `work`, all of it by the processor's time."""
        began, clock = time.process_time(), time.perf_counter()
        result = work()
        self.count("task", clock)
        self.processor += time.process_time() - began
        return result

    def share(self, place: str) -> float:
        """Processor seconds in one place."""
        return self.processor * self._clock[place] / self._clock["task"]


class _Rounds(TwinRounds):
    watch: Watch

    def reset(self, seed: int) -> None:
        began = time.perf_counter()
        super().reset(seed)
        self.watch.count("twin", began)

    def observe(self, into: RoundArrays) -> None:
        began = time.perf_counter()
        super().observe(into)
        self.watch.count("encode", began)

    def act(self, actions: ActionArrays) -> None:
        began = time.perf_counter()
        super().act(actions)
        self.watch.count("twin", began)

    def run(self, payments: RoundPayments) -> None:
        began = time.perf_counter()
        super().run(payments)
        self.watch.count("twin", began)


class _World(TwinWorld):
    def __init__(self, network: Network, agents: Sequence[str], watch: Watch) -> None:
        super().__init__(network, agents)
        self._watch = watch

    def rounds(self, bounds: FeeBounds) -> TwinRounds:
        rounds = _Rounds(self, bounds)
        rounds.watch = self._watch
        return rounds


class _Task(LightningTask):
    def __init__(self, batch: LightningBatch, watch: Watch) -> None:
        # As `lnagents train` makes it for IPPO: who does not look at more is not told more.
        super().__init__(batch, row_rewards=False, neighbours=False)
        self._watch = watch

    def reset(self, seeds: Sequence[int]) -> Seen:
        return self._watch.on_task(lambda: super(_Task, self).reset(seeds))

    def step(self, actions: Actions) -> StepResult:
        return self._watch.on_task(lambda: super(_Task, self).step(actions))
