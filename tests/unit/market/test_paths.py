from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.market.paths import MAX_AMOUNT_MSAT, MAX_PATH_LENGTH, LiquidityRequest, new_nonce
from lnagents.market.paths import parse_path as parse
from lnagents.model.errors import NotForSaleError

KEY = "02" + "ab" * 32
NONCE = "0123456789abcdef" * 2
PATH = f"/v1/hints/liquidity/103x1x0/{KEY}/5000/{NONCE}"

keys = st.builds(
    lambda first, rest: first + rest.hex(),
    st.sampled_from(["02", "03"]),
    st.binary(min_size=32, max_size=32),
)
requests = st.builds(
    LiquidityRequest,
    scid=st.integers(0, 2**64 - 1),
    source=keys,
    amount_msat=st.integers(1, MAX_AMOUNT_MSAT),
    nonce=st.binary(min_size=16, max_size=16).map(bytes.hex),
)


@given(requests)
def test_every_request_is_read_back_from_its_path(request: LiquidityRequest) -> None:
    path = request.path()
    assert parse(path) == request
    assert len(path) <= MAX_PATH_LENGTH


@given(requests)
def test_no_path_has_what_breaks_an_aperture_token(request: LiquidityRequest) -> None:
    assert re.fullmatch(r"[a-z0-9/]+", request.path())


@given(
    st.one_of(
        st.text(max_size=300),
        st.text(max_size=200).map(lambda rest: "/v1/hints/liquidity/" + rest),
        st.tuples(st.integers(0, len(PATH)), st.text(min_size=1, max_size=3)).map(
            lambda change: PATH[: change[0]] + change[1] + PATH[change[0] :]
        ),
        st.tuples(st.integers(0, len(PATH) - 1), st.sampled_from(":,%?#/ \n\0A٣")).map(
            lambda change: PATH[: change[0]] + change[1] + PATH[change[0] + 1 :]
        ),
    )
)
def test_what_is_not_written_here_is_not_for_sale(path: str) -> None:
    try:
        request = parse(path)
    except NotForSaleError:
        return
    assert request.path() == path


@given(st.integers(), st.integers(), st.text(max_size=70), st.text(max_size=40))
def test_a_request_out_of_range_gets_no_path(
    scid: int, amount: int, source: str, nonce: str
) -> None:
    request = LiquidityRequest(scid, source, amount, nonce)
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
        "/v1/catalogue",
        "",
    ],
)
def test_other_spellings_are_refused(path: str) -> None:
    assert path != PATH
    with pytest.raises(NotForSaleError):
        parse(path)


def test_nonces_are_long_and_different() -> None:
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(re.fullmatch(r"[0-9a-f]{32}", nonce) for nonce in nonces)
