"""One run: the payments of a network, made one after the other, and the trade about them.

A payment goes the daemon's way (`lnagents.agent.payments`): candidates, at most one question, then
attempt after attempt along the cheapest expected route that was not tried. Purchases are payments
too, over the same channels. Nothing is random but what the seed of network and payments decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lnagents.agent.candidates import Candidate, PathQuery
from lnagents.agent.liquidity import FINAL_FAILURES, POLICY_FAILURES
from lnagents.agent.questions import Question, decisive_question, is_no
from lnagents.agent.store import HintRecord
from lnagents.env import AttemptCost
from lnagents.evaluate.market.players import Ground, Honesty, Payer, Seller, Tally
from lnagents.evaluate.market.plays import MAX_LEARNED_SAT, Play, Rival
from lnagents.market import SellerSettings
from lnagents.model.payment import AttemptFailure, FailureCode
from lnagents.model.units import Msat, NodeKey, ShortChannelId
from lnagents.model.workload import PaymentIntent
from lnagents.twin.directions import BY_ROUTE, Directions
from lnagents.twin.network import FEE_RATE, Network
from lnagents.twin.settings import LatencySettings, TwinSettings
from lnagents.twin.simulator import Twin
from lnagents.twin.traffic import Traffic

CANDIDATES = 5
"""Routes that a payment is chosen among (`routing.candidates` of an agent)."""
TIMEOUT_SECONDS = 60.0
"""After which no further attempt is made (`Payer.pay`)."""
HALF_LIFE_SECONDS = 3_600.0
"""Of beliefs (`routing.liquidity_half_life_seconds` of an agent)."""
RESALE_SHARE = 0.5
"""Of the price, what one who sells on asks."""
RIVAL_SECONDS = 60.0
"""How often a rival looks at its fees; as long as a hint holds."""
RIVAL_RAISE = 2
"""By which it multiplies its fee rate where the other has nothing to send."""
RIVAL_ASKS_MSAT = 100_000_000
"""The amount that it asks about: the median payment of the families."""

GOSSIP_SECONDS = 1.0
"""After which everybody knows of a changed fee."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Who is what, as positions in the network; whoever is in neither is left alone."""

    sellers: tuple[int, ...]
    buyers: tuple[int, ...]


class Dealing(NamedTuple):
    """What one buyer had to do with one seller, both as positions in the network."""

    buyer: int
    seller: int
    bought: int
    until_dropped: int | None
    """How many hints were bought until the seller was dropped; None: it was not."""


@dataclass(slots=True)
class SessionResult:
    """What a run brought."""

    tallies: list[Tally]
    """By node."""
    profit_msat: list[Msat]
    """By node: what it has more than before, apart from what it paid and was paid for. Fees and
    prices that one pays another earns, so the sum is 0."""
    forwards: list[int]
    dealings: list[Dealing]
    prices_sat: list[list[float]] = field(default_factory=list)
    """Of each period and seller, if prices are learned."""
    revenue_msat: list[list[Msat]] = field(default_factory=list)
    """Likewise."""
    seconds: float = 0.0
    """Virtual time that the run took."""


class _Sent(NamedTuple):
    settled: bool
    fee_msat: Msat
    attempts: int
    failed_attempts: int
    hints: int = 0
    hint_msat: Msat = 0
    hint_fee_msat: Msat = 0


class Session:
    """Plays one run."""

    def __init__(
        self,
        network: Network,
        roles: Roles,
        play: Play,
        *,
        seller_settings: SellerSettings | None = None,
        period: int | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            network: where it begins.
            roles: who may sell and buy.
            play: what they do.
            seller_settings: precision and duration of hints; None: a seller's defaults.
            period: payments after which prices are judged, if they are learned.
        """
        self._settings = seller_settings or SellerSettings()
        self._twin = Twin(network, TwinSettings(latency=LatencySettings.testbed()))
        self._ground = Ground(self._twin, bands=self._settings.bands)
        self._play, self._roles, self._period = play, roles, period
        self._cost = AttemptCost()
        self._sellers: dict[NodeKey, Seller] = {}
        for place, node in enumerate(roles.sellers if play.market else ()):
            honesty = play.first_seller if place == 0 else Honesty.HONEST
            if honesty is not None:
                self._sellers[self._ground.keys[node]] = Seller(
                    node,
                    honesty,
                    play.price_sat or None,
                    max_price_sat=MAX_LEARNED_SAT if play.learned else None,
                )
        rival = roles.sellers[1:2] if play.rival is Rival.INFORMED else ()
        self.payers = {
            node: Payer.of(self._ground, node, HALF_LIFE_SECONDS)
            for node in (*roles.buyers, *rival)
        }
        nodes = range(network.nodes)
        self._tallies = [Tally() for _ in nodes]
        self._principal = [0 for _ in nodes]
        self._forwards = [0 for _ in nodes]

    def run(
        self,
        intents: Sequence[PaymentIntent],
        progress: Callable[[], None] = lambda: None,
    ) -> SessionResult:
        """Make all payments; `progress` is called after each."""
        before = self._ground.wealth()
        place = {name: index for index, name in enumerate(self._ground.network.names)}
        result = SessionResult(self._tallies, [], self._forwards, [])
        looked = -RIVAL_SECONDS
        for number, intent in enumerate(intents):
            self._twin.advance(max(0.0, intent.at_seconds - self._twin.now))
            if self._play.rival is not Rival.NONE and self._twin.now - looked >= RIVAL_SECONDS:
                looked = self._twin.now
                self._undercut()
            source, target = place[intent.source], place[intent.destination]
            payer = None if self._play.by_lnd else self.payers.get(source)
            began = self._twin.now
            if payer is None:
                sent = self._by_lnd(source, target, intent)
            else:
                sent = self._pay(
                    payer, target, intent.amount_msat, intent.fee_limit_msat, asks=True
                )
            self._count(source, target, intent, sent, self._twin.now - began)
            if self._play.learned and self._period and (number + 1) % self._period == 0:
                self._end_period(result)
            progress()
        self._twin.audit()
        after = self._ground.wealth()
        result.profit_msat = [
            now - then + principal
            for now, then, principal in zip(after, before, self._principal, strict=True)
        ]
        result.dealings = [
            Dealing(node, self._sellers[key].node, known.bought, known.bought_until_dropped)
            for node, payer in self.payers.items()
            for key, known in payer.dealings.items()
        ]
        result.seconds = self._twin.now
        return result

    # ---- Payments

    def _by_lnd(self, source: int, target: int, intent: PaymentIntent) -> _Sent:
        outcomes = self._twin.run(
            _one(source, target, intent.amount_msat, intent.fee_limit_msat), record=True
        )
        settled = bool(outcomes.settled[0])
        if settled:
            log = self._twin.log
            self._move(source, target, intent.amount_msat)
            last = len(log.code) - 1
            self._count_forwards(log.edge[log.first_hop[last] :].tolist())
        return _Sent(
            settled,
            int(outcomes.fee[0]) if settled else 0,
            int(outcomes.attempts[0]),
            int(outcomes.failed_attempts[0]),
        )

    def _pay(
        self, payer: Payer, target: int, amount: Msat, fee_limit: Msat, *, asks: bool
    ) -> _Sent:
        """Pay as `lnagents.agent.payments.Payer` does."""
        settings = self._twin.settings
        query = PathQuery(
            destination=self._ground.keys[target],
            amount_msat=amount,
            max_fee_msat=fee_limit,
            final_cltv_delta=settings.sender.final_cltv_delta,
        )
        tried: set[tuple[ShortChannelId, ...]] = set()
        avoided: set[ShortChannelId] = set()
        deadline = self._twin.now + TIMEOUT_SECONDS
        attempts = failed = hints = hint = hint_fee = 0
        settled, fee = False, 0

        def candidates() -> list[Candidate]:
            payer.finder.set_local(self._ground.local_channels(payer.node))
            return payer.finder.find(
                query,
                count=CANDIDATES,
                height=settings.block_height,
                now=self._twin.now,
                tried=tried,
                avoided=avoided,
            )

        while self._twin.now < deadline:
            found = candidates()
            if asks and found:
                asks = False
                bought = self._ask(payer, found)
                if bought is not None:
                    hints, (hint, hint_fee, vain, believed) = 1, bought
                    failed += vain
                    if believed:
                        found = candidates()
            if not found:
                break
            chosen = found[0]
            tried.add(chosen.route.scids)
            attempts += 1
            failure = self._attempt(payer, target, chosen)
            if failure is None:
                settled, fee = True, chosen.route.fee_msat
                break
            failed += 1
            if failure.source_index == 0:
                avoided.add(chosen.route.scids[0])
            if failure.code in FINAL_FAILURES and failure.source_index == len(chosen.edges):
                break
            if failure.code in POLICY_FAILURES:
                payer.see(self._ground.edges(self._twin.policies_seen(payer.node)))
                tried.discard(chosen.route.scids)
        return _Sent(settled, fee, attempts, failed, hints, hint, hint_fee)

    def _attempt(self, payer: Payer, target: int, chosen: Candidate) -> AttemptFailure | None:
        """Send along one route, and let all who hear of it learn."""
        edges = [self._ground.edge_of[edge.scid, edge.source] for edge, _ in chosen.edges]
        amount = chosen.route.amount_msat
        self._twin.run(
            _one(payer.node, target, amount, chosen.route.fee_msat),
            directions=Directions.of(1, mode=BY_ROUTE, routes=[edges]),
            record=True,
        )
        log, now = self._twin.log, self._twin.now
        code, failed_at = int(log.code[0]), int(log.failed_at[0])
        failure = None if failed_at < 0 else AttemptFailure(FailureCode(code), failed_at)
        hops = list(chosen.edges)
        for listener in self._listeners(payer):
            if failure is None:
                listener.liquidity.settled(hops[1:], now)
            elif failed_at > 0:
                listener.liquidity.failed(hops, failure, now)
        if failure is None:
            self._move(payer.node, target, amount)
            self._count_forwards(edges)
        return failure

    def _listeners(self, payer: Payer) -> list[Payer]:
        first = self._roles.buyers[0]
        if self._play.free_ride and payer.node != first:
            return [payer, self.payers[first]]
        return [payer]

    # ---- Trade

    def _ask(self, payer: Payer, found: list[Candidate]) -> tuple[Msat, Msat, int, bool] | None:
        """Buy the answer that decides; None: it was not bought.

        Returns:
            Price, routing fee, vain attempts, and whether the answer is believed.
        """
        if self._play.free_ride and payer.node == self._roles.buyers[0]:
            return None
        now = self._twin.now
        useful = {
            key
            for key, seller in self._sellers.items()
            if seller.node != payer.node and payer.with_seller(key).score.helps
        }
        question = decisive_question(found, useful, payer.liquidity, self._cost, now)
        if question is None:
            return None
        worth = question.worth_msat(self._cost, payer.with_seller(question.seller).score.skill)
        second_hand = self._second_hand(payer, question)
        seller = self._sellers[question.seller]
        price = seller.price_msat
        if second_hand is not None:
            price = round(RESALE_SHARE * price)
        if price >= worth:
            return None
        to = self._roles.buyers[0] if second_hand is not None else seller.node
        paid = self._pay_for_hint(payer, to, price)
        if paid is None:
            return None
        if second_hand is not None:
            self._tallies[to].resold += 1
            self._tallies[to].resold_msat += price
            hint = second_hand
        else:
            hint = self._sell(payer, seller, question)
        payer.liquidity.add_hint(hint)
        stake = price + question.detour_msat
        return price, *paid, not self._is_tested(payer, hint, stake)

    def _is_tested(self, payer: Payer, hint: HintRecord, stake: Msat) -> bool:
        if self._play.believes_no or not is_no(hint.probability):
            return False
        test = self._cost.of(hint.amount_msat)
        return payer.with_seller(hint.issuer).noes.puts_to_test(stake, test)

    def _pay_for_hint(self, payer: Payer, to: int, price: Msat) -> tuple[Msat, int] | None:
        """Pay for a hint; its routing fee and vain attempts, or None: there was no way."""
        if price == 0:
            return 0, 0
        # As LND and the daemon limit it for so little: the fee may reach the amount.
        sent = self._pay(payer, to, price, price, asks=False)
        if not sent.settled:
            tally = self._tallies[payer.node]
            tally.failed_attempts += sent.failed_attempts
            tally.cost_msat += sent.failed_attempts * self._cost.of(price)
            return None
        # A price was paid for something: it is a profit, unlike what a payment delivers.
        self._move(payer.node, to, -price)
        return sent.fee_msat, sent.failed_attempts

    def _sell(self, payer: Payer, seller: Seller, question: Question) -> HintRecord:
        edge = self._ground.edge_of[question.edge.scid, question.edge.source]
        now = self._twin.now
        hint = HintRecord(
            question.edge.scid,
            question.edge.source,
            question.amount_msat,
            self._ground.answer(seller.honesty, edge, question.amount_msat),
            now,
            now + self._settings.valid_seconds,
            question.seller,
            question.chance,
        )
        tally = self._tallies[seller.node]
        tally.hints_sold += 1
        tally.hints_earned_msat += seller.price_msat
        seller.sold()
        payer.with_seller(question.seller).bought += 1
        payer.held[edge] = hint
        return hint

    def _second_hand(self, payer: Payer, question: Question) -> HintRecord | None:
        """What the first buyer has to sell on that answers the question."""
        first = self._roles.buyers[0]
        if not self._play.resale or payer.node == first:
            return None
        edge = self._ground.edge_of[question.edge.scid, question.edge.source]
        hint = self.payers[first].held.get(edge)
        if hint is None or hint.expires_at <= self._twin.now:
            return None
        passes = not is_no(hint.probability)
        amount = question.amount_msat
        answers = amount <= hint.amount_msat if passes else amount >= hint.amount_msat
        return hint if answers else None

    def _undercut(self) -> None:
        """The second seller sets its fees by what it knows of the first one's liquidity."""
        ground = self._ground
        first, second = self._roles.sellers[:2]
        theirs = {ground.ends(edge)[1]: edge for edge in ground.edges_of[first]}
        policies = self._twin.policies()
        changed = policies.copy()
        found = ground.network.policy[:, FEE_RATE]
        for edge in ground.edges_of[second]:
            other = theirs.get(ground.ends(edge)[1])
            if other is None:
                continue
            rate = min(int(found[edge]), max(0, int(found[other]) - 1))
            if self._play.rival is Rival.INFORMED and not self._has_something(other):
                rate = RIVAL_RAISE * int(found[edge])
            changed[edge, FEE_RATE] = rate
        edges = np.flatnonzero((changed != policies).any(axis=1))
        if len(edges):
            self._twin.set_policies(edges, changed[edges])
            shown = ground.edges(changed)
            for payer in self.payers.values():
                payer.see([shown[edge] for edge in edges.tolist()])
            self._twin.advance(GOSSIP_SECONDS)

    def _has_something(self, edge: int) -> bool:
        """The rival asks the first seller, and pays for it."""
        first, second = self._roles.sellers[:2]
        seller = self._sellers[self._ground.keys[first]]
        paid = self._pay_for_hint(self.payers[second], first, seller.price_msat)
        if paid is None:
            return True
        tally = self._tallies[first]
        tally.hints_sold += 1
        tally.hints_earned_msat += seller.price_msat
        tally = self._tallies[second]
        tally.hints_bought += 1
        tally.hints_paid_msat += seller.price_msat
        tally.hints_fees_msat += paid[0]
        return not is_no(self._ground.answer(seller.honesty, edge, RIVAL_ASKS_MSAT))

    # ---- Books

    def _move(self, source: int, target: int, amount: Msat) -> None:
        """Note what a payment delivered, which is no profit."""
        self._principal[source] += amount
        self._principal[target] -= amount

    def _count_forwards(self, edges: Sequence[int]) -> None:
        for edge in edges[1:]:
            self._forwards[self._ground.ends(edge)[0]] += 1

    def _count(
        self, source: int, target: int, intent: PaymentIntent, sent: _Sent, seconds: float
    ) -> None:
        tally = self._tallies[source]
        attempt_cost = self._cost.of(intent.amount_msat)
        tally.payments += 1
        tally.offered_msat += intent.amount_msat
        tally.attempts += sent.attempts
        tally.failed_attempts += sent.failed_attempts
        tally.seconds += seconds
        tally.cost_msat += sent.failed_attempts * attempt_cost + sent.hint_msat + sent.hint_fee_msat
        if sent.settled:
            tally.settled += 1
            tally.settled_msat += intent.amount_msat
            tally.fees_msat += sent.fee_msat
            tally.cost_msat += sent.fee_msat
        else:
            tally.cost_msat += intent.fee_limit_msat + attempt_cost
        tally.hints_paid_msat += sent.hint_msat
        tally.hints_fees_msat += sent.hint_fee_msat
        tally.hints_bought += sent.hints

    def _end_period(self, result: SessionResult) -> None:
        sellers = list(self._sellers.values())
        result.prices_sat.append([seller.price_msat / 1_000 for seller in sellers])
        earned = [self._tallies[seller.node].hints_earned_msat for seller in sellers]
        before = [sum(column) for column in zip(*result.revenue_msat, strict=True)]
        result.revenue_msat.append(
            [now - then for now, then in zip(earned, before or [0] * len(earned), strict=True)]
        )
        for seller in sellers:
            seller.end_period()


def _one(source: int, target: int, amount: Msat, fee_limit: Msat) -> Traffic:
    return Traffic.of(
        at=np.zeros(1),
        source=np.array([source], np.int32),
        target=np.array([target], np.int32),
        amount=np.array([amount], np.int64),
        fee_limit=fee_limit,
    )
