"""Quotes for finding the rest of a way: what is asked, how long, and what senders make of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from lnagents.agent.candidates import BLOCK_PADDING, RouteFinder
from lnagents.agent.config import AgentConfig, DelegationSection, parse_config
from lnagents.agent.delegating import UNQUOTED_BLOCKS, ask_relay
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.observer import Observer
from lnagents.agent.quoting import QUOTES_BURST, ForwardQuotes
from lnagents.agent.template import render_template
from lnagents.market import Browser
from lnagents.market.documents import ForwardQuote, open_document
from lnagents.market.forwarding import ForwardRequest
from lnagents.model.delegation import Delegation
from lnagents.model.errors import MarketError, NotForSaleError, PaymentError, SellerBusyError
from lnagents.model.graph import Channel, ChannelPolicy, LocalChannel, NetworkGraph
from lnagents.model.payment import HOP_BY_HOP_SLACK, Invoice
from tests.unit.market.market_fakes import PEER_KEY, SELLER_KEY, STRANGER_KEY, FakeNode

AMOUNT, HEIGHT = 1_000_000, 100
CAPACITY = 1_000_000_000
REQUEST = ForwardRequest(STRANGER_KEY, AMOUNT, 80)
SECTION = DelegationSection()
WAY_FEE, MARGIN = 1_100, 1_500


class StillObserver:
    own_key = SELLER_KEY

    async def local_channels(self, max_age: float) -> dict[int, LocalChannel]:
        return {}

    async def height(self) -> int:
        return HEIGHT


def quotes(now: float | None = None) -> ForwardQuotes:
    """Of the seller, whose peer has a channel to the stranger."""
    policy = ChannelPolicy(base_fee_msat=100, fee_rate_ppm=1_000, time_lock_delta=40)
    channels = {}
    for scid, pair in ((1, (SELLER_KEY, PEER_KEY)), (2, (PEER_KEY, STRANGER_KEY))):
        node1, node2 = sorted(pair)
        channels[scid] = Channel(scid, f"{scid}:0", node1, node2, CAPACITY, policy, policy)
    finder = RouteFinder(SELLER_KEY, Liquidity(3_600.0))
    finder.load(NetworkGraph({}, channels))
    own = LocalChannel(
        1, "1:0", PEER_KEY, CAPACITY, 900_000_000, 100_000_000, 0, 0, 0, 0, 0,
        False, True, False, 0, 483,
    )  # fmt: skip
    finder.set_local({1: own})
    return ForwardQuotes(
        signer=FakeNode(),
        observer=cast(Observer, StillObserver()),
        finder=finder,
        section=SECTION,
        clock=lambda: time.time() if now is None else now,
    )


def read(signed: bytes) -> ForwardQuote:
    quote = open_document(signed)
    assert isinstance(quote, ForwardQuote)
    return quote


async def test_a_quote_is_what_the_way_costs_and_the_margin() -> None:
    desk = quotes()
    quote = read(await desk.quote(REQUEST))
    assert quote.fee_msat == WAY_FEE + MARGIN
    blocks = 80 + BLOCK_PADDING + 40
    assert quote.time_lock == blocks + SECTION.time_lock_delta + HOP_BY_HOP_SLACK
    assert quote.expires_at - quote.issued_at <= SECTION.quote_seconds
    told = Delegation(
        STRANGER_KEY, bytes(32), AMOUNT, 80,
        fee_budget_msat=quote.fee_msat, quote=quote.quote_seal,
    )  # fmt: skip
    assert await desk.is_own(told)
    assert not await desk.is_own(
        Delegation(STRANGER_KEY, bytes(32), AMOUNT, 80, (), quote.fee_msat - 1, 9, told.quote)
    )
    later = read(await desk.quote(REQUEST))
    assert later.sequence > quote.sequence


async def test_what_cannot_be_done_is_not_quoted() -> None:
    desk = quotes()
    for request, problem in (
        (ForwardRequest(STRANGER_KEY, SECTION.max_amount_msat + 1, 80), "forwarded for others"),
        (ForwardRequest(SELLER_KEY, AMOUNT, 80), "is this node"),
        (ForwardRequest("02" + "9" * 64, AMOUNT, 80), "no way"),
        (ForwardRequest(STRANGER_KEY, AMOUNT, 2_016), "no way"),
    ):
        with pytest.raises(NotForSaleError, match=problem):
            await desk.quote(request)


async def test_strangers_cannot_ask_without_end() -> None:
    desk = quotes(now=1_800_000_000.0)
    for _ in range(QUOTES_BURST):
        await desk.quote(REQUEST)
    with pytest.raises(SellerBusyError):
        await desk.quote(REQUEST)


def config(sellers: str) -> AgentConfig:
    text = render_template(
        name="a", address="h:1", tls_certificate="t", macaroon="m", network="regtest"
    )
    return parse_config(text + sellers, Path("/agent.toml"))


KNOWN = f'[[market.buy.sellers]]\nurl = "http://h:1"\nkey = "{SELLER_KEY}"\n'
INVOICE = Invoice("lnbc1", "ab" * 32, STRANGER_KEY, AMOUNT, 0.0, 80, b"s" * 32)


async def test_a_known_agent_is_asked_for_its_fee(monkeypatch: pytest.MonkeyPatch) -> None:
    quote = read(await quotes().quote(REQUEST))

    async def asked(self: Browser, seller: Any, request: ForwardRequest) -> ForwardQuote:
        assert (seller.url, seller.key, request) == ("http://h:1", SELLER_KEY, REQUEST)
        return quote

    monkeypatch.setattr(Browser, "forward_quote", asked)
    for limit in (None, quote.fee_msat):
        relay = await ask_relay(config(KNOWN), SELLER_KEY, INVOICE, limit)
        assert (relay.key, relay.fee_msat) == (SELLER_KEY, quote.fee_msat)
        assert (relay.time_lock, relay.quote) == (quote.time_lock, quote.quote_seal)
    with pytest.raises(PaymentError, match="which is more than"):
        await ask_relay(config(KNOWN), SELLER_KEY, INVOICE, quote.fee_msat - 1)

    async def silent(self: Browser, seller: Any, request: ForwardRequest) -> ForwardQuote:
        raise MarketError("http://h:1 does not answer")

    monkeypatch.setattr(Browser, "forward_quote", silent)
    with pytest.raises(PaymentError, match="does not answer"):
        await ask_relay(config(KNOWN), SELLER_KEY, INVOICE, None)


async def test_an_unknown_agent_is_offered_what_was_named() -> None:
    relay = await ask_relay(config(""), SELLER_KEY, INVOICE, 5_000)
    assert (relay.fee_msat, relay.time_lock, relay.quote) == (None, 80 + UNQUOTED_BLOCKS, None)
    with pytest.raises(PaymentError, match="a fee has to be named"):
        await ask_relay(config(""), SELLER_KEY, INVOICE, None)
