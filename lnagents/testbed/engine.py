"""What we ask of the Docker engine and of Compose, for one Compose project.

The engine's API serves what concerns single containers; the `docker compose` command makes them.
Everything here blocks and belongs into a thread, but for `compose`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import docker
import requests
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, NotFound

from lnagents.model.errors import BackendError, ToolchainError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
"""Compose puts both on every container, the first on networks and volumes as well."""

IMAGE_LABEL = "lnagents.image"
"""On every image that is built from `regtest/images`."""

ENGINE_SECONDS = 60.0
"""Longest wait for one answer of the engine."""
REMOVE_SECONDS = 60.0
CERTIFICATE_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
)

Result = TypeVar("Result")


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Run `function` in a thread, to its end even if the caller is cancelled.

    Raises:
        BackendError: the engine, or the file system, refused.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


@contextlib.contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn what the engine's client raises into one sentence.

    Raises:
        BackendError: saying what was being done, and the engine's reason.
    """
    try:
        yield
    except APIError as exc:
        raise BackendError(f"Docker, {doing}: {exc.explanation or exc}") from exc
    except (DockerException, requests.RequestException) as exc:
        raise BackendError(f"Docker, {doing}: {exc}") from exc
    except OSError as exc:
        raise BackendError(f"{doing}: {exc}") from exc


def service_of(container: Container) -> str:
    """The service that a container of `Engine.containers` runs."""
    # `container.labels` refuses to answer for containers without details.
    return str(container.attrs["Labels"][SERVICE_LABEL])


class Engine:
    """The engine that `docker` talks to, and one Compose project in it."""

    def __init__(self, project: str) -> None:
        """Connect.

        Raises:
            ToolchainError: no engine answers.
        """
        self.project = project
        try:
            self._client = _connect()
        except (DockerException, requests.RequestException) as exc:
            raise ToolchainError(
                f"no Docker engine answers ({exc}); start one, or use the native backend"
            ) from exc

    @property
    def client(self) -> DockerClient:
        """The engine's API."""
        return self._client

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def containers(self) -> dict[str, Container]:
        """The project's containers by service, in any state; without their details."""
        found = self._client.containers.list(all=True, filters=self._filter(), sparse=True)
        return {service_of(container): container for container in found}

    def container(self, service: str) -> Container:
        """The container of a service.

        Raises:
            BackendError: it has none.
        """
        try:
            return self.containers()[service]
        except KeyError as exc:
            raise BackendError(f"{service} has no container; was it started?") from exc

    def network(self) -> str:
        """Id of the project's network.

        Raises:
            BackendError: there is none.
        """
        networks = self._client.networks.list(filters=self._filter())
        if not networks:
            raise BackendError(f"the project {self.project} has no network")
        return str(networks[0].id)

    def host_address(self) -> str:
        """The host's address on Docker's default bridge: what containers know as `host-gateway`.

        Raises:
            BackendError: the engine has no such bridge.
        """
        network = self._client.networks.get("bridge")
        for pool in network.attrs["IPAM"]["Config"] or ():
            if "Gateway" in pool:
                return str(pool["Gateway"])
            # Before engine 23 only a configured gateway is told; unconfigured it is the first.
            return str(next(ipaddress.ip_network(pool["Subnet"]).hosts()))
        raise BackendError("Docker's default bridge has no gateway address")

    def remove_containers(self) -> None:
        """Kill and remove all containers of the project."""
        for container in self.containers().values():
            with contextlib.suppress(NotFound):
                container.remove(force=True, v=True)

    def remove_volumes(self) -> None:
        """Remove all volumes of the project; no container may use them any more."""
        for volume in self._client.volumes.list(filters=self._filter()):
            with contextlib.suppress(NotFound):
                volume.remove(force=True)

    def remove_replaced_images(self) -> None:
        """Remove images of ours that a newer build has replaced, unless a container uses them.

        Compose labels images with the project, so that every project's build makes new ones.
        """
        self._client.images.prune(filters={"dangling": True, "label": IMAGE_LABEL})

    def remove_all(self) -> None:
        """Remove the project, and what an interrupted command may still be making.

        Raises:
            BackendError: something cannot be removed.
        """
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            try:
                self.remove_containers()
                for network in self._client.networks.list(filters=self._filter()):
                    with contextlib.suppress(NotFound):
                        network.remove()
                self.remove_volumes()
            except APIError as exc:
                # The engine may still be busy with what was asked of it a moment ago.
                if exc.status_code != requests.codes.conflict or time.monotonic() > deadline:
                    raise
            if not self.leftovers():
                return
            if time.monotonic() > deadline:
                raise BackendError(f"the Compose project {self.project} cannot be removed")
            time.sleep(0.2)

    def leftovers(self) -> bool:
        """Whether containers, networks or volumes of the project exist."""
        return bool(
            self.containers()
            or self._client.networks.list(filters=self._filter())
            or self._client.volumes.list(filters=self._filter())
        )

    def _filter(self) -> dict[str, str | list[str] | bool]:
        return {"label": f"{PROJECT_LABEL}={self.project}"}


def _connect() -> DockerClient:
    """A client of the engine that the command `docker` uses: DOCKER_HOST, or its current context.

    It asks for the engine's version at once.
    """
    if os.environ.get("DOCKER_HOST"):
        return docker.from_env(timeout=int(ENGINE_SECONDS))
    context = ContextAPI.get_current_context()
    host = context.Host if context is not None else None
    return docker.DockerClient(base_url=host, timeout=int(ENGINE_SECONDS))


async def compose(
    arguments: Sequence[str], *, environment: Mapping[str, str], timeout: float
) -> str:
    """Run `docker compose` with these arguments and give what it printed.

    Raises:
        ToolchainError: there is no such command.
        BackendError: it failed, or did not end within `timeout` s; carries its last lines.
    """
    doing = next((word for word in arguments if word in ("build", "up", "version")), "command")
    try:
        process = await asyncio.create_subprocess_exec(
            *("docker", "compose", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **_certificates(), **environment},
            # Ctrl-C is for us; we decide what becomes of it.
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        raise ToolchainError("the program `docker` is missing; install Docker") from exc
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
    except TimeoutError as exc:
        raise BackendError(f"`docker compose {doing}` did not end within {timeout:g} s") from exc
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    text = output.decode(errors="replace")
    if process.returncode != 0:
        tail = "\n".join(text.splitlines()[-20:])
        raise BackendError(f"`docker compose {doing}` failed ({process.returncode}):\n{tail}")
    return text


def _certificates() -> dict[str, str]:
    """The host's certificate authorities, for builds, where the environment does not name them."""
    if "SSL_CERT_FILE" in os.environ:
        return {}
    bundle = next((path for path in CERTIFICATE_BUNDLES if Path(path).is_file()), None)
    return {"SSL_CERT_FILE": bundle} if bundle is not None else {}
