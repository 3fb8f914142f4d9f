"""What may be bought before a payment, and what each would be worth. Pure: neither I/O nor time.

Everything is measured by what it saves, in msat, and discounted by how far its seller can be relied
on, as was learned from outcomes (`lnagents.agent.scores`):

* a liquidity hint saves a failed attempt if it says no (`lnagents.agent.questions`);
* a route quote, from a seller that can be reached with chance r while the best candidate arrives
  with chance p, saves a failed attempt with probability r - p, if it is right;
* a fee commitment saves what the fee would rise by, as often as the edge is used. Had it been
  bought at an earlier payment over this edge, what would it have saved since? The mean over all
  earlier payments is what is expected of it now (`EdgeUses.saving`). So it is worth something only
  on an edge that is used repeatedly and whose fee has varied.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lnagents.agent.candidates import Candidate
from lnagents.agent.liquidity import Liquidity
from lnagents.agent.questions import CERTAIN, decisive_question
from lnagents.env import AttemptCost
from lnagents.market import (
    CommitmentRequest,
    LiquidityRequest,
    Product,
    Request,
    RouteRequest,
)
from lnagents.model.graph import ChannelPolicy, Edge
from lnagents.model.units import (
    MSAT_PER_SAT,
    Msat,
    NodeKey,
    ShortChannelId,
    format_msat,
    format_short_channel_id,
)

KEPT_USES = 64
"""Of one edge, the newest."""
KEPT_EDGES = 2_000
"""Those used last."""
LEAST_STARTS = 3
"""Earlier payments, at least, that must have been long enough ago to tell what a promise saves."""


class Record(Protocol):
    """What is known of sellers; `lnagents.agent.scores.Scores` has it."""

    def skill(self, seller: NodeKey, product: Product) -> float:
        """How far its statements can be relied on: 1 fully, 0 or less not at all."""

    def promised_until(self, seller: NodeKey, scid: ShortChannelId) -> float:
        """Until when its fee on a channel is promised already, Unix seconds; 0: it is not."""

    def quoted_until(self, seller: NodeKey, destination: NodeKey) -> float:
        """Until when its quote of a route to a node holds, Unix seconds; 0: there is none."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that may be worth its price."""

    seller: NodeKey
    request: Request
    """Its nonce is empty: whoever buys it draws one."""
    worth_msat: Msat
    """From this seller."""
    about: tuple[object, ...]
    """Equal for wishes of which one is enough."""
    asked: str
    """In words."""
    why: str
    detour_msat: Msat = 0
    """What a wrong no costs beyond the price."""

    @property
    def tells(self) -> bool:
        """Whether the answer may change which route is taken."""
        return not isinstance(self.request, CommitmentRequest)


@dataclass(frozen=True, slots=True)
class _Use:
    at: float
    amount_msat: Msat
    policy: ChannelPolicy


class EdgeUses:
    """When own payments went for which edges, and what these asked then. A restart forgets it."""

    def __init__(self) -> None:
        self._uses: OrderedDict[tuple[ShortChannelId, NodeKey], deque[_Use]] = OrderedDict()

    def note(self, candidate: Candidate, now: float) -> None:
        """A payment is about to be tried along `candidate` (Unix seconds `now`)."""
        for edge, amount in candidate.edges[1:]:
            if edge.policy is not None:
                key = (edge.scid, edge.source)
                self._uses.setdefault(key, deque(maxlen=KEPT_USES)).append(
                    _Use(now, amount, edge.policy)
                )
                self._uses.move_to_end(key)
        while len(self._uses) > KEPT_EDGES:
            self._uses.popitem(last=False)

    def saving(self, edge: Edge, max_seconds: float, now: float) -> tuple[int, float] | None:
        """For how long to have the fee of `edge` promised, and what that is expected to save.

        Seconds, at most half of what was observed so far, and msat; None: too little was observed.
        """
        uses = list(self._uses.get((edge.scid, edge.source), ()))
        if not uses:
            return None
        seconds = int(min(max_seconds, (now - uses[0].at) / 2))
        starts = [index for index, use in enumerate(uses) if use.at + seconds <= now]
        if seconds < 1 or len(starts) < LEAST_STARTS:
            return None
        total = sum(
            _saved(uses[start].policy, use)
            for start in starts
            for use in uses[start + 1 :]
            if use.at <= uses[start].at + seconds
        )
        return seconds, total / len(starts)


def _saved(promised: ChannelPolicy, use: _Use) -> Msat:
    """What a promise of the fee in `promised` saves at `use`: base and rate are limits each."""
    held = replace(
        use.policy,
        base_fee_msat=min(use.policy.base_fee_msat, promised.base_fee_msat),
        fee_rate_ppm=min(use.policy.fee_rate_ppm, promised.fee_rate_ppm),
    )
    return use.policy.outbound_fee(use.amount_msat) - held.outbound_fee(use.amount_msat)


@dataclass(frozen=True, slots=True)
class Buyer:
    """What an agent believes, by which it judges what it could buy."""

    liquidity: Liquidity
    uses: EdgeUses
    record: Record
    cost: AttemptCost

    def wishes(
        self,
        candidates: Sequence[Candidate],
        sellers: Collection[NodeKey],
        promise_seconds: Mapping[NodeKey, int],
        now: float,
    ) -> list[Wish]:
        """All that is worth at least a satoshi, in the order in which ties are decided.

        Args:
            candidates: for the payment, the best first; at least one.
            sellers: those to buy from.
            promise_seconds: for how long each promises fees at most; no promise of others.
            now: Unix seconds.
        """
        found = [
            *self._hints(candidates, sellers, now),
            *self._quotes(candidates, sellers, now),
            *self._commitments(candidates[0], sellers, promise_seconds, now),
        ]
        return [wish for wish in found if wish.worth_msat >= MSAT_PER_SAT]

    def _hints(
        self, candidates: Sequence[Candidate], sellers: Collection[NodeKey], now: float
    ) -> Iterator[Wish]:
        useful = {key for key in sellers if self.record.skill(key, Product.LIQUIDITY) > 0.0}
        question = decisive_question(candidates, useful, self.liquidity, self.cost, now)
        if question is None:
            return
        edge, amount = question.edge, question.amount_msat
        skill = self.record.skill(question.seller, Product.LIQUIDITY)
        yield Wish(
            seller=question.seller,
            request=LiquidityRequest(
                scid=edge.scid, source=edge.source, amount_msat=amount, nonce=""
            ),
            worth_msat=question.worth_msat(self.cost, skill),
            about=(Product.LIQUIDITY, edge.scid, edge.source),
            asked=f"{format_short_channel_id(edge.scid)} from {edge.source[:8]},"
            f" {format_msat(amount)}",
            why=f"chance {question.chance:.0%}",
            detour_msat=question.detour_msat,
        )

    def _quotes(
        self, candidates: Sequence[Candidate], sellers: Collection[NodeKey], now: float
    ) -> Iterator[Wish]:
        chance = candidates[0].candidate.probability
        if len(candidates) < 2 or chance > 1.0 - CERTAIN:
            return
        last = candidates[0].route.hops[-1]
        for seller, reach in _reached(candidates).items():
            if seller not in sellers or self.record.quoted_until(seller, last.target) > now:
                continue
            gain = max(0.0, reach - chance) * self.record.skill(seller, Product.ROUTE)
            yield Wish(
                seller=seller,
                request=RouteRequest(
                    destination=last.target, amount_msat=last.amount_msat, nonce=""
                ),
                worth_msat=round(gain * self.cost.of(last.amount_msat)),
                about=(Product.ROUTE, seller, last.target),
                asked=f"route to {last.target[:8]}, {format_msat(last.amount_msat)}",
                why=f"chance {chance:.0%}, as far as the seller {reach:.0%}",
            )

    def _commitments(
        self,
        candidate: Candidate,
        sellers: Collection[NodeKey],
        promise_seconds: Mapping[NodeKey, int],
        now: float,
    ) -> Iterator[Wish]:
        for edge, _ in candidate.edges[1:]:
            seller = edge.source
            if seller not in sellers or self.record.promised_until(seller, edge.scid) > now:
                continue
            found = self.uses.saving(edge, promise_seconds.get(seller, 0), now)
            if found is None:
                continue
            seconds, saving = found
            skill = self.record.skill(seller, Product.COMMITMENT)
            yield Wish(
                seller=seller,
                request=CommitmentRequest(scid=edge.scid, seconds=seconds, nonce=""),
                worth_msat=round(saving * skill),
                about=(Product.COMMITMENT, edge.scid, seller),
                asked=f"fee of {format_short_channel_id(edge.scid)} for {seconds} s",
                why=f"would have saved {format_msat(round(saving))} before",
            )


def _reached(candidates: Sequence[Candidate]) -> dict[NodeKey, float]:
    """Nodes before the destination on any candidate, and the best chance of getting there."""
    chances: dict[NodeKey, float] = {}
    for one in candidates:
        chance = 1.0
        hops = list(zip(one.edges, one.estimates, strict=True))[:-1]
        for (edge, _), estimate in hops:
            chance *= estimate.probability
            chances[edge.target] = max(chances.get(edge.target, 0.0), chance)
    return chances


def spread(whole: float, before: Sequence[float]) -> list[float]:
    """Chances of a route's edges whose product is `whole`, given what was believed `before`.

    Each contributes to the doubt about the whole, its negative logarithm, the same share as before:
    what was certain stays so. `before` has at least one chance, none of which is 0.
    """
    doubts = [-math.log(chance) for chance in before]
    total = sum(doubts)
    if total <= 0.0:
        return [whole ** (1.0 / len(before))] * len(before)
    return [whole ** (doubt / total) for doubt in doubts]
