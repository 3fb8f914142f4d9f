"""Delegated forwarding on offer: paths with one spelling, quotes that only their maker knows."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.market import sign_document
from lnagents.market.documents import ForwardQuote, open_document
from lnagents.market.forwarding import (
    ForwardRequest,
    QuoteSeals,
    check_forward_quote,
    parse_forward_path,
)
from lnagents.market.paths import QUOTES_PREFIX, parse_quoted
from lnagents.model.delegation import QuoteSeal
from lnagents.model.errors import MarketError, NotForSaleError
from tests.unit.market.market_fakes import SELLER_KEY, STRANGER_KEY, FakeNode

keys = st.binary(min_size=32, max_size=32).map(lambda data: "02" + data.hex())
requests = st.builds(ForwardRequest, keys, st.integers(1, 21 * 10**17), st.integers(0, 2_016))


@given(requests)
def test_a_request_survives_its_path(request: ForwardRequest) -> None:
    assert parse_forward_path(request.path()) == request
    # It is free to ask, and nothing that is paid for begins alike.
    assert request.path().startswith(QUOTES_PREFIX)
    with pytest.raises(NotForSaleError):
        parse_quoted(request.path().removeprefix(QUOTES_PREFIX))


@given(st.text(max_size=120))
def test_other_paths_are_refused(text: str) -> None:
    with pytest.raises(NotForSaleError):
        parse_forward_path("/v1/quotes/v1/forwards/" + text)


async def test_only_its_maker_makes_a_seal_and_for_just_one_question() -> None:
    request = ForwardRequest(STRANGER_KEY, 1_000_000, 80)
    seals = QuoteSeals(FakeNode())
    quote = await seals.seal(request, 5_000, 1_900_000_000)
    # Another process of the same node knows it, too.
    assert await QuoteSeals(FakeNode()).is_own(request, 5_000, quote)
    assert not await QuoteSeals(FakeNode(STRANGER_KEY)).is_own(request, 5_000, quote)
    assert not await seals.is_own(request, 4_999, quote)
    assert not await seals.is_own(request, 5_000, replace(quote, expires_at=1_900_000_001))
    assert not await seals.is_own(replace(request, amount_msat=1_000_001), 5_000, quote)
    assert not await seals.is_own(replace(request, destination=SELLER_KEY), 5_000, quote)
    assert not await seals.is_own(replace(request, final_cltv_delta=81), 5_000, quote)


async def test_a_sender_takes_no_quote_but_the_one_it_asked_for() -> None:
    now = time.time()
    request = ForwardRequest(STRANGER_KEY, 1_000_000, 80)
    quote = ForwardQuote(
        issuer=SELLER_KEY,
        issued_at=round(now, 3),
        expires_at=float(int(now) + 60),
        sequence=1,
        destination=STRANGER_KEY,
        amount_msat=1_000_000,
        final_cltv_delta=80,
        fee_msat=5_000,
        time_lock=400,
        seal=b"s" * 16,
    )
    signed = await sign_document(FakeNode(), quote)
    assert open_document(signed) == quote
    taken = check_forward_quote(signed, forwarder=SELLER_KEY, request=request, clock=lambda: now)
    assert taken.quote_seal == QuoteSeal(int(now) + 60, b"s" * 16)

    def refused(data: bytes, problem: str, **changes: object) -> None:
        arguments = {"forwarder": SELLER_KEY, "request": request, "clock": lambda: now}
        with pytest.raises(MarketError, match=problem):
            check_forward_quote(data, **(arguments | changes))  # type: ignore[arg-type]

    refused(signed, "of another node", forwarder=STRANGER_KEY)
    refused(signed, "another question", request=replace(request, amount_msat=2_000_000))
    refused(signed, "does not hold", clock=lambda: now + 61)
    refused(await sign_document(FakeNode(STRANGER_KEY), quote), "signed by")
    altered = bytearray(signed)
    altered[-1] ^= 1
    refused(bytes(altered), "the forwarder's quote")
