"""Hard limits: no sequence of requests gets past them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lnagents.agent.config import FeesSection, LimitsSection
from lnagents.agent.ledger import PaymentRecord, PaymentState
from lnagents.agent.limits import FeeRequest, Purpose, clamp, fee_limit, judge_fees
from lnagents.agent.store import Store
from lnagents.model.errors import LimitExceededError, PaymentError
from lnagents.model.graph import ChannelPolicy
from lnagents.model.payment import Hop, Invoice, Route
from lnagents.model.view import ChannelDecision

KEY = "02" + "11" * 32
HOUR, DAY = 3_600, 86_400


def _limits(**changes: int) -> LimitsSection:
    values = {
        "per_payment_msat": 1_000,
        "per_hour_msat": 3_000,
        "per_day_msat": 6_000,
        "max_fee_msat": 100,
        "max_fee_ppm": 10_000,
        "hint_per_purchase_msat": 50,
        "hint_per_hour_msat": 100,
        "hint_per_day_msat": 150,
    }
    return LimitsSection(**(values | changes))


def _invoice(number: int, amount: int) -> Invoice:
    return Invoice(
        payment_request=f"lnbc{number}",
        payment_hash=f"{number:064x}",
        destination=KEY,
        amount_msat=amount,
        expires_at=0.0,
        final_cltv_delta=80,
        payment_addr=b"",
    )


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[Store]:
    store = await Store.open(path)
    try:
        yield store
    finally:
        await store.close()


steps = st.lists(
    st.tuples(
        st.integers(1, 1_500),  # amount
        st.integers(0, 150),  # fee limit
        st.sampled_from(Purpose),
        st.sampled_from(["settle", "fail", "leave", "again"]),
        st.integers(0, 2 * HOUR),  # seconds until the next
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps)
async def test_no_sequence_of_payments_exceeds_a_budget(
    steps: list[tuple[int, int, Purpose, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    limits = _limits()
    spent: list[tuple[float, int, Purpose]] = []
    now = 1_000_000.0
    async with _opened(tmp_path_factory.mktemp("store") / "agent.sqlite") as store:
        book = store.payments
        for number, (amount, fee, purpose, end, pause) in enumerate(steps):
            now += pause
            invoice = _invoice(number, amount)
            try:
                record, _ = await book.reserve(
                    invoice, max_fee_msat=fee, purpose=purpose, limits=limits, now=now
                )
            except LimitExceededError:
                assert await book.find(invoice.payment_hash) is None
                continue
            assert record.state is PaymentState.REQUESTED
            if end == "fail":
                await book.fail(record.payment_hash, reason="", now=now)
                continue
            # What is left under way may settle at any time: count it from the start.
            spent.append((now, amount + fee, purpose))
            if end in ("settle", "again"):
                await book.settle(record.payment_hash, fee_msat=fee, preimage=b"p", now=now)
            if end == "again" and purpose is Purpose.FORWARD:
                with pytest.raises(PaymentError):
                    await book.reserve(
                        invoice, max_fee_msat=fee, purpose=purpose, limits=limits, now=now
                    )
            elif end == "again":
                again, new = await book.reserve(
                    invoice, max_fee_msat=fee, purpose=purpose, limits=limits, now=now
                )
                assert (again.state, new) == (PaymentState.SETTLED, False)
    hints = [one for one in spent if one[2] is Purpose.HINT]
    for history, hour_limit, day_limit, single in (
        (spent, limits.per_hour_msat, limits.per_day_msat, limits.per_payment_msat),
        (
            hints,
            limits.hint_per_hour_msat,
            limits.hint_per_day_msat,
            limits.hint_per_purchase_msat,
        ),
    ):
        for at, cost, _ in history:
            assert cost <= single
            assert sum(c for t, c, _ in history if at - HOUR < t <= at) <= hour_limit
            assert sum(c for t, c, _ in history if at - DAY < t <= at) <= day_limit


async def test_reservations_at_the_same_time_share_one_budget(tmp_path: Path) -> None:
    async with _opened(tmp_path / "agent.sqlite") as store:
        results = await asyncio.gather(
            *(
                store.payments.reserve(
                    _invoice(number, 900),
                    max_fee_msat=100,
                    purpose=Purpose.PAYMENT,
                    limits=_limits(),
                    now=1_000.0,
                )
                for number in range(20)
            ),
            return_exceptions=True,
        )
        reserved = [one for one in results if not isinstance(one, BaseException)]
        refused = [one for one in results if isinstance(one, LimitExceededError)]
        assert (len(reserved), len(refused)) == (3, 17)
        assert (await store.payments.spending(1_000.0)).hour_msat == 3_000


async def test_a_failed_payment_gives_its_money_free_and_may_be_tried_again(
    tmp_path: Path,
) -> None:
    async with _opened(tmp_path / "agent.sqlite") as store:

        async def reserve() -> tuple[PaymentRecord, bool]:
            return await store.payments.reserve(
                _invoice(1, 900),
                max_fee_msat=100,
                purpose=Purpose.PAYMENT,
                limits=_limits(),
                now=1_000.0,
            )

        record, new = await reserve()
        assert new
        assert (await reserve())[1] is False
        await store.payments.fail(record.payment_hash, reason="no route", now=1_001.0)
        assert (await store.payments.spending(1_001.0)).hour_msat == 0
        record, new = await reserve()
        assert new
        assert record.reason == ""


async def test_an_attempt_needs_a_reservation_that_covers_it(tmp_path: Path) -> None:
    def route(amount: int, total: int) -> Route:
        return Route((Hop(1, KEY, amount, 0, 100),), total, 100)

    async with _opened(tmp_path / "agent.sqlite") as store:
        record, _ = await store.payments.reserve(
            _invoice(1, 900),
            max_fee_msat=50,
            purpose=Purpose.PAYMENT,
            limits=_limits(),
            now=1_000.0,
        )

        async def begin(amount: int, total: int) -> int:
            return await store.payments.begin_attempt(
                record.payment_hash, route(amount, total), probability=1.0, reason="", now=1_000.0
            )

        with pytest.raises(Exception, match="no reservation"):
            await begin(900, 951)
        with pytest.raises(Exception, match="no reservation"):
            await begin(901, 901)
        number = await begin(900, 950)
        with pytest.raises(Exception, match="must not be attempted now"):
            await begin(900, 900)
        await store.payments.fail_attempt(number, None, 1_001.0)
        await begin(900, 900)


def test_the_fee_limit_is_the_smallest_that_applies() -> None:
    limits = _limits(max_fee_msat=100_000, max_fee_ppm=5_000)
    assert fee_limit(limits, 10_000_000, None) == 50_000
    assert fee_limit(limits, 1_000_000_000, None) == 100_000
    assert fee_limit(limits, 2_000, None) == 2_000
    assert fee_limit(limits, 10_000_000, 7) == 7
    assert fee_limit(limits, 10_000_000, 70_000) == 50_000


policies = st.builds(
    ChannelPolicy,
    base_fee_msat=st.integers(0, 100_000),
    fee_rate_ppm=st.integers(0, 1_000_000),
    inbound_base_fee_msat=st.integers(-100_000, 100_000),
    inbound_fee_rate_ppm=st.integers(-1_000_000, 1_000_000),
)
wishes = st.builds(
    ChannelDecision,
    fee_rate_ppm=st.none() | st.integers(-10, 2_000_000),
    base_fee_msat=st.none() | st.integers(-10, 1_000_000),
    inbound_fee_rate_ppm=st.none() | st.integers(-2_000_000, 2_000_000),
)
bounds = st.builds(
    FeesSection,
    min_ppm=st.integers(0, 100),
    max_ppm=st.integers(100, 10_000),
    min_base_msat=st.integers(0, 100),
    max_base_msat=st.integers(100, 10_000),
    max_inbound_discount_ppm=st.integers(0, 1_000),
    max_updates_per_hour=st.integers(0, 5),
    max_updates_per_hour_per_channel=st.integers(0, 3),
)


@given(
    fees=bounds,
    requests=st.lists(st.tuples(policies, wishes), max_size=8),
    recent=st.lists(st.sampled_from(["0", "1", "2"]), max_size=5),
)
def test_no_wish_leaves_the_fee_bounds_or_the_hours_updates(
    fees: FeesSection,
    requests: list[tuple[ChannelPolicy, ChannelDecision]],
    recent: list[str],
) -> None:
    asked = [FeeRequest(str(index), *one) for index, one in enumerate(requests)]
    verdicts = judge_fees(fees, asked, recent)
    updated = [one.channel_point for one, v in zip(asked, verdicts, strict=True) if v.policy]
    assert len(updated) <= max(0, fees.max_updates_per_hour - len(recent))
    for point in updated:
        assert recent.count(point) < fees.max_updates_per_hour_per_channel
    for verdict in verdicts:
        policy = verdict.policy
        if policy is None:
            assert verdict.reason
            continue
        assert fees.min_ppm <= policy.fee_rate_ppm <= fees.max_ppm
        assert fees.min_base_msat <= policy.base_fee_msat <= fees.max_base_msat
        assert -fees.max_inbound_discount_ppm <= policy.inbound_fee_rate_ppm <= 0
        assert policy.inbound_base_fee_msat <= 0
        assert clamp(fees, policy) == policy


def test_the_largest_change_comes_first() -> None:
    fees = FeesSection(max_updates_per_hour=1)
    requests = [
        FeeRequest("a", ChannelPolicy(fee_rate_ppm=100), ChannelDecision(fee_rate_ppm=110)),
        FeeRequest("b", ChannelPolicy(fee_rate_ppm=100), ChannelDecision(fee_rate_ppm=900)),
    ]
    small, large = judge_fees(fees, requests, [])
    assert small.policy is None
    assert "max_updates_per_hour of 1" in small.reason
    assert large.policy is not None
    assert large.policy.fee_rate_ppm == 900
