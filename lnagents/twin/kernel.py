"""Compiled functions: one decorator, and a cache that knows what each of them was made from."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba
import platformdirs

Function = TypeVar("Function", bound=Callable[..., object])

_HERE = Path(__file__).parent
_OWN_IMPORT = re.compile(r"^\s*from lnagents\.(\w+)\.?(\w*) import|^\s*import lnagents", re.M)


def kernel(function: Function) -> Function:
    """Compile `function` when it is first called, and keep the machine code on disk.

    It runs without Python's lock, divides like C, and never reorders floating-point arithmetic, so
    the same inputs give the same bits. `NUMBA_DISABLE_JIT=1` runs it as plain Python.

    Numba's own cache notices a change in the file of a function, but not in what the function
    calls. So the machine code lies in a folder named after everything the module is made from.
    """
    module = Path(function.__code__.co_filename)
    # Read when a function is decorated.
    vars(numba.config)["CACHE_DIR"] = str(_cache() / _digest(module))
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def _cache() -> Path:
    return Path(platformdirs.user_cache_dir("lnagents")) / "kernels"


@functools.cache
def _digest(module: Path) -> str:
    """Of the source of `module` and of all of ours that it imports, directly or not."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = waiting.pop()
        if path not in found and path.exists():
            found.add(path)
            waiting.extend(_imported(path))
    text = hashlib.sha256()
    for path in sorted(found):
        text.update(path.read_bytes())
    return f"{module.stem}-{text.hexdigest()[:16]}"


def _imported(path: Path) -> list[Path]:
    package = _HERE.parent
    return [
        package / match[1] / f"{match[2]}.py" if match[2] else package / match[1] / "__init__.py"
        for match in _OWN_IMPORT.finditer(path.read_text())
        if match[1]
    ]
