"""Loops between the products of `blocks`.

A block has runs (`row_sets.Run`): the first rows of all sets of a run, then all second ones, and so
on. So what is said of sets meets rows in long loops without an index, which compilers turn into
instructions for many numbers at once. Arrays are [rows or sets, hidden], those called flat have the
same with one axis only; gradients are called `of_` what they are of.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnagents.learn.experience import FloatArray
from lnagents.model.kernel import kernel

Int64Array: TypeAlias = NDArray[np.int64]

ZERO = np.float32(0.0)
"""A plain 0.0 would turn everything that it meets into double precision."""


@kernel
def pool(runs: Int64Array, rows: FloatArray, total: FloatArray, top: FloatArray) -> None:
    """Sum and maximum of each set's rows, which are not negative."""
    width = rows.shape[1]
    flat, totals, tops = rows.reshape(-1), total.reshape(-1), top.reshape(-1)
    for run in range(len(runs)):
        begin, place, size = runs[run, 0] * width, runs[run, 1] * width, runs[run, 2] * width
        some, highest = totals[place : place + size], tops[place : place + size]
        some[:] = ZERO
        highest[:] = ZERO
        for number in range(runs[run, 3]):
            row = flat[begin + number * size : begin + (number + 1) * size]
            for at in range(size):
                value, before = row[at], highest[at]
                some[at] += value
                highest[at] = value if value > before else before


@kernel
def unpool(
    runs: Int64Array,
    rows: FloatArray,
    of_rows: FloatArray,
    top: FloatArray,
    of_total: FloatArray,
    of_top: FloatArray,
    added: bool,
) -> None:
    """The gradients of rows above 0 from those of what they were pooled into.

    Rows that share a maximum all get its gradient. What is in `of_rows` is `added` to, or not.
    """
    width = rows.shape[1]
    flat, of_flat, tops = rows.reshape(-1), of_rows.reshape(-1), top.reshape(-1)
    of_totals, of_tops = of_total.reshape(-1), of_top.reshape(-1)
    for run in range(len(runs)):
        begin, place, size = runs[run, 0] * width, runs[run, 1] * width, runs[run, 2] * width
        here = slice(place, place + size)
        highest, of_some, of_highest = tops[here], of_totals[here], of_tops[here]
        for number in range(runs[run, 3]):
            there = slice(begin + number * size, begin + (number + 1) * size)
            row, of_row = flat[there], of_flat[there]
            if not added:
                of_row[:] = ZERO
            for at in range(size):
                most = of_highest[at] if row[at] == highest[at] else ZERO
                moved = of_row[at] + of_some[at] + most
                of_row[at] = moved if row[at] > ZERO else ZERO


@kernel
def hand_out(runs: Int64Array, common: FloatArray, rows: FloatArray) -> None:
    """max(0, each row and what is its set's), in place."""
    width = rows.shape[1]
    commons, flat = common.reshape(-1), rows.reshape(-1)
    for run in range(len(runs)):
        begin, place, size = runs[run, 0] * width, runs[run, 1] * width, runs[run, 2] * width
        of_set = commons[place : place + size]
        for number in range(runs[run, 3]):
            row = flat[begin + number * size : begin + (number + 1) * size]
            for at in range(size):
                value = row[at] + of_set[at]
                row[at] = value if value > ZERO else ZERO


@kernel
def collect(runs: Int64Array, rows: FloatArray, of_rows: FloatArray, of_common: FloatArray) -> None:
    """The gradients of `hand_out`: of rows in place, and their sums over sets."""
    width = rows.shape[1]
    flat, of_flat, of_commons = rows.reshape(-1), of_rows.reshape(-1), of_common.reshape(-1)
    for run in range(len(runs)):
        begin, place, size = runs[run, 0] * width, runs[run, 1] * width, runs[run, 2] * width
        of_set = of_commons[place : place + size]
        of_set[:] = ZERO
        for number in range(runs[run, 3]):
            there = slice(begin + number * size, begin + (number + 1) * size)
            row, of_row = flat[there], of_flat[there]
            for at in range(size):
                moved = of_row[at] if row[at] > ZERO else ZERO
                of_row[at] = moved
                of_set[at] += moved


@kernel
def add_up(part: FloatArray, total: FloatArray) -> None:
    """Add `part` to `total`."""
    for row in range(part.shape[0]):
        for column in range(part.shape[1]):
            total[row, column] += part[row, column]


@kernel
def sum_up(rows: FloatArray, total: FloatArray) -> None:
    """Add all rows to `total`, four at a time."""
    even = len(rows) - len(rows) % 4
    for row in range(0, even, 4):
        for column in range(len(total)):
            one = rows[row, column] + rows[row + 1, column]
            total[column] += one + (rows[row + 2, column] + rows[row + 3, column])
    for row in range(even, len(rows)):
        for column in range(len(total)):
            total[column] += rows[row, column]


@kernel
def pass_on(outputs: FloatArray, of_outputs: FloatArray) -> None:
    """The gradient of max(0, ·), in place."""
    flat, of_flat = outputs.reshape(-1), of_outputs.reshape(-1)
    for at in range(len(flat)):
        of_flat[at] = of_flat[at] if flat[at] > ZERO else ZERO


@kernel
def rectify(rows: FloatArray, bias: FloatArray) -> None:
    """max(0, rows + bias), in place."""
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            value = rows[row, column] + bias[column]
            rows[row, column] = value if value > ZERO else ZERO


@kernel
def shift(rows: FloatArray, bias: FloatArray) -> None:
    """Add `bias` to every row."""
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            rows[row, column] += bias[column]


@kernel
def copy(matrix: FloatArray, into: FloatArray) -> None:
    """The same numbers, side by side."""
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            into[row, column] = matrix[row, column]


@kernel
def turn(weight: FloatArray, turned: FloatArray) -> None:
    """Rows become columns."""
    for row in range(weight.shape[0]):
        for column in range(weight.shape[1]):
            turned[column, row] = weight[row, column]
