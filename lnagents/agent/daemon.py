"""The daemon of one node: starts everything, lives through the rounds, ends cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from lnagents.agent.actor import Actor, make_actor
from lnagents.agent.candidates import RouteFinder
from lnagents.agent.config import AgentConfig, Mode, load_config
from lnagents.agent.control import Outcomes, serve_control, socket_path
from lnagents.agent.delegating import ask_relay
from lnagents.agent.forwarding import Forwarding
from lnagents.agent.ledger import PaymentRecord, PaymentState
from lnagents.agent.limits import Purpose
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.metrics import serve_metrics
from lnagents.agent.observer import Observer
from lnagents.agent.payments import Payer
from lnagents.agent.promises import FeePromises
from lnagents.agent.rounds import Rounds
from lnagents.agent.scores import STORE_NAME
from lnagents.agent.status import (
    AgentStatus,
    ChannelStatus,
    CheckpointReport,
    PurchaseReport,
)
from lnagents.agent.store import Store
from lnagents.agent.trader import Trader
from lnagents.lnd import LndClient, LndEndpoint
from lnagents.market import Seller
from lnagents.model.errors import ConfigError, InvalidRequestError, LndError, StoreError
from lnagents.model.graph import ChannelPolicy
from lnagents.model.units import Msat, NodeKey

LOCK_NAME = "lock"

READY_SECONDS = 120.0
"""How long the node may take to start, to synchronise and to tell its graph."""

EVENTS_SECONDS = 1.0
"""How long a round that is asked for waits for the last events of what it follows."""

FORWARDS_SECONDS = 20.0
"""Between two looks at the node's forwarding history, which is up to 15 s late itself."""

_log = structlog.get_logger("lnagents.agent.daemon")


class Daemon:
    """One agent. `await Daemon(path).run()` until it is cancelled."""

    def __init__(self, config_path: Path, *, mode: Mode | None = None) -> None:
        """`mode` overrides the file's.

        Raises:
            ConfigError: the file is wrong.
        """
        self._path = config_path
        self._mode = mode
        self.config = self._read_config()
        socket_path(self.config.data_directory)
        self._outcomes = Outcomes()
        self._stepping = asyncio.Lock()

    async def run(self) -> None:
        """Live until cancelled; then save everything and return by raising `CancelledError`.

        Raises:
            ConfigError: the node is on another network, or another agent uses the data directory.
            LndError: the node cannot be used as it has to.
            StoreError: the database cannot be used.
        """
        config = self.config
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_locked(config.data_directory))
            store = self._store = await Store.open(config.data_directory / STORE_NAME)
            stack.push_async_callback(store.close)
            endpoint = LndEndpoint(
                config.lnd.address, config.lnd.tls_certificate, config.lnd.macaroon
            )
            client = self._client = await stack.enter_async_context(LndClient(endpoint))
            info = await client.wait_ready(READY_SECONDS)
            self._check_network(info.network)
            self._node = info.key
            self._totals = await store.totals()

            liquidity = self._liquidity = Liquidity(config.routing.liquidity_half_life_seconds)
            liquidity.load(*await store.load_beliefs(time.time()))
            finder = self._finder = RouteFinder(info.key, liquidity, config.routing.attempt_cost())
            self._observer = Observer(client, store, finder, info.key)
            await self._observer.load()
            actor = self._actor = await self._make_actor(store)
            stack.push_async_callback(actor.close)
            promises = FeePromises(self._observer.own_policy)
            self._rounds = Rounds(
                client=client,
                promises=promises,
                store=store,
                observer=self._observer,
                actor=actor,
                config=lambda: self.config,
                number=await store.last_round(),
            )
            stack.push_async_callback(self.checkpoint)
            self._payer = Payer(
                client=client,
                store=store,
                observer=self._observer,
                finder=finder,
                liquidity=liquidity,
                chooser=actor,
                config=lambda: self.config,
                on_outcome=self._on_outcome,
            )
            self._forwarding = Forwarding(
                client=client,
                store=store,
                observer=self._observer,
                finder=finder,
                payer=self._payer,
                config=config,
                node=info,
            )
            self._trader = Trader(
                client=client,
                key=info.key,
                store=store,
                observer=self._observer,
                finder=finder,
                liquidity=liquidity,
                payer=self._payer,
                rounds=self._rounds,
                promises=promises,
                passes=self._forwarding.passes,
                forwards=self._forwarding.quotes,
                totals=self._totals,
                config=lambda: self.config,
            )
            await self._live(stack)

    async def _live(self, stack: contextlib.AsyncExitStack) -> None:
        config = self.config
        async with asyncio.TaskGroup() as group:
            group.create_task(self._observer.watch_graph(), name="graph")
            group.create_task(self._observer.watch_htlcs(), name="htlcs")
            await self._observer.wait_ready(READY_SECONDS)
            stack.push_async_callback(self._payer.stop)
            interrupted = await self._payer.resume()
            async with contextlib.AsyncExitStack() as services:
                await self._forwarding.start(group)
                await self._trader.start(services, group)
                if config.metrics is not None:
                    await services.enter_async_context(
                        serve_metrics(self._status_now, config.metrics.listen)
                    )
                await services.enter_async_context(
                    serve_control(self, self._outcomes, config.data_directory)
                )
                _log.info(
                    "started",
                    node=self._node,
                    network=config.lnd.network,
                    dry_run=config.dry_run,
                    actor=config.actor.kind,
                    round=self._rounds.number,
                    interrupted_payments=interrupted,
                )
                group.create_task(self._sync_forwards(), name="forwards")
                await self._live_rounds()

    async def _live_rounds(self) -> None:
        if self.config.rounds.on_request:
            await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while True:
            try:
                await self._live_round()
            except (LndError, StoreError) as exc:
                _log.warning("round_skipped", round=self._rounds.number + 1, cause=str(exc))
            next_at = max(next_at + self.config.rounds.seconds, loop.time())
            await asyncio.sleep(next_at - loop.time())

    async def _live_round(self) -> None:
        await self._rounds.step()
        if self._rounds.number % self.config.rounds.checkpoint_every == 0:
            await self.checkpoint()

    async def _sync_forwards(self) -> None:
        while True:
            await asyncio.sleep(FORWARDS_SECONDS)
            with contextlib.suppress(LndError, StoreError):
                # The next time, or the next start, brings what was missed.
                await self._observer.sync_forwards()

    # ---- Payments

    def _on_outcome(self, record: PaymentRecord, attempts: int, failed_attempts: int) -> None:
        totals = self._totals
        totals.attempts += attempts
        totals.failed_attempts += failed_attempts
        if record.purpose is Purpose.FORWARD:
            pass  # what it brings is counted when its money has come in
        elif record.state is PaymentState.SETTLED:
            totals.fees_paid_msat += record.fee_msat
            if record.purpose is Purpose.HINT:
                totals.hint_costs_msat += record.amount_msat
            else:
                totals.payments_settled += 1
        elif record.purpose is Purpose.PAYMENT:
            totals.payments_failed += 1
        self._observer.on_payment(record, failed_attempts)
        self._outcomes.publish(record)
        _log.info(
            "payment",
            payment_hash=record.payment_hash,
            state=record.state.value,
            purpose=record.purpose.value,
            amount_msat=record.amount_msat,
            fee_msat=record.fee_msat,
            attempts=record.attempts,
            reason=record.reason,
        )

    # ---- What the control service offers

    async def pay(
        self,
        request: str,
        *,
        max_fee_msat: Msat | None,
        timeout: float,
        delegate: NodeKey | None = None,
    ) -> PaymentRecord:
        """Pay an invoice; see `Payer.pay` and `ask_relay`."""
        relay = None
        if delegate is not None:
            invoice = await self._client.decode_invoice(request)
            relay = await ask_relay(self.config, delegate, invoice, max_fee_msat)
        return await self._payer.pay(
            request, max_fee_msat=max_fee_msat, timeout=timeout, relay=relay
        )

    async def buy(
        self,
        seller_url: str,
        seller_key: NodeKey,
        path: str,
        *,
        max_price_msat: Msat | None,
        again: bool,
        timeout: float,
    ) -> PurchaseReport:
        """Buy a document; see `Trader.buy`."""
        return await self._trader.buy(
            Seller(seller_url, seller_key),
            path,
            max_price_msat=max_price_msat,
            again=again,
            timeout=timeout,
        )

    async def status(self) -> AgentStatus:
        """The agent now, balances included."""
        await self._observer.local_channels(1.0)
        return self._status_now()

    async def step(self) -> int:
        """Live one round now, and tell its number.

        Raises:
            InvalidRequestError: the agent's rounds begin by themselves.
            LnagentsError: the node could not be observed; the round did not take place.
        """
        if not self.config.rounds.on_request:
            raise InvalidRequestError("rounds.on_request is off: rounds begin by themselves")
        async with self._stepping:
            await self._observer.wait_at_rest(EVENTS_SECONDS)
            await self._live_round()
            return self._rounds.number

    def pause(self) -> None:
        """Stop decisions; observing and paying go on."""
        self._rounds.paused = True
        _log.info("paused")

    def resume(self) -> None:
        """Decide again."""
        self._rounds.paused = False
        _log.info("resumed")

    async def reload(self) -> None:
        """Read the configuration file again; nothing changes if it is wrong.

        Raises:
            ConfigError: it is wrong, or changes what cannot change in a running agent.
        """
        new = await asyncio.to_thread(self._read_config)
        key = _fixed_change(self.config, new)
        if key:
            raise ConfigError(str(self._path), f"{key}: cannot change while the agent runs")
        self.config = new
        self._trader.reload(new.market.sell)
        self._liquidity.half_life_seconds = new.routing.liquidity_half_life_seconds
        self._finder.attempt_cost = new.routing.attempt_cost()
        _log.info("reloaded", dry_run=new.dry_run)

    async def checkpoint(self) -> CheckpointReport:
        """Save the learner in the store."""
        data = await self._actor.save()
        if data is None:
            return CheckpointReport(self._rounds.number, 0)
        await self._store.save_checkpoint(self._rounds.number, time.time(), data)
        return CheckpointReport(self._rounds.number, len(data))

    def _status_now(self) -> AgentStatus:
        observer, rounds, totals = self._observer, self._rounds, self._totals
        return AgentStatus(
            name=self.config.name,
            node=self._node,
            network=self.config.lnd.network,
            dry_run=self.config.dry_run,
            paused=rounds.paused,
            round=rounds.number,
            channels=tuple(self._channel_statuses()),
            fees_earned_msat=observer.fees_earned_msat,
            fees_paid_msat=totals.fees_paid_msat,
            forwards=observer.forwards,
            payments_settled=totals.payments_settled,
            payments_failed=totals.payments_failed,
            payments_in_flight=self._payer.in_flight,
            attempts=totals.attempts,
            failed_attempts=totals.failed_attempts,
            policy_updates=totals.policy_updates + rounds.policy_updates,
            hints_bought=totals.hints_bought,
            hint_costs_msat=totals.hint_costs_msat,
            hints_sold=totals.hints_sold,
            hint_income_msat=totals.hint_income_msat,
            reward_terms=rounds.terms,
            last_reward=rounds.reward,
            learner=self._actor.stats,
            htlc_events=observer.events,
            forwarding=self._forwarding.status,
            delegation=self._forwarding.delegated,
            pass_key=self._trader.pass_key,
        )

    def _channel_statuses(self) -> list[ChannelStatus]:
        statuses = []
        for channel in self._observer.known_channels():
            policy = self._observer.own_policy(channel.scid) or ChannelPolicy()
            statuses.append(
                ChannelStatus(
                    scid=channel.scid,
                    peer=channel.peer,
                    peer_alias=self._observer.alias(channel.peer),
                    capacity_msat=channel.capacity_msat,
                    local_balance_msat=channel.local_balance_msat,
                    remote_balance_msat=channel.remote_balance_msat,
                    active=channel.active,
                    fee_rate_ppm=policy.fee_rate_ppm,
                    base_fee_msat=policy.base_fee_msat,
                    inbound_fee_rate_ppm=policy.inbound_fee_rate_ppm,
                )
            )
        return statuses

    # ---- Start

    def _read_config(self) -> AgentConfig:
        config = load_config(self._path)
        if self._mode is not None:
            config = config.model_copy(update={"mode": self._mode})
        return config

    def _check_network(self, network: str) -> None:
        wanted = self.config.lnd.network
        if network != wanted:
            problem = f"lnd.network: the node is on {network}, not on {wanted}"
            raise ConfigError(str(self._path), problem)

    async def _make_actor(self, store: Store) -> Actor:
        section = self.config.actor
        if self.config.dry_run:
            # What is not carried out has no consequences to learn from.
            section = section.model_copy(update={"learn": False})
        actor = await make_actor(section, self.config.routing.attempt_cost(), str(self._path))
        saved = await store.last_checkpoint()
        data = saved.data if saved is not None else None
        if data is None and section.checkpoint is not None and section.kind == "ppo":
            try:
                data = await asyncio.to_thread(section.checkpoint.read_bytes)
            except OSError as exc:
                problem = f"actor.checkpoint: {section.checkpoint} cannot be read ({exc.strerror})"
                raise ConfigError(str(self._path), problem) from exc
        if data is not None:
            await actor.load(data)
        return actor


def _fixed_change(old: AgentConfig, new: AgentConfig) -> str:
    """The first key that differs and is only read when an agent starts; empty if there is none."""

    def started_with(config: AgentConfig) -> dict[str, object]:
        limits, market = config.limits, config.market
        sell = market.sell and market.sell.model_copy(update={"price_sat": 1})
        return {
            "name": config.name,
            "data_directory": config.data_directory,
            "lnd": config.lnd,
            "mode": config.dry_run,
            "metrics": config.metrics,
            "rounds.on_request": config.rounds.on_request,
            "actor": config.actor,
            "forwarding": config.forwarding,
            "market.sell": sell,
            "limits.hint_per_purchase_msat": limits.hint_per_purchase_msat,
            "limits.hint_per_hour_msat": limits.hint_per_hour_msat,
            "limits.hint_per_day_msat": limits.hint_per_day_msat,
        }

    before, after = started_with(old), started_with(new)
    return next((key for key, value in before.items() if after[key] != value), "")


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the data directory for this process alone; the lock ends with the process."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        problem = f"{directory} cannot be used ({exc.strerror})"
        raise ConfigError("data_directory", problem) from exc
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            problem = f"another agent runs in {directory}"
            raise ConfigError("data_directory", problem) from exc
        yield
    finally:
        os.close(handle)
