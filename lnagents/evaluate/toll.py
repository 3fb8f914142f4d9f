"""A forwarder that can be switched on and off, in a process of its own as a daemon is.

It does with its node's forwards what a daemon does that sells passes: the same host, desk, rooms
and book, and the same seller. But a daemon decides as long as it runs, and to compare a node with
and without one, it has to be switched within milliseconds.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from lnagents.agent.forwarder import Forwarder, ForwarderState, ForwarderStatus
from lnagents.agent.pass_ledger import PassLedger
from lnagents.agent.passes import PassDesk
from lnagents.agent.rooms import Rooms
from lnagents.agent.store import Store
from lnagents.lnd import LndClient, LndEndpoint
from lnagents.market import (
    DocumentSeller,
    PriceBook,
    Product,
    SellerSettings,
    running_seller,
    standard_issuers,
)
from lnagents.model.errors import TestbedError
from lnagents.model.payment import HtlcEvent
from lnagents.model.units import NodeKey
from lnagents.testbed.backend import SellerSite

DEADLINE_SECONDS = 5.0
START_SECONDS = 60.0
PRICE_SAT = 2

_CPU = "cpu"
"""What asks for the time on a processor; anything else switches."""


@dataclass(frozen=True, slots=True)
class TollGate:
    """Where it stands."""

    endpoint: LndEndpoint
    key: NodeKey
    site: SellerSite
    directory: Path
    """For its book."""


class Toll:
    """Talks to the process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def on(self, share: float) -> None:
        """Decide on forwards, keep `share` of each channel for holders of passes, and sell them.

        Raises:
            TestbedError: it does not.
        """
        await self._ask(share)

    async def off(self) -> ForwarderStatus:
        """Leave forwards to the node; what was decided since `on`."""
        return await self._ask(None)

    async def cpu_seconds(self) -> float:
        """For how long the process has been on a processor."""
        self._connection.send(_CPU)
        return float(await asyncio.to_thread(self._connection.recv))

    async def _ask(self, share: float | None) -> ForwarderStatus:
        self._connection.send(share)
        answer = await asyncio.to_thread(self._connection.recv)
        if not isinstance(answer, ForwarderStatus):
            raise TestbedError(f"the forwarder ended: {answer}")
        return answer


@asynccontextmanager
async def running_toll(gate: TollGate) -> AsyncIterator[Toll]:
    """A process at `gate`, switched off."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_live, args=(gate, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Toll(ours)
    finally:
        ours.close()  # which ends it
        await asyncio.to_thread(process.join, START_SECONDS)
        process.kill()


def _live(gate: TollGate, connection: Connection) -> None:
    # What it says of every block would get between the lines of the bench.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        asyncio.run(_serve(gate, connection))
    except EOFError:
        return
    except Exception as exc:  # whatever it is, the other side is told
        connection.send(repr(exc))


async def _serve(gate: TollGate, connection: Connection) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(LndClient(gate.endpoint))
        followers: list[Callable[[HtlcEvent], None]] = []
        following = asyncio.ensure_future(_follow(node, followers))
        stack.callback(following.cancel)
        for number in itertools.count():
            share = await _switched(connection)
            # A book of its own: what was sold before is not kept any more.
            async with _deciding(gate, node, followers, number, share) as forwarder:
                connection.send(forwarder.status)
                await _switched(connection)
                status = forwarder.status
            connection.send(status)


async def _switched(connection: Connection) -> Any:
    while (asked := await asyncio.to_thread(connection.recv)) == _CPU:
        connection.send(time.process_time())
    return asked


@asynccontextmanager
async def _deciding(
    gate: TollGate,
    node: LndClient,
    followers: list[Callable[[HtlcEvent], None]],
    number: int,
    share: float,
) -> AsyncIterator[Forwarder]:
    store = await Store.open(gate.directory / f"toll-{number}.sqlite")
    settings = SellerSettings()
    rooms = Rooms(node)
    desk = PassDesk(
        rooms,
        PassLedger(store.database),
        reserved_share=share,
        bands=settings.bands,
        max_seconds=3_600,
    )
    await desk.load()
    store.sales.on_sale = desk.on_sale
    seller = DocumentSeller(
        node,
        gate.key,
        store.sales,
        PriceBook({Product.PASS: PRICE_SAT}),
        standard_issuers(gate.key, settings, passes=desk),
        settings,
    )
    forwarder = Forwarder(node.htlc_interceptor(), [desk], deadline_seconds=DEADLINE_SECONDS)
    followers.append(desk.on_event)
    tasks = [asyncio.ensure_future(work) for work in (forwarder.run(), rooms.run())]
    try:
        async with running_seller(
            seller,
            service_host=gate.site.service_host,
            service_port=gate.site.service_port,
            pricer_host=gate.site.pricer_host,
            pricer_port=gate.site.pricer_port,
        ):
            state = await forwarder.wait_known(START_SECONDS)
            if state is not ForwarderState.DECIDING:
                raise TestbedError(state.value)
            yield forwarder
    finally:
        followers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()


async def _follow(node: LndClient, followers: list[Callable[[HtlcEvent], None]]) -> None:
    """As every daemon does, whether it decides on forwards or not."""
    async for event in node.htlc_events():
        if isinstance(event, HtlcEvent):
            for follower in followers:
                follower(event)
