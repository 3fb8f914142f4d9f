"""How likely a sender thinks it is that a channel forwards: LND's two estimators.

`load_sender` of `lnagents.twin.memory` comes first. Amounts and capacities are msat, times
seconds. Floating-point operations are in LND's order, because a route's distance is cut to an
integer, and many of these probabilities make it come out at an integer's edge.
"""

from __future__ import annotations

import math

import numpy as np

from lnagents.model.kernel import inlined, kernel
from lnagents.twin.memory import (
    FAILURE,
    FAILURE_WEIGHT,
    FIRST_PAIR,
    NEVER,
    NEXT_PAIR,
    NOBODY,
    SUCCESS,
    SUCCESSES,
    SUMMED_AT,
    Memory,
    find_pair,
    is_result,
)
from lnagents.twin.settings import Estimator, SenderNumbers

KNOWN_GOOD = 0.95
"""Of a pair that carried at least the amount before (`prevSuccessProbability`)."""

_BIMODAL = int(Estimator.BIMODAL)

_SMEARING = 0.025
"""Share of the capacity over which the capacity factor falls (`capacitySmearingFraction`)."""
_LEAST_FACTOR = 0.5
"""`minCapacityFactor`."""
_ONE_BEYOND = 37.0
"""From so many smearings below the cut-off on, 1 - 0.5 / (1 + e^x) is 1 in a double."""
_NO_BOUND = int(np.iinfo(np.int64).max)


@inlined
def edge_probability(
    memory: Memory,
    numbers: SenderNumbers,
    sender: int,
    from_node: int,
    to_node: int,
    amount: int,
    capacity: int,
    now: float,
) -> float:
    """What the loaded `sender` thinks of sending `amount` from one node to the next.

    Args:
        memory: with the results of `sender` loaded.
        numbers: of the sender's settings.
        sender: whose own channels are believed to work, whatever the amount.
        from_node: the source of the channel.
        to_node: its target.
        amount: msat of the HTLC.
        capacity: msat; 0 if nothing is known about it.
        now: seconds.

    Returns:
        0 to 1.
    """
    group = memory.node_group[from_node]
    if numbers.estimator == _BIMODAL:
        if from_node == sender:
            return _bimodal_own(memory, numbers, group, to_node, now)
        return _bimodal(memory, numbers, group, to_node, amount, capacity, now)
    if from_node == sender:
        return _recovering(memory, numbers, group, to_node, _NO_BOUND, now, KNOWN_GOOD)
    untried = untried_probability(numbers, amount, capacity)
    if group == NOBODY:
        return untried
    return _recovering(
        memory,
        numbers,
        group,
        to_node,
        amount,
        now,
        _node_probability(memory, numbers, group, amount, now, untried),
    )


@kernel
def untried_probability(numbers: SenderNumbers, amount: int, capacity: int) -> float:
    """What the apriori estimator thinks of a channel of whose source nothing is known."""
    factor = capacity_factor(amount, capacity, numbers.capacity_fraction)
    return numbers.hop_probability * factor


@kernel
def capacity_factor(amount: int, capacity: int, fraction: float) -> float:
    """What takes amounts near a channel's capacity for less likely: 1 for small ones, 0 above."""
    if fraction == 1.0 or capacity == 0:
        return 1.0
    if amount > capacity:
        return 0.0
    cutoff = fraction * float(capacity)
    smearing = _SMEARING * float(capacity)
    exponent = -(float(amount) - cutoff) / smearing
    if exponent > _ONE_BEYOND:
        return 1.0
    return 1.0 - (1.0 - _LEAST_FACTOR) / (1.0 + math.exp(exponent))


@inlined
def _node_probability(
    memory: Memory, numbers: SenderNumbers, group: int, amount: int, now: float, untried: float
) -> float:
    """Mean of what a node's channels did with such amounts, and of `untried`."""
    if numbers.apriori_weight == 1.0:
        return untried
    summed_at = memory.group_sums[group, SUMMED_AT]
    if not (
        (summed_at == now or summed_at == np.inf)
        and memory.group_bounds[group, 0] < amount <= memory.group_bounds[group, 1]
    ):
        _sum_group(memory, numbers, group, amount, now)
    factor = 1.0 / (1.0 - numbers.apriori_weight) - 1.0
    total = untried * factor
    # One by one, because sums of rounded numbers depend on the order.
    for _ in range(int(memory.group_sums[group, SUCCESSES])):
        total += KNOWN_GOOD
    weight = factor + memory.group_sums[group, SUCCESSES] + memory.group_sums[group, FAILURE_WEIGHT]
    return float(total / weight)


@kernel
def _sum_group(memory: Memory, numbers: SenderNumbers, group: int, amount: int, now: float) -> None:
    """Count the successes and weigh the failures of a group, and keep them with their bounds."""
    above = -1
    up_to = _NO_BOUND
    successes = 0.0
    weight = 0.0
    summed_at = np.inf
    pair = memory.group_link[group, FIRST_PAIR]
    while pair != NOBODY:
        good = memory.pair_amount[pair, SUCCESS]
        if amount <= good:
            successes += 1.0
            up_to = min(up_to, good)
        else:
            above = max(above, good)
            bad = memory.pair_amount[pair, FAILURE]
            failed = memory.pair_time[pair, FAILURE]
            if failed != NEVER:
                if amount >= bad:
                    weight += _weight(now - failed, numbers.penalty_half_life)
                    above = max(above, bad - 1)
                    summed_at = now
                else:
                    up_to = min(up_to, bad - 1)
        pair = memory.pair_link[pair, NEXT_PAIR]
    memory.group_bounds[group, 0] = above
    memory.group_bounds[group, 1] = up_to
    memory.group_sums[group, SUMMED_AT] = summed_at
    memory.group_sums[group, SUCCESSES] = successes
    memory.group_sums[group, FAILURE_WEIGHT] = weight


@inlined
def _recovering(
    memory: Memory,
    numbers: SenderNumbers,
    group: int,
    to_node: int,
    amount: int,
    now: float,
    otherwise: float,
) -> float:
    """By the pair's own result, which after a failure returns to `otherwise` with time."""
    if group == NOBODY:
        return otherwise
    pair = find_pair(memory, group, to_node)
    if pair == NOBODY:
        return otherwise
    if amount <= memory.pair_amount[pair, SUCCESS]:
        return KNOWN_GOOD
    failed = memory.pair_time[pair, FAILURE]
    if failed == NEVER or amount < memory.pair_amount[pair, FAILURE]:
        return otherwise
    return otherwise * (1.0 - _weight(now - failed, numbers.penalty_half_life))


@kernel
def _weight(age: float, half_life: float) -> float:
    """What a failure of so many seconds ago counts: 1 when fresh, then half per half-life."""
    return math.pow(2.0, -(age / 3600.0) / (half_life / 3600.0))


@kernel
def _bimodal_own(
    memory: Memory, numbers: SenderNumbers, group: int, to_node: int, now: float
) -> float:
    """Own channels work, unless they just did not."""
    if group != NOBODY:
        pair = find_pair(memory, group, to_node)
        if pair != NOBODY and memory.pair_time[pair, FAILURE] != NEVER:
            age = max(now - memory.pair_time[pair, FAILURE], 0.0)
            return 1.0 - math.exp(-age / numbers.bimodal_decay_time)
    return 1.0


@kernel
def _bimodal(
    memory: Memory,
    numbers: SenderNumbers,
    group: int,
    to_node: int,
    amount: int,
    capacity: int,
    now: float,
) -> float:
    """By where the pair's liquidity may lie, and by what the node's other channels did."""
    decay = numbers.bimodal_decay_time
    if group == NOBODY:
        return bimodal_formula(numbers.bimodal_scale, capacity, 0, capacity, amount)
    can_send = 0
    cannot_send = capacity
    own = find_pair(memory, group, to_node)
    latest = NEVER
    if own != NOBODY and is_result(memory, own):
        failed = memory.pair_time[own, FAILURE]
        if failed != NEVER:
            bad = min(memory.pair_amount[own, FAILURE], capacity)
            share = math.exp(-(now - failed) / decay)
            cannot_send = capacity - int(share * float(capacity - bad))
        succeeded = memory.pair_time[own, SUCCESS]
        if succeeded != NEVER:
            share = math.exp(-(now - succeeded) / decay)
            can_send = int(share * float(memory.pair_amount[own, SUCCESS]))
        latest = max(failed, succeeded)
    direct = bimodal_formula(numbers.bimodal_scale, capacity, can_send, cannot_send, amount)
    if numbers.bimodal_node_weight == 0.0 or now - latest < decay:
        return direct
    total = direct
    weights = 1.0
    pair = memory.group_link[group, FIRST_PAIR]
    while pair != NOBODY:
        if pair != own:
            if memory.pair_amount[pair, SUCCESS] > 0:
                fresh = math.exp(-(now - memory.pair_time[pair, SUCCESS]) / decay)
                total += numbers.bimodal_node_weight * fresh
                weights += numbers.bimodal_node_weight * fresh
            if memory.pair_amount[pair, FAILURE] > 0:
                fresh = math.exp(-(now - memory.pair_time[pair, FAILURE]) / decay)
                weights += numbers.bimodal_node_weight * fresh
        pair = memory.pair_link[pair, NEXT_PAIR]
    return total / weights


@kernel
def bimodal_formula(
    scale: float, capacity: int, can_send: int, cannot_send: int, amount: int
) -> float:
    """That `amount` fits, if liquidity lies mostly at a channel's ends.

    LND's `probabilityFormula`: the share of the prior beyond `amount`, given that the liquidity is
    between `can_send` and `cannot_send` (all msat).
    """
    if capacity == 0 or amount > capacity:
        return 0.0
    whole = float(capacity)
    low = float(can_send)
    high = float(cannot_send)
    wanted = float(amount)
    if high <= low:
        low = 0.0
        high = whole
    if low >= whole:
        low = whole - 1.0
        high = whole
    high = min(high, whole)
    if wanted >= high:
        return 0.0
    if wanted <= low:
        return 1.0
    share = _prior(scale, whole, high) - _prior(scale, whole, wanted)
    possible = _prior(scale, whole, high) - _prior(scale, whole, low)
    if math.isnan(share) or math.isnan(possible) or possible == 0.0:
        return 0.0
    probability = share / possible
    # LND calls these errors, and an error is a channel not to try.
    if probability > 1.0 or probability < 0.0:
        return 0.0
    return probability


@kernel
def _prior(scale: float, capacity: float, amount: float) -> float:
    """Integral of the normalised prior e^(-x/s) + e^((x-c)/s) + 1/c from anywhere to `amount`."""
    norm = -2.0 * math.exp(-capacity / scale) + 2.0 + 1.0 / scale
    far = math.exp((amount - capacity) / scale)
    near = math.exp(-amount / scale)
    return (-near + far + amount / (capacity * scale)) / norm
