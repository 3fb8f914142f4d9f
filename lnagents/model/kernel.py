"""Compiled functions: one decorator, and a cache that knows what each of them was made from."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

import numba
import platformdirs
from numba.core.types import Integer, int64

Function = TypeVar("Function", bound=Callable[..., object])

_KEPT_SECONDS = 14 * 24 * 3600.0
"""Other checkouts and versions may be in use at the same time."""
_HERE = Path(__file__).parent
_NUMBERS = re.compile(r"None|int|float|bool|tuple\[(int|float|bool)(, (int|float|bool))*\]")
_OWN_IMPORT = re.compile(r"^\s*from lnagents\.(\w+)\.?(\w*) import|^\s*import lnagents", re.M)


def kernel(function: Function) -> Function:
    """Compile `function` when it is first called, and keep the machine code on disk.

    It runs without Python's lock, divides like C, and never reorders floating-point arithmetic, so
    the same inputs give the same bits. `NUMBA_DISABLE_JIT=1` runs it as plain Python.

    It does not count references either: with states that are tuples of many arrays, counting takes
    several times longer than the work. So a kernel may look into arrays, but can neither make one
    (numba refuses) nor return one.

    Numba's own cache notices a change in the file of a function, but not in what the function
    calls. So the machine code lies in a folder named after everything the module is made from.

    Raises:
        TypeError: the function does not say that it returns numbers, or nothing.
    """
    return _compiled(function)


def inlined(function: Function) -> Function:
    """A `kernel` that is always merged into those that call it.

    For what is called in one place, is a few instructions long, or is on the way of every payment:
    handing a state of many arrays over takes a while. A payment in a network of ten nodes took 1.3
    microseconds when its functions were called, and takes 0.6 without a call.
    """
    return _compiled(function, inline=True)


def counting(function: Function) -> Function:
    """A `kernel` that counts references: what numpy's products of matrices (`np.dot`) need.

    For states of few arrays. What it calls need not count.
    """
    return _compiled(function, counts=True)


def direct(compiled: Function) -> Function:
    """A `kernel` for a caller in Python whose arguments have the same types every time.

    At each call numba asks for the type of every array in every tuple, which takes 14 microseconds
    with the state of a twin, and to hand all of it over takes 2. Here only the first call asks. So
    the caller has to see to it that dtypes, dimensions and memory layouts of arrays stay what they
    were then: others would be read as if they were the same.
    """
    if not hasattr(compiled, "overloads"):  # NUMBA_DISABLE_JIT=1
        return compiled
    dispatcher = cast(Any, compiled)
    code: Callable[..., object] | None = None

    @functools.wraps(compiled)
    def call(*arguments: object) -> object:
        nonlocal code
        if code is None:
            code = dispatcher.compile(tuple(map(dispatcher.typeof_pyval, arguments)))
        return code(*arguments)

    return cast(Function, call)


def _compiled(function: Function, *, inline: bool = False, counts: bool = False) -> Function:
    if not _returns_numbers(function):
        raise TypeError(f"{function.__qualname__}: a kernel returns numbers only")
    module = Path(function.__code__.co_filename)
    # Read when a function is decorated.
    vars(numba.config)["CACHE_DIR"] = str(_folder(module))
    options: dict[str, object] = {
        "cache": True,
        "nogil": True,
        "error_model": "numpy",
        "forceinline": inline,
        "_nrt": counts,
    }
    compiled = numba.njit(**options)(function)  # type: ignore[call-overload]
    if hasattr(compiled, "get_call_template"):
        _widen_arguments(compiled)
    return cast(Function, compiled)


def _widen_arguments(compiled: Any) -> None:
    """Take every whole number that another kernel passes as 64 bits, constants included.

    Otherwise numba compiles once more for each width, and for each constant that is passed.
    """
    resolve = compiled.get_call_template

    def widened(kind: Any) -> Any:
        plain = getattr(kind, "literal_type", kind)
        return int64 if isinstance(plain, Integer) else plain

    def resolve_widened(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return resolve(
            tuple(map(widened, arguments)), {name: widened(kind) for name, kind in named.items()}
        )

    compiled.get_call_template = resolve_widened


def _returns_numbers(function: Callable[..., object]) -> bool:
    returned = str(function.__annotations__.get("return"))
    named_tuple = function.__globals__.get(returned)
    if named_tuple is None:
        return _NUMBERS.fullmatch(returned) is not None
    return set(get_type_hints(named_tuple).values()) <= {int, float, bool}


@functools.cache
def _folder(module: Path) -> Path:
    """Where the machine code of `module` lies; what older versions of it left is removed."""
    cache = Path(platformdirs.user_cache_dir("lnagents")) / "kernels"
    folder = cache / _digest(module)
    if not folder.exists():
        oldest = time.time() - _KEPT_SECONDS
        for other in cache.glob(f"{module.stem}-*"):
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                if other.stat().st_mtime < oldest:
                    shutil.rmtree(other, ignore_errors=True)
    return folder


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
