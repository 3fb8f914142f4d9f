"""What nodes can tell about others: alike in arrays and by views, and nothing that is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.env.arrays import ActionArrays, RoundArrays
from lnagents.env.encoding import CHANNEL_FEATURES, encode
from lnagents.env.features import FloatArray, rate_scale
from lnagents.env.fees import FeeBounds
from lnagents.env.payments import RandomDemand
from lnagents.env.peers import (
    DECAY,
    FORESIGHT_FEATURES,
    LIQUIDITY_BINS,
    MOVE_SIZES,
    MOVES,
    PEER_FEATURES,
    UNKNOWN,
    UNMOVED,
    NodeMemory,
    PeerMemory,
    move_classes,
    peer_facts,
    peer_rows,
)
from lnagents.env.twin_peers import fill_liquidity, fill_peer_rows
from lnagents.env.twin_world import TwinTimes, TwinWorld
from lnagents.model.graph import Channel, ChannelPolicy
from lnagents.model.view import NodeView
from lnagents.twin.network import Network
from lnagents.twin.settings import GossipSettings, TwinSettings
from tests.unit.env.worlds import LARGE, random_levels, small_network, small_world

COLUMN = {name: place for place, name in enumerate(FORESIGHT_FEATURES)}
ROUNDS = 10


def rows_of(world: TwinWorld) -> FloatArray:
    rows = np.zeros((len(world.agents), world.max_channels, len(PEER_FEATURES)), np.float32)
    fill_peer_rows(world, rows)
    return rows


def liquidity_of(world: TwinWorld) -> FloatArray:
    rows = np.zeros((len(world.agents), world.max_channels, LIQUIDITY_BINS), np.float32)
    fill_liquidity(world, rows)
    return rows


def ordered(view: NodeView) -> NodeView:
    return replace(view, channels=tuple(sorted(view.channels, key=lambda one: one.scid)))


@pytest.mark.parametrize("mainnet_gossip", [False, True])
def test_arrays_equal_views_to_the_bit(mainnet_gossip: bool) -> None:
    world = small_world(mainnet_gossip=mainnet_gossip)
    rounds = world.rounds(FeeBounds())
    payments = RandomDemand(30, LARGE).draw(tuple(world.nodes), ROUNDS, 5.0, 7)
    rng = np.random.default_rng(1)
    rounds.reset(11)
    many, alone = PeerMemory(), [NodeMemory() for _ in world.agents]
    known = set()
    for number in range(ROUNDS):
        seen = RoundArrays.empty(4, world.max_channels)
        rounds.observe(seen)
        fast = many.look(seen.channels, rows_of(world))
        views = world.observe()
        for agent, key in enumerate(world.agents.values()):
            view = ordered(views[key])
            slow = alone[agent].look(view, encode(view))
            count = len(view.channels)
            assert np.array_equal(fast.features[agent, :count], slow.features)
            assert np.array_equal(fast.moves[agent, :count], slow.moves)
            known |= set(slow.moves.flatten().tolist())
        rounds.act(ActionArrays(random_levels(rng, (4, world.max_channels, 3))))
        rounds.run(payments.of_round(number))
        world.set_nodes_down({4: ("n5", "n1")}.get(number, ()))
    assert len(known) > 6
    assert UNKNOWN in known
    assert UNMOVED in known


def with_balances(network: Network, own: str, share: float) -> Network:
    """The same network with the balances of all channels moved but those of `own`."""
    place = network.names.index(own)
    hidden = ~(network.channel_nodes == place).any(1)
    balance = network.balance.copy()
    balance[hidden, 0] = (network.capacity[hidden] * share).astype(np.int64)
    balance[hidden, 1] = network.capacity[hidden] - balance[hidden, 0]
    return replace(network, balance=balance)


def test_hidden_balances_change_nothing_before_they_can_be_observed() -> None:
    seen, truth = [], []
    for share in (0.1, 0.9):
        network = with_balances(small_network(), "n0", share)
        settings = TwinSettings(gossip=GossipSettings())
        world = TwinWorld(network, ["n0"], settings=settings, times=TwinTimes(5.0, 1.0))
        world.reset(3)
        memory, arrays = PeerMemory(), RoundArrays.empty(1, world.max_channels)
        world.rounds(FeeBounds()).observe(arrays)
        seen.append(memory.look(arrays.channels, rows_of(world)).features)
        truth.append(liquidity_of(world))
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(truth[0], truth[1])


def test_liquidity_is_where_the_peers_balances_are() -> None:
    world = small_world()
    world.reset(3)
    network, rows = world.network, liquidity_of(world)
    balances = world.twin.reported_balances()
    source, target = network.edge_source(), network.edge_target()
    for agent, node in enumerate(world.book.node.tolist()):
        own = range(int(world.book.first[agent]), int(world.book.first[agent + 1]))
        for row, place in enumerate(own):
            peer = int(world.book.target[place])
            expected = np.zeros(LIQUIDITY_BINS)
            for edge in range(2 * network.channels):
                if source[edge] == peer and target[edge] != node:
                    near, far = max(0, balances[edge]), max(0, balances[edge ^ 1])
                    bin_ = min(LIQUIDITY_BINS - 1, int(near / (near + far) * LIQUIDITY_BINS))
                    expected[bin_] += network.capacity[edge >> 1]
            np.testing.assert_allclose(
                rows[agent, row], expected / max(1.0, expected.sum()), atol=1e-6
            )


def channel(scid: int, one: str, other: str, rates: tuple[int, int]) -> Channel:
    policies = [ChannelPolicy(fee_rate_ppm=abs(rate), disabled=rate < 0) for rate in rates]
    return Channel(scid, f"{scid}:0", one, other, 1_000_000_000, *policies)


def test_what_is_around_a_peer() -> None:
    channels = [
        channel(1, "02a", "02p", (5, 6)),
        channel(2, "02b", "02p", (100, 200)),
        channel(3, "02c", "02p", (300, -50)),
        channel(4, "02p", "02z", (401, 700)),
    ]
    facts = peer_facts(channels, "02p", "02a")
    assert (facts.onward, facts.onward_capacity) == (2, 2_000_000_000)
    assert (facts.onward_low, facts.onward_middle, facts.onward_high) == (200, 300, 401)
    assert (facts.competing, facts.competing_low, facts.competing_high) == (3, 100, 700)
    alone = peer_facts(channels[:1], "02p", "02a")
    assert alone == (0, 0, -1, -1, -1, 0, -1, -1)


def test_a_node_without_channels_has_no_rows() -> None:
    world = small_world()
    view = replace(next(iter(world.observe().values())), channels=())
    assert peer_rows(view).shape == (0, len(PEER_FEATURES))
    assert NodeMemory().look(view, encode(view)).features.shape == (0, len(FORESIGHT_FEATURES))


def look(memory: PeerMemory, rates: list[float], shares: list[float]) -> FloatArray:
    """One round of channels whose peers charge `rates`; nothing else is known."""
    names = [column.name for column in CHANNEL_FEATURES]
    channels = np.zeros((len(rates), len(names)), np.float32)
    channels[:, names.index("peer_known")] = [rate >= 0.0 for rate in rates]
    channels[:, names.index("peer_fee_rate")] = np.maximum(rates, 0.0)
    channels[:, names.index("local_share")] = shares
    return memory.look(channels, np.zeros((len(rates), len(PEER_FEATURES)), np.float32)).features


def test_rounds_are_remembered() -> None:
    memory = PeerMemory()
    first = look(memory, [0.5], [0.5])[0]
    assert first[COLUMN["peer_fee_rate_change"]] == 0.0
    assert first[COLUMN["peer_fee_rate_rest"]] == 1.0
    assert first[COLUMN["rounds"]] == 0.0
    second = look(memory, [0.75], [0.25])[0]
    assert second[COLUMN["peer_fee_rate_change"]] == 0.25
    assert second[COLUMN["peer_fee_rate_last_change"]] == 0.25
    assert second[COLUMN["peer_fee_rate_rest"]] == 0.0
    assert second[COLUMN["share_change"]] == -0.25
    mean = (DECAY * 0.5 + 0.75) / (DECAY + 1.0)
    assert second[COLUMN["peer_fee_rate_mean_offset"]] == pytest.approx(mean - 0.75)
    assert second[COLUMN["peer_fee_rate_moved"]] == pytest.approx(1.0 / (1.0 + DECAY))
    third = look(memory, [0.75], [0.5])[0]
    assert third[COLUMN["peer_fee_rate_change"]] == 0.0
    assert third[COLUMN["peer_fee_rate_last_change"]] == 0.25
    assert third[COLUMN["peer_fee_rate_rest"]] > 0.0
    assert third[COLUMN["share_drift"]] == 0.0


def test_channels_keep_what_is_remembered_of_them_when_others_come_and_go() -> None:
    whole, part = PeerMemory(), PeerMemory()
    for memory in (whole, part):
        look(memory, [0.5, 0.2, 0.9], [0.5, 0.1, 0.3])
    expected = look(whole, [0.6, 0.2, 0.7], [0.4, 0.1, 0.3])
    part.rearrange([2, -1, 0])
    found = look(part, [0.7, 0.4, 0.6], [0.3, 0.8, 0.4])
    assert np.array_equal(found[[2, 0]], expected[[0, 2]])
    assert np.array_equal(found[1], look(PeerMemory(), [0.4], [0.8])[0])


def test_a_rate_that_was_not_known_has_not_moved() -> None:
    memory = PeerMemory()
    look(memory, [-1.0], [0.5])
    second = look(memory, [0.5], [0.5])[0]
    assert second[COLUMN["peer_fee_rate_change"]] == 0.0


@given(st.integers(0, 20_000), st.integers(0, 20_000))
def test_moves_are_classified_by_their_size(before: int, after: int) -> None:
    change = np.log1p(after) - np.log1p(before)
    place = int(move_classes(np.array(change)))
    assert (place == UNMOVED) == (before == after)
    assert np.sign(place - UNMOVED) == np.sign(after - before)
    if before != after:
        ends = (0.0, *MOVE_SIZES, np.inf)
        size = abs(place - UNMOVED)
        assert ends[size - 1] <= abs(change) < ends[size]


def test_a_rate_that_is_not_changed_is_not_moved_on_its_scale() -> None:
    assert move_classes(np.array(rate_scale(7) - rate_scale(7))) == UNMOVED
    assert len(MOVES) == 3
