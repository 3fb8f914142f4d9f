"""Who decides: routes, fees, and when a hint is worth its price."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from lnagents.agent.actor import Actor, FixedActor, LearningActor, make_actor
from lnagents.agent.candidates import Candidate, RouteFinder
from lnagents.agent.config import (
    ActorSection,
    AgentConfig,
    FeesSection,
    SellerSection,
    parse_config,
)
from lnagents.agent.hints import Advisor
from lnagents.agent.liquidity import Estimate, Liquidity
from lnagents.agent.template import render_template
from lnagents.env import AttemptCost, RouteCandidate
from lnagents.market import Catalogue, LiquidityHint, LiquidityRequest, Offer, Seller
from lnagents.model.errors import CheckpointError, MarketError
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


# ---- Hints


class ScriptedBuyer:
    """Sells what it is asked for."""

    def __init__(self, price_sat: int, error: Exception | None = None) -> None:
        self.price_sat = price_sat
        self.error = error
        self.bought: list[tuple[int, str, int, int]] = []
        self.on_hint: Callable[[LiquidityHint], None] | None = None

    async def catalogue(self, seller: Seller) -> Catalogue:
        if self.error is not None:
            raise self.error
        offer = Offer(product="liquidity", channel="0x0x6", peer=END, price_sat=self.price_sat)
        return Catalogue(seller=seller.key, bands=10, valid_seconds=60.0, offers=(offer,))

    async def buy(
        self, seller: Seller, request: LiquidityRequest, *, agreed_price_msat: int
    ) -> LiquidityHint:
        asked = (request.scid, request.source, request.amount_msat)
        self.bought.append((*asked, agreed_price_msat))
        hint = LiquidityHint(
            issuer=seller.key,
            issued_at=0.0,
            expires_at=4e9,
            sequence=1,
            scid=request.scid,
            source=request.source,
            amount_msat=request.amount_msat,
            probability=0.1,
        )
        if self.on_hint is not None:
            self.on_hint(hint)
        return hint


class FixedScores:
    """Every seller is as good."""

    def __init__(self, skill: float) -> None:
        self._skill = skill

    def skill(self, seller: str) -> float:
        return self._skill


def _config() -> AgentConfig:
    text = render_template(
        name="a", address="h:1", tls_certificate="t", macaroon="m", network="regtest"
    )
    config = parse_config(text, Path("/agent.toml"))
    buy = config.market.buy.model_copy(
        update={"sellers": (SellerSection(url="http://seller", key=SELLER),)}
    )
    market = config.market.model_copy(update={"buy": buy})
    return config.model_copy(update={"market": market})


async def _advise(
    buyer: ScriptedBuyer, candidates: list[Candidate], times: int = 1, skill: float = 1.0
) -> tuple[bool, list[tuple[str, ...]], Liquidity]:
    liquidity = Liquidity(3_600.0)
    finder = RouteFinder(OWN, liquidity)
    for candidate in candidates:
        for edge, _ in candidate.edges:
            finder.set_edge(edge)
    config = _config()
    notes: list[tuple[str, ...]] = []
    advisor = Advisor(
        cast(Any, buyer),
        finder,
        liquidity,
        lambda: config,
        lambda *note: notes.append(note),
        cast(Any, FixedScores(skill)),
    )
    buyer.on_hint = advisor.learn
    answer = False
    for _ in range(times):
        answer = await advisor.advise("hash", candidates)
    return answer, notes, liquidity


async def test_a_hint_that_is_worth_it_is_bought_and_believed() -> None:
    buyer = ScriptedBuyer(price_sat=3)
    candidates = [_candidate(0.6), _candidate(0.5, scid=8)]
    answer, notes, liquidity = await _advise(buyer, candidates)
    assert answer
    assert buyer.bought == [(6, SELLER, AMOUNT, 3_000)]
    assert [note[1] for note in notes] == ["bought"]
    edge = candidates[0].edges[1][0]
    assert liquidity.has_hint(edge, 1.0)
    assert liquidity.estimate(edge, AMOUNT, 1.0).probability < 0.2


async def test_a_hint_is_not_bought_for_more_than_it_is_worth() -> None:
    worth_sat = round(0.4 * VALUE_MSAT) // 1_000
    buyer = ScriptedBuyer(price_sat=worth_sat)
    answer, notes, _ = await _advise(buyer, [_candidate(0.6), _candidate(0.5, scid=8)])
    assert not answer
    assert buyer.bought == []
    assert notes[0][1] == "skipped"
    assert f"worth {worth_sat} sat, costs {worth_sat} sat" in notes[0][3]


@pytest.mark.parametrize(
    "candidates",
    [
        [_candidate(0.6)],
        [_candidate(0.97), _candidate(0.5, scid=8)],
        [_candidate(0.01), _candidate(0.5, scid=8)],
    ],
)
async def test_no_hint_is_bought_where_no_answer_would_matter(candidates: list[Candidate]) -> None:
    buyer = ScriptedBuyer(price_sat=1)
    answer, notes, _ = await _advise(buyer, candidates)
    assert (answer, notes, buyer.bought) == (False, [], [])


async def test_a_seller_is_paid_for_its_skill_and_dropped_without() -> None:
    candidates = [_candidate(0.6), _candidate(0.5, scid=8)]
    for skill, verdicts in ((0.5, ["bought"]), (0.01, ["skipped"]), (0.0, []), (-3.0, [])):
        _, notes, _ = await _advise(ScriptedBuyer(price_sat=3), candidates, skill=skill)
        assert [note[1] for note in notes] == verdicts


async def test_a_seller_that_fails_is_left_alone_for_a_while() -> None:
    buyer = ScriptedBuyer(1, MarketError("gone"))
    answer, notes, _ = await _advise(buyer, [_candidate(0.6), _candidate(0.5, scid=8)], times=3)
    assert not answer
    assert [note[1] for note in notes] == ["skipped"]
    assert notes[0][3] == "gone"
