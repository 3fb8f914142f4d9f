from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lnagents.learn import LearnConfig, OnlineLearner, UpdateReport
from lnagents.learn.experience import FloatArray

CONFIG = LearnConfig(
    channel_features=("a", "b", "c"),
    node_features=("d", "e"),
    actions=("x", "y"),
    route_features=("f", "prior", "g"),
    route_prior="prior",
    hidden=8,
    horizon=3,
    route_horizon=4,
)


@dataclass(frozen=True)
class Seen:
    channels: FloatArray
    node: FloatArray


def seen(channels: int, seed: int = 0) -> Seen:
    rng = np.random.default_rng(seed)
    rows = rng.random((channels, 3), dtype=np.float32)
    return Seen(rows, rng.random(2, dtype=np.float32))


def routes(count: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).random((count, 3), dtype=np.float32)


def live(learner: OnlineLearner, rounds: int, first: int = 0) -> list[object]:
    """Everything that comes out in some rounds of changing size; updates fall in between."""
    out: list[object] = []
    for number in range(first, first + rounds):
        action = learner.act(seen(number % 4, number), explore=True)
        out += [action.values.tolist(), action.log_prob, action.value]
        choice = learner.choose_route(routes(1 + number % 3, number), explore=True)
        out += [choice, learner.route_outcome(choice.token, float(number % 5))]
        out.append(learner.reward(1_000.0 * math.sin(number)))
    return out


def trained(seed: int = 1) -> OnlineLearner:
    learner = OnlineLearner(CONFIG, seed)
    live(learner, 11)
    return learner


@pytest.fixture(scope="module", name="learner")
def trained_learner() -> OnlineLearner:
    """Only for what does not change it."""
    return trained()


@pytest.mark.parametrize("channels", [0, 1, 5, 40])
def test_a_fresh_actor_keeps_the_fees(channels: int) -> None:
    action = OnlineLearner(CONFIG, 7).act(seen(channels), explore=False)
    assert action.values.shape == (channels, 2)
    assert action.values.dtype == np.float32
    assert not action.values.any()
    assert action.value == 0.0


def test_exploration_starts_as_wide_as_configured() -> None:
    learner = OnlineLearner(replace(CONFIG, initial_deviation=0.2), 0)
    values = np.arctanh(learner.act(seen(2_000), explore=True).values)
    assert values.mean() == pytest.approx(0.0, abs=0.02)
    assert values.std() == pytest.approx(0.2, rel=0.05)


def test_actions_are_bounded_and_their_density_is_that_of_the_bounded_sample() -> None:
    learner = OnlineLearner(replace(CONFIG, initial_deviation=1.0, max_deviation=1.0), 0)
    action = learner.act(seen(6), explore=True)
    assert (np.abs(action.values) < 1.0).all()
    normal = torch.distributions.Normal(0.0, 1.0)
    bounded = torch.distributions.TransformedDistribution(
        normal, [torch.distributions.TanhTransform()]
    )
    values = torch.tensor(action.values, dtype=torch.float64)
    expected = float(bounded.log_prob(values).sum())  # type: ignore[no-untyped-call]
    assert action.log_prob == pytest.approx(expected, rel=1e-4)


@settings(max_examples=30)
@given(channels=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
def test_permuting_channels_permutes_actions(
    learner: OnlineLearner, channels: int, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(channels)
    plain = seen(channels, seed)
    mixed = Seen(plain.channels[order], plain.node)
    one = learner.act(plain, explore=False)
    other = learner.act(mixed, explore=False)
    assert other.values == pytest.approx(one.values[order], abs=1e-5)
    assert other.value == pytest.approx(one.value, rel=1e-4, abs=1e-2)


def test_permuting_candidates_permutes_the_odds(learner: OnlineLearner) -> None:
    rows = routes(5, 3)
    best = learner.choose_route(rows, explore=False)
    turned = learner.choose_route(rows[::-1].copy(), explore=False)
    assert turned.index == 4 - best.index
    assert turned.log_prob == pytest.approx(best.log_prob, abs=1e-5)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    assert live(OnlineLearner(CONFIG, 5), 13) == live(OnlineLearner(CONFIG, 5), 13)
    assert live(OnlineLearner(CONFIG, 5), 2) != live(OnlineLearner(CONFIG, 6), 2)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    trained()
    assert torch.equal(torch.get_rng_state(), before)


def test_updates_come_every_horizon() -> None:
    learner = OnlineLearner(CONFIG, 0)
    reports = []
    for number in range(10):
        learner.act(seen(2, number), explore=True)
        reports.append(learner.reward(float(number)))
    # The first one waits for a round more, which tells what the third led to.
    assert [report is not None for report in reports] == [False, False, False, True] + [
        False,
        False,
        True,
    ] * 2
    first = reports[3]
    assert isinstance(first, UpdateReport)
    assert (first.part, first.number, first.samples) == ("fees", 1, 3)
    assert first.mean_reward == 1.0
    assert 1 <= first.epochs <= CONFIG.epochs
    assert first.value_loss > 0.0
    assert first.gradient_norm > 0.0


def test_route_updates_come_every_horizon_in_whatever_order_outcomes_arrive() -> None:
    learner = OnlineLearner(CONFIG, 0)
    choices = [learner.choose_route(routes(3, number), explore=True) for number in range(4)]
    assert [choice.token for choice in choices] == [1, 2, 3, 4]
    reports = [learner.route_outcome(token, float(token)) for token in (3, 1, 4, 2)]
    assert reports[:3] == [None, None, None]
    report = reports[3]
    assert report is not None
    assert (report.part, report.number, report.samples) == ("routes", 1, 4)
    assert report.mean_reward == 2.5


def test_an_update_stops_before_it_leads_too_far() -> None:
    learner = OnlineLearner(
        replace(CONFIG, target_divergence=1e-6, learning_rate=0.1, epochs=20), 0
    )
    report = None
    for number in range(4):
        learner.act(seen(3, number), explore=True)
        report = learner.reward(float(number % 2))
    assert report is not None
    assert report.epochs < 20
    assert report.divergence > 1e-6


def test_rounds_without_exploration_are_not_learned_from() -> None:
    learner = OnlineLearner(CONFIG, 0)
    for number in range(20):
        learner.act(seen(2, number), explore=False)
        assert learner.reward(1.0) is None
    assert learner.reward(1.0) is None
    choice = learner.choose_route(routes(3), explore=False)
    assert choice.token == 0
    assert learner.route_outcome(choice.token, 1.0) is None


def test_an_only_candidate_is_no_choice() -> None:
    choice = OnlineLearner(CONFIG, 0).choose_route(routes(1), explore=True)
    assert (choice.index, choice.log_prob, choice.token) == (0, 0.0, 0)


def test_an_outcome_counts_once() -> None:
    learner = OnlineLearner(replace(CONFIG, route_horizon=2), 0)
    token = learner.choose_route(routes(3), explore=True).token
    assert [learner.route_outcome(token, 1.0) for _ in range(5)] == [None] * 5


def test_choices_without_outcome_are_forgotten_in_the_end() -> None:
    learner = OnlineLearner(replace(CONFIG, route_horizon=1), 0)
    first = learner.choose_route(routes(2), explore=True).token
    for _ in range(1_024):
        last = learner.choose_route(routes(2), explore=True).token
    assert learner.route_outcome(first, 1.0) is None
    assert learner.route_outcome(last, 1.0) is not None


def test_a_fresh_route_head_goes_by_the_prior() -> None:
    learner = OnlineLearner(CONFIG, 0)
    rows = np.array([[0.9, 0.0, 0.1], [0.2, -2.0, 0.3], [0.4, -1.0, 0.8]], dtype=np.float32)
    assert learner.choose_route(rows, explore=False).index == 0
    counts = [0, 0, 0]
    for _ in range(2_000):
        counts[learner.choose_route(rows, explore=True).index] += 1
    weights = [math.exp(0), math.exp(-2), math.exp(-1)]
    expected = [2_000 * weight / sum(weights) for weight in weights]
    assert counts == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("rounds", [0, 1, 3, 4, 9])
def test_a_checkpoint_continues_bit_for_bit(rounds: int) -> None:
    learner = OnlineLearner(CONFIG, 2)
    live(learner, rounds)
    # In the middle of a round, with outcomes still to come.
    learner.act(seen(3), explore=True)
    token = learner.choose_route(routes(3), explore=True).token
    again = OnlineLearner(CONFIG, 99)
    again.load(learner.save())
    assert again.seed == 2
    for one in (learner, again):
        one.reward(3.0)
        one.route_outcome(token, 4.0)
    assert live(again, 12, rounds) == live(learner, 12, rounds)


def test_the_same_state_gives_the_same_checkpoint() -> None:
    learner = trained()
    again = OnlineLearner(CONFIG, 0)
    again.load(learner.save())
    assert again.save() == learner.save()


@pytest.mark.parametrize(
    ("channels", "node", "problem"),
    [
        ((2, 4), (2,), r"channels has shape \(2, 4\), not \(None, 3\)"),
        ((3,), (2,), r"channels has shape \(3,\), not \(None, 3\)"),
        ((2, 3), (3,), r"node has shape \(3,\), not \(2,\)"),
    ],
)
def test_observations_that_do_not_fit(
    channels: tuple[int, ...], node: tuple[int, ...], problem: str
) -> None:
    wrong = Seen(np.zeros(channels, dtype=np.float32), np.zeros(node, dtype=np.float32))
    with pytest.raises(ValueError, match=problem):
        OnlineLearner(CONFIG, 0).act(wrong, explore=True)


def test_numbers_that_are_none_are_refused_and_change_nothing() -> None:
    learner = trained()
    expected = live_copy(learner)
    bad = seen(2)
    bad.channels[1, 1] = np.nan
    with pytest.raises(ValueError, match="a number in channels is not finite"):
        learner.act(bad, explore=True)
    with pytest.raises(ValueError, match="there are no candidate routes"):
        learner.choose_route(routes(0), explore=True)
    with pytest.raises(ValueError, match="the reward nan is not finite"):
        learner.reward(math.nan)
    with pytest.raises(ValueError, match="the return inf is not finite"):
        learner.route_outcome(1, math.inf)
    assert live(learner, 6) == expected


def live_copy(learner: OnlineLearner) -> list[object]:
    again = OnlineLearner(CONFIG, 0)
    again.load(learner.save())
    return live(again, 6)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"route_prior": "z"}, "the prior 'z' is no route feature"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"discount": 1.0}, "discount must be at least 0 and below 1"),
        ({"trace_decay": 1.1}, "trace_decay must be between 0 and 1"),
        ({"initial_deviation": 9.0}, "deviations must satisfy 0 < minimum <= initial <= maximum"),
    ],
)
def test_impossible_configurations(changes: dict[str, float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


USE = """
import numpy
from types import SimpleNamespace
from lnagents.learn import LearnConfig, OnlineLearner
learner = OnlineLearner(LearnConfig(("a",), ("b",), ("c",), ("d",), "d", horizon=1), 0)
seen = SimpleNamespace(channels=numpy.ones((2, 1), "f"), node=numpy.ones(1, "f"))
for reward in range(3):
    learner.act(seen, explore=True)
    learner.reward(float(reward))
learner.load(learner.save())
"""


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        # torch's compiler takes seconds and a hundred megabytes to load.
        (
            "lnagents.learn",
            ("grpc", "lnagents.lnd", "lnagents.testbed", "lnagents.env", "torch._dynamo", "sympy"),
        ),
        ("lnagents.env", ("torch", "grpc", "lnagents.lnd", "lnagents.testbed")),
    ],
)
def test_packages_load_alone(module: str, unwanted: tuple[str, ...]) -> None:
    """In a process of its own, because others have loaded everything here."""
    code = (
        f"import sys, {module}\n"
        f"{USE if module == 'lnagents.learn' else ''}\n"
        f"found = [name for name in {unwanted!r} if name in sys.modules]\n"
        "sys.exit(f'loaded {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
