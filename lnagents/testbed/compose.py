"""The Compose backend: every service is a container."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import socket
import tarfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn, TypeVar

from docker.errors import NotFound

from lnagents.lnd import LndEndpoint
from lnagents.model.errors import BackendError, NodeDiedError, ToolchainError
from lnagents.testbed.backend import (
    BITCOIND,
    MINER,
    BitcoindSite,
    NodeSite,
    Progress,
    SellerSite,
    ServiceState,
    aperture_services,
    lightning_services,
)
from lnagents.testbed.data import data_directory
from lnagents.testbed.engine import Engine, compose, engine_errors, in_thread, service_of
from lnagents.testbed.ports import HOST, assign_ports
from lnagents.testbed.private import write_private
from lnagents.testbed.render import (
    LND_DIRECTORY,
    LND_PEER_PORT,
    MACAROONS,
    PRICE_SWITCH,
    RPC_PASSWORD,
    RPC_USER,
    data_path,
    image_builders,
    render_compose,
)
from lnagents.testbed.state import StateFolder, TestbedState
from lnagents.testbed.waiting import wait_until

if TYPE_CHECKING:
    from docker.models.containers import Container

BUILD_SECONDS = 3600.0
"""Images are built once, LND's in some minutes."""
UP_SECONDS = 300.0
CREDENTIALS_SECONDS = 60.0
WATCH_SECONDS = 0.5
LOG_LINES_ON_DEATH = 12
PARALLEL = 8
"""Containers that are asked for something at a time."""
CHUNK_BYTES = 1 << 20

_Result = TypeVar("_Result")

_STATES = {
    "running": ServiceState.RUNNING,
    # Aperture's restart policy is at work.
    "restarting": ServiceState.RUNNING,
    "paused": ServiceState.PAUSED,
    "created": ServiceState.STOPPED,
}


def _quiet(message: str) -> None:
    """Tell nobody."""


class ComposeBackend:
    """Runs the services of one network as containers; see `lnagents.testbed.backend.Backend`.

    Their data is in the project's volumes. Below the directory: `compose.yml`, `nodes/NAME` with
    copies of certificate and admin macaroon, and `started/SERVICE`, a mark of every service that
    was started and not ended on purpose.
    """

    def __init__(
        self, folder: StateFolder, state: TestbedState, *, progress: Progress = _quiet
    ) -> None:
        self._folder = folder
        self._state = state
        self._progress = progress
        self._connected: Engine | None = None
        self._daemon_host = ""

    @property
    def directory(self) -> Path:
        """Compose file, certificates and macaroons."""
        return self._state.directory

    @property
    def ports(self) -> Mapping[str, int]:
        """What every published port of 127.0.0.1 is for; empty before `prepare`."""
        return self._state.ports

    @property
    def project(self) -> str:
        """Name of the Compose project."""
        return f"lnagents-{self._state.name}"

    async def prepare(self) -> None:
        """Check the engine and the ports, write the Compose file, build what images are missing."""
        await self._do("preparing", self._prepare)
        await compose(["version"], environment={}, timeout=UP_SECONDS)
        builders = image_builders(self._state.topology)
        own = [service for service, variable in builders.items() if not os.environ.get(variable)]
        if own:
            self._progress("Building images, which takes some minutes the first time")
            await self._compose("build", *own, timeout=BUILD_SECONDS)
            await self._do("removing old images", lambda engine: engine.remove_replaced_images())

    def _prepare(self, engine: Engine) -> None:
        root = data_directory().parent
        if not (root / "pyproject.toml").is_file() and not os.environ.get("LNAGENTS_IMAGE"):
            raise ToolchainError(
                "the lnagents image is built from a checkout of the repository; name an image in"
                " LNAGENTS_IMAGE, or use the native backend"
            )
        if engine.containers():
            raise BackendError(
                f"the Compose project {self.project} exists already;"
                f" `docker compose -p {self.project} down -v` removes it"
            )
        ports = assign_ports(self._state.topology)
        self._state = self._state.model_copy(update={"ports": ports})
        # Written before the first file, so that `down` knows what to remove.
        self._folder.write(self._state)
        self.directory.mkdir(mode=0o700, parents=True)
        for part in ("nodes", "started"):
            (self.directory / part).mkdir(mode=0o700)
        self._file().write_text(
            render_compose(self._state.topology, ports=ports, project=self.project)
        )

    async def start(self, services: Sequence[str]) -> None:
        """Start these services, all at once."""
        fresh = await self._do("starting", self._start, services)
        if fresh:
            await self._compose(
                *("up", "--detach", "--no-deps", "--no-build", "--no-recreate", *fresh)
            )

    def _start(self, engine: Engine, services: Sequence[str]) -> list[str]:
        """Start the containers that ran before; give the services whose containers did not.

        Those are for Compose: it makes them, and puts configuration files in at the first start.
        """
        for service in services:
            self._mark(service).touch()
        containers = engine.containers()
        ended = [service for service in services if _status(containers, service) == "exited"]
        _each([containers[service] for service in ended], lambda container: container.start())
        return [service for service in services if _status(containers, service) in ("", "created")]

    async def stop(self, services: Sequence[str], *, timeout: float = 30.0) -> None:
        """Ask these services to end, and kill those that still run after `timeout` s."""

        def stop(container: Container) -> None:
            if container.status == "paused":
                container.unpause()
            container.stop(timeout=round(timeout))

        await self._do("stopping", self._end, services, stop)

    async def kill(self, services: Sequence[str]) -> None:
        """End these services at once."""

        def kill(container: Container) -> None:
            # A frozen process takes the signal only when it goes on.
            if container.status in ("running", "paused", "restarting"):
                container.kill()
            if container.status == "paused":
                container.unpause()
            container.wait(timeout=UP_SECONDS)

        await self._do("killing", self._end, services, kill)

    def _end(
        self, engine: Engine, services: Sequence[str], end: Callable[[Container], None]
    ) -> None:
        for service in services:
            self._mark(service).unlink(missing_ok=True)
        containers = engine.containers()
        _each([containers[service] for service in services if service in containers], end)

    async def pause(self, services: Sequence[str]) -> None:
        """Freeze these services."""
        await self._do("pausing", self._with_containers, services, lambda one: one.pause())

    async def resume(self, services: Sequence[str]) -> None:
        """Let frozen services go on."""
        await self._do("resuming", self._with_containers, services, lambda one: one.unpause())

    @staticmethod
    def _with_containers(
        engine: Engine, services: Sequence[str], action: Callable[[Container], None]
    ) -> None:
        _each([engine.container(service) for service in services], action)

    async def partition(self, service: str) -> None:
        """Take this service off the network. Until `heal` the host does not reach it either."""

        def disconnect(engine: Engine) -> None:
            network = engine.client.networks.get(engine.network())
            network.disconnect(engine.container(service), force=True)

        await self._do(f"cutting {service} off", disconnect)

    async def heal(self, service: str) -> None:
        """Put this service back on the network, under its name."""

        def connect(engine: Engine) -> None:
            network = engine.client.networks.get(engine.network())
            container = engine.container(service)
            container.reload()
            if network.name not in container.attrs["NetworkSettings"]["Networks"]:
                network.connect(container, aliases=[service])

        await self._do(f"reconnecting {service}", connect)

    async def states(self) -> Mapping[str, ServiceState]:
        """What every service is doing now."""
        return await self._do("listing", self._states)

    def _states(self, engine: Engine) -> Mapping[str, ServiceState]:
        containers = engine.containers()
        states = {}
        for service in self._services():
            container = containers.get(service)
            state = _STATES.get(container.status) if container is not None else ServiceState.STOPPED
            if state is None:
                asked_to_run = self._mark(service).exists()
                state = ServiceState.DIED if asked_to_run else ServiceState.STOPPED
            states[service] = state
        return states

    async def logs(self, service: str, lines: int) -> str:
        """The last `lines` lines that a service wrote."""

        def read(engine: Engine) -> str:
            text: bytes = engine.container(service).logs(tail=lines)
            return text.decode(errors="replace").rstrip("\n")

        return await self._do("reading logs", read)

    async def watch(self) -> NoReturn:
        """Wait until a service ends that was not asked to.

        Raises:
            NodeDiedError: naming it, with its last log lines.
        """
        while True:
            for service, state in (await self.states()).items():
                if state is ServiceState.DIED:
                    tail = await self.logs(service, LOG_LINES_ON_DEATH)
                    raise NodeDiedError(f"{service} ended by itself; its last lines:\n{tail}")
            await asyncio.sleep(WATCH_SECONDS)

    async def bitcoind(self) -> BitcoindSite:
        """Where bitcoind's RPC is."""
        url = f"http://{HOST}:{self.ports['bitcoind RPC']}"
        return BitcoindSite(url, user=RPC_USER, password=RPC_PASSWORD)

    async def node(self, name: str) -> NodeSite:
        """Where a started LND is reached; waits for its certificate and macaroon."""
        folder = self.directory / "nodes" / name
        files = {
            folder / "tls.cert": LND_DIRECTORY / "tls.cert",
            folder / "admin.macaroon": LND_DIRECTORY / MACAROONS / "admin.macaroon",
        }
        # Docker does not tell when a container writes a file.
        await wait_until(
            lambda: self._do("copying credentials", _fetch, name, files),
            timeout=CREDENTIALS_SECONDS,
            complaint=lambda: f"{name} has not written its certificate and macaroon",
            interval=0.1,
        )
        certificate, macaroon = files
        return NodeSite(
            admin=LndEndpoint(f"{HOST}:{self.ports[f'{name} gRPC']}", certificate, macaroon),
            peer_address=f"{name}:{LND_PEER_PORT}",
        )

    def sellers(self) -> Mapping[str, SellerSite]:
        """The Apertures, by their node's name.

        Raises:
            BackendError: nothing was asked of the engine before, which tells the host's address.
        """
        if self._state.topology.sellers and not self._daemon_host:
            raise BackendError("the address of the host is not known yet")
        return {
            seller.node: SellerSite(
                node=seller.node,
                url=f"http://{HOST}:{self.ports[f'{seller.node} Aperture']}",
                service_host=self._daemon_host,
                service_port=self.ports[f"{seller.node} hint service"],
                pricer_host=self._daemon_host,
                pricer_port=self.ports[f"{seller.node} pricer"],
            )
            for seller in self._state.topology.sellers
        }

    async def save_state(self, into: Path) -> None:
        """Copy all services' data, as one archive each."""

        def save(engine: Engine) -> None:
            into.mkdir(mode=0o700, parents=True)
            containers = [
                container for service, container in engine.containers().items()
                if data_path(service, self._state.topology) is not None
            ]  # fmt: skip
            _each(containers, lambda container: self._save(container, into))

        await self._do("saving data", save)

    def _save(self, container: Container, into: Path) -> None:
        service = service_of(container)
        path = data_path(service, self._state.topology)
        chunks, _ = container.get_archive(str(path), chunk_size=CHUNK_BYTES)
        with (into / f"{service}.tar").open("xb") as file:
            file.writelines(chunks)

    async def load_state(self, source: Path) -> None:
        """Replace all services' data: with new volumes, and containers that have not run yet."""

        def clear(engine: Engine) -> list[str]:
            services = sorted(engine.containers())
            engine.remove_containers()
            engine.remove_volumes()
            return services

        def load(engine: Engine) -> None:
            containers = [
                container for service, container in engine.containers().items()
                if data_path(service, self._state.topology) is not None
            ]  # fmt: skip
            _each(containers, lambda container: self._load(container, source))

        services = await self._do("removing data", clear)
        await self._compose("up", "--no-start", "--no-deps", "--no-build", *services)
        await self._do("restoring data", load)

    def _load(self, container: Container, source: Path) -> None:
        service = service_of(container)
        # The archive begins with the folder's own name.
        with (source / f"{service}.tar").open("rb") as file:
            container.put_archive("/", file)

    async def destroy(self) -> None:
        """Remove containers, network and volumes, and all that was written."""
        await self._do("removing", lambda engine: engine.remove_all())
        await in_thread(lambda: shutil.rmtree(self.directory, ignore_errors=True))
        # Last, so that an interrupted `destroy` can be repeated.
        await in_thread(self._folder.remove)
        if self._connected is not None:
            await in_thread(self._connected.close)
            self._connected = None

    def _services(self) -> tuple[str, ...]:
        topology = self._state.topology
        return (BITCOIND, *lightning_services(topology), *aperture_services(topology), MINER)

    def _file(self) -> Path:
        return self.directory / "compose.yml"

    def _mark(self, service: str) -> Path:
        return self.directory / "started" / service

    async def _compose(self, *arguments: str, timeout: float = UP_SECONDS) -> None:
        root = await in_thread(lambda: data_directory().parent)
        await compose(
            [
                *("--project-name", self.project, "--project-directory", str(root)),
                *("--file", str(self._file()), "--ansi", "never", *arguments),
            ],
            environment={PRICE_SWITCH: "true"},
            timeout=timeout,
        )

    async def _do(
        self, doing: str, function: Callable[..., _Result], *arguments: object
    ) -> _Result:
        """Run `function(engine, *arguments)` in a thread."""

        def work() -> _Result:
            with engine_errors(doing):
                if self._connected is None:
                    self._connected = Engine(self.project)
                    self._daemon_host = bindable(self._connected.host_address())
                return function(self._connected, *arguments)

        return await in_thread(work)


def _each(containers: Sequence[Container], action: Callable[[Container], None]) -> None:
    """Do the same to several containers at once; the first failure is told at the end."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        for future in [pool.submit(action, container) for container in containers]:
            future.result()


def _status(containers: Mapping[str, Container], service: str) -> str:
    container = containers.get(service)
    return str(container.status) if container is not None else ""


def _fetch(engine: Engine, service: str, files: Mapping[Path, PurePosixPath]) -> bool:
    """Copy files out of a container, readable by their owner alone; False if one is missing yet."""
    container = engine.containers().get(service)
    if container is None:
        return False
    for target, path in files.items():
        try:
            chunks, _ = container.get_archive(str(path))
        except NotFound:
            return False
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            member = archive.extractfile(archive.getmembers()[0])
            content = member.read() if member is not None else b""
        if not content:
            return False
        write_private(target, content)
    return True


def bindable(address: str) -> str:
    """`address` if a program of this host can listen there, else the loopback address.

    With Docker Desktop the bridge is inside a virtual machine, which passes on to loopback what
    containers send to `host-gateway`.
    """
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return HOST
    return address
