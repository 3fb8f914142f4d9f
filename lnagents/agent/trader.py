"""The agent in the market: buys information for its payments, sells what its node knows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from lnagents.agent.buying import BuyingDesk
from lnagents.agent.candidates import RouteFinder
from lnagents.agent.config import AgentConfig, SellerSection, SellSection
from lnagents.agent.hints import Advisor
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.observer import Observer
from lnagents.agent.pass_buying import PassBuyer
from lnagents.agent.pass_ledger import OwnPassLedger
from lnagents.agent.pass_wallet import PassWallet
from lnagents.agent.passes import PassDesk
from lnagents.agent.payments import Payer
from lnagents.agent.promises import FeePromises
from lnagents.agent.rounds import Rounds
from lnagents.agent.scores import Scores
from lnagents.agent.selling import Prices, make_seller
from lnagents.agent.status import PurchaseReport
from lnagents.agent.store import Store, Totals
from lnagents.lnd import LndClient
from lnagents.market import (
    Budget,
    Document,
    DocumentBuyer,
    Sale,
    Seller,
    find_sellers,
    open_document,
    running_seller,
)
from lnagents.market.forwarding import ForwardDesk
from lnagents.market.paths import MAX_SECONDS, parse_path
from lnagents.model.errors import (
    InvalidRequestError,
    LndError,
    MarketError,
    NotForSaleError,
    PaymentError,
)
from lnagents.model.graph import Edge
from lnagents.model.units import Msat, NodeKey

DISCOVER_SECONDS = 600.0
"""Between two looks for sellers in gossip."""

_log = structlog.get_logger("lnagents.agent.trader")


class Trader:
    """Starts and keeps what an agent buys and sells; `start` does what the configuration asks."""

    def __init__(
        self,
        *,
        client: LndClient,
        key: NodeKey,
        store: Store,
        observer: Observer,
        finder: RouteFinder,
        liquidity: Liquidity,
        payer: Payer,
        rounds: Rounds,
        promises: FeePromises,
        passes: PassDesk | None,
        forwards: ForwardDesk | None,
        totals: Totals,
        config: Callable[[], AgentConfig],
    ) -> None:
        """`key` is the own node's, `passes` admits holders, `forwards` finds ways for others.

        `totals` are counted on.
        """
        self._client = client
        self._key = key
        self._store = store
        self._observer = observer
        self._finder = finder
        self._liquidity = liquidity
        self._payer = payer
        self._rounds = rounds
        self._promises = promises
        self._passes = passes
        self._forwards = forwards
        self._totals = totals
        self._config = config
        self._scores = Scores(store.database)
        self._wallet = PassWallet(OwnPassLedger(store.database))
        self._found: tuple[SellerSection, ...] = ()
        self._looking: set[asyncio.Task[None]] = set()
        self._prices: Prices | None = None
        self._desk: BuyingDesk | None = None
        """None: nothing is bought."""
        store.sales.on_sale = self._on_sale

    async def start(self, services: contextlib.AsyncExitStack, group: asyncio.TaskGroup) -> None:
        """Buy and sell until `services` ends; tasks run in `group`.

        Raises:
            PortInUseError: another program listens where the seller should.
            StoreError: the store cannot be read.
        """
        config = self._config()
        # What was promised holds, whatever is sold now.
        self._promises.load(await _promised(self._store))
        if config.dry_run:
            return
        await self._start_buying(services, group)
        if config.market.sell is not None:
            await self._start_selling(services, config.market.sell, group)

    def reload(self, sell: SellSection | None) -> None:
        """Take over a changed price."""
        if self._prices is not None and sell is not None:
            self._prices.reload(sell)

    # ---- Buying

    async def buy(
        self,
        seller: Seller,
        path: str,
        *,
        max_price_msat: Msat | None,
        again: bool,
        timeout: float,
    ) -> PurchaseReport:
        """Buy what `path` asks for; see `BuyingDesk.buy_once`.

        Raises:
            PaymentError: it was not paid; in dry-run nothing is.
            MarketError: it was not delivered, or not within `timeout` seconds.
            InvalidRequestError: nothing can be sold under this path.
        """
        try:
            request = parse_path(path)
        except NotForSaleError as exc:
            raise InvalidRequestError(str(exc)) from exc
        if self._desk is None:
            raise PaymentError(f"dry-run: {request.scope()} would be bought of {seller.url} now")
        try:
            async with asyncio.timeout(timeout):
                report = await self._desk.buy_once(
                    seller, request, max_price_msat=max_price_msat, again=again
                )
        except TimeoutError as exc:
            problem = f"no answer of {seller.url} within {timeout:.0f} s"
            raise MarketError(f"{problem}; what was paid for is collected") from exc
        await self._wallet.collect()
        return report

    @property
    def pass_key(self) -> NodeKey:
        """To which people can have passes bound that the agent presents; see `PassWallet.key`."""
        return self._wallet.key

    async def _start_buying(
        self, services: contextlib.AsyncExitStack, group: asyncio.TaskGroup
    ) -> None:
        config = self._config()
        limits = config.limits
        budget = Budget(
            max_price_msat=limits.hint_per_purchase_msat,
            max_fee_msat=limits.hint_per_purchase_msat,
            per_hour_msat=limits.hint_per_hour_msat,
            per_day_msat=limits.hint_per_day_msat,
            per_seller_per_day_msat=config.market.buy.per_seller_per_day_msat,
        )
        buyer = await services.enter_async_context(
            DocumentBuyer(self._client, self._payer, self._store.purchases, budget)
        )
        scores = self._scores
        await scores.load(time.time() - MAX_SECONDS)
        self._liquidity.on_tested = scores.judged
        self._payer.on_policy = scores.announced
        self._observer.on_policy = self._on_announced
        desk = self._desk = BuyingDesk(buyer, self._store.purchases, self._on_document)
        self._advisor = Advisor(
            desk,
            self._finder,
            self._liquidity,
            self._buying_config,
            self._rounds.record_decision,
            scores,
        )
        self._payer.advisor = self._advisor
        group.create_task(desk.keep_collecting(), name="purchases")
        group.create_task(self._discover(desk), name="sellers")
        await self._start_passes(desk, group)

    def _buying_config(self) -> AgentConfig:
        """The configuration, with the sellers that were found."""
        config = self._config()
        buy = config.market.buy
        if not self._found or not buy.discover:
            return config
        known = {one.key for one in buy.sellers}
        found = tuple(one for one in self._found if one.key not in known)
        market = config.market.model_copy(
            update={"buy": buy.model_copy(update={"sellers": buy.sellers + found})}
        )
        return config.model_copy(update={"market": market})

    async def _discover(self, desk: BuyingDesk) -> None:
        """Look for sellers in gossip, again and again, as long as the configuration says so."""
        while True:
            buy = self._config().market.buy
            if buy.discover:
                with contextlib.suppress(LndError):
                    known = [one.key for one in buy.sellers]
                    found = await find_sellers(self._client, desk.catalogue, known=known)
                    self._found = tuple(SellerSection(url=one.url, key=one.key) for one in found)
                    _log.info("sellers_found", count=len(found))
            await asyncio.sleep(DISCOVER_SECONDS)

    async def _start_passes(self, desk: BuyingDesk, group: asyncio.TaskGroup) -> None:
        wallet = self._wallet
        await wallet.load()
        self._payer.passes = wallet
        group.create_task(wallet.run(), name="own passes")
        passes = PassBuyer(desk, wallet, self._buying_config, self._rounds.record_decision)
        self._payer.prepare = passes.prepare

    def _on_document(self, document: Document, signed: bytes) -> None:
        self._totals.hints_bought += 1
        self._scores.hold(document, signed)
        self._advisor.learn(document)

    def _on_announced(self, edge: Edge) -> None:
        if self._scores.doubts(edge):
            task = asyncio.get_running_loop().create_task(self._look(edge), name="promise")
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _look(self, edge: Edge) -> None:
        """Ask the node when an edge's policy was made: gossip as it comes in does not say."""
        with contextlib.suppress(LndError):
            channel = await self._client.channel(edge.scid)
            self._scores.heard(channel.edge_from(edge.source))

    # ---- Selling

    async def _start_selling(
        self,
        services: contextlib.AsyncExitStack,
        sell: SellSection,
        group: asyncio.TaskGroup,
    ) -> None:
        prices = self._prices = Prices(sell, self._rounds.record_decision)
        self._rounds.on_prices = prices.decide
        seller = make_seller(
            sell,
            self._client,
            self._key,
            self._store.sales,
            prices.book,
            self._promises,
            self._passes,
            self._forwards,
        )
        await services.enter_async_context(
            running_seller(
                seller,
                service_host=sell.service_host,
                service_port=sell.service_port,
                pricer_host=sell.pricer_host,
                pricer_port=sell.pricer_port,
            )
        )
        group.create_task(prices.learn(), name="prices")

    def _on_sale(self, sale: Sale) -> None:
        if self._passes is not None:
            self._passes.on_sale(sale)
        self._totals.hints_sold += 1
        self._totals.hint_income_msat += sale.price_msat
        self._observer.on_sale(sale.price_msat)
        _log.info("hint_sold", path=sale.path, price_msat=sale.price_msat)


async def _promised(store: Store) -> list[Document]:
    """What was sold and may still hold."""
    now = time.time()
    sold = await store.sales.answers_since(now - MAX_SECONDS)
    return [one for answer in sold if (one := open_document(answer)).expires_at > now]
