"""What one HTLC does at one node: set out, go on, arrive, come back; and what nodes count of it.

Nothing here knows about time or about payments in several parts.
"""

from __future__ import annotations

from lnagents.model.payment import FailureCode
from lnagents.twin.commitment import (
    COUNT,
    MAX_HTLCS,
    Liquidity,
    add_htlc,
    bandwidth,
    fail_htlc,
    reported_balance,
    settle_htlc,
)
from lnagents.twin.forwarding import (
    ACCEPTED,
    ForwardRequest,
    check_forward,
    check_receive,
    check_send,
)
from lnagents.twin.gossip import learn_update
from lnagents.twin.kernel import kernel
from lnagents.twin.network import Int32Array, Int64Array
from lnagents.twin.state import (
    FAILED_FORWARDS,
    FEES_EARNED,
    FORWARDED_IN,
    FORWARDED_OUT,
    FORWARDS,
    RECEIVED,
    SENT,
    State,
    draw,
)

_CHANNEL = int(FailureCode.TEMPORARY_CHANNEL_FAILURE)
_NO_PEER = int(FailureCode.UNKNOWN_NEXT_PEER)
_UPDATING = (
    int(FailureCode.EXPIRY_TOO_SOON),
    int(FailureCode.AMOUNT_BELOW_MINIMUM),
    int(FailureCode.FEE_INSUFFICIENT),
    int(FailureCode.INCORRECT_CLTV_EXPIRY),
    int(FailureCode.CHANNEL_DISABLED),
    int(FailureCode.TEMPORARY_CHANNEL_FAILURE),
)
"""Failures that bring the policy in force along (`extractChannelUpdate` in routing/router.go)."""


@kernel
def set_out(state: State, edge: int, amount: int, expiry: int) -> int:
    """The edge's source sends an HTLC of its own: `ACCEPTED`, or a code and nothing was sent."""
    code = check_send(
        state.liquidity, state.gossip.policy, edge, amount, expiry, state.timing.height
    )
    if code == ACCEPTED:
        if state.space.down[state.space.edge_target[edge]]:
            return _NO_PEER
        add_htlc(state.liquidity, edge, amount)
    return code


@kernel
def go_on(state: State, request: ForwardRequest, priority: bool) -> tuple[int, int]:
    """The node between two edges forwards an HTLC, or refuses to.

    Returns:
        `ACCEPTED` and the edge by which it went on; or a code and the edge that was asked for.
    """
    liquidity = state.liquidity
    edge = request.edge_out
    if state.space.down[state.space.edge_target[edge]]:
        code = _NO_PEER
    else:
        chance = 0.0 if liquidity.parallel[edge] == edge else draw(state.cursor)
        code, edge, _ = check_forward(
            liquidity, state.gossip.policy, request, state.timing.height, chance
        )
        if code == ACCEPTED and not priority and not _admits(state, edge, request.amount_out):
            code = _CHANNEL
    if code == ACCEPTED:
        add_htlc(liquidity, edge, request.amount_out)
        return ACCEPTED, edge
    state.flows[request.edge_out, FAILED_FORWARDS] += 1
    return code, request.edge_out


@kernel
def _admits(state: State, edge: int, amount: int) -> bool:
    """Whether enough stays free for payments with priority if the HTLC goes out over the edge."""
    share = state.agents.kept_free[edge]
    if share <= 0.0:
        return True
    liquidity = state.liquidity
    slots = liquidity.terms[edge >> 1, MAX_HTLCS]
    left = slots - liquidity.pending[edge, COUNT] - 1
    free = bandwidth(liquidity, edge) - amount
    return bool(left >= share * slots and free >= share * state.space.capacity[edge >> 1])


@kernel
def arrive(state: State, amount: int, total: int, expiry: int) -> int:
    """The receiver of a payment of `total` msat gets an HTLC: `ACCEPTED` or a code."""
    numbers, timing = state.numbers, state.timing
    return check_receive(amount, total, total, expiry, numbers.final_cltv_delta, timing.height)


@kernel
def settle_hop(state: State, used: Int32Array, amounts: Int64Array, hop: int, hops: int) -> None:
    """The preimage comes back over one hop of a route, and everyone counts what they earned."""
    edge, amount = used[hop], amounts[hop]
    settle_htlc(state.liquidity, edge, amount)
    flows = state.flows
    if hop == 0:
        flows[edge, SENT] += amount
    else:
        flows[edge, FORWARDED_OUT] += amount
        flows[edge, FEES_EARNED] += amounts[hop - 1] - amount
        flows[edge, FORWARDS] += 1
    if hop == hops - 1:
        flows[edge ^ 1, RECEIVED] += amount
    else:
        flows[edge ^ 1, FORWARDED_IN] += amount


@kernel
def fail_hop(state: State, used: Int32Array, amounts: Int64Array, hop: int) -> None:
    """A failure comes back over one hop of a route."""
    fail_htlc(state.liquidity, used[hop], amounts[hop])
    if hop > 0:
        state.flows[used[hop], FAILED_FORWARDS] += 1


@kernel
def learn(
    state: State, sender: int, edges: Int32Array, failed_at: int, code: int, now: float
) -> None:
    """The sender takes over the policy that came with a failure, if one did."""
    if failed_at > 0 and code in _UPDATING:
        learn_update(state.gossip, sender, edges[failed_at], now)


@kernel
def reported_balances(liquidity: Liquidity, result: Int64Array) -> None:
    """Write `reported_balance` of every edge into `result`."""
    for edge in range(len(result)):
        result[edge] = reported_balance(liquidity, edge)
