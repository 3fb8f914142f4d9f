"""What a round shows to whom, and that payments move what they should."""

from __future__ import annotations

import random
from dataclasses import replace

from lnagents.env.conformance.common import (
    AMOUNT_MSAT,
    channel_of,
    expect,
    fee_limit_of,
    find_passage,
    make_intent,
    near,
    pay,
)
from lnagents.env.world import RoundPayment, World
from lnagents.model.units import MSAT_PER_SAT, Msat
from lnagents.model.view import (
    ChannelFlow,
)
from lnagents.model.workload import PaymentIntent


def check_names(world: World) -> None:
    """Agents are nodes, with the same keys, in an order that stays."""
    agents, nodes = dict(world.agents), dict(world.nodes)
    expect(bool(agents), "there are no agents")
    expect(agents.items() <= nodes.items(), "an agent is no node, or has another key there")
    expect(list(world.agents) == list(agents), "the agents' order changes")
    expect(world.round_seconds > 0.0, f"a round lasts {world.round_seconds} s")
    world.reset(1)
    expect(list(world.agents) == list(agents), "a reset changes the agents' names or order")
    most = max(len(view.channels) for view in world.observe().values())
    expect(world.max_channels == most, f"max_channels is {world.max_channels}, not {most}")


def check_first_views(world: World) -> None:
    """After a reset each agent sees its own channels, as it found them, and no flow."""
    world.reset(2)
    views = world.observe()
    expect(list(views) == list(world.agents.values()), "not one view per agent, in their order")
    truth = {one.scid: one for one in world.truth()}
    for key, view in views.items():
        expect(view.node == key, f"the view of {key} says it is of {view.node}")
        own = sorted(s for s, one in truth.items() if key in (one.node1, one.node2))
        seen = [channel.scid for channel in view.channels]
        expect(seen == own, f"{key} sees channels {seen}, but has {own}")
        expect(set(own) <= set(view.graph.channels), f"{key} misses own channels in its graph")
        counted = (view.fees_paid_msat, view.payments_settled, view.payments_failed)
        expect(counted == (0, 0, 0), f"{key} has counted payments before there were any")
        for channel in view.channels:
            one = truth[channel.scid]
            balance = one.balance1_msat if key == one.node1 else one.balance2_msat
            expect(channel.active, f"channel {channel.scid} is not active at the beginning")
            expect(channel.flow == ChannelFlow(), f"channel {channel.scid} has a flow")
            expect(channel.found_policy == channel.policy, "the policy found is another one")
            expect(
                near(channel.local_balance_msat, balance),
                f"{key} sees {channel.local_balance_msat} msat of its own, the truth is {balance}",
            )


def check_observing(world: World) -> None:
    """Looking changes nothing."""
    world.reset(3)
    world.run([RoundPayment(find_passage(world).intent)])
    expect(world.observe() == world.observe(), "a second look shows something else")


def check_payment(world: World) -> None:
    """A payment moves what it should, and everybody on its way counts it."""
    world.reset(4)
    passage = find_passage(world)
    before = world.observe()
    outcome = pay(world, RoundPayment(passage.intent, route=passage.route))
    expect(outcome.settled, f"a payment along a candidate route failed: {outcome.reason}")
    fee = passage.route.fee_msat
    expect(outcome.fee_msat == fee, f"it cost {outcome.fee_msat} msat, the route says {fee}")
    expect((outcome.attempts, outcome.failed_attempts) == (1, 0), "it took not one attempt")
    after = world.observe()
    source, destination = (
        after[world.agents[name]] for name in (passage.intent.source, passage.intent.destination)
    )
    first = channel_of(source, passage.route.hops[0].scid)
    last = channel_of(destination, passage.route.hops[-1].scid)
    total = passage.route.total_amount_msat
    expect(first.flow.sent_msat == total, f"{first.flow.sent_msat} msat were sent, not {total}")
    expect(near(last.flow.received_msat, AMOUNT_MSAT), "the receipt was not counted")
    expect(source.payments_settled == 1, "the sender has not counted its payment")
    expect(source.fees_paid_msat == fee, "the sender has not counted its fee")
    earned = sum(c.flow.fees_earned_msat for view in after.values() for c in view.channels)
    expect(earned == fee, f"forwarders earned {earned} of {fee} msat")
    passed = channel_of(after[passage.forwarder], passage.outgoing_scid).flow
    expect(passed.forwards == 1, "the forwarder has not counted the forward")
    left = channel_of(before[source.node], first.scid).local_balance_msat - total
    expect(near(first.local_balance_msat, left), "the sender's balance did not fall by that")
    world.run([])
    quiet = world.observe()
    flows = {channel.flow for view in quiet.values() for channel in view.channels}
    expect(flows == {ChannelFlow()}, "flows of one round are counted in the next")


def check_privacy(world: World) -> None:
    """What passes between others shows in nobody's view of its own channels."""
    world.reset(5)
    passage = find_passage(world)
    before = world.observe()
    outcome = pay(world, RoundPayment(passage.intent, route=passage.route))
    expect(outcome.settled, f"a payment along a candidate route failed: {outcome.reason}")
    used = set(passage.route.scids)
    for key, view in world.observe().items():
        for channel in view.channels:
            if channel.scid not in used:
                same = channel == channel_of(before[key], channel.scid)
                expect(same, f"{key} sees in channel {channel.scid} what passed elsewhere")


def check_impossible_payment(world: World) -> None:
    """A payment that nobody could make fails at once and costs nothing."""
    world.reset(6)
    source, destination = list(world.agents)[:2]
    amount = sum(channel.capacity_msat for channel in world.truth())
    outcome = pay(world, RoundPayment(make_intent(source, destination, amount)))
    expect(not outcome.settled, "more was paid than there is")
    expect(outcome.reason != "", "a failed payment has no reason")
    expect((outcome.fee_msat, outcome.attempts) == (0, 0), "it was tried, or it cost a fee")
    view = world.observe()[world.agents[source]]
    expect((view.payments_settled, view.payments_failed) == (0, 1), "it was not counted")


def check_fee_limits(world: World) -> None:
    """No payment costs more than its sender wants to pay, whoever finds its route."""
    world.reset(10)
    passage = find_passage(world)
    fee = passage.route.fee_msat
    expect(fee > 0, "the route costs nothing")
    for limit in (fee, fee - 1):
        intent = replace(passage.intent, fee_limit_msat=limit)
        dearest = [one.route.fee_msat for one in world.candidates([intent], 3)[0]]
        expect(max(dearest, default=0) <= limit, "a candidate costs more than the limit")
        for payment in (
            RoundPayment(intent),
            RoundPayment(intent, route=passage.route),
            RoundPayment(intent, hop_by_hop=True),
        ):
            world.reset(10)
            outcome = pay(world, payment)
            expect(outcome.fee_msat <= limit, f"{outcome.fee_msat} msat for a limit of {limit}")
            if payment.route is not None:
                expect(outcome.settled == (fee <= limit), "the limit decides, and nothing else")


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
        limit = fee_limit_of(amount)
        payments.append(RoundPayment(PaymentIntent(index, at, source, destination, amount, limit)))
    held_before = _held(world)
    outcomes = world.run(payments)
    expect([one.index for one in outcomes] == list(range(20)), "outcomes are not in order")
    views = world.observe()
    settled = [one for one in outcomes if one.settled]
    expect(len(settled) > 10, f"only {len(settled)} of 20 payments settled")
    for name, key in world.agents.items():
        own = [one for one in outcomes if one.source == name]
        view = views[key]
        counted = (view.payments_settled, view.payments_failed, view.failed_attempts)
        expected = (
            sum(one.settled for one in own),
            sum(not one.settled for one in own),
            sum(one.failed_attempts for one in own),
        )
        expect(counted == expected, f"{name} has counted {counted}, the outcomes say {expected}")
    flows = [channel.flow for view in views.values() for channel in view.channels]
    fees = sum(one.fee_msat for one in settled)
    amounts = sum(one.amount_msat for one in settled)
    expect(sum(f.fees_earned_msat for f in flows) == fees, "fees paid are not fees earned")
    expect(sum(f.sent_msat for f in flows) == amounts + fees, "what was sent is not counted")
    received = sum(flow.received_msat for flow in flows)
    expect(near(received, amounts, len(flows)), f"{received} of {amounts} msat were received")
    expect(near(_held(world), held_before, len(flows)), "money was made or lost")


def _held(world: World) -> Msat:
    return sum(one.balance1_msat + one.balance2_msat for one in world.truth())
