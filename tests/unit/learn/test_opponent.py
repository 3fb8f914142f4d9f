"""Models of other agents: what they see and do not see, how they are scored, that they learn."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lnagents.learn import opponent_scores
from lnagents.learn.algorithms import AlgorithmName
from lnagents.learn.networks import SetEncoder
from lnagents.learn.opponent import move_values
from lnagents.learn.opponent_scores import (
    CAPACITY,
    FREQUENCY,
    HALF,
    LAST_VALUE,
    LIQUIDITY,
    MODEL,
    PASSING,
    UNIFORM,
    Cases,
    naive_moves,
    naive_passing,
    score_classes,
    score_passing,
    scores,
)
from lnagents.learn.policy import Policy
from lnagents.learn.rollout import collect, episode_seeds, live, side_by_side
from lnagents.learn.row_sets import RowSets
from lnagents.learn.samples import Others, Sight, mapped
from lnagents.learn.settings import OpponentMode, TrainSettings
from lnagents.learn.task import Seen
from lnagents.learn.trainer import Trainer, TrainReport, load_policy
from lnagents.model.errors import CheckpointError
from tests.unit.learn.tasks import GuessTask, MatchTask

MODES = [OpponentMode.FEATURES, OpponentMode.GRADIENT]
SIZES = (0.1, 0.5)


def settings(mode: OpponentMode, **changes: Any) -> TrainSettings:
    given = {"iterations": 4, "hidden": 8, "minibatches": 2, "epochs": 2, "opponent_model": mode}
    return TrainSettings.model_validate({**given, **changes})


def untimed(report: TrainReport) -> dict[str, Any]:
    names = [one.name for one in fields(report) if not one.name.endswith("_seconds")]
    return {name: getattr(report, name) for name in names}


def foreseen(policy: Policy, seen: Seen) -> tuple[Tensor, Tensor]:
    assert policy.opponents is not None
    with torch.no_grad():
        said = policy.opponents(Sight.of(seen, policy.algorithm), Others.of(seen))
    return said.moves, said.liquidity


# ---- Scores


distributions = st.lists(st.floats(0.01, 1.0), min_size=5, max_size=5).map(
    lambda weights: torch.tensor(weights) / sum(weights)
)


@given(distributions, distributions)
def test_nobody_scores_better_than_who_says_what_is_true(truth: Tensor, said: Tensor) -> None:
    for score in (score_classes, score_passing):
        honest, other = score(truth.log(), truth[None]), score(said.log(), truth[None])
        assert honest.log_likelihood >= other.log_likelihood - 1e-6
        assert honest.brier <= other.brier + 1e-6
        if float((truth - said).abs().max()) > 0.1:
            assert honest.log_likelihood > other.log_likelihood
            assert honest.brier < other.brier


def test_scores_are_those_of_the_textbook() -> None:
    said = torch.tensor([0.5, 0.3, 0.2])
    came = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    score = score_classes(said.log(), came)
    assert score.log_likelihood == pytest.approx((math.log(0.5) + math.log(0.2)) / 2)
    assert score.brier == pytest.approx((0.25 + 0.09 + 0.04 + 0.25 + 0.09 + 0.64) / 2)
    # An amount of a third passes with 0.5, one of two thirds with 0.2; both fail, then both pass.
    score = score_passing(said.log(), came)
    likely = math.log(0.5) + math.log(0.8) + math.log(0.5) + math.log(0.2)
    assert score.log_likelihood == pytest.approx(likely / 4)
    assert score.brier == pytest.approx((0.25 + 0.04 + 0.25 + 0.64) / 4)


@given(distributions)
def test_naive_forecasts_are_distributions(frequency: Tensor) -> None:
    for said in naive_moves(frequency, SIZES[:1]).values():
        assert float(said.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    for said in naive_passing(frequency).values():
        assert float(said.exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_the_last_value_is_the_best_forecast_of_what_rests() -> None:
    rests = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]]).repeat(9, 1)
    said = naive_moves(rests.mean(0), SIZES)
    assert score_classes(said[LAST_VALUE], rests).log_likelihood == pytest.approx(0.0, abs=1e-6)
    assert score_classes(said[UNIFORM], rests).log_likelihood == pytest.approx(-math.log(7))
    # Small moves are more likely than large ones, up as down.
    some = torch.tensor([0.0, 0.05, 0.1, 0.6, 0.2, 0.05, 0.0])
    last = naive_moves(some, SIZES)[LAST_VALUE].exp()
    assert float(last[3]) == pytest.approx(0.6)
    torch.testing.assert_close(last, last.flip(0))


def test_prior_chances_of_amounts() -> None:
    said = naive_passing(torch.full((4,), 0.25))
    for place, amount in ((0, 0.25), (1, 0.5), (2, 0.75)):
        # The balance is just enough for this amount, and for no more.
        came = torch.eye(4)[place + 1 : place + 2]
        above = said[CAPACITY].flip(-1).logcumsumexp(-1).flip(-1)[1:].exp()
        assert float(above[place]) == pytest.approx(1.0 - amount)
        half = score_passing(said[HALF], came)
        assert half.log_likelihood == pytest.approx(math.log(0.5))
        assert half.brier == pytest.approx(0.25)


def test_what_never_came_has_no_score() -> None:
    nothing = Cases(torch.zeros(0, 3), torch.zeros(0, 3))
    assert scores({"rate": nothing, LIQUIDITY: nothing}, (0.1,)) == {}


def test_classes_have_typical_values() -> None:
    values = move_values(SIZES)
    ends = (0.0, *SIZES, math.inf)
    assert values[3] == 0.0
    assert list(values) == sorted(values)
    assert values == tuple(-one for one in reversed(values))
    for low, value, high in zip(ends, values[4:], ends[1:], strict=False):
        assert low < value < high


# ---- The model


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shared", [True, False])
def test_it_learns_to_foresee(mode: OpponentMode, shared: bool) -> None:
    chosen = settings(
        mode,
        shared=shared,
        iterations=15,
        epochs=1,
        hidden=16,
        opponent_epochs=4,
        opponent_learning_rate=0.02,
    )
    trainer = Trainer(GuessTask(batch=32), chosen, 1)
    first = trainer.iterate().opponents
    uniform = -math.log(GuessTask.CLASSES)
    assert first["rate/log_likelihood/model"] == pytest.approx(uniform, abs=1e-4)
    while not trainer.finished:
        last = trainer.iterate().opponents
    sure, rest = GuessTask.CERTAIN, (1.0 - GuessTask.CERTAIN) / (GuessTask.CLASSES - 1)
    best = sure * math.log(sure) + (1.0 - sure) * math.log(rest)
    assert best - 0.3 < last["rate/log_likelihood/model"] < best + 0.1
    for naive in (UNIFORM, LAST_VALUE, FREQUENCY):
        assert last["rate/log_likelihood/model"] > last[f"rate/log_likelihood/{naive}"] + 0.3
        assert last["rate/brier/model"] < last[f"rate/brier/{naive}"] - 0.1
    for naive in (UNIFORM, FREQUENCY):
        assert (
            last[f"{LIQUIDITY}/log_likelihood/{MODEL}"]
            > last[f"{LIQUIDITY}/log_likelihood/{naive}"] + 0.3
        )
    for naive in (HALF, CAPACITY, FREQUENCY):
        assert last[f"{PASSING}/brier/{MODEL}"] < 0.5 * last[f"{PASSING}/brier/{naive}"]


@pytest.mark.parametrize("shared", [True, False])
def test_forecasts_are_distributions(shared: bool) -> None:
    task = GuessTask()
    trainer = Trainer(task, settings(OpponentMode.FEATURES, shared=shared), 1)
    for _ in range(2):
        for said in foreseen(trainer.policy, task.reset(range(8))):
            sums = said.exp().sum(-1)
            torch.testing.assert_close(sums, torch.ones_like(sums))
        trainer.iterate()


@pytest.mark.parametrize("mode", MODES)
def test_what_is_hidden_changes_neither_forecasts_nor_actions(mode: OpponentMode) -> None:
    task = GuessTask()
    trainer = Trainer(task, settings(mode), 1)
    trainer.iterate()
    seen = task.reset(range(8))
    assert seen.liquidity is not None
    other = replace(seen, liquidity=np.roll(seen.liquidity, 1, -1))
    for one, two in zip(*(foreseen(trainer.policy, a) for a in (seen, other)), strict=True):
        assert torch.equal(one, two)
    acted = [trainer.policy.act(a) for a in (seen, other)]
    np.testing.assert_array_equal(acted[0].rows, acted[1].rows)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shared", [True, False])
def test_teams_begin_as_without_a_model(mode: OpponentMode, shared: bool) -> None:
    rule = {"level": {"constant": 0.3, "wanted": 0.5}}
    task = GuessTask()
    assert task.shape.actions == ("level",)
    without, with_model = (
        Trainer(task, settings(one, shared=shared, first_rule=rule), 3).policy
        for one in (OpponentMode.NONE, mode)
    )
    added = with_model.sizes.foreseen
    assert added == len(with_model.sizes.channel_features) - len(without.sizes.channel_features) > 0
    known = dict(without.actor.named_parameters())
    for name, one in with_model.actor.named_parameters():
        wide = one.shape != known[name].shape
        assert wide == name.endswith("encoder.rows.0.weight")
        # But for the order in which products are added up.
        same = one[..., :-added] if wide else one
        torch.testing.assert_close(same, known[name], rtol=0.0, atol=1e-5)
        assert not wide or not one[..., -added:].any()


@pytest.mark.parametrize("mode", MODES)
def test_what_a_model_learns_does_not_move_fresh_actors(mode: OpponentMode) -> None:
    task = GuessTask()
    trainer = Trainer(task, settings(mode, opponent_learning_rate=0.1), 1)
    seen, model = task.reset(range(8)), trainer.policy.opponents
    assert model is not None
    noise = torch.Generator()
    before, said = trainer.policy.act(seen, noise.manual_seed(2)), foreseen(trainer.policy, seen)
    rollout = collect(task, trainer.policy, seed=5, episodes=1)
    trainer._learn_of_others(rollout)
    assert not torch.equal(said[0], foreseen(trainer.policy, seen)[0])
    after = trainer.policy.act(seen, noise.manual_seed(2))
    assert np.array_equal(before.rows, after.rows)
    assert before.rows.any()


@pytest.mark.parametrize("mode", MODES)
def test_actors_act_on_what_is_foreseen(mode: OpponentMode) -> None:
    task = GuessTask()
    trainer = Trainer(task, settings(mode, learning_rate=0.02), 1)
    for _ in range(3):
        trainer.iterate()
    seen = task.reset(range(8))
    assert seen.foresight is not None
    other = replace(seen, foresight=np.roll(seen.foresight, 1, -1))
    acted = [trainer.policy.act(a).rows for a in (seen, other)]
    assert not np.array_equal(acted[0], acted[1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shared", [True, False])
def test_what_padding_holds_never_matters(mode: OpponentMode, shared: bool) -> None:
    reports = []
    for garbage in (0.0, 1_000.0):
        trainer = Trainer(GuessTask(garbage=garbage), settings(mode, shared=shared), 7)
        reports.append([untimed(trainer.iterate()) for _ in range(3)])
    assert reports[0] == reports[1]


def learned(mode: OpponentMode) -> dict[str, bool]:
    """Which parameters of the model the losses of actors and critic change."""
    trainer = Trainer(GuessTask(), settings(mode, learning_rate=0.02), 1)
    for _ in range(2):
        trainer.iterate()
    model = trainer.policy.opponents
    assert model is not None
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    rollout = collect(trainer.task, trainer.policy, seed=5, episodes=1)
    trainer._learn(rollout, torch.Generator().manual_seed(1))
    return {name: not torch.equal(one, before[name]) for name, one in model.named_parameters()}


def test_only_with_gradient_the_actors_losses_train_what_leads_to_the_embedding() -> None:
    assert not any(learned(OpponentMode.FEATURES).values())
    changed = learned(OpponentMode.GRADIENT)
    heads = {name for name in changed if name.startswith(("moves", "liquidity"))}
    assert len(heads) == 4
    assert {name for name, one in changed.items() if one} == set(changed) - heads


@pytest.mark.parametrize("mode", MODES)
def test_a_decision_is_as_likely_at_the_start_of_an_update_as_when_it_was_drawn(
    mode: OpponentMode,
) -> None:
    trainer = Trainer(GuessTask(), settings(mode, learning_rate=0.02), 1)
    for _ in range(2):
        trainer.iterate()
    policy = trainer.policy
    rollout = collect(trainer.task, policy, seed=5, episodes=1)
    sight = mapped(lambda one: one[:-1].flatten(0, 1), rollout.sight)
    decided = mapped(lambda one: one.flatten(0, 1), rollout.decisions)
    if mode is OpponentMode.GRADIENT:
        assert policy.opponents is not None
        assert rollout.others is not None
        others = mapped(lambda one: one[:-1].flatten(0, 1), rollout.others)
        sight = policy.opponents.refreshed(sight, others)
    judged = policy.judge(sight, decided).sample_log_prob.detach()
    judged = sight.sets.fill(judged).reshape_as(sight.mask)
    np.testing.assert_allclose(judged, decided.sample_log_prob * sight.mask, atol=1e-4)


# ---- In training


@pytest.mark.parametrize("algorithm", [AlgorithmName.IPPO, AlgorithmName.MAPPO])
@pytest.mark.parametrize("mode", list(OpponentMode))
@pytest.mark.parametrize("shared", [True, False])
def test_a_resumed_training_goes_on_bit_for_bit(
    mode: OpponentMode, algorithm: AlgorithmName, shared: bool
) -> None:
    chosen = settings(mode, algorithm=algorithm, shared=shared)
    whole = Trainer(GuessTask(), chosen, 7)
    whole.iterate()
    saved = whole.save()
    expected = [untimed(whole.iterate()) for _ in range(2)]

    resumed = Trainer(GuessTask(), chosen, 7)
    resumed.load(saved)
    assert [untimed(resumed.iterate()) for _ in range(2)] == expected
    assert resumed.save() == whole.save()


def test_without_a_model_nothing_is_as_if_there_were_something_to_foresee() -> None:
    chosen = settings(OpponentMode.NONE)
    reports = []
    for task in (MatchTask(), GuessTask()):
        trainer = Trainer(task, chosen, 7)
        reports.append([untimed(trainer.iterate()) for _ in range(3)])
        assert trainer.policy.sizes.channel_features == ("wanted", "noise")
    assert reports[0] == reports[1]
    assert reports[0][0]["opponents"] == {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shared", [True, False])
def test_groups_of_environments_may_live_apart(mode: OpponentMode, shared: bool) -> None:
    trainer = Trainer(GuessTask(batch=8), settings(mode, shared=shared, together=3), 3)
    trainer.iterate()
    whole = collect(trainer.task, trainer.policy, seed=5, episodes=1)
    apart = [
        live(GuessTask(batch=len(group)), trainer.policy, episode_seeds(5, 1, group)[0])
        for group in (range(3), range(3, 6), range(6, 8))
    ]
    joined = side_by_side(apart)
    for one, other in ((whole.sight, joined.sight), (whole.others, joined.others)):
        assert one is not None
        assert other is not None
        for field in fields(one):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shared", [True, False])
def test_a_saved_policy_foresees_and_acts_the_same(mode: OpponentMode, shared: bool) -> None:
    task = GuessTask()
    trainer = Trainer(task, settings(mode, shared=shared), 1)
    trainer.iterate()
    seen = task.reset(range(8))
    policy = load_policy(trainer.save(), task.shape)
    np.testing.assert_array_equal(policy.act(seen).rows, trainer.policy.act(seen).rows)
    for one, two in zip(foreseen(policy, seen), foreseen(trainer.policy, seen), strict=True):
        assert torch.equal(one, two)


def test_a_checkpoint_of_other_foresight_is_refused() -> None:
    saved = Trainer(GuessTask(), settings(OpponentMode.FEATURES), 1).save()
    shape = GuessTask().shape
    with pytest.raises(CheckpointError, match="made with moves"):
        load_policy(saved, replace(shape, moves=("other",)))
    with pytest.raises(CheckpointError, match="with opponent_model"):
        Trainer(GuessTask(), settings(OpponentMode.GRADIENT), 1).load(saved)
    plain = Trainer(MatchTask(), settings(OpponentMode.NONE), 1).save()
    assert load_policy(plain, shape).opponents is None


@pytest.mark.parametrize("mode", MODES)
def test_a_task_must_tell_about_others(mode: OpponentMode) -> None:
    with pytest.raises(ValueError, match="opponent_model needs a task that tells about other"):
        Trainer(MatchTask(), settings(mode), 1)


def test_scores_are_named_by_prediction_measure_and_forecaster() -> None:
    trainer = Trainer(GuessTask(), settings(OpponentMode.FEATURES), 1)
    names = trainer.iterate().opponents
    who = {
        "rate": (MODEL, UNIFORM, LAST_VALUE, FREQUENCY),
        LIQUIDITY: (MODEL, UNIFORM, FREQUENCY),
        PASSING: (MODEL, HALF, CAPACITY, FREQUENCY),
    }
    assert set(names) == {
        f"{prediction}/{measure}/{one}"
        for prediction, several in who.items()
        for measure in ("log_likelihood", "brier")
        for one in several
    }
    assert all(math.isfinite(one) for one in names.values())
    assert opponent_scores.MODEL == "model"


def test_rows_that_are_computed_get_their_gradient() -> None:
    """By the encoder without padding as by the padded one."""
    generator = torch.Generator().manual_seed(1)
    encoder = SetEncoder(3, 2, 8, generator)
    whole = torch.randn(4, 2, generator=generator)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 0, 1]]).float()
    found = []
    for dense in (True, False):
        rows = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(2))
        rows.requires_grad_()
        if dense:
            embedded, context = encoder(rows, whole, mask)
        else:
            sets = RowSets.of(rows, mask)
            embedded, context = encoder.of_sets(sets, whole)
            embedded = sets.fill(embedded)
        torch.autograd.backward((embedded * mask.unsqueeze(-1)).square().sum() + context.sum())
        assert rows.grad is not None
        found.append(rows.grad * mask.unsqueeze(-1))
    torch.testing.assert_close(found[0], found[1])
    assert found[0].abs().sum() > 0.0
