"""The twin as a task for trainers, and training runs in folders."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lnagents.env.arrays import ActionArrays
from lnagents.env.encoding import facts_of_channel, facts_of_node
from lnagents.env.neighbourhood import NEIGHBOUR_FEATURES
from lnagents.env.peers import LIQUIDITY_BINS, PEER_FEATURES, UNKNOWN, PeerMemory
from lnagents.env.truth import truth_array
from lnagents.env.twin_peers import fill_liquidity, fill_peer_rows
from lnagents.evaluate.credit import network_parts
from lnagents.evaluate.executors import Processes
from lnagents.evaluate.rollouts import SpreadRollouts
from lnagents.evaluate.train_run import (
    CHECKPOINT,
    LOG,
    TrainConfig,
    begin,
    parse_config,
    read_config,
    read_log,
    train,
)
from lnagents.evaluate.training import best_connected
from lnagents.evaluate.truth_rows import truth_rows
from lnagents.learn.rollout import collect, episode_seeds, live, side_by_side
from lnagents.learn.task import Actions
from lnagents.learn.trainer import Trainer, TrainReport
from lnagents.model.errors import ConfigError, LnagentsError
from lnagents.testbed import load_topology
from lnagents.twin.loaders import from_topology


def config(**changes: Any) -> TrainConfig:
    whole: dict[str, Any] = {
        "seed": 3,
        "task": {
            "networks": ["default"],
            "environments": 2,
            "rounds": 4,
            "payments_per_round": 20,
        },
        "train": {"iterations": 4, "hidden": 8, "epochs": 2},
    }
    for key, value in changes.items():
        whole[key] = {**whole[key], **value}
    return parse_config(yaml.safe_dump(whole), "some.yaml")


def timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if not name.endswith("_seconds")}


def test_a_task_is_its_batch_in_other_words() -> None:
    task = config().make_task()
    batch = config().make_task()._batch
    seen, arrays = task.reset([5, 6]), batch.reset([5, 6])
    random = np.random.default_rng(1)
    for _ in range(4):
        np.testing.assert_array_equal(seen.rows, arrays.channels)
        np.testing.assert_array_equal(seen.mask, arrays.channel_mask)
        np.testing.assert_array_equal(seen.whole, arrays.node)
        shape = (*seen.mask.shape, len(task.shape.actions))
        fees = random.uniform(-1, 1, shape).astype(np.float32)
        result = task.step(Actions(fees, np.zeros(shape[:2], np.int64)))
        lived = batch.step(ActionArrays(fees))
        np.testing.assert_allclose(result.rewards, lived.rewards, rtol=1e-6)
        assert result.over == lived.over
        earned = lived.seen.terms[..., 0]
        np.testing.assert_array_equal(result.measures["fees_earned_msat"], earned)
        seen, arrays = result.seen, lived.seen
    assert result.over


@pytest.mark.parametrize(
    ("reward", "part"),
    [
        ({}, 1.0),
        ({"mode": "mixed", "mix": 0.5}, 0.5 + 0.5 / 7),
        ({"mode": "cooperative"}, 1.0 / 7),
    ],
)
def test_a_channel_is_credited_with_its_part_of_what_its_agent_is_rewarded_with(
    reward: dict[str, Any], part: float
) -> None:
    money = {"fees_earned": 2.0, "fees_paid": 0.0, "failed_attempt_msat": 0.0}
    worth = money | {"network_term_msat": 0.0, "forwarded_ppm": 300.0}
    task = config(task={"reward": reward | worth}, train={"row_credit": 0.5}).make_task()
    shape = (*task.reset([5, 6]).mask.shape, len(task.shape.actions))
    assert shape[1] == 7
    total = 0.0
    for _ in range(4):
        result = task.step(Actions(np.zeros(shape, np.float32), np.zeros(shape[:2], np.int64)))
        assert result.row_rewards is not None
        measures = result.measures
        own = 2.0 * measures["fees_earned_msat"] + 3e-4 * measures["forwarded_msat"]
        np.testing.assert_allclose(result.row_rewards.sum(-1), part * own / 1_000, rtol=1e-4)
        # What all gain together does not hang on how it is shared.
        np.testing.assert_allclose(result.rewards.sum(-1), own.sum(-1) / 1_000, rtol=1e-5)
        total += own.sum()
    assert total > 0.0


def test_channels_share_what_their_node_does_for_the_network() -> None:
    crowded = {"rounds": 10, "payments_per_round": 60, "amount": {"median_sat": 300_000}}
    batch = config(task=crowded).make_task()._batch
    batch.reset([5, 6])
    fees = np.zeros((len(batch), batch.agents, batch.max_channels, 3), np.float32)
    failed = 0.0
    for _ in range(10):
        arrays = batch.step(ActionArrays(fees)).seen
        parts = network_parts(arrays)
        assert parts.shape == arrays.channel_mask.shape
        assert not parts[arrays.channel_mask == 0].any()
        for place, world in enumerate(batch.worlds):
            for agent, view in enumerate(world.observe().values()):
                flows = [channel.flow for channel in view.channels]
                if any(flow.failed_forwards > 1 and not flow.forwards for flow in flows):
                    continue  # their number cannot be seen
                facts = facts_of_node(view, [facts_of_channel(one) for one in view.channels])
                lost = facts.failed_forwards / max(1, facts.forwards + facts.failed_forwards)
                expected = 0.5 * (facts.even_capacity / facts.capacity - lost)
                assert parts[place, agent].sum() == pytest.approx(expected, abs=1e-4)
                failed += lost
    assert failed > 0.0


def test_environments_of_one_task_may_as_well_be_those_of_several() -> None:
    chosen = config(
        task={"networks": ["default", "line5"], "environments": 3, "agents": 5},
        train={"algorithm": "mappo", "together": 2},
    )
    policy = Trainer(chosen.make_task(), chosen.train, 1).policy
    whole = collect(chosen.make_task(), policy, seed=5, episodes=1)
    apart = side_by_side(
        [
            live(chosen.make_task(group), policy, episode_seeds(5, 1, group)[0])
            for group in (range(2), range(2, 3))
        ]
    )
    assert whole.means() == apart.means()
    assert whole.means()["payments_settled"] > 0
    for one, other in (
        (whole.sight, apart.sight),
        (whole.state, apart.state),
        (whole.decisions, apart.decisions),
    ):
        assert one is not None
        for field in fields(one):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name
    assert torch.equal(whole.rewards, apart.rewards)


@pytest.mark.parametrize("mode", ["none", "gradient"])
def test_rollouts_in_other_processes_are_the_same(mode: str) -> None:
    train = {"together": 2, "episodes": 2, "opponent_model": mode}
    chosen = config(task={"environments": 3}, train=train)
    spread = SpreadRollouts(chosen, Processes(2))
    assert spread.parts == 4
    reports = []
    for collector in (None, spread):
        trainer = Trainer(chosen.make_task(), chosen.train, 1, collector=collector)
        reports.append([timeless(asdict(trainer.iterate())) for _ in range(2)])
    assert reports[0] == reports[1]


def test_the_joint_state_is_the_truth() -> None:
    task = config(train={"algorithm": "mappo"}).make_task()
    seen = task.reset([5, 6])
    world = task._twins[0]
    rows = truth_rows(world)
    np.testing.assert_array_equal(seen.state[0, : len(rows)], rows)
    assert seen.state_mask.sum(-1).tolist() == [world.network.channels] * 2
    # The columns of the world's own truth, whose first node is the one with the smaller key.
    turned = rows[:, [0, 1, 3, 2, 5, 4, 7, 6]]
    turned[:, 0] = 1.0 - rows[:, 0]
    expected = truth_array(world.truth())
    straight = np.isclose(rows, expected, atol=1e-6).all(1)
    assert (straight | np.isclose(turned, expected, atol=1e-6).all(1)).all()
    assert straight.any()


def test_others_are_told_about_if_they_are_to_be_foreseen() -> None:
    assert config().make_task().reset([5, 6]).foresight is None
    task = config(train={"opponent_model": "features"}).make_task()
    random = np.random.default_rng(1)
    seen, memory = task.reset([5, 6]), PeerMemory()
    for _ in range(4):
        peers = np.zeros((*seen.mask.shape, len(PEER_FEATURES)), np.float32)
        hidden = np.zeros((*seen.mask.shape, LIQUIDITY_BINS), np.float32)
        for place, world in enumerate(task._twins):
            fill_peer_rows(world, peers[place])
            fill_liquidity(world, hidden[place])
        expected = memory.look(seen.rows, peers)
        np.testing.assert_array_equal(seen.foresight, expected.features)
        np.testing.assert_array_equal(seen.moves, expected.moves)
        np.testing.assert_array_equal(seen.liquidity, hidden)
        fees = random.uniform(-1, 1, (*seen.mask.shape, 3)).astype(np.float32)
        seen = task.step(Actions(fees, np.zeros((2, 7), np.int64))).seen
    assert bool((expected.moves != UNKNOWN).any())
    assert hidden.any()
    again = task.reset([5, 6])
    np.testing.assert_array_equal(again.moves, UNKNOWN)


@pytest.mark.parametrize("mode", ["features", "gradient"])
def test_a_resumed_run_foresees_the_same(tmp_path: Path, mode: str) -> None:
    chosen = config(train={"opponent_model": mode})
    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        begin(chosen, folder)
    train(Trainer(chosen.make_task(), chosen.train, chosen.seed), folders[0])
    reports: list[TrainReport] = []
    train(
        Trainer(chosen.make_task(), chosen.train, chosen.seed),
        folders[1],
        stopped=lambda: len(reports) == 2,
        progress=reports.append,
    )
    again = read_config(folders[1] / "config.yaml")
    train(Trainer(again.make_task(), again.train, again.seed), folders[1])
    logs = [[timeless(line) for line in read_log(folder)] for folder in folders]
    assert logs[0] == logs[1]
    assert all("liquidity/log_likelihood/model" in line["opponents"] for line in logs[0])
    assert (folders[0] / CHECKPOINT).read_bytes() == (folders[1] / CHECKPOINT).read_bytes()


def test_the_joint_state_is_not_told_to_who_has_no_use_for_it() -> None:
    assert config().make_task().reset([1, 2]).state.size == 0


def test_what_nobody_looks_at_is_not_told() -> None:
    plain = config().make_task()
    nothing = np.zeros((2, 7, plain.shape.rows, len(plain.shape.actions)), np.float32)
    assert plain.reset([5, 6]).neighbours.size == 0
    assert plain.step(Actions(nothing, np.zeros((2, 7), np.int64))).row_rewards is None
    # Teams that look at more may play there, too.
    assert config().make_task(for_all=True).reset([5, 6]).neighbours.size > 0


def test_the_neighbourhood_s_last_change_is_told() -> None:
    task = config(train={"algorithm": "mean-field"}).make_task()
    first = task.reset([5, 6])
    rate, change = (
        NEIGHBOUR_FEATURES.index(one) for one in ("peer_fee_rate", "peer_fee_rate_change")
    )
    assert not first.neighbours[..., change].any()
    fees = np.full((*first.mask.shape, 3), 0.5, np.float32)
    after = task.step(Actions(fees, np.zeros((2, 7), np.int64))).seen
    moved = after.neighbours[..., rate] - first.neighbours[..., rate]
    np.testing.assert_allclose(after.neighbours[..., change], moved, atol=1e-6)
    assert moved.any()


def test_agents_are_the_best_connected_nodes() -> None:
    network = from_topology(load_topology("star_ring"))
    degrees = np.bincount(network.channel_nodes.ravel())
    chosen = best_connected(network, 3)
    worst = min(degrees[network.names.index(name)] for name in chosen)
    others = [degrees[i] for i, name in enumerate(network.names) if name not in chosen]
    assert len(chosen) == 3
    assert worst >= max(others)


@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "mean-field"])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, algorithm: str) -> None:
    chosen = config(train={"algorithm": algorithm})
    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        begin(chosen, folder)
    train(Trainer(chosen.make_task(), chosen.train, chosen.seed), folders[0])
    reports: list[TrainReport] = []
    train(
        Trainer(chosen.make_task(), chosen.train, chosen.seed),
        folders[1],
        stopped=lambda: len(reports) == 2,
        progress=reports.append,
    )
    assert len(read_log(folders[1])) == 2
    # As if the run had been killed while it went on: lines after the checkpoint, one half written.
    with (folders[1] / LOG).open("a") as log:
        log.write(json.dumps({"iteration": 3}) + '\n{"itera')
    again = read_config(folders[1] / "config.yaml")
    assert replace(again, source="some.yaml") == chosen
    train(Trainer(again.make_task(), again.train, again.seed), folders[1])
    logs = [[timeless(line) for line in read_log(folder)] for folder in folders]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 4
    saved = [(folder / CHECKPOINT).read_bytes() for folder in folders]
    assert saved[0] == saved[1]


def test_a_folder_is_never_overwritten(tmp_path: Path) -> None:
    begin(config(), tmp_path / "run")
    with pytest.raises(ConfigError, match="is not empty"):
        begin(config(), tmp_path / "run")
    with pytest.raises(LnagentsError, match="is no training run"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("train", {"hiden": 8}, "some.yaml: train: hiden: unknown key"),
        ("train", {"algorithm": "dqn"}, "some.yaml: train: algorithm: "),
        ("train", {"entropy": -1}, "some.yaml: train: entropy.start: "),
        ("train", {"opponent_model": "dream"}, "some.yaml: train: opponent_model: "),
        ("train", {"opponent_epochs": 0}, "some.yaml: train: opponent_epochs: "),
        ("train", {"min_deviation": 0.9}, "initial_deviation: not between"),
        ("task", {"network": "x"}, "some.yaml: task.network: unknown key"),
        ("task", {"reward": {"mod": 1}}, "some.yaml: task.reward.mod: unknown key"),
        ("task", {"environments": 0}, "some.yaml: task.environments: "),
    ],
)
def test_what_is_wrong_is_named(part: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**{part: changes})
    assert message in str(caught.value)


def test_networks_must_have_the_agents() -> None:
    with pytest.raises(ConfigError, match=r"task\.agents: .* must have 7 agents"):
        config(task={"networks": ["default", "line5"], "agents": 7}).make_task()
    both = config(task={"networks": ["default", "line5"], "agents": 5}).make_task()
    assert both.shape.agents == 5


def test_networks_beside_the_configuration_are_found(tmp_path: Path) -> None:
    from lnagents.model.generate import Shape, generate_topology
    from lnagents.model.topology import dump_topology

    topology = generate_topology(Shape.RING, nodes=4, seed=1)
    (tmp_path / "ring.yaml").write_text(dump_topology(topology))
    (tmp_path / "config.yaml").write_text("task: {networks: [ring.yaml]}")
    chosen = read_config(tmp_path / "config.yaml")
    assert chosen.make_task().shape.agents == 4
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")
