"""Passes: never more sold than is kept, never more used than was sold, by nobody but the holder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lnagents.market import PassRequest, PriorityPass
from lnagents.market.pass_book import (
    REMEMBERED_SECONDS,
    PassBook,
    PassRefusal,
    Pool,
)
from lnagents.market.passes import (
    ID_BYTES,
    Passage,
    PassUse,
    is_presented_by,
    pass_id,
    present,
    public_key,
)
from lnagents.market.paths import PASS_UNIT_MSAT, PASS_UNIT_SECONDS
from lnagents.model.errors import DocumentInvalidError, NotForSaleError

ISSUER = "02" + "11" * 32
KEY, OTHER_KEY = b"\1" * 32, b"\2" * 32
SCID, OTHER_SCID = 1, 2
HASH, OTHER_HASH = "aa" * 32, "bb" * 32
POOL = Pool(amount_msat=1_000_000, slots=3, now_msat=10_000_000)
IDENTITY = b"i" * ID_BYTES
PASSAGE = Passage(HASH, SCID, 50_000)


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def request(number: int = 0, amount: int = 100_000, **changes: Any) -> PassRequest:
    asked = PassRequest(
        nonce=f"{number:032x}",
        scid=SCID,
        amount_msat=amount,
        seconds=60,
        buyer_key=public_key(KEY),
    )
    return replace(asked, **changes)


@dataclass
class Shop:
    """A book whose sales are complete at once."""

    clock: Clock = field(default_factory=Clock)
    book: PassBook = field(init=False)

    def __post_init__(self) -> None:
        self.book = PassBook(clock=self.clock)

    def sell(self, asked: PassRequest, pool: Pool = POOL) -> bytes:
        until = self.clock() + asked.seconds
        self.book.reserve(asked, pool, until)
        document = PriorityPass(
            issuer=ISSUER,
            issued_at=self.clock(),
            expires_at=until,
            sequence=1,
            scid=asked.scid,
            amount_msat=asked.amount_msat,
            payment_hash=asked.payment_hash,
            buyer_key=asked.buyer_key,
        )
        identity = pass_id(asked.path().encode())
        self.book.sold(asked.path(), identity, document)
        return identity

    def use(
        self, number: int, identity: bytes, passage: Passage = PASSAGE, key: bytes = KEY
    ) -> PassRefusal | None:
        return self.book.admit((9, number), present(key, identity, passage), passage)


# ---- What travels


def test_a_use_survives_its_way() -> None:
    for key in (KEY, b""):
        use = present(key, IDENTITY, PASSAGE)
        assert PassUse.from_bytes(use.to_bytes()) == use
    assert len(present(b"", IDENTITY, PASSAGE).to_bytes()) == 1 + ID_BYTES
    assert len(present(KEY, IDENTITY, PASSAGE).to_bytes()) < 100


@given(st.binary(max_size=120))
def test_whatever_comes_is_a_use_or_invalid(data: bytes) -> None:
    try:
        use = PassUse.from_bytes(data)
    except DocumentInvalidError:
        return
    assert use.to_bytes() == data
    assert not is_presented_by(public_key(KEY), use, PASSAGE)


@pytest.mark.parametrize(
    "other",
    [
        replace(PASSAGE, payment_hash=OTHER_HASH),
        replace(PASSAGE, scid=OTHER_SCID),
        replace(PASSAGE, amount_msat=PASSAGE.amount_msat + 1),
    ],
)
def test_a_signature_is_for_one_use(other: Passage) -> None:
    use = present(KEY, IDENTITY, PASSAGE)
    assert is_presented_by(public_key(KEY), use, PASSAGE)
    assert not is_presented_by(public_key(KEY), use, other)
    assert not is_presented_by(public_key(OTHER_KEY), use, PASSAGE)
    stolen = PassUse(b"o" * ID_BYTES, use.signature)
    assert not is_presented_by(public_key(KEY), stolen, PASSAGE)


@pytest.mark.parametrize("key", ["02" + "00" * 32, "02" + "ff" * 32])
def test_a_key_that_is_no_point_signs_nothing(key: str) -> None:
    assert not is_presented_by(key, present(KEY, IDENTITY, PASSAGE), PASSAGE)


def test_a_pass_costs_as_much_as_it_keeps() -> None:
    unit = request(amount=PASS_UNIT_MSAT, seconds=PASS_UNIT_SECONDS)
    assert unit.units == 1
    assert replace(unit, amount_msat=1, seconds=1).units == 1
    assert replace(unit, amount_msat=PASS_UNIT_MSAT + 1).units == 2
    assert replace(unit, amount_msat=3 * PASS_UNIT_MSAT, seconds=PASS_UNIT_SECONDS + 1).units == 6


# ---- Who gets through


def test_a_holder_gets_through_until_the_pass_is_used_up() -> None:
    shop = Shop()
    identity = shop.sell(request(amount=120_000))
    assert shop.use(1, identity) is None
    assert shop.use(2, identity) is PassRefusal.UNDER_WAY
    assert shop.use(1, identity) is None, "a node that was interrupted asks about it again"
    assert shop.book.ended((9, 1), settled=True)
    assert not shop.book.ended((9, 1), settled=True)
    assert shop.use(2, identity) is None
    assert shop.book.ended((9, 2), settled=False)
    # What failed is given back.
    assert shop.use(3, identity, replace(PASSAGE, amount_msat=70_000)) is None
    assert shop.book.ended((9, 3), settled=True)
    assert shop.use(4, identity, replace(PASSAGE, amount_msat=1)) is PassRefusal.USED_UP


def _sell_by_hash(shop: Shop) -> bytes:
    return shop.sell(request(payment_hash=HASH, buyer_key=None))


def _sell_by_key(shop: Shop) -> bytes:
    return shop.sell(request())


@pytest.mark.parametrize(
    ("sell", "passage", "key", "refusal"),
    [
        (_sell_by_key, replace(PASSAGE, scid=OTHER_SCID), KEY, PassRefusal.OTHER_CHANNEL),
        (_sell_by_key, PASSAGE, OTHER_KEY, PassRefusal.NOT_THE_HOLDER),
        (_sell_by_key, PASSAGE, b"", PassRefusal.NOT_THE_HOLDER),
        (_sell_by_key, replace(PASSAGE, amount_msat=100_001), KEY, PassRefusal.USED_UP),
        (
            _sell_by_hash,
            replace(PASSAGE, payment_hash=OTHER_HASH),
            b"",
            PassRefusal.OTHER_PAYMENT,
        ),
        (lambda _: IDENTITY, PASSAGE, KEY, PassRefusal.UNKNOWN),
    ],
)
def test_nobody_else_gets_through(
    sell: Callable[[Shop], bytes], passage: Passage, key: bytes, refusal: PassRefusal
) -> None:
    shop = Shop()
    identity = sell(shop)
    assert shop.use(1, identity, passage, key) is refusal
    # It has cost the holder nothing.
    assert shop.book.promised_msat(SCID) in (0, 100_000)
    assert shop.use(2, identity, key=b"" if sell is _sell_by_hash else KEY) in (
        None,
        PassRefusal.UNKNOWN,
    )


def test_an_expired_pass_is_told_from_an_unknown_one() -> None:
    shop = Shop()
    identity = shop.sell(request())
    shop.clock.now += 60
    assert shop.use(1, identity) is PassRefusal.EXPIRED
    shop.book.forget_expired()
    assert shop.use(1, identity) is PassRefusal.EXPIRED
    shop.clock.now += REMEMBERED_SECONDS + 1
    shop.book.forget_expired()
    assert shop.use(1, identity) is PassRefusal.UNKNOWN


def test_what_was_used_before_a_restart_stays_used() -> None:
    before = Shop()
    asked = request(amount=120_000)
    identity = before.sell(asked)
    shop = Shop()
    shop.sell(asked)
    shop.book.restore(identity, 50_000)
    shop.book.resume(identity, (9, 7), 60_000)
    assert shop.book.promised_msat(SCID) == 10_000
    assert shop.use(8, identity, replace(PASSAGE, amount_msat=1)) is PassRefusal.UNDER_WAY
    shop.book.ended((9, 7), settled=True)
    assert shop.use(8, identity, replace(PASSAGE, amount_msat=10_001)) is PassRefusal.USED_UP
    assert shop.use(8, identity, replace(PASSAGE, amount_msat=10_000)) is None


# ---- What is sold


def test_asking_twice_with_one_token_takes_room_once() -> None:
    shop = Shop()
    asked = request(amount=600_000)
    shop.book.reserve(asked, POOL, 1_060.0)
    shop.book.reserve(asked, POOL, 1_060.0)
    assert shop.book.promised_msat(SCID) == 600_000
    # The nonce alone is not what was paid for.
    with pytest.raises(NotForSaleError, match="sold out"):
        shop.book.reserve(replace(asked, amount_msat=600_001), POOL, 1_060.0)


def test_only_what_could_leave_now_is_sold() -> None:
    shop = Shop()
    with pytest.raises(NotForSaleError, match="sold out"):
        shop.sell(request(), replace(POOL, now_msat=99_999))


def test_each_pass_takes_a_slot() -> None:
    shop = Shop()
    for number in range(POOL.slots):
        shop.sell(request(number, amount=1))
    with pytest.raises(NotForSaleError, match="sold out"):
        shop.sell(request(99, amount=1))
    shop.clock.now += 60
    shop.sell(request(99, amount=1))


AMOUNTS = st.sampled_from((1, 300_000, 500_000, 700_000, 1_000_000))


class Trade(RuleBasedStateMachine):
    """Any sequence of sales, uses, ends and restarts."""

    @initialize()
    def open(self) -> None:
        self.shop = Shop()
        self.asked: list[tuple[bytes, PassRequest, float]] = []
        self.settled: dict[bytes, int] = {}
        self.under_way: dict[int, tuple[bytes, int]] = {}
        self.numbers = 0

    @rule(amount=AMOUNTS, seconds=st.integers(1, 100))
    def sell(self, amount: int, seconds: int) -> None:
        asked = request(len(self.asked), amount, seconds=seconds)
        try:
            identity = self.shop.sell(asked)
        except NotForSaleError:
            return
        self.asked.append((identity, asked, self.shop.clock() + seconds))

    @rule(which=st.integers(0, 30), amount=AMOUNTS)
    def use(self, which: int, amount: int) -> None:
        if not self.asked:
            return
        identity, asked, until = self.asked[which % len(self.asked)]
        self.numbers += 1
        passage = Passage(HASH, SCID, amount)
        if self.shop.use(self.numbers, identity, passage) is None:
            assert self.shop.clock() < until
            assert all(one != identity for one, _ in self.under_way.values())
            self.under_way[self.numbers] = (identity, amount)
            used = self.settled.get(identity, 0) + amount
            assert used <= asked.amount_msat

    @rule(settled=st.booleans())
    def end(self, settled: bool) -> None:
        if not self.under_way:
            return
        number = next(iter(self.under_way))
        identity, amount = self.under_way.pop(number)
        assert self.shop.book.ended((9, number), settled=settled)
        if settled:
            self.settled[identity] = self.settled.get(identity, 0) + amount

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.shop.clock.now += seconds
        self.shop.book.forget_expired()

    @rule()
    def restart(self) -> None:
        before, self.shop = self.shop, Shop(self.shop.clock)
        now = before.clock()
        for identity, asked, until in self.asked:
            document = PriorityPass(
                issuer=ISSUER,
                issued_at=until - asked.seconds,
                expires_at=until,
                sequence=1,
                scid=SCID,
                amount_msat=asked.amount_msat,
                buyer_key=asked.buyer_key,
            )
            if until > now:
                self.shop.book.sold(asked.path(), identity, document)
        for identity, amount in self.settled.items():
            self.shop.book.restore(identity, amount)
        alive = {identity for identity, _, until in self.asked if until > now}
        self.under_way = {number: one for number, one in self.under_way.items() if one[0] in alive}
        for number, (identity, amount) in self.under_way.items():
            self.shop.book.resume(identity, (9, number), amount)

    @invariant()
    def never_oversold(self) -> None:
        if hasattr(self, "shop"):
            assert 0 <= self.shop.book.promised_msat(SCID) <= POOL.amount_msat


TestTrade = Trade.TestCase
