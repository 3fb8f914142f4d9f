"""How single quantities become features: numbers of about 0 to 1, as small networks like them.

The functions of numbers are plain Python, so that a daemon needs nothing else; the twin compiles
these same functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lnagents.model.units import MSAT_PER_SAT, Msat, Ppm

FloatArray: TypeAlias = NDArray[np.float32]

Seen = TypeVar("Seen")

_LOG_FEE = math.log1p(10_000)
NATS_PER_RATE = _LOG_FEE
"""How far a rate has moved, as a logarithm, when `rate_scale` has moved by 1."""
_TABLE = 4_096
_FEES = np.array([math.log1p(fee) / _LOG_FEE for fee in range(_TABLE)])
_LOG_MONEY = math.log1p(1_000_000)
NATS_PER_COUNT = math.log1p(100)
"""The same for `count_scale`."""
_LOG_PERCENT = math.log1p(100)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it is called, and what it means (unit and range)."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Feature(Column, Generic[Seen]):
    """A column with how it is computed."""

    of: Callable[[Seen], float]


def rows(features: Sequence[Feature[Seen]], seen: Sequence[Seen]) -> FloatArray:
    """One row per element of `seen`, one column per feature."""
    values = [[feature.of(one) for feature in features] for one in seen]
    return np.array(values, dtype=np.float32).reshape(len(seen), len(features))


def log_scale(value: float, top: float) -> float:
    """0 for 0, 1 for `top`, logarithmic between and beyond; never negative."""
    return against(value, math.log1p(top))


def against(value: float, log_top: float) -> float:
    """The same with log(1 + top) for `top`."""
    # Most flows of a quiet round are 0, and logarithms are what encoding spends its time on.
    return math.log1p(value) / log_top if value > 0.0 else 0.0


def fee_scale(fee: int) -> float:
    """A whole number of ppm or msat: 0 for 0, 1 for 10,000; never negative."""
    # Half of all logarithms are of fees, and most fees are small: looking them up is quicker.
    return _FEES[fee] if 0 <= fee < _TABLE else against(fee, _LOG_FEE)


def rate_scale(rate: Ppm) -> float:
    """A fee rate: 0 for 0 ppm, 1 for 10,000 ppm (1 %), 1.5 for the most that there is."""
    return fee_scale(rate)


def base_fee_scale(fee: Msat) -> float:
    """A fee per payment: 0 for 0, 1 for 10,000 msat."""
    return fee_scale(fee)


def money_scale(amount: Msat) -> float:
    """Money earned or spent in a round: 0 for 0, 1 for 1,000 sat."""
    return against(amount, _LOG_MONEY)


def money_of(scaled: FloatArray) -> FloatArray:
    """The amounts in msat that `money_scale` made these of, to about six digits."""
    amounts: FloatArray = np.expm1(scaled * np.float32(_LOG_MONEY))
    return amounts


def flow_of(scaled: FloatArray, capacity: FloatArray) -> FloatArray:
    """The volumes in msat that `flow_scale` made these of, to about six digits.

    Args:
        scaled: volumes as features.
        capacity: of the channels, as features: log10 of million sat.
    """
    shares: FloatArray = np.expm1(scaled * np.float32(_LOG_PERCENT))
    volumes: FloatArray = shares * np.float32(1e4 * MSAT_PER_SAT) * 10.0**capacity
    return volumes


def count_scale(count: int) -> float:
    """How often something happened in a round: 0 for never, 1 for 100 times."""
    return against(count, NATS_PER_COUNT)


def count_of(scaled: FloatArray) -> FloatArray:
    """The counts that `count_scale` made these of."""
    counts: FloatArray = np.expm1(scaled * np.float32(NATS_PER_COUNT))
    return counts


def flow_scale(amount: Msat, capacity: Msat) -> float:
    """Volume against capacity: 0 for none, 1 for the whole capacity; fine for small flows."""
    return against(100.0 * amount / capacity, _LOG_PERCENT) if capacity > 0 else 0.0


def share(part: float, rest: float, otherwise: float) -> float:
    """`part` of `part` + `rest`, 0 to 1; `otherwise` where both are nothing."""
    whole = part + rest
    return part / whole if whole > 0 else otherwise
