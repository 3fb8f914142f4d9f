"""Deciding on real forwards: hold, resume, refuse, settle, and a stream that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lnagents.lnd import (
    FailHtlc,
    HeldHtlc,
    HtlcInterceptor,
    LndClient,
    LndEndpoint,
    ResumeHtlc,
    Role,
    SettleHtlc,
    StreamRestarted,
)
from lnagents.model.payment import Attempt, AttemptStatus, FailureCode, Hop, Invoice, Route
from lnagents.testbed import Testbed

AMOUNT_MSAT = 3_000_000
PATIENCE_SECONDS = 20.0
FORWARDER = "dave"

Stream = AsyncGenerator[HeldHtlc | StreamRestarted, None]


@pytest.fixture(scope="module", autouse=True)
async def _money_is_put_back(testbed: Testbed) -> AsyncIterator[None]:
    """dave settles what he never paid on, which no book of the network has as a payment."""
    yield
    await testbed.reset()


@asynccontextmanager
async def deciding(testbed: Testbed) -> AsyncIterator[tuple[HtlcInterceptor, Stream]]:
    """dave's forwards are held, over a macaroon that allows nothing else."""
    node = testbed.nodes[FORWARDER]
    endpoint = LndEndpoint(
        node.admin.address, node.admin.tls_certificate, node.macaroons[Role.FORWARDER]
    )
    async with LndClient(endpoint) as client:
        interceptor = client.htlc_interceptor()
        stream = interceptor.htlcs()
        try:
            assert isinstance(await following(stream), StreamRestarted)
            yield interceptor, stream
        finally:
            await stream.aclose()


async def following(stream: Stream) -> HeldHtlc | StreamRestarted:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await anext(stream)


async def next_held(stream: Stream) -> HeldHtlc:
    held = await following(stream)
    assert isinstance(held, HeldHtlc)
    return held


async def route_through_forwarder(testbed: Testbed) -> tuple[Invoice, Route]:
    """alice to grace by way of dave."""
    invoice = await testbed.client("grace").add_invoice(AMOUNT_MSAT)
    hops = [testbed.nodes[name].key for name in (FORWARDER, "grace")]
    route = await testbed.client("alice").build_route(
        AMOUNT_MSAT, hops, payment_addr=invoice.payment_addr
    )
    return invoice, route


def sending(testbed: Testbed, invoice: Invoice, route: Route) -> asyncio.Task[Attempt]:
    return asyncio.create_task(testbed.client("alice").send_to_route(invoice.payment_hash, route))


async def test_what_is_resumed_goes_on(testbed: Testbed) -> None:
    async with deciding(testbed) as (interceptor, stream):
        invoice, route = await route_through_forwarder(testbed)
        attempt = sending(testbed, invoice, route)
        held = await next_held(stream)
        first, last = route.hops
        assert held.payment_hash == invoice.payment_hash
        assert held.incoming_scid == first.scid
        assert held.incoming_amount_msat == route.total_amount_msat
        assert held.incoming_expiry == route.total_time_lock
        assert held.outgoing_scid == last.scid
        assert held.outgoing_amount_msat == last.amount_msat == AMOUNT_MSAT
        assert held.outgoing_expiry == first.expiry
        await asyncio.sleep(0.3)
        assert not attempt.done()
        assert await interceptor.answer(held, ResumeHtlc())
        assert (await attempt).status is AttemptStatus.SETTLED
        assert not await interceptor.answer(held, ResumeHtlc())


async def test_what_is_refused_fails_at_the_forwarder(testbed: Testbed) -> None:
    async with deciding(testbed) as (interceptor, stream):
        for code in (FailureCode.TEMPORARY_CHANNEL_FAILURE, FailureCode.INVALID_ONION_HMAC):
            attempt = sending(testbed, *await route_through_forwarder(testbed))
            await interceptor.answer(await next_held(stream), FailHtlc(code))
            failed = await attempt
            assert failed.status is AttemptStatus.FAILED
            assert failed.failure is not None
            assert failed.failure.code is code
            assert failed.failure.source_index == 1


async def test_a_forwarder_that_paid_elsewhere_settles(testbed: Testbed) -> None:
    """It asks for a channel that does not exist, and dave chooses the one by which it goes on."""
    nowhere = (1 << 40) | 5
    async with deciding(testbed) as (interceptor, stream):
        invoice, direct = await route_through_forwarder(testbed)
        first, last = direct.hops
        records = {65_537: invoice.payment_addr}
        route = Route(
            hops=(
                Hop(
                    first.scid,
                    first.target,
                    first.amount_msat,
                    first.fee_msat,
                    first.expiry,
                    records,
                ),
                Hop(nowhere, last.target, last.amount_msat, 0, last.expiry),
            ),
            total_amount_msat=direct.total_amount_msat,
            total_time_lock=direct.total_time_lock,
        )
        attempt = sending(testbed, invoice, route)
        held = await next_held(stream)
        assert held.outgoing_scid == nowhere
        assert held.custom_records == records
        dave = testbed.client(FORWARDER)
        onward = await dave.build_route(
            AMOUNT_MSAT,
            [testbed.nodes["grace"].key],
            payment_addr=held.custom_records[65_537],
        )
        paid = await dave.send_to_route(held.payment_hash, onward)
        assert paid.status is AttemptStatus.SETTLED
        assert await interceptor.answer(held, SettleHtlc(paid.preimage))
        settled = await attempt
        assert settled.status is AttemptStatus.SETTLED
        assert settled.preimage == paid.preimage
    await testbed.wait_quiet()


async def test_lnd_resumes_what_it_holds_when_the_stream_breaks(testbed: Testbed) -> None:
    async with deciding(testbed) as (_, stream):
        attempt = sending(testbed, *await route_through_forwarder(testbed))
        await next_held(stream)
        await asyncio.sleep(0.1)
        assert not attempt.done()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await attempt).status is AttemptStatus.SETTLED
    # Nobody decides any more, and somebody else may.
    assert (await testbed.pay("alice", "grace", AMOUNT_MSAT)).settled
    async with deciding(testbed) as (interceptor, stream):
        attempt = sending(testbed, *await route_through_forwarder(testbed))
        await interceptor.answer(await next_held(stream), ResumeHtlc())
        assert (await attempt).status is AttemptStatus.SETTLED


async def test_estimates_follow_what_was_learned(testbed: Testbed) -> None:
    alice = testbed.client("alice")
    dave, grace = (testbed.nodes[name].key for name in (FORWARDER, "grace"))
    await alice.reset_mission_control()
    fresh = await alice.estimate(dave, grace, AMOUNT_MSAT)
    assert 0.5 < fresh.probability < 0.7
    assert (fresh.history.source, fresh.history.target) == (dave, grace)
    assert fresh.history.succeeded_at == fresh.history.failed_at == 0.0
    attempt = await sending(testbed, *await route_through_forwarder(testbed))
    assert attempt.status is AttemptStatus.SETTLED
    learned = await alice.estimate(dave, grace, AMOUNT_MSAT)
    assert learned.probability > 0.9
    assert learned.history.succeeded_msat == AMOUNT_MSAT
