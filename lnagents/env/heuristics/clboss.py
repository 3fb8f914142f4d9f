"""An agent that plays cards: what competitors charge, times the balance, times a price it tries."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics.actor import ChannelPricer, Price, local_share, to_peer
from lnagents.env.heuristics.balance import balance_factor
from lnagents.model.units import Msat, NodeKey
from lnagents.model.view import ChannelView, NodeView

BIN_MSAT: Msat = 200_000_000
"""Size of a bin of the balance (`preferred_bin_size`: 0.002 BTC)."""
MIN_BINS = 4
MAX_BINS = 50
MAX_STEP = 2
"""How far the cards of a round lie from its centre."""


def price_factor(price: int) -> float:
    """What a card multiplies fees with: 0.8 per step down, 1.2 per step up."""
    return math.pow(1.2, price) if price >= 0 else math.pow(0.8, -price)


def weighted_median(values: Iterable[tuple[int, int]]) -> int:
    """The value at half of all weight.

    Args:
        values: pairs of value and weight; at least one.
    """
    ordered = sorted(values)
    half = sum(weight for _, weight in ordered) / 2
    reached = 0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return ordered[-1][0]


def competitors(view: NodeView, peer: NodeKey) -> tuple[Msat, int] | None:
    """Median base fee and rate (ppm) of others into `peer`, by capacity; None if there are none."""
    edges = [
        (edge.policy, edge.capacity_msat)
        for edge in view.graph.edges()
        if edge.target == peer and edge.source != view.node and edge.policy is not None
    ]
    if not edges:
        return None
    return (
        weighted_median((policy.base_fee_msat, capacity) for policy, capacity in edges),
        weighted_median((policy.fee_rate_ppm, capacity) for policy, capacity in edges),
    )


@dataclass(slots=True)
class _Game:
    """What is known of one peer."""

    centre: int = 0
    deck: list[int] = field(default_factory=list)
    card: int | None = None
    rounds_left: int = 0
    earned: dict[int, Msat] = field(default_factory=dict)
    bins: int = 0
    bin: int = 0


class PriceCards(ChannelPricer):
    """Competitors' median fee × what the balance asks for × the price of the card in play.

    Source: CLBOSS (github.com/ZmnSCPxj/clboss):

    * `Boss/Mod/PeerCompetitorFeeMonitor/Surveyor.cpp`: medians of base fee and rate over the edges
      that lead to the peer, weighted by capacity, own ones left out; no competitor, no change.
    * `FeeModderByBalance.cpp`: `balance_factor` at the middle of the balance's bin; bins of about
      0.002 BTC, 4 to 50 of them; close to a border, the bin changes with a probability only.
    * `FeeModderByPriceTheory.cpp`: five cards with the prices centre − 2 to centre + 2, shuffled.
      Each is in play for 2 days (288 times 10 minutes). The card that earned most is the next
      centre; if none earned anything, the centre stays.
    * `ChannelFeeManager.cpp`: all are multiplied; a base fee or rate of 0 becomes 1.

    Its further factor by the node's size is left out.
    """

    def __init__(
        self, seed: int = 0, *, rounds_per_card: int = 2, bounds: FeeBounds | None = None
    ) -> None:
        """A player.

        Args:
            seed: of the shuffles and of the bins' borders.
            rounds_per_card: how long a card is in play.
            bounds: what may be set.

        Raises:
            ValueError: `rounds_per_card` is below 1.
        """
        super().__init__(bounds)
        if rounds_per_card < 1:
            raise ValueError(f"rounds_per_card: {rounds_per_card} is below 1")
        self._random = np.random.default_rng(seed)
        self._rounds = rounds_per_card
        self._games: dict[NodeKey, _Game] = {}
        self._prices: dict[NodeKey, Price] = {}

    def _look(self, view: NodeView) -> None:
        self._prices.clear()
        for peer in dict.fromkeys(channel.peer for channel in view.channels):
            channels = to_peer(view, peer)
            if channels:
                game = self._games.setdefault(peer, _Game())
                self._play(game, sum(channel.flow.fees_earned_msat for channel in channels))
                factor = self._balance(game, channels)
                median = competitors(view, peer)
                if median is not None:
                    self._prices[peer] = self._multiply(median, factor, game)

    def _price(self, channel: ChannelView, view: NodeView) -> Price | None:
        return self._prices.get(channel.peer)

    def _multiply(self, median: tuple[Msat, int], factor: float, game: _Game) -> Price:
        card = game.card or 0
        total = factor * price_factor(card)
        base, rate = (max(1, round(value * total)) for value in median)
        return Price(
            rate,
            base,
            f"price cards: others {median[1]} ppm × balance {factor:.2f} × card {card:+d}",
        )

    def _play(self, game: _Game, earned: Msat) -> None:
        if game.card is not None:
            game.earned[game.card] = game.earned.get(game.card, 0) + earned
            game.rounds_left -= 1
            if game.rounds_left > 0:
                return
        if not game.deck:
            if any(game.earned.values()):
                game.centre = max(game.earned, key=lambda price: game.earned[price])
            game.earned = {}
            prices = range(game.centre - MAX_STEP, game.centre + MAX_STEP + 1)
            game.deck = [int(price) for price in self._random.permutation(list(prices))]
        game.card = game.deck.pop()
        game.rounds_left = self._rounds

    def _balance(self, game: _Game, channels: list[ChannelView]) -> float:
        """The factor of the balance's bin, which is entered with a probability only."""
        size = sum(channel.capacity_msat for channel in channels)
        bins = min(MAX_BINS, max(MIN_BINS, round(size / BIN_MSAT)))
        place = local_share(channels) * bins
        now = min(int(place), bins - 1)
        if game.bins != bins:
            game.bins, game.bin = bins, now
        elif now != game.bin:
            # How far into the new bin the balance is, coming from the side of the old one.
            depth = place - now if now > game.bin else 1.0 - (place - now)
            back = -1 if now > game.bin else 1
            game.bin = now if self._random.random() < depth else now + back
        return balance_factor((1 + 2 * game.bin) / (2 * game.bins))
