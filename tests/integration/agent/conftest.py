"""Daemons as real processes beside the nodes of the shared network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lnagents.agent import AgentControl, AgentStatus
from lnagents.lnd import LndEndpoint
from lnagents.model.errors import LnagentsError
from lnagents.testbed import Testbed

START_SECONDS = 180.0
STOP_SECONDS = 60.0

Sections = dict[str, dict[str, Any]]


class AgentProcess:
    """One daemon: `start`, talk to `control`, `terminate` or `kill`, and start again."""

    def __init__(self, directory: Path, endpoint: LndEndpoint, sections: Sections) -> None:
        self.directory = directory
        self.config = directory / "agent.toml"
        self.log = directory / "agent.log"
        self.store = directory / "agent.sqlite"
        self._endpoint = endpoint
        self._process: asyncio.subprocess.Process | None = None
        self.command: tuple[str, ...] | None = None
        """Given the file, run instead of the daemon itself."""
        self.control = AgentControl(directory)
        directory.mkdir(parents=True)
        self.configure(sections)

    def configure(self, sections: Sections) -> None:
        """Write the configuration file; `sections` come on top of the defaults below."""
        merged: Sections = {
            "": {"name": self.directory.name, "data_directory": "."},
            "lnd": {
                "address": self._endpoint.address,
                "tls_certificate": str(self._endpoint.tls_certificate),
                "macaroon": str(self._endpoint.macaroon),
                "network": "regtest",
            },
            "limits": {
                "per_payment_msat": 5_000_000_000,
                "per_hour_msat": 100_000_000_000,
                "per_day_msat": 100_000_000_000,
                "max_fee_msat": 10_000_000,
                "max_fee_ppm": 50_000,
                "hint_per_purchase_msat": 20_000,
                "hint_per_hour_msat": 1_000_000,
                "hint_per_day_msat": 1_000_000,
            },
            "actor": {"kind": "fixed"},
            "rounds": {"seconds": 60.0},
        }
        for title, values in sections.items():
            merged[title] = merged.get(title, {}) | values
        text = ""
        for title, values in merged.items():
            text += f"[{title}]\n" if title else ""
            text += "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
        self.config.write_text(text)

    async def start(self, *options: str) -> None:
        """Start and wait until it answers."""
        await self.launch(*options)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._answers():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        except TimeoutError as exc:
            log = self.log.read_text()[-4_000:]
            raise AssertionError(f"no answer within {START_SECONDS:.0f} s:\n{log}") from exc

    async def _answers(self) -> bool:
        with contextlib.suppress(LnagentsError):
            await self.control.status()
            return True
        if self._process is not None and self._process.returncode is not None:
            raise AssertionError(f"it ended:\n{self.log.read_text()[-4_000:]}")
        return False

    async def launch(self, *options: str) -> None:
        """Start only."""
        run = (sys.executable, "-m", "lnagents", "agent", "run", "--config")
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(self.command or run), str(self.config), *options, stdout=log, stderr=log
            )

    async def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        assert self._process is not None
        async with asyncio.timeout(STOP_SECONDS):
            return await self._process.wait()

    async def terminate(self) -> int:
        """SIGTERM."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as the one that freezes it."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL: nothing can be saved any more."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def close(self) -> None:
        """End whatever runs."""
        if self._process is not None and self._process.returncode is None:
            await self.terminate()
        await self.control.__aexit__(None, None, None)

    async def until(self, condition: Callable[[AgentStatus], bool], seconds: float) -> AgentStatus:
        """Wait until its status is as wanted."""
        status = await self.control.status()
        try:
            async with asyncio.timeout(seconds):
                while not condition(status):
                    await asyncio.sleep(0.05)
                    status = await self.control.status()
        except TimeoutError as exc:
            raise AssertionError(f"not within {seconds} s; last: {status}") from exc
        return status

    def query(self, statement: str, *parameters: Any) -> list[Any]:
        """Read its database, running or not."""
        with contextlib.closing(sqlite3.connect(self.store)) as connection:
            return connection.execute(statement, parameters).fetchall()


def _toml(value: Any) -> str:
    # TOML has JSON's numbers, strings, booleans and lists; only tables differ.
    if isinstance(value, list) and value and isinstance(value[0], dict):
        tables = (
            "{" + ", ".join(f"{key} = {json.dumps(item)}" for key, item in one.items()) + "}"
            for one in value
        )
        return "[" + ", ".join(tables) + "]"
    return json.dumps(value)


MakeAgent = Callable[..., AgentProcess]


@pytest_asyncio.fixture(loop_scope="session")
async def make_agent(testbed: Testbed, tmp_path: Path) -> AsyncIterator[MakeAgent]:
    """Makes daemons of the testbed's nodes, and ends them; `sections` configure them."""
    agents: list[AgentProcess] = []

    def make(
        node: str, sections: Sections | None = None, *, macaroon: Path | None = None
    ) -> AgentProcess:
        endpoint = testbed.nodes[node].agent
        if macaroon is not None:
            endpoint = LndEndpoint(endpoint.address, endpoint.tls_certificate, macaroon)
        agent = AgentProcess(tmp_path / node, endpoint, sections or {})
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        await agent.close()


@pytest.fixture
def free_ports() -> Callable[[], int]:
    """Ports that nobody listens on now."""
    import socket

    def free() -> int:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return int(one.getsockname()[1])

    return free
