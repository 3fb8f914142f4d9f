"""Looks at a machine: what a network needs, what is missing, and what to do about it."""

from __future__ import annotations

import asyncio
import math
import shutil
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lnagents.model.errors import ToolchainError
from lnagents.model.topology import Topology, parse_topology
from lnagents.testbed.data import data_directory
from lnagents.testbed.render import default_ports
from lnagents.testbed.state import BYTES_BASE, BYTES_PER_NODE, TMPFS
from lnagents.testbed.toolchain import cache, golang
from lnagents.testbed.toolchain.processes import run_program
from lnagents.testbed.toolchain.programs import Product, parse_version, version_text
from lnagents.testbed.toolchain.provide import find

GIB = 1 << 30
NEEDED_DISK_BYTES, WANTED_DISK_BYTES = GIB // 2, 6 * GIB
"""To run, and to build everything from nothing: 4.5 GB of Go's caches, 0.5 GB of programs."""
NEEDED_MEMORY_BYTES, WANTED_MEMORY_BYTES = 2 * GIB, 4 * GIB
"""Of the default network with 7 LND (about 92 MB each), and with 7 learning agents beside them."""
NEWEST_PYTHON = (3, 13)
OLDEST_PYTHON = (3, 11)
PROBE_SECONDS = 20.0


class Status(str, Enum):
    """How one requirement stands."""

    OK = "ok"
    WARNING = "warning"
    """Something is slower or left out."""
    FAILED = "failed"
    """No network can run."""


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement."""

    name: str
    status: Status
    found: str
    """What is there."""
    advice: str = ""
    """What to do about it; empty when nothing has to be done."""


async def examine() -> tuple[Check, ...]:
    """Check everything; starts, fetches and changes nothing.

    Raises:
        TestbedError: the data files of the installation are missing.
    """
    products = await asyncio.gather(*(_check_product(product) for product in Product))
    complete = all(check.status is not Status.FAILED for check in products)
    go, docker, resources = await asyncio.gather(
        _check_go(complete), _check_docker(), asyncio.to_thread(_check_resources, complete)
    )
    return (
        check_python(sys.version_info[:2]),
        _check_installer(),
        *products,
        go,
        *resources,
        *docker,
    )


def check_python(version: tuple[int, int]) -> Check:
    """Whether this Python is one that lnagents is made for."""
    found = version_text(version)
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return Check("python", Status.OK, found)
    span = f"{version_text(OLDEST_PYTHON)} to {version_text(NEWEST_PYTHON)}"
    return Check("python", Status.FAILED, found, f"install Python {span}")


def check_room(name: str, free: int, needed: int, wanted: int, advice: str) -> Check:
    """Whether `free` bytes reach what is `needed` to run and `wanted` to run well."""
    found = f"{free / GIB:.1f} GiB free"
    if free < needed:
        return Check(name, Status.FAILED, found, f"{advice}; {needed / GIB:.1f} GiB are needed")
    if free < wanted:
        return Check(name, Status.WARNING, found, f"{advice}; {wanted / GIB:.0f} GiB are better")
    return Check(name, Status.OK, found)


def check_ports(ports: Iterable[int]) -> Check:
    """Whether nothing listens on `ports` of 127.0.0.1, which the Compose backend publishes."""
    wanted = sorted(ports)
    taken = [port for port in wanted if not _is_free(port)]
    if not taken:
        return Check("ports", Status.OK, f"{wanted[0]} to {wanted[-1]} are free")
    advice = (
        "only for the Compose backend, and only if no network of its own is up: end what listens"
        " there, or set base_port in the topology"
    )
    return Check("ports", Status.WARNING, f"in use: {', '.join(map(str, taken))}", advice)


def check_tmpfs(free: int, nodes: int) -> Check:
    """Whether `free` bytes of tmpfs hold a network of `nodes` nodes."""
    found = f"{free / GIB:.1f} GiB free in {TMPFS}"
    needed = BYTES_BASE + nodes * BYTES_PER_NODE
    if free >= needed:
        return Check("tmpfs", Status.OK, found)
    size = math.ceil(needed / GIB)
    advice = (
        "works, but data goes to the disk, and mining waits for it; in a container,"
        f" --shm-size={size}g helps"
    )
    return Check("tmpfs", Status.WARNING, found, advice)


async def _check_product(product: Product) -> Check:
    name = " and ".join(product.program_names)
    try:
        programs = await find(product)
    except ToolchainError as exc:
        return Check(name, Status.FAILED, str(exc), "run `lnagents setup`, which provides it")
    first = programs[product.program_names[0]]
    found = f"{first.version} from the {first.origin.value}, {first.path}"
    if product is Product.LND and not first.has_dev_build:
        advice = (
            "works; networks start slower than with the build of `lnagents setup`, which is used"
            " when PATH has none"
        )
        return Check(name, Status.WARNING, f"{found} (a stock build)", advice)
    return Check(name, Status.OK, found)


async def _check_go(complete: bool) -> Check:
    recipes = golang.RECIPES.values()
    texts = [await asyncio.to_thread((r.directory / "go.mod").read_text) for r in recipes]
    needed = max(golang.needed_go(text) for text in texts)
    on_path = await golang.go_on_path()
    if on_path is not None and on_path[1] >= needed:
        return Check("go", Status.OK, f"{version_text(on_path[1])} from the path, {on_path[0]}")
    found = "not on PATH" if on_path is None else f"{version_text(on_path[1])} on PATH"
    if complete:
        return Check("go", Status.OK, f"{found}, and nothing is left to build")
    advice = f"nothing to do: `lnagents setup` fetches one ({version_text(needed)} is needed)"
    return Check("go", Status.WARNING, found, advice)


def _check_installer() -> Check:
    name, installer = "uv or pip", golang.package_installer()
    if installer is None:
        return Check(name, Status.WARNING, "neither", "install uv: `lnagents setup` may need it")
    return Check(name, Status.OK, " ".join(installer[: installer.index("install")]))


def _check_resources(complete: bool) -> list[Check]:
    topology = _default_topology()
    root = cache.cache_root()
    existing = next(path for path in (root, *root.parents) if path.exists())
    wanted = NEEDED_DISK_BYTES if complete else WANTED_DISK_BYTES
    return [
        check_ports(default_ports(topology).values()),
        check_tmpfs(shutil.disk_usage(TMPFS).free if TMPFS.is_dir() else 0, len(topology.nodes)),
        check_room(
            "disk",
            shutil.disk_usage(existing).free,
            NEEDED_DISK_BYTES,
            wanted,
            f"make room on the disk of {existing}",
        ),
        check_room(
            "memory",
            _available_memory(),
            NEEDED_MEMORY_BYTES,
            WANTED_MEMORY_BYTES,
            "close other programs",
        ),
    ]


def _default_topology() -> Topology:
    path = data_directory() / "topologies" / "default.yaml"
    return parse_topology(path.read_text(), str(path))


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) * 1024
    return 0


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections that are closing do not keep a server from starting either.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def _check_docker() -> list[Check]:
    asked = {
        "docker engine": (
            ("docker", "version", "--format", "{{.Server.Version}}"),
            "install Docker and start its daemon; you must be allowed to use it (group docker)",
        ),
        "docker compose": (
            ("docker", "compose", "version", "--short"),
            "install the Compose v2 plugin (docker-compose-plugin or docker-compose-v2)",
        ),
        "docker buildx": (
            ("docker", "buildx", "version"),
            "install the buildx plugin (docker-buildx-plugin or docker-buildx)",
        ),
    }
    return [
        await _check_docker_part(name, command, advice) for name, (command, advice) in asked.items()
    ]


async def _check_docker_part(name: str, command: tuple[str, ...], advice: str) -> Check:
    advice = f"only for the Compose backend: {advice}"
    try:
        answer = await run_program(*command, timeout=PROBE_SECONDS)
    except ToolchainError as exc:
        return Check(name, Status.WARNING, str(exc).splitlines()[-1], advice)
    version = parse_version(answer)
    if version is None:
        return Check(name, Status.WARNING, answer.strip() or "no answer", advice)
    return Check(name, Status.OK, version_text(version))
