"""The host of all who decide on what the own node is asked to forward (LND's HtlcInterceptor).

LND lets one program decide at a time, so the daemon has one `Forwarder` and hands each HTLC to a
chain of `Decider`s, the first of which that has an opinion counts. Most decide at once from what
they have in memory: then nothing is awaited between an HTLC and its answer.

**Nothing is stranded.** Who asks for time gets `deadline_seconds`, a small part of one of the
blocks by which HTLCs expire; then the node forwards as if nobody had been asked. A decider that
fails has no opinion. If an answer cannot be handed over, the connection is given up. And when it
breaks, also because this process was killed, LND resumes all that it holds (unless its
`requireinterceptor` is set). Whoever pays onward must not be cut off like that, and takes the HTLC
over (`Taken`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeAlias

import structlog

from lnagents.lnd import (
    FailHtlc,
    HeldHtlc,
    HtlcAnswer,
    ResumeHtlc,
    SettleHtlc,
    StreamRestarted,
)
from lnagents.model.errors import AlreadyExistsError, LndError, PermissionRefusedError
from lnagents.model.units import format_short_channel_id

RETRY_SECONDS = 30.0
"""Between two attempts to become the one who decides, while another program does."""

STOP_SECONDS = 5.0
"""How long what was taken over may go on when the agent stops."""

REMEMBERED_DECISIONS = 10_000
"""So many of the last ones tell how long decisions take."""

_log = structlog.get_logger("lnagents.agent.forwarder")


@dataclass(frozen=True, slots=True)
class Taken:
    """A decider has made an HTLC its own and will answer it, whenever that is.

    No deadline of the host applies: after an onward payment has begun, only its end may decide. So
    `answer` has to end by itself. If it raises, nothing is answered, and the node gives the HTLC
    back before it expires (`HeldHtlc.auto_fail_height`): better late than both refused and paid.
    """

    answer: Coroutine[Any, Any, HtlcAnswer]


Decision: TypeAlias = HtlcAnswer | Taken | Awaitable["HtlcAnswer | Taken | None"] | None
"""None: no opinion, ask the next. What is awaited may have none either."""


class Decider(Protocol):
    """Has an opinion on some HTLCs."""

    def decide(self, htlc: HeldHtlc) -> Decision:
        """What is to become of `htlc`.

        Called in the event loop for every single HTLC: it answers from memory, or returns
        something that is awaited.
        """


class Interceptor(Protocol):
    """What is needed of the node; `lnagents.lnd.HtlcInterceptor` has it."""

    def htlcs(self) -> AsyncGenerator[HeldHtlc | StreamRestarted, None]:
        """What the node holds from now on."""

    def answer(self, htlc: HeldHtlc, answer: HtlcAnswer) -> Awaitable[bool]:
        """Say what becomes of it; whether the node was still there to be told.

        An answer that cannot be handed over gives the connection up.
        """


class ForwarderState(str, Enum):
    """Whether the agent decides."""

    OFF = "off"
    """It does not ask to: the node forwards by itself."""
    CONNECTING = "connecting"
    DECIDING = "deciding"
    OTHER = "another program decides on the node's forwards"
    FORBIDDEN = "the macaroon does not allow deciding on forwards"


@dataclass(frozen=True, slots=True)
class ForwarderStatus:
    """What was decided since the start."""

    state: ForwarderState = ForwarderState.OFF
    resumed: int = 0
    refused: int = 0
    settled: int = 0
    """With a preimage of the agent's own: it had paid onward."""
    late: int = 0
    """Of the resumed: nobody had decided by the deadline."""
    lost: int = 0
    """Answers that came too late, as the connection had broken."""
    held: int = 0
    """Not answered yet."""
    p50_ms: float = 0.0
    """Median time from an HTLC to its answer, of those that nobody took over."""
    p99_ms: float = 0.0


class Forwarder:
    """Runs until it is cancelled; `deciders` are asked in their order."""

    def __init__(
        self, interceptor: Interceptor, deciders: Sequence[Decider], *, deadline_seconds: float
    ) -> None:
        self._interceptor = interceptor
        self._deciders = tuple(deciders)
        self._deadline = deadline_seconds
        self._known = asyncio.Event()
        """Set when it is known whether this is the one who decides."""
        self._state = ForwarderState.CONNECTING
        self._counts: dict[type[HtlcAnswer], int] = {ResumeHtlc: 0, FailHtlc: 0, SettleHtlc: 0}
        self._late = self._lost = 0
        self._seconds: deque[float] = deque(maxlen=REMEMBERED_DECISIONS)
        self._waiting: set[asyncio.Task[None]] = set()
        self._taken: set[asyncio.Task[None]] = set()

    @property
    def status(self) -> ForwarderStatus:
        """What was decided so far."""
        times = sorted(self._seconds)
        return ForwarderStatus(
            state=self._state,
            resumed=self._counts[ResumeHtlc],
            refused=self._counts[FailHtlc],
            settled=self._counts[SettleHtlc],
            late=self._late,
            lost=self._lost,
            held=len(self._waiting) + len(self._taken),
            p50_ms=_percentile(times, 0.50) * 1_000,
            p99_ms=_percentile(times, 0.99) * 1_000,
        )

    async def wait_known(self, timeout: float) -> ForwarderState:
        """Who decides, as soon as that is known, or after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._known.wait()
        return self._state

    async def run(self) -> None:
        """Decide until cancelled; waits while the node is away or another program decides.

        What was taken over then gets `STOP_SECONDS` to end, as its answers need the connection.
        """
        deciding = asyncio.ensure_future(self._decide())
        try:
            await asyncio.shield(deciding)
        finally:
            if self._taken:
                await asyncio.wait(self._taken, timeout=STOP_SECONDS)
            tasks = [deciding, *self._waiting, *self._taken]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _decide(self) -> None:
        while True:
            try:
                await self._follow()
            except AlreadyExistsError:
                self._now(ForwarderState.OTHER)
            except PermissionRefusedError:
                self._now(ForwarderState.FORBIDDEN)
            except LndError as exc:
                self._now(ForwarderState.CONNECTING)
                _log.warning("forwards_not_decided", cause=str(exc))
            await asyncio.sleep(RETRY_SECONDS)

    def _now(self, state: ForwarderState) -> None:
        if state is not ForwarderState.CONNECTING:
            self._known.set()
        if state is not self._state:
            self._state = state
            log = _log.info if state is ForwarderState.DECIDING else _log.warning
            log("forwarding", state=state.value)

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._interceptor.htlcs()) as htlcs:
            async for item in htlcs:
                if isinstance(item, StreamRestarted):
                    self._now(ForwarderState.DECIDING)
                else:
                    self._take(item)

    # ---- One HTLC

    def _take(self, htlc: HeldHtlc) -> None:
        began = time.perf_counter()
        place, decision = self._ask(htlc, 0)
        if decision is None:
            decision = ResumeHtlc()
        if isinstance(decision, ResumeHtlc | FailHtlc | SettleHtlc):
            self._answer(htlc, decision, began)
        elif isinstance(decision, Taken):
            self._begin(self._finish(htlc, decision), self._taken)
        else:
            self._begin(self._wait(htlc, decision, place, began), self._waiting)

    def _begin(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _ask(self, htlc: HeldHtlc, first: int) -> tuple[int, Decision]:
        """The first opinion from decider `first` on, and the place after its owner."""
        for place, decider in enumerate(self._deciders[first:], start=first + 1):
            try:
                decision = decider.decide(htlc)
            except Exception as exc:  # whatever it is, the HTLC must not wait for it
                self._failed(htlc, exc)
                continue
            if decision is not None:
                return place, decision
        return len(self._deciders), None

    async def _wait(
        self,
        htlc: HeldHtlc,
        decision: Awaitable[HtlcAnswer | Taken | None],
        place: int,
        began: float,
    ) -> None:
        """Wait for an opinion within the deadline, and ask the others if it is none."""
        found: HtlcAnswer | Taken | None = None
        try:
            async with asyncio.timeout(self._deadline):
                pending: Decision = decision
                while pending is not None:
                    if isinstance(pending, ResumeHtlc | FailHtlc | SettleHtlc | Taken):
                        found = pending
                        break
                    try:
                        pending = await pending
                    except Exception as exc:  # as in `_ask`
                        self._failed(htlc, exc)
                        pending = None
                    if pending is None:
                        place, pending = self._ask(htlc, place)
        except TimeoutError:
            self._late += 1
            _log.warning("forward_decided_late", payment_hash=htlc.payment_hash)
        if isinstance(found, Taken):
            self._begin(self._finish(htlc, found), self._taken)
        else:
            await self._answer(htlc, found or ResumeHtlc(), began)

    async def _finish(self, htlc: HeldHtlc, taken: Taken) -> None:
        try:
            answer = await taken.answer
        except Exception:
            _log.exception("forward_left_to_the_node", payment_hash=htlc.payment_hash)
            return
        await self._answer(htlc, answer, None)

    def _answer(
        self, htlc: HeldHtlc, answer: HtlcAnswer, began: float | None
    ) -> asyncio.Future[bool]:
        """Hand it over, without waiting until it is on its way; whether it was."""
        told = asyncio.ensure_future(self._interceptor.answer(htlc, answer))
        told.add_done_callback(functools.partial(self._count, type(answer), began))
        return told

    def _count(
        self, kind: type[HtlcAnswer], began: float | None, told: asyncio.Future[bool]
    ) -> None:
        if told.cancelled() or not told.result():
            self._lost += 1
            return
        self._counts[kind] += 1
        if began is not None:
            self._seconds.append(time.perf_counter() - began)

    def _failed(self, htlc: HeldHtlc, exc: Exception) -> None:
        _log.error(
            "decider_failed",
            payment_hash=htlc.payment_hash,
            channel=format_short_channel_id(htlc.outgoing_scid),
            cause=repr(exc),
        )


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
