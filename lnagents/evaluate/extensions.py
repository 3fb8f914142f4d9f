"""Python files that a configuration names: they add algorithms, heuristics and rewards.

A file is run once in every process that needs it, before names are looked up. Processes elsewhere
get its text, so that it need not lie there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from lnagents.model.errors import InputError

PACKAGE = "lnagents_extensions"

_LOADED: dict[str, str] = {}
"""Text by path, of what has been run in this process."""


@dataclass(frozen=True, slots=True)
class Extension:
    """One file."""

    path: str
    text: str

    def load(self) -> None:
        """Run it, unless that has been done.

        Raises:
            ValueError: it does not run, or the file was another one when it was run before.
        """
        if self.path in _LOADED:
            if _LOADED[self.path] != self.text:
                raise ValueError(f"{self.path} has changed since it was loaded")
            return
        name = f"{PACKAGE}.{Path(self.path).stem}"
        module = ModuleType(name)
        module.__file__ = self.path
        sys.modules[name] = module
        try:
            exec(compile(self.text, self.path, "exec"), module.__dict__)  # noqa: S102 - as asked
        except Exception as exc:
            del sys.modules[name]
            raise ValueError(f"{self.path} does not run, {type(exc).__name__}: {exc}") from exc
        _LOADED[self.path] = self.text


def read_extensions(paths: Sequence[str]) -> tuple[Extension, ...]:
    """The files; paths are absolute.

    Raises:
        ValueError: one cannot be read.
    """
    try:
        return tuple(Extension(one, Path(one).read_text(encoding="utf-8")) for one in paths)
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"cannot be read: {exc}") from exc


def load_named(text: str, source: str, folder: Path, error: type[InputError]) -> tuple[str, ...]:
    """Run what the key `extensions` of a YAML file names, so that the rest may use it.

    Args:
        text: of the file. Whatever else is wrong with it is told by who parses it.
        source: what messages call the file.
        folder: where paths start.
        error: what to raise.

    Returns:
        The absolute paths.

    Raises:
        InputError: of the class `error`: a file cannot be read, or does not run.
    """
    try:
        whole = yaml.safe_load(text)
    except yaml.YAMLError:
        return ()
    named: Any = whole.get("extensions") if isinstance(whole, dict) else None
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        return ()
    paths = tuple(str((folder / one).resolve()) for one in named)
    try:
        for extension in read_extensions(paths):
            extension.load()
    except ValueError as exc:
        raise error(source, f"extensions: {exc}") from exc
    return paths
