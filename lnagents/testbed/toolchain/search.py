"""Looks for programs on PATH."""

from __future__ import annotations

import shutil
from pathlib import Path

from lnagents.model.errors import ToolchainError
from lnagents.testbed.toolchain.programs import (
    Origin,
    Product,
    Program,
    parse_version,
    probe_dev_build,
    probe_version,
    version_text,
)

Programs = dict[str, Program]
"""Programs by their names."""


async def find_on_path(product: Product) -> Programs:
    """The programs of `product` on PATH, all of them new enough.

    Raises:
        ToolchainError: one is missing, too old, or does not run; says which.
    """
    return await inspect(product, _commands_on_path(product), Origin.PATH)


def _commands_on_path(product: Product) -> dict[str, tuple[str, ...]]:
    commands: dict[str, tuple[str, ...]] = {}
    for name in product.program_names:
        found = shutil.which(name)
        if found is None:
            raise ToolchainError(f"{name} is not on PATH")
        commands[name] = (str(Path(found).absolute()),)
    return commands


async def inspect(
    product: Product, commands: dict[str, tuple[str, ...]], origin: Origin
) -> Programs:
    """Ask each program for its version.

    Raises:
        ToolchainError: one does not run, or is too old.
    """
    programs: Programs = {}
    for name, command in commands.items():
        version = await probe_version(name, command)
        if (parse_version(version) or ()) < product.minimum:
            raise ToolchainError(
                f"{command[-1]} is version {version},"
                f" {version_text(product.minimum)} or newer is needed"
            )
        dev_build = name == "lnd" and await probe_dev_build(command)
        programs[name] = Program(name, command, version, origin, dev_build)
    return programs
