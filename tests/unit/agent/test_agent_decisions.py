"""Who decides: routes, fees, and when a hint is worth its price."""

from __future__ import annotations

import pytest

from lnagents.agent.actor import Actor, FixedActor, LearningActor, make_actor
from lnagents.agent.candidates import Candidate
from lnagents.agent.config import (
    ActorSection,
    FeesSection,
)
from lnagents.agent.liquidity import Estimate
from lnagents.env import AttemptCost, RouteCandidate
from lnagents.model.errors import CheckpointError
from lnagents.model.graph import ChannelPolicy, Edge, NetworkGraph
from lnagents.model.payment import Hop, Route
from lnagents.model.view import ChannelView, NodeView

OWN, SELLER, END = ("02" + digit * 64 for digit in "123")
AMOUNT = 100_000_000
VALUE_MSAT = 100_000 + AMOUNT // 1_000
"""LND's attempt cost of `AMOUNT`."""


def _candidate(chance: float, fee_msat: int = 1_000, scid: int = 5) -> Candidate:
    hops = (Hop(scid, SELLER, AMOUNT, fee_msat, 180), Hop(scid + 1, END, AMOUNT, 0, 180))
    route = Route(hops, AMOUNT + fee_msat, 260)
    edges = (
        (Edge(scid, OWN, SELLER, 10 * AMOUNT, ChannelPolicy()), AMOUNT + fee_msat),
        (Edge(scid + 1, SELLER, END, 10 * AMOUNT, ChannelPolicy()), AMOUNT),
    )
    estimates = (Estimate(1.0, None, False), Estimate(chance, None, False))
    return Candidate(RouteCandidate(route, chance, None, False, 0.5), edges, estimates)


# ---- Actors


async def test_the_fixed_actor_takes_the_first_and_changes_nothing() -> None:
    actor: Actor = FixedActor()
    choice = await actor.choose([_candidate(0.9), _candidate(0.5)])
    assert choice.index == 0
    assert "least expected cost of 2: fee 1 sat, chance 90%" in choice.reason
    assert (await actor.decide(_view(), FeesSection())).channels == {}
    assert await actor.save() is None


def _view() -> NodeView:
    channel = ChannelView(
        1, END, 10_000, 5_000, 5_000, True, ChannelPolicy(fee_rate_ppm=300), None, -1
    )
    return NodeView(OWN, 1, 0.0, (channel,), NetworkGraph())


async def test_the_learner_learns_and_goes_on_from_its_checkpoint() -> None:
    pytest.importorskip("torch")
    section = ActorSection(kind="ppo", seed=3)
    actor = await make_actor(section, AttemptCost(), "agent.toml")
    assert isinstance(actor, LearningActor)
    try:
        for number in range(20):
            decision = await actor.decide(_view(), FeesSection(max_ppm=400))
            for one in decision.channels.values():
                assert one.fee_rate_ppm is None or 0 <= one.fee_rate_ppm <= 400
                assert one.reason
            await actor.reward(1_000.0 * number)
            choice = await actor.choose([_candidate(0.9), _candidate(0.5), _candidate(0.7)])
            actor.outcome(choice.token, 1.5)
        assert actor.stats.fee_updates >= 1
        saved = await actor.save()
        assert saved is not None
        again = await make_actor(section, AttemptCost(), "agent.toml")
        await again.load(saved)
        assert await again.save() == saved
        with pytest.raises(CheckpointError):
            await again.load(b"nonsense")
        await again.close()
    finally:
        await actor.close()


async def test_with_one_candidate_there_is_nothing_to_learn() -> None:
    pytest.importorskip("torch")
    actor = await make_actor(ActorSection(), AttemptCost(), "agent.toml")
    choice = await actor.choose([_candidate(0.9)])
    assert (choice.index, choice.token) == (0, 0)
    await actor.close()
