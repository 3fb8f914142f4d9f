from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.market.paths import (
    MAX_AMOUNT_MSAT,
    MAX_PATH_LENGTH,
    MAX_SECONDS,
    PAID_PREFIXES,
    CommitmentRequest,
    LiquidityRequest,
    PassRequest,
    QuoteMark,
    Request,
    RouteRequest,
    new_nonce,
    parse_quoted,
    quoted_path,
)
from lnagents.market.paths import parse_path as parse
from lnagents.model.errors import NotForSaleError
from lnagents.testbed.settings import PAID_PATHS

KEY = "02" + "ab" * 32
NONCE = "0123456789abcdef" * 2
PATH = f"/v1/hints/liquidity/103x1x0/{KEY}/5000/{NONCE}"
PATHS = (
    PATH,
    f"/v1/commitments/fee/103x1x0/60/{NONCE}",
    f"/v1/routes/{KEY}/5000/{NONCE}",
    f"/v1/passes/103x1x0/5000/60/hash/{'ab' * 32}/{NONCE}",
    f"/v1/passes/103x1x0/5000/60/key/{KEY}/{NONCE}",
)

keys = st.builds(
    lambda first, rest: first + rest.hex(),
    st.sampled_from(["02", "03"]),
    st.binary(min_size=32, max_size=32),
)
scids = st.integers(0, 2**64 - 1)
amounts = st.integers(1, MAX_AMOUNT_MSAT)
seconds = st.integers(1, MAX_SECONDS)
nonces = st.binary(min_size=16, max_size=16).map(bytes.hex)
requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(LiquidityRequest, scid=scids, source=keys, amount_msat=amounts, nonce=nonces),
    st.builds(CommitmentRequest, scid=scids, seconds=seconds, nonce=nonces),
    st.builds(RouteRequest, destination=keys, amount_msat=amounts, nonce=nonces),
    st.builds(
        PassRequest,
        scid=scids,
        amount_msat=amounts,
        seconds=seconds,
        payment_hash=st.binary(min_size=32, max_size=32).map(bytes.hex),
        nonce=nonces,
    ),
    st.builds(
        PassRequest, scid=scids, amount_msat=amounts, seconds=seconds, buyer_key=keys, nonce=nonces
    ),
)
marks = st.builds(QuoteMark, st.integers(1, 10**18), st.integers(1, 10**18), nonces)


@given(requests)
def test_every_request_is_read_back_from_its_path(request: Request) -> None:
    path = request.path()
    assert parse(path) == request
    assert len(path) <= MAX_PATH_LENGTH


@given(requests, marks)
def test_a_quoted_path_is_told_from_all_others(request: Request, mark: QuoteMark) -> None:
    path = quoted_path(request.path(), mark)
    assert parse_quoted(path) == (request, request.path(), mark)
    assert parse_quoted(request.path()) == (request, request.path(), None)
    assert len(path) <= MAX_PATH_LENGTH
    with pytest.raises(NotForSaleError):
        parse(path)


@given(requests, marks)
def test_no_path_has_what_breaks_an_aperture_token(request: Request, mark: QuoteMark) -> None:
    for path in (request.path(), quoted_path(request.path(), mark)):
        assert re.fullmatch(r"[a-z0-9/]+", path)


@given(requests)
def test_aperture_asks_money_for_every_path(request: Request) -> None:
    assert re.fullmatch(PAID_PATHS, request.path())
    assert request.path().startswith(PAID_PREFIXES)


@given(
    st.one_of(
        st.text(max_size=300),
        st.tuples(st.sampled_from(PAID_PREFIXES), st.text(max_size=200)).map("".join),
        st.tuples(st.sampled_from(PATHS), st.integers(0, 200), st.text(min_size=1, max_size=3)).map(
            lambda change: change[0][: change[1]] + change[2] + change[0][change[1] :]
        ),
        st.tuples(
            st.sampled_from(PATHS), st.integers(0, 200), st.sampled_from(":,%?#/ \n\0A٣")
        ).map(lambda change: change[0][: change[1]] + change[2] + change[0][change[1] + 1 :]),
    )
)
def test_what_is_not_written_here_is_not_for_sale(path: str) -> None:
    try:
        request, plain, mark = parse_quoted(path)
    except NotForSaleError:
        return
    assert request.path() == plain
    assert path == (plain if mark is None else quoted_path(plain, mark))
    assert re.fullmatch(r"[a-z0-9/]+", path)


@given(st.integers(), st.integers(), st.text(max_size=70), st.text(max_size=40))
def test_a_request_out_of_range_gets_no_path(
    scid: int, amount: int, source: str, nonce: str
) -> None:
    for request in (
        LiquidityRequest(scid=scid, source=source, amount_msat=amount, nonce=nonce),
        CommitmentRequest(scid=scid, seconds=amount, nonce=nonce),
        RouteRequest(destination=source, amount_msat=amount, nonce=nonce),
        PassRequest(scid=scid, amount_msat=amount, seconds=amount, buyer_key=source, nonce=nonce),
    ):
        with pytest.raises(NotForSaleError):
            request.path()


@pytest.mark.parametrize(
    "path",
    [
        PATH.replace("103x1x0", "0103x1x0"),
        PATH.replace("103x1x0", "113250115158016"),
        PATH.replace("103x1x0", "16777216x1x0"),
        PATH.replace("/5000/", "/05000/"),
        PATH.replace("/5000/", "/0/"),
        PATH.replace("/5000/", "/-5000/"),
        PATH.replace("/5000/", f"/{MAX_AMOUNT_MSAT + 1}/"),
        PATH.replace("/02", "/04"),
        PATH.upper(),
        PATH + "/",
        PATH + "0",
        PATH[:-1] + "\n",
        PATH.replace("liquidity", "fees"),
        PATH + f"/0/1800000000/{NONCE}",
        PATH + f"/2/01800000000/{NONCE}",
        PATH + f"/2/1800000000/{NONCE[1:]}",
        PATH + f"/2/1800000000/{NONCE}/",
        PATH + f"/1800000000/{NONCE}",
        PATHS[1].replace("/60/", "/0/"),
        PATHS[1].replace("/60/", f"/{MAX_SECONDS + 1}/"),
        PATHS[3].replace("hash", "key"),
        PATHS[4].replace("key", "hash"),
        "/v1/catalogue",
        "",
    ],
)
def test_other_spellings_are_refused(path: str) -> None:
    assert path != PATH
    with pytest.raises(NotForSaleError):
        parse_quoted(path)


def test_nonces_are_long_and_different() -> None:
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(re.fullmatch(r"[0-9a-f]{32}", nonce) for nonce in nonces)
