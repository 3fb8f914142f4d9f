"""How much money could have arrived at best: what perfect knowledge allows, as a linear program.

The bound holds for every way to route the payments, in any number of parts over any routes, and
whoever sets which fees meanwhile, as long as no payment costs more than its fee limit. It comes
from what is true at any moment of any run. Take the payments that have arrived by then, and call
what they moved over channel c forth less what they moved back `f(c)`. Then

* neither side has given more than it had: `-(b - k) <= f <= a - l`, where a and b are the two
  balances at the start, and l and k what the sides have to keep (the reserve, and for the opener
  what an empty commitment transaction costs) or all they had, if that is less;
* what left a node less what came in is what it paid less what it was paid: amounts and fees of its
  payments that arrived, less amounts received, less fees earned. Fees are at most the limits of the
  payments that arrived, and nobody earns less than nothing by forwarding (LND refuses to forward at
  a loss, `CheckHtlcForward` in htlcswitch/link.go);
* only payments that had begun have arrived.

A payment in flight locks money that the first line still counts, and a failed one moves nothing, so
neither makes more possible. The program asks for the largest volume for which such numbers exist at
the ends of `windows` parts of the traffic, where what has arrived stays so, and where between two
ends no more arrives than what had begun and had not been given up yet. It does not ask how one
moment follows from another: between them money may go in circles and payments may wait for each
other, and a part of a payment counts. More windows give a tighter bound at a higher price. A
payment of at most n parts is left out if no path could ever carry an n-th of it, as its largest
part must be carried.

No flow for each payer and receiver is needed, which is what makes this quick. Only the difference f
is bounded, so any flows with the right sums at the nodes can be turned into any other by money that
goes in circles, and the sum over all payments is all that matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from lnagents.model.units import MSAT_PER_SAT, Msat
from lnagents.twin.commitment import ANCHORS, FEE_PER_KW, RESERVE, WEIGHT, make_liquidity
from lnagents.twin.network import FloatArray, Int64Array, Network
from lnagents.twin.settings import CommitmentSettings
from lnagents.twin.traffic import NO_LIMIT, Traffic

_UNIT_MSAT = 1_000_000
"""What the program counts in, so that its numbers are neither tiny nor huge."""
_TOLERANCE = 1e-6
"""Relative; the solver's own is a tenth of it (HiGHS, `primal_feasibility_tolerance`)."""


@dataclass(frozen=True, slots=True)
class SuccessBound:
    """What `success_bound` finds."""

    volume_msat: Msat
    """No run delivers more."""
    possible_msat: Msat
    """Sum of the payments for which some path would be wide enough."""
    offered_msat: Msat
    """Sum of all payments."""

    @property
    def share(self) -> float:
        """The bound as a part of what was offered; 1 if nothing was."""
        return self.volume_msat / self.offered_msat if self.offered_msat else 1.0


def success_bound(
    network: Network,
    traffic: Traffic,
    settings: CommitmentSettings | None = None,
    *,
    windows: int = 1,
    patience: float = math.inf,
) -> SuccessBound:
    """The most volume of `traffic` that can arrive, starting from the balances of `network`.

    Args:
        network: channels and balances at the start; policies play no part.
        traffic: the payments.
        settings: what channels are opened with; None takes the twin's default.
        windows: at the ends of how many parts of equal numbers of payments the balances must be
            possible. The program grows in proportion.
        patience: seconds after its beginning within which a payment has arrived or never does. In
            a twin without latency nothing waits, and it is 0.

    Raises:
        ValueError: `windows` is not positive, or `patience` is negative.
    """
    if windows < 1:
        raise ValueError(f"windows: {windows} is not positive")
    if not patience >= 0:
        raise ValueError(f"patience: {patience} is negative")
    liquidity = make_liquidity(network, settings or CommitmentSettings())
    reserve = liquidity.terms[:, RESERVE]
    possible = _fits(network, network.capacity - reserve, traffic)
    offered, possible_sum = int(traffic.amount.sum()), int(traffic.amount[possible].sum())
    if not possible_sum:
        return SuccessBound(0, 0, offered)
    fee = liquidity.terms[:, FEE_PER_KW] * liquidity.terms[:, WEIGHT] // 1_000 * MSAT_PER_SAT
    kept = np.stack([reserve, reserve], axis=1)
    kept[np.arange(network.channels), network.opener] += fee + liquidity.terms[:, ANCHORS]
    spendable = np.maximum(network.balance - kept, 0)
    program = _Program(network, spendable, traffic, possible, windows, patience)
    volume = program.solve() * _UNIT_MSAT
    rounded_up = math.ceil(volume * (1.0 + _TOLERANCE)) + MSAT_PER_SAT
    return SuccessBound(min(rounded_up, possible_sum), possible_sum, offered)


class _Program:
    """The linear program.

    Its variables, for each window: f of each channel, the volume arrived of each pair of payer and
    receiver, fees paid by each payer, fees earned by each node; all since the start.
    """

    def __init__(
        self,
        network: Network,
        spendable: Int64Array,
        traffic: Traffic,
        chosen: NDArray[np.bool_],
        windows: int,
        patience: float,
    ) -> None:
        source, target = traffic.source[chosen], traffic.target[chosen]
        amount = traffic.amount[chosen]
        ends, pair = np.unique(np.stack([source, target], axis=1), axis=0, return_inverse=True)
        pair = pair.reshape(-1)
        self._payer, self._receiver = ends[:, 0], ends[:, 1]
        self._fee_ratio = self._highest_fee_ratio(traffic.fee_limit[chosen], amount, pair)
        at = traffic.at[chosen]
        last = np.ceil(np.arange(1, windows + 1) * len(amount) / windows).astype(np.int64) - 1
        # Payments that begin at the same time as the last of a window may arrive before it.
        begun = np.searchsorted(at, at[last], side="right")
        given_up = np.searchsorted(at, np.append(-np.inf, at[last[:-1]]) - patience, side="right")
        given_up = np.minimum(given_up, begun)
        sums = np.zeros((2, windows, len(ends)))
        for window in range(windows):
            for kind, first in ((0, 0), (1, given_up[window])):
                part = slice(first, begun[window])
                sums[kind, window] = np.bincount(pair[part], amount[part], len(ends))
        self._gives_up = patience < math.inf
        self._begun, self._alive = sums / _UNIT_MSAT
        self._network = network
        self._spendable = spendable / _UNIT_MSAT
        self._windows = windows

    def _highest_fee_ratio(
        self, fee_limit: Int64Array, amount: Int64Array, pair: NDArray[np.int64]
    ) -> FloatArray:
        """Of each pair's payments the highest fee limit in parts of the amount."""
        ratio = np.where(fee_limit == NO_LIMIT, np.inf, fee_limit / np.maximum(amount, 1))
        highest = np.zeros(len(self._payer))
        np.maximum.at(highest, pair, ratio)
        return highest

    def solve(self) -> float:
        """The largest volume, in `_UNIT_MSAT`."""
        nodes, channels, pairs = self._network.nodes, self._network.channels, len(self._payer)
        payers, payer = np.unique(self._payer, return_inverse=True)
        one, count = np.ones, np.arange
        ends = self._network.channel_nodes
        flows = _matrix(
            (one(channels), ends[:, 0], count(channels)),
            (-one(channels), ends[:, 1], count(channels)),
            shape=(nodes, channels),
        )
        arrived = _matrix(
            (-one(pairs), self._payer, count(pairs)),
            (one(pairs), self._receiver, count(pairs)),
            shape=(nodes, pairs),
        )
        paid = _matrix((-one(len(payers)), payers, count(len(payers))), shape=(nodes, len(payers)))
        balanced = sparse.hstack([flows, arrived, paid, sparse.eye_array(nodes)])
        # Fees are limited, unless one of the payer's payments has no limit.
        limited = np.ones(len(payers), np.bool_)
        limited[payer[np.isinf(self._fee_ratio)]] = False
        ratio = np.where(np.isinf(self._fee_ratio), 0.0, self._fee_ratio)
        fees = sparse.hstack(
            [
                sparse.csr_array((len(payers), channels)),
                _matrix((-ratio, payer, count(pairs)), shape=(len(payers), pairs)),
                sparse.eye_array(len(payers)),
                sparse.csr_array((len(payers), nodes)),
            ],
            format="csr",
        )[limited]
        width = channels + pairs + len(payers) + nodes
        grows = sparse.kron(
            sparse.eye_array(self._windows - 1, self._windows)
            - sparse.eye_array(self._windows - 1, self._windows, k=1),
            _matrix((one(pairs), count(pairs), channels + count(pairs)), shape=(pairs, width)),
        )
        every = sparse.eye_array(self._windows)
        rows = [sparse.kron(every, fees), grows]
        at_most = np.zeros(sum(part.shape[0] for part in rows))
        if self._gives_up:
            rows.append(-grows)
            at_most = np.append(at_most, self._alive[1:])
        upper = sparse.vstack(rows, format="csr")
        objective = np.zeros((self._windows, width))
        objective[-1, channels : channels + pairs] = -1.0
        bounds = np.zeros((self._windows, width, 2))
        bounds[:, :channels, 0] = -self._spendable[:, 1]
        bounds[:, :channels, 1] = self._spendable[:, 0]
        bounds[:, channels : channels + pairs, 1] = self._begun
        bounds[:, channels + pairs :, 1] = np.inf
        found = linprog(
            objective.reshape(-1),
            A_ub=upper,
            b_ub=at_most,
            A_eq=sparse.kron(every, balanced, format="csr"),
            b_eq=np.zeros(self._windows * nodes),
            bounds=bounds.reshape(-1, 2),
            method="highs",
        )
        if found.status != 0:  # all zeros is a solution, and the volume is bounded
            raise ArithmeticError(f"the solver gave up: {found.message}")
        return -float(found.fun)


def _matrix(
    *blocks: tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]],
    shape: tuple[int, int],
) -> sparse.csr_array:
    values, rows, columns = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return sparse.csr_array((values, (rows, columns)), shape=shape)


def _fits(network: Network, widest: Int64Array, traffic: Traffic) -> NDArray[np.bool_]:
    """Which payments have a path whose channels are wide enough for their largest part."""
    least = -(-traffic.amount // np.maximum(traffic.max_parts, 1))
    parent = list(range(network.nodes))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    # From the largest payment to the smallest, with all channels that are wide enough for it.
    channels = iter(np.argsort(-widest, kind="stable").tolist())
    ends = network.channel_nodes.tolist()
    channel = next(channels, None)
    fits = np.zeros(len(traffic), np.bool_)
    for payment in np.argsort(-least, kind="stable").tolist():
        while channel is not None and widest[channel] >= least[payment]:
            one, other = ends[channel]
            parent[root(one)] = root(other)
            channel = next(channels, None)
        fits[payment] = root(traffic.source[payment]) == root(traffic.target[payment])
    return fits
