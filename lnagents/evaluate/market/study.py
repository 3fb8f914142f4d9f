"""All runs of a study of the market; what is done already is not done again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from lnagents import __version__
from lnagents.evaluate.experiment.families import (
    Arena,
    CompetingPaths,
    Family,
    ScaleFree,
    Split,
    draw_arena,
    seed_of,
)
from lnagents.evaluate.market.players import Tally
from lnagents.evaluate.market.plays import (
    FREE,
    LEARNED,
    LIARS,
    MARKET,
    NO_MARKET,
    PLAYS,
    PRICED,
    Play,
    priced,
)
from lnagents.evaluate.market.session import Roles, Session, SessionResult
from lnagents.evaluate.results import Results
from lnagents.market import SellerSettings
from lnagents.model.units import Msat
from lnagents.model.workload import draw_payments

FIRST_SELLER, SELLERS, FIRST_BUYER, BUYERS, REST = GROUPS = (
    "first seller",
    "other sellers",
    "first buyer",
    "other buyers",
    "rest",
)

NEVER = -1
"""Of a seller that was not dropped."""


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What the nodes of one group made of a run together; amounts in msat, see `Tally`."""

    name: str
    nodes: int
    profit_msat: Msat
    """What they had more at the end, apart from what they paid and were paid for."""
    forwards: int
    payments: int
    settled: int
    offered_msat: Msat
    settled_msat: Msat
    fees_msat: Msat
    attempts: int
    failed_attempts: int
    cost_msat: Msat
    seconds: float
    hints_bought: int
    hints_paid_msat: Msat
    hints_fees_msat: Msat
    hints_sold: int
    hints_earned_msat: Msat
    resold: int
    resold_msat: Msat


@dataclass(frozen=True, slots=True)
class DealingResult:
    """What one buyer had to do with the first seller."""

    bought: int
    until_dropped: int
    """Hints that it bought until it trusted the seller no longer; `NEVER`."""


@dataclass(frozen=True, slots=True)
class MarketResult:
    """What one run brought."""

    run: str
    """Its id: what was to be run decides it."""
    family: str
    index: int
    """Of the network, and of the payments on it."""
    play: str
    virtual_seconds: float
    groups: tuple[GroupResult, ...]
    """In the order of `GROUPS`."""
    dealings: tuple[DealingResult, ...]
    """Of each buyer."""
    price_sat: tuple[float, ...]
    """By period, if prices are learned: mean over sellers."""
    revenue_msat: tuple[Msat, ...]
    """Likewise, in sum."""
    seconds: float
    """That the run took of one processor; no part of the result."""
    version: str
    """Of lnagents."""


@dataclass(frozen=True, slots=True)
class MarketRun:
    """One run that is to be made."""

    family: Family
    index: int
    play: Play
    payments: int
    period: int

    @property
    def id(self) -> str:
        """A hash of all that decides the run but the code."""
        whole: dict[str, Any] = {
            "family": self.family.model_dump(mode="json"),
            "index": self.index,
            "play": asdict(self.play),
            "payments": self.payments,
            "period": self.period if self.play.learned else None,
            "seller": asdict(SellerSettings()),
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Study:
    """What is to be compared, on which networks."""

    families: tuple[tuple[Family, int, tuple[Play, ...]], ...]
    """With the payments of each run, and what is played there."""
    seeds: int
    learning_payments: int
    """Of the runs in which prices are learned, in the first family."""
    period: int
    """Payments between two judgements of a price."""

    def runs(self) -> tuple[MarketRun, ...]:
        """All runs, seed by seed, so that what is there is comparable at any time."""
        found = []
        for index in range(self.seeds):
            for family, payments, plays in self.families:
                found += [MarketRun(family, index, play, payments, self.period) for play in plays]
            if self.learning_payments:
                family = self.families[0][0]
                found.append(MarketRun(family, index, LEARNED, self.learning_payments, self.period))
        return tuple(found)


_PATHS = CompetingPaths(kind="competing-paths", name="competing-paths", payments_per_second=1.0)
_SCALE_FREE = ScaleFree(
    kind="scale-free",
    name="scale-free-24",
    nodes=24,
    degree=2,
    agents=5,
    payments_per_second=1.0,
)


def whole_study(seeds: int) -> Study:
    """The study of docs/market.md."""
    return Study(
        families=((_PATHS, 400, PLAYS), (_SCALE_FREE, 250, PRICED)),
        seeds=seeds,
        learning_payments=1_200,
        period=40,
    )


def quick_study(seeds: int) -> Study:
    """A small one, of a minute or two."""
    return Study(
        families=((_PATHS, 200, (NO_MARKET, FREE, priced(1), MARKET, priced(100), *LIARS)),),
        seeds=seeds,
        learning_payments=0,
        period=40,
    )


def run_study(
    study: Study,
    results: Results,
    *,
    progress: Callable[[int, int], None],
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Make the runs that `results` lacks, until `stopped`; returns how many were made.

    Args:
        study: what to run.
        results: where results are kept, each as soon as it is there; of `MarketResult`.
        progress: told how many of all runs are done.
        stopped: asked before every run.

    Raises:
        ExperimentError: the results are damaged.
    """
    runs = study.runs()
    done = results.done()
    waiting = [one for one in runs if one.id not in done]
    before = len(runs) - len(waiting)
    progress(before, len(runs))
    made = 0
    try:
        for one in waiting:
            if stopped():
                break
            results.append(play_run(one))
            made += 1
            progress(before + made, len(runs))
    finally:
        results.gather()
    return made


def play_run(run: MarketRun) -> MarketResult:
    """Make one run; the same arguments give the same, but for `seconds`."""
    began = time.process_time()
    arena = draw_arena(run.family, Split.HELD_OUT, run.index)
    roles = roles_of(arena)
    intents = draw_payments(
        arena.workload, run.payments, seed_of(run.family.name, "payments", run.index)
    )
    session = Session(arena.network, roles, run.play, period=run.period)
    result = session.run(intents)
    members = _members(roles, arena.network.nodes)
    first = roles.sellers[0]
    return MarketResult(
        run=run.id,
        family=run.family.name,
        index=run.index,
        play=run.play.name,
        virtual_seconds=result.seconds,
        groups=tuple(_group(name, members[name], result) for name in GROUPS),
        dealings=tuple(
            DealingResult(one.bought, NEVER if one.until_dropped is None else one.until_dropped)
            for one in result.dealings
            if one.seller == first and one.bought
        ),
        price_sat=tuple(sum(prices) / len(prices) for prices in result.prices_sat),
        revenue_msat=tuple(sum(revenue) for revenue in result.revenue_msat),
        seconds=round(time.process_time() - began, 2),
        version=__version__,
    )


def roles_of(arena: Arena) -> Roles:
    """Those who would have agents sell; every second one of the others that pay buys."""
    names = arena.network.names
    sellers = tuple(names.index(name) for name in arena.agents)
    paying = {name for demand in arena.workload.demands for name in demand.sources}
    others = [place for place, name in enumerate(names) if name in paying - set(arena.agents)]
    return Roles(sellers, tuple(others[::2]))


def _members(roles: Roles, nodes: int) -> dict[str, tuple[int, ...]]:
    rest = set(range(nodes)) - {*roles.sellers, *roles.buyers}
    return {
        FIRST_SELLER: roles.sellers[:1],
        SELLERS: roles.sellers[1:],
        FIRST_BUYER: roles.buyers[:1],
        BUYERS: roles.buyers[1:],
        REST: tuple(sorted(rest)),
    }


def _group(name: str, members: tuple[int, ...], result: SessionResult) -> GroupResult:
    sums = {
        one.name: sum(getattr(result.tallies[node], one.name) for node in members)
        for one in dataclasses.fields(Tally)
    }
    return GroupResult(
        name=name,
        nodes=len(members),
        profit_msat=sum(result.profit_msat[node] for node in members),
        forwards=sum(result.forwards[node] for node in members),
        **sums,
    )
