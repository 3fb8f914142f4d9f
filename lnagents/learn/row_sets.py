"""Sets of rows without padding, laid out so that whole sets are summed and compared at once.

Where few nodes have many channels, most of what is padded is padding. Here sets with equally many
rows stand together in *runs*, and within a run the first rows of all its sets come first, then all
second ones, and so on. So a run is a dense array [rows of a set, sets, …]: what is pooled over its
first axis needs no index, and neither does what every row of a set is given. Runs are worked on in
*blocks* of as many rows as a processor's cache holds together with what is computed from them.

The two functions of blocks are what a set encoder and its head do with rows. Their gradients are
written out, so that nothing leaves the cache in between and nothing is computed for its own sake.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK_ROWS = 4_096
"""About as many rows has a block."""

LEAST_ROWS = 4
"""From so many rows on, a product gives every row the same numbers whatever the others are.

Products of fewer are summed up in another order (MKL): what is to be the same for one agent as for
many is computed for several of it.
"""

NEAREST = -torch.finfo(torch.float32).tiny
"""Above it a difference to the maximum counts as none."""


class Run(NamedTuple):
    """Sets with equally many rows."""

    rows: slice
    """Of its block."""
    sets: slice
    """In the order of `Layout.order`."""
    each: int
    """Rows of each set."""

    def of_sets(self, rows: Tensor) -> Tensor:
        """[rows of each set, sets of the run, features], a view into the rows of the block."""
        return rows[self.rows].view(self.each, -1, rows.shape[-1])


class Block(NamedTuple):
    """Runs that are worked on together."""

    rows: slice
    runs: tuple[Run, ...]

    @property
    def sets(self) -> slice:
        """In the order of `Layout.order`."""
        return slice(self.runs[0].sets.start, self.runs[-1].sets.stop)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the rows of several sets stand."""

    place: Tensor
    """[rows of all sets], where each is among the padded ones."""
    order: Tensor
    """[sets], in which runs have them."""
    back: Tensor
    """[sets], where each is in `order`."""
    share: Tensor
    """[sets, 1], what one row is of the mean over its set; 0 if it has none; as in `order`."""
    blocks: tuple[Block, ...]
    """Of all sets with at least one row."""
    padded: int
    """Rows of each set with its padding."""
    owner: Tensor
    """[rows of all sets], to which set each belongs, as given."""

    @classmethod
    def of(cls, mask: Tensor, block_rows: int | None = None) -> Layout:
        """Of the rows that `mask` [..., sets, rows] says are real; the same mask is known again.

        Args:
            mask: 1 for real rows, 0 for padding.
            block_rows: about as many rows has a block; None: `BLOCK_ROWS`.
        """
        sets = mask.shape[:-1].numel()
        return _layout(mask.numpy().tobytes(), sets, mask.shape[-1], block_rows or BLOCK_ROWS)


@functools.lru_cache(maxsize=16)
def _layout(mask: bytes, sets: int, padded: int, block_rows: int) -> Layout:
    real = torch.from_numpy(np.frombuffer(mask, np.float32).reshape(sets, padded).copy())
    counts, order = real.count_nonzero(1).sort(stable=True)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    place = real[order].nonzero().select(1, 1) + (order * padded).repeat_interleave(counts)
    runs: list[tuple[int, int, int]] = []
    parts = [place[:0]]
    begin = first = 0
    values, often = torch.unique_consecutive(counts, return_counts=True)
    for count, many in zip(values.tolist(), often.tolist(), strict=True):
        step = max(1, block_rows // max(1, count))
        for some in range(0, many if count else 0, step):
            taken = min(step, many - some)
            end = begin + count * taken
            runs.append((first + some, taken, count))
            parts.append(place[begin:end].reshape(taken, count).t().flatten())
            begin = end
        first += many
    share = counts.float().reciprocal_().masked_fill_(counts == 0, 0.0).unsqueeze(1)
    place = torch.cat(parts)
    owner = place.div(max(1, padded), rounding_mode="floor")
    return Layout(place, order, back, share, _blocks(runs, block_rows), padded, owner)


def _blocks(runs: Sequence[tuple[int, int, int]], block_rows: int) -> tuple[Block, ...]:
    """Blocks of `runs`: the first set, how many sets, and the rows of each."""
    blocks: list[Block] = []
    left = sum(sets * each for _, sets, each in runs)
    begin = end = 0
    here: list[Run] = []
    for first, sets, each in runs:
        rows = sets * each
        here.append(Run(slice(end - begin, end - begin + rows), slice(first, first + sets), each))
        end, left = end + rows, left - rows
        if left == 0 or (end - begin >= block_rows // 2 and left >= LEAST_ROWS):
            blocks.append(Block(slice(begin, end), tuple(here)))
            begin, here = end, []
    return tuple(blocks)


@dataclass(frozen=True, slots=True, eq=False)
class RowSets:
    """The rows of several sets."""

    values: Tensor
    """[rows of all sets, row features]."""
    layout: Layout

    @classmethod
    def of(cls, rows: Tensor, mask: Tensor, block_rows: int | None = None) -> RowSets:
        """The rows that `mask` says are real.

        Args:
            rows: [..., sets, rows, row features].
            mask: [..., sets, rows].
            block_rows: see `Layout.of`.
        """
        layout = Layout.of(mask, block_rows)
        return cls(rows.flatten(0, -2).index_select(0, layout.place), layout)

    def pick(self, padded: Tensor) -> Tensor:
        """[rows of all sets, features], what is not padding of [..., sets, rows, features]."""
        return padded.flatten(0, -2).index_select(0, self.layout.place)

    @property
    def owner(self) -> Tensor:
        """[rows of all sets], to which set each belongs."""
        return self.layout.owner

    def fill(self, values: Tensor) -> Tensor:
        """[sets, rows, …] with zeros for padding, from one of `values` for each row."""
        sets, padded = len(self.layout.order), self.layout.padded
        whole = values.new_zeros(sets * padded, *values.shape[1:])
        filled = whole.index_copy(0, self.layout.place, values)
        return filled.reshape(sets, padded, *values.shape[1:])

    def ordered(self, of_sets: Tensor) -> Tensor:
        """[sets, …] as runs have the sets."""
        ordered: Tensor = _Permuted.apply(of_sets, self.layout.order, self.layout.back)
        return ordered

    def as_given(self, ordered: Tensor) -> Tensor:
        """The inverse of `ordered`."""
        given: Tensor = _Permuted.apply(ordered, self.layout.back, self.layout.order)
        return given

    def encode(self, first: Affine, second: Affine) -> tuple[Tensor, Tensor]:
        """Every row through two layers, each followed by max(0, ·), and what they come to.

        Returns:
            [rows of all sets, outputs], and for each set, as runs have them, [sets, 2 * outputs],
            mean and maximum of its rows, zeros if it has none. Rows that share a maximum all get
            its gradient.
        """
        embedded, pooled = _Encode.apply(self, self.values, *first, *second)
        return embedded, pooled

    def decode(self, embedded: Tensor, common: Tensor, weight: Tensor, last: Affine) -> Tensor:
        """max(0, `weight` of every row, plus what is its set's), through the last layer.

        Args:
            embedded: [rows of all sets, inputs].
            common: [sets, hidden], as runs have them, given to every row of a set.
            weight: [hidden, inputs].
            last: from hidden to outputs.

        Returns:
            [rows of all sets, outputs].
        """
        outputs: Tensor = _Decode.apply(self, embedded, common, weight, *last)
        return outputs


class Affine(NamedTuple):
    """A linear layer."""

    weight: Tensor
    """[outputs, inputs]."""
    bias: Tensor


class _Permuted(torch.autograd.Function):
    """Rows in another order. torch's own gradient adds them up one by one, as if some met."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return values.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0].index_select(0, ctx.back), None, None


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sets: RowSets,
        values: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
    ) -> tuple[Tensor, Tensor]:
        width = len(bias2)
        first = values.new_empty(len(values), len(bias1))
        second = values.new_empty(len(values), width)
        pooled = values.new_zeros(len(sets.layout.order), 2 * width)
        mean, top = pooled[:, :width], pooled[:, width:]
        into1, into2 = weight1.t(), weight2.t()
        for block in sets.layout.blocks:
            one = torch.addmm(bias1, values[block.rows], into1, out=first[block.rows]).relu_()
            two = torch.addmm(bias2, one, into2, out=second[block.rows]).relu_()
            for run in block.runs:
                rows = run.of_sets(two)
                torch.sum(rows, 0, out=mean[run.sets])
                torch.amax(rows, 0, out=top[run.sets])
        mean *= sets.layout.share
        ctx.sets = sets
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weight1, weight2, first, second, pooled)
        return second, pooled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        weight1, weight2, first, second, pooled = ctx.saved_tensors
        width = len(weight2)
        of_weight1, of_weight2 = torch.zeros_like(weight1), torch.zeros_like(weight2)
        of_bias1, of_bias2 = weight1.new_zeros(len(weight1)), weight2.new_zeros(width)
        of_rows, of_pooled = gradients
        # Rows are data, unless a model of the others made some of their columns.
        of_values = torch.empty_like(ctx.sets.values) if ctx.needs_input_grad[1] else None
        if of_pooled is None:
            of_pooled = torch.zeros_like(pooled)
        of_mean = of_pooled[:, :width] * ctx.sets.layout.share
        top, of_top = pooled[:, width:].contiguous(), of_pooled[:, width:].contiguous()
        room = _room(ctx.sets.layout, width)
        for block in ctx.sets.layout.blocks:
            one, two = first[block.rows], second[block.rows]
            moved = room[: len(two)]
            for run in block.runs:
                here = run.of_sets(moved)
                torch.sub(run.of_sets(two), top[run.sets], out=here)
                pass_on(of_top[run.sets].expand_as(here), here, NEAREST, here)
                here += of_mean[run.sets]
            if of_rows is not None:  # a critic looks at sets only
                moved += of_rows[block.rows]
            pass_on(moved, two, 0.0, moved)
            of_weight2.addmm_(moved.t(), one)
            of_bias2 += moved.sum(0)
            moved = moved @ weight2
            pass_on(moved, one, 0.0, moved)
            of_weight1.addmm_(moved.t(), ctx.sets.values[block.rows])
            of_bias1 += moved.sum(0)
            if of_values is not None:
                torch.mm(moved, weight1, out=of_values[block.rows])
        return None, of_values, of_weight1, of_bias1, of_weight2, of_bias2


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sets: RowSets,
        embedded: Tensor,
        common: Tensor,
        weight: Tensor,
        last: Tensor,
        bias: Tensor,
    ) -> Tensor:
        hidden = embedded.new_empty(len(embedded), common.shape[1])
        outputs = embedded.new_empty(len(embedded), len(bias))
        into, out_of = weight.t(), last.t()
        for block in sets.layout.blocks:
            rows = hidden[block.rows]
            for run in block.runs:
                run.of_sets(rows).copy_(common[run.sets])
            rows.addmm_(embedded[block.rows], into).relu_()
            torch.addmm(bias, rows, out_of, out=outputs[block.rows])
        ctx.sets = sets
        ctx.save_for_backward(embedded, weight, last, hidden)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        embedded, weight, last, hidden = ctx.saved_tensors
        of_embedded = torch.empty_like(embedded)
        of_common = hidden.new_zeros(len(ctx.sets.layout.order), len(weight))
        of_weight, of_last = torch.zeros_like(weight), torch.zeros_like(last)
        for block in ctx.sets.layout.blocks:
            rows, moved = hidden[block.rows], gradients[0][block.rows]
            of_last.addmm_(moved.t(), rows)
            moved = moved @ last
            pass_on(moved, rows, 0.0, moved)
            of_weight.addmm_(moved.t(), embedded[block.rows])
            for run in block.runs:
                of_common[run.sets] = run.of_sets(moved).sum(0)
            torch.mm(moved, weight, out=of_embedded[block.rows])
        return None, of_embedded, of_common, of_weight, of_last, gradients[0].sum(0)


def _room(layout: Layout, width: int) -> Tensor:
    """Room for what is computed of one block."""
    most = max((block.rows.stop - block.rows.start for block in layout.blocks), default=0)
    return torch.empty(most, width)


def pass_on(gradient: Tensor, result: Tensor, least: float, into: Tensor) -> None:
    """`gradient` where `result` is above `least`, else 0; `into` may be one of the two."""
    torch.ops.aten.threshold_backward.grad_input(gradient, result, least, grad_input=into)
