"""A cache of programs, one folder per version, each with the checksums of its files.

A folder is prepared under another name and renamed when it is complete, so an interruption leaves
nothing half-made under a final name, and readers need no lock. Writers take one, so that two
set-ups at once do not do the same work twice.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs
from pydantic import ValidationError

from lnagents.model.errors import ToolchainError
from lnagents.model.files import StrictModel

MANIFEST = "manifest.json"
LOCK_SECONDS = 3600.0
"""Longest wait for another set-up; a cold build on one slow core stays below it."""
LOCK_POLL_SECONDS = 0.2


class Manifest(StrictModel):
    """What a folder of the cache holds."""

    version: str
    """Of the programs, digits only."""
    has_dev_build: bool = False
    """For lnd: built with the tag `integration`."""
    files: dict[str, str]
    """SHA-256 of each file, hex, by its path inside the folder."""
    links: dict[str, str]
    """Target of each symbolic link, by its path inside the folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder of the cache whose checksums were right."""

    directory: Path
    manifest: Manifest


def cache_root() -> Path:
    """`$XDG_CACHE_HOME/lnagents/toolchain`, by default below `~/.cache`."""
    return platformdirs.user_cache_path("lnagents") / "toolchain"


async def load(key: str) -> Entry | None:
    """The folder `key`, or None when there is none.

    Raises:
        ToolchainError: it is there, but damaged; says how.
    """
    return await asyncio.to_thread(_load, cache_root() / key)


async def remove(key: str) -> None:
    """Delete the folder `key` if it exists; only with the lock."""
    await asyncio.to_thread(shutil.rmtree, cache_root() / key, ignore_errors=True)


async def staging(key: str, *, resume: bool = False) -> Path:
    """The folder to prepare `key` in; only with the lock.

    What an interrupted set-up left there is deleted, unless `resume`.
    """
    return await asyncio.to_thread(_staging, key, resume)


async def store(key: str, prepared: Path, version: str, *, has_dev_build: bool = False) -> Entry:
    """Add checksums to the folder `prepared` and make it the folder `key`; only with the lock."""
    return await asyncio.to_thread(_store, key, prepared, version, has_dev_build)


@asynccontextmanager
async def locked(name: str, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock `name` against other set-ups of this user, in this process or another.

    Args:
        name: what is locked.
        on_wait: called once if another one holds it.

    Raises:
        ToolchainError: another set-up held it for longer than `LOCK_SECONDS`.
    """
    path = cache_root() / f"{name}.lock"
    file = await asyncio.to_thread(_open_lock, path)
    try:
        if not _try_lock(file):
            on_wait()
            end = time.monotonic() + LOCK_SECONDS
            while not _try_lock(file):
                if time.monotonic() > end:
                    raise ToolchainError(f"another set-up still holds {path}")
                await asyncio.sleep(LOCK_POLL_SECONDS)
        yield
    finally:
        # Closing releases the lock; so does the end of the process, however it comes.
        file.close()


def _open_lock(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _staging(key: str, resume: bool) -> Path:
    directory = cache_root() / f"{key}.partial"
    if not resume:
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _store(key: str, prepared: Path, version: str, has_dev_build: bool) -> Entry:
    files, links = _contents(prepared)
    manifest = Manifest(
        version=version,
        has_dev_build=has_dev_build,
        files={name: _checksum(prepared / name) for name in files},
        links=links,
    )
    with (prepared / MANIFEST).open("w") as file:
        json.dump(manifest.model_dump(), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    final = cache_root() / key
    shutil.rmtree(final, ignore_errors=True)
    prepared.rename(final)
    return Entry(final, manifest)


def _load(directory: Path) -> Entry | None:
    if not directory.is_dir():
        return None
    try:
        manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except (OSError, ValidationError) as exc:
        raise ToolchainError(f"{directory / MANIFEST} cannot be read") from exc
    files, links = _contents(directory)
    changed = set(files) ^ set(manifest.files)
    changed |= {name for name, _ in links.items() ^ manifest.links.items()}
    changed |= {
        name
        for name, checksum in manifest.files.items()
        if name not in changed and _checksum(directory / name) != checksum
    }
    if changed:
        raise ToolchainError(f"{directory / min(changed)} is not what was stored there")
    return Entry(directory, manifest)


def _contents(directory: Path) -> tuple[list[str], dict[str, str]]:
    """Files, and links with their targets, below `directory`, without the manifest."""
    files: list[str] = []
    links: dict[str, str] = {}
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            links[name] = str(path.readlink())
        elif path.is_file() and name != MANIFEST:
            files.append(name)
    return files, links


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
