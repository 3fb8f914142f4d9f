"""What agents decide happens: fees, admission, the next channel."""

from __future__ import annotations

from dataclasses import replace

from lnagents.env.conformance.common import (
    Passage,
    channel_of,
    decide,
    expect,
    find_passage,
    find_passages,
    pay,
    same_fees,
)
from lnagents.env.world import RoundPayment, World
from lnagents.model.graph import ChannelPolicy
from lnagents.model.units import NodeKey, ShortChannelId
from lnagents.model.view import (
    ChannelDecision,
    NodeDecision,
)


def check_policies(world: World) -> None:
    """What an agent decides is announced, known to the others, and charged."""
    world.reset(8)
    passage = find_passage(world)
    key, scid = passage.forwarder, passage.outgoing_scid
    found = channel_of(world.observe()[key], scid).policy
    decide(world, key, scid, ChannelDecision(fee_rate_ppm=7))
    _expect_policy(world, key, scid, replace(found, fee_rate_ppm=7))
    world.run([])
    decide(world, key, scid, ChannelDecision(base_fee_msat=0, inbound_fee_rate_ppm=-3))
    wanted = replace(found, base_fee_msat=0, fee_rate_ppm=7, inbound_fee_rate_ppm=-3)
    world.run([])
    _expect_policy(world, key, scid, wanted)
    expect(channel_of(world.observe()[key], scid).found_policy == found, "what was found changed")
    for other, view in world.observe().items():
        announced = view.graph.channels[scid].edge_from(key).policy
        expect(
            announced is not None and same_fees(announced, wanted),
            f"{other} has not heard of the new policy",
        )
    again = passage.found_again(world)
    fee = wanted.outbound_fee(again.route.hops[0].amount_msat)
    expect(again.route.hops[0].fee_msat == fee, f"senders do not reckon with the fee {fee} msat")
    outcome = pay(world, RoundPayment(again.intent, route=again.route))
    expect(outcome.settled, f"a payment at the new fee failed: {outcome.reason}")
    earned = channel_of(world.observe()[key], scid).flow.fees_earned_msat
    expect(earned == fee, f"{earned} msat were earned, not {fee}")


def _expect_policy(world: World, key: NodeKey, scid: ShortChannelId, wanted: ChannelPolicy) -> None:
    seen = channel_of(world.observe()[key], scid).policy
    expect(same_fees(seen, wanted), f"{key} announces {seen}, but decided {wanted}")


def check_strangers(world: World) -> None:
    """A decision about what an agent has not got is refused."""
    world.reset(9)
    (key, view), (other, _) = list(world.observe().items())[:2]
    own = view.channels[0].scid
    foreign = next(one.scid for one in world.truth() if other not in (one.node1, one.node2))
    decision = ChannelDecision(fee_rate_ppm=1)
    for target, scid in (("02" + "00" * 32, own), (other, foreign), (key, 1)):
        try:
            decide(world, target, scid, decision)
        except ValueError:
            continue
        raise AssertionError(f"a decision of {target} about channel {scid} was taken")


def check_admission(world: World) -> None:
    """What an agent keeps for payments with priority is refused to the others."""
    world.reset(15)
    passage = find_passage(world)
    key, scid = passage.forwarder, passage.outgoing_scid
    decide(world, key, scid, ChannelDecision(reserved_share=1.0))
    plain = RoundPayment(passage.intent, route=passage.route)
    expect(not pay(world, plain).settled, "a payment without priority was let through")
    flow = channel_of(world.observe()[key], scid).flow
    expect((flow.forwards, flow.failed_forwards) == (0, 1), "the refusal was not counted once")
    world.reset(15)
    share = _spare_share(world, passage)
    decide(world, key, scid, ChannelDecision(reserved_share=share))
    expect(not pay(world, plain).settled, "a payment without priority was let through")
    expect(pay(world, replace(plain, priority=True)).settled, "priority did not help")
    decide(world, key, scid, ChannelDecision(reserved_share=0.0))
    expect(pay(world, plain).settled, "a channel that keeps nothing refused")


def _spare_share(world: World, passage: Passage) -> float:
    """A share of the capacity that the payment would break into."""
    channel = channel_of(world.observe()[passage.forwarder], passage.outgoing_scid)
    return channel.local_balance_msat / channel.capacity_msat


def check_next_channel(world: World) -> None:
    """A payment that is routed hop by hop leaves by the channel that the forwarder prefers."""
    world.reset(16)
    passage, preferred, beyond = _alternative(world)
    # Both ways cost nothing, and no other way to the receiver is as cheap.
    free = ChannelDecision(fee_rate_ppm=0, base_fee_msat=0)
    views = world.observe()
    world.apply(
        {
            key: NodeDecision({channel.scid: free for channel in views[key].channels})
            for key in (passage.forwarder, beyond)
        }
    )
    world.run([])
    sender = world.agents[passage.intent.source]
    for scid in (preferred, passage.outgoing_scid):
        wanted = {sender: passage.route.hops[0].scid, passage.forwarder: scid}
        world.apply(
            {
                key: NodeDecision(
                    {
                        channel.scid: ChannelDecision(preference=float(channel.scid == first))
                        for channel in views[key].channels
                    }
                )
                for key, first in wanted.items()
            }
        )
        outcome = pay(world, RoundPayment(passage.intent, hop_by_hop=True))
        expect(outcome.settled, f"a payment hop by hop failed: {outcome.reason}")
        view = world.observe()[passage.forwarder]
        passed = {c.scid: c.flow.forwards for c in view.channels if c.flow.forwards}
        expect(passed == {scid: 1}, f"it left by {passed}, the preferred channel is {scid}")


def _alternative(world: World) -> tuple[Passage, ShortChannelId, NodeKey]:
    """A payment over one forwarder, which has another way on: by that channel, over that node.

    The sender has no channel to that node, so it would not choose it by itself.
    """
    ends = {one.scid: (one.node1, one.node2) for one in world.truth()}
    joined = {pair for one, other in ends.values() for pair in ((one, other), (other, one))}
    for passage in find_passages(world):
        source, destination = (
            world.agents[name] for name in (passage.intent.source, passage.intent.destination)
        )
        if len(passage.route.hops) != 2:
            continue
        for scid, (one, other) in ends.items():
            if passage.forwarder not in (one, other):
                continue
            beyond = other if one == passage.forwarder else one
            strange = beyond not in (source, destination) and (source, beyond) not in joined
            if strange and (beyond, destination) in joined:
                return passage, scid, beyond
    raise AssertionError("no forwarder has a way on of its own")
