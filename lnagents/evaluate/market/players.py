"""Who trades in a run: payers that decide with the daemon's own functions, and sellers of hints.

Routes, beliefs, questions, worth, scores, answers and prices are those of `lnagents.agent` and
`lnagents.market`. What is missing is what the twin has no need for: a store, a network, restarts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from lnagents.agent.candidates import RouteFinder
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.questions import Noes
from lnagents.agent.store import HintRecord
from lnagents.env.twin_views import key_of, policy_of
from lnagents.market import PriceBook, PriceLearner, Product
from lnagents.market.issuers import band_of, passing_probability
from lnagents.market.scores import HintOutcome, SellerScore
from lnagents.model.graph import Edge, LocalChannel
from lnagents.model.units import Msat, NodeKey, ShortChannelId
from lnagents.twin.commitment import commitment_fee, reported_balance
from lnagents.twin.network import Int64Array, Network
from lnagents.twin.simulator import Twin


class Honesty(str, Enum):
    """What a seller says."""

    HONEST = "honest"
    """What it knows, as precisely as it is sold."""
    YES = "says yes"
    """Everything passes, so that payments come its way."""
    NO = "says no"
    """Nothing passes; hardly anybody tries, and finds out."""
    INVERTS = "inverts"
    """The contrary of what it knows."""
    PRIOR = "knows nothing"
    """What everybody believes anyway of a channel of this capacity."""


class Ground:
    """A twin and what all nodes know of it: keys, edges, and who owns what."""

    def __init__(self, twin: Twin, *, bands: int) -> None:
        """`bands`: how precisely sellers answer, see `lnagents.market.issuers.LiquidityIssuer`."""
        self.twin = twin
        self.network: Network = twin.network
        self.keys = tuple(key_of(name) for name in self.network.names)
        self._bands = bands
        self._sources = self.network.edge_source().tolist()
        self._targets = self.network.edge_target().tolist()
        self.edge_of: dict[tuple[ShortChannelId, NodeKey], int] = {
            (int(self.network.scids[edge >> 1]), self.keys[source]): edge
            for edge, source in enumerate(self._sources)
        }
        self.edges_of: dict[int, list[int]] = {node: [] for node in range(self.network.nodes)}
        for edge, source in enumerate(self._sources):
            self.edges_of[source].append(edge)

    def ends(self, edge: int) -> tuple[int, int]:
        """The nodes that an edge leads from and to."""
        return self._sources[edge], self._targets[edge]

    def edges(self, policies: Int64Array) -> list[Edge]:
        """All edges with `policies` [edges, POLICY_COLUMNS], in the twin's order."""
        return [
            Edge(
                int(self.network.scids[edge >> 1]),
                self.keys[self._sources[edge]],
                self.keys[self._targets[edge]],
                int(self.network.capacity[edge >> 1]),
                policy_of(policies[edge]),
            )
            for edge in range(len(self._sources))
        ]

    def local_channels(self, node: int) -> dict[ShortChannelId, LocalChannel]:
        """What `node` knows of its own channels; nothing is in flight between payments."""
        liquidity = self.twin.state.switch.liquidity
        channels = {}
        for edge in self.edges_of[node]:
            channel = edge >> 1
            scid, capacity = int(self.network.scids[channel]), int(self.network.capacity[channel])
            reserve = self._reserve(channel)
            channels[scid] = LocalChannel(
                scid=scid,
                channel_point=f"{scid:064x}:0",
                peer=self.keys[self._targets[edge]],
                capacity_msat=capacity,
                local_balance_msat=int(reported_balance(liquidity, edge)),
                remote_balance_msat=int(reported_balance(liquidity, edge ^ 1)),
                unsettled_msat=0,
                local_reserve_msat=reserve,
                remote_reserve_msat=reserve,
                commit_fee_msat=int(commitment_fee(liquidity, channel, 0)),
                anchors_msat=0,
                initiator=int(self.network.opener[channel]) == edge & 1,
                active=True,
                private=False,
                pending_htlcs=0,
                max_accepted_htlcs=self.twin.settings.commitment.max_accepted_htlcs,
            )
        return channels

    def answer(self, honesty: Honesty, edge: int, amount: Msat) -> float:
        """What a seller says of the chance that `amount` msat passes `edge` now."""
        capacity = int(self.network.capacity[edge >> 1])
        if honesty is Honesty.PRIOR:
            return passing_probability(amount, 0, capacity)
        if honesty in (Honesty.YES, Honesty.NO):
            return float(honesty is Honesty.YES)
        liquidity = self.twin.state.switch.liquidity
        own = max(0, int(reported_balance(liquidity, edge)) - self._reserve(edge >> 1))
        low, high = band_of(own, capacity, self._bands)
        told = passing_probability(amount, low, high)
        return 1.0 - told if honesty is Honesty.INVERTS else told

    def wealth(self) -> list[Msat]:
        """What belongs to each node, in msat."""
        total = [0] * self.network.nodes
        for (one, other), (mine, others) in zip(
            self.network.channel_nodes.tolist(), self.twin.balances().tolist(), strict=True
        ):
            total[one] += mine
            total[other] += others
        return total

    def _reserve(self, channel: int) -> Msat:
        divisor = self.twin.settings.commitment.reserve_divisor
        return int(self.network.capacity[channel]) // divisor


@dataclass(slots=True)
class Tally:
    """What became of one node's payments and purchases; amounts in msat."""

    payments: int = 0
    settled: int = 0
    offered_msat: Msat = 0
    settled_msat: Msat = 0
    fees_msat: Msat = 0
    """Of what settled, hints' own routing fees not included."""
    attempts: int = 0
    failed_attempts: int = 0
    cost_msat: Msat = 0
    """As the daemon counts it (`lnagents.agent.payments`), hints included: fees, an attempt cost
    for each attempt that failed, and for a payment that failed its fee limit and an attempt."""
    seconds: float = 0.0
    """From payments' beginnings to their ends, purchases included."""
    hints_bought: int = 0
    hints_paid_msat: Msat = 0
    hints_fees_msat: Msat = 0
    hints_sold: int = 0
    hints_earned_msat: Msat = 0
    resold: int = 0
    resold_msat: Msat = 0


class Seller:
    """A node that sells hints about its channels."""

    def __init__(
        self, node: int, honesty: Honesty, price_sat: int | None, *, max_price_sat: int | None
    ) -> None:
        """`price_sat` None: free; `max_price_sat`: the price is learned up to this."""
        self.node = node
        self.honesty = honesty
        self._free = price_sat is None
        self._book = PriceBook({Product.LIQUIDITY: price_sat or 1})
        self._learner = (
            None if max_price_sat is None else PriceLearner(self._book, maximum_sat=max_price_sat)
        )

    @property
    def price_msat(self) -> Msat:
        """Of a hint, now."""
        return 0 if self._free else 1_000 * (self._book.price_sat(Product.LIQUIDITY) or 0)

    def sold(self) -> None:
        """A hint was paid for."""
        self._book.sold(Product.LIQUIDITY, self.price_msat)

    def end_period(self) -> None:
        """Judge the price, and set that of the next period, if it learns."""
        if self._learner is not None:
            self._learner.step()


@dataclass(slots=True)
class Dealings:
    """What one buyer had to do with one seller."""

    score: SellerScore
    bought: int = 0
    noes: Noes = field(default_factory=Noes)
    bought_until_dropped: int | None = None
    """None: it was never dropped."""


@dataclass(slots=True)
class Payer:
    """A node that pays as the daemon does."""

    node: int
    finder: RouteFinder
    liquidity: Liquidity
    dealings: dict[NodeKey, Dealings] = field(default_factory=dict)
    held: dict[int, HintRecord] = field(default_factory=dict)
    """The last hint that was bought about each edge, which could be sold on."""

    @classmethod
    def of(cls, ground: Ground, node: int, half_life_seconds: float) -> Payer:
        """One that believes nothing yet."""
        liquidity = Liquidity(half_life_seconds)
        finder = RouteFinder(ground.keys[node], liquidity)
        payer = cls(node, finder, liquidity)
        payer.see(ground.edges(ground.twin.policies()))
        liquidity.on_tested = payer._tested
        return payer

    def see(self, edges: Sequence[Edge]) -> None:
        """Take over what was announced."""
        for edge in edges:
            self.finder.set_edge(edge)

    def with_seller(self, seller: NodeKey) -> Dealings:
        """What there was with one seller."""
        return self.dealings.setdefault(seller, Dealings(SellerScore(seller)))

    def _tested(self, hint: HintRecord, passed: bool) -> None:
        if not hint.issuer:
            return
        known = self.with_seller(hint.issuer)
        known.score.add(HintOutcome(hint.issuer, hint.probability, hint.prior, passed))
        if known.bought_until_dropped is None and not known.score.helps:
            known.bought_until_dropped = known.bought
