"""The agent daemons of a testbed: one real process per node, from configuration to the end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lnagents.agent import AgentControl, AgentStatus
from lnagents.model.errors import LnagentsError, NodeDiedError
from lnagents.model.topology import PolicySpec
from lnagents.model.units import MSAT_PER_SAT
from lnagents.testbed import Testbed
from lnagents.testbed.private import write_private
from lnagents.testbed.waiting import wait_until

START_TIMEOUT_SECONDS = 120.0
"""For all daemons; torch takes some seconds of processor time to load in each."""

STOP_TIMEOUT_SECONDS = 20.0

BELIEF_ROUNDS = 5.0
"""Half-life, in rounds, of what an agent believes of others' liquidity."""

PRICE_ROUNDS = 5
"""For which a seller that learns its prices tries one."""

LOG_LINES = 20
"""Shown when a daemon dies."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How the daemons of one run behave."""

    seed: int = 0
    round_seconds: float = 2.0
    actor: str = "ppo"
    """`ppo` or `fixed`, as in an agent's configuration."""
    actors: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """The keys of `[actor]` for nodes that have another one, by name."""
    on_request: bool = False
    """Rounds begin when `AgentControl.step` asks for them, instead of by themselves."""
    buy_hints: bool = True
    max_price_sat: int | None = None
    """If given, sellers learn their prices, up to this; else they ask what the topology says."""
    pinned_policy: PolicySpec | None = None
    """Fees that all agents are held to, so that they watch, decide and learn without effect."""


@dataclass(slots=True)
class _Daemon:
    name: str
    control: AgentControl
    log: Path
    process: asyncio.subprocess.Process


class Fleet:
    """Running daemons, by the name of their node; made by `running_fleet`."""

    def __init__(self, daemons: dict[str, _Daemon]) -> None:
        self._daemons = daemons

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes that have a daemon, in the topology's order."""
        return tuple(self._daemons)

    def control(self, name: str) -> AgentControl:
        """The control client of one daemon."""
        return self._daemons[name].control

    async def statuses(self) -> dict[str, AgentStatus]:
        """What all daemons say of themselves now."""
        async with asyncio.TaskGroup() as group:
            asked = {
                name: group.create_task(daemon.control.status())
                for name, daemon in self._daemons.items()
            }
        return {name: task.result() for name, task in asked.items()}

    async def watch(self) -> None:
        """Wait, for ever if all is well, until a daemon ends.

        Raises:
            NodeDiedError: naming it, with its last log lines.
        """
        waits = {
            asyncio.ensure_future(daemon.process.wait()): daemon
            for daemon in self._daemons.values()
        }
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        daemon = waits[done.pop()]
        raise NodeDiedError(
            f"the agent of {daemon.name} ended with {daemon.process.returncode}; "
            f"its last log lines:\n{await asyncio.to_thread(_tail, daemon.log)}"
        )


@asynccontextmanager
async def running_fleet(
    testbed: Testbed, directory: Path, settings: FleetSettings
) -> AsyncIterator[Fleet]:
    """Start a daemon beside every node whose topology says `agent`, and stop them all at the end.

    Args:
        testbed: the network, up.
        directory: where each daemon gets a folder with configuration, store and log.
        settings: the same for all of them.

    Raises:
        NodeDiedError: a daemon ended while starting.
        SettleTimeoutError: a daemon did not answer in time.
    """
    names = [node.name for node in testbed.topology.nodes if node.agent]
    async with AsyncExitStack() as stack:
        daemons: dict[str, _Daemon] = {}
        stack.push_async_callback(_stop_all, daemons)
        for index, name in enumerate(names):
            control = await stack.enter_async_context(AgentControl(directory / name))
            text = configuration(testbed, name, settings, settings.seed * 1_000 + index)
            daemons[name] = await _launch(name, directory / name, text, control)
        fleet = Fleet(daemons)
        watching = asyncio.ensure_future(fleet.watch())
        stack.callback(watching.cancel)
        answering = asyncio.ensure_future(_all_answer(daemons))
        stack.callback(answering.cancel)
        await asyncio.wait({watching, answering}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
        await answering
        watching.cancel()
        yield fleet


async def _launch(name: str, directory: Path, config_text: str, control: AgentControl) -> _Daemon:
    config, log = directory / "agent.toml", directory / "agent.log"
    await asyncio.to_thread(write_private, config, config_text)
    output = await asyncio.to_thread(_open_log, log)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lnagents", "agent", "run", "--config", str(config),
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            # Its own session: Ctrl-C reaches this process alone, which then stops the daemons.
            start_new_session=True,
        )  # fmt: skip
    finally:
        output.close()
    return _Daemon(name, control, log, process)


def configuration(testbed: Testbed, name: str, settings: FleetSettings, seed: int) -> str:
    """The `agent.toml` of one daemon."""
    node = testbed.nodes[name]
    capacity_msat = sum(
        channel.capacity_msat
        for channel in testbed.topology.channels
        if name in (channel.source, channel.target)
    )
    sections: dict[str, dict[str, object]] = {
        "": {"name": name, "data_directory": "."},
        "lnd": {
            "address": node.agent.address,
            "tls_certificate": str(node.agent.tls_certificate),
            "macaroon": str(node.agent.macaroon),
            "network": "regtest",
        },
        "limits": {
            "per_payment_msat": capacity_msat,
            # Money circulates on a private network: what binds is what the channels can carry.
            "per_hour_msat": 1_000 * capacity_msat,
            "per_day_msat": 1_000 * capacity_msat,
            "max_fee_msat": 1_000_000,
            "max_fee_ppm": 50_000,
            "hint_per_purchase_msat": 20 * MSAT_PER_SAT,
            "hint_per_hour_msat": 500 * MSAT_PER_SAT if settings.buy_hints else 0,
            "hint_per_day_msat": 2_000 * MSAT_PER_SAT if settings.buy_hints else 0,
        },
        "rounds": {"seconds": settings.round_seconds, "on_request": settings.on_request},
        # Liquidity moves here within seconds as elsewhere within hours; beliefs age with it.
        "routing": {"liquidity_half_life_seconds": BELIEF_ROUNDS * settings.round_seconds},
        "fees": _fee_bounds(settings),
        "actor": dict(settings.actors.get(name, {"kind": settings.actor, "seed": seed})),
    }
    if name in testbed.sellers:
        site = testbed.sellers[name]
        price = next(s.price_sat for s in testbed.topology.sellers if s.node == name)
        sections["market.sell"] = {
            "service_host": site.service_host,
            "service_port": site.service_port,
            "pricer_host": site.pricer_host,
            "pricer_port": site.pricer_port,
            "price_sat": price,
        }
        if settings.max_price_sat is not None:
            sections["market.sell"] |= {
                "max_price_sat": settings.max_price_sat,
                "price_period_seconds": PRICE_ROUNDS * settings.round_seconds,
            }
    text = "\n".join(_section(title, values) for title, values in sections.items())
    for seller, site in testbed.sellers.items():
        if seller != name and settings.buy_hints:
            values = {"url": site.url, "key": testbed.nodes[seller].key}
            text += "\n[[market.buy.sellers]]\n" + _section("", values)
    return text


def _fee_bounds(settings: FleetSettings) -> dict[str, object]:
    # The testbed's gossip takes a hundred updates at once and one a second (profile `fast`).
    bounds: dict[str, object] = {
        "max_updates_per_hour": 20_000,
        "max_updates_per_hour_per_channel": 3_600,
    }
    if settings.pinned_policy is not None:
        rate, base = settings.pinned_policy.fee_rate_ppm, settings.pinned_policy.base_fee_msat
        bounds |= {"min_ppm": rate, "max_ppm": rate, "min_base_msat": base, "max_base_msat": base}
    return bounds


def _section(title: str, values: Mapping[str, object]) -> str:
    head = f"[{title}]\n" if title else ""
    # JSON's strings and numbers are TOML's as well.
    return head + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _open_log(path: Path) -> IO[bytes]:
    return path.open("ab")


def _tail(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])


async def _all_answer(daemons: dict[str, _Daemon]) -> None:
    silent = dict(daemons)

    async def answered() -> bool:
        for name, daemon in list(silent.items()):
            try:
                await daemon.control.status()
            except LnagentsError:
                return False
            del silent[name]
        return True

    await wait_until(
        answered,
        timeout=START_TIMEOUT_SECONDS,
        complaint=lambda: f"no answer from the agents of {', '.join(silent)}",
        interval=0.2,
    )


async def _stop_all(daemons: dict[str, _Daemon]) -> None:
    async with asyncio.TaskGroup() as group:
        for daemon in daemons.values():
            group.create_task(_stop(daemon.process))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
