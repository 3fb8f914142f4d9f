"""The twin as a task for trainers of teams: networks, payments and rewards from a file.

Nothing here imports torch until a task is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from lnagents.env.arrays import TERM_NAMES, ActionArrays, RoundArrays
from lnagents.env.batch import LightningBatch
from lnagents.env.encoding import ACTION_NAMES, CHANNEL_FEATURE_NAMES, NODE_FEATURE_NAMES
from lnagents.env.features import FloatArray
from lnagents.env.neighbourhood import NEIGHBOUR_FEATURES, neighbourhood, with_changes
from lnagents.env.payments import RandomDemand
from lnagents.env.peers import (
    FORESIGHT_FEATURES,
    LIQUIDITY_BINS,
    MOVE_SIZES,
    MOVES,
    PEER_FEATURES,
    PeerMemory,
)
from lnagents.env.reward import WEIGHTED, RewardMode, RewardWeights, known_reward, mean_weight
from lnagents.env.settings import EnvSettings
from lnagents.env.truth import TRUTH_COLUMNS
from lnagents.env.twin_peers import fill_liquidity, fill_peer_rows
from lnagents.env.twin_world import TwinWorld
from lnagents.evaluate.credit import channel_worth
from lnagents.evaluate.networks import find_network
from lnagents.evaluate.opponents import Opponents, OpponentSpec
from lnagents.evaluate.truth_rows import truth_rows
from lnagents.model.errors import ConfigError
from lnagents.model.files import StrictModel
from lnagents.model.workload import AmountSpec, FeeLimitSpec
from lnagents.twin.announced import Selection
from lnagents.twin.network import Network

if TYPE_CHECKING:
    from lnagents.learn.task import Actions, Seen, StepResult


class RewardSpec(StrictModel):
    """What agents are rewarded with, see `lnagents.env.reward`."""

    function: Annotated[str, AfterValidator(known_reward)] = WEIGHTED
    """How an agent's own reward comes of its terms."""
    mode: RewardMode = RewardMode.COMPETITIVE
    mix: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Of `mixed`: the weight of the mean over all agents."""
    unit_msat: Annotated[int, Field(ge=1)] = 1_000
    fees_earned: float = 1.0
    fees_paid: float = 1.0
    failed_attempt_msat: float = 100.0
    network_term_msat: float = 1_000.0
    forwarded_ppm: float = 0.0

    def settings(self, rounds: int) -> EnvSettings:
        """Of environments with this reward and episodes of so many rounds."""
        return EnvSettings(
            rounds=rounds,
            reward=self.function,
            mode=self.mode,
            mix=self.mix,
            reward_unit_msat=self.unit_msat,
            weights=RewardWeights(
                fees_earned=self.fees_earned,
                fees_paid=self.fees_paid,
                failed_attempt_msat=self.failed_attempt_msat,
                network_term_msat=self.network_term_msat,
                forwarded_ppm=self.forwarded_ppm,
            ),
        )


class LightningSpec(StrictModel):
    """Networks in the twin, who decides there, and who pays."""

    networks: Annotated[tuple[str, ...], Field(min_length=1)]
    """Topologies that come along, or files as `lnagents twin describe` takes them."""
    environments: Annotated[int, Field(ge=1)] = 8
    """At once; they take the networks in turn."""
    agents: Annotated[int, Field(ge=1)] | None = None
    """How many nodes of each network have agents, those with the most channels; None: all."""
    rounds: Annotated[int, Field(ge=1)] = 50
    """Of an episode."""
    payments_per_round: Annotated[int, Field(ge=0)] = 50
    """From random nodes to random other ones."""
    amount: AmountSpec = AmountSpec()
    fee_limit: FeeLimitSpec = FeeLimitSpec()
    reward: RewardSpec = RewardSpec()
    opponents: OpponentSpec | None = None
    """Who else sits at the table; None: the team has all seats."""
    network_seed: int = 0
    """Of what is not known of public networks."""
    threads: Annotated[int, Field(ge=1)] = 1
    """In which the networks live."""

    @model_validator(mode="after")
    def _every_network_is_used(self) -> LightningSpec:
        if len(self.networks) > self.environments:
            raise ValueError(f"environments: {self.environments} are too few for all networks")
        return self


class LightningTask:
    """`LightningBatch` as a task: actions are fees, rows are channels, all from arrays."""

    def __init__(
        self,
        batch: LightningBatch,
        *,
        state_rows: int = 0,
        opponents: OpponentSpec | None = None,
        foresight: bool = False,
        row_rewards: bool = True,
        neighbours: bool = True,
    ) -> None:
        """A task on `batch`, which is closed with it.

        Args:
            batch: whose worlds are twins.
            state_rows: for how many channels there is room in the joint state, the whole truth
                about all of them; 0: it is not told, for it takes time.
            opponents: who else plays; None: the team has all seats.
            foresight: whether to tell about other agents, for models of them; it takes time, too.
            row_rewards: whether to tell which part of a reward is due to which channel; likewise.
            neighbours: whether to tell what is around an agent, for algorithms that look at it.

        Raises:
            TypeError: a world is no twin, so that its truth is not at hand as arrays, and rules
                cannot be played beside arrays.
        """
        from lnagents.learn.task import TaskShape

        self._batch = batch
        self._twins = [world for world in batch.worlds if isinstance(world, TwinWorld)]
        if (state_rows or opponents or foresight) and len(self._twins) != len(batch):
            raise TypeError("hidden truth is told, and opponents play, in twins only")
        self._opponents = Opponents(opponents, self._twins) if opponents else None
        self._tells_neighbours = neighbours
        self._tells_rows = row_rewards and batch.settings.reward == WEIGHTED
        self.shape = TaskShape(
            batch=len(batch),
            agents=batch.agents,
            steps=batch.settings.rounds,
            rows=batch.max_channels,
            row_features=CHANNEL_FEATURE_NAMES,
            whole_features=NODE_FEATURE_NAMES,
            neighbour_features=NEIGHBOUR_FEATURES,
            state_rows=state_rows,
            state_features=TRUTH_COLUMNS if state_rows else (),
            actions=ACTION_NAMES,
            foresight_features=FORESIGHT_FEATURES if foresight else (),
            moves=MOVES if foresight else (),
            move_sizes=MOVE_SIZES if foresight else (),
            liquidity_bins=LIQUIDITY_BINS if foresight else 0,
        )
        self._before: FloatArray | None = None
        self._memory = PeerMemory()

    def reset(self, seeds: Sequence[int]) -> Seen:
        """Begin episodes everywhere."""
        self._before = None
        self._memory = PeerMemory()
        arrays = self._batch.reset(seeds)
        if self._opponents is not None:
            self._opponents.reset(seeds)
        return self._seen(arrays)

    def step(self, actions: Actions) -> StepResult:
        """Live one round everywhere."""
        from lnagents.learn.task import StepResult

        wanted = ActionArrays(actions.rows)
        if self._opponents is not None:
            self._opponents.act()
            wanted = replace(wanted, decides=self._opponents.learns.astype(np.int8))
        result = self._batch.step(wanted)
        return StepResult(
            seen=self._seen(result.seen),
            rewards=result.rewards.astype(np.float32),
            over=result.over,
            measures=dict(zip(TERM_NAMES, np.moveaxis(result.seen.terms, -1, 0), strict=True)),
            row_rewards=self._row_rewards(result.seen) if self._tells_rows else None,
        )

    def _row_rewards(self, arrays: RoundArrays) -> FloatArray:
        """[batch, agents, rows], what became of a channel is worth to its agent.

        A reward that agents share has every agent's own in it, but a part of it only.
        """
        settings = self._batch.settings
        shared = mean_weight(settings.mode, settings.mix)
        part = (1.0 - shared + shared / self._batch.agents) / settings.reward_unit_msat
        return np.float32(part) * channel_worth(arrays, settings.weights)

    def close(self) -> None:
        """Close the worlds."""
        self._batch.close()

    def _seen(self, arrays: RoundArrays) -> Seen:
        from lnagents.learn.task import Seen

        mask = arrays.channel_mask.astype(np.float32)
        shape = self.shape
        neighbours = np.zeros((shape.batch, shape.agents, 0), np.float32)
        if self._tells_neighbours:
            levels = neighbourhood(arrays.channels, mask)
            neighbours = with_changes(levels, self._before)
            self._before = levels
        state = np.zeros((shape.batch, shape.state_rows, len(shape.state_features)), np.float32)
        state_mask = np.zeros((shape.batch, shape.state_rows), np.float32)
        if shape.state_rows:
            for place, world in enumerate(self._twins):
                rows = truth_rows(world)
                state[place, : len(rows)] = rows
                state_mask[place, : len(rows)] = 1.0
        seen = Seen(
            rows=arrays.channels,
            mask=mask,
            whole=arrays.node,
            neighbours=neighbours,
            state=state,
            state_mask=state_mask,
            choice_mask=np.ones((shape.batch, shape.agents, 0), np.float32),
            learns=None if self._opponents is None else self._opponents.learns,
        )
        return self._with_others(seen) if shape.foresight_features else seen

    def _with_others(self, seen: Seen) -> Seen:
        agents, shape = seen.rows.shape[:3], self.shape
        peers = np.zeros((*agents, len(PEER_FEATURES)), np.float32)
        liquidity = np.zeros((*agents, shape.liquidity_bins), np.float32)
        for place, world in enumerate(self._twins):
            fill_peer_rows(world, peers[place])
            fill_liquidity(world, liquidity[place])
        known = self._memory.look(seen.rows, peers)
        return replace(seen, foresight=known.features, moves=known.moves, liquidity=liquidity)


def lightning_task(
    spec: LightningSpec,
    source: str,
    *,
    joint_state: bool,
    foresight: bool = False,
    row_rewards: bool = True,
    neighbours: bool = True,
    environments: range | None = None,
) -> LightningTask:
    """The task that `spec` describes.

    Args:
        spec: what to make.
        source: what messages call its file.
        joint_state: whether it is told, for central critics.
        foresight: whether others are told about, for models of them.
        row_rewards: whether it is told which part of a reward is due to which channel.
        neighbours: whether it is told what is around an agent.
        environments: only these of them; None: all. Arrays have the same rows in any case.

    Raises:
        TopologyError: a network does not exist or is wrong.
        ConfigError: the networks have not enough nodes for the agents.
    """
    networks = [find_network(name, Selection(seed=spec.network_seed)) for name in spec.networks]
    agents = spec.agents or min(network.nodes for network in networks)
    for name, network in zip(spec.networks, networks, strict=True):
        if network.nodes < agents or (spec.agents is None and network.nodes != agents):
            problem = (
                f"task.agents: {name} has {network.nodes} nodes, but every network must have"
                f" {agents} agents"
            )
            raise ConfigError(source, problem)
    if spec.opponents is not None and not spec.opponents.seats(agents):
        problem = f"task.opponents.share: {spec.opponents.share} of {agents} agents is not even one"
        raise ConfigError(source, problem)
    settings = spec.reward.settings(spec.rounds)
    chosen = [best_connected(network, agents) for network in networks]
    rows = max(most_channels(*one) for one in zip(networks, chosen, strict=True))
    turns = [place % len(networks) for place in environments or range(spec.environments)]
    worlds = [TwinWorld(networks[turn], chosen[turn]) for turn in turns]
    demand = RandomDemand(spec.payments_per_round, spec.amount, fee_limit=spec.fee_limit)
    batch = LightningBatch(worlds, demand, settings, threads=spec.threads, rows=rows)
    channels = max(network.channels for network in networks)
    return LightningTask(
        batch,
        state_rows=channels if joint_state else 0,
        opponents=spec.opponents,
        foresight=foresight,
        row_rewards=row_rewards,
        neighbours=neighbours,
    )


def best_connected(network: Network, count: int) -> Sequence[str]:
    """The `count` nodes with the most channels; of equal ones the first, in the network's order."""
    degrees = np.bincount(network.channel_nodes.ravel(), minlength=network.nodes)
    first = np.sort(np.argsort(-degrees, kind="stable")[:count])
    return [network.names[place] for place in first.tolist()]


def most_channels(network: Network, agents: Sequence[str]) -> int:
    """How many channels the agent with the most has."""
    degrees = np.bincount(network.channel_nodes.ravel(), minlength=network.nodes)
    return max(int(degrees[network.names.index(name)]) for name in agents)
