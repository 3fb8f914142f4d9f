"""One run of a workload on a live network, by agents or by LND itself, sampled as it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from lnagents.agent import AgentStatus
from lnagents.evaluate.fleet import FleetSettings, running_fleet
from lnagents.evaluate.record import (
    AgentSummary,
    EdgeSample,
    ForwardSample,
    NetworkSample,
    RunRecord,
)
from lnagents.evaluate.trades import read_market
from lnagents.evaluate.workload import (
    PAYMENT_TIMEOUT_SECONDS,
    Sender,
    SenderAnswer,
    run_workload,
)
from lnagents.model.payment import PaymentStatus
from lnagents.model.units import Msat
from lnagents.model.workload import PaymentIntent
from lnagents.testbed import Testbed

SAMPLE_SECONDS = 1.0
"""Between two looks at all balances and policies."""

QUIET_TIMEOUT_SECONDS = 60.0
"""For the last HTLCs to resolve after a run."""


class RunObserver(Protocol):
    """Watches a run for people."""

    def sample(self, record: RunRecord, asked: int, statuses: dict[str, AgentStatus]) -> None:
        """The run goes on, of `asked` payments in all; no statuses come from LND's own run."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How LND's own sender did."""

    settled: bool
    fee_msat: Msat
    attempts: int
    failed_attempts: int
    reason: str


async def run_with_agents(
    testbed: Testbed,
    intents: Sequence[PaymentIntent],
    directory: Path,
    settings: FleetSettings,
    observer: RunObserver,
) -> RunRecord:
    """Every payment goes through the daemon of its sender, while all daemons learn.

    Args:
        testbed: the network, up.
        intents: the payments.
        directory: for the daemons' folders, see `running_fleet`.
        settings: of the daemons.
        observer: told about once a second.

    Raises:
        LnagentsError: the network or a daemon failed; failed payments are outcomes, not errors.
    """
    async with running_fleet(testbed, directory, settings) as fleet:

        async def send(source: str, request: str, max_fee_msat: Msat) -> SenderAnswer:
            return await fleet.control(source).pay(
                request, max_fee_msat=max_fee_msat, timeout=PAYMENT_TIMEOUT_SECONDS
            )

        record = RunRecord("agents", "agents")
        rewards: dict[str, dict[int, float]] = {name: {} for name in fleet.names}

        async def look() -> dict[str, AgentStatus]:
            statuses = await fleet.statuses()
            for name, status in statuses.items():
                if status.last_reward is not None:
                    rewards[name][status.round] = status.last_reward
            return statuses

        await _run(testbed, intents, send, record, observer, look, fleet.watch)
        record.agents = [
            _summary(status, tuple(rewards[name].values()))
            for name, status in (await look()).items()
        ]
    # The daemons have ended, so their stores are whole.
    keys = {node.key: name for name, node in testbed.nodes.items()}
    record.market = await asyncio.to_thread(read_market, directory, keys, record.began_at)
    return await _with_books(testbed, record)


async def run_with_lnd(
    testbed: Testbed, intents: Sequence[PaymentIntent], observer: RunObserver
) -> RunRecord:
    """Every payment goes through LND's own sender, and nobody changes a fee.

    Raises:
        LnagentsError: the network failed.
    """

    async def send(source: str, request: str, max_fee_msat: Msat) -> SenderAnswer:
        payment = await testbed.client(source).pay(
            request, fee_limit_msat=max_fee_msat, timeout_seconds=PAYMENT_TIMEOUT_SECONDS
        )
        settled = payment.status is PaymentStatus.SETTLED
        fee = payment.fee_msat if settled else 0
        attempts = len(payment.attempts)
        return Answer(settled, fee, attempts, payment.failed_attempts, payment.failure_reason)

    async def look() -> dict[str, AgentStatus]:
        return {}

    record = RunRecord("baseline", "LND's defaults")
    await _run(testbed, intents, send, record, observer, look, _for_ever)
    return await _with_books(testbed, record)


async def _for_ever() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets was set")


async def _run(
    testbed: Testbed,
    intents: Sequence[PaymentIntent],
    send: Sender,
    record: RunRecord,
    observer: RunObserver,
    look: Callable[[], Awaitable[dict[str, AgentStatus]]],
    watch: Callable[[], Awaitable[object]],
) -> None:
    """Fill `record` with outcomes and samples."""
    aliases = {node.key: name for name, node in testbed.nodes.items()}
    began = time.monotonic()
    record.began_at = time.time()

    async def sample() -> None:
        while True:
            record.samples.append(await _sample(testbed, aliases, began))
            observer.sample(record, len(intents), await look())
            await asyncio.sleep(SAMPLE_SECONDS)

    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(sample()), group.create_task(_discard(watch()))]
        await run_workload(testbed, intents, send, record.outcomes.append)
        record.seconds = time.monotonic() - began
        for task in beside:
            task.cancel()
    await testbed.wait_quiet(QUIET_TIMEOUT_SECONDS)
    record.samples.append(await _sample(testbed, aliases, began))


async def _discard(awaitable: Awaitable[object]) -> None:
    await awaitable


async def _sample(testbed: Testbed, aliases: dict[str, str], began: float) -> NetworkSample:
    """Balances from each channel's owner, policies as the first node has heard of them."""
    observer = next(iter(testbed.nodes))
    async with asyncio.TaskGroup() as group:
        graph_asked = group.create_task(testbed.client(observer).graph())
        asked = {name: group.create_task(testbed.client(name).channels()) for name in testbed.nodes}
    graph = graph_asked.result()
    edges: dict[str, tuple[EdgeSample, ...]] = {}
    for name, task in asked.items():
        own = []
        for channel in sorted(task.result(), key=lambda c: c.scid):
            public = graph.channels.get(channel.scid)
            policy = public.edge_from(testbed.nodes[name].key).policy if public else None
            if policy is not None:
                own.append(
                    EdgeSample(
                        scid=channel.scid,
                        peer=aliases[channel.peer],
                        local_balance_msat=channel.local_balance_msat,
                        capacity_msat=channel.capacity_msat,
                        fee_rate_ppm=policy.fee_rate_ppm,
                        base_fee_msat=policy.base_fee_msat,
                    )
                )
        edges[name] = tuple(own)
    return NetworkSample(time.monotonic() - began, edges)


async def _with_books(testbed: Testbed, record: RunRecord) -> RunRecord:
    """Audit the network (which waits for LND's late ledgers), then copy the forwards."""
    record.audit = (await testbed.audit()).to_json()
    end = time.time() + 1.0
    for name in testbed.nodes:
        for forward in await testbed.client(name).forwards(record.began_at, end):
            at = forward.timestamp_ns / 1e9 - record.began_at
            record.forwards.append(
                ForwardSample(name, at, forward.fee_msat, forward.outgoing_amount_msat)
            )
    return record


def _summary(status: AgentStatus, rewards: tuple[float, ...]) -> AgentSummary:
    return AgentSummary(
        name=status.name,
        rounds=status.round,
        policy_updates=status.policy_updates,
        fees_earned_msat=status.fees_earned_msat,
        fees_paid_msat=status.fees_paid_msat,
        payments_settled=status.payments_settled,
        payments_failed=status.payments_failed,
        failed_attempts=status.failed_attempts,
        hints_bought=status.hints_bought,
        hint_costs_msat=status.hint_costs_msat,
        hints_sold=status.hints_sold,
        hint_income_msat=status.hint_income_msat,
        reward_total=sum(rewards),
        rewards=rewards,
    )
