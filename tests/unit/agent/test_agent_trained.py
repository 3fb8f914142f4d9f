"""A trained team's actor acts on a node's view as the team did on the twin's arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lnagents.agent.actor import make_actor  # noqa: E402
from lnagents.agent.config import ActorSection, FeesSection  # noqa: E402
from lnagents.agent.trained import TrainedActor, load_team, read_team  # noqa: E402
from lnagents.env import AttemptCost  # noqa: E402
from lnagents.env.arrays import ActionArrays, RoundArrays  # noqa: E402
from lnagents.env.encoding import (  # noqa: E402
    ACTION_NAMES,
    CHANNEL_FEATURE_NAMES,
    NODE_FEATURE_NAMES,
)
from lnagents.env.fees import FeeBounds  # noqa: E402
from lnagents.env.heuristics import make_heuristic  # noqa: E402
from lnagents.env.neighbourhood import (  # noqa: E402
    NEIGHBOUR_FEATURES,
    neighbourhood,
    with_changes,
)
from lnagents.env.payments import RandomDemand  # noqa: E402
from lnagents.env.peers import (  # noqa: E402
    FORESIGHT_FEATURES,
    LIQUIDITY_BINS,
    MOVE_SIZES,
    MOVES,
    PEER_FEATURES,
    PeerMemory,
)
from lnagents.env.twin_peers import fill_peer_rows  # noqa: E402
from lnagents.env.twin_world import TwinWorld  # noqa: E402
from lnagents.learn import team_checkpoint  # noqa: E402
from lnagents.learn.algorithms import AlgorithmName  # noqa: E402
from lnagents.learn.player import Player  # noqa: E402
from lnagents.learn.policy import Policy  # noqa: E402
from lnagents.learn.settings import OpponentMode, Recurrence, TrainSettings  # noqa: E402
from lnagents.learn.task import Seen, TaskShape  # noqa: E402
from lnagents.learn.trainer import load_policy  # noqa: E402
from lnagents.model.errors import CheckpointError  # noqa: E402
from lnagents.model.graph import NetworkGraph  # noqa: E402
from lnagents.model.view import NodeDecision, NodeView  # noqa: E402
from tests.unit.env.worlds import LARGE, small_world  # noqa: E402

BOUNDS = FeeBounds(max_inbound_discount_ppm=500)
ROUNDS = 12
AGENTS = 4


def shape(**changes: Any) -> TaskShape:
    whole: dict[str, Any] = {
        "batch": 1,
        "agents": AGENTS,
        "steps": ROUNDS,
        "rows": 5,
        "row_features": CHANNEL_FEATURE_NAMES,
        "whole_features": NODE_FEATURE_NAMES,
        "neighbour_features": NEIGHBOUR_FEATURES,
        "state_rows": 3,
        "state_features": ("some",),
        "actions": ACTION_NAMES,
        "foresight_features": FORESIGHT_FEATURES,
        "moves": MOVES,
        "move_sizes": MOVE_SIZES,
        "liquidity_bins": LIQUIDITY_BINS,
    }
    return TaskShape(**whole | changes)


def checkpoint(
    algorithm: AlgorithmName,
    *,
    shared: bool = True,
    mode: OpponentMode = OpponentMode.NONE,
    recurrence: Recurrence = Recurrence.NONE,
    **changes: Any,
) -> bytes:
    """Of a team with an opinion: a fresh actor changes nothing, and heeds no memory."""
    settings = TrainSettings(
        algorithm=algorithm,
        shared=shared,
        hidden=32,
        opponent_model=mode,
        recurrence=recurrence,
    )
    generator = torch.Generator().manual_seed(5)
    policy = Policy(shape(**changes), settings, generator)
    for weights in policy.actor.parameters():
        weights.data += 0.3 * torch.randn(weights.shape, generator=generator)
    state: dict[str, Any] = {"actor": policy.actor.state_dict()}
    if policy.opponents is not None:
        for weights in policy.opponents.parameters():
            weights.data += 0.3 * torch.randn(weights.shape, generator=generator)
        state["opponents"] = {"model": policy.opponents.state_dict()}
    if policy.memory is not None:
        state["memory"] = policy.memory.state_dict()
    return team_checkpoint.pack(policy.shape, settings, 5, state)


class Arrays:
    """The team as it acts in training: all agents at once."""

    def __init__(self, policy: Policy, world: TwinWorld) -> None:
        self._player = Player(policy, 1)
        self._world = world
        self._memory = PeerMemory()
        self._before: Any = None

    def act(self, arrays: RoundArrays) -> ActionArrays:
        mask = arrays.channel_mask.astype(np.float32)
        levels = neighbourhood(arrays.channels, mask)
        around, self._before = with_changes(levels, self._before), levels
        peers = np.zeros((*mask.shape, len(PEER_FEATURES)), np.float32)
        fill_peer_rows(self._world, peers)
        known = self._memory.look(arrays.channels, peers)
        seen = Seen(
            rows=arrays.channels[None],
            mask=mask[None],
            whole=arrays.node[None],
            neighbours=around[None],
            state=np.zeros((1, 3, 1), np.float32),
            state_mask=np.ones((1, 3), np.float32),
            choice_mask=np.ones((1, AGENTS, 0), np.float32),
            foresight=known.features[None],
            moves=known.moves[None],
            liquidity=np.zeros((1, *mask.shape, LIQUIDITY_BINS), np.float32),
        )
        sight = self._player.look(seen)
        return ActionArrays(self._player.decide(sight, None).actions().rows[0])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("algorithm", "mode", "recurrence"),
    [
        *((one, OpponentMode.NONE, Recurrence.NONE) for one in AlgorithmName),
        (AlgorithmName.IPPO, OpponentMode.FEATURES, Recurrence.NONE),
        (AlgorithmName.MEAN_FIELD, OpponentMode.GRADIENT, Recurrence.NONE),
        (AlgorithmName.IPPO, OpponentMode.NONE, Recurrence.GRU),
        (AlgorithmName.MEAN_FIELD, OpponentMode.FEATURES, Recurrence.GRU),
    ],
)
def test_views_and_arrays_bring_the_same_to_the_bit(
    algorithm: AlgorithmName, mode: OpponentMode, recurrence: Recurrence, shared: bool
) -> None:
    torch.set_num_threads(1)
    data = checkpoint(algorithm, shared=shared, mode=mode, recurrence=recurrence)
    worlds = [small_world() for _ in range(2)]
    rounds = worlds[0].rounds(BOUNDS)
    most = worlds[0].max_channels
    team = Arrays(load_policy(data, shape(rows=most)), worlds[0])
    policy = load_team(data)
    actors = {
        key: TrainedActor(policy, place, BOUNDS)
        for place, key in enumerate(worlds[1].agents.values())
    }
    payments = RandomDemand(30, LARGE).draw(tuple(worlds[0].nodes), ROUNDS, 5.0, 7)
    for world in worlds:
        world.reset(11)
    begun = worlds[0].twin.policies()
    for number in range(ROUNDS):
        seen = RoundArrays.empty(AGENTS, most)
        rounds.observe(seen)
        rounds.act(team.act(seen))
        rounds.run(payments.of_round(number))
        views = worlds[1].observe()
        worlds[1].apply({key: actor.act(views[key]) for key, actor in actors.items()})
        worlds[1].run_arrays(payments.of_round(number))
        assert np.array_equal(worlds[0].twin.policies(), worlds[1].twin.policies())
        assert np.array_equal(worlds[0].twin.balances(), worlds[1].twin.balances())
    assert (worlds[0].twin.policies() != begun).any()


def test_agents_with_weights_of_their_own_differ() -> None:
    policy = load_team(checkpoint(AlgorithmName.IPPO, shared=False))
    world = small_world()
    world.reset(1)
    view = next(iter(world.observe().values()))
    decisions = [TrainedActor(policy, agent).act(view) for agent in range(AGENTS)]
    assert len({str(one) for one in decisions}) > 1
    with pytest.raises(CheckpointError, match="has 4 agents, none is 4"):
        TrainedActor(policy, AGENTS)


def test_a_node_without_channels_decides_nothing() -> None:
    actor = TrainedActor(load_team(checkpoint(AlgorithmName.MEAN_FIELD)))
    assert actor.act(NodeView("02" * 33, 1, 0.0, (), NetworkGraph())).channels == {}


def daemon_section(
    tmp_path: Path,
    algorithm: AlgorithmName,
    recurrence: Recurrence = Recurrence.NONE,
    *,
    learn: bool,
) -> ActorSection:
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(checkpoint(algorithm, recurrence=recurrence))
    return ActorSection(kind="trained", checkpoint=file, learn=learn, seed=4)


@pytest.mark.parametrize(
    ("algorithm", "recurrence"),
    [*((one, Recurrence.NONE) for one in AlgorithmName), (AlgorithmName.IPPO, Recurrence.GRU)],
)
async def test_a_daemon_decides_as_the_team(
    tmp_path: Path, algorithm: AlgorithmName, recurrence: Recurrence
) -> None:
    section = daemon_section(tmp_path, algorithm, recurrence, learn=False)
    actor = await make_actor(section, AttemptCost(), "agent.toml")
    trained = TrainedActor(read_team(tmp_path / "checkpoint.pt"), bounds=FeesSection().bounds())
    world = small_world()
    world.reset(1)
    payments = RandomDemand(30, LARGE).draw(tuple(world.nodes), 4, 5.0, 7)
    try:
        for number in range(4):
            view = next(iter(world.observe().values()))
            decision = await actor.decide(view, FeesSection())
            assert decision == trained.act(view)
            assert decision.channels
            world.apply({view.node: decision})
            world.run_arrays(payments.of_round(number))
    finally:
        await actor.close()


@pytest.mark.parametrize("recurrence", list(Recurrence))
@pytest.mark.parametrize("method", ["demand", "ppo"])
async def test_a_daemon_learns_on_from_the_team(
    tmp_path: Path, method: Literal["demand", "ppo"], recurrence: Recurrence
) -> None:
    section = daemon_section(tmp_path, AlgorithmName.MEAN_FIELD, recurrence, learn=True)
    section = section.model_copy(update={"method": method})
    actor = await make_actor(section, AttemptCost(), "agent.toml")
    world = small_world()
    world.reset(1)
    view = next(iter(world.observe().values()))
    try:
        for number in range(20):
            if number:
                await actor.reward(100.0 * number)
            await actor.decide(view, FeesSection())
        assert actor.stats.fee_updates >= 2
        saved = await actor.save()
        assert saved is not None
        again = await make_actor(section, AttemptCost(), "agent.toml")
        await again.load(saved)
        assert await again.save() == saved
        assert await again.decide(view, FeesSection()) == await actor.decide(view, FeesSection())
        await again.close()
    finally:
        await actor.close()


async def test_a_daemon_remembers_across_a_restart(tmp_path: Path) -> None:
    section = daemon_section(tmp_path, AlgorithmName.IPPO, Recurrence.GRU, learn=False)
    fees = FeesSection()
    world = small_world()
    world.reset(1)
    payments = RandomDemand(30, LARGE).draw(tuple(world.nodes), 8, 5.0, 7)
    views = []
    for number in range(8):
        views.append(next(iter(world.observe().values())))
        world.run_arrays(payments.of_round(number))

    async def lived(
        first: int, last: int, saved: bytes | None = None
    ) -> tuple[list[NodeDecision], bytes | None]:
        """Decisions from a start to an end, and the checkpoint then."""
        actor = await make_actor(section, AttemptCost(), "agent.toml")
        try:
            if saved is not None:
                await actor.load(saved)
            decisions = [await actor.decide(view, fees) for view in views[first:last]]
            return decisions, await actor.save()
        finally:
            await actor.close()

    whole, end = await lived(0, 8)
    before, saved = await lived(0, 4)
    after, same_end = await lived(4, 8, saved)
    assert before + after == whole
    assert same_end == end
    # Without a checkpoint nothing is remembered. After a crash the last one is: rounds since then
    # are as if they had not been.
    blank, other_end = await lived(4, 8)
    assert other_end != end
    crashed, _ = await lived(6, 8, saved)
    assert crashed == (await lived(6, 8, saved))[0]
    assert all(one.channels for one in blank + crashed)


async def test_a_checkpoint_of_a_daemon_brings_the_memory_that_it_was_made_with(
    tmp_path: Path,
) -> None:
    section = daemon_section(tmp_path, AlgorithmName.IPPO, Recurrence.GRU, learn=False)
    world = small_world()
    world.reset(1)
    view = next(iter(world.observe().values()))
    actor = await make_actor(section, AttemptCost(), "agent.toml")
    saved = await actor.save()
    assert saved is not None
    await actor.decide(view, FeesSection())
    remembered = await actor.save()
    await actor.close()
    # The file is another team's by now: actor and memory still belong together.
    policy = load_team(section.checkpoint.read_bytes()) if section.checkpoint else None
    assert policy is not None
    assert policy.memory is not None
    for weights in policy.memory.parameters():
        weights.data.neg_()
    state = {"actor": policy.actor.state_dict(), "memory": policy.memory.state_dict()}
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(team_checkpoint.pack(policy.shape, policy.settings, 5, state))
    other = await make_actor(section, AttemptCost(), "agent.toml")
    await other.decide(view, FeesSection())
    assert await other.save() != remembered
    await other.load(saved)
    await other.decide(view, FeesSection())
    assert await other.save() == remembered
    await other.close()
    file.write_bytes(checkpoint(AlgorithmName.IPPO))
    forgetful = await make_actor(section, AttemptCost(), "agent.toml")
    with pytest.raises(CheckpointError, match="made with node_features"):
        await forgetful.load(saved)
    await forgetful.close()


async def test_a_daemon_follows_rules() -> None:
    section = ActorSection(kind="heuristic", heuristic="proportional")
    actor = await make_actor(section, AttemptCost(), "agent.toml")
    world = small_world()
    world.reset(1)
    view = next(iter(world.observe().values()))
    decision = await actor.decide(view, FeesSection())
    assert decision == make_heuristic("proportional").act(view)
    assert decision.channels
    assert await actor.save() is None


async def test_a_daemon_says_which_checkpoint_is_wrong(tmp_path: Path) -> None:
    section = ActorSection(kind="trained", checkpoint=tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match=r"none\.pt cannot be read"):
        await make_actor(section, AttemptCost(), "agent.toml")


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read: No such file"):
        read_team(file)
    file.write_bytes(checkpoint(AlgorithmName.IPPO, whole_features=("mood",)))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: .* made with whole_features \('mo"):
        read_team(file)
    file.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: the checkpoint is damaged"):
        read_team(file)
