"""Who knows which policy, and when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.twin import GossipSettings
from lnagents.twin.gossip import (
    Gossip,
    announce,
    can_learn,
    learn_update,
    make_gossip,
    make_room,
    make_room_to_learn,
    seen_row,
    seen_rows,
)
from lnagents.twin.network import BASE_FEE
from tests.unit.twin.networks import line, network

SLOW = GossipSettings(
    trickle_delay=20.0,
    sub_batch_delay=5.0,
    max_channel_update_burst=3,
    channel_update_interval=60.0,
)


def set_fee(gossip: Gossip, edge: int, fee: int, now: float) -> Gossip:
    policy = gossip.policy[[edge]].copy()
    policy[0, BASE_FEE] = fee
    gossip = make_room(gossip, np.array([edge]), now)
    announce(gossip, np.array([edge]), policy, now)
    return gossip


def fee(gossip: Gossip, node: int, edge: int, now: float) -> int:
    return int(gossip.policy[seen_row(gossip, node, edge, now), BASE_FEE])


def test_an_update_travels_hop_by_hop() -> None:
    gossip = set_fee(make_gossip(line(5), SLOW), 0, 7, 100.0)
    # Half a round to the peers, half a round and a batch for each hop more.
    arrivals = [100.0, 110.0, 125.0, 140.0, 155.0]
    for node, arrival in enumerate(arrivals):
        assert fee(gossip, node, 0, arrival) == 7
        if node:
            assert fee(gossip, node, 0, arrival - 0.01) == 1_000


def test_the_shortest_way_counts() -> None:
    ring = network(6, [(node, (node + 1) % 6) for node in range(6)])
    gossip = set_fee(make_gossip(ring, SLOW), 0, 7, 0.0)
    heard = [fee(gossip, node, 0, 26.0) for node in range(6)]
    assert heard == [7, 7, 7, 1_000, 7, 7]


def test_several_versions_may_be_under_way() -> None:
    gossip = make_gossip(line(4), SLOW)
    for now, amount in ((0.0, 1), (12.0, 2), (24.0, 3)):
        gossip = set_fee(gossip, 0, amount, now)
    assert [fee(gossip, node, 0, 26.0) for node in range(4)] == [3, 2, 1, 1_000]
    assert [fee(gossip, node, 0, 64.0) for node in range(4)] == [3, 3, 3, 3]


def test_updates_beyond_the_burst_are_lost_for_good() -> None:
    gossip = make_gossip(line(3), SLOW)
    for second in range(5):
        gossip = set_fee(gossip, 0, second + 1, float(second))
    assert fee(gossip, 0, 0, 5.0) == 5
    assert fee(gossip, 2, 0, 1_000.0) == 3
    # A minute gives one update back.
    gossip = set_fee(gossip, 0, 9, 70.0)
    assert fee(gossip, 2, 0, 1_000.0) == 9


def test_an_update_in_the_same_second_is_lost() -> None:
    gossip = set_fee(make_gossip(line(3), SLOW), 0, 7, 10.1)
    gossip = set_fee(gossip, 0, 8, 10.9)
    assert fee(gossip, 0, 0, 11.0) == 8
    assert fee(gossip, 2, 0, 1_000.0) == 7
    gossip = set_fee(gossip, 0, 9, 11.0)
    assert fee(gossip, 2, 0, 1_000.0) == 9


def test_what_changes_nothing_costs_nothing() -> None:
    gossip = make_gossip(line(3), SLOW)
    for second in range(9):
        gossip = set_fee(gossip, 0, 1_000, float(second))
    gossip = set_fee(gossip, 0, 7, 10.0)
    assert fee(gossip, 2, 0, 100.0) == 7


def test_a_failure_teaches_its_sender_alone() -> None:
    gossip = set_fee(make_gossip(line(4), SLOW), 0, 7, 0.0)
    assert learn_update(gossip, 3, 0, 1.0)
    assert not learn_update(gossip, 3, 0, 1.0)
    assert [fee(gossip, node, 0, 1.0) for node in range(4)] == [7, 1_000, 1_000, 7]


def test_a_failure_teaches_updates_that_gossip_lost() -> None:
    gossip = make_gossip(line(3), SLOW)
    for second in range(5):
        gossip = set_fee(gossip, 0, second + 1, float(second))
    assert learn_update(gossip, 2, 0, 6.0)
    assert fee(gossip, 2, 0, 1_000.0) == 5
    # A newer version that is lost, too, does not take it away.
    gossip = set_fee(gossip, 0, 6, 7.0)
    assert fee(gossip, 2, 0, 1_000.0) == 5
    assert fee(gossip, 1, 0, 1_000.0) == 3


def test_a_failure_in_the_same_second_teaches_nothing() -> None:
    gossip = set_fee(make_gossip(line(3), SLOW), 0, 7, 10.1)
    gossip = set_fee(gossip, 0, 8, 10.9)
    assert not learn_update(gossip, 2, 0, 100.0)
    assert fee(gossip, 2, 0, 100.0) == 7


def test_the_table_of_what_was_learned_grows_and_forgets() -> None:
    drawn = line(300)
    gossip = set_fee(make_gossip(drawn, SLOW), 0, 7, 0.0)
    for node in range(50, 250):
        while not can_learn(gossip):
            gossip = make_room_to_learn(gossip, 1.0)
        assert learn_update(gossip, node, 0, 1.0)
    assert all(fee(gossip, node, 0, 1.0) == 7 for node in range(50, 250))
    assert make_room_to_learn(gossip, 1e9).use[1] == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.floats(0.0, 40.0), st.integers(0, 3)),
        max_size=25,
    )
)
def test_what_is_seen_is_what_the_slow_way_finds(steps: list[tuple[int, float, int]]) -> None:
    """Against a history of every version, looked through from its end."""
    drawn = line(5)
    gossip = make_gossip(drawn, SLOW)
    history: list[list[tuple[float, int, bool]]] = [[(-np.inf, 1_000, True)] for _ in range(8)]
    now = 0.0
    tokens, refilled = [3.0] * 8, [0.0] * 8
    for edge, passed, amount in steps:
        now += passed
        newest = history[edge][-1]
        accepted = [at for at, _, heard in history[edge] if heard][-1]
        if newest[1] != amount:
            heard = np.floor(accepted) != np.floor(now)
            if heard:
                tokens[edge] = min(3.0, tokens[edge] + (now - refilled[edge]) / 60.0)
                refilled[edge] = now
                heard = tokens[edge] >= 1.0
                tokens[edge] -= heard
            history[edge].append((now, amount, bool(heard)))
        gossip = set_fee(gossip, edge, amount, now)
        for node in range(5):
            rows = np.empty(8, dtype=np.int64)
            seen_rows(gossip, node, now, rows)
            for other in range(8):
                owner = other // 2 + other % 2
                hops = abs(node - owner)
                delay = 0.0 if hops == 0 else 10.0 + 15.0 * (hops - 1)
                expected = next(
                    value
                    for at, value, heard in reversed(history[other])
                    if hops == 0 or (heard and now >= at + delay)
                )
                assert gossip.policy[rows[other], BASE_FEE] == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"trickle_delay": -1.0},
        {"sub_batch_delay": -1.0},
        {"max_channel_update_burst": 0},
        {"channel_update_interval": 0.0},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"delay|burst"):
        GossipSettings(**wrong)  # type: ignore[arg-type]


def test_profiles_are_those_of_the_testbed_and_of_lnd() -> None:
    assert GossipSettings().first_hop_delay == 0.025
    assert GossipSettings().relay_delay == pytest.approx(0.03)
    assert GossipSettings.mainnet() == GossipSettings(90.0, 5.0, 10, 60.0)
