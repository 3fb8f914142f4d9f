"""The barrier against nodes whose gossip is under control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from lnagents.lnd import LndClient
from lnagents.model.errors import SettleTimeoutError
from lnagents.model.graph import Channel, ChannelPolicy, NetworkGraph
from lnagents.model.topology import Profile
from lnagents.model.units import NodeKey
from lnagents.testbed import gossip
from lnagents.testbed.gossip import Network, wait_gossip

KEYS = {"alice": "02aa", "bob": "02bb", "carol": "02cc"}
OLD = ChannelPolicy(fee_rate_ppm=1, last_update=100)
NEW = ChannelPolicy(fee_rate_ppm=9, last_update=200)


def channel(policy1: ChannelPolicy | None, policy2: ChannelPolicy | None) -> Channel:
    """The channel between alice and bob."""
    return Channel(7, "f:0", KEYS["alice"], KEYS["bob"], 10**9, policy1, policy2)


class FakeNode:
    """A node that knows one channel; `pending` policies arrive look by look."""

    def __init__(self, *views: Channel | None) -> None:
        self._views = list(views)
        self.looks = 0
        self.sent: list[ChannelPolicy] = []
        self.on_send: Callable[[], None] = lambda: None

    async def graph(self) -> NetworkGraph:
        self.looks += 1
        view = self._views[0] if len(self._views) == 1 else self._views.pop(0)
        return NetworkGraph(channels={} if view is None else {7: view})

    async def channel(self, scid: int) -> Channel:
        view = self._views[0]
        assert view is not None
        return view

    async def set_policy(self, channel_point: str, policy: ChannelPolicy) -> None:
        assert channel_point == "f:0"
        self.sent.append(policy)
        self.on_send()

    def show(self, view: Channel) -> None:
        self._views = [view]


def network(**nodes: FakeNode) -> Network:
    keys: dict[str, NodeKey] = {name: KEYS[name] for name in nodes}
    clients = {name: cast(LndClient, node) for name, node in nodes.items()}
    return Network(clients, keys, Profile.FAST)


async def test_it_opens_once_the_last_node_has_the_owners_policy() -> None:
    alice, bob = FakeNode(channel(NEW, OLD)), FakeNode(channel(NEW, OLD))
    carol = FakeNode(None, channel(None, OLD), channel(OLD, OLD), channel(NEW, OLD))
    await wait_gossip(network(alice=alice, bob=bob, carol=carol), timeout=5)
    assert carol.looks == 4
    # Those who know are not asked again.
    assert (alice.looks, bob.looks) == (1, 1)


async def test_a_stale_view_of_the_peer_itself_counts() -> None:
    alice, bob = FakeNode(channel(NEW, OLD)), FakeNode(channel(OLD, OLD), channel(NEW, OLD))
    await wait_gossip(network(alice=alice, bob=bob), timeout=5)
    assert bob.looks == 2


async def test_it_says_who_does_not_know_what() -> None:
    alice, bob = FakeNode(channel(NEW, OLD)), FakeNode(channel(NEW, OLD))
    carol = FakeNode(channel(OLD, OLD))
    sentence = "carol does not know the policy of alice on channel 0x0x7"
    with pytest.raises(SettleTimeoutError, match=sentence):
        await wait_gossip(network(alice=alice, bob=bob, carol=carol), timeout=0.2)


async def test_it_waits_for_the_announcement_of_both_sides_and_of_all_channels() -> None:
    alice, bob = FakeNode(channel(NEW, None)), FakeNode(channel(NEW, None), channel(NEW, OLD))
    with pytest.raises(SettleTimeoutError, match="bob has not announced its side"):
        await wait_gossip(network(alice=alice, bob=FakeNode(channel(NEW, None))), timeout=0.1)
    with pytest.raises(SettleTimeoutError, match="1 of 2 channels are announced"):
        await wait_gossip(
            network(alice=FakeNode(channel(NEW, OLD)), bob=FakeNode(channel(NEW, OLD))),
            timeout=0.1,
            channels=2,
        )
    alice.show(channel(NEW, OLD))
    await wait_gossip(network(alice=alice, bob=bob), timeout=5, channels=1)


async def test_a_newer_policy_than_the_one_waited_for_is_current() -> None:
    newest = replace(NEW, fee_rate_ppm=11, last_update=300)
    alice, bob = FakeNode(channel(NEW, OLD)), FakeNode(channel(newest, OLD))
    assert await wait_gossip(network(alice=alice, bob=bob), timeout=1) < 1


async def test_a_dropped_update_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gossip._SEND_AGAIN_SECONDS, Profile.FAST, 0.1)
    alice, bob = FakeNode(channel(NEW, OLD)), FakeNode(channel(OLD, OLD))
    # The second one arrives.
    alice.on_send = lambda: bob.show(channel(replace(NEW, last_update=201), OLD))
    await wait_gossip(network(alice=alice, bob=bob), timeout=5)
    assert alice.sent == [NEW]


async def test_what_the_owner_changed_meanwhile_is_not_sent_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(gossip._SEND_AGAIN_SECONDS, Profile.FAST, 0.05)
    newest = replace(NEW, fee_rate_ppm=11, last_update=300)
    alice, bob = FakeNode(channel(NEW, OLD), channel(newest, OLD)), FakeNode(channel(OLD, OLD))
    with pytest.raises(SettleTimeoutError):
        await wait_gossip(network(alice=alice, bob=bob), timeout=0.3)
    assert alice.sent == []
