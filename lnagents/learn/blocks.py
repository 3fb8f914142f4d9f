"""Through actor and critic and back again, block by block: the compiled half of `sweep`.

Products of matrices are left to BLAS, so few rows at a time that it takes them as they lie, without
making copies first (`sweep.block_rows`). What comes between two products is one loop over numbers
that are in the processor's cache (`block_loops`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lnagents.learn.block_loops import (
    ZERO,
    Int64Array,
    add_up,
    collect,
    copy,
    hand_out,
    pass_on,
    pool,
    rectify,
    shift,
    sum_up,
    turn,
    unpool,
)
from lnagents.learn.experience import FloatArray
from lnagents.model.kernel import counting, kernel

_HALF, _ONE = np.float32(0.5), np.float32(1.0)


class Layer(NamedTuple):
    """A linear layer, its gradient, or room for what one block adds to that."""

    weight: FloatArray
    """[outputs, inputs]."""
    bias: FloatArray


class Encoder(NamedTuple):
    """Likewise, a `SetEncoder` of rows."""

    first: Layer
    second: Layer
    whole: Layer


class Actor(NamedTuple):
    """Likewise, a `ChannelActor`."""

    encoder: Encoder
    head: Layer
    last: Layer
    log_deviation: FloatArray


class Critic(NamedTuple):
    """Likewise, a `ChannelCritic`."""

    encoder: Encoder
    last: Layer


class Told(NamedTuple):
    """What actor and critic are judged by; rows and sets are in their layout's order."""

    blocks: Int64Array
    """[blocks + 1, 3], the first run, row and set of each, and where the last one ends."""
    runs: Int64Array
    """[runs, 4], the first row and set of each in its block, how many sets, rows of each set."""
    values: FloatArray
    """[rows, row features]."""
    pooled: FloatArray
    """[sets, 2 * hidden + whole features], room for mean and maximum of rows, and what is whole."""
    share: FloatArray
    """[sets], what one row is of the mean over its set."""
    sample: FloatArray
    """[actions, rows], before the bound."""
    log_prob: FloatArray
    """[rows], when it was drawn."""
    advantages: FloatArray
    """[rows]."""
    acted: FloatArray
    """[rows], 1 for decisions that the actor learns from, else 0."""
    targets: FloatArray
    """[sets]."""
    judged: FloatArray
    """[sets], 1 for values that the critic learns from, else 0."""


class Turned(NamedTuple):
    """Weights as products take them quickest, of the one of actor and critic whose turn it is."""

    first: FloatArray
    """[inputs, outputs], as the next two."""
    second: FloatArray
    whole: FloatArray
    means: FloatArray
    """[outputs, inputs], the part of `whole` that is for the rows' mean."""
    tops: FloatArray
    """[outputs, inputs], that for their maximum."""
    from_rows: FloatArray
    """[inputs, outputs], the part of the head that is for a row."""
    from_sets: FloatArray
    """[inputs, outputs], that for its set."""
    to_rows: FloatArray
    """[outputs, inputs], the same part as `from_rows`."""
    to_sets: FloatArray
    """[outputs, inputs], the same part as `from_sets`."""
    last: FloatArray
    """[inputs, outputs] of the actor's."""


class Room(NamedTuple):
    """For what is computed of one block."""

    turned: Turned
    parts: Actor
    """What it adds to gradients: of the actor or the critic, the head's for half of its inputs."""
    first: FloatArray
    """[rows, hidden], after the first layer of the rows."""
    second: FloatArray
    """[rows, hidden], after the second one."""
    hidden: FloatArray
    """[rows, hidden], in the actor's head."""
    of_second: FloatArray
    """[rows, hidden]."""
    of_hidden: FloatArray
    """[rows, hidden]; then of `first`."""
    mean: FloatArray
    """[rows, actions]."""
    of_mean: FloatArray
    """[actions * rows]."""
    log_ratio: FloatArray
    """[rows]."""
    of_ratio: FloatArray
    """[rows], the ratio; then its gradient."""
    total: FloatArray
    """[sets, hidden], the sum of the rows; then the gradient of each of them for its part in it."""
    top: FloatArray
    """[sets, hidden], their maximum."""
    of_top: FloatArray
    """[sets, hidden]."""
    context: FloatArray
    """[sets, hidden]."""
    of_context: FloatArray
    """[sets, hidden]."""
    common: FloatArray
    """[sets, hidden], the context's part in the actor's head; then its gradient."""
    value: FloatArray
    """[sets, 1], what the critic says; then its gradient."""


class Terms(NamedTuple):
    """Numbers in the loss."""

    clip: float
    """See `lnagents.learn.ppo.clipped_objective`."""
    value_weight: float
    """Of the critic's loss."""
    entropy_weight: float
    """Of the exploration's entropy."""
    least: float
    """Of the logarithm of the actor's deviation, as the next one."""
    most: float
    acted: float
    """Decisions that the actor learns from, at least 1."""
    judged: float
    """Values that the critic learns from, at least 1."""


@counting
def act(told: Told, actor: Actor, of_actor: Actor, room: Room, terms: Terms) -> float:
    """Add the actor's gradients to `of_actor`; the sum of how far it is from when it decided."""
    turned, parts, width = room.turned, room.parts, room.first.shape[1]
    for_rows, for_sets = of_actor.head.weight[:, :width], of_actor.head.weight[:, width:]
    _turn_encoder(actor.encoder, turned)
    turn(actor.head.weight[:, :width], turned.from_rows)
    turn(actor.head.weight[:, width:], turned.from_sets)
    copy(actor.head.weight[:, :width], turned.to_rows)
    copy(actor.head.weight[:, width:], turned.to_sets)
    turn(actor.last.weight, turned.last)
    away = 0.0
    for block in range(len(told.blocks) - 1):
        begin, end = told.blocks[block], told.blocks[block + 1]
        runs, rows, sets = told.runs[begin[0] : end[0]], end[1] - begin[1], end[2] - begin[2]
        second, hidden, of_hidden = room.second[:rows], room.hidden[:rows], room.of_hidden[:rows]
        context, common, mean = room.context[:sets], room.common[:sets], room.mean[:rows]
        of_mean = room.of_mean[: mean.size].reshape(-1, rows)
        _encode(told, begin, end, actor.encoder, room)
        np.dot(context, turned.from_sets, common)
        shift(common, actor.head.bias)
        np.dot(second, turned.from_rows, hidden)
        hand_out(runs, common, hidden)
        np.dot(hidden, turned.last, mean)
        away += _weigh(told, begin[1], actor, of_actor, mean, of_mean, room, terms)
        # And back again.
        np.dot(of_mean, hidden, parts.last.weight)
        add_up(parts.last.weight, of_actor.last.weight)
        np.dot(of_mean.T, actor.last.weight, of_hidden)
        collect(runs, hidden, of_hidden, common)
        np.dot(of_hidden.T, second, parts.head.weight)
        add_up(parts.head.weight, for_rows)
        np.dot(common.T, context, parts.head.weight)
        add_up(parts.head.weight, for_sets)
        sum_up(common, of_actor.head.bias)
        np.dot(common, turned.to_sets, room.of_context[:sets])
        np.dot(of_hidden, turned.to_rows, room.of_second[:rows])
        _decode(told, begin, end, actor.encoder, of_actor.encoder, room, True)
    least, most = np.float32(terms.least), np.float32(terms.most)
    for action in range(len(actor.log_deviation)):
        free = least <= actor.log_deviation[action] <= most
        steered = of_actor.log_deviation[action] - np.float32(terms.entropy_weight)
        of_actor.log_deviation[action] = steered if free else ZERO
    return away


@counting
def judge(told: Told, critic: Critic, of_critic: Critic, room: Room, terms: Terms) -> float:
    """Add the critic's gradients to `of_critic`; the sum of its squared errors."""
    _turn_encoder(critic.encoder, room.turned)
    last, of_last = critic.last.weight.reshape(-1), of_critic.last.weight.reshape(-1)
    scale = np.float32(2.0 * terms.value_weight / terms.judged)
    loss = 0.0
    for block in range(len(told.blocks) - 1):
        begin, end = told.blocks[block], told.blocks[block + 1]
        sets = end[2] - begin[2]
        context, of_context, value = room.context[:sets], room.of_context[:sets], room.value[:sets]
        _encode(told, begin, end, critic.encoder, room)
        np.dot(context, last.reshape(-1, 1), value)
        targets, judged = told.targets[begin[2] : end[2]], told.judged[begin[2] : end[2]]
        for place in range(sets):
            missed = (value[place, 0] + critic.last.bias[0] - targets[place]) * judged[place]
            loss += missed * missed
            of_value = missed * scale
            of_critic.last.bias[0] += of_value
            for column in range(len(last)):
                of_last[column] += of_value * context[place, column]
                of_context[place, column] = of_value * last[column]
        _decode(told, begin, end, critic.encoder, of_critic.encoder, room, False)
    return loss


@counting
def _encode(told: Told, begin: Int64Array, end: Int64Array, encoder: Encoder, room: Room) -> None:
    """From rows to `second`, `pooled` and `context`."""
    turned, width = room.turned, room.first.shape[1]
    runs, rows, sets = told.runs[begin[0] : end[0]], end[1] - begin[1], end[2] - begin[2]
    first, second, context = room.first[:rows], room.second[:rows], room.context[:sets]
    total, top, pooled = room.total[:sets], room.top[:sets], told.pooled[begin[2] : end[2]]
    np.dot(told.values[begin[1] : end[1]], turned.first, first)
    rectify(first, encoder.first.bias)
    np.dot(first, turned.second, second)
    rectify(second, encoder.second.bias)
    pool(runs, second, total, top)
    for place in range(sets):
        share = told.share[begin[2] + place]
        for column in range(width):
            pooled[place, column] = total[place, column] * share
            pooled[place, width + column] = top[place, column]
    np.dot(pooled, turned.whole, context)
    rectify(context, encoder.whole.bias)


@counting
def _decode(
    told: Told,
    begin: Int64Array,
    end: Int64Array,
    encoder: Encoder,
    of_encoder: Encoder,
    room: Room,
    steered: bool,
) -> None:
    """From the gradient of `context`, and that of `second` if it is `steered`, to the weights'."""
    turned, parts, width = room.turned, room.parts.encoder, room.first.shape[1]
    runs, rows, sets = told.runs[begin[0] : end[0]], end[1] - begin[1], end[2] - begin[2]
    first, second, of_second = room.first[:rows], room.second[:rows], room.of_second[:rows]
    context, of_context, of_first = (
        room.context[:sets],
        room.of_context[:sets],
        room.of_hidden[:rows],
    )
    of_total, top, of_top = room.total[:sets], room.top[:sets], room.of_top[:sets]
    values, pooled = told.values[begin[1] : end[1]], told.pooled[begin[2] : end[2]]
    pass_on(context, of_context)
    np.dot(of_context.T, pooled, parts.whole.weight)
    _learn(of_context, parts.whole, of_encoder.whole)
    np.dot(of_context, turned.means, of_total)
    np.dot(of_context, turned.tops, of_top)
    for place in range(sets):
        share = told.share[begin[2] + place]
        for column in range(width):
            of_total[place, column] *= share
    unpool(runs, second, of_second, top, of_total, of_top, steered)
    np.dot(of_second.T, first, parts.second.weight)
    _learn(of_second, parts.second, of_encoder.second)
    np.dot(of_second, encoder.second.weight, of_first)
    pass_on(first, of_first)
    np.dot(of_first.T, values, parts.first.weight)
    _learn(of_first, parts.first, of_encoder.first)


@kernel
def _weigh(
    told: Told,
    begin: int,
    actor: Actor,
    of_actor: Actor,
    mean: FloatArray,
    of_mean: FloatArray,
    room: Room,
    terms: Terms,
) -> float:
    """From the last layer's products to the gradients of means, and of deviations.

    Args:
        told: from `begin` on.
        begin: the block's first row.
        actor: whose exploration it is.
        of_actor: is given the gradients of the last layer's bias and of the deviations.
        mean: [rows, actions], without the bias.
        of_mean: [actions, rows].
        room: of the same block.
        terms: of the loss.
    """
    rows, actions = mean.shape
    here = slice(begin, begin + rows)
    log_ratio, of_ratio = room.log_ratio[:rows], room.of_ratio[:rows]
    log_prob, advantages, acted = told.log_prob[here], told.advantages[here], told.acted[here]
    lowest, highest = np.float32(terms.least), np.float32(terms.most)
    for row in range(rows):
        log_ratio[row] = -log_prob[row]
    for action in range(actions):
        bounded = min(max(actor.log_deviation[action], lowest), highest)
        precision, bias = np.float32(math.exp(-bounded)), actor.last.bias[action]
        constant = np.float32(bounded + 0.5 * math.log(2.0 * math.pi))
        sample, scaled = told.sample[action, here], of_mean[action]
        for row in range(rows):
            away = (sample[row] - (mean[row, action] + bias)) * precision
            scaled[row] = away
            log_ratio[row] -= _HALF * away * away + constant
    # How much likelier decisions are now than they were. In double precision, so that the small
    # difference between two large numbers is one.
    moved = 0.0
    for row in range(rows):
        exponent = np.float64(log_ratio[row] * acted[row])
        likelier = math.exp(exponent)
        moved += (likelier - 1.0 - exponent) * acted[row]
        of_ratio[row] = likelier
    # Where the clipped objective is the smaller one, nothing is gained by moving on.
    least, most = np.float32(1.0 - terms.clip), np.float32(1.0 + terms.clip)
    part = np.float32(-1.0 / terms.acted)
    for row in range(rows):
        ratio = of_ratio[row]
        trusted = ratio if ratio > least else least
        trusted = trusted if trusted < most else most
        worth = ratio * advantages[row]
        of_ratio[row] = worth * part * acted[row] if worth <= trusted * advantages[row] else ZERO
    for action in range(actions):
        bounded = min(max(actor.log_deviation[action], lowest), highest)
        precision, scaled = np.float32(math.exp(-bounded)), of_mean[action]
        steered = shifted = ZERO
        for row in range(rows):
            away = scaled[row]
            steered += (away * away - _ONE) * of_ratio[row]
            scaled[row] = away * precision * of_ratio[row]
            shifted += scaled[row]
        of_actor.log_deviation[action] += steered
        of_actor.last.bias[action] += shifted
    return moved


@kernel
def _turn_encoder(encoder: Encoder, turned: Turned) -> None:
    width = len(encoder.whole.bias)
    turn(encoder.first.weight, turned.first)
    turn(encoder.second.weight, turned.second)
    turn(encoder.whole.weight, turned.whole)
    copy(encoder.whole.weight[:, :width], turned.means)
    copy(encoder.whole.weight[:, width : 2 * width], turned.tops)


@kernel
def _learn(of_outputs: FloatArray, part: Layer, of_layer: Layer) -> None:
    """Add to a layer's gradient what a block has to say."""
    add_up(part.weight, of_layer.weight)
    sum_up(of_outputs, of_layer.bias)
