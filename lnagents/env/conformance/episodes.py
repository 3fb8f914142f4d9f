"""Routes to choose from, and the way back: resets and snapshots."""

from __future__ import annotations

import itertools
from dataclasses import replace

from lnagents.env.conformance.common import (
    channel_of,
    decide,
    expect,
    find_passage,
    make_intent,
    near,
    pay,
    same_fees,
)
from lnagents.env.world import RoundPayment, World
from lnagents.model.view import (
    ChannelDecision,
    NodeDecision,
)


def check_route_at_new_fee(world: World) -> None:
    """A chosen route is paid at what its forwarders ask for when it is used."""
    world.reset(10)
    passage = find_passage(world)
    key, scid = passage.forwarder, passage.outgoing_scid
    decide(world, key, scid, ChannelDecision(fee_rate_ppm=5_000, base_fee_msat=11))
    outcome = pay(world, RoundPayment(passage.intent, route=passage.route))
    expect(outcome.settled, f"a payment at the new fee failed: {outcome.reason}")
    channel = channel_of(world.observe()[key], scid)
    fee = channel.policy.outbound_fee(passage.route.hops[0].amount_msat)
    expect(channel.flow.fees_earned_msat == fee, "the forwarder did not earn its new fee")


def check_candidates(world: World) -> None:
    """Candidates differ, and are what an agent can judge."""
    world.reset(11)
    intents = [make_intent(a, b) for a, b in itertools.permutations(list(world.agents)[:4], 2)]
    offers = world.candidates(intents, 3)
    expect(len(offers) == len(intents), "not one offer per payment")
    expect(max(map(len, offers)) > 1, "there is never more than one candidate")
    for intent, offer in zip(intents, offers, strict=True):
        expect(1 <= len(offer) <= 3, f"{len(offer)} candidates for {intent}")
        ways = {candidate.route.scids for candidate in offer}
        expect(len(ways) == len(offer), f"two candidates for {intent} are the same")
        for candidate in offer:
            route = candidate.route
            ends = (route.amount_msat, route.hops[-1].target)
            wanted = (intent.amount_msat, world.nodes[intent.destination])
            expect(ends == wanted, f"a candidate for {intent} pays something else")
            expect(0.0 < candidate.probability <= 1.0, "a chance is not between 0 and 1")
            expect(0.0 <= candidate.local_share_after <= 1.0, "a share is not between 0 and 1")
            expect(candidate.information_age_seconds is None, "there is knowledge after a reset")


def check_reset(world: World) -> None:
    """A reset brings back balances, policies and ignorance."""
    world.reset(12)
    passage = find_passage(world)
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
        expect(near(was.balance1_msat, now.balance1_msat), f"{place}: other balance")
        expect(near(was.balance2_msat, now.balance2_msat), f"{place}: other balance")
        policies = ((was.policy1, now.policy1), (was.policy2, now.policy2))
        for one, other in policies:
            expect(same_fees(one, other), f"{place}: other policy")
    check = passage.found_again(world).candidate
    expect(check.probability == fresh.probability, "the sender remembers earlier payments")
    expect(check.information_age_seconds is None, "the sender remembers earlier payments")
    expect(check.route.fee_msat == fresh.route.fee_msat, "the sender sees other fees")


def check_snapshot(world: World) -> None:
    """A snapshot brings back all that an agent sees, also of the last round."""
    world.reset(14)
    passage = find_passage(world)
    decide(world, passage.forwarder, passage.outgoing_scid, ChannelDecision(fee_rate_ppm=9))
    world.run([RoundPayment(passage.intent)])
    views = world.observe()
    kept = world.snapshot()
    decide(world, passage.forwarder, passage.outgoing_scid, ChannelDecision(fee_rate_ppm=77))
    world.run([RoundPayment(passage.intent)])
    expect(world.observe() != views, "a round changed nothing")
    world.restore(kept)
    expect(world.observe() == views, "a restored world shows something else")
    expect(pay(world, RoundPayment(passage.intent)).settled, "a restored world does not pay")
