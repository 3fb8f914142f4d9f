"""The control service: what one side says, the other hears; errors keep their kind."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from lnagents.agent import control as control_module
from lnagents.agent.actor import LearnerStats
from lnagents.agent.control import AgentControl, Outcomes, serve_control, socket_path
from lnagents.agent.delegation_ledger import DelegationTotals
from lnagents.agent.ledger import PaymentRecord, PaymentState
from lnagents.agent.limits import Purpose
from lnagents.agent.metrics import StatusCollector
from lnagents.agent.status import AgentStatus, ChannelStatus, CheckpointReport, PurchaseReport
from lnagents.model.errors import (
    ConfigError,
    InvalidRequestError,
    LimitExceededError,
    LnagentsError,
    MarketError,
    NodeTimeoutError,
    NodeUnavailableError,
    PaymentError,
    PriceError,
)
from lnagents.model.view import RewardTerms

KEY = "02" + "ab" * 32
STATUS = AgentStatus(
    name="alice",
    node=KEY,
    network="regtest",
    dry_run=False,
    paused=True,
    round=7,
    channels=(ChannelStatus(1 << 63, KEY, "bob", 3, 2, 1, True, 5, 6, -7),),
    fees_earned_msat=1,
    fees_paid_msat=2,
    forwards=3,
    payments_settled=4,
    payments_failed=5,
    payments_in_flight=6,
    attempts=7,
    failed_attempts=8,
    policy_updates=9,
    hints_bought=10,
    hint_costs_msat=11,
    hints_sold=12,
    hint_income_msat=13,
    reward_terms=RewardTerms(1, 2, 3, 4, 5, 0.5),
    last_reward=-1.5,
    learner=LearnerStats(1, 2, 0.25, 0.5, 0.75),
    htlc_events=14,
    delegation=DelegationTotals(15, 16, 17, 18, 19),
    pass_key="02" + "ab" * 32,
)
RECORD = PaymentRecord(
    payment_hash="cd" * 32,
    request="lnbc",
    destination=KEY,
    amount_msat=1_000,
    max_fee_msat=10,
    purpose=Purpose.HINT,
    state=PaymentState.SETTLED,
    fee_msat=3,
    preimage=b"preimage",
    reason="",
    requested_at=1.0,
    resolved_at=2.0,
    attempts=2,
    failed_attempts=1,
)


class ScriptedDaemon:
    """Answers as told."""

    def __init__(self) -> None:
        self.error: LnagentsError | None = None
        self.asked: list[object] = []

    async def pay(
        self,
        request: str,
        *,
        max_fee_msat: int | None,
        timeout: float,
        delegate: str | None = None,
    ) -> PaymentRecord:
        self.asked.append((request, max_fee_msat, timeout, delegate))
        if self.error is not None:
            raise self.error
        return RECORD

    async def buy(
        self,
        seller_url: str,
        seller_key: str,
        path: str,
        *,
        max_price_msat: int | None,
        again: bool,
        timeout: float,
    ) -> PurchaseReport:
        self.asked.append((seller_url, seller_key, path, max_price_msat, again, timeout))
        if self.error is not None:
            raise self.error
        return PurchaseReport("ef" * 16, 3_000, b"signed", paid_now=True)

    async def status(self) -> AgentStatus:
        return STATUS

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    async def reload(self) -> None:
        if self.error is not None:
            raise self.error

    async def step(self) -> int:
        if self.error is not None:
            raise self.error
        return 8

    async def checkpoint(self) -> CheckpointReport:
        return CheckpointReport(7, 123)


@asynccontextmanager
async def _served(path: Path) -> AsyncIterator[tuple[ScriptedDaemon, Outcomes, AgentControl]]:
    daemon, outcomes = ScriptedDaemon(), Outcomes()
    async with serve_control(daemon, outcomes, path), AgentControl(path) as control:
        yield daemon, outcomes, control


async def test_what_is_bought_arrives_and_errors_keep_their_kind(tmp_path: Path) -> None:
    async with _served(tmp_path) as (daemon, _, control):
        report = await control.buy("http://s", KEY, "/v1/x", max_price_msat=0, timeout=5.0)
        assert report == PurchaseReport("ef" * 16, 3_000, b"signed", paid_now=True)
        await control.buy("http://s", KEY, "/v1/x", again=True, timeout=6.0)
        assert daemon.asked == [
            ("http://s", KEY, "/v1/x", 0, False, 5.0),
            ("http://s", KEY, "/v1/x", None, True, 6.0),
        ]
        for error, kind in (
            (PriceError("it costs more"), MarketError),
            (LimitExceededError("no budget"), LimitExceededError),
            (PaymentError("dry-run"), PaymentError),
            (InvalidRequestError("nothing is sold under it"), InvalidRequestError),
        ):
            daemon.error = error
            with pytest.raises(kind, match=str(error)):
                await control.buy("http://s", KEY, "/v1/x")


async def test_everything_arrives_as_it_was_said(tmp_path: Path) -> None:
    async with _served(tmp_path) as (daemon, _, control):
        assert stat.S_IMODE(control.path.stat().st_mode) == 0o600
        assert await control.status() == STATUS
        report = await control.pay("lnbc1", max_fee_msat=0, timeout=5.0)
        assert report.settled
        assert (report.payment_hash, report.fee_msat) == (RECORD.payment_hash, 3)
        assert (report.attempts, report.failed_attempts, report.purpose) == (2, 1, "hint")
        await control.pay("lnbc2", timeout=6.0, delegate=KEY)
        await control.pause()
        await control.resume()
        assert daemon.asked == [
            ("lnbc1", 0, 5.0, None),
            ("lnbc2", None, 6.0, KEY),
            "pause",
            "resume",
        ]
        assert await control.checkpoint() == CheckpointReport(7, 123)
        assert await control.step() == 8


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LimitExceededError("limits.per_day_msat"), LimitExceededError),
        (PaymentError("dry-run"), PaymentError),
        (InvalidRequestError("checksum"), InvalidRequestError),
        (ConfigError("agent.toml", "limits: missing"), InvalidRequestError),
        (LnagentsError("something else"), LnagentsError),
    ],
)
async def test_errors_keep_kind_and_sentence(
    tmp_path: Path, error: LnagentsError, kind: type[LnagentsError]
) -> None:
    async with _served(tmp_path) as (daemon, _, control):
        daemon.error = error
        with pytest.raises(kind) as caught:
            await control.pay("lnbc1")
        assert str(caught.value) == str(error)
        with pytest.raises(kind):
            await control.reload()
        with pytest.raises(kind):
            await control.step()


async def test_outcomes_reach_all_who_watch(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, outcomes, control):
        second = replace(RECORD, state=PaymentState.FAILED, reason="no route")

        async def watch() -> list[str]:
            seen = []
            async for report in control.outcomes():
                seen.append(report.reason)
                if len(seen) == 2:
                    break
            return seen

        watching = [asyncio.ensure_future(watch()) for _ in range(2)]
        async with asyncio.timeout(10.0):
            while len(outcomes._queues) < 2:  # noqa: ASYNC110 (nobody announces watchers)
                await asyncio.sleep(0.001)
            outcomes.publish(RECORD)
            outcomes.publish(second)
            assert await asyncio.gather(*watching) == [["", "no route"]] * 2


async def test_without_a_daemon_that_is_said(tmp_path: Path) -> None:
    async with AgentControl(tmp_path) as control:
        with pytest.raises(NodeUnavailableError, match="no agent listens on"):
            await control.status()


async def test_a_daemon_that_hangs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HangingDaemon(ScriptedDaemon):
        async def checkpoint(self) -> CheckpointReport:
            await asyncio.sleep(60.0)
            raise AssertionError

    monkeypatch.setattr(control_module, "CALL_SECONDS", 0.2)
    async with serve_control(HangingDaemon(), Outcomes(), tmp_path), AgentControl(tmp_path) as it:
        with pytest.raises(NodeTimeoutError, match=rf"the agent on {tmp_path}.* in time"):
            await it.checkpoint()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a socket's path may have 107"):
        socket_path(tmp_path / ("x" * 120))


def test_the_status_becomes_metrics() -> None:
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: STATUS))
    text = generate_latest(registry).decode()
    assert "lnagents_fees_earned_msat_total 1.0" in text
    assert "lnagents_reward_msat -1.5" in text
    assert "lnagents_channel_inbound_fee_rate_ppm" in text
    assert "-7.0" in text
