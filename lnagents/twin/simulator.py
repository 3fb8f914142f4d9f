"""The twin as its users see it: a network that lives in virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from lnagents.model.kernel import direct
from lnagents.twin.assembly import (
    changing,
    make_state,
    no_traffic,
    replaced,
    with_gossip,
    with_room,
)
from lnagents.twin.commitment import AMOUNT, COUNT
from lnagents.twin.directions import Directions
from lnagents.twin.engine import NEEDS_ROOM, run
from lnagents.twin.gossip import announce, announce_at_once, make_room, seen_rows
from lnagents.twin.htlcs import reported_balances
from lnagents.twin.memory import forget
from lnagents.twin.network import POLICY_COLUMNS, FloatArray, Int64Array, Network
from lnagents.twin.payments import carry_over, make_payments, outcomes_of
from lnagents.twin.settings import TwinSettings
from lnagents.twin.state import NEXT_PAYMENT, State, log_of, make_log
from lnagents.twin.traffic import AttemptLog, Outcomes, Traffic

_run = direct(run)
_announce_at_once = direct(announce_at_once)

_LOGGED = 1024
"""Attempts that a new log has room for."""


class Snapshot(NamedTuple):
    """All that changes in a twin, at one moment; opaque."""

    network: Network
    now: float
    arrays: Any


class Twin:
    """A Lightning network that does what LND does, in virtual time.

    The same network, settings, seed and calls give the same results bit for bit. Not thread-safe;
    different twins may run in different threads at once (the kernels release Python's lock).
    """

    def __init__(
        self,
        network: Network,
        settings: TwinSettings | None = None,
        *,
        seed: int = 0,
        exhaustive: bool = False,
    ) -> None:
        """A twin of `network`, whose arrays are copied, at time 0.

        Args:
            network: what to simulate.
            settings: of all its nodes; LND's defaults if there are none.
            seed: decides where LND itself chooses at random: among parallel channels.
            exhaustive: search routes step by step as LND does. The other way finds the same routes
                much faster, but does not notice when LND could have found another one at the same
                cost (`AttemptLog.tied`).
        """
        self._network = network
        self._settings = settings or TwinSettings()
        self._now = 0.0
        self._log: AttemptLog | None = None
        self._no_log = make_log(0, recording=False)
        self._state = make_state(network, self._settings, seed, exhaustive=exhaustive)

    @property
    def network(self) -> Network:
        """What the twin was made from; balances and policies in it are those of the start."""
        return self._network

    @property
    def settings(self) -> TwinSettings:
        """What the twin was made with."""
        return self._settings

    @property
    def now(self) -> float:
        """Seconds of virtual time since the twin was made."""
        return self._now

    @property
    def state(self) -> State:
        """The live arrays, for kernels of other packages; each call may replace some of them."""
        return self._state

    @property
    def log(self) -> AttemptLog:
        """Every attempt of the last `run` that recorded them.

        Raises:
            RuntimeError: no run has recorded any.
        """
        if self._log is None:
            raise RuntimeError("no run has recorded its attempts")
        return self._log

    @property
    def flows(self) -> Int64Array:
        """[edges, FLOW_COLUMNS], the live counters: read them, and zero them when a round ends."""
        return self._state.switch.flows

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
        `until` seconds: payments that have no answer then are `UNRESOLVED`. Those that have HTLCs
        in flight go on in the next run, but show in balances and flows only.

        Args:
            traffic: what is to be paid. A node may pay itself, in a circle.
            directions: who routes which payment how; None leaves it all to LND.
            until: seconds from now.
            record: keep every attempt in `log`.

        Raises:
            ValueError: a payment names a node or edge that does not exist.
        """
        state, start = self._state, self._now
        desk = state.desk
        payments, carried = carry_over(
            desk.payments,
            make_payments(self._network, traffic, directions, start),
            desk.attempts,
            desk.events,
        )
        log = make_log(_LOGGED, recording=True) if record else self._no_log
        state = state._replace(desk=desk._replace(payments=payments, log=log))
        state.cursor[NEXT_PAYMENT] = carried
        end = np.inf if until is None else start + until
        while _run(state, end) == NEEDS_ROOM:
            state = with_room(state, start)
        self._state = state
        outcomes, last_answer = outcomes_of(payments, carried)
        self._now = max(start, last_answer) if until is None else end
        if record:
            self._log = log_of(state.desk.log, carried, start)
        return outcomes

    def advance(self, seconds: float) -> None:
        """Let time pass: HTLCs resolve, gossip arrives, mission control forgets.

        Raises:
            ValueError: time does not go back.
        """
        if seconds < 0:
            raise ValueError("time does not go back")
        self.run(no_traffic(), until=seconds)

    def set_policies(self, edges: Int64Array, policies: Int64Array) -> None:
        """The owners of `edges` announce new policies now.

        They are in force at once, and other nodes learn of them as gossip travels.

        Args:
            edges: [n], each at most once.
            policies: [n, POLICY_COLUMNS], see `lnagents.twin.network`.

        Raises:
            ValueError: the arrays do not fit together, or an edge does not exist.
        """
        chosen = np.ascontiguousarray(edges, dtype=np.int64)
        rows = np.ascontiguousarray(policies, dtype=np.int64)
        if rows.shape != (len(chosen), POLICY_COLUMNS):
            raise ValueError(f"policies: the shape is {rows.shape} for {len(chosen)} edges")
        gossip = self._state.mind.gossip
        done = _announce_at_once(gossip, chosen, rows, self._now)
        if done < 0:
            raise ValueError("edges: names an edge that does not exist")
        if not done:
            gossip = make_room(gossip, chosen, self._now)
            announce(gossip, chosen, rows, self._now)
            self._state = with_gossip(self._state, gossip)

    def policies(self) -> Int64Array:
        """[edges, POLICY_COLUMNS], what is in force now at each edge's owner; a copy."""
        return self._state.mind.gossip.policy[: len(self.flows)].copy()

    def policies_seen(self, node: int) -> Int64Array:
        """[edges, POLICY_COLUMNS], what `node` goes by now: its own edges, else gossip; a copy."""
        gossip = self._state.mind.gossip
        rows = np.empty(len(self.flows), dtype=np.int64)
        seen_rows(gossip, node, self._now, rows)
        return gossip.policy[rows]

    def balances(self) -> Int64Array:
        """[channels, 2], msat: what is each side's; HTLCs in flight belong to neither."""
        return self._state.switch.liquidity.balance.copy()

    def reported_balances(self) -> Int64Array:
        """[edges], msat: `local_balance` as the sending node's LND would report it."""
        result = np.empty(len(self.flows), dtype=np.int64)
        reported_balances(self._state.switch.liquidity, result)
        return result

    def in_flight(self) -> Int64Array:
        """[edges], msat of the HTLCs that are on each edge now."""
        return self._state.switch.liquidity.pending[:, AMOUNT].copy()

    def set_preferences(self, nodes: Iterable[int], preferences: FloatArray) -> None:
        """From now on `nodes` are agents that choose the next channel of payments `BY_HOP`.

        Args:
            nodes: all agents that choose; the others forward what they were told.
            preferences: [edges], the higher the earlier an edge is tried; -inf: never.
        """
        agents = self._state.agents
        agents.chooses[:] = False
        agents.chooses[list(nodes)] = True
        agents.preference[:] = preferences

    def set_admission(self, shares: FloatArray) -> None:
        """Keep part of each edge free for payments with priority.

        Args:
            shares: [edges], 0 to 1: share of the capacity, and of the HTLC slots, below which a
                forward without priority is refused (`TEMPORARY_CHANNEL_FAILURE`).
        """
        self._state.switch.kept_free[:] = shares

    def set_nodes_down(self, nodes: Iterable[int]) -> None:
        """From now on exactly these nodes are off: they neither send, forward nor receive.

        An HTLC that reaches one of them is failed by the node before; what is settled or failed
        already comes back through them as if they were on.
        """
        down = self._state.switch.down
        down[:] = False
        down[list(nodes)] = True

    def reset_memory(self) -> None:
        """Every node forgets what its payments taught it (mission control)."""
        forget(self._state.mind.memory)

    def snapshot(self) -> Snapshot:
        """A copy of all state; flows, agents' settings and time included."""
        return Snapshot(self._network, self._now, changing(self._state))

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to `snapshot`, which this twin, or one of the same network object, made.

        Raises:
            ValueError: it belongs to another network.
        """
        if snapshot.network is not self._network:
            raise ValueError("the snapshot belongs to another network")
        self._now = snapshot.now
        self._state = replaced(self._state, snapshot.arrays)

    def audit(self) -> None:
        """See that no millisatoshi was made or lost.

        Raises:
            AssertionError: naming the channel and the amounts.
        """
        balance, pending = (
            self._state.switch.liquidity.balance,
            self._state.switch.liquidity.pending,
        )
        total = balance.sum(axis=1) + pending[:, AMOUNT].reshape(-1, 2).sum(axis=1)
        wrong = np.flatnonzero((total != self._network.capacity) | (balance < 0).any(axis=1))
        if len(wrong):
            channel = int(wrong[0])
            raise AssertionError(
                f"channel {channel}: balances {balance[channel].tolist()} and "
                f"{pending[2 * channel : 2 * channel + 2, AMOUNT].tolist()} in flight do not make "
                f"{self._network.capacity[channel]} msat"
            )
        if (pending < 0).any() or (pending[:, COUNT] == 0)[pending[:, AMOUNT] != 0].any():
            raise AssertionError("HTLCs in flight are counted wrongly")
