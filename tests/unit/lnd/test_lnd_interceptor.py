"""The interceptor: what is held, what is answered, and what happens when the stream breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest

from lnagents.lnd import (
    FailHtlc,
    HeldHtlc,
    LndClient,
    ResumeHtlc,
    SettleHtlc,
    StreamRestarted,
    interceptor,
)
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.stubs import router_pb2 as router
from lnagents.model.errors import AlreadyExistsError, PermissionRefusedError
from lnagents.model.payment import FailureCode
from tests.unit.lnd.lnd_server import serving

Context = grpc.aio.ServicerContext[Any, Any]
Answers = AsyncIterator[router.ForwardHtlcInterceptResponse]
Item = TypeVar("Item")

PREIMAGE = bytes(range(32))


def asked(number: int) -> router.ForwardHtlcInterceptRequest:
    return router.ForwardHtlcInterceptRequest(
        incoming_circuit_key=router.CircuitKey(chan_id=7, htlc_id=number),
        incoming_amount_msat=1_100,
        incoming_expiry=200,
        payment_hash=bytes(32),
        outgoing_requested_chan_id=8,
        outgoing_amount_msat=1_000,
        outgoing_expiry=160,
        custom_records={65_537: b"to the forwarder"},
        auto_fail_height=190,
    )


class Switch:
    """One interceptor at a time, as LND has it; each is asked about `count` HTLCs."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.answers: list[router.ForwardHtlcInterceptResponse] = []
        self.sessions = 0
        self.active = False
        self.broken = asyncio.Event()

    async def serve(self, answers: Answers, context: Context) -> AsyncIterator[Any]:
        if self.active:
            await context.abort(grpc.StatusCode.UNKNOWN, "interceptor already exists")
        self.active = True
        self.sessions += 1
        try:
            for number in range(self.count):
                yield asked(number)
            reading = asyncio.ensure_future(self._read(answers))
            breaking = asyncio.ensure_future(self.broken.wait())
            await asyncio.wait([reading, breaking], return_when=asyncio.FIRST_COMPLETED)
            reading.cancel()
            breaking.cancel()
            self.broken.clear()
        finally:
            self.active = False

    async def _read(self, answers: Answers) -> None:
        async for answer in answers:
            self.answers.append(answer)


async def take(stream: AsyncGenerator[Item, None], count: int) -> list[Item]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


async def until_answered(switch: Switch, count: int) -> None:
    async with asyncio.timeout(20):
        while len(switch.answers) < count:  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.01)


async def test_what_is_held_can_be_resumed_settled_and_refused(tmp_path: Path) -> None:
    switch = Switch(3)
    async with (
        serving(tmp_path, {"HtlcInterceptor": switch.serve}) as node,
        LndClient(node.endpoint) as client,
    ):
        held = client.htlc_interceptor()
        async with aclosing(held.htlcs()) as stream:
            began, *htlcs = await take(stream, 4)
            assert began == StreamRestarted("HtlcInterceptor", 0)
            first, second, third = (htlc for htlc in htlcs if isinstance(htlc, HeldHtlc))
            assert first == HeldHtlc(
                incoming_scid=7,
                incoming_htlc_id=0,
                incoming_amount_msat=1_100,
                incoming_expiry=200,
                payment_hash="00" * 32,
                outgoing_scid=8,
                outgoing_amount_msat=1_000,
                outgoing_expiry=160,
                custom_records={65_537: b"to the forwarder"},
                auto_fail_height=190,
            )
            # In whatever order, and at the same time.
            told = await asyncio.gather(
                held.answer(third, FailHtlc(FailureCode.INVALID_ONION_KEY)),
                held.answer(first, ResumeHtlc()),
                held.answer(second, SettleHtlc(PREIMAGE)),
            )
            assert all(told)
            assert not await held.answer(first, FailHtlc())
            await until_answered(switch, 3)
    third_answer, first_answer, second_answer = switch.answers
    assert first_answer.incoming_circuit_key == router.CircuitKey(chan_id=7, htlc_id=0)
    assert first_answer.action == router.RESUME
    assert (second_answer.action, second_answer.preimage) == (router.SETTLE, PREIMAGE)
    assert third_answer.action == router.FAIL
    assert third_answer.failure_code == ln.Failure.INVALID_ONION_KEY


async def test_after_a_break_it_holds_again_and_old_answers_are_void(tmp_path: Path) -> None:
    switch = Switch(1)
    async with (
        serving(tmp_path, {"HtlcInterceptor": switch.serve}) as node,
        LndClient(node.endpoint) as client,
    ):
        held = client.htlc_interceptor()
        async with aclosing(held.htlcs()) as stream:
            _, htlc = await take(stream, 2)
            assert isinstance(htlc, HeldHtlc)
            switch.broken.set()
            restarted, again = await take(stream, 2)
            assert isinstance(restarted, StreamRestarted)
            assert restarted.restarts == 1
            assert "ended the stream" in restarted.cause
            assert isinstance(again, HeldHtlc)
            await held.answer(again, ResumeHtlc())
            assert not await held.answer(htlc, SettleHtlc(PREIMAGE))
            await until_answered(switch, 1)
    assert switch.sessions == 2
    assert [answer.action for answer in switch.answers] == [router.RESUME]


async def test_a_node_that_takes_no_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(call: Any, request: Any) -> None:
        await asyncio.Event().wait()

    switch = Switch(2)
    async with (
        serving(tmp_path, {"HtlcInterceptor": switch.serve}) as node,
        LndClient(node.endpoint) as client,
    ):
        held = client.htlc_interceptor()
        async with aclosing(held.htlcs()) as stream:
            _, first, second = await take(stream, 3)
            assert isinstance(first, HeldHtlc)
            assert isinstance(second, HeldHtlc)
            with monkeypatch.context() as patch:
                patch.setattr(interceptor, "WRITE_SECONDS", 0.05)
                patch.setattr("grpc.aio._call.StreamStreamCall.write", never)
                told = [held.answer(one, ResumeHtlc()) for one in (first, second)]
                (restarted,) = await take(stream, 1)
            assert isinstance(restarted, StreamRestarted)
            assert "takes no answers" in restarted.cause
            assert await asyncio.gather(*told) == [False, False]
            # It goes on with what the node holds then.
            again = (await take(stream, 1))[0]
            assert isinstance(again, HeldHtlc)
            assert await held.answer(again, ResumeHtlc())
            await until_answered(switch, 1)


async def test_answers_are_not_waited_for(tmp_path: Path) -> None:
    switch = Switch(51)
    async with (
        serving(tmp_path, {"HtlcInterceptor": switch.serve}) as node,
        LndClient(node.endpoint) as client,
    ):
        held = client.htlc_interceptor()
        async with aclosing(held.htlcs()) as stream:
            _, *htlcs, last = await take(stream, 52)
            told = [held.answer(one, ResumeHtlc()) for one in htlcs if isinstance(one, HeldHtlc)]
            told[7].cancel()  # who asked went away; the answer stands
            await until_answered(switch, 50)
            assert [answer.incoming_circuit_key.htlc_id for answer in switch.answers] == [
                *range(50)
            ]
            assert all([await one for one in told if not one.cancelled()])
        # The node has resumed what was not answered.
        assert isinstance(last, HeldHtlc)
        assert not await held.answer(last, ResumeHtlc())


async def test_it_begins_only_when_the_node_holds(tmp_path: Path) -> None:
    switch = Switch(0)
    async with (
        serving(tmp_path, {"HtlcInterceptor": switch.serve}) as node,
        LndClient(node.endpoint) as client,
        aclosing(client.htlc_interceptor().htlcs()) as stream,
    ):
        assert await take(stream, 1) == [StreamRestarted("HtlcInterceptor", 0)]
        assert switch.active


async def test_another_program_that_stays_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptor, "OTHER_SECONDS", 0.2)
    switch = Switch(0)
    async with (
        serving(tmp_path, {"HtlcInterceptor": switch.serve}) as node,
        LndClient(node.endpoint) as client,
        LndClient(node.endpoint) as other,
        aclosing(client.htlc_interceptor().htlcs()) as first,
        aclosing(other.htlc_interceptor().htlcs()) as second,
    ):
        await take(first, 1)
        with pytest.raises(AlreadyExistsError, match="interceptor already exists"):
            await take(second, 1)
        assert switch.active


async def test_a_macaroon_that_does_not_allow_it_is_an_error(tmp_path: Path) -> None:
    async def refuse(answers: Answers, context: Context) -> AsyncIterator[Any]:
        await context.abort(grpc.StatusCode.UNKNOWN, "permission denied")
        yield

    async with (
        serving(tmp_path, {"HtlcInterceptor": refuse}) as node,
        LndClient(node.endpoint) as client,
        aclosing(client.htlc_interceptor().htlcs()) as stream,
    ):
        with pytest.raises(PermissionRefusedError):
            await take(stream, 1)


def test_only_the_codes_that_lnd_lets_through_are_taken() -> None:
    with pytest.raises(ValueError, match="FEE_INSUFFICIENT"):
        FailHtlc(FailureCode.FEE_INSUFFICIENT)
