"""Reads what the Go linker wrote into a program about itself (what `go version -m` prints).

The format is that of Go's `debug/buildinfo`: a header of 32 bytes that starts with a magic string,
then two strings with a varint length each, the Go version and the module lines.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"\xff Go buildinf:"
ALIGNMENT = 16
HEADER_SIZE = 32
FLAGS_OFFSET = 15
INLINE_STRINGS = 0x2
"""Flag of programs built with Go 1.18 or newer: the strings follow the header."""
SENTINEL_SIZE = 16
"""Bytes before and after the module lines that only mark them."""


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """The part of the build information that we use."""

    go_version: str
    main_version: str
    """Of the main module; "(devel)" for a build from a source folder without version control."""


def read_build_info(program: Path) -> BuildInfo | None:
    """The build information of `program`; None when it is no Go program, or not readable."""
    try:
        with program.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            start = data.find(MAGIC)
            while start >= 0:
                # The magic string may also stand among a program's constants.
                if start % ALIGNMENT == 0 and data[start + FLAGS_OFFSET] & INLINE_STRINGS:
                    return _decode(data, start + HEADER_SIZE)
                start = data.find(MAGIC, start + 1)
    except (OSError, ValueError, IndexError):
        pass
    return None


def _decode(data: mmap.mmap, position: int) -> BuildInfo:
    version, position = _string(data, position)
    modules, _ = _string(data, position)
    lines = modules[SENTINEL_SIZE:-SENTINEL_SIZE].decode("utf-8", "replace").splitlines()
    main = [line.split("\t") for line in lines if line.startswith("mod\t")]
    return BuildInfo(
        go_version=version.decode("utf-8", "replace"),
        main_version=main[0][2] if main and len(main[0]) > 2 else "",
    )


def _string(data: mmap.mmap, position: int) -> tuple[bytes, int]:
    length, shift = 0, 0
    while True:
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return data[position : position + length], position + length
