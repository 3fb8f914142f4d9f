"""Mission control: what a sender learns from the end of an attempt.

What a failure says about whom is LND's routing/result_interpretation.go; `report_failure` and
`report_success` write it to `lnagents.twin.memory`. Amounts are msat, times seconds.
"""

from __future__ import annotations

from lnagents.model.payment import FailureCode
from lnagents.twin.kernel import kernel
from lnagents.twin.memory import (
    NOBODY,
    Memory,
    fail,
    fail_all,
    load_sender,
    pair_of,
    pardon,
    succeed,
)
from lnagents.twin.network import Int32Array, Int64Array
from lnagents.twin.settings import SenderNumbers
from lnagents.twin.traffic import ERROR, INCORRECT_PAYMENT_DETAILS

GO_ON = 0
"""No reason to end the payment."""

_DETAILS = int(FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS)
_WRONG_AMOUNT = int(FailureCode.INCORRECT_PAYMENT_AMOUNT)
_FINAL_EXPIRY = int(FailureCode.FINAL_INCORRECT_CLTV_EXPIRY)
_FINAL_AMOUNT = int(FailureCode.FINAL_INCORRECT_HTLC_AMOUNT)
_FINAL_TOO_SOON = int(FailureCode.FINAL_EXPIRY_TOO_SOON)
_TOO_SOON = int(FailureCode.EXPIRY_TOO_SOON)
_ONION_VERSION = int(FailureCode.INVALID_ONION_VERSION)
_ONION_HMAC = int(FailureCode.INVALID_ONION_HMAC)
_ONION_KEY = int(FailureCode.INVALID_ONION_KEY)
_ONION_PAYLOAD = int(FailureCode.INVALID_ONION_PAYLOAD)
_ONION_BLINDING = int(FailureCode.INVALID_ONION_BLINDING)
_BELOW_MINIMUM = int(FailureCode.AMOUNT_BELOW_MINIMUM)
_FEE_INSUFFICIENT = int(FailureCode.FEE_INSUFFICIENT)
_INCORRECT_CLTV = int(FailureCode.INCORRECT_CLTV_EXPIRY)
_DISABLED = int(FailureCode.CHANNEL_DISABLED)
_TEMPORARY = int(FailureCode.TEMPORARY_CHANNEL_FAILURE)
_UNKNOWN_NEXT = int(FailureCode.UNKNOWN_NEXT_PEER)
_PERMANENT = int(FailureCode.PERMANENT_CHANNEL_FAILURE)
_MPP_TIMEOUT = int(FailureCode.MPP_TIMEOUT)
_INTERNAL = int(FailureCode.INTERNAL_FAILURE)
_UNREADABLE = int(FailureCode.UNREADABLE_FAILURE)


@kernel
def report_success(
    memory: Memory,
    numbers: SenderNumbers,
    channel_nodes: Int32Array,
    sender: int,
    edges: Int32Array,
    amounts: Int64Array,
    hops: int,
    now: float,
) -> None:
    """An attempt of `sender` arrived: every pair on its route can carry its amount.

    Args:
        memory: what the sender will remember it in.
        numbers: of the sender's settings.
        channel_nodes: of the network.
        sender: the first edge's source.
        edges: of the route, the first `hops` elements count.
        amounts: of the HTLC on each edge, msat.
        hops: how many edges the route has.
        now: seconds.
    """
    load_sender(memory, sender)
    found = _note_successes(memory, 0, channel_nodes, edges, amounts, hops)
    _remember(memory, numbers, sender, found, now)


@kernel
def report_failure(
    memory: Memory,
    numbers: SenderNumbers,
    channel_nodes: Int32Array,
    sender: int,
    edges: Int32Array,
    amounts: Int64Array,
    hops: int,
    failed_at: int,
    code: int,
    now: float,
) -> int:
    """An attempt of `sender` failed: remember who is to blame, and say whether to go on.

    Args:
        memory: what the sender will remember it in.
        numbers: of the sender's settings.
        channel_nodes: of the network.
        sender: the first edge's source.
        edges: of the route, the first `hops` elements count.
        amounts: of the HTLC on each edge, msat.
        hops: how many edges the route has.
        failed_at: index on the route of the node that refused, 0 for the sender.
        code: `lnagents.model.payment.FailureCode`.
        now: seconds.

    Returns:
        `GO_ON`, or the reason (see `lnagents.twin.traffic`) for which the payment has failed.
    """
    if code == _INTERNAL:
        # Not a failure of the route (payment_lifecycle.go, handleSwitchErr).
        return ERROR
    load_sender(memory, sender)
    if code == _UNREADABLE:
        blamed, found, reason = _interpret_unknown(memory, channel_nodes, edges, hops)
    elif failed_at == 0:
        blamed, found, reason = _interpret_own(memory, channel_nodes, edges, hops, code)
    elif failed_at == hops:
        blamed, found, reason = _interpret_final(memory, channel_nodes, edges, amounts, hops, code)
    else:
        if code in (_DISABLED, _BELOW_MINIMUM, _FEE_INSUFFICIENT, _INCORRECT_CLTV):
            edge = edges[failed_at]
            if pardon(
                memory,
                numbers,
                sender,
                channel_nodes[edge >> 1, edge & 1],
                channel_nodes[edge >> 1, 1 - (edge & 1)],
                now,
            ):
                return GO_ON
        blamed, found, reason = _interpret_forwarder(
            memory, channel_nodes, edges, amounts, hops, failed_at, code
        )
    if blamed != NOBODY:
        fail_all(memory, sender, blamed, now)
    _remember(memory, numbers, sender, found, now)
    return reason


@kernel
def _interpret_unknown(
    memory: Memory, channel_nodes: Int32Array, edges: Int32Array, hops: int
) -> tuple[int, int, int]:
    """Nobody knows who failed; returns the node to blame, how many pairs were noted, the reason."""
    if hops == 1:
        found = _note_node(memory, 0, channel_nodes, edges, hops, hops)
        return _node_at(channel_nodes, edges, hops), found, ERROR
    return NOBODY, _note_failures(memory, 0, channel_nodes, edges, 0, hops), GO_ON


@kernel
def _interpret_own(
    memory: Memory, channel_nodes: Int32Array, edges: Int32Array, hops: int, code: int
) -> tuple[int, int, int]:
    """The sender's own node refused."""
    if code in (_ONION_VERSION, _ONION_HMAC, _ONION_KEY):
        # The peer says so of an onion that we made well.
        found = _note_node(memory, 0, channel_nodes, edges, hops, 1)
        return _node_at(channel_nodes, edges, 1), found, ERROR if hops == 1 else GO_ON
    return NOBODY, 0, GO_ON


@kernel
def _interpret_final(
    memory: Memory,
    channel_nodes: Int32Array,
    edges: Int32Array,
    amounts: Int64Array,
    hops: int,
    code: int,
) -> tuple[int, int, int]:
    """The receiver refused."""
    if (code in (_FINAL_EXPIRY, _FINAL_AMOUNT)) and hops > 1:
        found = _note_failures(memory, 0, channel_nodes, edges, hops - 1, hops)
        found = _note_successes(memory, found, channel_nodes, edges, amounts, hops - 1)
        return NOBODY, found, GO_ON
    if code in (_DETAILS, _WRONG_AMOUNT):
        found = _note_successes(memory, 0, channel_nodes, edges, amounts, hops)
        return NOBODY, found, INCORRECT_PAYMENT_DETAILS
    if code == _FINAL_TOO_SOON:
        return NOBODY, 0, INCORRECT_PAYMENT_DETAILS
    if code == _MPP_TIMEOUT:
        found = _note_successes(memory, 0, channel_nodes, edges, amounts, hops)
        return NOBODY, found, GO_ON
    found = _note_node(memory, 0, channel_nodes, edges, hops, hops)
    found = _note_successes(memory, found, channel_nodes, edges, amounts, hops - 1)
    return _node_at(channel_nodes, edges, hops), found, ERROR


@kernel
def _interpret_forwarder(
    memory: Memory,
    channel_nodes: Int32Array,
    edges: Int32Array,
    amounts: Int64Array,
    hops: int,
    failed_at: int,
    code: int,
) -> tuple[int, int, int]:
    """A node between sender and receiver refused."""
    if code == _TEMPORARY:
        found = _note(memory, 0, channel_nodes, edges[failed_at], amounts[failed_at], 0)
        found = _note_successes(memory, found, channel_nodes, edges, amounts, failed_at)
        return NOBODY, found, GO_ON
    if code in (_ONION_VERSION, _ONION_HMAC, _ONION_KEY, _UNKNOWN_NEXT, _PERMANENT, _DISABLED):
        found = _note_failures(memory, 0, channel_nodes, edges, failed_at, failed_at + 1)
        if code == _DISABLED:
            found = _note_successes(memory, found, channel_nodes, edges, amounts, failed_at)
        return NOBODY, found, GO_ON
    incoming = code in (_BELOW_MINIMUM, _FEE_INSUFFICIENT, _INCORRECT_CLTV)
    if failed_at > 1 and incoming:
        found = _note_failures(memory, 0, channel_nodes, edges, failed_at - 1, failed_at)
        found = _note_successes(memory, found, channel_nodes, edges, amounts, failed_at - 1)
        return NOBODY, found, GO_ON
    if failed_at > 1 and code == _TOO_SOON:
        return NOBODY, _note_failures(memory, 0, channel_nodes, edges, 0, failed_at), GO_ON
    # Of the first forwarder there is no doubt who is to blame, and all else should not happen.
    found = _note_node(memory, 0, channel_nodes, edges, hops, failed_at)
    if code in (_ONION_PAYLOAD, _ONION_BLINDING):
        found = _note_successes(memory, found, channel_nodes, edges, amounts, failed_at - 1)
    return _node_at(channel_nodes, edges, failed_at), found, GO_ON


@kernel
def _node_at(channel_nodes: Int32Array, edges: Int32Array, index: int) -> int:
    """The node of a route by its index, from 1."""
    edge = edges[index - 1]
    return int(channel_nodes[edge >> 1, 1 - (edge & 1)])


@kernel
def _note(
    memory: Memory, found: int, channel_nodes: Int32Array, edge: int, amount: int, success: int
) -> int:
    """Note one pair; a later note on the same pair replaces an earlier one, as in LND's map."""
    from_node = channel_nodes[edge >> 1, edge & 1]
    to_node = channel_nodes[edge >> 1, 1 - (edge & 1)]
    place = found
    for earlier in range(found):
        if (
            memory.interpreted[earlier, 0] == from_node
            and memory.interpreted[earlier, 1] == to_node
        ):
            place = earlier
            break
    memory.interpreted[place, 0] = from_node
    memory.interpreted[place, 1] = to_node
    memory.interpreted[place, 2] = success
    memory.interpreted_amount[place] = amount
    return max(found, place + 1)


@kernel
def _note_failures(
    memory: Memory, found: int, channel_nodes: Int32Array, edges: Int32Array, first: int, end: int
) -> int:
    """Hops `first` to `end` (exclusive) failed for any amount, in both directions."""
    for hop in range(first, end):
        found = _note(memory, found, channel_nodes, edges[hop], 0, 0)
        found = _note(memory, found, channel_nodes, edges[hop] ^ 1, 0, 0)
    return found


@kernel
def _note_node(
    memory: Memory, found: int, channel_nodes: Int32Array, edges: Int32Array, hops: int, index: int
) -> int:
    """The node at `index` failed: so did the hops into it and out of it."""
    return _note_failures(memory, found, channel_nodes, edges, index - 1, min(index + 1, hops))


@kernel
def _note_successes(
    memory: Memory,
    found: int,
    channel_nodes: Int32Array,
    edges: Int32Array,
    amounts: Int64Array,
    end: int,
) -> int:
    """The hops before `end` carried their amounts."""
    for hop in range(end):
        found = _note(memory, found, channel_nodes, edges[hop], amounts[hop], 1)
    return found


@kernel
def _remember(memory: Memory, numbers: SenderNumbers, sender: int, found: int, now: float) -> None:
    """Apply what was noted to the results of the loaded sender."""
    for place in range(found):
        pair = pair_of(memory, sender, memory.interpreted[place, 0], memory.interpreted[place, 1])
        amount = memory.interpreted_amount[place]
        if memory.interpreted[place, 2] == 1:
            succeed(memory, pair, amount, now)
        else:
            fail(memory, numbers, pair, amount, now)
