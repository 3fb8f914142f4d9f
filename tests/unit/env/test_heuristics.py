"""Each heuristic does what its source says it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics import (
    HEURISTICS,
    AdditiveIncrease,
    Heuristic,
    LndDefault,
    LndgRules,
    LowFee,
    MatchPeer,
    PassiveRebalance,
    PriceCards,
    Proportional,
    RandomFees,
    SteepBalance,
    ThompsonSampling,
    Wall,
    make_heuristic,
)
from lnagents.env.heuristics.balance import balance_factor
from lnagents.env.heuristics.clboss import competitors, price_factor, weighted_median
from lnagents.model.errors import ConfigError
from lnagents.model.graph import Channel, ChannelPolicy, NetworkGraph
from lnagents.model.view import ChannelDecision, ChannelFlow, ChannelView, NodeView

CAPACITY = 1_000_000_000
OWN, PEER, OTHER, THIRD = "02aa", "02bb", "02cc", "02dd"
WIDE = FeeBounds(max_ppm=100_000, max_base_msat=100_000)
QUIET = ChannelFlow()


def channel(
    share: float = 0.5,
    *,
    scid: int = 1,
    rate: int = 100,
    base: int = 1_000,
    found: int | None = None,
    flow: ChannelFlow = QUIET,
    peer_policy: ChannelPolicy | None = None,
    active: bool = True,
    capacity: int = CAPACITY,
) -> ChannelView:
    local = int(share * capacity)
    return ChannelView(
        scid=scid,
        peer=PEER,
        capacity_msat=capacity,
        local_balance_msat=local,
        remote_balance_msat=capacity - local,
        active=active,
        policy=ChannelPolicy(base_fee_msat=base, fee_rate_ppm=rate),
        peer_policy=peer_policy,
        competing_ppm=-1,
        flow=flow,
        found_policy=None if found is None else ChannelPolicy(fee_rate_ppm=found),
    )


def into_peer(source: str, scid: int, rate: int, base: int, capacity: int) -> Channel:
    policy = ChannelPolicy(base_fee_msat=base, fee_rate_ppm=rate)
    first, second = sorted((source, PEER))
    return Channel(
        scid=scid,
        channel_point=f"{scid}:0",
        node1=first,
        node2=second,
        capacity_msat=capacity,
        policy1=policy if first == source else None,
        policy2=policy if second == source else None,
    )


MARKET = NetworkGraph(
    channels={
        one.scid: one
        for one in (
            into_peer(OWN, 1, 7_777, 7, 10**12),
            into_peer(OTHER, 2, 400, 1_000, 3 * CAPACITY),
            into_peer(THIRD, 3, 900, 0, CAPACITY),
        )
    }
)


def view(*channels: ChannelView, graph: NetworkGraph | None = None) -> NodeView:
    return NodeView(OWN, 0, 0.0, channels, graph or NetworkGraph())


def act(agent: Heuristic, one: ChannelView, graph: NetworkGraph | None = None) -> ChannelDecision:
    """What it decides for its only channel; an empty decision if nothing changes."""
    return agent.act(view(one, graph=graph)).channels.get(one.scid, ChannelDecision())


def rates(agent: Heuristic, flows: Sequence[ChannelFlow], **about: float) -> list[int]:
    """The fee rate after each round, when the channel follows the agent."""
    one = channel(**about)  # type: ignore[arg-type]
    found = []
    for flow in flows:
        decision = act(agent, replace(one, flow=flow), MARKET)
        policy = one.policy
        if decision.fee_rate_ppm is not None:
            policy = replace(policy, fee_rate_ppm=decision.fee_rate_ppm)
        one = replace(one, policy=policy)
        found.append(policy.fee_rate_ppm)
    return found


@pytest.mark.parametrize(
    ("agent", "rate", "base"),
    [(LndDefault(), 1, 1_000), (LowFee(), 1, 1), (Wall(), 2_500, 0)],
)
def test_fixed_fees_are_set_once(agent: Heuristic, rate: int, base: int) -> None:
    decision = act(agent, channel(rate=5, base=5))
    assert (decision.fee_rate_ppm, decision.base_fee_msat) == (rate, base)
    assert agent.act(view(channel(rate=rate, base=base))).channels == {}


@pytest.mark.parametrize(("share", "rate"), [(0.0, 300), (0.5, 200), (0.75, 150), (1.0, 100)])
def test_proportional_is_linear_in_the_balance(share: float, rate: int) -> None:
    assert act(Proportional(), channel(share, rate=5_000)).fee_rate_ppm == rate


@pytest.mark.parametrize(("share", "rate"), [(0.0, 2_000), (0.5, 200), (0.75, 63), (1.0, 20)])
def test_steep_balance_spans_a_hundredfold(share: float, rate: int) -> None:
    decision = act(SteepBalance(), channel(share, rate=5_000, base=1_000))
    assert (decision.fee_rate_ppm, decision.base_fee_msat) == (rate, 0)


def test_steep_balance_moves_when_the_balance_does() -> None:
    agent = SteepBalance()
    act(agent, channel(0.5, rate=200, base=0))
    assert act(agent, channel(0.515, rate=200, base=0)) == ChannelDecision()
    assert act(agent, channel(0.53, rate=200, base=0)).fee_rate_ppm == 174


@pytest.mark.parametrize(("middle", "span"), [(-1, 100.0), (200, 0.5)])
def test_steep_balance_refuses_what_is_no_rule(middle: int, span: float) -> None:
    with pytest.raises(ValueError, match="is no rule"):
        SteepBalance(middle, span)


def test_proportional_does_not_announce_small_changes() -> None:
    assert act(Proportional(), channel(0.5, rate=191)) == ChannelDecision()
    assert act(Proportional(), channel(0.5, rate=190)).fee_rate_ppm == 200


def test_proportional_may_sum_over_the_channels_of_a_peer() -> None:
    both = view(channel(0.0, scid=1, rate=0), channel(1.0, scid=2, rate=0))
    apart = Proportional().act(both).channels
    assert (apart[1].fee_rate_ppm, apart[2].fee_rate_ppm) == (300, 100)
    together = Proportional(sum_peer_channels=True).act(both).channels
    assert (together[1].fee_rate_ppm, together[2].fee_rate_ppm) == (200, 200)


def test_match_peer_does_as_the_peer() -> None:
    theirs = ChannelPolicy(base_fee_msat=77, fee_rate_ppm=777)
    decision = act(MatchPeer(), channel(peer_policy=theirs))
    assert (decision.fee_rate_ppm, decision.base_fee_msat) == (777, 77)
    assert act(MatchPeer(), channel()) == ChannelDecision()


def test_the_balance_factor() -> None:
    assert balance_factor(0.5) == 1
    assert balance_factor(0.0) == pytest.approx(math.sqrt(50))
    assert balance_factor(1.0) == pytest.approx(1 / math.sqrt(50))


def test_passive_rebalancing_works_around_the_rate_that_was_found() -> None:
    agent = PassiveRebalance(bounds=WIDE)
    assert act(agent, channel(0.0, rate=5, found=100)).fee_rate_ppm == 707
    assert act(agent, channel(0.04, rate=5, found=100)) == ChannelDecision(), "below the threshold"
    assert act(agent, channel(1.0, rate=5, found=100)).fee_rate_ppm == 14
    assert act(PassiveRebalance(), channel(0.0, rate=0)).fee_rate_ppm == 7


FAILING = ChannelFlow(failed_forwards=26)
OUT = ChannelFlow(forwarded_out_msat=CAPACITY, fees_earned_msat=10, forwards=1)
IN = ChannelFlow(forwarded_in_msat=1_000)


@pytest.mark.parametrize(
    ("share", "flows", "step"),
    [
        (0.1, [FAILING], 25),
        (0.1, [ChannelFlow(failed_forwards=25)], 0),
        (0.1, [ChannelFlow(failed_forwards=26, forwarded_in_msat=1)], 0),
        (0.154, [FAILING], 25),
        (0.16, [FAILING], 0),
        (0.5, [QUIET] * 6, 0),
        (0.5, [QUIET] * 7, -15),
        (0.5, [OUT], 0),
        (0.5, [OUT, OUT], 30),
        (0.96, [QUIET] * 7, -25),
        (0.96, [QUIET] * 6, 0),
        (0.96, [OUT], 0),
    ],
)
def test_lndg_steps(share: float, flows: list[ChannelFlow], step: int) -> None:
    assert rates(LndgRules(), flows, share=share)[-1] == 100 + step


def test_lndg_lowers_what_only_helps_others_earn() -> None:
    helper = channel(0.96, scid=1, flow=IN)
    earner = channel(0.5, scid=2, flow=ChannelFlow(forwarded_out_msat=990, fees_earned_msat=9))
    assert LndgRules().act(view(helper, earner)).channels[1].fee_rate_ppm == 75
    own = replace(helper, flow=replace(IN, fees_earned_msat=1))
    assert LndgRules().act(view(own, earner)).channels == {}, "10 is not more than 10 times 1"


def test_lndg_rounds_stays_in_its_range_and_waits_for_its_day() -> None:
    assert rates(LndgRules(), [FAILING], share=0.1, rate=101) == [125]
    assert rates(LndgRules(), [FAILING], share=0.1, rate=2_490) == [2_500]
    assert rates(LndgRules(), [QUIET] * 7, share=0.5, rate=10)[-1] == 0
    assert rates(LndgRules(rounds_per_day=2), [FAILING] * 4, share=0.1) == [100, 125, 125, 150]


def test_the_price_of_a_card() -> None:
    expected = [0.64, 0.8, 1, 1.2, 1.44]
    assert [price_factor(card) for card in range(-2, 3)] == pytest.approx(expected)


def test_competitors_are_weighed_by_capacity_and_own_channels_left_out() -> None:
    assert competitors(view(graph=MARKET), PEER) == (1_000, 400)
    assert competitors(view(graph=MARKET), OTHER) is None
    assert weighted_median([(1, 1), (2, 1), (9, 1)]) == 2
    assert weighted_median([(1, 1), (2, 1), (9, 3)]) == 9


def test_price_cards_multiply_median_balance_and_card() -> None:
    # One of 5 bins of 200,000 sat; the middle of the lowest is a tenth.
    played = {price_factor(card) for card in range(-2, 3)}
    balance = balance_factor(0.1)
    decision = act(PriceCards(bounds=WIDE), channel(0.05), MARKET)
    assert decision.fee_rate_ppm in {round(400 * balance * card) for card in played}
    assert decision.base_fee_msat in {round(1_000 * balance * card) for card in played}
    assert act(PriceCards(), channel()) == ChannelDecision(), "no competitors"


def test_price_cards_move_to_the_card_that_earned_most() -> None:
    """The market bears two steps up: there the channel earns, elsewhere nothing."""

    def dearest(factor: float) -> int:
        return round(400 * factor)

    agent = PriceCards(rounds_per_card=2, bounds=WIDE)
    one = channel(0.5)
    seen = []
    for _ in range(20):
        earns = one.policy.fee_rate_ppm == dearest(1.44)
        flow = ChannelFlow(fees_earned_msat=5) if earns else QUIET
        decision = act(agent, replace(one, flow=flow), MARKET)
        if decision.fee_rate_ppm is not None:
            one = replace(one, policy=replace(one.policy, fee_rate_ppm=decision.fee_rate_ppm))
        seen.append(one.policy.fee_rate_ppm)
    assert all(first == second for first, second in zip(seen[::2], seen[1::2], strict=True))
    assert set(seen[:10]) == {dearest(price_factor(card)) for card in range(-2, 3)}
    assert set(seen[10:]) == {dearest(price_factor(card)) for card in range(5)}


def test_price_cards_stay_where_nothing_was_earned() -> None:
    played = rates(PriceCards(rounds_per_card=1, bounds=WIDE), [QUIET] * 10)
    assert set(played[:5]) == set(played[5:])


def test_price_cards_enter_a_new_bin_only_with_a_probability() -> None:
    """A balance just beyond the border mostly stays where it was, one far beyond it never does."""
    entered = {0.61: 0, 0.79: 0}
    for share in entered:
        for seed in range(200):
            agent = PriceCards(seed, rounds_per_card=100, bounds=WIDE)
            before = act(agent, channel(0.5), MARKET).fee_rate_ppm
            after = act(agent, channel(share, rate=before or 0), MARKET).fee_rate_ppm
            entered[share] += after is not None
    assert entered[0.61] < 40
    assert entered[0.79] > 160


def test_thompson_sampling_finds_the_rate_that_earns() -> None:
    agent = ThompsonSampling(3, arms=6, bounds=FeeBounds(max_ppm=3_000))
    assert agent.ladder[0] == 0
    assert agent.ladder[-1] == 3_000
    best = agent.ladder[3]
    one = channel(rate=0)
    played = []
    for _ in range(200):
        earned = {best: 1_000, agent.ladder[2]: 300}.get(one.policy.fee_rate_ppm, 0)
        decision = act(agent, replace(one, flow=ChannelFlow(fees_earned_msat=earned)))
        if decision.fee_rate_ppm is not None:
            one = replace(one, policy=replace(one.policy, fee_rate_ppm=decision.fee_rate_ppm))
        played.append(one.policy.fee_rate_ppm)
    assert set(played) == set(agent.ladder), "everything is tried"
    assert played[-50:].count(best) > 25


def test_aimd_steps_up_while_payments_come_and_halves_when_they_stay_away() -> None:
    flows = [OUT, OUT, QUIET, QUIET, QUIET, OUT, QUIET]
    assert rates(AdditiveIncrease(), flows) == [110, 120, 120, 60, 60, 70, 70]


def test_random_fees_differ_by_channel_and_stay_within_bounds() -> None:
    bounds = FeeBounds(min_ppm=10, max_ppm=1_000)
    channels = [channel(scid=scid, rate=5) for scid in range(50)]
    decisions = RandomFees(1, change_share=1.0, bounds=bounds).act(view(*channels)).channels
    found = [decision.fee_rate_ppm or 0 for decision in decisions.values()]
    assert min(found) >= 10
    assert max(found) <= 1_000
    assert len(set(found)) > 20
    assert RandomFees(1, change_share=0.0).act(view(*channels)).channels == {}


@pytest.mark.parametrize("name", HEURISTICS)
def test_channels_that_cannot_be_used_are_left_alone(name: str) -> None:
    agent = make_heuristic(name)
    for _ in range(10):
        assert agent.act(view(channel(0.05, active=False), graph=MARKET)).channels == {}


FLOWS = st.builds(
    ChannelFlow,
    forwarded_in_msat=st.integers(0, 10**10),
    forwarded_out_msat=st.integers(0, 10**10),
    fees_earned_msat=st.integers(0, 10**7),
    forwards=st.integers(0, 100),
    failed_forwards=st.integers(0, 100),
)
ROUNDS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**5), FLOWS), max_size=12)


@pytest.mark.parametrize("name", HEURISTICS)
@given(rounds=ROUNDS, seed=st.integers(0, 2**32 - 1))
def test_whatever_they_see_they_stay_within_bounds_and_repeat_themselves(
    name: str, rounds: list[tuple[float, int, ChannelFlow]], seed: int
) -> None:
    bounds = FeeBounds()
    agents = make_heuristic(name, seed), make_heuristic(name, seed)
    theirs = ChannelPolicy(base_fee_msat=10**9, fee_rate_ppm=10**6)
    for share, rate, flow in rounds:
        seen = channel(share, rate=rate, flow=flow, peer_policy=theirs)
        first, second = (agent.act(view(seen, graph=MARKET)) for agent in agents)
        assert first == second
        for decision in first.channels.values():
            assert decision.reason
            if decision.fee_rate_ppm is not None:
                assert bounds.min_ppm <= decision.fee_rate_ppm <= bounds.max_ppm
                assert decision.fee_rate_ppm != rate
            if decision.base_fee_msat is not None:
                assert bounds.min_base_msat <= decision.base_fee_msat <= bounds.max_base_msat


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'greedy' is none of lnd-default, proportional"):
        make_heuristic("greedy")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Proportional(300, 100),
        lambda: LndgRules(low_percent=95, excess_percent=95),
        lambda: LndgRules(rounds_per_day=0),
        lambda: PriceCards(rounds_per_card=0),
        lambda: ThompsonSampling(arms=1),
        lambda: ThompsonSampling(discount=0.0),
        lambda: AdditiveIncrease(decrease=1.0),
        lambda: AdditiveIncrease(patience=0),
        lambda: RandomFees(change_share=1.5),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"is not|is below|at least"):
        make()  # type: ignore[operator]
