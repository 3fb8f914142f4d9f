"""What an environment runs on: the fast twin or a live network behind the same few calls.

A round is `observe`, `apply`, `run`, in this order; `observe` once more shows what the round
brought. Everything is synchronous. A world knows nothing of observations as arrays, of actions or
of rewards: those are made above it, from views and decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lnagents.env.routes import RouteCandidate
from lnagents.model.graph import ChannelPolicy
from lnagents.model.payment import PaymentOutcome, Route
from lnagents.model.units import Msat, NodeKey, ShortChannelId
from lnagents.model.view import NodeDecision, NodeView
from lnagents.model.workload import PaymentIntent

MAX_PARTS = 1
"""A payment in parts of which one is missing blocks for two minutes (`DefaultHtlcHoldDuration` of
LND's invoices package), longer than a round may take."""

PAYMENT_TIMEOUT_SECONDS = 30.0
"""After which a sender gives up on one payment."""


@dataclass(frozen=True, slots=True)
class RoundPayment:
    """One payment of a round, and how it is to be made."""

    intent: PaymentIntent
    """`at_seconds` counts from the beginning of the round."""
    route: Route | None = None
    """Along which channels to try it, once; amounts and expiries are reckoned anew when it is sent,
    with what the sender knows then. None: its node searches and retries by itself, as LND does."""
    hop_by_hop: bool = False
    """Every agent that sends it on chooses by which of its channels (`ChannelDecision.preference`),
    the sender included; a `route` goes before this."""
    priority: bool = False
    """It may use what channels keep for such payments (`ChannelDecision.reserved_share`)."""


@dataclass(frozen=True, slots=True)
class ChannelTruth:
    """One channel as nobody in the network sees it: for pictures and centralised training only."""

    scid: ShortChannelId
    node1: NodeKey
    node2: NodeKey
    capacity_msat: Msat
    balance1_msat: Msat
    """On `node1`'s side, as that node reports it (without what a commitment costs the opener)."""
    balance2_msat: Msat
    policy1: ChannelPolicy
    """What `node1` enforces now."""
    policy2: ChannelPolicy


@runtime_checkable
class World(Protocol):
    """One network with agents on some of its nodes.

    Every call may raise an `LnagentsError`; a world in which one did can be `reset`.
    """

    @property
    def agents(self) -> Mapping[str, NodeKey]:
        """Name and key of each node that an agent decides for, always in the same order.

        A live network may come back from `reset` with other keys, never with other names.
        """

    @property
    def nodes(self) -> Mapping[str, NodeKey]:
        """The same for all nodes: who can pay and be paid."""

    @property
    def round_seconds(self) -> float:
        """How long a round lasts in the world's own time; payments begin within it."""

    @property
    def max_channels(self) -> int:
        """The most channels that any agent has."""

    def reset(self, seed: int) -> None:
        """Back to the beginning: balances, policies, what senders remember; settled gossip.

        What an agent finds then is `ChannelView.found_policy` until the next reset. The seed
        decides all that the world draws by itself; a live network has its own chances beside it.
        """

    def observe(self) -> dict[NodeKey, NodeView]:
        """What each agent's node can know now: nothing of other channels' balances.

        Flows and sums are those of the last `run`; zero after `reset`. Calling it again changes
        nothing. An agent whose node is down sees its channels as inactive, without flow.
        """

    def apply(self, decisions: Mapping[NodeKey, NodeDecision]) -> None:
        """Carry out what the agents decided; agents that are left out keep what they have.

        A live world returns when the other nodes have had the time to hear of it. Decisions about
        channels that cannot be used now are passed over.

        Raises:
            ValueError: a decision is about a node that is no agent, or a channel it has not got.
        """

    def candidates(
        self, intents: Sequence[PaymentIntent], limit: int
    ) -> list[tuple[RouteCandidate, ...]]:
        """At most `limit` routes for each payment, best first, found with what its sender knows.

        The first is what the sender's node would try itself. Each further one avoids, besides what
        those before it avoided, the least likely edge of the route before it.
        """

    def run(self, payments: Sequence[RoundPayment]) -> list[PaymentOutcome]:
        """Live one round; one outcome per payment, in their order.

        Returns when all have been answered and the round is over, or when the world's own time
        bound has passed: what is still under way then counts as failed, with the reason
        `unresolved`, and may settle in a later round unseen.
        """

    def truth(self) -> tuple[ChannelTruth, ...]:
        """All channels with both balances, ascending by id. Agents never see this."""

    def snapshot(self) -> object:
        """The state between two rounds, for `restore` of this same world."""

    def restore(self, snapshot: object) -> None:
        """Back to where `snapshot` was called."""

    def close(self) -> None:
        """End what the world has started. Calling it again does nothing."""
