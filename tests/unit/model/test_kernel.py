"""Where compiled code is kept: apart for each state of the source that it was made from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import platformdirs
import pytest
from numpy.typing import NDArray

from lnagents.model import kernel as module
from lnagents.model.kernel import counting, direct, kernel
from lnagents.twin.network import Int64Array

DoubleArray: TypeAlias = NDArray[np.float64]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three modules that import one another in a row."""
    package = tmp_path / "lnagents"
    (package / "twin").mkdir(parents=True)
    (package / "twin" / "a.py").write_text("from lnagents.twin.b import f\n")
    (package / "twin" / "b.py").write_text("from lnagents.model.c import f\n")
    (package / "model").mkdir()
    (package / "model" / "c.py").write_text("f = 1\n")
    monkeypatch.setattr(module, "_HERE", package / "twin")
    return package


def test_a_change_anywhere_below_leads_to_another_folder(package: Path) -> None:
    top, middle = package / "twin" / "a.py", package / "twin" / "b.py"
    before = module._digest(top), module._digest(middle)
    assert before == (module._digest(top), module._digest(middle))
    (package / "model" / "c.py").write_text("f = 2\n")
    after = module._digest(top), module._digest(middle)
    assert before[0] != after[0]
    assert before[1] != after[1]
    top.write_text("from lnagents.twin.b import f  # changed\n")
    assert module._digest(top) != after[0]
    assert module._digest(middle) == after[1]


def test_old_versions_are_removed(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    old, recent, other = (
        tmp_path / "cache" / "kernels" / name for name in ("a-1", "a-2", "other-1")
    )
    for folder in (old, recent, other):
        folder.mkdir(parents=True)
    for folder in (old, other):
        os.utime(folder, (0, 0))
    assert module._folder(package / "twin" / "a.py").parent == old.parent
    assert not old.exists()
    assert recent.exists()
    assert other.exists()


def test_a_kernel_returns_numbers() -> None:
    with pytest.raises(TypeError, match="makes_a_list: a kernel returns numbers only"):

        @kernel
        def makes_a_list(size: int) -> list[int]:
            return [0] * size


class Pair(NamedTuple):
    numbers: Int64Array
    factor: float


@kernel
def weighed(pair: Pair, least: int) -> float:
    total = 0.0
    for number in pair.numbers:
        total += pair.factor * max(number, least)
    return total


def test_a_direct_call_does_what_the_kernel_does() -> None:
    quick = direct(weighed)
    for size in (3, 0, 1_000):
        pair = Pair(np.arange(size), 0.5)
        assert quick(pair, 2) == weighed(pair, 2)


@counting
def traced(left: DoubleArray, right: DoubleArray, product: DoubleArray) -> float:
    np.dot(left.T, right[1:], product)
    return weighed(Pair(np.arange(3), product[0, 0]), 1)


def test_who_counts_may_multiply_matrices() -> None:
    left, right, product = np.eye(2), np.arange(6.0).reshape(3, 2), np.empty((2, 2))
    assert traced(left, right, product) == 4.0 * 2.0
    assert product.tolist() == [[2.0, 3.0], [4.0, 5.0]]
