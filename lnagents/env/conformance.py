"""What every `World` must do, as checks that anybody can run on theirs.

    check_world(TwinWorld.of_topology(load_topology("default")))

or, one test each,

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_world(check: Check, my_world: World) -> None:
        check(my_world)

The checks need a world in which every node has an agent and there are two ways between some two
nodes, as on the default topology. They reset it first and leave it as their payments left it. A
live node reports balances in whole satoshi, so amounts may be off by `ROUNDING_MSAT`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from lnagents.env.routes import RouteCandidate
from lnagents.env.world import RoundPayment, World
from lnagents.model.graph import ChannelPolicy
from lnagents.model.payment import PaymentOutcome, Route
from lnagents.model.units import MSAT_PER_SAT, Msat, NodeKey, ShortChannelId
from lnagents.model.view import (
    ChannelDecision,
    ChannelFlow,
    ChannelView,
    NodeDecision,
    NodeView,
)
from lnagents.model.workload import PaymentIntent

ROUNDING_MSAT = 2 * MSAT_PER_SAT
"""What one balance may be off: both readings of it are rounded down to a satoshi."""

AMOUNT_MSAT = 10_000_000
"""Of a payment that any channel can carry."""

Check: TypeAlias = Callable[[World], None]
"""Raises `AssertionError` with a sentence if a world does not do what it must."""


def check_world(world: World) -> None:
    """Run all checks, one after the other.

    Raises:
        AssertionError: naming what the world does wrong.
    """
    for check in CHECKS:
        check(world)


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise AssertionError(problem)


def _near(one: Msat, other: Msat, roundings: int = 1) -> bool:
    return abs(one - other) <= roundings * ROUNDING_MSAT


@dataclass(frozen=True, slots=True)
class _Passage:
    """A payment that passes an agent."""

    intent: PaymentIntent
    candidate: RouteCandidate
    forwarder: NodeKey
    """Of the first node after the sender."""
    outgoing_scid: ShortChannelId
    """By which it sends the payment on."""

    @property
    def route(self) -> Route:
        return self.candidate.route

    def found_again(self, world: World) -> _Passage:
        """The same payment over the same channels, as its sender would make it now."""
        for candidate in world.candidates([self.intent], 5)[0]:
            if candidate.route.scids == self.route.scids:
                return replace(self, candidate=candidate)
        raise AssertionError(f"the route {self.route.scids} is no candidate any more")


def _intent(source: str, destination: str, amount: Msat = AMOUNT_MSAT) -> PaymentIntent:
    return PaymentIntent(0, 0.0, source, destination, amount)


def _passages(world: World) -> Iterator[_Passage]:
    agents = set(world.agents.values())
    for source, destination in itertools.permutations(world.agents, 2):
        intent = _intent(source, destination)
        for candidate in world.candidates([intent], 3)[0]:
            hops = candidate.route.hops
            if len(hops) > 1 and hops[0].target in agents:
                yield _Passage(intent, candidate, hops[0].target, hops[1].scid)


def _passage(world: World) -> _Passage:
    for passage in _passages(world):
        return passage
    raise AssertionError("no payment between two agents passes a third")


def _pay(world: World, payment: RoundPayment) -> PaymentOutcome:
    outcomes = world.run([payment])
    _expect(len(outcomes) == 1, f"{len(outcomes)} outcomes came of 1 payment")
    return outcomes[0]


def _channel(view: NodeView, scid: ShortChannelId) -> ChannelView:
    for channel in view.channels:
        if channel.scid == scid:
            return channel
    raise AssertionError(f"the view of {view.node} lacks channel {scid}")


def _decide(world: World, key: NodeKey, scid: ShortChannelId, decision: ChannelDecision) -> None:
    world.apply({key: NodeDecision({scid: decision})})


# ---- Checks


def check_names(world: World) -> None:
    """Agents are nodes, with the same keys, in an order that stays."""
    agents, nodes = dict(world.agents), dict(world.nodes)
    _expect(bool(agents), "there are no agents")
    _expect(agents.items() <= nodes.items(), "an agent is no node, or has another key there")
    _expect(list(world.agents) == list(agents), "the agents' order changes")
    _expect(world.round_seconds > 0.0, f"a round lasts {world.round_seconds} s")
    world.reset(1)
    _expect(list(world.agents) == list(agents), "a reset changes the agents' names or order")
    most = max(len(view.channels) for view in world.observe().values())
    _expect(world.max_channels == most, f"max_channels is {world.max_channels}, not {most}")


def check_first_views(world: World) -> None:
    """After a reset each agent sees its own channels, as it found them, and no flow."""
    world.reset(2)
    views = world.observe()
    _expect(list(views) == list(world.agents.values()), "not one view per agent, in their order")
    truth = {one.scid: one for one in world.truth()}
    for key, view in views.items():
        _expect(view.node == key, f"the view of {key} says it is of {view.node}")
        own = sorted(s for s, one in truth.items() if key in (one.node1, one.node2))
        seen = [channel.scid for channel in view.channels]
        _expect(seen == own, f"{key} sees channels {seen}, but has {own}")
        _expect(set(own) <= set(view.graph.channels), f"{key} misses own channels in its graph")
        counted = (view.fees_paid_msat, view.payments_settled, view.payments_failed)
        _expect(counted == (0, 0, 0), f"{key} has counted payments before there were any")
        for channel in view.channels:
            one = truth[channel.scid]
            balance = one.balance1_msat if key == one.node1 else one.balance2_msat
            _expect(channel.active, f"channel {channel.scid} is not active at the beginning")
            _expect(channel.flow == ChannelFlow(), f"channel {channel.scid} has a flow")
            _expect(channel.found_policy == channel.policy, "the policy found is another one")
            _expect(
                _near(channel.local_balance_msat, balance),
                f"{key} sees {channel.local_balance_msat} msat of its own, the truth is {balance}",
            )


def check_observing(world: World) -> None:
    """Looking changes nothing."""
    world.reset(3)
    world.run([RoundPayment(_passage(world).intent)])
    _expect(world.observe() == world.observe(), "a second look shows something else")


def check_payment(world: World) -> None:
    """A payment moves what it should, and everybody on its way counts it."""
    world.reset(4)
    passage = _passage(world)
    before = world.observe()
    outcome = _pay(world, RoundPayment(passage.intent, route=passage.route))
    _expect(outcome.settled, f"a payment along a candidate route failed: {outcome.reason}")
    fee = passage.route.fee_msat
    _expect(outcome.fee_msat == fee, f"it cost {outcome.fee_msat} msat, the route says {fee}")
    _expect((outcome.attempts, outcome.failed_attempts) == (1, 0), "it took not one attempt")
    after = world.observe()
    source, destination = (
        after[world.agents[name]] for name in (passage.intent.source, passage.intent.destination)
    )
    first = _channel(source, passage.route.hops[0].scid)
    last = _channel(destination, passage.route.hops[-1].scid)
    total = passage.route.total_amount_msat
    _expect(first.flow.sent_msat == total, f"{first.flow.sent_msat} msat were sent, not {total}")
    _expect(_near(last.flow.received_msat, AMOUNT_MSAT), "the receipt was not counted")
    _expect(source.payments_settled == 1, "the sender has not counted its payment")
    _expect(source.fees_paid_msat == fee, "the sender has not counted its fee")
    earned = sum(c.flow.fees_earned_msat for view in after.values() for c in view.channels)
    _expect(earned == fee, f"forwarders earned {earned} of {fee} msat")
    passed = _channel(after[passage.forwarder], passage.outgoing_scid).flow
    _expect(passed.forwards == 1, "the forwarder has not counted the forward")
    left = _channel(before[source.node], first.scid).local_balance_msat - total
    _expect(_near(first.local_balance_msat, left), "the sender's balance did not fall by that")
    world.run([])
    quiet = world.observe()
    flows = {channel.flow for view in quiet.values() for channel in view.channels}
    _expect(flows == {ChannelFlow()}, "flows of one round are counted in the next")


def check_privacy(world: World) -> None:
    """What passes between others shows in nobody's view of its own channels."""
    world.reset(5)
    passage = _passage(world)
    before = world.observe()
    outcome = _pay(world, RoundPayment(passage.intent, route=passage.route))
    _expect(outcome.settled, f"a payment along a candidate route failed: {outcome.reason}")
    used = set(passage.route.scids)
    for key, view in world.observe().items():
        for channel in view.channels:
            if channel.scid not in used:
                same = channel == _channel(before[key], channel.scid)
                _expect(same, f"{key} sees in channel {channel.scid} what passed elsewhere")


def check_impossible_payment(world: World) -> None:
    """A payment that nobody could make fails at once and costs nothing."""
    world.reset(6)
    source, destination = list(world.agents)[:2]
    amount = sum(channel.capacity_msat for channel in world.truth())
    outcome = _pay(world, RoundPayment(_intent(source, destination, amount)))
    _expect(not outcome.settled, "more was paid than there is")
    _expect(outcome.reason != "", "a failed payment has no reason")
    _expect((outcome.fee_msat, outcome.attempts) == (0, 0), "it was tried, or it cost a fee")
    view = world.observe()[world.agents[source]]
    _expect((view.payments_settled, view.payments_failed) == (0, 1), "it was not counted")


def check_many_payments(world: World) -> None:
    """The sums of all views are those of the outcomes."""
    world.reset(7)
    rng = random.Random(7)  # noqa: S311 - payments are no secret
    names = list(world.agents)
    payments = []
    for index in range(20):
        source, destination = rng.sample(names, 2)
        at = index * world.round_seconds / 40
        amount = rng.randrange(1_000, 50_000) * MSAT_PER_SAT
        payments.append(RoundPayment(PaymentIntent(index, at, source, destination, amount)))
    held_before = _held(world)
    outcomes = world.run(payments)
    _expect([one.index for one in outcomes] == list(range(20)), "outcomes are not in order")
    views = world.observe()
    settled = [one for one in outcomes if one.settled]
    _expect(len(settled) > 10, f"only {len(settled)} of 20 payments settled")
    for name, key in world.agents.items():
        own = [one for one in outcomes if one.source == name]
        view = views[key]
        counted = (view.payments_settled, view.payments_failed, view.failed_attempts)
        expected = (
            sum(one.settled for one in own),
            sum(not one.settled for one in own),
            sum(one.failed_attempts for one in own),
        )
        _expect(counted == expected, f"{name} has counted {counted}, the outcomes say {expected}")
    flows = [channel.flow for view in views.values() for channel in view.channels]
    fees = sum(one.fee_msat for one in settled)
    amounts = sum(one.amount_msat for one in settled)
    _expect(sum(f.fees_earned_msat for f in flows) == fees, "fees paid are not fees earned")
    _expect(sum(f.sent_msat for f in flows) == amounts + fees, "what was sent is not counted")
    received = sum(flow.received_msat for flow in flows)
    _expect(_near(received, amounts, len(flows)), f"{received} of {amounts} msat were received")
    _expect(_near(_held(world), held_before, len(flows)), "money was made or lost")


def _held(world: World) -> Msat:
    return sum(one.balance1_msat + one.balance2_msat for one in world.truth())


def check_policies(world: World) -> None:
    """What an agent decides is announced, known to the others, and charged."""
    world.reset(8)
    passage = _passage(world)
    key, scid = passage.forwarder, passage.outgoing_scid
    found = _channel(world.observe()[key], scid).policy
    _decide(world, key, scid, ChannelDecision(fee_rate_ppm=7))
    _expect_policy(world, key, scid, replace(found, fee_rate_ppm=7))
    world.run([])
    _decide(world, key, scid, ChannelDecision(base_fee_msat=0, inbound_fee_rate_ppm=-3))
    wanted = replace(found, base_fee_msat=0, fee_rate_ppm=7, inbound_fee_rate_ppm=-3)
    world.run([])
    _expect_policy(world, key, scid, wanted)
    _expect(_channel(world.observe()[key], scid).found_policy == found, "what was found changed")
    for other, view in world.observe().items():
        announced = view.graph.channels[scid].edge_from(key).policy
        _expect(
            announced is not None and _same_fees(announced, wanted),
            f"{other} has not heard of the new policy",
        )
    again = passage.found_again(world)
    fee = wanted.outbound_fee(again.route.hops[0].amount_msat)
    _expect(again.route.hops[0].fee_msat == fee, f"senders do not reckon with the fee {fee} msat")
    outcome = _pay(world, RoundPayment(again.intent, route=again.route))
    _expect(outcome.settled, f"a payment at the new fee failed: {outcome.reason}")
    earned = _channel(world.observe()[key], scid).flow.fees_earned_msat
    _expect(earned == fee, f"{earned} msat were earned, not {fee}")


def _expect_policy(world: World, key: NodeKey, scid: ShortChannelId, wanted: ChannelPolicy) -> None:
    seen = _channel(world.observe()[key], scid).policy
    _expect(_same_fees(seen, wanted), f"{key} announces {seen}, but decided {wanted}")


def _same_fees(one: ChannelPolicy, other: ChannelPolicy) -> bool:
    return replace(one, last_update=0) == replace(other, last_update=0)


def check_strangers(world: World) -> None:
    """A decision about what an agent has not got is refused."""
    world.reset(9)
    (key, view), (other, _) = list(world.observe().items())[:2]
    own = view.channels[0].scid
    foreign = next(one.scid for one in world.truth() if other not in (one.node1, one.node2))
    decision = ChannelDecision(fee_rate_ppm=1)
    for target, scid in (("02" + "00" * 32, own), (other, foreign), (key, 1)):
        try:
            _decide(world, target, scid, decision)
        except ValueError:
            continue
        raise AssertionError(f"a decision of {target} about channel {scid} was taken")


def check_route_at_new_fee(world: World) -> None:
    """A chosen route is paid at what its forwarders ask for when it is used."""
    world.reset(10)
    passage = _passage(world)
    key, scid = passage.forwarder, passage.outgoing_scid
    _decide(world, key, scid, ChannelDecision(fee_rate_ppm=5_000, base_fee_msat=11))
    outcome = _pay(world, RoundPayment(passage.intent, route=passage.route))
    _expect(outcome.settled, f"a payment at the new fee failed: {outcome.reason}")
    channel = _channel(world.observe()[key], scid)
    fee = channel.policy.outbound_fee(passage.route.hops[0].amount_msat)
    _expect(channel.flow.fees_earned_msat == fee, "the forwarder did not earn its new fee")


def check_candidates(world: World) -> None:
    """Candidates differ, and are what an agent can judge."""
    world.reset(11)
    intents = [_intent(a, b) for a, b in itertools.permutations(list(world.agents)[:4], 2)]
    offers = world.candidates(intents, 3)
    _expect(len(offers) == len(intents), "not one offer per payment")
    _expect(max(map(len, offers)) > 1, "there is never more than one candidate")
    for intent, offer in zip(intents, offers, strict=True):
        _expect(1 <= len(offer) <= 3, f"{len(offer)} candidates for {intent}")
        ways = {candidate.route.scids for candidate in offer}
        _expect(len(ways) == len(offer), f"two candidates for {intent} are the same")
        for candidate in offer:
            route = candidate.route
            ends = (route.amount_msat, route.hops[-1].target)
            wanted = (intent.amount_msat, world.nodes[intent.destination])
            _expect(ends == wanted, f"a candidate for {intent} pays something else")
            _expect(0.0 < candidate.probability <= 1.0, "a chance is not between 0 and 1")
            _expect(0.0 <= candidate.local_share_after <= 1.0, "a share is not between 0 and 1")
            _expect(candidate.information_age_seconds is None, "there is knowledge after a reset")


def check_reset(world: World) -> None:
    """A reset brings back balances, policies and ignorance."""
    world.reset(12)
    passage = _passage(world)
    truth, fresh = world.truth(), passage.candidate
    world.apply(
        {
            key: NodeDecision(
                {
                    channel.scid: ChannelDecision(
                        fee_rate_ppm=321, base_fee_msat=45, preference=1.0, reserved_share=0.3
                    )
                    for channel in view.channels
                }
            )
            for key, view in world.observe().items()
        }
    )
    for _ in range(2):
        world.run([RoundPayment(passage.intent), RoundPayment(replace(passage.intent, index=1))])
    world.reset(13)
    for was, now in zip(truth, world.truth(), strict=True):
        place = f"channel {was.scid}"
        _expect(_near(was.balance1_msat, now.balance1_msat), f"{place}: other balance")
        _expect(_near(was.balance2_msat, now.balance2_msat), f"{place}: other balance")
        policies = ((was.policy1, now.policy1), (was.policy2, now.policy2))
        for one, other in policies:
            _expect(_same_fees(one, other), f"{place}: other policy")
    check = passage.found_again(world).candidate
    _expect(check.probability == fresh.probability, "the sender remembers earlier payments")
    _expect(check.information_age_seconds is None, "the sender remembers earlier payments")
    _expect(check.route.fee_msat == fresh.route.fee_msat, "the sender sees other fees")


def check_snapshot(world: World) -> None:
    """A snapshot brings back all that an agent sees, also of the last round."""
    world.reset(14)
    passage = _passage(world)
    _decide(world, passage.forwarder, passage.outgoing_scid, ChannelDecision(fee_rate_ppm=9))
    world.run([RoundPayment(passage.intent)])
    views = world.observe()
    kept = world.snapshot()
    _decide(world, passage.forwarder, passage.outgoing_scid, ChannelDecision(fee_rate_ppm=77))
    world.run([RoundPayment(passage.intent)])
    _expect(world.observe() != views, "a round changed nothing")
    world.restore(kept)
    _expect(world.observe() == views, "a restored world shows something else")
    _expect(_pay(world, RoundPayment(passage.intent)).settled, "a restored world does not pay")


def check_admission(world: World) -> None:
    """What an agent keeps for payments with priority is refused to the others."""
    world.reset(15)
    passage = _passage(world)
    key, scid = passage.forwarder, passage.outgoing_scid
    _decide(world, key, scid, ChannelDecision(reserved_share=1.0))
    plain = RoundPayment(passage.intent, route=passage.route)
    _expect(not _pay(world, plain).settled, "a payment without priority was let through")
    flow = _channel(world.observe()[key], scid).flow
    _expect((flow.forwards, flow.failed_forwards) == (0, 1), "the refusal was not counted once")
    world.reset(15)
    share = _spare_share(world, passage)
    _decide(world, key, scid, ChannelDecision(reserved_share=share))
    _expect(not _pay(world, plain).settled, "a payment without priority was let through")
    _expect(_pay(world, replace(plain, priority=True)).settled, "priority did not help")
    _decide(world, key, scid, ChannelDecision(reserved_share=0.0))
    _expect(_pay(world, plain).settled, "a channel that keeps nothing refused")


def _spare_share(world: World, passage: _Passage) -> float:
    """A share of the capacity that the payment would break into."""
    channel = _channel(world.observe()[passage.forwarder], passage.outgoing_scid)
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
        outcome = _pay(world, RoundPayment(passage.intent, hop_by_hop=True))
        _expect(outcome.settled, f"a payment hop by hop failed: {outcome.reason}")
        view = world.observe()[passage.forwarder]
        passed = {c.scid: c.flow.forwards for c in view.channels if c.flow.forwards}
        _expect(passed == {scid: 1}, f"it left by {passed}, the preferred channel is {scid}")


def _alternative(world: World) -> tuple[_Passage, ShortChannelId, NodeKey]:
    """A payment over one forwarder, which has another way on: by that channel, over that node.

    The sender has no channel to that node, so it would not choose it by itself.
    """
    ends = {one.scid: (one.node1, one.node2) for one in world.truth()}
    joined = {pair for one, other in ends.values() for pair in ((one, other), (other, one))}
    for passage in _passages(world):
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


CHECKS: tuple[Check, ...] = (
    check_names,
    check_first_views,
    check_observing,
    check_payment,
    check_privacy,
    check_impossible_payment,
    check_many_payments,
    check_policies,
    check_strangers,
    check_route_at_new_fee,
    check_candidates,
    check_reset,
    check_snapshot,
    check_admission,
    check_next_channel,
)
"""All of them; none closes the world."""
