"""What it costs that an agent decides on its node's forwards, and what priority is worth.

All on real nodes: one sends by way of another, which has the agent, to a third.

* *Decisions*: HTLCs at a fixed rate, and how long each waits for its answer.
* *Overhead*: payments a second with the agent and without it, in pairs of blocks right after each
  other, in alternating order, so that what else the machine does hits both alike. Blocks last some
  seconds, so that what counts is how much goes through, and not how long the first and the last
  payments take. For how long the agent's process is on a processor hardly depends on what else the
  machine does, and tells what was gained by a change of it.
* *Contention*: payments of twice what the channel can carry, some with a pass and most without, in
  an order drawn from a seed. The same payments in the same order again, with nobody deciding, tell
  what priority changed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from coincurve import PrivateKey

from lnagents.agent.candidates import sendable_msat
from lnagents.agent.trade import PurchaseBook
from lnagents.evaluate.statistics import (
    Estimate,
    Floats,
    interquartile_mean,
    percentile_interval,
    resample,
)
from lnagents.evaluate.toll import Toll, TollGate, running_toll
from lnagents.lnd import LndClient
from lnagents.market import DocumentBuyer, PassRequest, Seller, new_nonce
from lnagents.market.passes import PASS_RECORD, Passage, pass_id, present, public_key
from lnagents.model.errors import TestbedError
from lnagents.model.graph import LocalChannel
from lnagents.model.payment import AttemptStatus, Invoice, Route
from lnagents.model.units import MSAT_PER_SAT, Msat, NodeKey
from lnagents.testbed import Testbed

HTLCS_PER_SECOND = 50
DECISION_SECONDS = 10
SMALL_MSAT = 1_000 * MSAT_PER_SAT
"""Payments whose number counts, and not what they move."""
BLOCK = 256
"""Payments in each half of a pair."""
AT_ONCE = 32
PUT_BACK_PAIRS = 2
"""After which the money goes back."""
PLAIN_SHARE = 0.01
"""Kept for holders where nobody is to be refused."""
UNITS = 12
"""Payments that exhaust the channel under contention."""
OVERLOAD = 2
HOLDERS = UNITS // 2
CONTENDING_AT_ONCE = 8
PASS_SECONDS = 60
"""Longer than a round takes."""


@dataclass(frozen=True, slots=True)
class ForwardingBench:
    """All measurements; shares are 0 to 1, an estimate has its 95 % interval."""

    decisions: int
    decisions_per_second: float
    decision_p50_ms: float
    """From the moment the agent has the HTLC to the moment its answer is on its way."""
    decision_p99_ms: float
    pairs: int
    payments_per_second_alone: float
    """Median over the blocks where the node forwards by itself."""
    payments_per_second_decided: float
    overhead: Estimate
    """By how much the agent lowers payments a second; interquartile mean over pairs."""
    agent_cpu_ms_alone: float
    """Of the agent's process for each payment, as it follows what becomes of HTLCs; mean."""
    agent_cpu_ms_decided: float
    rounds: int
    holders_success: float
    others_success: float
    priority: Estimate
    """Success of holders less that of others; interquartile mean over rounds."""
    holders_success_undecided: float
    """Of the very same payments with nobody deciding, as the next."""
    others_success_undecided: float

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            name: value._asdict() if isinstance(value, Estimate) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Place:
    """Who forwards, from whom to whom."""

    sender: LndClient
    forwarder: LndClient
    receiver: LndClient
    keys: tuple[NodeKey, NodeKey, NodeKey]
    """Of the three."""


async def bench_forwarding(
    testbed: Testbed,
    gate: TollGate,
    place: Place,
    buyer: DocumentBuyer,
    purchases: PurchaseBook,
    *,
    pairs: int,
    rounds: int,
    progress: Callable[[str], None],
) -> ForwardingBench:
    """Measure on a network that nobody else uses.

    Raises:
        TestbedError: payments that have to arrive did not.
        LnagentsError: a pass could not be bought.
    """
    bench = _Bench(testbed, place)
    async with running_toll(gate) as toll:
        progress("warming up the forwarder")
        await bench.block(AT_ONCE)
        await toll.on(PLAIN_SHARE)
        await bench.block(AT_ONCE)
        await toll.off()
        progress(f"{HTLCS_PER_SECOND} HTLCs a second for {DECISION_SECONDS} s")
        await toll.on(PLAIN_SHARE)
        seconds = await bench.at_rate(HTLCS_PER_SECOND, HTLCS_PER_SECOND * DECISION_SECONDS)
        decided = await toll.off()
        await bench.put_back()
        rates, cpu = np.empty((pairs, 2)), np.empty((pairs, 2))
        for pair in range(pairs):
            progress(f"with and without an agent, pair {pair + 1} of {pairs}")
            for on in (pair % 2 == 0, pair % 2 == 1):
                if on:
                    await toll.on(PLAIN_SHARE)
                before = await toll.cpu_seconds()
                rates[pair, int(on)] = BLOCK / await bench.block(BLOCK)
                cpu[pair, int(on)] = (await toll.cpu_seconds() - before) / BLOCK
                if on:
                    await toll.off()
            if pair % PUT_BACK_PAIRS == PUT_BACK_PAIRS - 1:
                await bench.put_back()
        await bench.put_back()
        contention = _Contention(bench, toll, buyer, purchases, Seller(gate.site.url, gate.key))
        successes = np.empty((rounds, 2, 2))
        for number in range(rounds):
            progress(f"twice what the channel carries, round {number + 1} of {rounds}")
            successes[number] = await contention.round(number)
    counted = decided.resumed + decided.refused
    return ForwardingBench(
        decisions=counted,
        decisions_per_second=counted / seconds,
        decision_p50_ms=decided.p50_ms,
        decision_p99_ms=decided.p99_ms,
        pairs=pairs,
        payments_per_second_alone=float(np.median(rates[:, 0])),
        payments_per_second_decided=float(np.median(rates[:, 1])),
        overhead=_middle(1.0 - rates[:, 1] / rates[:, 0]),
        agent_cpu_ms_alone=float(1_000 * cpu[:, 0].mean()),
        agent_cpu_ms_decided=float(1_000 * cpu[:, 1].mean()),
        rounds=rounds,
        holders_success=float(successes[:, 0, 0].mean()),
        others_success=float(successes[:, 0, 1].mean()),
        priority=_middle(successes[:, 0, 0] - successes[:, 0, 1]),
        holders_success_undecided=float(successes[:, 1, 0].mean()),
        others_success_undecided=float(successes[:, 1, 1].mean()),
    )


def _middle(values: Floats) -> Estimate:
    """What the machine does besides hits single pairs hard, so the extreme ones do not count."""
    low, high = percentile_interval(
        interquartile_mean(values[resample(len(values), seed=0)][..., None])
    )
    return Estimate(float(interquartile_mean(values[:, None])), float(low), float(high))


class _Bench:
    """Sends from the sender by way of the forwarder to the receiver."""

    def __init__(self, testbed: Testbed, place: Place) -> None:
        self._testbed = testbed
        self.place = place
        self._moved_msat = 0

    async def channel(self) -> LocalChannel:
        """From the forwarder to the receiver."""
        channels = await self.place.forwarder.channels()
        return next(one for one in channels if one.peer == self.place.keys[2])

    async def route(self, amount_msat: Msat) -> Route:
        """Good for any invoice of this amount until the next block."""
        return await self.place.sender.build_route(amount_msat, self.place.keys[1:])

    async def invoices(self, amount_msat: Msat, count: int) -> list[Invoice]:
        made = (self.place.receiver.add_invoice(amount_msat) for _ in range(count))
        return list(await asyncio.gather(*made))

    async def send(self, route: Route, invoice: Invoice) -> bool:
        """One attempt; whether it arrived."""
        filled = replace(
            route, payment_addr=invoice.payment_addr, payment_total_msat=invoice.amount_msat
        )
        attempt = await self.place.sender.send_to_route(invoice.payment_hash, filled)
        settled = attempt.status is AttemptStatus.SETTLED
        if settled:
            self._moved_msat += invoice.amount_msat
        return settled

    async def block(self, count: int) -> float:
        """Seconds that `count` small payments take, `AT_ONCE` at once."""
        route = await self.route(SMALL_MSAT)
        left = iter(await self.invoices(SMALL_MSAT, count))

        async def worker() -> None:
            for invoice in left:
                self._arrived(await self.send(route, invoice))

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        return time.perf_counter() - began

    async def at_rate(self, rate: float, count: int) -> float:
        """Send `count` small payments, `rate` a second, whether they have ended or not."""
        route = await self.route(SMALL_MSAT)
        invoices = await self.invoices(SMALL_MSAT, count)
        began = time.perf_counter()
        sent = []
        for number, invoice in enumerate(invoices):
            await asyncio.sleep(began + number / rate - time.perf_counter())
            sent.append(asyncio.ensure_future(self.send(route, invoice)))
        seconds = time.perf_counter() - began
        for settled in await asyncio.gather(*sent):
            self._arrived(settled)
        return seconds

    def _arrived(self, settled: bool) -> None:
        if not settled:
            raise TestbedError("a payment that has to arrive failed")

    async def put_back(self) -> None:
        """Send the money back to where it came from."""
        amount, self._moved_msat = self._moved_msat, 0
        if not amount:
            return
        place = self.place
        invoice = await place.sender.add_invoice(amount)
        route = await place.receiver.build_route(
            amount, (place.keys[1], place.keys[0]), payment_addr=invoice.payment_addr
        )
        attempt = await place.receiver.send_to_route(invoice.payment_hash, route)
        self._arrived(attempt.status is AttemptStatus.SETTLED)
        await self._testbed.wait_quiet()


class _Contention:
    """Holders of passes against others, for one channel."""

    def __init__(
        self,
        bench: _Bench,
        toll: Toll,
        buyer: DocumentBuyer,
        purchases: PurchaseBook,
        seller: Seller,
    ) -> None:
        self._bench = bench
        self._toll = toll
        self._buyer = buyer
        self._purchases = purchases
        self._seller = seller

    async def round(self, seed: int) -> list[list[float]]:
        """Success of holders and others, with an agent that decides and without."""
        order = [True] * HOLDERS + [False] * (OVERLOAD * UNITS - HOLDERS)
        random.Random(seed).shuffle(order)  # noqa: S311
        halves = []
        # Which comes first alternates, so that no half always finds what the other left.
        for decided in (seed % 2 == 0, seed % 2 == 1):
            halves.append((decided, await self._half(order, decided)))
        return [success for _, success in sorted(halves, reverse=True)]

    async def _half(self, order: Sequence[bool], decided: bool) -> list[float]:
        channel = await self._bench.channel()
        free = sendable_msat(channel)
        amount = free // UNITS // MSAT_PER_SAT * MSAT_PER_SAT
        passes: list[tuple[bytes, bytes]] = []
        if decided:
            # A satoshi more, as shares are rounded down.
            kept = HOLDERS * amount + MSAT_PER_SAT
            await self._toll.on(kept / channel.capacity_msat)
            bought = (self._buy(channel, amount) for _ in range(HOLDERS))
            passes = list(await asyncio.gather(*bought))
        route = await self._bench.route(amount)
        invoices = await self._bench.invoices(amount, len(order))
        arrived: dict[bool, list[bool]] = {True: [], False: []}
        left = iter(list(zip(order, invoices, strict=True)))

        async def worker() -> None:
            for holds, invoice in left:
                way = route
                if holds and passes:
                    way = _presenting(route, channel, invoice, *passes.pop())
                arrived[holds].append(await self._bench.send(way, invoice))

        await asyncio.gather(*(worker() for _ in range(CONTENDING_AT_ONCE)))
        if decided:
            await self._toll.off()
        await self._bench.put_back()
        return [float(np.mean(arrived[True])), float(np.mean(arrived[False]))]

    async def _buy(self, channel: LocalChannel, amount: Msat) -> tuple[bytes, bytes]:
        """Key and id of a new pass."""
        key = PrivateKey().secret
        request = PassRequest(
            nonce=new_nonce(),
            scid=channel.scid,
            amount_msat=amount,
            seconds=PASS_SECONDS,
            buyer_key=public_key(key),
        )
        await self._buyer.buy(self._seller, request)
        return key, pass_id((await self._purchases.find(request.nonce)).document)


def _presenting(
    route: Route, channel: LocalChannel, invoice: Invoice, key: bytes, identity: bytes
) -> Route:
    first = route.hops[0]
    use = present(key, identity, Passage(invoice.payment_hash, channel.scid, first.amount_msat))
    records = {PASS_RECORD: use.to_bytes()}
    return replace(route, hops=(replace(first, custom_records=records), *route.hops[1:]))
