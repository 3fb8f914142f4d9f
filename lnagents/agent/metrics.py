"""The Prometheus endpoint: an agent's state, read when it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn
from prometheus_client import CollectorRegistry, make_asgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lnagents.agent.status import AgentStatus
from lnagents.model.errors import PortInUseError
from lnagents.model.units import format_short_channel_id

STOP_SECONDS = 1

_COUNTERS = (
    ("fees_earned_msat", "Fees of settled forwards, msat"),
    ("fees_paid_msat", "Fees of own settled payments, msat"),
    ("forwards", "Settled forwards"),
    ("payments_settled", "Own payments that settled"),
    ("payments_failed", "Own payments that failed"),
    ("attempts", "Attempts of own payments"),
    ("failed_attempts", "Attempts that failed"),
    ("policy_updates", "Policies set"),
    ("hints_bought", "Hints bought"),
    ("hint_costs_msat", "Paid for hints, msat"),
    ("hints_sold", "Hints sold"),
    ("hint_income_msat", "Earned with hints, msat"),
    ("htlc_events", "HTLC events handled since the start"),
)

_FORWARDING_COUNTERS = (
    ("resumed", "Forwards that the agent let through since the start"),
    ("refused", "Forwards that it refused"),
    ("settled", "Forwards that it settled, having paid onward"),
    ("late", "Forwards that nobody had decided on in time"),
    ("lost", "Decisions that could not be told to the node"),
)

_FORWARDING_GAUGES = (
    ("held", "Forwards that wait for a decision"),
    ("p50_ms", "Median time of the last decisions, ms"),
    ("p99_ms", "99th percentile of the time of the last decisions, ms"),
)

_DELEGATION_COUNTERS = (
    ("settled", "Payments whose way was left to the agent, and that arrived"),
    ("earned_msat", "Earned with them, msat"),
    ("failed", "Those for which no way was found"),
    ("lost", "Those that were paid onward while what had come in went back"),
    ("lost_msat", "Lost by that, msat"),
)

_GAUGES = (
    ("round", "Rounds so far"),
    ("payments_in_flight", "Own payments under way"),
    ("paused", "1 while decisions are paused"),
    ("dry_run", "1 while decisions are only logged"),
)

_CHANNEL_GAUGES = (
    ("local_balance_msat", "Balance on the own side, msat"),
    ("remote_balance_msat", "Balance on the peer's side, msat"),
    ("fee_rate_ppm", "Own fee rate, ppm"),
    ("base_fee_msat", "Own base fee, msat"),
    ("inbound_fee_rate_ppm", "Own inbound fee rate, ppm"),
)


class StatusCollector(Collector):
    """Turns a status into metrics."""

    def __init__(self, status: Callable[[], AgentStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        status = self._status()
        for name, help_ in _COUNTERS:
            yield CounterMetricFamily(f"lnagents_{name}", help_, value=getattr(status, name))
        for name, help_ in _GAUGES:
            yield GaugeMetricFamily(f"lnagents_{name}", help_, value=float(getattr(status, name)))
        for name, help_ in _FORWARDING_COUNTERS:
            value = getattr(status.forwarding, name)
            yield CounterMetricFamily(f"lnagents_forwarding_{name}", help_, value=value)
        for name, help_ in _DELEGATION_COUNTERS:
            value = getattr(status.delegation, name)
            yield CounterMetricFamily(f"lnagents_delegation_{name}", help_, value=value)
        for name, help_ in _FORWARDING_GAUGES:
            value = float(getattr(status.forwarding, name))
            yield GaugeMetricFamily(f"lnagents_forwarding_{name}", help_, value=value)
        if status.last_reward is not None:
            help_ = "Reward of the last round, msat"
            yield GaugeMetricFamily("lnagents_reward_msat", help_, value=status.last_reward)
        for name, help_ in _CHANNEL_GAUGES:
            family = GaugeMetricFamily(f"lnagents_channel_{name}", help_, labels=("channel",))
            for channel in status.channels:
                label = format_short_channel_id(channel.scid)
                family.add_metric((label,), getattr(channel, name))
            yield family


class _Server(uvicorn.Server):
    """Leaves the signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_metrics(status: Callable[[], AgentStatus], listen: str) -> AsyncIterator[None]:
    """Answer Prometheus on `listen` (HOST:PORT) until the block ends.

    Raises:
        PortInUseError: another program listens there.
    """
    registry = CollectorRegistry()
    registry.register(StatusCollector(status))
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except OSError as exc:
        listener.close()
        raise PortInUseError(f"metrics cannot be served on {listen}: {exc.strerror}") from exc
    app = make_asgi_app(registry)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="metrics")
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        listener.close()
