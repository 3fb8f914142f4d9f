"""A watched node: what its agent sees of it, also while it is off."""

from __future__ import annotations

import asyncio
import time

import pytest

from lnagents.env.live.node import Ledger, LiveNode, change_policy, wait_quiet, within
from lnagents.model.errors import NodeTimeoutError
from lnagents.model.graph import ChannelPolicy
from lnagents.model.payment import HtlcEvent, HtlcEventKind, HtlcRole, PaymentOutcome
from lnagents.model.view import ChannelFlow
from tests.unit.env.live.nodes import (
    FAR,
    LEFT,
    OWN,
    RIGHT,
    ScriptedNode,
    live_node,
    local,
    public,
)


@pytest.fixture(name="script")
def _script() -> ScriptedNode:
    graph = {
        2: public(2, OWN, LEFT),
        3: public(3, OWN, RIGHT),
        4: public(4, LEFT, FAR),
        5: public(5, RIGHT, FAR),
    }
    return ScriptedNode([local(3, RIGHT), local(2, LEFT)], graph)


def forward(kind: HtlcEventKind) -> HtlcEvent:
    return HtlcEvent(
        kind, HtlcRole.FORWARD, 1, 2, 9, 3, 9, incoming_amount_msat=110, outgoing_amount_msat=100
    )


async def test_a_round_shows_what_passed_in_it(script: ScriptedNode) -> None:
    node = live_node(script)
    await node.begin_episode()
    node.flows.on_event(forward(HtlcEventKind.FORWARD))
    node.flows.on_event(forward(HtlcEventKind.SETTLE))
    outcome = PaymentOutcome(0, "own", "far", 5_000, False, 0, 2, 2, 0.0, 1.0, "no_route")
    node.ledger = Ledger().after(outcome)
    await wait_quiet([node], 1.0)
    await node.end_round()
    view = node.view(1, 123.0)
    assert (view.round, view.time, view.node) == (1, 123.0, OWN)
    assert [channel.scid for channel in view.channels] == [2, 3]
    assert view.channels[0].flow == ChannelFlow(forwarded_in_msat=110)
    assert view.channels[1].flow.fees_earned_msat == 10
    assert view.channels[0].found_policy == view.channels[0].policy == ChannelPolicy()
    assert view.channels[0].competing_ppm == 1
    assert (view.payments_settled, view.payments_failed, view.failed_attempts) == (0, 1, 2)
    await node.begin_episode()
    view = node.view(0, 124.0)
    assert all(channel.flow == ChannelFlow() for channel in view.channels)
    assert view.payments_failed == 0


async def test_a_node_that_is_off_shows_its_channels_as_inactive(script: ScriptedNode) -> None:
    node = live_node(script)
    await node.begin_episode()
    node.flows.on_event(forward(HtlcEventKind.FORWARD))
    node.flows.on_event(forward(HtlcEventKind.SETTLE))
    script.down = True
    await wait_quiet([node], 1.0)
    await node.end_round()
    assert not node.up
    view = node.view(1, 0.0)
    assert [channel.scid for channel in view.channels] == [2, 3]
    assert not any(channel.active for channel in view.channels)
    assert all(channel.flow == ChannelFlow() for channel in view.channels)
    script.down = False
    await node.look()
    assert all(channel.active for channel in node.view(1, 0.0).channels)


async def test_the_end_of_a_round_waits_for_late_events(script: ScriptedNode) -> None:
    node = live_node(script)
    await node.begin_episode()
    node.flows.on_event(forward(HtlcEventKind.FORWARD))
    ending = asyncio.ensure_future(node.end_round())
    await asyncio.sleep(0.05)
    assert not ending.done()
    node.flows.on_event(forward(HtlcEventKind.SETTLE))
    await ending
    assert node.passed[3].forwards == 1


async def test_quiet_is_waited_for_only_so_long(script: ScriptedNode) -> None:
    node: LiveNode = live_node(script)
    script.local = [local(2, LEFT, pending=1)]
    waiting = asyncio.ensure_future(wait_quiet([node], 30.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    script.local = [local(2, LEFT)]
    await waiting
    script.local = [local(2, LEFT, pending=1)]
    await wait_quiet([node], 0.05)
    assert node.known[0].pending_htlcs == 1


async def test_a_policy_is_announced_only_if_it_changes(script: ScriptedNode) -> None:
    node = live_node(script)
    await node.look()
    channel = node.known[0]
    await change_policy(node, channel, lambda policy: policy)
    assert not script.policies
    wanted = ChannelPolicy(fee_rate_ppm=9)
    await change_policy(node, channel, lambda _: wanted)
    assert script.policies == [("2:0", wanted)]


async def test_an_update_waits_for_the_next_second(script: ScriptedNode) -> None:
    node = live_node(script)
    await node.look()
    now = time.time()
    recent = ChannelPolicy(last_update=int(now))
    known = script.graph_channels[2]
    script.graph_channels[2] = type(known)(2, "2:0", OWN, LEFT, 1, recent, recent)
    await change_policy(node, node.known[0], lambda _: ChannelPolicy(fee_rate_ppm=9))
    assert time.time() > int(now) + 1


async def test_a_node_that_does_not_answer_is_not_waited_for() -> None:
    with pytest.raises(NodeTimeoutError, match=r"0\.05 s"):
        await within(asyncio.sleep(60), 0.05)
