"""Reads the JSON of `lncli describegraph`, entry by entry: a public graph has 50 MB of it."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from lnagents.model.errors import TopologyError
from lnagents.model.units import MSAT_PER_SAT
from lnagents.twin.announced import Announced
from lnagents.twin.network import MAX_HTLC, POLICY_COLUMNS

_POLICY_KEYS = (
    # JSON name, in the order of a policy's columns, and what stands in for a missing one.
    ("fee_base_msat", None),
    ("fee_rate_milli_msat", None),
    ("inbound_fee_base_msat", 0),
    ("inbound_fee_rate_milli_msat", 0),
    ("min_htlc", None),
    ("max_htlc_msat", 0),
    ("time_lock_delta", None),
)
_MAY_BE_NEGATIVE = ("inbound_fee_base_msat", "inbound_fee_rate_milli_msat")
_SPACE = re.compile(r"\s*")
_LIMIT = 1 << 63


def parse_describegraph(text: str, source: str) -> Announced:
    """Read what `lncli describegraph` prints; `source` names the file in error messages.

    Nodes are named by their public keys; those without channels are left out. A direction that
    nobody announced counts as disabled, and one without a max HTLC allows the whole capacity.

    Raises:
        TopologyError: with one sentence that names file and key.
    """
    reader = _Reader(text, source)
    names: dict[str, int] = {}
    scids, capacity, ends, policy = array("q"), array("q"), array("i"), array("q")
    for position, edge in enumerate(reader.entries("edges")):
        key = f"edges[{position}]"
        if not isinstance(edge, dict):
            raise TopologyError(source, f"{key}: not an object")
        scids.append(reader.whole(edge, "channel_id", key))
        sat = reader.whole(edge, "capacity", key)
        if not 0 < sat < _LIMIT // MSAT_PER_SAT:
            # A node that does not look at the chain (`routing.assumechanvalid`) reports 0.
            raise TopologyError(source, f"{key}.capacity: {sat} is not the size of a channel")
        capacity.append(sat * MSAT_PER_SAT)
        for side in ("node1_pub", "node2_pub"):
            name = edge.get(side)
            if not isinstance(name, str) or not name:
                raise TopologyError(source, f"{key}.{side}: missing")
            ends.append(names.setdefault(name, len(names)))
        for side in ("node1_policy", "node2_policy"):
            policy.extend(_policy(reader, edge.get(side), f"{key}.{side}", sat * MSAT_PER_SAT))
    count = len(scids)
    return Announced(
        names=tuple(names),
        scids=np.array(scids, np.int64),
        channel_nodes=np.array(ends, np.int32).reshape(count, 2),
        capacity=np.array(capacity, np.int64),
        policy=np.array(policy, np.int64).reshape(2 * count, POLICY_COLUMNS),
    )


def _policy(reader: _Reader, policy: Any, key: str, capacity: int) -> tuple[int, ...]:
    if policy is None:
        return (0,) * (POLICY_COLUMNS - 1) + (1,)
    if not isinstance(policy, dict):
        raise TopologyError(reader.source, f"{key}: not an object")
    values = [reader.whole(policy, name, key, default) for name, default in _POLICY_KEYS]
    values[MAX_HTLC] = values[MAX_HTLC] or capacity
    return (*values, int(policy.get("disabled") is True))


class _Reader:
    """Decodes the arrays of a JSON object one entry at a time."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self._decoder = json.JSONDecoder()

    def entries(self, wanted: str) -> Iterator[Any]:
        """The entries of the array `wanted` of the outermost object; the rest is skipped."""
        found = False
        position = self._expect("{", 0)
        while self._next(position) != "}":
            name, position = self._decode(position)
            position = self._expect(":", position)
            if self._next(position) != "[":
                _, position = self._decode(position)
            else:
                found = found or name == wanted
                position = yield from self._array(position, kept=name == wanted)
            position = self._separate(position, "}")
        if not found:
            raise TopologyError(self.source, f"{wanted}: missing")

    def whole(self, owner: dict[str, Any], name: str, key: str, default: int | None = None) -> int:
        """A whole number, written as one or as text, as protobuf's JSON has 64-bit ones."""
        value = owner.get(name, default)
        if value is None:
            raise TopologyError(self.source, f"{key}.{name}: missing")
        try:
            if isinstance(value, bool | float):
                raise ValueError
            number = int(value)
        except (TypeError, ValueError):
            problem = f"{key}.{name}: not a whole number, got {value!r}"
            raise TopologyError(self.source, problem) from None
        low = -_LIMIT if name in _MAY_BE_NEGATIVE else 0
        if not low <= number < _LIMIT:
            raise TopologyError(self.source, f"{key}.{name}: {number} is out of range")
        return number

    def _array(self, position: int, *, kept: bool) -> Generator[Any, None, int]:
        """Its entries one by one, if they are to be kept; returns where it ends."""
        position = self._expect("[", position)
        while self._next(position) != "]":
            entry, position = self._decode(position)
            if kept:
                yield entry
            position = self._separate(position, "]")
        return self._expect("]", position)

    def _next(self, position: int) -> str:
        position = self._skip_space(position)
        return self.text[position : position + 1]

    def _expect(self, character: str, position: int) -> int:
        position = self._skip_space(position)
        if self.text[position : position + 1] != character:
            raise self._broken(position, f"{character!r} expected")
        return position + 1

    def _separate(self, position: int, end: str) -> int:
        return position if self._next(position) == end else self._expect(",", position)

    def _decode(self, position: int) -> tuple[Any, int]:
        try:
            return self._decoder.raw_decode(self.text, self._skip_space(position))
        except json.JSONDecodeError as exc:
            raise self._broken(exc.pos, exc.msg) from exc

    def _skip_space(self, position: int) -> int:
        found = _SPACE.match(self.text, position)
        return found.end() if found else position

    def _broken(self, position: int, problem: str) -> TopologyError:
        line = self.text.count("\n", 0, position) + 1
        return TopologyError(self.source, f"line {line}: not valid JSON, {problem}")
