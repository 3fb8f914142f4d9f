"""Mission control: what a sender learns from the end of an attempt.

What a failure says about whom is LND's routing/result_interpretation.go; `report_failure` and
`report_success` write it to `lnagents.twin.memory`. Amounts are msat, times seconds.
"""

from __future__ import annotations

from lnagents.model.kernel import inlined, kernel
from lnagents.model.payment import FailureCode
from lnagents.twin.memory import (
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


@inlined
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
    noted = 0
    for hop in range(hops):
        noted = _note(memory, noted, channel_nodes, edges[hop], amounts[hop], True)
    _remember(memory, numbers, sender, noted, now)


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
        # Nothing that the route did (handleSwitchErr in routing/payment_lifecycle.go).
        return ERROR
    load_sender(memory, sender)
    if 0 < failed_at < hops and _is_policy_failure(code):
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
    node, first, end, short, arrived, reason = verdict(hops, failed_at, code)
    if node > 0:
        edge = edges[node - 1]
        fail_all(memory, sender, channel_nodes[edge >> 1, 1 - (edge & 1)], now)
    noted = 0
    for hop in range(first, end):
        noted = _note(memory, noted, channel_nodes, edges[hop], 0, False)
        noted = _note(memory, noted, channel_nodes, edges[hop] ^ 1, 0, False)
    if short > 0:
        noted = _note(memory, noted, channel_nodes, edges[short], amounts[short], False)
    for hop in range(arrived):
        noted = _note(memory, noted, channel_nodes, edges[hop], amounts[hop], True)
    _remember(memory, numbers, sender, noted, now)
    return reason


@kernel
def verdict(hops: int, failed_at: int, code: int) -> tuple[int, int, int, int, int, int]:
    """Who is to blame for a failure, by the positions on the route alone.

    Returns:
        node: index of the node of which every known channel failed; 0 for none.
        first, end: hops `first` to `end` (exclusive) failed in both directions for any amount.
        short: the hop that failed for its amount and above, in one direction; 0 for none.
        arrived: the hops before this one carried their amounts.
        reason: `GO_ON`, or why the payment has failed.
    """
    if code == _UNREADABLE:
        if hops == 1:
            return _node_failed(hops, 1, 0, ERROR)
        return 0, 0, hops, 0, 0, GO_ON
    if failed_at == 0:
        if code in (_ONION_VERSION, _ONION_HMAC, _ONION_KEY):
            # The peer says so of an onion that was made well.
            return _node_failed(hops, 1, 0, ERROR if hops == 1 else GO_ON)
        return 0, 0, 0, 0, 0, GO_ON
    if failed_at == hops:
        return _verdict_on_receiver(hops, code)
    return _verdict_on_forwarder(hops, failed_at, code)


@kernel
def _verdict_on_receiver(hops: int, code: int) -> tuple[int, int, int, int, int, int]:
    if code in (_FINAL_EXPIRY, _FINAL_AMOUNT):
        if hops == 1:
            return _node_failed(hops, 1, 0, ERROR)
        # The last forwarder may have changed it.
        return 0, hops - 1, hops, 0, hops - 1, GO_ON
    if code in (_DETAILS, _WRONG_AMOUNT):
        return 0, 0, 0, 0, hops, INCORRECT_PAYMENT_DETAILS
    if code == _FINAL_TOO_SOON:
        return 0, 0, 0, 0, 0, INCORRECT_PAYMENT_DETAILS
    if code == _MPP_TIMEOUT:
        return 0, 0, 0, 0, hops, GO_ON
    return _node_failed(hops, hops, hops - 1, ERROR)


@kernel
def _verdict_on_forwarder(
    hops: int, failed_at: int, code: int
) -> tuple[int, int, int, int, int, int]:
    if code == _TEMPORARY:
        return 0, 0, 0, failed_at, failed_at, GO_ON
    if code in (_ONION_VERSION, _ONION_HMAC, _ONION_KEY, _UNKNOWN_NEXT, _PERMANENT):
        return 0, failed_at, failed_at + 1, 0, 0, GO_ON
    if code == _DISABLED:
        return 0, failed_at, failed_at + 1, 0, failed_at, GO_ON
    if _is_policy_failure(code) and failed_at > 1:
        # Either the forwarder lies, or the one before it sent something else than asked.
        return 0, failed_at - 1, failed_at, 0, failed_at - 1, GO_ON
    if code == _TOO_SOON and failed_at > 1:
        return 0, 0, failed_at, 0, 0, GO_ON
    if code in (_ONION_PAYLOAD, _ONION_BLINDING):
        return _node_failed(hops, failed_at, failed_at - 1, GO_ON)
    # Of the first forwarder there is no doubt that it is to blame; all else should not happen.
    return _node_failed(hops, failed_at, 0, GO_ON)


@kernel
def _node_failed(
    hops: int, node: int, arrived: int, reason: int
) -> tuple[int, int, int, int, int, int]:
    """The node, and with it the hops into it and out of it."""
    return node, node - 1, min(node + 1, hops), 0, arrived, reason


@kernel
def _is_policy_failure(code: int) -> bool:
    """Whether the sender may have gone by a policy of yesterday."""
    return code in (_DISABLED, _BELOW_MINIMUM, _FEE_INSUFFICIENT, _INCORRECT_CLTV)


@inlined
def _note(
    memory: Memory, noted: int, channel_nodes: Int32Array, edge: int, amount: int, success: bool
) -> int:
    """Note one pair; a later note on the same pair replaces an earlier one, as in LND's map."""
    from_node = channel_nodes[edge >> 1, edge & 1]
    to_node = channel_nodes[edge >> 1, 1 - (edge & 1)]
    place = noted
    for earlier in range(noted):
        if memory.noted[earlier, 0] == from_node and memory.noted[earlier, 1] == to_node:
            place = earlier
            break
    memory.noted[place, 0] = from_node
    memory.noted[place, 1] = to_node
    memory.noted[place, 2] = amount
    memory.noted[place, 3] = success
    return max(noted, place + 1)


@inlined
def _remember(memory: Memory, numbers: SenderNumbers, sender: int, noted: int, now: float) -> None:
    """Apply what was noted to the results of the loaded sender."""
    for place in range(noted):
        pair = pair_of(memory, sender, memory.noted[place, 0], memory.noted[place, 1])
        if memory.noted[place, 3]:
            succeed(memory, pair, memory.noted[place, 2], now)
        else:
            fail(memory, numbers, pair, memory.noted[place, 2], now)
