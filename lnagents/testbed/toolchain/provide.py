"""Finds each program, or provides it."""

from __future__ import annotations

import asyncio

from lnagents.model.errors import ToolchainError
from lnagents.testbed.toolchain.programs import Product, Toolchain
from lnagents.testbed.toolchain.progress import Progress, silent
from lnagents.testbed.toolchain.search import Programs, find_on_path


async def ensure_toolchain(progress: Progress = silent) -> Toolchain:
    """Every program that a network needs, from PATH, from the cache, or newly provided.

    Raises:
        ToolchainError: one can neither be found nor provided; says why and what to install.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(find_or_provide(product, progress)) for product in Product]
    except* ToolchainError as failures:
        raise failures.exceptions[0] from failures
    programs = {name: program for task in tasks for name, program in task.result().items()}
    return Toolchain(
        bitcoind=programs["bitcoind"],
        bitcoin_cli=programs["bitcoin-cli"],
        lnd=programs["lnd"],
        lncli=programs["lncli"],
        aperture=programs["aperture"],
    )


async def find_or_provide(product: Product, progress: Progress = silent) -> Programs:
    """The programs of one product, from PATH, from the cache, or newly provided.

    Raises:
        ToolchainError: they can neither be found nor provided; says why and what to install.
    """
    return await find_on_path(product)
