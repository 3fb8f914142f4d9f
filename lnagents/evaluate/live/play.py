"""One run, round after round; the same for both worlds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lnagents.env.world import World
from lnagents.evaluate.live.stage import Stage, drains, rivals_decision
from lnagents.model.payment import PaymentOutcome
from lnagents.model.units import Msat


@dataclass(frozen=True, slots=True)
class Books:
    """What one router's agent tells after its round."""

    fees_earned_msat: Msat
    """In the round before."""
    updates: int
    """Policies announced so far."""
    peers: tuple[str, ...]
    """Of its channels, in the order in which its actor is given them."""


class Deciders(Protocol):
    """The agents of all routers."""

    def decide(self) -> Mapping[str, Books]:
        """Let every agent live one round, in which it decides; returns when all have heard of it.

        A round begins with what the payments since the one before have brought.
        """


@dataclass(slots=True)
class Round:
    """One round of a run."""

    outcomes: list[PaymentOutcome]
    """Of the stage's payments, in their order."""
    fees_earned_msat: dict[str, Msat] = field(default_factory=dict)
    """By router."""
    updates: dict[str, int] = field(default_factory=dict)
    """Policies that each router announced before its payments."""
    seconds: float = 0.0
    """That it took, of real time."""
    deciding_seconds: float = 0.0
    """Until its payments began: agents decided, and all heard of it."""


@dataclass(slots=True)
class Record:
    """What came of a run."""

    rounds: list[Round]
    updates: dict[str, int]
    """Policies that each router announced."""
    drained: int
    """Payments that drained channels, those that were made."""
    peers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """See `Books.peers`, by router."""


def play(
    world: World, deciders: Deciders, stage: Stage, *, progress: Callable[[int], None]
) -> Record:
    """Play all rounds of `stage` on `world`, which was reset.

    Args:
        world: where; of agents it has none but the competitor, or it leaves them to `deciders`.
        deciders: of the routers.
        stage: what is paid, and what happens.
        progress: told how many rounds are over.

    Raises:
        LnagentsError: the network or an agent failed.
    """
    record = Record([], {}, 0)
    for number, payments in enumerate(stage.payments):
        began = time.monotonic()
        entering = rivals_decision(stage, world, number)
        if entering:
            world.apply(entering)
        announced = _book(record, deciders.decide())
        draining = drains(stage, world, number)
        decided = time.monotonic() - began
        outcomes = world.run([*draining, *payments])
        record.drained += sum(one.settled for one in outcomes[: len(draining)])
        lived = Round(list(outcomes[len(draining) :]), updates=announced)
        lived.seconds, lived.deciding_seconds = time.monotonic() - began, decided
        record.rounds.append(lived)
        progress(number + 1)
    # What it decides has no effect any more, but it says what the last round has brought.
    updates = dict(record.updates)
    _book(record, deciders.decide())
    record.updates = updates
    return record


def _book(record: Record, told: Mapping[str, Books]) -> dict[str, int]:
    """Note what agents tell; returns how many policies each announced since the last time."""
    announced = {}
    for name, books in told.items():
        announced[name] = books.updates - record.updates.get(name, 0)
        record.updates[name] = books.updates
        record.peers[name] = books.peers
        if record.rounds:
            record.rounds[-1].fees_earned_msat[name] = books.fees_earned_msat
    return announced


def settled(outcomes: Sequence[PaymentOutcome]) -> list[PaymentOutcome]:
    """Those that arrived."""
    return [one for one in outcomes if one.settled]
