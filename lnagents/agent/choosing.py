"""Whom a payer asks: who chooses a route, who buys information before, who presents passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lnagents.agent.candidates import Admitted, Candidate
from lnagents.agent.pass_wallet import Presented
from lnagents.model.payment import AttemptFailure, AttemptStatus, Route
from lnagents.model.units import PaymentHash


@dataclass(frozen=True, slots=True)
class Choice:
    """Which candidate to try, and why."""

    index: int
    reason: str
    token: int = 0
    """For `RouteChooser.outcome`; 0: there is nothing to learn from it."""


class RouteChooser(Protocol):
    """Chooses among candidates and is told what came of it."""

    async def choose(self, candidates: list[Candidate]) -> Choice:
        """Choose one; there is at least one."""

    def outcome(self, token: int, cost: float) -> None:
        """Say what everything from this choice on has cost, in attempt costs; less is better."""


class HintAdvisor(Protocol):
    """Buys information before a payment, if that is worth it."""

    async def advise(self, payment_hash: PaymentHash, candidates: list[Candidate]) -> bool:
        """Whether something was learned, so that candidates should be sought again."""


class PassHolder(Protocol):
    """Presents passes along the way; `agent.pass_wallet.PassWallet` does."""

    def admitted(self, payment_hash: PaymentHash) -> Admitted | None:
        """What the passes change about the chances of a payment; None: nothing."""

    def attach(
        self, payment_hash: PaymentHash, route: Route, attempt: int
    ) -> tuple[Route, list[Presented]]:
        """`route` with a pass at each hop that there is one for, for attempt `attempt`."""

    def ended(
        self,
        presented: list[Presented],
        status: AttemptStatus,
        failure: AttemptFailure | None = None,
    ) -> None:
        """The attempt that presented them is over."""
