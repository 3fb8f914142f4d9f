"""The programs a network is made of, and which version a given executable is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lnagents.model.errors import ToolchainError
from lnagents.testbed.toolchain.buildinfo import read_build_info
from lnagents.testbed.toolchain.processes import run_program

PROBE_SECONDS = 20.0
"""Longest wait for `--version` or `--help`; they take 0.1 s on an idle machine."""

Version = tuple[int, ...]


class Origin(str, Enum):
    """Where a program was found."""

    PATH = "path"
    CACHE = "cache"
    BUILT = "built"
    """Provided by this very call; the next one finds it in the cache."""


@dataclass(frozen=True, slots=True)
class Program:
    """An executable that was asked for its version and is new enough."""

    name: str
    command: tuple[str, ...]
    """What to start: arguments are appended. Not always one file, because bitcoind from the cache
    runs through the dynamic loader that belongs to it."""
    version: str
    """Digits only, such as 0.21.1."""
    origin: Origin
    has_dev_build: bool = False
    """Of lnd: built with the tag `integration`, which makes key derivation cheap and adds the
    options `--dev.*`. False for all others."""

    @property
    def path(self) -> Path:
        """The executable itself."""
        return Path(self.command[-1])


@dataclass(frozen=True, slots=True)
class Toolchain:
    """All that a network needs."""

    bitcoind: Program
    bitcoin_cli: Program
    lnd: Program
    lncli: Program
    aperture: Program

    @property
    def programs(self) -> tuple[Program, ...]:
        """Every program, for listings."""
        return (self.bitcoind, self.bitcoin_cli, self.lnd, self.lncli, self.aperture)


class Product(str, Enum):
    """Programs that come together, from one source."""

    BITCOIN = "bitcoin"
    LND = "lnd"
    APERTURE = "aperture"

    @property
    def program_names(self) -> tuple[str, ...]:
        """Names of its executables."""
        return _PROGRAM_NAMES[self]

    @property
    def minimum(self) -> Version:
        """Oldest version that works."""
        return _MINIMUM[self]


_PROGRAM_NAMES = {
    Product.BITCOIN: ("bitcoind", "bitcoin-cli"),
    Product.LND: ("lnd", "lncli"),
    Product.APERTURE: ("aperture",),
}
_MINIMUM: dict[Product, Version] = {
    Product.BITCOIN: (28,),
    # The first with the router and policy fields that our .proto files are made from.
    Product.LND: (0, 21),
    Product.APERTURE: (0, 5),
}


def version_text(version: Version) -> str:
    """`(0, 21)` as `0.21`."""
    return ".".join(map(str, version))


def parse_version(text: str) -> Version | None:
    """The first version in `text`, such as `lnd version 0.21.1-beta` or `go1.26.8`."""
    match = re.search(r"(?<![\w.])(?:v|go)?(\d+(?:\.\d+)+)", text)
    return tuple(map(int, match.group(1).split("."))) if match else None


async def probe_version(name: str, command: tuple[str, ...]) -> str:
    """Ask the program `name` for its version.

    Raises:
        ToolchainError: it does not run, or does not tell.
    """
    if name == "aperture":
        # It has no option for it, but every Go program carries the version of its main module.
        info = read_build_info(Path(command[-1]))
        text = info.main_version if info is not None else ""
    else:
        text = await run_program(*command, "--version", timeout=PROBE_SECONDS)
    version = parse_version(text.splitlines()[0] if text else "")
    if version is None:
        raise ToolchainError(f"{command[-1]} does not tell its version")
    return version_text(version)


async def probe_dev_build(command: tuple[str, ...]) -> bool:
    """Whether this lnd has the `--dev.` options, which only the tag `integration` adds.

    Raises:
        ToolchainError: it does not run.
    """
    usage = await run_program(*command, "--help", timeout=PROBE_SECONDS)
    return "--dev." in usage
