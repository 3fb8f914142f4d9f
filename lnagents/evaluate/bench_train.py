"""How fast teams are trained: steps of environments per second of one processor, against BenchMARL.

A step is one round of one environment, of all its agents together. Both sides train IPPO on the
same environment: the same network, agents, payments and rounds; as many environments side by side,
so the same batch; as many passes over it, in as many minibatches; the same learning rate, discount,
clipping and weights of the loss; one set of weights for all agents, hidden layers of the same
width, ReLU. One thread each; time is that of the processor. They take turns, so that a machine that
is busy with something else slows both, and the quickest turn of each counts.

BenchMARL is measured in several ways (`RIVALS`). All but the last are on the environment as its
users are given it: `LightningEnv`, a PettingZoo environment, with one vector an agent for what it
sees and one for what it does (`lnagents.env.flat`), as many side by side as BenchMARL arranges it.

- `benchmarl`: with our networks as a model of BenchMARL's (`bench/benchmarl/rows.py`): the same
  layers and as many parameters, per channel two hidden layers, pooled, and one more for the node.
  The quotient `ratio` is to this one: nothing else is "the same network size".
- `benchmarl_mlp`: with BenchMARL's own MLP of two hidden layers on the vectors: it has half as many
  parameters again, but uses each of them once where ours uses its own once for each channel, so
  it has about a fifth of the arithmetic (`ratio_mlp`).
- `benchmarl_silent`: as the first, on an environment that gives no infos (`ratio_silent`). TorchRL
  copies infos, the terms of the reward, number by number, and has no switch for it. Ours keeps the
  same terms as measures in all comparisons.
- `benchmarl_batched`: as that, but given our own batch of environments as a vectorised environment
  of TorchRL's (`bench/benchmarl/batched.py`), the fastest that its interface permits. What is left
  of the quotient, `ratio_batched`, is due to the trainer alone; the rest of `ratio` to what lies
  between trainer and environment.

What differs besides: ours takes all environments as one batch of arrays and masks
(`lnagents.env.batch`), lays channels out without padding, and begins a batch with new episodes,
where BenchMARL resets an environment when its episode has ended.

BenchMARL needs versions of its own of what it builds on, so it lives in an environment of its own;
it is run there as a program that makes one iteration for each line it is given.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
class Rival:
    """A way to run BenchMARL."""

    rows: bool
    """With our networks; else with its MLP."""
    infos: bool
    """On the environment as it is; else on one that gives no infos."""
    batched: bool = False
    """On our batch of environments, as a vectorised environment without infos."""


RIVALS = {
    "benchmarl": Rival(rows=True, infos=True),
    "benchmarl_mlp": Rival(rows=False, infos=True),
    "benchmarl_silent": Rival(rows=True, infos=False),
    "benchmarl_batched": Rival(rows=True, infos=False, batched=True),
}
"""By their names in JSON; the first is the one to be measured by."""


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
    """All sides."""

    spec: TrainBenchSpec
    ours: TrainSide
    rivals: dict[str, TrainSide]
    """By the names of `RIVALS`."""

    def ratio(self, rival: str = "benchmarl") -> float:
        """How many times faster ours is."""
        return self.ours.steps_per_cpu_second / self.rivals[rival].steps_per_cpu_second

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        sides = {"ours": self.ours, **self.rivals}
        return {
            **{name: side.steps_per_cpu_second for name, side in sides.items()},
            **{name.replace("benchmarl", "ratio"): self.ratio(name) for name in self.rivals},
            "microseconds_per_step": {name: side.where for name, side in sides.items()},
            "parameters": {name: side.parameters for name, side in sides.items()},
            "spec": asdict(self.spec),
        }


def bench_train(
    spec: TrainBenchSpec,
    *,
    interpreter: Path = INTERPRETER,
    turns: int = 5,
    progress: Callable[[str], None],
) -> TrainBench:
    """Measure all sides.

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
    with ExitStack() as running:
        sides: dict[str, Callable[[], TrainSide]] = {"ours": ours.iterate}
        for name, rival in RIVALS.items():
            program = _benchmarl(spec, rival, interpreter, turns + 1)
            sides[name] = running.enter_context(program)
        best: dict[str, TrainSide] = {}
        for turn in range(turns + 1):
            for name, iterate in sides.items():
                progress(f"turn {turn} of {turns}: {name}" if turn else f"warming up: {name}")
                side = iterate()
                # What the first turn compiles and loads does not count.
                if turn < 2 or side.steps_per_cpu_second > best[name].steps_per_cpu_second:
                    best[name] = side
    return TrainBench(spec, best.pop("ours"), best)


@contextmanager
def _benchmarl(
    spec: TrainBenchSpec, rival: Rival, interpreter: Path, iterations: int
) -> Iterator[Callable[[], TrainSide]]:
    """BenchMARL as a program of its own; each call makes one iteration."""
    given = json.dumps({**asdict(spec), "rival": asdict(rival), "iterations": iterations})
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
