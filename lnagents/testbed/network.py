"""A whole live network: `Testbed`, what experiments, tests and the command line use."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from lnagents.lnd import LndClient, LndEndpoint, Role
from lnagents.model.errors import LnagentsError, TestbedError
from lnagents.model.payment import PaymentOutcome, PaymentStatus
from lnagents.model.topology import Topology
from lnagents.model.units import Msat, NodeKey
from lnagents.testbed import audit, snapshot
from lnagents.testbed.backend import (
    Backend,
    BackendKind,
    Progress,
    SellerSite,
    ServiceState,
    lightning_services,
)
from lnagents.testbed.backends import open_backend
from lnagents.testbed.bitcoin import BitcoinClient
from lnagents.testbed.gossip import Network, wait_gossip
from lnagents.testbed.processes import is_alive, own_record
from lnagents.testbed.provision import Lightning, Phase
from lnagents.testbed.snapshot import START_STATE
from lnagents.testbed.startup import close_all, find_sites, start_network, wait_sellers
from lnagents.testbed.state import StateFolder, TestbedState, data_directory_for, running_names
from lnagents.testbed.threads import in_thread
from lnagents.testbed.together import to_its_end, together, while_alive
from lnagents.testbed.waiting import wait_until

QUIET_SECONDS = 30.0

Result = TypeVar("Result")


def ignore(text: str) -> None:
    """For callers who show no progress."""


@dataclass(frozen=True, slots=True)
class TestbedNode:
    """One node: who it is and how it is reached."""

    __test__ = False  # pytest would collect the name

    name: str
    key: NodeKey
    admin: LndEndpoint
    """May do everything."""
    agent: LndEndpoint
    """May do what the four roles of an agent allow."""
    macaroons: Mapping[Role, Path]
    """One per role."""
    peer_address: str
    """`host:port` for other nodes."""


class Testbed:
    """A live network, funded, with channels open and gossip settled.

    Made by `up` (which starts it), `attach` (which finds a running one) or `running`. Clients that
    it gives are its own; `down` or `close` closes them.
    """

    __test__ = False

    def __init__(
        self,
        folder: StateFolder,
        state: TestbedState,
        backend: Backend,
        lightning: Lightning,
        bitcoin: BitcoinClient,
    ) -> None:
        self._folder = folder
        self._state = state
        self._backend = backend
        self._lightning = lightning
        self._bitcoin = bitcoin
        self.nodes: Mapping[str, TestbedNode] = MappingProxyType(
            {name: self._describe(name) for name in lightning.sites}
        )
        """By name, in the topology's order."""
        self.sellers: Mapping[str, SellerSite] = MappingProxyType(dict(backend.sellers()))
        """By their node's name."""

    @classmethod
    async def up(
        cls,
        topology: Topology,
        *,
        backend: BackendKind = BackendKind.NATIVE,
        name: str | None = None,
        directory: Path | None = None,
        tied: bool = False,
        progress: Progress = ignore,
        phase: Phase = ignore,
    ) -> Testbed:
        """Start a network and wait until it can be used.

        If anything fails, or the caller is cancelled, all that was started is stopped and removed.

        Args:
            topology: what to build.
            backend: what runs it.
            name: how later commands find it; None takes the topology's.
            directory: a folder, not there yet, for its data; None chooses one, on tmpfs if there
                is room.
            tied: it should not outlive this process. Whoever starts a network next removes it if
                this process was killed before it could.
            progress: told each step, for people.
            phase: told the name of each phase when it begins, for the start-up bench.

        Raises:
            PortInUseError: another program listens on a port of the topology.
            ToolchainError: a program is missing and could not be provided.
            NodeDiedError: a program ended; with its last log lines.
            TestbedError: it did not come up for another reason, which is named.
        """
        folder = StateFolder(name or topology.name)
        mark = secrets.token_hex(16)
        where = directory or data_directory_for(folder.name, mark, len(topology.nodes))
        state = TestbedState(
            name=folder.name,
            backend=backend,
            mark=mark,
            directory=where.absolute(),
            topology=topology,
            owner=own_record() if tied else None,
        )
        phase("prepare")
        await _remove_orphans()
        folder.claim()
        driver: Backend | None = None
        try:
            await in_thread(folder.write, state)
            driver = open_backend(folder, state, progress)
            await driver.prepare()
            prepared = await in_thread(folder.read)
            started = await while_alive(
                driver, start_network(folder, prepared, driver, progress, phase)
            )
            return cls(folder, started.state, driver, started.lightning, started.bitcoin)
        except BaseException:
            # Not `finally`: a network that is up stays up.
            await to_its_end(driver.destroy() if driver is not None else in_thread(folder.remove))
            raise

    @classmethod
    async def attach(cls, name: str) -> Testbed:
        """Find a network that is up, also one that another process started.

        Raises:
            TestbedError: none of that name, or it did not finish starting.
        """
        folder = StateFolder(name)
        state = await in_thread(folder.read)
        if not state.books:
            raise TestbedError(
                f"testbed {name!r} is still starting, or its start was interrupted;"
                f" `lnagents testbed down --name {name}` removes it"
            )
        backend = open_backend(folder, state, ignore)
        sites = await find_sites(backend, lightning_services(state.topology))
        lightning = Lightning(
            sites=sites,
            clients={node: LndClient(site.admin) for node, site in sites.items()},
            keys={node: books.key for node, books in state.books.items()},
            addresses={},
        )
        return cls(folder, state, backend, lightning, BitcoinClient(await backend.bitcoind()))

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        topology: Topology,
        *,
        backend: BackendKind = BackendKind.NATIVE,
        name: str | None = None,
        directory: Path | None = None,
        progress: Progress = ignore,
    ) -> AsyncIterator[Testbed]:
        """`up`, and `down` at the end, as an async context manager."""
        testbed = await cls.up(
            topology,
            backend=backend,
            name=name,
            directory=directory,
            tied=True,
            progress=progress,
        )
        try:
            yield testbed
        finally:
            await to_its_end(testbed.down())

    @property
    def name(self) -> str:
        """How commands find it."""
        return self._state.name

    @property
    def topology(self) -> Topology:
        """What it was made from."""
        return self._state.topology

    @property
    def kind(self) -> BackendKind:
        """Which backend runs it."""
        return self._state.backend

    @property
    def backend(self) -> Backend:
        """What runs it; for faults."""
        return self._backend

    @property
    def directory(self) -> Path:
        """Its data; other files put here, such as agents' own, are removed by `down`, too."""
        return self._backend.directory

    @property
    def began_at(self) -> float:
        """Unix seconds when it had been provisioned."""
        return self._state.began_at

    def client(self, name: str) -> LndClient:
        """A client of one node that may do everything.

        Raises:
            TestbedError: no such node.
        """
        try:
            return self._lightning.clients[name]
        except KeyError as exc:
            known = ", ".join(self.nodes)
            raise TestbedError(f"no node {name!r} in testbed {self.name!r} ({known})") from exc

    async def down(self) -> None:
        """Stop everything and remove all files."""
        await self.close()
        await to_its_end(self._backend.destroy())

    async def close(self) -> None:
        """Let go of the network and leave it running."""
        await close_all(self._lightning.clients, self._bitcoin)

    async def states(self) -> Mapping[str, ServiceState]:
        """What every service is doing now."""
        return await self._backend.states()

    async def logs(self, service: str, lines: int = 50) -> str:
        """The last lines that a service wrote.

        Raises:
            TestbedError: no such service.
        """
        known = await self.states()
        if service not in known:
            raise TestbedError(
                f"no service {service!r} in testbed {self.name!r} ({', '.join(known)})"
            )
        return await self._backend.logs(service, lines)

    async def mine(self, blocks: int) -> None:
        """Mine `blocks` blocks at once and wait until every node has seen them.

        Raises:
            SettleTimeoutError: a node did not.
        """
        await self._watched(self._bitcoin.mine(blocks))
        height = await self._bitcoin.height()

        async def reached() -> bool:
            infos = await together(self.client(name).info() for name in self.nodes)
            return all(info.block_height >= height for info in infos)

        await self._watched(
            wait_until(
                reached,
                timeout=QUIET_SECONDS,
                complaint=lambda: f"block {height} is not at every node",
            )
        )

    async def pay(
        self,
        source: str,
        destination: str,
        amount_msat: Msat,
        *,
        fee_limit_msat: Msat | None = None,
        timeout_seconds: int = 60,
        max_parts: int = 1,
    ) -> PaymentOutcome:
        """Let LND's own sender pay; a payment that fails is an outcome, not an exception.

        Args:
            source: name of the node that pays.
            destination: name of the node that is paid.
            amount_msat: how much, in msat.
            fee_limit_msat: most that forwarders may keep; None for the amount itself.
            timeout_seconds: how long new attempts are made.
            max_parts: into how many parts it may be split.

        Raises:
            TestbedError: no such node.
            LndError: a node refused or does not answer.
        """
        payer, receiver = self.client(source), self.client(destination)
        invoice = await receiver.add_invoice(amount_msat)
        began = time.time()
        payment = await payer.pay(
            invoice.payment_request,
            fee_limit_msat=amount_msat if fee_limit_msat is None else fee_limit_msat,
            timeout_seconds=timeout_seconds,
            max_parts=max_parts,
        )
        settled = payment.status is PaymentStatus.SETTLED
        return PaymentOutcome(
            index=0,
            source=source,
            destination=destination,
            amount_msat=amount_msat,
            settled=settled,
            fee_msat=payment.fee_msat if settled else 0,
            attempts=len(payment.attempts),
            failed_attempts=payment.failed_attempts,
            started_at=began - self.began_at,
            seconds=time.time() - began,
            reason="" if settled else payment.failure_reason,
            payment_hash=payment.payment_hash,
        )

    async def wait_gossip(self, timeout: float | None = None) -> float:
        """Wait until every node knows the current policy of every edge; gives the seconds.

        Raises:
            SettleTimeoutError: not within `timeout` s (None: what the profile allows).
        """
        return await self._watched(wait_gossip(self._network(), timeout=timeout))

    async def wait_quiet(self, timeout: float = QUIET_SECONDS) -> None:
        """Wait until no payment is on its way anywhere.

        Raises:
            SettleTimeoutError: some still are after `timeout` s.
        """

        async def quiet() -> bool:
            channels = await together(self.client(name).channels() for name in self.nodes)
            return not any(channel.pending_htlcs for own in channels for channel in own)

        await self._watched(
            wait_until(
                quiet,
                timeout=timeout,
                complaint=lambda: "payments are still on their way",
                interval=0.05,
            )
        )

    async def audit(self) -> audit.AuditReport:
        """Check that no satoshi was lost; waits until payments have come to rest.

        Raises:
            AuditError: channels were opened or closed since the start.
            SettleTimeoutError: payments did not come to rest.
        """
        await self.wait_quiet()
        return await audit.audit(self._lightning.clients, self._state.books, self.began_at)

    async def snapshot(self, name: str = START_STATE, *, with_books: bool = True) -> None:
        """Keep the present state of the whole network, for `reset` to go back to.

        Waits until payments have come to rest.

        Args:
            name: what it is called; without one it replaces the snapshot of the start.
            with_books: wait, too, for LND to write down its forwards (up to 15 s), so that `audit`
                finds them after a reset.

        Raises:
            SettleTimeoutError: payments did not come to rest.
        """
        await self.wait_quiet()
        if with_books:
            await audit.wait_forwards(self._lightning.clients, self.began_at)
        await snapshot.save(self._backend, self._bitcoin, name)

    async def discard_snapshot(self, name: str) -> None:
        """Remove a snapshot that is not needed any more; fine if there is none."""
        await snapshot.discard(self._backend, name)

    async def reset(self, name: str = START_STATE) -> None:
        """Go back to the state right after provisioning, or to the snapshot `name`.

        Chain, nodes, mission control and Apertures; keys and ports stay. If it fails, every service
        is stopped, and `reset` may be tried again.

        Raises:
            TestbedError: a service did not come back; says which and why.
        """
        await snapshot.restore(self._backend, self._bitcoin, self._lightning, self.topology, name)
        await self.wait_gossip()
        await wait_sellers(self.sellers.values())

    def _network(self) -> Network:
        return Network(self._lightning.clients, self._lightning.keys, self.topology.profile)

    def _describe(self, name: str) -> TestbedNode:
        site = self._lightning.sites[name]
        macaroons = self._backend.directory / "macaroons" / name
        return TestbedNode(
            name=name,
            key=self._lightning.keys[name],
            admin=site.admin,
            agent=LndEndpoint(
                site.admin.address, site.admin.tls_certificate, macaroons / "agent.macaroon"
            ),
            macaroons={role: macaroons / f"{role.value}.macaroon" for role in Role},
            peer_address=site.peer_address,
        )

    async def _watched(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return await while_alive(self._backend, coroutine)


async def _remove_orphans() -> None:
    """Remove the networks that were tied to a process which was killed."""
    for name in await in_thread(running_names):
        # Half-made ones, and those that somebody else removes at the same time, are not ours.
        with contextlib.suppress(LnagentsError):
            owner = (await in_thread(StateFolder(name).read)).owner
            if owner is not None and not is_alive(owner):
                await remove(name)


async def remove(name: str) -> None:
    """Stop and remove a network by name, whatever state it is in; also a half-started one.

    Raises:
        TestbedError: there is none of that name.
    """
    folder = StateFolder(name)
    if folder.exists() and not (folder.path / "state.json").exists():
        # Interrupted between its first two steps: nothing was started.
        await in_thread(folder.remove)
        return
    state = await in_thread(folder.read)
    backend = open_backend(folder, state, ignore)
    await to_its_end(backend.destroy())
