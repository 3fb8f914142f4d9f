"""What runs the programs of a network: processes or containers, behind one protocol.

A backend knows services by name: `bitcoind`, one per node (the node's own name), `aperture-NODE`
per seller, and `miner`. It starts, stops and freezes them and says where they are reached; what
they do (funding, channels, gossip) is above it and the same for all backends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn, Protocol, TypeAlias

from lnagents.lnd import LndEndpoint
from lnagents.model.topology import Topology

BITCOIND = "bitcoind"
"""Name of the chain's service."""
MINER = "miner"
"""Name of the service that mines blocks."""

Progress: TypeAlias = Callable[[str], None]
"""Told one short sentence per step, for people who wait."""


def aperture_service(node: str) -> str:
    """Name of the service that is the Aperture of the seller `node`."""
    return f"aperture-{node}"


def lightning_services(topology: Topology) -> tuple[str, ...]:
    """The services that are LND nodes, in the topology's order."""
    return tuple(node.name for node in topology.nodes)


def aperture_services(topology: Topology) -> tuple[str, ...]:
    """The services that are Apertures, in the topology's order."""
    return tuple(aperture_service(seller.node) for seller in topology.sellers)


class BackendKind(str, Enum):
    """Which backend runs a network."""

    NATIVE = "native"
    COMPOSE = "compose"


class ServiceState(str, Enum):
    """What a service is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    """Never started, or ended by our request."""
    DIED = "died"
    """Ended by itself."""


@dataclass(frozen=True, slots=True)
class BitcoindSite:
    """Where bitcoind's JSON-RPC is reached from this process."""

    url: str
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class NodeSite:
    """Where one LND is reached."""

    admin: LndEndpoint
    """From this process, with the admin macaroon."""
    peer_address: str
    """`host:port` at which the *other nodes* reach it."""


@dataclass(frozen=True, slots=True)
class SellerSite:
    """Where the Aperture of one seller is, and where it expects the hint service behind it."""

    node: str
    url: str
    """Of Aperture, for buyers: `http://127.0.0.1:PORT`."""
    service_host: str
    """On which the seller's hint service has to listen (HTTP)."""
    service_port: int
    pricer_host: str
    """On which the seller's pricer has to listen (gRPC)."""
    pricer_port: int


class Backend(Protocol):
    """Runs the services of one network.

    All methods may raise `BackendError`. None leaves a half-done step behind when it is cancelled:
    `destroy` afterwards removes whatever was started or written.
    """

    @property
    def directory(self) -> Path:
        """Where this network keeps what the host needs (certificates, macaroons, state); 0700."""
        ...

    async def prepare(self) -> None:
        """Check ports, make directories and configuration; nothing runs yet.

        Raises:
            PortInUseError: naming the port and the service that wants it.
            ToolchainError: a program or image is missing and could not be provided.
        """
        ...

    async def start(self, services: Sequence[str]) -> None:
        """Start these services, all at once; return as soon as they were launched.

        Services that run already are left alone; earlier data is kept.
        """
        ...

    async def stop(self, services: Sequence[str], *, timeout: float = 30.0) -> None:
        """Ask these services to end cleanly, and kill those that still run after `timeout` s."""
        ...

    async def kill(self, services: Sequence[str]) -> None:
        """End these services at once, as a power cut would."""
        ...

    async def pause(self, services: Sequence[str]) -> None:
        """Freeze these services; they keep memory, files and connections."""
        ...

    async def resume(self, services: Sequence[str]) -> None:
        """Let frozen services go on."""
        ...

    async def partition(self, service: str) -> None:
        """Cut this service off the network of the others; it runs on.

        Raises:
            BackendError: this backend cannot do that.
        """
        ...

    async def heal(self, service: str) -> None:
        """Undo `partition`."""
        ...

    async def states(self) -> Mapping[str, ServiceState]:
        """What every service of the topology is doing now."""
        ...

    async def logs(self, service: str, lines: int) -> str:
        """The last `lines` lines that a service wrote."""
        ...

    async def watch(self) -> NoReturn:
        """Wait, for ever if all is well, until a service ends that was not asked to.

        Raises:
            NodeDiedError: naming it, with its last log lines.
        """
        ...

    async def bitcoind(self) -> BitcoindSite:
        """Where the started bitcoind is reached; it may still be loading."""
        ...

    async def node(self, name: str) -> NodeSite:
        """Where a started LND is reached; waits until it has written certificate and macaroon.

        Raises:
            SettleTimeoutError: they did not appear within a minute.
        """
        ...

    def sellers(self) -> Mapping[str, SellerSite]:
        """The Apertures, by their node's name."""
        ...

    async def save_state(self, into: Path) -> None:
        """Copy all services' data into the new directory `into`; call it while all are paused."""
        ...

    async def load_state(self, source: Path) -> None:
        """Replace all services' data by what `save_state` copied; call it while none runs."""
        ...

    async def destroy(self) -> None:
        """Kill everything that was started and remove all that was written; idempotent."""
        ...
