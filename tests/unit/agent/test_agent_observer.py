"""Events of the own node become views, each counted once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest_asyncio

from lnagents.agent.candidates import RouteFinder
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.observer import Observer
from lnagents.agent.store import Store
from lnagents.lnd import ChannelClosed, PolicyAnnounced, StreamRestarted
from lnagents.model.graph import Channel, ChannelPolicy, LocalChannel, NetworkGraph
from lnagents.model.payment import Forward, HtlcEvent, HtlcEventKind, HtlcRole

OWN, LEFT, RIGHT, FAR = ("02" + digit * 64 for digit in "1234")
CAPACITY = 1_000_000_000


def _channel(scid: int, one: str, other: str, ppm: int = 1) -> Channel:
    policy = ChannelPolicy(fee_rate_ppm=ppm)
    return Channel(scid, f"{scid}:0", one, other, CAPACITY, policy, policy)


GRAPH = NetworkGraph(
    {LEFT: "left"},
    {
        1: _channel(1, OWN, LEFT),
        2: _channel(2, OWN, RIGHT),
        3: _channel(3, RIGHT, FAR, ppm=70),
        4: _channel(4, LEFT, RIGHT, ppm=90),
    },
)


def _local(scid: int, peer: str, balance: int) -> LocalChannel:
    return LocalChannel(
        scid, f"{scid}:0", peer, CAPACITY, balance, CAPACITY - balance,
        0, 0, 0, 0, 0, False, True, False, 0, 483,
    )  # fmt: skip


class ScriptedNode:
    """A node with fixed streams."""

    def __init__(self) -> None:
        self.balances = {1: 500_000_000, 2: 500_000_000}
        self.history: list[Forward] = []
        self.updates: Sequence[Any] = ()

    async def graph(self) -> NetworkGraph:
        return GRAPH

    async def channels(self) -> tuple[LocalChannel, ...]:
        return (
            _local(1, LEFT, self.balances[1]),
            _local(2, RIGHT, self.balances[2]),
        )

    async def channel(self, scid: int) -> Channel:
        return _channel(scid, RIGHT, FAR, ppm=10)

    async def forwards(self, start: float, end: float) -> tuple[Forward, ...]:
        return tuple(one for one in self.history if start <= one.timestamp_ns / 1e9 <= end)

    async def graph_updates(self) -> AsyncIterator[Any]:
        for update in (StreamRestarted("graph", 0), *self.updates):
            yield update


Watched = tuple[Observer, ScriptedNode, RouteFinder]


@pytest_asyncio.fixture(loop_scope="session")
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    store = await Store.open(tmp_path / "agent.sqlite")
    node = ScriptedNode()
    finder = RouteFinder(OWN, Liquidity(3_600.0))
    observer = Observer(cast(Any, node), store, finder, OWN)
    await observer.load()
    yield observer, node, finder
    await store.close()


def _event(kind: HtlcEventKind, role: HtlcRole, number: int, **amounts: int) -> HtlcEvent:
    incoming = 0 if role is HtlcRole.SEND else 1
    outgoing = 0 if role is HtlcRole.RECEIVE else 2
    return HtlcEvent(
        kind,
        role,
        time.time_ns() + number,
        incoming,
        number,
        outgoing,
        number,
        incoming_amount_msat=amounts.get("incoming", 0),
        outgoing_amount_msat=amounts.get("outgoing", 0),
    )


async def test_a_round_has_what_happened_in_it_and_no_more(watched: Watched) -> None:
    observer, node, _ = watched
    await observer.watch_graph()
    await observer.wait_ready(1.0)
    await observer.view(1)
    forward = HtlcRole.FORWARD
    for number, end in enumerate(
        (HtlcEventKind.SETTLE, HtlcEventKind.FORWARD_FAIL, HtlcEventKind.SETTLE)
    ):
        amounts = {"incoming": 1_010_000, "outgoing": 1_000_000}
        observer.on_htlc(_event(HtlcEventKind.FORWARD, forward, number, **amounts))
        observer.on_htlc(_event(end, forward, number))
        observer.on_htlc(_event(HtlcEventKind.FINAL, HtlcRole.RECEIVE, number))
    observer.on_htlc(_event(HtlcEventKind.LINK_FAIL, forward, 7, incoming=5, outgoing=4))
    observer.on_htlc(_event(HtlcEventKind.FORWARD, HtlcRole.SEND, 8, outgoing=300_000))
    observer.on_htlc(_event(HtlcEventKind.SETTLE, HtlcRole.SEND, 8))
    observer.on_htlc(_event(HtlcEventKind.SETTLE, HtlcRole.RECEIVE, 9))
    # Forwarded in 2.02 M, and received 0.7 M.
    node.balances = {1: 502_720_000, 2: 497_700_000}
    view = await observer.view(2)
    incoming, outgoing = view.channels
    assert incoming.flow.forwarded_in_msat == 2_020_000
    assert incoming.flow.received_msat == 700_000
    assert outgoing.flow.forwarded_out_msat == 2_000_000
    assert outgoing.flow.fees_earned_msat == 20_000
    assert (outgoing.flow.forwards, outgoing.flow.failed_forwards) == (2, 2)
    assert outgoing.flow.sent_msat == 300_000
    assert outgoing.competing_ppm == 80
    assert observer.alias(LEFT) == "left"
    empty = await observer.view(3)
    assert all(channel.flow.forwards == 0 for channel in empty.channels)


async def test_fees_are_counted_once_whether_events_or_history_tell_them(watched: Watched) -> None:
    observer, node, _ = watched
    for number in range(3):
        amounts = {"incoming": 110, "outgoing": 100}
        observer.on_htlc(_event(HtlcEventKind.FORWARD, HtlcRole.FORWARD, number, **amounts))
        observer.on_htlc(_event(HtlcEventKind.SETTLE, HtlcRole.FORWARD, number))
    assert (observer.forwards, observer.fees_earned_msat) == (3, 30)
    now = time.time_ns()
    # The node's history has them late, and some from before this process.
    node.history = [Forward(now - 10**9 + n, 1, 2, 110, 100, 10) for n in range(2)]
    await observer.sync_forwards()
    assert (observer.forwards, observer.fees_earned_msat) == (5, 50)
    node.history += [Forward(now + 10**9 + n, 1, 2, 110, 100, 10) for n in range(3)]
    await observer.sync_forwards()
    await observer.sync_forwards()
    assert (observer.forwards, observer.fees_earned_msat) == (5, 50)


async def test_gossip_reaches_views_and_routes(watched: Watched) -> None:
    observer, node, finder = watched
    changed = replace(GRAPH.channels[2], policy1=ChannelPolicy(fee_rate_ppm=55))
    opened = _channel(9, RIGHT, FAR, ppm=10)
    node.updates = (
        PolicyAnnounced(changed.edge_from(OWN)),
        PolicyAnnounced(opened.edge_from(RIGHT)),
        ChannelClosed(3, 200),
    )
    await observer.watch_graph()
    view = await observer.view(1)
    assert view.channels[1].policy.fee_rate_ppm == 55
    assert view.channels[1].found_policy == view.channels[1].policy
    assert set(view.graph.channels) == {1, 2, 4, 9}
    assert view.channels[1].competing_ppm == 50
    assert finder.edge(3, RIGHT) is None
    assert finder.edge(9, RIGHT) is not None
