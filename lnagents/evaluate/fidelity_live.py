"""Runs a case on real LND nodes and writes down all that happened."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lnagents.evaluate.fidelity_cases import Case, Change, Pay, Wait
from lnagents.evaluate.recording import (
    AttemptRecord,
    CaseSet,
    ChannelRecord,
    EndRecord,
    HtlcRecord,
    NodeBalance,
    PaymentRecord,
    PolicyRecord,
    Recording,
    UpdateRecord,
)
from lnagents.lnd import InvoiceStatus, LndClient
from lnagents.model.errors import TestbedError
from lnagents.model.graph import ChannelPolicy, LocalChannel
from lnagents.model.payment import Attempt, AttemptStatus, Payment, PaymentStatus
from lnagents.model.topology import ChannelSpec
from lnagents.model.units import MSAT_PER_SAT, NodeKey
from lnagents.testbed import Testbed

PAYMENT_TIMEOUT_SECONDS = 60
QUIET_SECONDS = 30.0
POLL_SECONDS = 0.01

Progress = Callable[[int, int], None]
"""Told how many of how many acts are done."""


@dataclass(slots=True)
class _Payee:
    """A payment under way."""

    act: Pay
    at: float
    hash: str
    preimage: bytes
    task: asyncio.Task[Payment]
    settles_after: int
    """Once so many payments have begun, the receiver lets it settle."""
    held_until: float = 0.0
    """Seconds since the run began; 0: never held."""


@dataclass(slots=True)
class _Live:
    """The network, and how its parts are numbered."""

    testbed: Testbed
    case: Case
    channels: list[tuple[ChannelSpec, LocalChannel]]
    """In the order of the recording, as the opener sees them at the start."""
    began: float
    """Unix seconds."""
    edges: dict[tuple[int, NodeKey], int] = field(default_factory=dict)
    """(scid, the node it leads to) to edge."""

    def now(self) -> float:
        return time.time() - self.began

    def client(self, name: str) -> LndClient:
        return self.testbed.client(name)


async def record_case(
    case: Case, *, name: str | None = None, progress: Progress = lambda done, count: None
) -> Recording:
    """Start the case's network, let everything happen, stop it, and give the recording.

    Args:
        case: what to do.
        name: of the testbed; None takes the case's.
        progress: told after each act.

    Raises:
        TestbedError: the network did not come up, or what its nodes say does not fit together.
        LndError: a node refused or does not answer.
    """
    async with Testbed.running(case.topology, name=name) as testbed:
        live = await _survey(testbed, case)
        start = await _start_records(live)
        info = await live.client(case.topology.nodes[0].name).info()
        live.began = time.time()
        if case.case_set is CaseSet.CONCURRENT:
            steps: list[PaymentRecord | UpdateRecord] = list(await _overlapping(live, progress))
        else:
            steps = await _in_order(live, progress)
        end = await _end(live, steps)
    return Recording(
        version=1,
        name=case.name,
        case_set=case.case_set,
        seed=case.seed,
        case=case.index,
        lnd_version=info.version,
        block_height=info.block_height,
        topology=case.topology,
        channels=tuple(start),
        steps=tuple(sorted(steps, key=lambda step: step.at)),
        end=end,
    )


async def _survey(testbed: Testbed, case: Case) -> _Live:
    found = []
    for channel in case.topology.channels:
        peer = testbed.nodes[channel.target].key
        own = {entry.peer: entry for entry in await testbed.client(channel.source).channels()}
        found.append((channel, own[peer]))
    found.sort(key=lambda pair: pair[1].scid)
    live = _Live(testbed, case, found, began=0.0)
    for index, (channel, local) in enumerate(found):
        live.edges[local.scid, testbed.nodes[channel.target].key] = 2 * index
        live.edges[local.scid, testbed.nodes[channel.source].key] = 2 * index + 1
    return live


async def _start_records(live: _Live) -> list[ChannelRecord]:
    records = []
    for channel, local in live.channels:
        nodes = live.testbed.nodes
        policies = []
        for owner in (channel.source, channel.target):
            known = await live.client(owner).channel(local.scid)
            policy = known.edge_from(nodes[owner].key).policy
            if policy is None:
                raise TestbedError(f"{owner} has announced no policy for channel {local.scid}")
            policies.append(_policy_record(policy))
        records.append(
            ChannelRecord(
                scid=local.scid,
                source=channel.source,
                target=channel.target,
                capacity_msat=channel.capacity_msat,
                balance_msat=(
                    channel.capacity_msat - channel.push_sat * MSAT_PER_SAT,
                    channel.push_sat * MSAT_PER_SAT,
                ),
                policy=policies[0],
                reverse_policy=policies[1],
                opener_cost_msat=local.opener_cost_msat,
            )
        )
    return records


def _policy_record(policy: ChannelPolicy) -> PolicyRecord:
    return PolicyRecord(
        base_fee_msat=policy.base_fee_msat,
        fee_rate_ppm=policy.fee_rate_ppm,
        inbound_base_fee_msat=policy.inbound_base_fee_msat,
        inbound_fee_rate_ppm=policy.inbound_fee_rate_ppm,
        min_htlc_msat=policy.min_htlc_msat,
        max_htlc_msat=policy.max_htlc_msat,
        time_lock_delta=policy.time_lock_delta,
        disabled=int(policy.disabled),
    )


async def _in_order(live: _Live, progress: Progress) -> list[PaymentRecord | UpdateRecord]:
    """One act after the other; the next one begins when nothing moves any more."""
    steps: list[PaymentRecord | UpdateRecord] = []
    held: list[_Payee] = []
    begun, changed = 0, time.time()
    for number, act in enumerate(live.case.acts):
        if isinstance(act, Wait):
            await asyncio.sleep(max(0.0, changed + act.seconds - time.time()))
        elif isinstance(act, Change):
            steps.append(await _change(live, act))
            changed = time.time()
            await asyncio.sleep(act.settle_seconds)
        else:
            payee = await _begin(live, act, settles_after=begun + 1 + act.held_for)
            begun += 1
            if act.held_for and await _kept(live, payee):
                held.append(payee)
            else:
                steps.append(_payment_record(live, payee, await payee.task))
            await _quiet(live, expected=len(held))
        for payee in [payee for payee in held if payee.settles_after <= begun]:
            held.remove(payee)
            steps.append(await _settle(live, payee))
            await _quiet(live, expected=len(held))
        progress(number + 1, len(live.case.acts))
    for payee in held:
        steps.append(await _settle(live, payee))
    await _quiet(live, expected=0)
    return steps


async def _overlapping(live: _Live, progress: Progress) -> Sequence[PaymentRecord]:
    """All payments at their times."""
    acts = [act for act in live.case.acts if isinstance(act, Pay)]
    # Invoices take time that is not the payments'.
    payees: list[_Payee] = []
    requests = [await _invoice(live, act) for act in acts]
    live.began = time.time()
    for act, (request, payment_hash, preimage) in zip(acts, requests, strict=True):
        await asyncio.sleep(max(0.0, act.at - live.now()))
        task = asyncio.ensure_future(_pay(live, act, request))
        payees.append(_Payee(act, live.now(), payment_hash, preimage, task, settles_after=0))
    records = []
    for payee in payees:
        records.append(_payment_record(live, payee, await payee.task))
        progress(len(records), len(acts))
    await _quiet(live, expected=0)
    return records


async def _invoice(live: _Live, act: Pay) -> tuple[str, str, bytes]:
    """Payment request, hash, and preimage if it is a hold invoice."""
    client = live.client(act.target)
    if not act.held_for:
        invoice = await client.add_invoice(act.amount_msat)
        return invoice.payment_request, invoice.payment_hash, b""
    preimage = random.SystemRandom().randbytes(32)
    invoice = await client.add_hold_invoice(act.amount_msat, preimage)
    return invoice.payment_request, invoice.payment_hash, preimage


async def _pay(live: _Live, act: Pay, request: str) -> Payment:
    return await live.client(act.source).pay(
        request,
        fee_limit_msat=act.fee_limit_msat,
        timeout_seconds=PAYMENT_TIMEOUT_SECONDS,
        max_parts=act.max_parts,
    )


async def _begin(live: _Live, act: Pay, *, settles_after: int) -> _Payee:
    request, payment_hash, preimage = await _invoice(live, act)
    at = live.now()
    task = asyncio.ensure_future(_pay(live, act, request))
    return _Payee(act, at, payment_hash, preimage, task, settles_after)


async def _kept(live: _Live, payee: _Payee) -> bool:
    """Whether the receiver holds the payment now; False if it failed before."""
    client = live.client(payee.act.target)
    while not payee.task.done():
        state = await client.lookup_invoice(payee.hash)
        if state.status is InvoiceStatus.ACCEPTED:
            return True
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _settle(live: _Live, payee: _Payee) -> PaymentRecord:
    payee.held_until = live.now()
    await live.client(payee.act.target).settle_invoice(payee.preimage)
    return _payment_record(live, payee, await payee.task)


async def _change(live: _Live, change: Change) -> UpdateRecord:
    channel = live.case.topology.channels[change.channel]
    local = next(local for spec, local in live.channels if spec == channel)
    owner = channel.source if change.of_opener else channel.target
    key = live.testbed.nodes[owner].key
    current = (await live.client(owner).channel(local.scid)).edge_from(key).policy
    if current is None:
        raise TestbedError(f"{owner} has announced no policy for channel {local.scid}")
    # Gossip counts in seconds, and drops a second update within one.
    await asyncio.sleep(max(0.0, current.last_update + 1.05 - time.time()))
    policy = change.policy.to_policy(current.max_htlc_msat)
    at = live.now()
    await live.client(owner).set_policy(local.channel_point, policy)
    target = channel.target if change.of_opener else channel.source
    edge = live.edges[local.scid, live.testbed.nodes[target].key]
    return UpdateRecord(kind="update", at=at, edge=edge, policy=_policy_record(policy))


async def _quiet(live: _Live, *, expected: int) -> None:
    """Wait until no HTLC is on any channel but those of `expected` payments that are kept."""
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        lists = await asyncio.gather(*(live.client(name).channels() for name in live.testbed.nodes))
        if expected == 0:
            if not any(channel.pending_htlcs for own in lists for channel in own):
                return
        else:
            # Both ends of a channel name the same HTLCs only once nothing moves on it.
            again = await asyncio.gather(
                *(live.client(name).channels() for name in live.testbed.nodes)
            )
            if lists == again and _balanced(again):
                return
        await asyncio.sleep(POLL_SECONDS)
    raise TestbedError(f"{live.testbed.name}: payments are still on their way")


def _balanced(lists: Iterable[Sequence[LocalChannel]]) -> bool:
    counts: dict[int, list[int]] = {}
    for own in lists:
        for channel in own:
            counts.setdefault(channel.scid, []).append(channel.pending_htlcs)
    return all(len(set(pair)) == 1 for pair in counts.values())


def _payment_record(live: _Live, payee: _Payee, payment: Payment) -> PaymentRecord:
    settled = payment.status is PaymentStatus.SETTLED
    attempts = sorted(payment.attempts, key=lambda attempt: attempt.attempt_id)
    at = payment.created_at - live.began
    return PaymentRecord(
        at=at,
        source=payee.act.source,
        target=payee.act.target,
        amount_msat=payee.act.amount_msat,
        fee_limit_msat=payee.act.fee_limit_msat,
        max_parts=payee.act.max_parts,
        timeout=float(PAYMENT_TIMEOUT_SECONDS),
        hold=max(0.0, payee.held_until - at) if payee.held_until else 0.0,
        reason="" if settled else payment.failure_reason or payment.status.value,
        fee_msat=payment.fee_msat if settled else 0,
        seconds=live.now() - at,
        attempts=tuple(_attempt_record(live, attempt) for attempt in attempts),
    )


def _attempt_record(live: _Live, attempt: Attempt) -> AttemptRecord:
    route = attempt.route
    amount, expiry = route.total_amount_msat, route.total_time_lock
    hops = []
    for hop in route.hops:
        hops.append(HtlcRecord(live.edges[hop.scid, hop.target], amount, expiry))
        amount, expiry = hop.amount_msat, hop.expiry
    code, failed_at = -1, -1
    if attempt.status is AttemptStatus.SETTLED:
        code = 0
    elif attempt.failure is not None:
        code, failed_at = int(attempt.failure.code), attempt.failure.source_index
    return AttemptRecord(
        hops=tuple(hops),
        code=code,
        failed_at=failed_at,
        started=attempt.attempted_at - live.began,
        resolved=None if attempt.resolved_at is None else attempt.resolved_at - live.began,
    )


async def _end(live: _Live, steps: Sequence[PaymentRecord | UpdateRecord]) -> EndRecord:
    """What the nodes say, after seeing that it is what their ledgers say.

    ListChannels gives whole satoshi per channel and ChannelBalance the exact sum per node; the
    exact balance of a channel follows from the attempts that settled. All three must agree.
    """
    balances = []
    for channel, _ in live.channels:
        pushed = channel.push_sat * MSAT_PER_SAT
        balances.append([channel.capacity_msat - pushed, pushed])
    for step in steps:
        if isinstance(step, UpdateRecord):
            continue
        for attempt in step.attempts:
            for hop in attempt.hops if attempt.code == 0 else ():
                balances[hop.edge >> 1][hop.edge & 1] -= hop.amount_msat
                balances[hop.edge >> 1][(hop.edge & 1) ^ 1] += hop.amount_msat
    listed = []
    sums: dict[str, int] = dict.fromkeys(live.testbed.nodes, 0)
    for (channel, start), (first, second) in zip(live.channels, balances, strict=True):
        ends = []
        for owner, exact, cost in (
            (channel.source, first, start.opener_cost_msat),
            (channel.target, second, 0),
        ):
            own = {entry.scid: entry for entry in await live.client(owner).channels()}
            shown = own[start.scid].local_balance_msat
            expected = max(0, exact - cost)
            if shown != expected // MSAT_PER_SAT * MSAT_PER_SAT:
                raise TestbedError(
                    f"{live.case.name}: {owner} has {shown} msat on channel {start.scid},"
                    f" its ledger says {expected}"
                )
            sums[owner] += expected
            ends.append(shown // MSAT_PER_SAT)
        listed.append((ends[0], ends[1]))
    nodes = {}
    for name in live.testbed.nodes:
        told = await live.client(name).channel_balances()
        if told.local_msat != sums[name]:
            raise TestbedError(
                f"{live.case.name}: {name} has {told.local_msat} msat in its channels,"
                f" its ledger says {sums[name]}"
            )
        nodes[name] = NodeBalance(told.local_msat, told.remote_msat)
    return EndRecord(
        balance_msat=tuple((first, second) for first, second in balances),
        listed_sat=tuple(listed),
        nodes=nodes,
    )
