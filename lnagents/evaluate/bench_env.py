"""What each layer above the twin costs: arrays for trainers, and the PettingZoo form.

The three forms live the same episode, to the last bit: the twin driven directly, with the policies
that the agents will have chosen; the array form, which decodes the agents' actions and encodes
what they see; and the PettingZoo form, which adds dicts. So their payments a second differ by the
layers alone. They take turns, and the quickest of several turns counts, so that a machine that is
busy with something else does not favour any. Time is that of the processor, one thread; what numba
compiles, it compiles before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lnagents.env.arrays import ActionArrays, RoundArrays
from lnagents.env.features import FloatArray
from lnagents.env.lightning import LightningEnv
from lnagents.env.payments import EpisodePayments, RandomDemand
from lnagents.env.settings import EnvSettings
from lnagents.env.twin_world import TwinWorld
from lnagents.model.errors import LnagentsError
from lnagents.model.workload import AmountSpec
from lnagents.twin.network import Int64Array, Network
from lnagents.twin.simulator import Twin

AMOUNT_SAT = 10_000
"""The same as in the bench of the twin."""

ROUNDS = 100
"""Of one turn."""
TURNS = 40
SEED = 1

_Policies = list[tuple[Int64Array, Int64Array]]


@dataclass(frozen=True, slots=True)
class EnvBench:
    """All measurements; payments are per second of one processor."""

    nodes: int
    channels: int
    agents: int
    payments_per_round: int
    twin: float
    array: float
    pettingzoo: float

    @property
    def array_fraction(self) -> float:
        """Of the twin's payments a second, what the array form keeps."""
        return self.array / self.twin

    @property
    def pettingzoo_fraction(self) -> float:
        """Of the twin's payments a second, what the PettingZoo form keeps."""
        return self.pettingzoo / self.twin

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            **asdict(self),
            "array_fraction": self.array_fraction,
            "pettingzoo_fraction": self.pettingzoo_fraction,
        }


def bench_env(
    network: Network,
    *,
    agents: int = 10,
    payments_per_round: int = 50,
    progress: Callable[[str], None],
) -> EnvBench:
    """Measure on `network`, with agents on nodes spread evenly over it, who act at random.

    Args:
        network: with at least two nodes.
        agents: how many nodes have agents.
        payments_per_round: from random nodes to random other ones, 10,000 sat each.
        progress: told what is measured.

    Raises:
        ValueError: there are more agents than nodes, or none.
        LnagentsError: the forms have not lived the same episode.
    """
    if not 1 <= agents <= network.nodes:
        raise ValueError(f"agents: {agents} is not between 1 and {network.nodes} nodes")
    bench = _Bench(network, agents, payments_per_round)
    progress("compiling")
    best = dict.fromkeys(bench.forms, float("inf"))
    balances: list[Int64Array] = []
    for turn in range(TURNS + 1):
        for name, form in bench.forms.items():
            progress(f"turn {turn} of {TURNS}: {name}" if turn else f"compiling: {name}")
            seconds, ended = form()
            balances.append(ended)
            if turn:
                best[name] = min(best[name], seconds)
    if not all(np.array_equal(balances[0], other) for other in balances[1:]):
        raise LnagentsError("the forms of the environment have not lived the same episode")
    payments = ROUNDS * payments_per_round
    return EnvBench(
        nodes=network.nodes,
        channels=network.channels,
        agents=agents,
        payments_per_round=payments_per_round,
        **{name: payments / seconds for name, seconds in best.items()},
    )


class _Bench:
    """One episode, in three forms; each gives the seconds it took and the balances at its end."""

    def __init__(self, network: Network, agents: int, payments_per_round: int) -> None:
        self._network = network
        places = np.linspace(0, network.nodes, agents, endpoint=False).astype(int)
        self._agents = [network.names[place] for place in places]
        self._demand = RandomDemand(
            payments_per_round, AmountSpec(kind="fixed", median_sat=AMOUNT_SAT)
        )
        self._settings = EnvSettings(rounds=ROUNDS)
        env = self._env()
        env.reset(seed=SEED)
        self._episode: EpisodePayments = env.episode
        rng = np.random.default_rng(SEED)
        shape = (ROUNDS, agents, env.world.max_channels, 3)
        self._levels: FloatArray = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
        self._policies = self._chosen_policies()
        self.forms = {"twin": self._twin, "array": self._array, "pettingzoo": self._pettingzoo}

    def _world(self) -> TwinWorld:
        return TwinWorld(self._network, self._agents)

    def _env(self) -> LightningEnv:
        return LightningEnv(self._world(), self._demand, self._settings)

    def _chosen_policies(self) -> _Policies:
        """What the agents change in each round."""
        world = self._world()
        rounds = world.rounds(self._settings.bounds)
        chosen = []
        for number in range(ROUNDS):
            before = world.twin.policies()
            rounds.act(ActionArrays(self._levels[number]))
            after = world.twin.policies()
            edges = np.flatnonzero((before != after).any(axis=1))
            chosen.append((edges, after[edges]))
            rounds.run(self._episode.of_round(number))
        return chosen

    def _twin(self) -> tuple[float, Int64Array]:
        twin, times = Twin(self._network), self._world().times
        traffic = [self._episode.of_round(number).traffic(times.hear) for number in range(ROUNDS)]
        began = time.process_time()
        for number in range(ROUNDS):
            twin.set_policies(*self._policies[number])
            twin.run(traffic[number], until=times.whole)
        return time.process_time() - began, twin.balances()

    def _array(self) -> tuple[float, Int64Array]:
        world = self._world()
        rounds = world.rounds(self._settings.bounds)
        agents, channels = len(self._agents), world.max_channels
        began = time.process_time()
        for number in range(ROUNDS):
            rounds.act(ActionArrays(self._levels[number]))
            rounds.run(self._episode.of_round(number))
            rounds.observe(RoundArrays.empty(agents, channels))
        return time.process_time() - began, world.twin.balances()

    def _pettingzoo(self) -> tuple[float, Int64Array]:
        env = self._env()
        env.reset(seed=SEED)
        actions = [
            {agent: {"fees": one} for agent, one in zip(self._agents, levels, strict=True)}
            for levels in self._levels
        ]
        began = time.process_time()
        for action in actions:
            env.step(action)
        seconds = time.process_time() - began
        world = env.world
        assert isinstance(world, TwinWorld)  # noqa: S101 - `_env` made it
        return seconds, world.twin.balances()
