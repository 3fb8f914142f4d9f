"""How fast teams are trained: steps of environments per second of one processor, against BenchMARL.

A step is one round of one environment, of all its agents together. Both sides train IPPO on the
same environment: the same network, agents, payments and rounds; as many environments side by side,
so the same batch; as many passes over it, in as many minibatches; the same learning rate, discount,
clipping and weights of the loss; one set of weights for all agents, hidden layers of the same
width, ReLU. One thread each; time is that of the processor. They take turns, so that a machine that
is busy with something else slows both, and the quickest turn of each counts.

What differs is what the two are made of. Ours trains on `LightningBatch`, arrays of rows and masks
(`lnagents.learn`): per channel two hidden layers, pooled, and one more for the node. BenchMARL
(`bench/benchmarl/ippo.py`) sees the same environment as its users would give it, one vector an
agent and step (`lnagents.env.flat`), and runs its MLP of two hidden layers on it; its actions are
one vector likewise. So it has more parameters, and ours uses each of its own several times.
BenchMARL's episodes end on their own, so it resets within the batch where we begin with it.

BenchMARL needs versions of its own of what it builds on, so it lives in an environment of its own;
it is run there as a program that makes one iteration for each line it is given.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from lnagents.env.payments import RandomDemand
from lnagents.env.settings import EnvSettings
from lnagents.model.errors import InputError, LnagentsError
from lnagents.model.workload import AmountSpec
from lnagents.twin.generate import barabasi_albert
from lnagents.twin.loaders import load_network
from lnagents.twin.network import Network

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "bench" / "benchmarl" / "ippo.py"
INTERPRETER = ROOT / "bench" / ".venv" / "bin" / "python"
"""Where `make bench-env` makes BenchMARL's environment."""

AMOUNT_SAT = 10_000
"""The same as in the other benches."""
SEED = 1
LEARNING_RATE = 1e-3


@dataclass(frozen=True, slots=True)
class TrainBenchSpec:
    """What is trained on, and how; see `lnagents.learn.settings` for the latter."""

    graph: str | None = None
    """A network's file; None: a Barabási-Albert network of `nodes` nodes."""
    nodes: int = 10
    agents: int = 10
    """Spread evenly over the nodes."""
    payments: int = 50
    """In each round, from random nodes to random other ones."""
    rounds: int = 50
    """Of an episode."""
    environments: int = 8
    hidden: int = 32
    epochs: int = 6
    minibatches: int = 1

    @property
    def steps(self) -> int:
        """Of one iteration."""
        return self.environments * self.rounds

    def network(self) -> Network:
        """The network.

        Raises:
            TopologyError: the file is no network.
            InputError: it has not enough nodes.
        """
        network = (
            load_network(Path(self.graph)) if self.graph else barabasi_albert(self.nodes, SEED)
        )
        if not 1 <= self.agents <= network.nodes:
            raise InputError(
                "--agents",
                f"{self.agents} is not between 1 and the network's {network.nodes} nodes",
            )
        return network

    def agent_names(self, network: Network) -> list[str]:
        """Who decides."""
        places = np.linspace(0, network.nodes, self.agents, endpoint=False).astype(int)
        return [network.names[place] for place in places.tolist()]

    def demand(self) -> RandomDemand:
        """Who pays."""
        return RandomDemand(self.payments, AmountSpec(kind="fixed", median_sat=AMOUNT_SAT))

    def settings(self) -> EnvSettings:
        """Of the environments."""
        return EnvSettings(rounds=self.rounds)


@dataclass(frozen=True, slots=True)
class TrainSide:
    """One of the two; times are microseconds of the processor for a step, of the quickest turn."""

    parameters: int
    """Of actor and critic together."""
    where: dict[str, float]
    """What the time goes into."""

    @property
    def steps_per_cpu_second(self) -> float:
        """Collecting and learning together."""
        return 1e6 / sum(self.where.values())


@dataclass(frozen=True, slots=True)
class TrainBench:
    """Both sides."""

    spec: TrainBenchSpec
    ours: TrainSide
    benchmarl: TrainSide

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.ours.steps_per_cpu_second / self.benchmarl.steps_per_cpu_second

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "ours": self.ours.steps_per_cpu_second,
            "benchmarl": self.benchmarl.steps_per_cpu_second,
            "ratio": self.ratio,
            "microseconds_per_step": {
                "ours": self.ours.where,
                "benchmarl": self.benchmarl.where,
            },
            "parameters": {
                "ours": self.ours.parameters,
                "benchmarl": self.benchmarl.parameters,
            },
            "spec": asdict(self.spec),
        }


def bench_train(
    spec: TrainBenchSpec,
    *,
    interpreter: Path = INTERPRETER,
    turns: int = 5,
    progress: Callable[[str], None],
) -> TrainBench:
    """Measure both sides.

    Args:
        spec: what is trained on, and how.
        interpreter: a Python that can import BenchMARL and what `lnagents.env` needs.
        turns: iterations of each side that count; one goes before that does not.
        progress: told what is measured.

    Raises:
        InputError: there is no such interpreter, or the network is wrong or too small.
        LnagentsError: BenchMARL could not be run; with its last words.
    """
    if not (interpreter.is_file() and PROGRAM.is_file()):
        raise InputError(
            "--benchmarl",
            f"there is no {interpreter if PROGRAM.is_file() else PROGRAM};"
            " in a checkout, `make bench-env` makes BenchMARL's environment",
        )
    from lnagents.evaluate.bench_train_ours import OurSide

    progress("starting")
    ours = OurSide(spec)
    with _benchmarl(spec, interpreter, turns + 1) as theirs:
        best: dict[str, TrainSide] = {}
        for turn in range(turns + 1):
            for name, iterate in (("ours", ours.iterate), ("benchmarl", theirs)):
                progress(f"turn {turn} of {turns}: {name}" if turn else f"warming up: {name}")
                side = iterate()
                # What the first turn compiles and loads does not count.
                if turn < 2 or side.steps_per_cpu_second > best[name].steps_per_cpu_second:
                    best[name] = side
    return TrainBench(spec, best["ours"], best["benchmarl"])


@contextmanager
def _benchmarl(
    spec: TrainBenchSpec, interpreter: Path, iterations: int
) -> Iterator[Callable[[], TrainSide]]:
    """BenchMARL as a program of its own; each call makes one iteration."""
    given = json.dumps({**asdict(spec), "iterations": iterations})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as said,
        subprocess.Popen(
            [interpreter, PROGRAM, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment,
        ) as process,
    ):

        def iterate() -> TrainSide:
            return _answer(process, said)

        try:
            yield iterate
        finally:
            process.kill()


def _answer(process: subprocess.Popen[str], said: IO[str]) -> TrainSide:
    try:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        os.write(process.stdin.fileno(), b"\n")  # nothing is left to be written when it is closed
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        process.wait()
        said.seek(0)
        words = said.read().strip().splitlines()
        raise LnagentsError(f"BenchMARL ended by itself: {words[-1] if words else 'in silence'}")
    return TrainSide(**json.loads(line))
