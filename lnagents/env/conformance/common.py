"""What the checks share: payments that pass an agent, and how to complain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lnagents.env.routes import RouteCandidate
from lnagents.env.world import RoundPayment, World
from lnagents.model.graph import ChannelPolicy
from lnagents.model.payment import PaymentOutcome, Route
from lnagents.model.units import MSAT_PER_SAT, Msat, NodeKey, ShortChannelId
from lnagents.model.view import (
    ChannelDecision,
    ChannelView,
    NodeDecision,
    NodeView,
)
from lnagents.model.workload import PaymentIntent

ROUNDING_MSAT = 2 * MSAT_PER_SAT
"""What one balance may be off: both readings of it are rounded down to a satoshi."""

AMOUNT_MSAT = 10_000_000
"""Of a payment that any channel can carry."""


def expect(condition: bool, problem: str) -> None:
    """Complain unless the condition holds.

    Raises:
        AssertionError: it does not; the sentence is `problem`.
    """
    if not condition:
        raise AssertionError(problem)


def near(one: Msat, other: Msat, roundings: int = 1) -> bool:
    """Whether two amounts are the same but for `roundings` balances that were rounded."""
    return abs(one - other) <= roundings * ROUNDING_MSAT


@dataclass(frozen=True, slots=True)
class Passage:
    """A payment that passes an agent."""

    intent: PaymentIntent
    candidate: RouteCandidate
    forwarder: NodeKey
    """Of the first node after the sender."""
    outgoing_scid: ShortChannelId
    """By which it sends the payment on."""

    @property
    def route(self) -> Route:
        """The route that its sender found."""
        return self.candidate.route

    def found_again(self, world: World) -> Passage:
        """The same payment over the same channels, as its sender would make it now."""
        for candidate in world.candidates([self.intent], 5)[0]:
            if candidate.route.scids == self.route.scids:
                return replace(self, candidate=candidate)
        raise AssertionError(f"the route {self.route.scids} is no candidate any more")


def fee_limit_of(amount: Msat) -> Msat:
    """What senders here pay in fees at most: 5 %, or 10 sat."""
    return max(10 * MSAT_PER_SAT, amount // 20)


def make_intent(source: str, destination: str, amount: Msat = AMOUNT_MSAT) -> PaymentIntent:
    """A payment at the beginning of a round."""
    return PaymentIntent(0, 0.0, source, destination, amount, fee_limit_of(amount))


def find_passages(world: World) -> Iterator[Passage]:
    """Payments between agents that pass another one first, each by a candidate route."""
    agents = set(world.agents.values())
    for source, destination in itertools.permutations(world.agents, 2):
        intent = make_intent(source, destination)
        for candidate in world.candidates([intent], 3)[0]:
            hops = candidate.route.hops
            if len(hops) > 1 and hops[0].target in agents:
                yield Passage(intent, candidate, hops[0].target, hops[1].scid)


def find_passage(world: World) -> Passage:
    """The first of them."""
    for passage in find_passages(world):
        return passage
    raise AssertionError("no payment between two agents passes a third")


def pay(world: World, payment: RoundPayment) -> PaymentOutcome:
    """Live a round with one payment."""
    outcomes = world.run([payment])
    expect(len(outcomes) == 1, f"{len(outcomes)} outcomes came of 1 payment")
    return outcomes[0]


def channel_of(view: NodeView, scid: ShortChannelId) -> ChannelView:
    """One own channel of a view."""
    for channel in view.channels:
        if channel.scid == scid:
            return channel
    raise AssertionError(f"the view of {view.node} lacks channel {scid}")


def decide(world: World, key: NodeKey, scid: ShortChannelId, decision: ChannelDecision) -> None:
    """Let one agent decide about one of its channels."""
    world.apply({key: NodeDecision({scid: decision})})


def same_fees(one: ChannelPolicy, other: ChannelPolicy) -> bool:
    """Whether two policies say the same, whenever they were announced."""
    return replace(one, last_update=0) == replace(other, last_update=0)
