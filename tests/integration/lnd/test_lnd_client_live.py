"""The client against real nodes: what LND really answers, and how it is reported."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

import pytest

from lnagents.lnd import InvoiceState, InvoiceStatus, PolicyAnnounced, StreamRestarted
from lnagents.model.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    LndError,
    NoRouteError,
    NotFoundError,
)
from lnagents.model.graph import ChannelPolicy, LocalChannel, forwarding_fee
from lnagents.model.payment import (
    AttemptStatus,
    FailureCode,
    HtlcEvent,
    HtlcEventKind,
    HtlcRole,
    PaymentStatus,
    Route,
)
from lnagents.testbed import Testbed
from lnagents.testbed.waiting import wait_until

AMOUNT_MSAT = 2_000_000
FEE_LIMIT_MSAT = 100_000
PATIENCE_SECONDS = 20.0

Item = TypeVar("Item")


async def collect(
    stream: AsyncGenerator[Item | StreamRestarted, None], into: list[Item], began: asyncio.Event
) -> None:
    async with aclosing(stream):
        async for item in stream:
            if isinstance(item, StreamRestarted):
                began.set()
            else:
                into.append(item)


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if await check():
                return
            await asyncio.sleep(0.02)


async def channel_between(testbed: Testbed, name: str, peer: str) -> LocalChannel:
    channels = await testbed.client(name).channels()
    return next(entry for entry in channels if entry.peer == testbed.nodes[peer].key)


async def route_through(testbed: Testbed, payment_addr: bytes = b"") -> Route:
    """alice to grace by way of dave."""
    hops = [testbed.nodes["dave"].key, testbed.nodes["grace"].key]
    alice = testbed.client("alice")
    return await alice.build_route(AMOUNT_MSAT, hops, payment_addr=payment_addr)


async def test_what_a_node_says_of_itself(testbed: Testbed) -> None:
    alice = testbed.client("alice")
    info = await alice.info()
    assert info.key == testbed.nodes["alice"].key
    assert info.alias == "alice"
    assert info.network == "regtest"
    assert info.synced_to_chain
    assert await alice.wait_ready(10.0) == info
    assert (await alice.graph()).aliases[info.key] == "alice"


async def test_balances_of_a_channel_add_up(testbed: Testbed) -> None:
    await testbed.wait_quiet()
    for name in testbed.nodes:
        client = testbed.client(name)
        local = 0
        for channel in await client.channels():
            assert channel.active
            parts = channel.local_balance_msat + channel.remote_balance_msat
            costs = channel.commit_fee_msat + channel.anchors_msat
            # What LND rounds off the balances, to whole satoshi, it counts as commitment fee.
            assert channel.capacity_msat == parts + costs + channel.unsettled_msat
            assert channel.spendable_msat < channel.local_balance_msat
            local += channel.local_balance_msat
        exact = (await client.channel_balances()).local_msat
        assert 0 <= exact - local < 1_000 * len(await client.channels())


async def test_a_payment_and_everything_that_is_told_of_it(testbed: Testbed) -> None:
    alice, dave, grace = (testbed.client(name) for name in ("alice", "dave", "grace"))
    start = time.time()
    before = await alice.channel_balances()
    htlcs: list[HtlcEvent] = []
    invoices: list[InvoiceState] = []
    began = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watching = [
            group.create_task(collect(dave.htlc_events(), htlcs, began[0])),
            group.create_task(collect(grace.invoices(), invoices, began[1])),
        ]
        async with asyncio.timeout(PATIENCE_SECONDS):
            for event in began:
                await event.wait()
            invoice = await grace.add_invoice(AMOUNT_MSAT, description="tea", expiry_seconds=600)
            route = await route_through(testbed, invoice.payment_addr)
            attempt = await alice.send_to_route(invoice.payment_hash, route)

        async def told() -> bool:
            settled = any(entry.status is InvoiceStatus.SETTLED for entry in invoices)
            return settled and any(event.kind is HtlcEventKind.SETTLE for event in htlcs)

        await eventually(told)
        for task in watching:
            task.cancel()

    assert attempt.status is AttemptStatus.SETTLED
    assert attempt.route == route
    assert attempt.failure is None
    assert attempt.resolved_at is not None
    assert start - 1 < attempt.attempted_at <= attempt.resolved_at

    payment = await alice.track_payment(invoice.payment_hash)
    assert payment is not None
    assert payment.status is PaymentStatus.SETTLED
    assert (payment.amount_msat, payment.fee_msat) == (AMOUNT_MSAT, route.fee_msat)
    assert payment.preimage == attempt.preimage
    assert payment.attempts == (attempt,)
    assert (await alice.list_payments(payment.payment_index - 1))[0] == payment

    state = await grace.lookup_invoice(invoice.payment_hash)
    assert state.status is InvoiceStatus.SETTLED
    assert (state.amount_msat, state.paid_msat) == (AMOUNT_MSAT, AMOUNT_MSAT)
    assert (state.description, state.preimage) == ("tea", payment.preimage)
    assert state.expires_at == invoice.expires_at == state.created_at + 600
    assert state in await grace.list_invoices(state.add_index - 1)
    assert [entry.status for entry in invoices if entry.add_index == state.add_index] == [
        InvoiceStatus.OPEN,
        InvoiceStatus.SETTLED,
    ]

    forwarded = next(event for event in htlcs if event.kind is HtlcEventKind.FORWARD)
    assert forwarded.role is HtlcRole.FORWARD
    assert (forwarded.incoming_scid, forwarded.outgoing_scid) == route.scids
    assert forwarded.incoming_amount_msat == route.total_amount_msat
    assert forwarded.fee_msat == route.fee_msat
    assert (forwarded.incoming_expiry, forwarded.outgoing_expiry) == (
        route.total_time_lock,
        route.hops[0].expiry,
    )
    settled = next(event for event in htlcs if event.kind is HtlcEventKind.SETTLE)
    assert settled.incoming_htlc_id == forwarded.incoming_htlc_id
    assert settled.preimage == payment.preimage
    history = await dave.forwards(start - 1, time.time() + 1)
    forwards = [entry for entry in history if entry.outgoing_amount_msat == AMOUNT_MSAT]
    assert forwards[-1].fee_msat == route.fee_msat
    assert (forwards[-1].incoming_scid, forwards[-1].outgoing_scid) == route.scids

    await testbed.wait_quiet()
    after = await alice.channel_balances()
    # alice opened her channels, so a commitment fee that changed would show here as well.
    assert before.local_msat - after.local_msat == route.total_amount_msat

    with pytest.raises(AlreadyExistsError, match="already paid"):
        await alice.send_to_route(invoice.payment_hash, route)
    with pytest.raises(AlreadyExistsError, match="already paid"):
        await alice.pay(invoice.payment_request, fee_limit_msat=FEE_LIMIT_MSAT, timeout_seconds=5)


async def test_lnds_own_sender(testbed: Testbed) -> None:
    alice, frank = testbed.client("alice"), testbed.client("frank")
    invoice = await frank.add_invoice(AMOUNT_MSAT)
    assert await alice.decode_invoice(invoice.payment_request) == invoice
    assert invoice.destination == testbed.nodes["frank"].key
    channel = await channel_between(testbed, "alice", "dave")
    payment = await alice.pay(
        invoice.payment_request,
        fee_limit_msat=FEE_LIMIT_MSAT,
        timeout_seconds=20,
        outgoing_scids=[channel.scid],
    )
    assert payment.status is PaymentStatus.SETTLED
    assert payment.attempts[-1].route.scids[0] == channel.scid

    unpayable = await frank.add_invoice(AMOUNT_MSAT)
    failed = await alice.pay(unpayable.payment_request, fee_limit_msat=0, timeout_seconds=5)
    assert failed.status is PaymentStatus.FAILED
    assert failed.failure_reason == "no_route"

    open_amount = await frank.add_invoice(0)
    chosen = await alice.pay(
        open_amount.payment_request,
        fee_limit_msat=FEE_LIMIT_MSAT,
        timeout_seconds=20,
        amount_msat=12_345,
    )
    assert (chosen.status, chosen.amount_msat) == (PaymentStatus.SETTLED, 12_345)


async def test_failed_attempts_say_where_and_why(testbed: Testbed) -> None:
    alice, grace = testbed.client("alice"), testbed.client("grace")
    invoice = await grace.add_invoice(AMOUNT_MSAT)
    route = await route_through(testbed, invoice.payment_addr)

    first, last = route.hops
    too_cheap = replace(
        route, hops=(replace(first, fee_msat=0), last), total_amount_msat=AMOUNT_MSAT
    )
    attempt = await alice.send_to_route(invoice.payment_hash, too_cheap, skip_temporary_error=True)
    assert attempt.status is AttemptStatus.FAILED
    assert attempt.failure is not None
    assert attempt.failure.code is FailureCode.FEE_INSUFFICIENT
    assert attempt.failure.source_index == 1
    assert attempt.failure.policy_scid == last.scid

    nowhere = replace(route, hops=(first, replace(last, scid=last.scid ^ (1 << 41))))
    attempt = await alice.send_to_route(invoice.payment_hash, nowhere, skip_temporary_error=True)
    assert attempt.failure is not None
    assert attempt.failure.code is FailureCode.UNKNOWN_NEXT_PEER
    assert attempt.failure.source_index == 1

    # The payment was left open by those, so this attempt belongs to it.
    attempt = await alice.send_to_route(invoice.payment_hash, route)
    assert attempt.status is AttemptStatus.SETTLED
    payment = await alice.track_payment(invoice.payment_hash)
    assert payment is not None
    assert [entry.status for entry in payment.attempts] == [
        AttemptStatus.FAILED,
        AttemptStatus.FAILED,
        AttemptStatus.SETTLED,
    ]

    unknown = "11" * 32
    attempt = await alice.send_to_route(unknown, route)
    assert attempt.failure is not None
    assert attempt.failure.code is FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS
    assert attempt.failure.source_index == 2
    failed = await alice.track_payment(unknown)
    assert failed is not None
    assert failed.status is PaymentStatus.FAILED
    assert failed.preimage == b""
    assert await alice.track_payment("12" * 32) is None


async def test_routes(testbed: Testbed) -> None:
    alice = testbed.client("alice")
    dave, grace = testbed.nodes["dave"].key, testbed.nodes["grace"].key
    built = await route_through(testbed, bytes(range(32)))
    assert [hop.target for hop in built.hops] == [dave, grace]
    assert (built.payment_addr, built.payment_total_msat) == (bytes(range(32)), AMOUNT_MSAT)
    edge = (await alice.channel(built.hops[1].scid)).edge_from(dave)
    back = (await alice.channel(built.hops[0].scid)).edge_from(dave)
    assert edge.policy is not None
    assert back.policy is not None
    assert built.fee_msat == forwarding_fee(AMOUNT_MSAT, edge.policy, back.policy)
    assert built.hops[0].fee_msat == built.fee_msat
    assert built.total_time_lock - built.hops[0].expiry == edge.policy.time_lock_delta

    asked = await alice.query_routes(
        grace,
        AMOUNT_MSAT,
        outgoing_scids=[built.hops[0].scid],
        last_hop=dave,
        use_mission_control=False,
    )
    assert [route.scids for route in asked] == [built.scids]
    around = await alice.query_routes(
        grace, AMOUNT_MSAT, ignored_nodes=[dave], use_mission_control=False
    )
    assert dave not in [hop.target for hop in around[0].hops]
    pair = (testbed.nodes["alice"].key, dave)
    away = await alice.query_routes(
        grace, AMOUNT_MSAT, ignored_pairs=[pair], use_mission_control=False
    )
    assert away[0].hops[0].target != dave

    with pytest.raises(NoRouteError):
        await alice.query_routes(grace, AMOUNT_MSAT, fee_limit_msat=0)
    with pytest.raises(NoRouteError):
        await alice.query_routes(grace, 10**12)
    with pytest.raises(NoRouteError):
        await alice.build_route(10**12, [dave, grace])


async def test_mission_control_learns_and_forgets(testbed: Testbed) -> None:
    alice, grace = testbed.client("alice"), testbed.client("grace")
    await alice.reset_mission_control()
    assert await alice.mission_control() == ()
    invoice = await grace.add_invoice(AMOUNT_MSAT)
    await alice.send_to_route(
        invoice.payment_hash, await route_through(testbed, invoice.payment_addr)
    )
    learned = {(pair.source, pair.target): pair for pair in await alice.mission_control()}
    pair = learned[testbed.nodes["dave"].key, testbed.nodes["grace"].key]
    assert pair.succeeded_msat >= AMOUNT_MSAT
    assert pair.succeeded_at > 0
    assert pair.failed_at == 0
    await alice.reset_mission_control()
    assert await alice.mission_control() == ()


async def test_a_policy_reaches_the_others_and_can_be_taken_back(testbed: Testbed) -> None:
    erin, bob = testbed.client("erin"), testbed.client("bob")
    own = await channel_between(testbed, "erin", "grace")
    key = testbed.nodes["erin"].key
    await testbed.wait_gossip()
    original = (await erin.channel(own.scid)).edge_from(key).policy
    assert original is not None
    new = replace(
        original,
        base_fee_msat=17,
        fee_rate_ppm=1_234,
        inbound_base_fee_msat=-5,
        inbound_fee_rate_ppm=-60,
        min_htlc_msat=2_000,
        max_htlc_msat=own.capacity_msat // 2,
        time_lock_delta=44,
    )

    announced: list[object] = []
    began = asyncio.Event()
    watching = asyncio.create_task(collect(bob.graph_updates(), announced, began))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await began.wait()
            await set_and_wait(testbed, own, new)
            assert await seen_by(testbed, "bob", own) == replace(new, last_update=0)
            await set_and_wait(testbed, own, original)
            # In particular without the inbound fee.
            assert await seen_by(testbed, "bob", own) == replace(original, last_update=0)
    finally:
        watching.cancel()
    told = [
        update.edge.policy
        for update in announced
        if isinstance(update, PolicyAnnounced)
        and (update.edge.scid, update.edge.source) == (own.scid, key)
    ]
    assert replace(new, last_update=0) in told


async def set_and_wait(testbed: Testbed, own: LocalChannel, policy: ChannelPolicy) -> None:
    # Gossip tells seconds apart: within the second of the update before, others would drop this.
    await asyncio.sleep(1.1)
    await testbed.client("erin").set_policy(own.channel_point, policy)
    await testbed.wait_gossip()


async def seen_by(testbed: Testbed, name: str, own: LocalChannel) -> ChannelPolicy:
    channel = await testbed.client(name).channel(own.scid)
    policy = channel.edge_from(testbed.nodes["erin"].key).policy
    assert policy is not None
    assert policy.last_update > 0
    return replace(policy, last_update=0)


async def test_policies_that_lnd_refuses(testbed: Testbed) -> None:
    erin = testbed.client("erin")
    own = await channel_between(testbed, "erin", "grace")
    policy = (await erin.channel(own.scid)).edge_from(testbed.nodes["erin"].key).policy
    assert policy is not None
    for wrong, why in (
        (replace(policy, time_lock_delta=3), "too small"),
        (replace(policy, inbound_fee_rate_ppm=10), "not supported"),
        (replace(policy, inbound_base_fee_msat=1), "not supported"),
        (replace(policy, min_htlc_msat=0), "min htlc"),
        (replace(policy, max_htlc_msat=10**12), "max htlc"),
    ):
        with pytest.raises(InvalidRequestError, match=why):
            await erin.set_policy(own.channel_point, wrong)
    with pytest.raises(NotFoundError):
        await erin.set_policy("ab" * 32 + ":0", policy)
    assert (await erin.channel(own.scid)).edge_from(testbed.nodes["erin"].key).policy == policy


async def test_what_does_not_exist(testbed: Testbed) -> None:
    alice = testbed.client("alice")
    with pytest.raises(NotFoundError):
        await alice.channel(5)
    with pytest.raises(NotFoundError):
        await alice.lookup_invoice("22" * 32)
    with pytest.raises(NotFoundError):
        await alice.close_channel("ab" * 32 + ":0")
    with pytest.raises(InvalidRequestError):
        await alice.decode_invoice("lnbcrt1nonsense")
    with pytest.raises(InvalidRequestError):
        await alice.add_invoice(-1)


async def test_signatures_name_their_signer(testbed: Testbed) -> None:
    alice, bob = testbed.client("alice"), testbed.client("bob")
    signature = await alice.sign_message(b"a hint")
    assert await bob.verify_message(b"a hint", signature) == (True, testbed.nodes["alice"].key)
    known, signer = await bob.verify_message(b"another hint", signature)
    assert not known
    assert signer != testbed.nodes["alice"].key
    assert await bob.verify_message(b"a hint", "yyy") == (False, "")


async def test_peers(testbed: Testbed) -> None:
    alice = testbed.client("alice")
    grace = testbed.nodes["grace"]
    connected = await alice.list_peers()
    assert {testbed.nodes["carol"].key, testbed.nodes["dave"].key} <= set(connected)
    for _ in range(2):
        await alice.connect_peer(grace.key, grace.peer_address)
    assert grace.key in await alice.list_peers()

    async def gone() -> bool:
        return grace.key not in await alice.list_peers()

    for _ in range(2):
        await alice.disconnect_peer(grace.key)
        await eventually(gone)


async def test_the_wallet(testbed: Testbed) -> None:
    alice = testbed.client("alice")
    assert (await alice.wallet_balance()).confirmed_msat > 0
    assert await alice.on_chain_fees() > 0
    addresses = [await alice.new_address() for _ in range(2)]
    assert addresses[0] != addresses[1]
    assert all(address.startswith("bcrt1p") for address in addresses)
    assert await alice.pending_channel_count() == 0
    assert await alice.closed_channels() == ()


async def test_the_receiver_says_when_an_invoice_settles(testbed: Testbed) -> None:
    receiver, payer = testbed.client("bob"), testbed.client("alice")
    preimage = secrets.token_bytes(32)
    invoice = await receiver.add_hold_invoice(50_000_000, preimage)
    assert invoice.amount_msat == 50_000_000
    assert invoice.payment_hash == hashlib.sha256(preimage).hexdigest()
    unpaid = await receiver.add_hold_invoice(1_000, secrets.token_bytes(32))
    paying = asyncio.ensure_future(
        payer.pay(invoice.payment_request, fee_limit_msat=1_000_000, timeout_seconds=30)
    )

    async def accepted() -> bool:
        state = await receiver.lookup_invoice(invoice.payment_hash)
        return state.status is InvoiceStatus.ACCEPTED

    await wait_until(accepted, timeout=PATIENCE_SECONDS, complaint=lambda: "nothing arrived")
    assert not paying.done()
    await receiver.settle_invoice(preimage)
    assert (await paying).preimage == preimage
    await receiver.cancel_invoice(unpaid.payment_hash)
    canceled = await receiver.lookup_invoice(unpaid.payment_hash)
    assert canceled.status is InvoiceStatus.CANCELED
    with pytest.raises(LndError):
        await receiver.settle_invoice(secrets.token_bytes(32))
