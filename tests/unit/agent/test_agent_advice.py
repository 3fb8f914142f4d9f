"""What is worth buying before a payment, what is bought, and what is believed afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.agent.candidates import Candidate, RouteFinder
from lnagents.agent.config import AgentConfig, SellerSection, parse_config
from lnagents.agent.hints import Advisor
from lnagents.agent.liquidity import Estimate, Liquidity
from lnagents.agent.template import render_template
from lnagents.agent.worth import KEPT_USES, Buyer, EdgeUses, spread
from lnagents.env import AttemptCost, RouteCandidate
from lnagents.market import (
    Catalogue,
    CommitmentRequest,
    Document,
    FeeCommitment,
    LiquidityHint,
    LiquidityRequest,
    Offer,
    Product,
    QuotedHop,
    Request,
    RouteQuote,
    RouteRequest,
    Seller,
)
from lnagents.model.errors import MarketError, PriceError
from lnagents.model.graph import ChannelPolicy, Edge
from lnagents.model.payment import Hop, Route

OWN, SELLER, END, MIDDLE = ("02" + digit * 64 for digit in "1234")
AMOUNT = 100_000_000
VALUE_MSAT = 100_000 + AMOUNT // 1_000
"""LND's attempt cost of `AMOUNT`."""


def candidate(
    *chances: float,
    scid: int = 5,
    nodes: Sequence[str] = (OWN, SELLER, END),
    policy: ChannelPolicy | None = None,
) -> Candidate:
    """A route over `nodes`; the own channel is certain, the others have `chances`."""
    ends = list(pairwise(nodes))
    hops = tuple(Hop(scid + i, target, AMOUNT, 0, 180) for i, (_, target) in enumerate(ends))
    edges = tuple(
        (Edge(scid + i, source, target, 10 * AMOUNT, policy or ChannelPolicy()), AMOUNT)
        for i, (source, target) in enumerate(ends)
    )
    estimates = tuple(Estimate(chance, None, False) for chance in (1.0, *chances))
    whole = RouteCandidate(Route(hops, AMOUNT, 260), math.prod(chances), None, False, 0.5)
    return Candidate(whole, edges, estimates)


def long_candidate(*chances: float, scid: int = 5) -> Candidate:
    return candidate(*chances, scid=scid, nodes=(OWN, SELLER, MIDDLE, END))


class FixedRecord:
    """Every seller is as good at everything; promises and quotes are those it is given."""

    def __init__(self, skill: float = 1.0) -> None:
        self.level = skill
        self.until = 0.0

    def skill(self, seller: str, product: Product) -> float:
        return self.level

    def promised_until(self, seller: str, scid: int) -> float:
        return self.until

    def quoted_until(self, seller: str, destination: str) -> float:
        return self.until


class ScriptedDesk:
    """Sells what has a price (by product, in satoshi), and has it learned."""

    def __init__(
        self, prices: dict[str, int], error: Exception | None = None, answer: float = 0.9
    ) -> None:
        self.prices = prices
        self.answer = answer
        self.error = error
        self.bought: list[tuple[Request, int]] = []
        self.advisor: Advisor | None = None

    async def catalogue(self, seller: Seller) -> Catalogue:
        if self.error is not None:
            raise self.error
        offers = [
            Offer(product=product, channel=channel, peer=END, price_sat=price)
            for product, price in self.prices.items()
            for channel in ([""] if product == "route" else ["0x0x6", "0x0x7", "0x0x9"])
        ]
        return Catalogue(
            seller=seller.key, bands=10, valid_seconds=60.0, max_seconds=600, offers=tuple(offers)
        )

    async def buy(self, seller: Seller, request: Request, *, agreed_price_msat: int) -> Document:
        assert len(request.nonce) == 32
        self.bought.append((request, agreed_price_msat))
        header = {"issuer": seller.key, "issued_at": 0.0, "expires_at": 4e9, "sequence": 1}
        document: Document
        if isinstance(request, LiquidityRequest):
            document = LiquidityHint(
                scid=request.scid,
                source=request.source,
                amount_msat=request.amount_msat,
                probability=self.answer,
                **header,  # type: ignore[arg-type]
            )
        elif isinstance(request, RouteRequest):
            amount = request.amount_msat
            document = RouteQuote(
                destination=request.destination,
                amount_msat=amount,
                total_fee_msat=0,
                probability=0.9,
                hops=(QuotedHop(20, MIDDLE, amount), QuotedHop(21, END, amount)),
                **header,  # type: ignore[arg-type]
            )
        else:
            assert isinstance(request, CommitmentRequest)
            document = FeeCommitment(
                scid=request.scid,
                base_fee_msat=0,
                fee_rate_ppm=0,
                **header,  # type: ignore[arg-type]
            )
        assert self.advisor is not None
        self.advisor.learn(document)
        return document


class Advice:
    """An advisor between a desk and what is believed."""

    def __init__(self, desk: ScriptedDesk, known: Sequence[Candidate], skill: float = 1.0) -> None:
        self.desk = desk
        self.liquidity = Liquidity(3_600.0)
        self.finder = RouteFinder(OWN, self.liquidity)
        for one in known:
            for edge, _ in one.edges:
                self.finder.set_edge(edge)
        self.notes: list[tuple[str, str, str, str]] = []
        config = _config()
        desk.advisor = self.advisor = Advisor(
            desk,
            self.finder,
            self.liquidity,
            lambda: config,
            lambda *note: self.notes.append(note),
            FixedRecord(skill),
        )

    @property
    def verdicts(self) -> list[str]:
        return [note[1] for note in self.notes]


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


# ---- Hints

TWO = [candidate(0.6), candidate(0.5, scid=8)]


async def test_a_hint_that_is_worth_it_is_bought_and_believed() -> None:
    advice = Advice(ScriptedDesk({"liquidity": 3}), TWO)
    assert await advice.advisor.advise("hash", TWO)
    [(request, price)] = advice.desk.bought
    assert isinstance(request, LiquidityRequest)
    assert (request.scid, request.source, request.amount_msat) == (6, SELLER, AMOUNT)
    assert price == 3_000
    assert advice.verdicts == ["bought"]
    edge = TWO[0].edges[1][0]
    assert advice.liquidity.has_hint(edge, 1.0)
    assert advice.liquidity.estimate(edge, AMOUNT, 1.0).probability > 0.88
    [hint] = advice.liquidity.take_changes()[1]
    # What was believed when it came: uniform over the capacity.
    assert (hint.issuer, hint.product) == (SELLER, "liquidity")
    assert hint.prior == pytest.approx(0.9, abs=0.01)


async def test_a_no_is_tried_now_and_then_as_one_that_is_believed_is_never_found_out() -> None:
    advice = Advice(ScriptedDesk({"liquidity": 3}, answer=0.1), TWO)
    edge = TWO[0].edges[1][0]
    believed = []
    for _ in range(10):
        believed.append(await advice.advisor.advise("hash", TWO))
        assert advice.liquidity.estimate(edge, AMOUNT, 1.0).probability < 0.2
        advice.liquidity.settled([(edge, 1)], 1.0)  # newer than the hint, which has done its work
    # The way around is an attempt dearer, so a wrong no costs as much as a test.
    assert [number for number, one in enumerate(believed, 1) if not one] == [1, 4]
    assert advice.verdicts == ["bought"] * 10


async def test_a_hint_is_not_bought_for_more_than_it_is_worth() -> None:
    worth_sat = round(0.4 * VALUE_MSAT) // 1_000
    advice = Advice(ScriptedDesk({"liquidity": worth_sat}), TWO)
    assert not await advice.advisor.advise("hash", TWO)
    assert advice.desk.bought == []
    assert advice.verdicts == ["skipped"]
    assert f"worth {worth_sat} sat, costs {worth_sat} sat" in advice.notes[0][3]


@pytest.mark.parametrize(
    "candidates",
    [
        [candidate(0.6)],
        [candidate(0.97), candidate(0.5, scid=8)],
        [candidate(0.01), candidate(0.5, scid=8)],
    ],
)
async def test_no_hint_is_bought_where_no_answer_would_matter(candidates: list[Candidate]) -> None:
    advice = Advice(ScriptedDesk({"liquidity": 1}), candidates)
    assert not await advice.advisor.advise("hash", candidates)
    assert (advice.notes, advice.desk.bought) == ([], [])


async def test_a_seller_is_paid_for_its_skill_and_dropped_without() -> None:
    for skill, verdicts in (
        (0.5, ["bought"]),
        (0.02, ["skipped"]),
        (0.01, []),
        (0.0, []),
        (-3.0, []),
    ):
        advice = Advice(ScriptedDesk({"liquidity": 3}), TWO, skill)
        await advice.advisor.advise("hash", TWO)
        assert advice.verdicts == verdicts


async def test_a_seller_that_fails_is_left_alone_for_a_while() -> None:
    advice = Advice(ScriptedDesk({"liquidity": 1}, MarketError("gone")), TWO)
    for _ in range(3):
        assert not await advice.advisor.advise("hash", TWO)
    assert advice.verdicts == ["skipped"]
    assert advice.notes[0][3] == "gone"


async def test_where_a_price_went_up_it_is_weighed_again_once() -> None:
    class Rising(ScriptedDesk):
        """Asks more each time than its catalogue said."""

        rises = 1

        async def buy(
            self, seller: Seller, request: Request, *, agreed_price_msat: int
        ) -> Document:
            if self.rises:
                self.rises -= 1
                self.prices["liquidity"] += 1
                raise PriceError("the invoice asks for more")
            return await super().buy(seller, request, agreed_price_msat=agreed_price_msat)

    advice = Advice(Rising({"liquidity": 3}), TWO)
    assert await advice.advisor.advise("hash", TWO)
    assert [price for _, price in advice.desk.bought] == [4_000]
    assert advice.verdicts == ["bought"]
    desk = Rising({"liquidity": 3})
    desk.rises = 2
    advice = Advice(desk, TWO)
    assert not await advice.advisor.advise("hash", TWO)
    assert (advice.verdicts, desk.bought) == (["skipped"], [])
    # Nobody is left alone for that.
    assert await advice.advisor.advise("hash", TWO)


# ---- Route quotes

UNLIKELY = [long_candidate(0.5, 0.5), long_candidate(0.4, 0.4, scid=15)]


async def test_a_quote_is_bought_where_the_own_candidates_are_unlikely() -> None:
    known = [*UNLIKELY, long_candidate(0.5, 0.5, scid=19)]
    advice = Advice(ScriptedDesk({"liquidity": 3, "route": 3}), known)
    assert await advice.advisor.advise("hash", UNLIKELY)
    [(request, _)] = advice.desk.bought
    # A hint saves an attempt with probability 0.5, the quote with 0.75.
    assert isinstance(request, RouteRequest)
    assert (request.destination, request.amount_msat) == (END, AMOUNT)
    assert advice.verdicts == ["bought"]
    assert "2 hops, fee 0 sat, chance 90%" in advice.notes[0][3]
    first, second = (advice.finder.edge(scid, key) for scid, key in ((20, SELLER), (21, MIDDLE)))
    assert first is not None
    assert second is not None
    now = 1.0
    chances = [advice.liquidity.estimate(edge, AMOUNT, now) for edge in (first, second)]
    # The seller's own channel is certain, so all of its doubt is about the other one.
    assert chances[0].probability == pytest.approx(0.99)
    assert chances[1].probability == pytest.approx(0.9 * 0.99)
    assert {hint.product for hint in advice.liquidity.take_changes()[1]} == {"route"}


async def test_a_dear_quote_gives_way_to_a_hint() -> None:
    advice = Advice(ScriptedDesk({"liquidity": 3, "route": 150}), UNLIKELY)
    assert await advice.advisor.advise("hash", UNLIKELY)
    assert isinstance(advice.desk.bought[0][0], LiquidityRequest)


def test_no_quote_is_wanted_where_it_could_not_help() -> None:
    def quotes(candidates: list[Candidate], record: FixedRecord) -> list[Request]:
        buyer = Buyer(Liquidity(3_600.0), EdgeUses(), record, AttemptCost())
        wishes = buyer.wishes(candidates, {SELLER}, {SELLER: 600}, 10.0)
        return [one.request for one in wishes if isinstance(one.request, RouteRequest)]

    assert len(quotes(UNLIKELY, FixedRecord())) == 1
    assert quotes(UNLIKELY[:1], FixedRecord()) == []  # nothing to choose from
    assert quotes([long_candidate(0.99, 0.99), UNLIKELY[0]], FixedRecord()) == []
    assert quotes(UNLIKELY, FixedRecord(0.0)) == []
    held = FixedRecord()
    held.until = 11.0
    assert quotes(UNLIKELY, held) == []
    # The way to the seller is as doubtful as the whole.
    far = [candidate(0.3, 1.0, scid=scid, nodes=(OWN, MIDDLE, SELLER, END)) for scid in (5, 15)]
    assert quotes(far, FixedRecord()) == []


@given(st.floats(0.005, 1.0), st.lists(st.floats(0.005, 1.0), min_size=1, max_size=20))
def test_a_quotes_doubt_is_spread_as_it_was_before(whole: float, before: list[float]) -> None:
    chances = spread(whole, before)
    assert math.prod(chances) == pytest.approx(whole)
    assert all(0.0 < chance <= 1.0 for chance in chances)
    if min(before) < 1.0:
        assert all(new == 1.0 for new, old in zip(chances, before, strict=True) if old == 1.0)


# ---- Fee commitments

CHEAP, DEAR = ChannelPolicy(fee_rate_ppm=100), ChannelPolicy(fee_rate_ppm=300)
RISE_MSAT = 200 * AMOUNT // 1_000_000


def _used(uses: EdgeUses, policies: Sequence[ChannelPolicy], every: float = 10.0) -> Edge:
    """Uses of one edge, every so many seconds; returns the edge."""
    for number, policy in enumerate(policies):
        uses.note(candidate(1.0, policy=policy), every * number)
    return candidate(1.0, policy=policies[-1]).edges[1][0]


def test_what_a_promise_would_have_saved_before_is_expected_of_it_now() -> None:
    uses = EdgeUses()
    edge = _used(uses, [CHEAP, DEAR, DEAR, CHEAP, DEAR, DEAR, CHEAP, DEAR, DEAR])
    # 80 s observed, so for 40 s: of the uses at 0 … 40 s each looks at the next four.
    saved = [3, 0, 0, 3, 0]
    assert uses.saving(edge, 600, 80.0) == (40, RISE_MSAT * sum(saved) / len(saved))
    # A seller that promises for less is asked for less.
    seconds, saving = uses.saving(edge, 10, 80.0) or (0, 0.0)
    assert seconds == 10
    assert 0.0 < saving < RISE_MSAT


@pytest.mark.parametrize(
    ("policies", "expected"),
    [([CHEAP] * 9, 0.0), ([DEAR] * 5 + [CHEAP] * 4, 0.0), ([CHEAP, DEAR], None), ([], None)],
)
def test_a_fee_that_stood_or_fell_is_worth_no_promise(
    policies: list[ChannelPolicy], expected: float | None
) -> None:
    uses = EdgeUses()
    edge = _used(uses, policies) if policies else candidate(1.0).edges[1][0]
    found = uses.saving(edge, 600, 10.0 * max(0, len(policies) - 1))
    assert (None if found is None else found[1]) == expected


@given(
    st.lists(
        st.builds(
            ChannelPolicy,
            base_fee_msat=st.integers(0, 10_000),
            fee_rate_ppm=st.integers(0, 5_000),
        ),
        max_size=2 * KEPT_USES,
    ),
    st.floats(1.0, 10_000.0),
)
def test_a_saving_is_never_negative_and_never_foreseen_too_far(
    policies: list[ChannelPolicy], most: float
) -> None:
    uses = EdgeUses()
    edge = _used(uses, policies or [CHEAP])
    now = 10.0 * len(policies)
    found = uses.saving(edge, most, now)
    if found is not None:
        assert found[0] <= min(most, now / 2)
        assert found[1] >= 0.0


async def test_a_promise_is_bought_for_an_edge_that_is_used_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(0, 100_000, 5))
    monkeypatch.setattr("lnagents.agent.hints.time.time", lambda: float(next(clock)))
    desk = ScriptedDesk({"commitment": 1})
    advice = Advice(desk, [candidate(1.0)])
    changing = [candidate(1.0, policy=CHEAP), candidate(1.0, policy=DEAR)]
    number = 0
    while not desk.bought and number < 50:
        # It tells nothing about routes, so none are sought anew.
        assert not await advice.advisor.advise("hash", [changing[number % 2]])
        number += 1
    [(request, price)] = desk.bought
    assert isinstance(request, CommitmentRequest)
    assert (request.scid, price) == (6, 1_000)
    assert 0 < request.seconds <= 600
    assert advice.verdicts == ["bought"]
    assert "at most 0 msat + 0 ppm" in advice.notes[0][3]
    steady = Advice(ScriptedDesk({"commitment": 1}), [candidate(1.0)])
    for _ in range(50):
        await steady.advisor.advise("hash", [changing[0]])
    assert (steady.desk.bought, steady.notes) == ([], [])
