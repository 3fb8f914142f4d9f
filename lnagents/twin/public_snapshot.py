"""Reads snapshots of the public network: a CSV table, one row per direction of a channel."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from lnagents.model.errors import TopologyError
from lnagents.model.units import MSAT_PER_SAT
from lnagents.twin.announced import Announced
from lnagents.twin.network import (
    BASE_FEE,
    DISABLED,
    FEE_RATE,
    MAX_HTLC,
    MIN_HTLC,
    POLICY_COLUMNS,
    TIME_LOCK_DELTA,
    Int64Array,
)

COLUMNS = (
    "chan",
    "node1",
    "node2",
    "capacity_sat",
    "dir",
    "disabled",
    "htlc_min_msat",
    "htlc_max_msat",
    "base_msat",
    "ppm",
    "cltv",
)
"""Names of the columns, all whole numbers, in the first line; `dir` 0 leads from node1 to node2."""
HEADER = ",".join(COLUMNS)
_POLICY = {
    "base_msat": BASE_FEE,
    "ppm": FEE_RATE,
    "htlc_min_msat": MIN_HTLC,
    "htlc_max_msat": MAX_HTLC,
    "cltv": TIME_LOCK_DELTA,
    "disabled": DISABLED,
}
_MOST_SAT = np.iinfo(np.int64).max // MSAT_PER_SAT


def parse_snapshot(text: str, source: str) -> Announced:
    """Read a snapshot; `source` names the file in error messages.

    Nodes are named by their numbers, ascending. A direction without a row counts as disabled.

    Raises:
        TopologyError: with one sentence that names file and line.
    """
    table = _Table(text, source)
    scids, first, channel = np.unique(table["chan"], return_index=True, return_inverse=True)
    for name in ("node1", "node2", "capacity_sat"):
        differs = table[name] != table[name][first][channel]
        table.refuse(differs, f"{name} is not what another row of the same channel says")
    edge = 2 * channel + table["dir"]
    once = np.zeros(len(edge), np.bool_)
    once[np.unique(edge, return_index=True)[1]] = True
    table.refuse(~once, "this direction of the channel has a row already")
    policy = np.zeros((2 * len(scids), POLICY_COLUMNS), np.int64)
    policy[:, DISABLED] = 1
    for name, position in _POLICY.items():
        policy[edge, position] = table[name]
    ends = np.stack([table["node1"][first], table["node2"][first]], axis=1)
    numbers, nodes = np.unique(ends, return_inverse=True)
    return Announced(
        names=tuple(map(str, numbers.tolist())),
        scids=scids,
        channel_nodes=nodes.reshape(-1, 2).astype(np.int32),
        capacity=table["capacity_sat"][first] * MSAT_PER_SAT,
        policy=policy,
    )


class _Table:
    """The columns of a file, checked one by one."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        header, _, body = text.partition("\n")
        if header.strip() != HEADER:
            raise TopologyError(source, f"line 1: the header is not {HEADER!r}")
        if not body.strip():
            raise TopologyError(source, "no channel is in it")
        try:
            rows: Int64Array = np.loadtxt(
                io.StringIO(body), dtype=np.int64, delimiter=",", comments=None, ndmin=2
            )
        except (ValueError, OverflowError):
            raise self._not_numbers() from None
        if rows.shape[1] != len(COLUMNS):
            raise self._not_numbers()
        self._columns: dict[str, Int64Array] = dict(zip(COLUMNS, rows.T, strict=True))
        for name in COLUMNS:
            self.refuse(self[name] < 0, f"{name} is negative")
        for name in ("dir", "disabled"):
            self.refuse(self[name] > 1, f"{name} is neither 0 nor 1")
        sat = self["capacity_sat"]
        self.refuse((sat == 0) | (sat > _MOST_SAT), "capacity_sat is not the size of a channel")

    def __getitem__(self, name: str) -> Int64Array:
        return self._columns[name]

    def refuse(self, rows: NDArray[np.bool_], problem: str) -> None:
        """Complain about the first of these rows, if there is one."""
        if rows.any():
            line = self._lines()[int(rows.argmax())][0]
            raise TopologyError(self._source, f"line {line}: {problem}")

    def _lines(self) -> list[tuple[int, str]]:
        """Number and text of the lines that hold rows; empty ones do not."""
        lines = enumerate(self._text.splitlines(), 1)
        return [(number, line) for number, line in lines if line.strip()][1:]

    def _not_numbers(self) -> TopologyError:
        for number, line in self._lines():
            fields = line.split(",")
            if len(fields) != len(COLUMNS):
                problem = f"{len(fields)} columns, not {len(COLUMNS)}"
                return TopologyError(self._source, f"line {number}: {problem}")
            for name, field in zip(COLUMNS, fields, strict=True):
                try:
                    np.int64(int(field))
                except (ValueError, OverflowError):
                    problem = f"{name} is not a whole number, got {field.strip()!r}"
                    return TopologyError(self._source, f"line {number}: {problem}")
        return TopologyError(self._source, "not a table of whole numbers")
