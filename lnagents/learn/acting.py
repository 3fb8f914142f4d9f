"""What actors decide for rows while nothing is learned: one compiled function in place of torch.

A team acts on few rows at a time, and to take them from one of torch's operations to the next takes
several times longer than the arithmetic. Numbers lie as [features, rows] here, so that a processor
works on several rows at once. What belongs to a row is added up in the order of the features,
whatever other rows there are: an agent decides bit for bit the same alone and among many.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lnagents.learn.experience import FloatArray
from lnagents.learn.networks import ChannelActor
from lnagents.model.kernel import direct, inlined, kernel

BLOCK_ROWS = 256
"""For so many rows with padding there is room; sets are worked on in blocks that fit in there."""


class Weights(NamedTuple):
    """Of a `ChannelActor`: [outputs, inputs] and [outputs] of each layer."""

    first: FloatArray
    first_bias: FloatArray
    """Of a row alone; so is the second."""
    second: FloatArray
    second_bias: FloatArray
    whole: FloatArray
    whole_bias: FloatArray
    """Of mean and maximum of a set's rows, and of what belongs to the whole."""
    head: FloatArray
    head_bias: FloatArray
    """Of a row and its whole."""
    last: FloatArray
    last_bias: FloatArray
    """Gives the means."""


class Room(NamedTuple):
    """For what is computed on the way; a column for each row or set."""

    place: NDArray[np.int64]
    """[rows], where each is among the padded ones."""
    owner: NDArray[np.int64]
    """[rows], to which set each belongs."""
    begin: NDArray[np.int64]
    """[sets + 1], of the rows of each set."""
    given: FloatArray
    """[row features, rows]."""
    hidden: FloatArray
    """[hidden, rows]; so is `embedded`."""
    embedded: FloatArray
    wholes: FloatArray
    """[2 * hidden + whole features, sets]."""
    context: FloatArray
    """[hidden, sets]; so is `common`."""
    common: FloatArray
    means: FloatArray
    """[actions, rows]."""
    deviation: FloatArray
    """[actions]."""


class Acting:
    """A `ChannelActor` without copies, as it is at every moment: changes in place show."""

    def __init__(self, actor: ChannelActor) -> None:
        rows, whole, head = actor.encoder.rows, actor.encoder.whole, actor.head
        if rows is None or actor.encoder.stacked:
            raise ValueError("the actor has copies, or looks at no rows")
        self._actor = actor
        layers = (rows[0], rows[2], whole[0], head[0], head[2])
        self._weights = Weights(*(array for layer in layers for array in _arrays(layer)))
        self._log_deviation = actor.log_deviation.detach().numpy()
        self._padded, self._room = 0, _room(self._weights, 1, 0)

    def decide(
        self, rows: Tensor, whole: Tensor, mask: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What is drawn before the bound, and how likely that was.

        Args:
            rows: [..., rows, row features].
            whole: [..., whole features].
            mask: [..., rows], 1 for real rows, 0 for padding.
            noise: [..., rows, actions], standard normal; None: the means.

        Returns:
            [..., rows, actions] and log densities [..., rows], both 0 for padding.
        """
        sets, padded = mask.shape[:-1].numel(), mask.shape[-1]
        if padded != self._padded:
            most = max(1, BLOCK_ROWS // max(1, padded))
            self._padded, self._room = padded, _room(self._weights, most, padded)
        actions = len(self._weights.last)
        sample = np.zeros((*mask.shape, actions), np.float32)
        log_prob = np.zeros(mask.shape, np.float32)
        given = sample if noise is None else noise.contiguous().numpy()
        _decide(
            self._weights,
            self._log_deviation,
            self._actor.least,
            self._actor.most,
            self._room,
            rows.contiguous().numpy().reshape(sets * padded, rows.shape[-1]),
            whole.contiguous().numpy().reshape(sets, whole.shape[-1]),
            mask.contiguous().numpy().reshape(sets, padded),
            given.reshape(sets * padded, actions),
            sample.reshape(sets * padded, actions),
            log_prob.reshape(sets * padded),
        )
        return torch.from_numpy(sample), torch.from_numpy(log_prob)


def _arrays(layer: nn.Module) -> tuple[FloatArray, FloatArray]:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)  # noqa: S101
    assert isinstance(bias, Tensor)  # noqa: S101
    return weight.detach().numpy(), bias.detach().numpy()


def _room(weights: Weights, sets: int, padded: int) -> Room:
    hidden, features = weights.first.shape
    rows = sets * padded
    return Room(
        np.empty(rows, np.int64),
        np.empty(rows, np.int64),
        np.empty(sets + 1, np.int64),
        np.empty((features, rows), np.float32),
        np.empty((hidden, rows), np.float32),
        np.empty((hidden, rows), np.float32),
        np.empty((weights.whole.shape[1], sets), np.float32),
        np.empty((hidden, sets), np.float32),
        np.empty((hidden, sets), np.float32),
        np.empty((len(weights.last), rows), np.float32),
        np.empty(len(weights.last), np.float32),
    )


@kernel
def decide_rows(
    weights: Weights,
    log_deviation: FloatArray,
    least: float,
    most: float,
    room: Room,
    rows: FloatArray,
    whole: FloatArray,
    mask: FloatArray,
    noise: FloatArray,
    sample: FloatArray,
    log_prob: FloatArray,
) -> None:
    """See `Acting.decide`.

    Args:
        weights: of the actor.
        log_deviation: [actions].
        least: bound of it.
        most: likewise.
        room: for one set at least.
        rows: [sets * padded rows, row features].
        whole: [sets, whole features].
        mask: [sets, padded rows].
        noise: [sets * padded rows, actions], zeros for the means; may be `sample`.
        sample: [sets * padded rows, actions], zeros to be filled in.
        log_prob: [sets * padded rows], likewise.
    """
    actions = len(log_deviation)
    constant = 0.5 * math.log(2.0 * math.pi) * actions
    for action in range(actions):
        bounded = min(max(float(log_deviation[action]), least), most)
        room.deviation[action] = math.exp(bounded)
        constant += bounded
    together = len(room.begin) - 1
    for first in range(0, len(whole), together):
        end = min(first + together, len(whole))
        count = _means(weights, room, rows, whole, mask, first, end)
        _draw(room, count, np.float32(constant), noise, sample, log_prob)


@inlined
def _means(
    weights: Weights,
    room: Room,
    rows: FloatArray,
    whole: FloatArray,
    mask: FloatArray,
    first: int,
    end: int,
) -> int:
    """Compute those of the sets from `first` to `end`; of how many rows."""
    sets, hidden = end - first, len(weights.head)
    count = _lay_out(room, rows, mask, first, end)
    _affine(weights.first, weights.first_bias, room.given, count, room.hidden)
    _rectify(room.hidden, count)
    _affine(weights.second, weights.second_bias, room.hidden, count, room.embedded)
    _rectify(room.embedded, count)
    _pool(room, whole, hidden, first, end)
    _affine(weights.whole, weights.whole_bias, room.wholes, sets, room.context)
    _rectify(room.context, sets)
    # The head's part of the whole, once for all rows of a set.
    for output in range(hidden):
        room.common[output, :sets] = weights.head_bias[output]
    _add(weights.head, hidden, room.context, sets, room.common)
    for output in range(hidden):
        for row in range(count):
            room.hidden[output, row] = room.common[output, room.owner[row]]
    _add(weights.head, 0, room.embedded, count, room.hidden)
    _rectify(room.hidden, count)
    _affine(weights.last, weights.last_bias, room.hidden, count, room.means)
    return count


@inlined
def _lay_out(room: Room, rows: FloatArray, mask: FloatArray, first: int, end: int) -> int:
    """The real rows of some sets side by side, each as a column of `given`; how many."""
    count = 0
    padded = mask.shape[1]
    for one in range(first, end):
        room.begin[one - first] = count
        for row in range(padded):
            if mask[one, row] != 0.0:
                room.place[count] = one * padded + row
                room.owner[count] = one - first
                count += 1
    room.begin[end - first] = count
    for row in range(count):
        values = rows[room.place[row]]
        for feature in range(len(values)):
            room.given[feature, row] = values[feature]
    return count


@inlined
def _pool(room: Room, whole: FloatArray, hidden: int, first: int, end: int) -> None:
    """Mean and maximum of each set's rows, zeros if it has none, and what belongs to the whole."""
    sets = end - first
    for output in range(hidden):
        values = room.embedded[output]
        for one in range(sets):
            begin, stop = room.begin[one], room.begin[one + 1]
            total = top = np.float32(0.0)  # no embedding is negative
            for row in range(begin, stop):
                value = values[row]
                total += value
                top = value if value > top else top
            room.wholes[output, one] = total / np.float32(max(1, stop - begin))
            room.wholes[hidden + output, one] = top
    for one in range(sets):
        for feature in range(whole.shape[1]):
            room.wholes[2 * hidden + feature, one] = whole[first + one, feature]


@inlined
def _draw(
    room: Room,
    count: int,
    constant: np.float32,
    noise: FloatArray,
    sample: FloatArray,
    log_prob: FloatArray,
) -> None:
    """Means with as much of the noise as there is deviation."""
    deviation = room.deviation
    for row in range(count):
        place = room.place[row]
        density = -constant
        for action in range(len(deviation)):
            moved = noise[place, action]
            density -= np.float32(0.5) * moved * moved
            sample[place, action] = room.means[action, row] + deviation[action] * moved
        log_prob[place] = density


@inlined
def _affine(
    weight: FloatArray, bias: FloatArray, inputs: FloatArray, count: int, outputs: FloatArray
) -> None:
    """A linear layer of the first `count` columns."""
    for output in range(len(bias)):
        outputs[output, :count] = bias[output]
    _add(weight, 0, inputs, count, outputs)


@inlined
def _add(
    weight: FloatArray, skip: int, inputs: FloatArray, count: int, outputs: FloatArray
) -> None:
    """Add the product of `weight` from column `skip` on with the first `count` of the `inputs`.

    Two outputs and four inputs at a time, so that less is loaded and stored in between.
    """
    depth, many = len(inputs), len(weight)
    quads, pairs = depth // 4 * 4, many // 2 * 2
    for output in range(0, pairs, 2):
        v, w = weight[output], weight[output + 1]
        y, z = outputs[output], outputs[output + 1]
        for place in range(0, quads, 4):
            a, b, c, d = inputs[place], inputs[place + 1], inputs[place + 2], inputs[place + 3]
            at = skip + place
            va, vb, vc, vd = v[at], v[at + 1], v[at + 2], v[at + 3]
            wa, wb, wc, wd = w[at], w[at + 1], w[at + 2], w[at + 3]
            for i in range(count):
                y[i] = y[i] + va * a[i] + vb * b[i] + vc * c[i] + vd * d[i]
                z[i] = z[i] + wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i]
    for output in range(many):
        y = outputs[output]
        for place in range(quads if output < pairs else 0, depth):
            a, va = inputs[place], weight[output, skip + place]
            for i in range(count):
                y[i] += va * a[i]


@inlined
def _rectify(values: FloatArray, count: int) -> None:
    """max(0, ·) of the first `count` columns, in place."""
    for feature in range(len(values)):
        row = values[feature]
        for column in range(count):
            value = row[column]
            row[column] = value if value > 0.0 else np.float32(0.0)  # max() takes six times as long


_decide = direct(decide_rows)
