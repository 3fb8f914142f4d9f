"""Candidate routes: LND's own first, then what it finds without the least likely hop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lnagents.env.live.candidates import find_candidates
from lnagents.lnd import PairEstimate, PairHistory
from lnagents.model.errors import NoRouteError
from lnagents.model.payment import Route
from tests.unit.env.live.nodes import (
    CAPACITY,
    FAR,
    LEFT,
    OWN,
    RIGHT,
    ScriptedNode,
    live_node,
    local,
    public,
    route_by,
)

AMOUNT = 10_000_000
LIMIT = 500_000


@dataclass
class Payer(ScriptedNode):
    """Knows one way over LEFT and one over RIGHT, and that it failed at LEFT."""

    avoided: list[tuple[tuple[str, str], ...]] = field(default_factory=list)

    async def query_routes(self, target: str, amount: int, **options: Any) -> tuple[Route, ...]:
        self._answer()
        self.avoided.append(tuple(options["ignored_pairs"]))
        for scid, peer in ((2, LEFT), (3, RIGHT)):
            if not {(OWN, peer), (peer, target)} & set(options["ignored_pairs"]):
                return (route_by(scid, peer, amount, fee=1_000),)
        raise NoRouteError("unable to find a path to destination")

    async def estimate(self, source: str, target: str, amount_msat: int) -> PairEstimate:
        failed = 1_000.0 if source == LEFT else 0.0
        history = PairHistory(source, target, failed, amount_msat, 0.0, 0)
        chance = 0.95 if source == OWN else 0.2 if source == LEFT else 0.6
        return PairEstimate(chance, history)


async def test_each_further_one_avoids_the_least_likely_hop() -> None:
    script = Payer(
        [local(2, LEFT), local(3, RIGHT)], {2: public(2, OWN, LEFT), 3: public(3, OWN, RIGHT)}
    )
    payer = live_node(script)
    await payer.look()
    first, second = await find_candidates(payer, FAR, AMOUNT, LIMIT, 5)
    assert script.avoided == [(), ((LEFT, FAR),), ((LEFT, FAR), (RIGHT, FAR))]
    assert (first.route.scids, second.route.scids) == ((2, 20), (3, 30))
    assert first.probability == 0.95 * 0.2
    assert second.probability == 0.95 * 0.6
    assert first.information_age_seconds is not None
    assert first.information_age_seconds > 1_000_000.0
    assert second.information_age_seconds is None
    left = (CAPACITY // 2 - AMOUNT - 1_000) / CAPACITY
    assert first.local_share_after == left
    assert len(await find_candidates(payer, FAR, AMOUNT, LIMIT, 1)) == 1
    script.down = True
    assert await find_candidates(payer, FAR, AMOUNT, LIMIT, 2) == ()
