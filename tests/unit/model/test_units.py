from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnagents.model.units import format_msat, format_short_channel_id, parse_short_channel_id

SCIDS = st.integers(0, (1 << 64) - 1)


@given(SCIDS)
def test_short_channel_ids_survive_both_forms(scid: int) -> None:
    assert parse_short_channel_id(format_short_channel_id(scid)) == scid
    assert parse_short_channel_id(str(scid)) == scid


@given(st.integers(0, (1 << 24) - 1), st.integers(0, (1 << 24) - 1), st.integers(0, (1 << 16) - 1))
def test_short_channel_id_parts_are_where_bolt_7_puts_them(block: int, tx: int, out: int) -> None:
    scid = parse_short_channel_id(f"{block}x{tx}x{out}")
    assert scid == (block << 40) + (tx << 16) + out


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not a short channel id such as 103x1x0"),
        ("1x2", "'1x2' is not a short channel id such as 103x1x0"),
        ("1x2x3x4", "'1x2x3x4' is not a short channel id such as 103x1x0"),
        ("1x-2x3", "'1x-2x3' is not a short channel id such as 103x1x0"),
        ("1x2x٣", "'1x2x٣' is not a short channel id such as 103x1x0"),
        ("16777216x0x0", "'16777216x0x0' is out of range for a short channel id"),
        ("0x16777216x0", "'0x16777216x0' is out of range for a short channel id"),
        ("0x0x65536", "'0x0x65536' is out of range for a short channel id"),
        (str(1 << 64), "short channel id 18446744073709551616 does not fit in 64 bits"),
    ],
)
def test_bad_short_channel_ids(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        parse_short_channel_id(text)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 sat"),
        (1, "0.001 sat"),
        (1_234_567, "1,234.567 sat"),
        (1_500, "1.5 sat"),
        (-1_500, "-1.5 sat"),
        (-999, "-0.999 sat"),
        (5_000_000_000, "5,000,000 sat"),
    ],
)
def test_amounts_for_people(amount: int, text: str) -> None:
    assert format_msat(amount) == text


@given(st.integers(-(10**18), 10**18))
def test_amounts_for_people_lose_nothing(amount: int) -> None:
    whole, _, fraction = format_msat(amount).removesuffix(" sat").replace(",", "").partition(".")
    sign = -1 if whole.startswith("-") else 1
    assert sign * (abs(int(whole)) * 1_000 + int(fraction.ljust(3, "0") or 0)) == amount
