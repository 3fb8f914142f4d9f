"""Whether it learns at all: on markets that are small enough to know what is best."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import pytest

from lnagents.env import (
    ACTION_NAMES,
    CHANNEL_FEATURE_NAMES,
    NODE_FEATURE_NAMES,
    ROUTE_FEATURE_NAMES,
    ROUTE_PRIOR,
    FeeBounds,
    RouteCandidate,
    decode,
    encode,
    encode_routes,
)
from lnagents.learn import LearnConfig, OnlineLearner
from lnagents.model.graph import ChannelPolicy, NetworkGraph
from lnagents.model.payment import Hop, Route
from lnagents.model.view import ChannelFlow, ChannelView, NodeView

CONFIG = LearnConfig(
    channel_features=CHANNEL_FEATURE_NAMES,
    node_features=NODE_FEATURE_NAMES,
    actions=ACTION_NAMES,
    route_features=ROUTE_FEATURE_NAMES,
    route_prior=ROUTE_PRIOR,
)


class FeeMarket:
    """A channel carries demand * exp(-rate / scale), so its fees are highest at rate = scale.

    The scale is what competitors charge, which the node sees; the agent finds much lower fees.
    """

    SCALES_PPM = (100, 300, 900, 1_500)
    DEMAND_MSAT = 1_000_000_000
    FOUND = ChannelPolicy(base_fee_msat=0, fee_rate_ppm=30)
    BOUNDS = FeeBounds(max_ppm=5_000, max_base_msat=0)

    def __init__(self) -> None:
        self.channels = [
            ChannelView(
                scid=index,
                peer=f"02{index:02}",
                capacity_msat=5_000_000_000,
                local_balance_msat=2_500_000_000,
                remote_balance_msat=2_500_000_000,
                active=True,
                policy=self.FOUND,
                peer_policy=None,
                competing_ppm=scale,
                found_policy=self.FOUND,
            )
            for index, scale in enumerate(self.SCALES_PPM)
        ]
        self.best = sum(self.DEMAND_MSAT / 1e6 * scale / math.e for scale in self.SCALES_PPM)

    def view(self) -> NodeView:
        return NodeView("02ff", 0, 0.0, tuple(self.channels), NetworkGraph())

    def round(self, learner: OnlineLearner, *, explore: bool = True) -> float:
        """Fees earned as a share of the most that can be."""
        view = self.view()
        action = learner.act(encode(view), explore=explore)
        decisions = decode(view, action.values, self.BOUNDS).channels
        total = 0
        for index, channel in enumerate(self.channels):
            decision = decisions.get(channel.scid)
            rate = channel.policy.fee_rate_ppm
            if decision is not None and decision.fee_rate_ppm is not None:
                rate = decision.fee_rate_ppm
            volume = int(self.DEMAND_MSAT * math.exp(-rate / channel.competing_ppm))
            fees = volume * rate // 1_000_000
            total += fees
            self.channels[index] = replace(
                channel,
                policy=replace(channel.policy, fee_rate_ppm=rate),
                flow=ChannelFlow(
                    forwarded_out_msat=volume,
                    fees_earned_msat=fees,
                    forwards=volume // 20_000_000,
                ),
            )
        learner.reward(float(total))
        return total / self.best


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fees_rise_towards_what_the_market_bears(seed: int) -> None:
    market, learner = FeeMarket(), OnlineLearner(CONFIG, seed)
    untrained = statistics.fmean(market.round(learner, explore=False) for _ in range(3))
    assert untrained < 0.15
    earned = [market.round(learner) for _ in range(400)]
    trained = statistics.fmean(earned[-50:])
    assert trained > 0.7
    assert trained > 3 * statistics.fmean(earned[:50])
    # Without noise, and each channel on its own level, not one level for all.
    for _ in range(10):
        share = market.round(learner, explore=False)
    assert share > 0.7
    rates = [channel.policy.fee_rate_ppm for channel in market.channels]
    assert rates[0] < rates[-1]


def candidate(fee_msat: int, hops: int, probability: float, left: float) -> RouteCandidate:
    amount = 100_000_000
    hop = Hop(1, "02bb", amount, 0, 500)
    route = Route((hop,) * hops, amount + fee_msat, 500 + 80 * (hops - 1))
    return RouteCandidate(route, probability, None, False, left)


def offer(rng: random.Random) -> tuple[list[RouteCandidate], int]:
    """Candidates in random order, and which one never works: it looks cheapest.

    What gives it away is that it would drain the first channel.
    """
    trap = candidate(rng.randrange(1_000), 2, 0.9, 0.02)
    good = [
        candidate(20_000 + rng.randrange(60_000), rng.choice((2, 3)), 0.9, rng.uniform(0.3, 0.9))
        for _ in range(2)
    ]
    candidates = [trap, *good]
    rng.shuffle(candidates)
    return candidates, candidates.index(trap)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_route_that_always_fails_is_avoided(seed: int) -> None:
    learner, rng = OnlineLearner(CONFIG, seed), random.Random(seed)
    trapped = []
    for _ in range(400):
        candidates, trap = offer(rng)
        choice = learner.choose_route(encode_routes(candidates), explore=True)
        failed = choice.index == trap
        trapped.append(failed)
        fee = candidates[choice.index].route.fee_msat
        learner.route_outcome(choice.token, -200_000.0 if failed else -float(fee))
    assert statistics.fmean(trapped[:32]) > 0.4
    assert statistics.fmean(trapped[-200:]) < 0.2
    # The best one is now another.
    best = []
    for _ in range(50):
        candidates, trap = offer(rng)
        best.append(learner.choose_route(encode_routes(candidates), explore=False).index != trap)
    assert sum(best) >= 48


def test_with_nothing_to_gain_the_prior_stays() -> None:
    """Outcomes that are pure chance teach nothing, so they must not change much."""
    learner, rng = OnlineLearner(CONFIG, 0), random.Random(0)
    candidates, _ = offer(rng)
    rows = encode_routes(candidates)
    before = math.exp(learner.choose_route(rows, explore=False).log_prob)
    for _ in range(320):
        token = learner.choose_route(rows, explore=True).token
        learner.route_outcome(token, rng.gauss(0.0, 1.0))
    after = math.exp(learner.choose_route(rows, explore=False).log_prob)
    assert after == pytest.approx(before, abs=0.1)
