"""The agent as a forwarder: who decides on what its node is asked to forward, in which order."""

from __future__ import annotations

import asyncio

from lnagents.agent.config import AgentConfig
from lnagents.agent.forwarder import Decider, Forwarder, ForwarderState, ForwarderStatus
from lnagents.agent.observer import Observer
from lnagents.agent.pass_ledger import PassLedger
from lnagents.agent.passes import PassDesk
from lnagents.agent.rooms import Rooms
from lnagents.agent.store import Store
from lnagents.lnd import LndClient
from lnagents.model.errors import ConfigError

KNOWN_SECONDS = 30.0
"""How long the node may take to say whether this agent decides."""


class Forwarding:
    """Starts what the configuration asks for: nothing, if it has no section `forwarding`."""

    def __init__(
        self, *, client: LndClient, store: Store, observer: Observer, config: AgentConfig
    ) -> None:
        self._client = client
        self._section = None if config.dry_run else config.forwarding
        self._forwarder: Forwarder | None = None
        self._rooms = Rooms(client)
        self.passes: PassDesk | None = None
        """Keeps and admits holders of passes; None if nothing is kept for them."""
        if self._section is not None and self._section.reserved_share > 0.0:
            sell = config.market.sell
            self.passes = PassDesk(
                self._rooms,
                PassLedger(store.database),
                reserved_share=self._section.reserved_share,
                bands=1 if sell is None else sell.bands,
                max_seconds=0 if sell is None else sell.max_pass_seconds,
            )
            observer.followers.append(self.passes.on_event)
            observer.promised = self.passes.promised_msat

    @property
    def status(self) -> ForwarderStatus:
        """What was decided so far."""
        return ForwarderStatus() if self._forwarder is None else self._forwarder.status

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Decide until `group` ends.

        Raises:
            ConfigError: the macaroon does not allow it.
            LndError: the node does not tell its channels.
            StoreError: the store cannot be read.
        """
        if self._section is None:
            return
        deciders: list[Decider] = []
        if self.passes is not None:
            await self.passes.load()
            deciders.append(self.passes)
            group.create_task(self._rooms.run(), name="rooms")
            group.create_task(self.passes.run(), name="passes")
        forwarder = self._forwarder = Forwarder(
            self._client.htlc_interceptor(),
            deciders,
            deadline_seconds=self._section.deadline_seconds,
        )
        group.create_task(forwarder.run(), name="forwarder")
        if await forwarder.wait_known(KNOWN_SECONDS) is ForwarderState.FORBIDDEN:
            problem = "does not allow deciding on forwards; bake one with role forwarder"
            raise ConfigError("lnd.macaroon", problem)
