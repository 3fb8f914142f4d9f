"""The twin as its users see it: a network that lives in virtual time."""

from __future__ import annotations

from collections.abc import Iterable

from lnagents.twin.directions import Directions
from lnagents.twin.network import FloatArray, Int64Array, Network
from lnagents.twin.settings import TwinSettings
from lnagents.twin.traffic import AttemptLog, Outcomes, Traffic

# Columns of `Twin.flows`: what passed each edge, seen from the node that sends over it. They have
# the names and units of `lnagents.model.view.ChannelFlow`.
FORWARDED_IN = 0
"""msat of settled forwards that came *in* over this channel: the HTLC was on `edge ^ 1`."""
FORWARDED_OUT = 1
FEES_EARNED = 2
"""msat earned by settled forwards that left over this edge."""
FORWARDS = 3
FAILED_FORWARDS = 4
SENT = 5
RECEIVED = 6
"""msat of own receipts that came in over this channel: the HTLC was on `edge ^ 1`."""
FLOW_COLUMNS = 7


class Snapshot:
    """All of a twin's state at one moment; opaque."""


class Twin:
    """A Lightning network that does what LND does, in virtual time.

    The same network, settings, seed and calls give the same results bit for bit. Not thread-safe;
    different twins may run in different threads at once (the kernels release Python's lock).
    """

    def __init__(
        self, network: Network, settings: TwinSettings | None = None, *, seed: int = 0
    ) -> None:
        """A twin of `network`, whose arrays are copied, at time 0."""
        raise NotImplementedError

    @property
    def network(self) -> Network:
        """What the twin was made from; balances and policies in it are those of the start."""
        raise NotImplementedError

    @property
    def settings(self) -> TwinSettings:
        """What the twin was made with."""
        raise NotImplementedError

    @property
    def now(self) -> float:
        """Seconds of virtual time since the twin was made."""
        raise NotImplementedError

    @property
    def log(self) -> AttemptLog:
        """Every attempt of the last `run` that recorded them.

        Raises:
            RuntimeError: no run has recorded any.
        """
        raise NotImplementedError

    @property
    def flows(self) -> Int64Array:
        """[edges, FLOW_COLUMNS], the live counters: read them, and zero them when a round ends."""
        raise NotImplementedError

    def run(
        self,
        traffic: Traffic,
        *,
        directions: Directions | None = None,
        until: float | None = None,
        record: bool = False,
    ) -> Outcomes:
        """Make the payments of `traffic`, whose times count from now.

        Without `until` the run ends when every payment has its answer. With it, it ends after
        `until` seconds: payments that have no answer then are `UNRESOLVED`, keep their HTLCs, and
        go on in the next run, where the HTLCs' effects appear in balances and flows only.

        Args:
            traffic: what is to be paid; with any times, sources and targets of this network.
            directions: who routes which payment how; None leaves it all to LND.
            until: seconds from now.
            record: keep every attempt in `log`.

        Raises:
            ValueError: a payment names a node or edge that does not exist, or pays its own sender.
        """
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let time pass: HTLCs resolve, gossip arrives, mission control forgets."""
        raise NotImplementedError

    def set_policies(self, edges: Int64Array, policies: Int64Array) -> None:
        """The owners of `edges` announce new policies now.

        They are in force at once, and other nodes learn of them as gossip travels.

        Args:
            edges: [n], each at most once.
            policies: [n, POLICY_COLUMNS], see `lnagents.twin.network`.

        Raises:
            ValueError: the arrays do not fit together, or an edge does not exist.
        """
        raise NotImplementedError

    def policies(self) -> Int64Array:
        """[edges, POLICY_COLUMNS], what is in force now at each edge's owner; a copy."""
        raise NotImplementedError

    def policies_seen(self, node: int) -> Int64Array:
        """[edges, POLICY_COLUMNS], what `node` goes by now: its own edges, else gossip; a copy."""
        raise NotImplementedError

    def balances(self) -> Int64Array:
        """[channels, 2], msat: what is each side's once HTLCs in flight are counted to neither."""
        raise NotImplementedError

    def reported_balances(self) -> Int64Array:
        """[edges], msat: `local_balance` as the sending node's LND would report it."""
        raise NotImplementedError

    def in_flight(self) -> Int64Array:
        """[edges], msat of the HTLCs that are on each edge now."""
        raise NotImplementedError

    def set_preferences(self, nodes: Iterable[int], preferences: FloatArray) -> None:
        """From now on `nodes` are agents that choose the next channel of payments `BY_HOP`.

        Args:
            nodes: all agents that choose; the others forward what they were told.
            preferences: [edges], the higher the earlier an edge is tried; -inf: never.
        """
        raise NotImplementedError

    def set_admission(self, shares: FloatArray) -> None:
        """Keep part of each edge free for payments with priority.

        Args:
            shares: [edges], 0 to 1: share of the capacity, and of the HTLC slots, below which a
                forward without priority is refused (`TEMPORARY_CHANNEL_FAILURE`).
        """
        raise NotImplementedError

    def set_nodes_down(self, nodes: Iterable[int]) -> None:
        """From now on exactly these nodes are off: they neither send, forward nor receive."""
        raise NotImplementedError

    def reset_memory(self) -> None:
        """Every node forgets what its payments taught it (mission control)."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot:
        """A copy of all state; flows, agents' settings and time included."""
        raise NotImplementedError

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to `snapshot`, which this or an equal twin made.

        Raises:
            ValueError: it belongs to another network.
        """
        raise NotImplementedError

    def audit(self) -> None:
        """See that no millisatoshi was made or lost.

        Raises:
            AssertionError: naming the channel and the amounts.
        """
        raise NotImplementedError


__all__ = [
    "FAILED_FORWARDS",
    "FEES_EARNED",
    "FLOW_COLUMNS",
    "FORWARDED_IN",
    "FORWARDED_OUT",
    "FORWARDS",
    "RECEIVED",
    "SENT",
    "Snapshot",
    "Twin",
]
