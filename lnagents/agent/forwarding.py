"""The agent as a forwarder: who decides on what its node is asked to forward, in which order."""

from __future__ import annotations

import asyncio

import structlog

from lnagents.agent.candidates import RouteFinder
from lnagents.agent.config import AgentConfig
from lnagents.agent.delegation import DelegationDesk
from lnagents.agent.delegation_ledger import DelegationLedger, DelegationTotals
from lnagents.agent.forwarder import Decider, Forwarder, ForwarderState, ForwarderStatus
from lnagents.agent.observer import Observer
from lnagents.agent.pass_ledger import PassLedger
from lnagents.agent.passes import PassDesk
from lnagents.agent.payments import Payer
from lnagents.agent.quoting import ForwardQuotes
from lnagents.agent.rooms import Rooms
from lnagents.agent.store import Store
from lnagents.lnd import LndClient
from lnagents.model.errors import ConfigError
from lnagents.model.graph import NodeInfo

KNOWN_SECONDS = 30.0
"""How long the node may take to say whether this agent decides."""

_log = structlog.get_logger("lnagents.agent.forwarding")


class Forwarding:
    """Starts what the configuration asks for: nothing, if it has no section `forwarding`."""

    def __init__(
        self,
        *,
        client: LndClient,
        store: Store,
        observer: Observer,
        finder: RouteFinder,
        payer: Payer,
        config: AgentConfig,
        node: NodeInfo,
    ) -> None:
        """`node` is what the own node says of itself.

        Raises:
            ConfigError: it does not require an interceptor, and ways of others are to be paid.
        """
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
        self.quotes: ForwardQuotes | None = None
        """For those who leave the rest of a way to this agent; None: nobody may."""
        self._ledger = DelegationLedger(store.database)
        self._delegation: DelegationDesk | None = None
        section = None if self._section is None else self._section.delegation
        if section is not None:
            if not node.requires_interceptor:
                problem = (
                    "the node has to be started with requireinterceptor=true; without, an agent"
                    " that ends in between loses what it has paid"
                )
                raise ConfigError("forwarding.delegation", problem)
            if not node.keeps_resolutions:
                _log.warning(
                    "ends_not_kept",
                    advice="start the node with store-final-htlc-resolutions=true: without, what"
                    " it gives back while this agent is away for long counts as lost only days"
                    " later",
                )
            self.quotes = ForwardQuotes(
                signer=client, observer=observer, finder=finder, section=section
            )
            self._delegation = DelegationDesk(
                payer=payer,
                ledger=self._ledger,
                node=client,
                observer=observer,
                section=section,
                quotes=self.quotes,
                leaves_enough=None if self.passes is None else self.passes.leaves_enough,
            )
            observer.followers.append(self._delegation.on_event)

    @property
    def status(self) -> ForwarderStatus:
        """What was decided so far."""
        return ForwarderStatus() if self._forwarder is None else self._forwarder.status

    @property
    def delegated(self) -> DelegationTotals:
        """What came of payments whose way was left to this agent."""
        return DelegationTotals() if self._delegation is None else self._delegation.totals

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Decide until `group` ends.

        Raises:
            ConfigError: the macaroon does not allow it, or payments that were left to this agent
                have not ended, and would have nobody who ends them.
            LndError: the node does not tell its channels.
            StoreError: the store cannot be read.
        """
        if self._delegation is None:
            await self._see_that_nothing_is_open()
        if self._section is None:
            return
        deciders: list[Decider] = []
        if self.passes is not None:
            await self.passes.load()
            deciders.append(self.passes)
            group.create_task(self._rooms.run(), name="rooms")
            group.create_task(self.passes.run(), name="passes")
        if self._delegation is not None:
            await self._delegation.load()
            deciders.insert(0, self._delegation)
            group.create_task(self._delegation.run(), name="delegations")
        forwarder = self._forwarder = Forwarder(
            self._client.htlc_interceptor(),
            deciders,
            deadline_seconds=self._section.deadline_seconds,
        )
        group.create_task(forwarder.run(), name="forwarder")
        if await forwarder.wait_known(KNOWN_SECONDS) is ForwarderState.FORBIDDEN:
            problem = "does not allow deciding on forwards; bake one with role forwarder"
            raise ConfigError("lnd.macaroon", problem)

    async def _see_that_nothing_is_open(self) -> None:
        """The node keeps what is open for a desk that knows of it; others would give it back."""
        count = len(await self._ledger.unfinished())
        if count:
            problem = (
                f"{count} payments that were left to this agent have not ended; keep the section,"
                " and the mode live, until they have"
            )
            raise ConfigError("forwarding.delegation", problem)
