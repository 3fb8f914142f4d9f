"""The native backend: every service is a plain process of this machine."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

from lnagents.lnd import LndEndpoint
from lnagents.model.errors import BackendError, NodeDiedError
from lnagents.testbed import miner
from lnagents.testbed.backend import (
    BITCOIND,
    MINER,
    BitcoindSite,
    NodeSite,
    Progress,
    SellerSite,
    ServiceState,
    aperture_service,
    aperture_services,
    lightning_services,
)
from lnagents.testbed.ports import HOST, assign_ports
from lnagents.testbed.private import write_private
from lnagents.testbed.processes import (
    ProcessRecord,
    is_alive,
    is_stopped,
    marked,
    send_signal,
    spawn,
    wait_gone,
)
from lnagents.testbed.settings import (
    ApertureSettings,
    ChainAccess,
    aperture_configuration,
    aperture_database_option,
    bitcoind_options,
    chain_options,
    lnd_options,
)
from lnagents.testbed.state import StateFolder, TestbedState
from lnagents.testbed.supervise import supervised
from lnagents.testbed.threads import in_thread
from lnagents.testbed.toolchain import Toolchain, ensure_toolchain
from lnagents.testbed.waiting import wait_until

RPC_USER = "lnagents"
KILL_SECONDS = 20.0
"""A killed process that still exists after this hangs in the kernel."""
CREDENTIALS_SECONDS = 60.0
WATCH_SECONDS = 0.1
LOG_LINES_ON_DEATH = 12


class NativeBackend:
    """Runs the services of one network as processes; see `lnagents.testbed.backend.Backend`.

    Below its directory: `data/SERVICE` (what the service writes), `logs/SERVICE.log`, `macaroons`.
    """

    def __init__(self, folder: StateFolder, state: TestbedState, progress: Progress) -> None:
        self._folder = folder
        self._state = state
        self._progress = progress
        self._found: Toolchain | None = None

    @property
    def directory(self) -> Path:
        """Data, logs and macaroons."""
        return self._state.directory

    @property
    def ports(self) -> Mapping[str, int]:
        """What every port is for; empty before `prepare`."""
        return self._state.ports

    async def prepare(self) -> None:
        """Check ports, make directories and configuration; nothing runs yet."""
        await self._toolchain()
        await in_thread(self._prepare)

    def _prepare(self) -> None:
        ports = assign_ports(self._state.topology)
        self._state = self._state.model_copy(update={"ports": ports})
        # Written before the first file, so that `down` knows what to remove.
        self._folder.write(self._state)
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.mkdir(mode=0o700)
        self._marker().touch()
        for part in ("data", "logs", "macaroons"):
            (self.directory / part).mkdir(mode=0o700)
        password = secrets.token_hex(16)
        write_private(self._data(BITCOIND) / "bitcoin.conf", self._bitcoin_configuration(password))
        credentials = f"bitcoind.rpcuser={RPC_USER}\nbitcoind.rpcpass={password}\n"
        for name in lightning_services(self._state.topology):
            write_private(self._data(name) / "lnd.conf", f"[Application Options]\n{credentials}")
        for seller in self._state.topology.sellers:
            write_private(
                self._data(aperture_service(seller.node)) / "aperture.yaml",
                aperture_configuration(self._aperture(seller.node)),
            )

    async def start(self, services: Sequence[str]) -> None:
        """Start these services, all at once."""
        await in_thread(self._start, services, await self._toolchain())

    def _start(self, services: Sequence[str], toolchain: Toolchain) -> None:
        running = self._folder.processes()
        for service in services:
            if service in running and is_alive(running[service]):
                continue
            # In one thread that nobody cancels: a process's birth and its record.
            process = spawn(
                self._command(service, toolchain),
                self._log(service),
                self._state.mark,
                self._environment(service),
            )
            self._folder.record(service, process)

    async def stop(self, services: Sequence[str], *, timeout: float = 30.0) -> None:
        """Ask these services to end, and kill those that still run after `timeout` s."""
        records = await in_thread(self._forget, services)
        for record in records:
            send_signal(record, signal.SIGTERM)
            send_signal(record, signal.SIGCONT)
        await in_thread(_end, records, timeout)

    async def kill(self, services: Sequence[str]) -> None:
        """End these services at once."""
        records = await in_thread(self._forget, services)
        await in_thread(_end, records, 0.0)

    async def pause(self, services: Sequence[str]) -> None:
        """Freeze these services; returns when each of them really stands still."""
        records = await in_thread(self._signal, services, signal.SIGSTOP)
        await wait_until(
            lambda: in_thread(_none_moves, records),
            timeout=KILL_SECONDS,
            complaint=lambda: f"not all of {', '.join(services)} stopped",
            interval=0.002,
        )

    async def resume(self, services: Sequence[str]) -> None:
        """Let frozen services go on."""
        await in_thread(self._signal, services, signal.SIGCONT)

    async def partition(self, service: str) -> None:
        """Not possible with processes that share one loopback interface."""
        raise BackendError(
            f"the native backend cannot cut {service} off; it can be paused, or use compose"
        )

    async def heal(self, service: str) -> None:
        """There is nothing to undo."""

    async def states(self) -> Mapping[str, ServiceState]:
        """What every service is doing now."""
        return await in_thread(self._states)

    def _states(self) -> Mapping[str, ServiceState]:
        topology = self._state.topology
        services = (BITCOIND, *lightning_services(topology), *aperture_services(topology), MINER)
        records = self._folder.processes()
        states = {}
        for service in services:
            record = records.get(service)
            if record is None:
                states[service] = ServiceState.STOPPED
            elif not is_alive(record):
                states[service] = ServiceState.DIED
            else:
                paused = is_stopped(record)
                states[service] = ServiceState.PAUSED if paused else ServiceState.RUNNING
        return states

    async def logs(self, service: str, lines: int) -> str:
        """The last `lines` lines that a service wrote."""
        return await in_thread(_tail, self._log(service), lines)

    async def watch(self) -> NoReturn:
        """Wait until a service ends that was not asked to.

        Raises:
            NodeDiedError: naming it, with its last log lines.
        """
        while True:
            for service, record in (await in_thread(self._folder.processes)).items():
                if is_alive(record):
                    continue
                # It may have been ended on purpose between the two looks.
                if (await in_thread(self._folder.processes)).get(service) == record:
                    tail = await self.logs(service, LOG_LINES_ON_DEATH)
                    raise NodeDiedError(f"{service} ended by itself; its last lines:\n{tail}")
            await asyncio.sleep(WATCH_SECONDS)

    async def bitcoind(self) -> BitcoindSite:
        """Where bitcoind's RPC is."""
        return await in_thread(self._bitcoind_site)

    def _bitcoind_site(self) -> BitcoindSite:
        text = (self._data(BITCOIND) / "bitcoin.conf").read_text()
        password = next(
            line.partition("=")[2] for line in text.splitlines() if line.startswith("rpcpassword=")
        )
        return BitcoindSite(
            f"http://{HOST}:{self.ports['bitcoind RPC']}", user=RPC_USER, password=password
        )

    async def node(self, name: str) -> NodeSite:
        """Where a started LND is reached; waits for its certificate and macaroon."""
        certificate = self._data(name) / "tls.cert"
        macaroon = self._macaroon_directory(name) / "admin.macaroon"
        await wait_until(
            lambda: in_thread(_all_filled, (certificate, macaroon)),
            timeout=CREDENTIALS_SECONDS,
            complaint=lambda: f"{name} wrote no certificate and macaroon",
        )
        return NodeSite(
            admin=LndEndpoint(f"{HOST}:{self.ports[f'{name} gRPC']}", certificate, macaroon),
            peer_address=f"{HOST}:{self.ports[f'{name} peers']}",
        )

    def sellers(self) -> Mapping[str, SellerSite]:
        """The Apertures, by their node's name."""
        return {
            seller.node: SellerSite(
                node=seller.node,
                url=f"http://{HOST}:{self.ports[f'{seller.node} Aperture']}",
                service_host=HOST,
                service_port=self.ports[f"{seller.node} hint service"],
                pricer_host=HOST,
                pricer_port=self.ports[f"{seller.node} pricer"],
            )
            for seller in self._state.topology.sellers
        }

    async def save_state(self, into: Path) -> None:
        """Copy all services' data."""
        await in_thread(lambda: shutil.copytree(self.directory / "data", into, symlinks=True))

    async def load_state(self, source: Path) -> None:
        """Replace all services' data."""
        await in_thread(self._load_state, source)

    def _load_state(self, source: Path) -> None:
        data = self.directory / "data"
        draft = self.directory / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft, symlinks=True)
        shutil.rmtree(data)
        draft.rename(data)

    async def destroy(self) -> None:
        """Kill everything that was started and remove all that was written."""
        await in_thread(self._destroy)

    def _destroy(self) -> None:
        records = {*self._folder.processes().values(), *marked(self._state.mark)}
        _end(records, 0.0)
        # A folder that was there before us has no marker, and stays.
        if self._marker().exists():
            shutil.rmtree(self.directory)
        # Last, so that an interrupted `destroy` can be repeated.
        self._folder.remove()

    def _command(self, service: str, toolchain: Toolchain) -> list[str]:
        data = self._data(service)
        if service == BITCOIND:
            return [*toolchain.bitcoind.command, f"-datadir={data}", *bitcoind_options()]
        if service == MINER:
            return [sys.executable, "-m", "lnagents.testbed.miner"]
        for seller in self._state.topology.sellers:
            if service == aperture_service(seller.node):
                return supervised(
                    [
                        *toolchain.aperture.command,
                        f"--configfile={data / 'aperture.yaml'}",
                        aperture_database_option(PurePosixPath(data)),
                    ]
                )
        return [
            *toolchain.lnd.command,
            f"--lnddir={data}",
            f"--rpclisten={HOST}:{self.ports[f'{service} gRPC']}",
            f"--listen={HOST}:{self.ports[f'{service} peers']}",
            *chain_options(self._chain()),
            *lnd_options(self._state.topology, service),
        ]

    async def _toolchain(self) -> Toolchain:
        """The programs, looked for when something is started: stopping needs none."""
        if self._found is None:
            self._found = await ensure_toolchain(lambda event: self._progress(str(event)))
        return self._found

    def _environment(self, service: str) -> dict[str, str]:
        if service == MINER:
            interval = self._state.topology.chain.block_interval_seconds
            return miner.environment(self._bitcoind_site(), interval)
        return {}

    def _chain(self) -> ChainAccess:
        return ChainAccess(
            rpc=f"{HOST}:{self.ports['bitcoind RPC']}",
            zmq_block=f"{HOST}:{self.ports['bitcoind ZMQ blocks']}",
            zmq_transaction=f"{HOST}:{self.ports['bitcoind ZMQ transactions']}",
        )

    def _bitcoin_configuration(self, password: str) -> str:
        chain = self._chain()
        return (
            "[regtest]\n"
            f"rpcbind={HOST}\nrpcallowip={HOST}\nrpcport={self.ports['bitcoind RPC']}\n"
            f"rpcuser={RPC_USER}\nrpcpassword={password}\n"
            f"zmqpubrawblock=tcp://{chain.zmq_block}\n"
            f"zmqpubrawtx=tcp://{chain.zmq_transaction}\n"
        )

    def _aperture(self, node: str) -> ApertureSettings:
        return ApertureSettings(
            listen=f"{HOST}:{self.ports[f'{node} Aperture']}",
            lnd=f"{HOST}:{self.ports[f'{node} gRPC']}",
            tls_certificate=PurePosixPath(self._data(node) / "tls.cert"),
            macaroon_directory=PurePosixPath(self._macaroon_directory(node)),
            base_directory=PurePosixPath(self._data(aperture_service(node))),
            service=f"{HOST}:{self.ports[f'{node} hint service']}",
            pricer=f"{HOST}:{self.ports[f'{node} pricer']}",
        )

    def _marker(self) -> Path:
        return self.directory / f".lnagents-{self._state.mark}"

    def _data(self, service: str) -> Path:
        return self.directory / "data" / service

    def _macaroon_directory(self, name: str) -> Path:
        # LND's layout.
        return self._data(name) / "data" / "chain" / "bitcoin" / "regtest"

    def _log(self, service: str) -> Path:
        return self.directory / "logs" / f"{service}.log"

    def _forget(self, services: Sequence[str]) -> list[ProcessRecord]:
        records = self._folder.processes()
        for service in services:
            self._folder.forget(service)
        return [records[service] for service in services if service in records]

    def _signal(self, services: Sequence[str], number: signal.Signals) -> list[ProcessRecord]:
        records = self._folder.processes()
        missing = [
            service
            for service in services
            # All others get it all the same, so that none stays frozen because one died.
            if service not in records or not send_signal(records[service], number)
        ]
        if missing:
            raise BackendError(f"{', '.join(missing)}: not running")
        return [records[service] for service in services]


def _end(records: Sequence[ProcessRecord] | set[ProcessRecord], timeout: float) -> None:
    if wait_gone(records, timeout):
        return
    for record in records:
        send_signal(record, signal.SIGKILL)
    if not wait_gone(records, KILL_SECONDS):
        left = ", ".join(str(record.pid) for record in records if is_alive(record))
        raise BackendError(f"processes {left} do not end, even when killed")


def _none_moves(records: Sequence[ProcessRecord]) -> bool:
    return all(is_stopped(record) or not is_alive(record) for record in records)


def _all_filled(paths: Sequence[Path]) -> bool:
    return all(path.is_file() and path.stat().st_size > 0 for path in paths)


def _tail(path: Path, lines: int) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            # Longer lines than this are cut, which is as well.
            file.seek(max(0, size - 400 * lines))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
