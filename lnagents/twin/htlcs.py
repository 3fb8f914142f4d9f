"""What one HTLC does at one node: set out, go on, arrive, come back; and what nodes count of it.

Nothing here knows about time or about payments in several parts.
"""

from __future__ import annotations

from lnagents.model.kernel import inlined, kernel
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
from lnagents.twin.network import Int64Array
from lnagents.twin.state import (
    FAILED_FORWARDS,
    FEES_EARNED,
    FORWARDED_IN,
    FORWARDED_OUT,
    FORWARDS,
    RECEIVED,
    SENT,
    Switch,
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

OWN = -1
"""Instead of an amount: nothing came in, the node is the sender."""


@inlined
def set_out(switch: Switch, edge: int, amount: int, expiry: int) -> int:
    """The edge's source sends an HTLC of its own: `ACCEPTED`, or a code and nothing was sent."""
    if switch.down[switch.edge_target[edge]]:
        return _NO_PEER
    code = check_send(switch.liquidity, switch.policy, edge, amount, expiry, switch.height)
    if code == ACCEPTED:
        add_htlc(switch.liquidity, edge, amount)
    return code


@inlined
def go_on(switch: Switch, request: ForwardRequest, priority: bool) -> tuple[int, int]:
    """The node between two edges forwards an HTLC, or refuses to.

    Returns:
        `ACCEPTED` and the edge by which it went on; or a code and the edge that was asked for.
    """
    liquidity = switch.liquidity
    edge = request.edge_out
    if switch.down[switch.edge_target[edge]]:
        code = _NO_PEER
    else:
        chance = 0.0 if liquidity.parallel[edge] == edge else draw(switch.random)
        code, edge, _ = check_forward(liquidity, switch.policy, request, switch.height, chance)
        if code == ACCEPTED and not priority and not _admits(switch, edge, request.amount_out):
            code = _CHANNEL
    if code == ACCEPTED:
        add_htlc(liquidity, edge, request.amount_out)
        return ACCEPTED, edge
    switch.flows[request.edge_out, FAILED_FORWARDS] += 1
    return code, request.edge_out


@inlined
def _admits(switch: Switch, edge: int, amount: int) -> bool:
    """Whether enough stays free for payments with priority if the HTLC goes out over the edge."""
    share = switch.kept_free[edge]
    if share <= 0.0:
        return True
    liquidity = switch.liquidity
    slots = liquidity.terms[edge >> 1, MAX_HTLCS]
    left = slots - liquidity.pending[edge, COUNT] - 1
    free = bandwidth(liquidity, edge) - amount
    return bool(left >= share * slots and free >= share * switch.capacity[edge >> 1])


@inlined
def arrive(switch: Switch, amount: int, total: int, expiry: int) -> int:
    """The receiver of a payment of `total` msat gets an HTLC: `ACCEPTED` or a code."""
    return check_receive(amount, total, total, expiry, switch.final_cltv_delta, switch.height)


@inlined
def settle_hop(switch: Switch, edge: int, amount_in: int, amount: int, last: bool) -> None:
    """The preimage comes back over one edge, and both its ends count what they earned.

    Args:
        switch: of all nodes.
        edge: over which the HTLC of `amount` msat was.
        amount_in: msat that the edge's source got for sending it on; `OWN` if it is the sender.
        amount: msat.
        last: whether the edge's target is the receiver.
    """
    settle_htlc(switch.liquidity, edge, amount)
    flows = switch.flows
    if amount_in == OWN:
        flows[edge, SENT] += amount
    else:
        flows[edge, FORWARDED_OUT] += amount
        flows[edge, FEES_EARNED] += amount_in - amount
        flows[edge, FORWARDS] += 1
    flows[edge ^ 1, RECEIVED if last else FORWARDED_IN] += amount


@kernel
def fail_hop(switch: Switch, edge: int, amount: int, own: bool) -> None:
    """A failure comes back over one edge; `own`: its source is the sender."""
    fail_htlc(switch.liquidity, edge, amount)
    if not own:
        switch.flows[edge, FAILED_FORWARDS] += 1


@kernel
def brings_policy(code: int) -> bool:
    """Whether the policy in force comes along (`extractChannelUpdate` in routing/router.go)."""
    return code in _UPDATING


@kernel
def reported_balances(liquidity: Liquidity, result: Int64Array) -> None:
    """Write `reported_balance` of every edge into `result`."""
    for edge in range(len(result)):
        result[edge] = reported_balance(liquidity, edge)
