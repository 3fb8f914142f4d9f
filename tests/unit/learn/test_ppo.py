from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lnagents.learn import ppo
from lnagents.learn.adam import Adam
from lnagents.learn.normaliser import ReturnNormaliser

NUMBERS = st.floats(-1e3, 1e3)
STEPS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12)


@given(STEPS, NUMBERS, st.floats(0, 0.99))
def test_without_a_trace_advantages_are_one_step_surprises(
    steps: list[tuple[float, float]], last: float, discount: float
) -> None:
    rewards, values = [one for one, _ in steps], [two for _, two in steps]
    estimates = ppo.advantages(rewards, values, last, discount, 0.0)
    following = [*values[1:], last]
    expected = [r + discount * n - v for r, v, n in zip(rewards, values, following, strict=True)]
    assert estimates == pytest.approx(expected)


@given(STEPS, NUMBERS, st.floats(0, 0.99))
def test_with_a_full_trace_they_are_what_really_came(
    steps: list[tuple[float, float]], last: float, discount: float
) -> None:
    rewards, values = [one for one, _ in steps], [two for _, two in steps]
    estimates = ppo.advantages(rewards, values, last, discount, 1.0)
    for start, estimate in enumerate(estimates):
        came = sum(discount**n * reward for n, reward in enumerate(rewards[start:]))
        came += discount ** (len(rewards) - start) * last
        assert estimate == pytest.approx(came - values[start], abs=1e-6)


def test_an_estimate_by_hand() -> None:
    # 2: 3 + 0.5 * 8 - 4 = 3; 1: 1 + 0.5 * 4 - 2 + 0.5 * 0.5 * 3
    assert ppo.advantages([1.0, 3.0], [2.0, 4.0], 8.0, 0.5, 0.5) == [1.75, 3.0]
    with pytest.raises(ValueError, match="2 rewards, but 1 values"):
        ppo.advantages([1.0, 3.0], [2.0], 8.0, 0.5, 0.5)


def test_estimates_of_tensors_are_those_of_their_numbers() -> None:
    generator = torch.Generator().manual_seed(1)
    rewards = torch.rand(5, 2, 3, generator=generator, dtype=torch.float64)
    values = torch.rand(6, 2, 3, generator=generator, dtype=torch.float64)
    together = ppo.advantages(list(rewards), list(values[:-1]), values[-1], 0.9, 0.8)
    for place in [(0, 0), (1, 2)]:
        index = (slice(None), *place)
        *before, last = values[index].tolist()
        alone = ppo.advantages(rewards[index].tolist(), before, last, 0.9, 0.8)
        assert torch.stack(together)[index].tolist() == pytest.approx(alone)


def test_columns_are_made_comparable_each_for_itself() -> None:
    values = torch.tensor([[1.0, 100.0, 5.0], [3.0, 300.0, 5.0]])
    assert ppo.standardised(values, (0,)).tolist() == [[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]


def test_the_objective_is_flat_where_the_new_actor_has_gone_far_enough() -> None:
    ratios = torch.tensor([0.5, 0.9, 1.1, 1.5])
    good = ppo.clipped_objective(ratios.log(), torch.ones(4), 0.2)
    bad = ppo.clipped_objective(ratios.log(), -torch.ones(4), 0.2)
    assert good.tolist() == pytest.approx([0.5, 0.9, 1.1, 1.2])
    assert bad.tolist() == pytest.approx([-0.8, -0.9, -1.1, -1.5])


def test_densities_and_entropies_are_those_of_torch() -> None:
    mean, deviation = torch.tensor([[0.3, -1.0]]), torch.tensor([0.2, 2.0])
    sample = torch.tensor([[0.1, 0.4]])
    normal = torch.distributions.Normal(mean, deviation)
    density = normal.log_prob(sample).sum(-1)  # type: ignore[no-untyped-call]
    assert torch.allclose(ppo.normal_log_prob(sample, mean, deviation), density)
    entropy = normal.entropy().sum(-1)  # type: ignore[no-untyped-call]
    assert torch.allclose(ppo.normal_entropy(deviation), entropy)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_divergence_is_zero_only_for_the_same_actor(log_ratios: list[float]) -> None:
    estimates = ppo.divergence(torch.tensor(log_ratios, dtype=torch.float64))
    assert (estimates >= 0.0).all()
    assert float(ppo.divergence(torch.zeros(1))) == 0.0


def test_standardised() -> None:
    values = ppo.standardised(torch.tensor([1.0, 2.0, 3.0]))
    assert float(values.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(values.square().mean()) == pytest.approx(1.0)
    assert ppo.standardised(torch.full((3,), 7.0)).tolist() == [0.0, 0.0, 0.0]


def test_masked_mean_leaves_padding_out() -> None:
    values, mask = torch.tensor([[1.0, 3.0], [5.0, 99.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert float(ppo.masked_mean(values, mask)) == 3.0
    assert float(ppo.masked_mean(values, torch.zeros(2, 2))) == 0.0


def test_a_far_off_critic_does_not_silence_the_actor() -> None:
    actor, critic = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    optimiser = Adam([*actor.parameters(), *critic.parameters()], 0.1)
    loss = (0.25 * actor.weight + 1e6 * critic.weight).sum()
    assert ppo.descend(loss, optimiser, actor, critic, 0.5) == pytest.approx(0.25)
    assert actor.weight.grad is not None
    assert critic.weight.grad is not None
    assert float(actor.weight.grad) == pytest.approx(0.25)
    assert float(critic.weight.grad) == pytest.approx(0.5)


def test_the_optimiser_is_adam() -> None:
    """Against the paper's algorithm, written out; torch's own takes seconds to load."""
    one, idle = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([5.0]))
    optimiser = Adam([one, idle], 0.05)
    value, mean, square = 2.0, 0.0, 0.0
    for step in range(1, 40):
        optimiser.clear()
        torch.autograd.backward((one - 1.0).pow(4).sum())
        optimiser.step()
        gradient = 4.0 * (value - 1.0) ** 3
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        pace = 0.05 * (mean / (1 - 0.9**step))
        value -= pace / (math.sqrt(square / (1 - 0.999**step)) + 1e-8)
        assert float(one.detach()) == pytest.approx(value, abs=1e-5)
    assert float(idle.detach()) == 5.0


def test_the_optimiser_is_restored_by_value() -> None:
    one = nn.Parameter(torch.ones(2))
    first = Adam([one], 0.1)
    one.grad = torch.ones(2)
    first.step()
    saved = first.state()
    second = Adam([nn.Parameter(torch.ones(2))], 0.1)
    second.restore(saved)
    before = [mean.clone() for mean in second.state()["means"]]
    first.step()
    assert torch.equal(before[0], second.state()["means"][0])
    with pytest.raises(ValueError, match="belongs to other parameters"):
        Adam([nn.Parameter(torch.ones(3))], 0.1).restore(saved)


@given(st.lists(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8), min_size=1, max_size=5))
def test_normalising_is_undone_by_restoring(batches: list[list[float]]) -> None:
    normaliser, last = ReturnNormaliser(), nn.Linear(2, 1)
    for batch in batches:
        normaliser.update(batch, last)
    for value in batches[-1]:
        there_and_back = normaliser.restore(normaliser.normalise(value))
        assert there_and_back == pytest.approx(value, abs=1e-3, rel=1e-6)
    assert math.isfinite(normaliser.deviation)
    assert normaliser.deviation > 0.0


def test_what_the_critic_predicts_survives_a_change_of_scale() -> None:
    normaliser, last = ReturnNormaliser(), nn.Linear(2, 1)
    normaliser.update([100.0, 300.0], last)
    seen = torch.tensor([[0.3, -0.7]])
    before = normaliser.restore(float(last(seen).detach()))
    normaliser.update([5_000.0, 9_000.0], last)
    assert normaliser.restore(float(last(seen).detach())) == pytest.approx(before, rel=1e-5)


def test_the_first_returns_are_taken_as_they_are() -> None:
    normaliser, last = ReturnNormaliser(), nn.Linear(2, 1)
    assert normaliser.restore(2.5) == 2.5
    normaliser.update([100.0, 300.0], last)
    assert normaliser.mean == pytest.approx(200.0)
    assert normaliser.deviation == pytest.approx(100.0)
