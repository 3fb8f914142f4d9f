"""The compiled arrays and those by way of views are the same, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lnagents.env.arrays import ActionArrays, ArrayWorld, RoundArrays, Rounds, ViewRounds
from lnagents.env.fees import FeeBounds
from lnagents.env.payments import RandomDemand
from lnagents.env.world import World
from tests.unit.env.worlds import LARGE, random_levels, small_world

BOUNDS = FeeBounds(max_ppm=20_000, max_inbound_discount_ppm=2_000, min_change=0.02)
ROUNDS = 12
DOWN = {4: ("n5", "n1"), 5: ("n1",)}
"""Who is off after a round."""


def observe(rounds: Rounds, agents: int, channels: int) -> RoundArrays:
    seen = RoundArrays.empty(agents, channels)
    rounds.observe(seen)
    return seen


def assert_equal(one: RoundArrays, other: RoundArrays) -> None:
    assert np.array_equal(one.channel_mask, other.channel_mask)
    assert np.array_equal(one.channels, other.channels)
    assert np.array_equal(one.node, other.node)
    assert np.array_equal(one.terms, other.terms)


@pytest.mark.parametrize("mainnet_gossip", [False, True])
def test_arrays_equal_views_to_the_bit(mainnet_gossip: bool) -> None:
    worlds = [small_world(mainnet_gossip=mainnet_gossip) for _ in range(2)]
    fast: Rounds = worlds[0].rounds(BOUNDS)
    slow: Rounds = ViewRounds(worlds[1], BOUNDS)
    agents, channels = 4, worlds[0].max_channels
    rng = np.random.default_rng(1)
    demand = RandomDemand(30, LARGE, priority_share=0.3, hop_by_hop_share=0.3)
    payments = demand.draw(tuple(worlds[0].nodes), ROUNDS, 5.0, 7)
    for rounds in (fast, slow):
        rounds.reset(11)
    changed = 0
    for number in range(ROUNDS):
        seen = observe(fast, agents, channels)
        assert_equal(seen, observe(slow, agents, channels))
        actions = ActionArrays(
            fees=random_levels(rng, (agents, channels, 3)),
            preference=random_levels(rng, (agents, channels)) if number % 3 else None,
            reserved=random_levels(rng, (agents, channels)) * 0.2 if number % 2 else None,
            decides=rng.integers(0, 2, agents).astype(np.int8) if number % 4 == 1 else None,
        )
        for world, rounds in zip(worlds, (fast, slow), strict=True):
            before = world.twin.policies()
            rounds.act(actions)
            changed += int((world.twin.policies() != before).any(axis=1).sum())
            rounds.run(payments.of_round(number))
            world.set_nodes_down(DOWN.get(number, ()))
        assert np.array_equal(worlds[0].twin.policies(), worlds[1].twin.policies())
        assert np.array_equal(worlds[0].twin.balances(), worlds[1].twin.balances())
        assert np.array_equal(worlds[0].preferences, worlds[1].preferences)
        assert np.array_equal(worlds[0].reserved, worlds[1].reserved)
    assert changed > 50
    assert observe(fast, agents, channels).terms[:, 0].any()
    for world in worlds:
        world.twin.audit()


def test_a_twin_is_a_world_with_arrays() -> None:
    world = small_world()
    assert isinstance(world, World)
    assert isinstance(world, ArrayWorld)


@pytest.mark.parametrize("by_views", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(by_views: bool, bad: float) -> None:
    world = small_world()
    rounds: Rounds = ViewRounds(world, BOUNDS) if by_views else world.rounds(BOUNDS)
    rounds.reset(0)
    observe(rounds, 4, world.max_channels)
    actions = ActionArrays.zeros(4, world.max_channels)
    actions.fees[2, 0, 1] = bad
    before = world.twin.policies()
    with pytest.raises(ValueError, match="a number in the action is not finite"):
        rounds.act(actions)
    assert np.array_equal(world.twin.policies(), before)


def test_wrong_shapes_are_refused() -> None:
    world = small_world()
    rounds = world.rounds(BOUNDS)
    channels = world.max_channels
    with pytest.raises(ValueError, match=r"fees: the shape is \(3, \d+, 3\), not \(4,"):
        rounds.act(ActionArrays.zeros(3, channels))
    wrong = np.zeros((4, channels + 1), np.float32)
    with pytest.raises(ValueError, match="preference: the shape is"):
        rounds.act(ActionArrays(ActionArrays.zeros(4, channels).fees, preference=wrong))
    with pytest.raises(ValueError, match="reserved: the shape is"):
        rounds.act(ActionArrays(ActionArrays.zeros(4, channels).fees, reserved=wrong))


@pytest.mark.parametrize("by_views", [False, True])
def test_who_is_steered_from_elsewhere_keeps_what_it_has(by_views: bool) -> None:
    world = small_world()
    rounds: Rounds = ViewRounds(world, BOUNDS) if by_views else world.rounds(BOUNDS)
    rounds.reset(0)
    observe(rounds, 4, world.max_channels)
    before = world.twin.policies()
    actions = ActionArrays.zeros(4, world.max_channels)
    actions.fees[:] = 1.0
    actions.fees[2] = np.nan
    wanted = np.full((4, world.max_channels), 0.5, np.float32)
    decides = np.array([1, 1, 0, 1], np.int8)
    rounds.act(replace(actions, preference=wanted, reserved=wanted, decides=decides))
    own = world.book.edge[world.book.first[2] : world.book.first[3]]
    assert np.array_equal(world.twin.policies()[own], before[own])
    assert not world.preferences[own].any()
    assert not world.reserved[own].any()
    others = np.setdiff1d(world.book.edge, own)
    assert (world.twin.policies()[others] != before[others]).any(1).all()
    assert (world.preferences[others] == 0.5).all()


def test_what_is_done_in_padding_does_not_matter() -> None:
    results = []
    for filling in (0.0, np.nan):
        world = small_world()
        rounds = world.rounds(BOUNDS)
        rounds.reset(0)
        seen = observe(rounds, 4, world.max_channels)
        fees = random_levels(np.random.default_rng(2), (4, world.max_channels, 3))
        fees[seen.channel_mask == 0] = filling
        rounds.act(ActionArrays(fees))
        results.append(world.twin.policies())
    assert (seen.channel_mask == 0).any()
    assert np.array_equal(results[0], results[1])
