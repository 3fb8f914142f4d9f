"""The host of deciders: who is asked, who is heard, and that nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from lnagents.agent import forwarder as module
from lnagents.agent.forwarder import Decision, Forwarder, ForwarderState, Taken
from lnagents.lnd import (
    FailHtlc,
    HeldHtlc,
    HtlcAnswer,
    ResumeHtlc,
    SettleHtlc,
    StreamRestarted,
)
from lnagents.model.errors import AlreadyExistsError, LndError, PermissionRefusedError

PATIENCE_SECONDS = 5.0


def htlc(number: int = 1) -> HeldHtlc:
    return HeldHtlc(
        incoming_scid=1,
        incoming_htlc_id=number,
        incoming_amount_msat=1_001,
        incoming_expiry=200,
        payment_hash=f"{number:064x}",
        outgoing_scid=2,
        outgoing_amount_msat=1_000,
        outgoing_expiry=160,
        custom_records={},
        auto_fail_height=187,
    )


class Node:
    """Holds what it is given until it is answered."""

    def __init__(self) -> None:
        self.given: asyncio.Queue[HeldHtlc | StreamRestarted | LndError] = asyncio.Queue()
        self.given.put_nowait(StreamRestarted("HtlcInterceptor", 0))
        self.answers: asyncio.Queue[tuple[int, HtlcAnswer]] = asyncio.Queue()
        self.connected = True
        self.answering = asyncio.Event()
        self.answering.set()

    async def htlcs(self) -> AsyncGenerator[HeldHtlc | StreamRestarted, None]:
        while True:
            item = await self.given.get()
            if isinstance(item, LndError):
                raise item
            yield item

    async def answer(self, htlc: HeldHtlc, answer: HtlcAnswer) -> bool:
        await self.answering.wait()
        if self.connected:
            self.answers.put_nowait((htlc.incoming_htlc_id, answer))
        return self.connected

    async def next_answer(self) -> tuple[int, HtlcAnswer]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.answers.get()


async def told() -> None:
    """The forwarder has heard what became of its answers."""
    await asyncio.sleep(0.01)


class Saying:
    """A decider that says what it is told to."""

    def __init__(self, say: Callable[[HeldHtlc], Decision]) -> None:
        self.say = say
        self.asked = 0

    def decide(self, htlc: HeldHtlc) -> Decision:
        self.asked += 1
        return self.say(htlc)


def saying(decision: HtlcAnswer | None) -> Saying:
    return Saying(lambda _: decision)


@asynccontextmanager
async def deciding(
    node: Node, deciders: Sequence[Saying], deadline: float = PATIENCE_SECONDS
) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(node, deciders, deadline_seconds=deadline)
    running = asyncio.ensure_future(forwarder.run())
    await forwarder.wait_known(PATIENCE_SECONDS)
    try:
        yield forwarder
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_the_first_opinion_counts() -> None:
    silent, strict, unheard = saying(None), saying(FailHtlc()), saying(ResumeHtlc())
    node = Node()
    async with deciding(node, (silent, strict, unheard)) as forwarder:
        node.given.put_nowait(htlc())
        assert await node.next_answer() == (1, FailHtlc())
        assert (silent.asked, strict.asked, unheard.asked) == (1, 1, 0)
        await told()
        status = forwarder.status
    assert (status.state, status.refused, status.resumed) == (ForwarderState.DECIDING, 1, 0)
    assert 0 < status.p50_ms <= status.p99_ms


async def test_without_an_opinion_the_node_forwards() -> None:
    node = Node()
    async with deciding(node, ()) as forwarder:
        node.given.put_nowait(htlc())
        assert await node.next_answer() == (1, ResumeHtlc())
        assert forwarder.status.late == 0


async def test_who_wants_time_keeps_nobody_else_waiting() -> None:
    ready = asyncio.Event()

    async def slow() -> HtlcAnswer | None:
        await ready.wait()
        return None

    node = Node()
    deciders = (
        Saying(lambda held: slow() if held.incoming_htlc_id == 1 else None),
        Saying(lambda held: FailHtlc() if held.incoming_htlc_id == 1 else None),
    )
    async with deciding(node, deciders) as forwarder:
        node.given.put_nowait(htlc(1))
        node.given.put_nowait(htlc(2))
        assert await node.next_answer() == (2, ResumeHtlc())
        assert forwarder.status.held == 1
        ready.set()
        # It had no opinion in the end, so the next was asked.
        assert await node.next_answer() == (1, FailHtlc())


async def test_after_the_deadline_the_node_forwards() -> None:
    async def never() -> HtlcAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    node = Node()
    async with deciding(node, (Saying(lambda _: never()),), deadline=0.05) as forwarder:
        node.given.put_nowait(htlc())
        assert await node.next_answer() == (1, ResumeHtlc())
        await asyncio.sleep(0.01)
        assert (forwarder.status.late, forwarder.status.held) == (1, 0)


async def test_a_decider_that_fails_has_no_opinion() -> None:
    def fail(_: HeldHtlc) -> Decision:
        raise KeyError("a bug")

    async def fail_later() -> HtlcAnswer:
        raise TimeoutError("another bug")

    node = Node()
    deciders = (Saying(fail), Saying(lambda _: fail_later()), saying(FailHtlc()))
    async with deciding(node, deciders) as forwarder:
        node.given.put_nowait(htlc())
        assert await node.next_answer() == (1, FailHtlc())
        assert forwarder.status.late == 0


async def test_what_was_taken_over_has_all_the_time_it_needs() -> None:
    arrived = asyncio.Event()

    async def pay_onward() -> HtlcAnswer:
        await arrived.wait()
        return SettleHtlc(b"\1" * 32)

    async def think() -> Taken:
        return Taken(pay_onward())

    node = Node()
    deciders = (
        Saying(lambda held: Taken(pay_onward()) if held.incoming_htlc_id == 1 else think()),
    )
    async with deciding(node, deciders, deadline=0.05) as forwarder:
        for number in (1, 2):
            node.given.put_nowait(htlc(number))
        await asyncio.sleep(0.2)
        assert node.answers.empty()
        assert forwarder.status.held == 2
        arrived.set()
        answers = {await node.next_answer() for _ in range(2)}
        assert answers == {(1, SettleHtlc(b"\1" * 32)), (2, SettleHtlc(b"\1" * 32))}
        await told()
        status = forwarder.status
        assert (status.settled, status.late) == (2, 0)
        # Waiting for an onward payment says nothing about how quick decisions are.
        assert status.p99_ms == 0.0


async def test_what_was_taken_over_may_end_when_the_agent_stops() -> None:
    node = Node()
    began = asyncio.Event()

    async def pay_onward() -> HtlcAnswer:
        began.set()
        await asyncio.sleep(0.1)
        return SettleHtlc(b"\1" * 32)

    async with deciding(node, (Saying(lambda _: Taken(pay_onward())),)):
        node.given.put_nowait(htlc())
        await began.wait()
    assert node.answers.get_nowait() == (1, SettleHtlc(b"\1" * 32))


async def test_a_failure_after_taking_over_answers_nothing() -> None:
    async def pay_onward() -> HtlcAnswer:
        raise OSError("nobody knows whether it was paid")

    node = Node()
    async with deciding(node, (Saying(lambda _: Taken(pay_onward())),)) as forwarder:
        node.given.put_nowait(htlc())
        node.given.put_nowait(htlc(2))
        await asyncio.sleep(0.05)
        assert node.answers.empty()
        assert forwarder.status.held == 0


async def test_an_answer_that_cannot_be_handed_over_holds_up_nothing() -> None:
    node = Node()
    decider = saying(None)
    async with deciding(node, (decider,)) as forwarder:
        node.answering.clear()
        for number in (1, 2):
            node.given.put_nowait(htlc(number))
        await told()
        assert decider.asked == 2
        # Then the connection is given up, and what waited is void.
        node.connected = False
        node.answering.set()
        await told()
        assert forwarder.status.lost == 2
        node.connected = True
        node.given.put_nowait(StreamRestarted("HtlcInterceptor", 1))
        node.given.put_nowait(htlc(3))
        assert await node.next_answer() == (3, ResumeHtlc())
        await told()
        assert (forwarder.status.lost, forwarder.status.resumed) == (2, 1)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (AlreadyExistsError("interceptor already exists"), ForwarderState.OTHER),
        (PermissionRefusedError("permission denied"), ForwarderState.FORBIDDEN),
    ],
)
async def test_who_may_not_decide_says_why_and_tries_again(
    error: LndError, state: ForwarderState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    node = Node()
    node.given = asyncio.Queue()
    node.given.put_nowait(error)
    async with deciding(node, ()) as forwarder:
        assert forwarder.status.state is state
        node.given.put_nowait(StreamRestarted("HtlcInterceptor", 0))
        node.given.put_nowait(htlc())
        assert await node.next_answer() == (1, ResumeHtlc())
        assert forwarder.status.state is ForwarderState.DECIDING
