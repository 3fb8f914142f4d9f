"""Finds each program, or provides it."""

from __future__ import annotations

import asyncio

from lnagents.model.errors import ToolchainError
from lnagents.testbed.toolchain import cache, debian, golang
from lnagents.testbed.toolchain.programs import Origin, Product, Program, Toolchain
from lnagents.testbed.toolchain.progress import Progress, ProgressEvent, silent
from lnagents.testbed.toolchain.search import Programs, find_on_path


async def ensure_toolchain(progress: Progress = silent) -> Toolchain:
    """Every program that a network needs, from PATH, from the cache, or newly provided.

    Raises:
        ToolchainError: one can neither be found nor provided; says why and what to install.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(find_or_provide(product, progress)) for product in Product]
    except ExceptionGroup as failures:
        # One sentence says enough: of several causes the first, unless something unforeseen failed.
        expected, others = failures.split(ToolchainError)
        if expected is None or others is not None:
            raise
        raise expected.exceptions[0] from failures
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
    try:
        return await find(product)
    except ToolchainError as exc:
        progress(ProgressEvent(product.value, f"{exc}; it will be provided"))

    def tell_of_waiting() -> None:
        progress(ProgressEvent(product.value, "waiting for another set-up or build to end"))

    # Both Go builds share Go's own cache; one after the other compiles nothing twice.
    lock = "bitcoin" if product is Product.BITCOIN else "go"
    try:
        async with cache.locked(lock, tell_of_waiting):
            try:
                # Another set-up may have been quicker.
                return await _find_cached(product)
            except ToolchainError:
                await cache.remove(_cache_key(product))
            entry = await _provide(product, progress)
    except OSError as exc:
        raise ToolchainError(f"{product.value} cannot be provided: {exc}") from exc
    return _programs(product, entry, Origin.BUILT)


async def find(product: Product) -> Programs:
    """The programs of one product, from PATH or from the cache; fetches and builds nothing.

    Raises:
        ToolchainError: they are in neither; says what was wrong in each place.
    """
    try:
        return await find_on_path(product)
    except ToolchainError as on_path:
        try:
            return await _find_cached(product)
        except ToolchainError as in_cache:
            raise ToolchainError(f"{on_path}, and {in_cache}") from on_path


async def _find_cached(product: Product) -> Programs:
    key = await asyncio.to_thread(_cache_key, product)
    entry = await cache.load(key)
    if entry is None:
        raise ToolchainError("the cache has none")
    return _programs(product, entry, Origin.CACHE)


async def _provide(product: Product, progress: Progress) -> cache.Entry:
    if product is Product.BITCOIN:
        return await debian.fetch(progress)
    return await golang.build(golang.RECIPES[product], progress)


def _cache_key(product: Product) -> str:
    if product is Product.BITCOIN:
        return debian.cache_key()
    return golang.cache_key(golang.RECIPES[product])


def _programs(product: Product, entry: cache.Entry, origin: Origin) -> Programs:
    if product is Product.BITCOIN:
        commands = debian.commands(entry.directory)
    else:
        commands = golang.commands(product, entry.directory)
    return {
        name: Program(
            name,
            command,
            entry.manifest.version,
            origin,
            has_dev_build=name == "lnd" and entry.manifest.has_dev_build,
        )
        for name, command in commands.items()
    }
