"""Subscriptions: they begin, break, begin again, and say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest

from lnagents.lnd import InvoiceState, LndClient, NodeAnnounced, StreamRestarted
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.stubs import router_pb2 as router
from lnagents.model.errors import PermissionRefusedError
from lnagents.model.payment import HtlcEvent, HtlcEventKind
from tests.unit.lnd.lnd_server import serving

Context = grpc.aio.ServicerContext[Any, Any]
Item = TypeVar("Item")


async def take(stream: AsyncGenerator[Item, None], count: int) -> list[Item]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


async def test_a_stream_says_that_it_began_before_anything_happens(tmp_path: Path) -> None:
    async def silent(
        request: ln.GraphTopologySubscription, context: Context
    ) -> AsyncIterator[ln.GraphTopologyUpdate]:
        await asyncio.sleep(60)
        yield ln.GraphTopologyUpdate()

    async with (
        serving(tmp_path, {"SubscribeChannelGraph": silent}) as node,
        LndClient(node.endpoint) as client,
        aclosing(client.graph_updates()) as updates,
    ):
        assert await take(updates, 1) == [StreamRestarted("SubscribeChannelGraph", 0)]


async def test_a_node_that_restarts_is_subscribed_to_again(tmp_path: Path) -> None:
    rounds = 0

    async def graph(
        request: ln.GraphTopologySubscription, context: Context
    ) -> AsyncIterator[ln.GraphTopologyUpdate]:
        nonlocal rounds
        rounds += 1
        yield ln.GraphTopologyUpdate(node_updates=[ln.NodeUpdate(alias=f"round {rounds}")])
        await asyncio.sleep(60)

    async with (
        serving(tmp_path, {"SubscribeChannelGraph": graph}) as node,
        LndClient(node.endpoint) as client,
        aclosing(client.graph_updates()) as updates,
    ):
        assert (await take(updates, 2))[1] == NodeAnnounced("", "round 1")
        await node.stop()
        waiting = asyncio.create_task(take(updates, 2))
        await asyncio.sleep(0.5)
        await node.start()
        restarted, announced = await waiting
    assert isinstance(restarted, StreamRestarted)
    assert restarted.restarts == 1
    assert "SubscribeChannelGraph" in restarted.cause
    assert announced == NodeAnnounced("", "round 2")


async def test_htlc_events_begin_when_the_node_confirms(tmp_path: Path) -> None:
    confirm = asyncio.Event()

    async def events(
        request: router.SubscribeHtlcEventsRequest, context: Context
    ) -> AsyncIterator[router.HtlcEvent]:
        await confirm.wait()
        yield router.HtlcEvent(subscribed_event=router.SubscribedEvent())
        yield router.HtlcEvent(timestamp_ns=5, settle_event=router.SettleEvent(preimage=b"p"))

    async with (
        serving(tmp_path, {"SubscribeHtlcEvents": events}) as node,
        LndClient(node.endpoint) as client,
        aclosing(client.htlc_events()) as stream,
    ):
        first = asyncio.create_task(take(stream, 4))
        await asyncio.sleep(0.2)
        assert not first.done()
        confirm.set()
        began, event, again, _ = await first
    assert began == StreamRestarted("SubscribeHtlcEvents", 0)
    assert isinstance(event, HtlcEvent)
    assert (event.kind, event.timestamp_ns) == (HtlcEventKind.SETTLE, 5)
    assert isinstance(again, StreamRestarted)
    assert again.restarts == 1
    assert "ended the stream" in again.cause


async def test_invoices_go_on_where_they_were(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    async def invoices(
        request: ln.InvoiceSubscription, context: Context
    ) -> AsyncIterator[ln.Invoice]:
        asked.append((request.add_index, request.settle_index))
        yield ln.Invoice(add_index=request.add_index + 1)
        yield ln.Invoice(
            add_index=1, settle_index=request.settle_index + 1, state=ln.Invoice.SETTLED
        )

    async with (
        serving(tmp_path, {"SubscribeInvoices": invoices}) as node,
        LndClient(node.endpoint) as client,
        aclosing(client.invoices(add_index=7, settle_index=3)) as stream,
    ):
        told = await take(stream, 6)
    assert asked[:2] == [(7, 3), (8, 4)]
    indexes = [(i.add_index, i.settle_index) for i in told if isinstance(i, InvoiceState)]
    assert indexes == [(8, 0), (1, 4), (9, 0), (1, 5)]


async def test_a_refusal_ends_the_stream(tmp_path: Path) -> None:
    async def refuse(
        request: router.SubscribeHtlcEventsRequest, context: Context
    ) -> AsyncIterator[router.HtlcEvent]:
        await context.abort(grpc.StatusCode.UNKNOWN, "permission denied")
        yield router.HtlcEvent()

    async with (
        serving(tmp_path, {"SubscribeHtlcEvents": refuse}) as node,
        LndClient(node.endpoint) as client,
        aclosing(client.htlc_events()) as stream,
    ):
        with pytest.raises(PermissionRefusedError):
            await take(stream, 1)


async def test_a_closed_client_ends_its_streams(tmp_path: Path) -> None:
    async def silent(
        request: ln.GraphTopologySubscription, context: Context
    ) -> AsyncIterator[ln.GraphTopologyUpdate]:
        await asyncio.sleep(60)
        yield ln.GraphTopologyUpdate()

    async with serving(tmp_path, {"SubscribeChannelGraph": silent}) as node:
        client = LndClient(node.endpoint)
        async with aclosing(client.graph_updates()) as updates:
            assert len(await take(updates, 1)) == 1
            await client.close()
            with pytest.raises(StopAsyncIteration):
                await take(updates, 1)
