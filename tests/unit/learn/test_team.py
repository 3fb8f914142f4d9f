"""The trainer of teams: who sees what, what never matters, and that it learns."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lnagents.learn import LearnConfig, OnlineLearner
from lnagents.learn.algorithms import AlgorithmName
from lnagents.learn.experience import FloatArray
from lnagents.learn.networks import SetEncoder
from lnagents.learn.policy import Policy
from lnagents.learn.rollout import collect, episode_seeds, live, side_by_side
from lnagents.learn.row_sets import RowSets
from lnagents.learn.samples import Decision, JointState, Noise, Sight, mapped, some
from lnagents.learn.settings import TrainSettings, constant
from lnagents.learn.task import Seen, TaskShape
from lnagents.learn.team import TeamCritic
from lnagents.learn.trainer import Trainer, TrainReport, load_policy
from lnagents.model.errors import CheckpointError, ConfigError
from tests.unit.learn.tasks import MatchTask

ALGORITHMS = list(AlgorithmName)
TIMES = ("collect_seconds", "train_seconds")


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {"iterations": 4, "hidden": 8, "minibatches": 2, "epochs": 2, **changes}
    )


def untimed(report: TrainReport) -> dict[str, Any]:
    names = [field.name for field in fields(report) if field.name not in TIMES]
    return {name: getattr(report, name) for name in names}


def begun(task: MatchTask, seed: int) -> Seen:
    return task.reset(range(seed, seed + task.shape.batch))


def weights(policy: Policy) -> list[Tensor]:
    return [one.detach().clone() for one in policy.actor.parameters()]


def trained(
    task: MatchTask, algorithm: AlgorithmName, *, shared: bool = True, iterations: int = 2
) -> Trainer:
    trainer = Trainer(task, settings(algorithm=algorithm, shared=shared, learning_rate=0.02), 3)
    for _ in range(iterations):
        trainer.iterate()
    return trainer


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shared", [True, False])
def test_a_resumed_training_goes_on_bit_for_bit(algorithm: AlgorithmName, shared: bool) -> None:
    whole = Trainer(MatchTask(), settings(algorithm=algorithm, shared=shared), 7)
    whole.iterate()
    saved = whole.save()
    expected = [untimed(whole.iterate()) for _ in range(2)]

    resumed = Trainer(MatchTask(), settings(algorithm=algorithm, shared=shared), 7)
    resumed.load(saved)
    assert resumed.iteration == 1
    assert [untimed(resumed.iterate()) for _ in range(2)] == expected
    assert resumed.save() == whole.save()


def test_another_seed_trains_otherwise() -> None:
    reports = [Trainer(MatchTask(), settings(), seed).iterate() for seed in (1, 2)]
    assert untimed(reports[0]) != untimed(reports[1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shared", [True, False])
def test_what_padding_holds_never_matters(algorithm: AlgorithmName, shared: bool) -> None:
    reports = []
    for garbage in (0.0, 1_000.0):
        trainer = Trainer(
            MatchTask(garbage=garbage), settings(algorithm=algorithm, shared=shared), 7
        )
        reports.append([untimed(trainer.iterate()) for _ in range(3)])
    assert reports[0] == reports[1]


@pytest.mark.parametrize("algorithm", [AlgorithmName.IPPO, AlgorithmName.MEAN_FIELD])
def test_agents_that_share_weights_may_change_places(algorithm: AlgorithmName) -> None:
    task = MatchTask(agents=4)
    policy = trained(task, algorithm).policy
    seen = begun(task, 5)
    order = np.array([2, 0, 3, 1])
    agents = ("rows", "mask", "whole", "neighbours", "choice_mask")
    moved = replace(seen, **{name: getattr(seen, name)[:, order] for name in agents})
    before, after = policy.act(seen), policy.act(moved)
    np.testing.assert_allclose(after.rows, before.rows[:, order], atol=1e-6)
    np.testing.assert_array_equal(after.choice, before.choice[:, order])


@pytest.mark.parametrize("shared", [True, False])
def test_rows_may_change_places(shared: bool) -> None:
    task = MatchTask()
    policy = trained(task, AlgorithmName.IPPO, shared=shared).policy
    seen = begun(task, 5)
    order = np.array([3, 1, 0, 2])
    moved = replace(seen, rows=seen.rows[:, :, order], mask=seen.mask[:, :, order])
    before, after = policy.act(seen), policy.act(moved)
    np.testing.assert_allclose(after.rows, before.rows[:, :, order], atol=1e-6)
    np.testing.assert_array_equal(after.choice, before.choice)


@pytest.mark.parametrize("shared", [True, False])
def test_only_the_critic_of_mappo_sees_the_joint_state(shared: bool) -> None:
    task = MatchTask()
    trainer = trained(task, AlgorithmName.MAPPO, shared=shared)
    seen = begun(task, 5)
    blind = replace(seen, state=seen.state * np.nan)
    for name in ("rows", "choice"):
        acted = [getattr(trainer.policy.act(one), name) for one in (seen, blind)]
        np.testing.assert_array_equal(*acted)

    critic: TeamCritic = trainer._critic
    sight = Sight.of(seen, trainer.policy.algorithm)
    values = [critic(sight, JointState.of(one)) for one in (seen, blind)]
    assert torch.isfinite(values[0]).all()
    assert torch.isnan(values[1]).all()


def test_no_other_algorithm_hands_over_the_joint_state() -> None:
    states: list[Any] = []

    class Hidden(MatchTask):
        def _draw(self) -> Seen:
            return replace(super()._draw(), state=np.full((8, 3, 3), np.nan, np.float32))

    for algorithm in (AlgorithmName.IPPO, AlgorithmName.MEAN_FIELD):
        trainer = Trainer(Hidden(), settings(algorithm=algorithm), 7)
        report = trainer.iterate()
        states.append(report)
        assert np.isfinite(report.value_loss)
        assert all(torch.isfinite(one).all() for one in weights(trainer.policy))
    assert len(states) == 2


def test_only_mean_field_sees_neighbours() -> None:
    task = MatchTask()
    for algorithm in ALGORITHMS:
        policy = trained(task, algorithm).policy
        seen = begun(task, 5)
        other = replace(seen, neighbours=seen.neighbours + np.float32(3.0))
        same = np.array_equal(policy.act(seen).rows, policy.act(other).rows)
        assert same == (algorithm is not AlgorithmName.MEAN_FIELD)


def test_separate_weights_are_separate() -> None:
    """What one agent sees and learns changes nobody else's actor."""
    task = MatchTask()
    trainer = trained(task, AlgorithmName.IPPO, shared=False)
    seen = begun(task, 5)
    before = trainer.policy.act(seen)
    with torch.no_grad():
        for one in trainer.policy.actor.parameters():
            one[1] += 0.3
    after = trainer.policy.act(seen)
    changed = (before.rows != after.rows).any((0, 2, 3))
    assert changed.tolist() == [False, True, False]


def test_a_stack_does_what_each_of_its_actors_does_alone() -> None:
    task = MatchTask()
    stack = trained(task, AlgorithmName.IPPO, shared=False).policy
    seen = begun(task, 5)
    together = stack.act(seen)
    state = stack.actor.state_dict()
    for agent in range(3):
        alone = Policy(task.shape, settings(), torch.Generator())
        own = {name: value[agent] for name, value in state.items()}
        own["rows.log_deviation"] = own["rows.log_deviation"].flatten()
        alone.actor.load_state_dict(own)
        acted = alone.act(seen)
        np.testing.assert_allclose(acted.rows[:, agent], together.rows[:, agent], atol=1e-6)
        np.testing.assert_array_equal(acted.choice[:, agent], together.choice[:, agent])


def test_drawn_actions_follow_the_odds() -> None:
    task = MatchTask(batch=500, agents=1)
    policy = trained(task, AlgorithmName.IPPO, iterations=3).policy
    seen = begun(task, 1)
    one = seen.taken(np.zeros(500, np.intp))
    generator = torch.Generator().manual_seed(1)
    sight = Sight.of(one, policy.algorithm)
    drawn = [policy.decide(sight, Noise.drawn(task.shape, 500, generator)) for _ in range(40)]
    assert policy.actor.choice is not None
    odds = policy.actor.choice(sight.rows, sight.whole, sight.mask, sight.allowed)[0, 0].detach()
    share = torch.bincount(torch.cat([d.choice.flatten() for d in drawn]), minlength=3) / 20_000
    np.testing.assert_allclose(share.numpy(), odds.exp().numpy(), atol=0.02)
    assert policy.actor.rows is not None
    mean, deviation = policy.actor.rows(sight.rows, sight.whole, sight.mask)
    samples = torch.stack([d.sample for d in drawn])[..., 0, 0]
    assert float(samples.mean()) == pytest.approx(mean[0, 0, 0, 0].item(), abs=0.01)
    assert float(samples.std()) == pytest.approx(deviation[0].item(), abs=0.01)


def test_a_decision_is_judged_as_likely_as_it_was_when_it_was_drawn() -> None:
    task = MatchTask()
    for shared in (True, False):
        policy = trained(task, AlgorithmName.IPPO, shared=shared).policy
        sight = Sight.of(begun(task, 5), policy.algorithm)
        noise = Noise.drawn(task.shape, 8, torch.Generator().manual_seed(1))
        decision = policy.decide(sight, noise)
        judged = policy.judge(sight, decision)
        log_prob = sight.sets.fill(judged.sample_log_prob.detach()).reshape_as(sight.mask)
        np.testing.assert_allclose(log_prob, decision.sample_log_prob, atol=1e-5)
        np.testing.assert_allclose(
            judged.choice_log_prob.detach(), decision.choice_log_prob, atol=1e-5
        )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shared", [True, False])
def test_it_learns(algorithm: AlgorithmName, shared: bool) -> None:
    """A random team gets -0.44 + 0.41 on average, a perfect one 1."""
    chosen = settings(
        algorithm=algorithm,
        shared=shared,
        iterations=60,
        hidden=16,
        episodes=2,
        epochs=8,
        minibatches=2,
        learning_rate={"start": 0.02, "end": 0.002},
        discount=0.0,
        target_divergence=0.05,
        max_gradient_norm=5.0,
        min_deviation=0.01,
        entropy=0.0,
    )
    trainer = Trainer(MatchTask(batch=32), chosen, 1)
    first = trainer.iterate()
    while not trainer.finished:
        last = trainer.iterate()
    assert first.reward < 0.2
    assert last.reward > 0.7


@pytest.mark.parametrize(("actions", "choices"), [(True, False), (False, True)])
def test_a_task_may_have_actions_or_choices_only(actions: bool, choices: bool) -> None:
    task = MatchTask(actions=actions, choices=choices)
    report = trained(task, AlgorithmName.IPPO).iterate()
    assert report.steps == 3 * 8 * 5


@pytest.mark.parametrize("shared", [True, False])
def test_groups_of_environments_may_live_apart(shared: bool) -> None:
    """As on several machines: bit for bit the same experience."""
    chosen = settings(shared=shared, episodes=2, together=3, algorithm="mappo")
    trainer = Trainer(MatchTask(batch=8), chosen, 3)
    trainer.iterate()
    whole = collect(trainer.task, trainer.policy, seed=5, episodes=2)
    apart = []
    for episode in range(2):
        for group in (range(3), range(3, 6), range(6, 8)):
            task = MatchTask(batch=len(group))
            seeds = episode_seeds(5, 2, group)[episode]
            apart.append(live(task, trainer.policy, seeds))
    joined = side_by_side(apart)
    assert torch.equal(whole.rewards, joined.rewards)
    assert whole.means() == joined.means()
    for one, other in zip(
        (whole.sight, whole.decisions, whole.state),
        (joined.sight, joined.decisions, joined.state),
        strict=True,
    ):
        assert one is not None
        for field in fields(one):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_what_happens_in_an_environment_does_not_hang_on_the_others() -> None:
    policy = trained(MatchTask(), AlgorithmName.IPPO).policy
    seeds = episode_seeds(5, 1, range(8))[0]
    assert len({tuple(one) for one in seeds.tolist()}) == 8
    before = live(MatchTask(), policy, seeds)
    after = live(MatchTask(), policy, seeds[::-1].copy())
    assert torch.equal(before.sight.rows[0], after.sight.rows[0].flip(0))
    torch.testing.assert_close(before.decisions.sample, after.decisions.sample.flip(1))


class Countdown(MatchTask):
    """Every step earns 1, whatever is done: values are known."""

    def step(self, actions: Any) -> Any:
        return replace(super().step(actions), rewards=np.ones((8, 3), np.float32))


@pytest.mark.parametrize("final", [True, False])
def test_what_follows_an_episode_counts_only_if_something_follows(final: bool) -> None:
    trainer = Trainer(Countdown(final=final), settings(discount=0.5), 1)
    trainer.iterate()
    values = trainer._values(collect(trainer.task, trainer.policy, seed=1, episodes=1))
    if final:
        assert (values[-1] == 0.0).all()
    else:
        np.testing.assert_allclose(values[-1], 2.0, atol=0.2)


def test_an_episode_must_have_the_length_that_the_task_says() -> None:
    class Short(MatchTask):
        def step(self, actions: Any) -> Any:
            return replace(super().step(actions), over=True)

    with pytest.raises(ValueError, match="5 steps ended after 1"):
        Trainer(Short(), settings(), 1).iterate()


def test_checkpoints_say_what_does_not_fit() -> None:
    saved = Trainer(MatchTask(), settings(), 1).save()
    with pytest.raises(CheckpointError, match="with hidden 8, not 9"):
        Trainer(MatchTask(), settings(hidden=9), 1).load(saved)
    with pytest.raises(CheckpointError, match="with agents 3, not 4"):
        Trainer(MatchTask(agents=4), settings(), 1).load(saved)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        Trainer(MatchTask(), settings(), 1).load(_repacked(saved, schema="other"))
    with pytest.raises(CheckpointError, match="version 99, this code reads"):
        Trainer(MatchTask(), settings(), 1).load(_repacked(saved, version=99))
    with pytest.raises(CheckpointError, match=r"written by version 0\.0\.1"):
        Trainer(MatchTask(), settings(), 1).load(_repacked(saved, code="0.0.1"))
    with pytest.raises(CheckpointError, match="damaged"):
        Trainer(MatchTask(), settings(), 1).load(saved[: len(saved) // 2])


def _repacked(saved: bytes, **changes: Any) -> bytes:
    whole = torch.load(io.BytesIO(saved), weights_only=True)
    buffer = io.BytesIO()
    torch.save({**whole, **changes}, buffer)
    return buffer.getvalue()


def test_a_saved_policy_acts_in_other_networks_with_the_same_columns() -> None:
    trainer = trained(MatchTask(), AlgorithmName.IPPO)
    saved = trainer.save()
    larger = MatchTask(batch=2, agents=6)
    policy = load_policy(saved, larger.shape)
    assert policy.act(begun(larger, 1)).choice.shape == (2, 6)
    seen = begun(MatchTask(), 4)
    same = load_policy(saved, trainer.task.shape).act(seen)
    np.testing.assert_array_equal(same.rows, trainer.policy.act(seen).rows)
    with pytest.raises(CheckpointError, match="made with choices"):
        load_policy(saved, MatchTask(choices=False).shape)
    separate = trained(MatchTask(), AlgorithmName.IPPO, shared=False).save()
    with pytest.raises(CheckpointError, match="actors of 3 agents, not 6"):
        load_policy(separate, larger.shape)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [(AlgorithmName.MAPPO, "joint state"), (AlgorithmName.MEAN_FIELD, "neighbourhoods")],
)
def test_a_task_must_offer_what_an_algorithm_looks_at(
    algorithm: AlgorithmName, message: str
) -> None:
    shape = TaskShape(batch=1, agents=1, steps=1, whole_features=("a",), choices=("b",))
    with pytest.raises(ValueError, match=message):
        Policy(shape, settings(algorithm=algorithm), torch.Generator())


def test_an_agent_may_see_one_vector_and_no_rows() -> None:
    shape = TaskShape(batch=2, agents=3, steps=1, whole_features=("a", "b"), choices=("c", "d"))
    for shared in (True, False):
        policy = Policy(shape, settings(shared=shared), torch.Generator())
        assert policy.act(Seen.blank(shape)).choice.shape == (2, 3)


def test_schedules_move_evenly() -> None:
    chosen = settings(entropy={"start": 1.0, "end": 0.0})
    assert [chosen.entropy.at(x) for x in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]
    assert settings(entropy=0.5).entropy == constant(0.5)


def test_samples_are_taken_alike() -> None:
    decision = Decision(*(torch.arange(4.0) for _ in range(4)))
    assert some(decision, slice(1, 3)).choice.tolist() == [1.0, 2.0]
    assert mapped(lambda one: one + 1.0, decision).sample.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_rows_are_encoded_alike_with_and_without_padding() -> None:
    generator = torch.Generator().manual_seed(1)
    encoder = SetEncoder(3, 2, 8, generator)
    rows = torch.randn(5, 4, 3, generator=generator)
    whole = torch.randn(5, 2, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]])
    mask = mask.float()
    embedded, context = encoder(rows, whole, mask)
    sets = RowSets.of(rows, mask)
    each, ordered = encoder.of_sets(sets, whole)
    of_sets = sets.as_given(ordered)
    torch.testing.assert_close(of_sets, context)
    torch.testing.assert_close(sets.fill(each), embedded)
    torch.testing.assert_close(encoder.context(rows, whole, mask), context)

    gradients = []
    for result in (context, of_sets):
        encoder.zero_grad()
        torch.autograd.backward(result.square().sum(), retain_graph=True)
        gradients.append([one.grad.clone() for one in encoder.parameters() if one.grad is not None])
    torch.testing.assert_close(*gradients)


@dataclass(frozen=True)
class Arrays:
    channels: FloatArray
    node: FloatArray


def online(**changes: Any) -> OnlineLearner:
    given: dict[str, Any] = {
        "channel_features": ("wanted", "noise"),
        "node_features": ("first", "second", "third"),
        "actions": ("level",),
        "route_features": ("prior",),
        "route_prior": "prior",
        "hidden": 8,
    }
    return OnlineLearner(LearnConfig(**{**given, **changes}), 1)


@pytest.mark.parametrize("shared", [True, False])
def test_a_daemon_does_what_its_agent_of_the_team_does(shared: bool) -> None:
    task = MatchTask()
    policy = trained(task, AlgorithmName.MAPPO, shared=shared).policy
    seen = begun(task, 5)
    wanted = policy.act(seen).rows
    for agent in range(3):
        learner = online()
        learner.adopt(policy, agent)
        count = int(seen.mask[0, agent].sum())
        arrays = Arrays(seen.rows[0, agent, :count], seen.whole[0, agent])
        acted = learner.act(arrays, explore=False).values
        np.testing.assert_allclose(acted, wanted[0, agent, :count], atol=1e-6)
        assert acted.any()
    # It goes on to learn, and is saved with what it took over.
    for _ in range(learner.config.horizon + 1):
        learner.act(arrays, explore=True)
        report = learner.reward(1.0)
    assert report is not None
    again = online()
    again.load(learner.save())
    one, other = (each.act(arrays, explore=False).values for each in (learner, again))
    np.testing.assert_array_equal(one, other)


def test_a_daemon_takes_no_other_actor() -> None:
    policy = trained(MatchTask(), AlgorithmName.IPPO).policy
    with pytest.raises(CheckpointError, match="trained with hidden 8, not 16"):
        online(hidden=16).adopt(policy)
    with pytest.raises(CheckpointError, match="trained with node_features"):
        online(node_features=("first",)).adopt(policy)
    choosers = trained(MatchTask(actions=False), AlgorithmName.IPPO).policy
    with pytest.raises(CheckpointError, match=r"trained with actions \(\)"):
        online().adopt(choosers)


@pytest.mark.parametrize("shared", [True, False])
def test_continuous_actions_begin_where_the_settings_say(shared: bool) -> None:
    task = MatchTask()
    policy = Policy(task.shape, settings(shared=shared, initial_level=0.4), torch.Generator())
    seen = begun(task, 0)
    rows = policy.act(seen).rows
    real = seen.mask > 0.0
    assert rows[real] == pytest.approx(0.4, abs=1e-6)
    assert not rows[~real].any()


@pytest.mark.parametrize("shared", [True, False])
def test_actors_begin_with_the_rule_that_the_settings_say(shared: bool) -> None:
    task = MatchTask()
    rule = {"level": {"constant": 0.5, "wanted": -0.8}}
    trainer = Trainer(task, settings(shared=shared, first_rule=rule), 1)
    seen = begun(task, 0)
    seen.rows[..., 0] = np.random.default_rng(1).random(seen.rows.shape[:-1], np.float32)
    levels = trainer.policy.act(seen).rows[..., 0]
    real = seen.mask > 0.0
    expected = 0.5 - 0.8 * seen.rows[..., 0]
    assert np.abs(levels - expected)[real].mean() < 0.1
    assert np.corrcoef(levels[real], expected[real])[0, 1] > 0.7


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"price": {"constant": 1.0}}, "first_rule: 'price' is none of"),
        ({"level": {"weather": 1.0}}, "first_rule.level: 'weather' is none of"),
    ],
)
def test_rules_name_what_there_is(rule: dict[str, dict[str, float]], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Trainer(MatchTask(), settings(first_rule=rule), 1)
