"""Takes bitcoind from Debian packages into a private prefix, without root.

The packages are those of a newer Debian than the machine may run, so they come with their own C
library and are started through its loader. apt gets a configuration of its own; the only thing
taken from the machine is the address of its Debian mirror.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import shutil
from pathlib import Path

from lnagents.model.errors import ToolchainError
from lnagents.testbed.toolchain import cache
from lnagents.testbed.toolchain.processes import run_program
from lnagents.testbed.toolchain.programs import Product, probe_version, version_text
from lnagents.testbed.toolchain.progress import Progress, ProgressEvent

SUITE = "trixie"
BACKPORTS = f"{SUITE}-backports"
PACKAGES = (
    f"bitcoin-knots/{BACKPORTS}",
    *("libbsd0", "libc6", "libcom-err2", "libevent-core-2.1-7t64", "libevent-extra-2.1-7t64"),
    *(
        "libevent-pthreads-2.1-7t64",
        "libgcc-s1",
        "libgssapi-krb5-2",
        "libk5crypto3",
        "libkeyutils1",
    ),
    *("libkrb5-3", "libkrb5support0", "libmd0", "libnorm1t64", "libpgm-5.3-0t64", "libsodium23"),
    *("libsqlite3-0", "libstdc++6", "libzmq5"),
)
"""bitcoind and every library that it loads, directly or not."""
RELEASES = frozenset(
    {"bullseye", "bookworm", "trixie", "forky", "sid"}
    | {"oldoldstable", "oldstable", "stable", "testing", "unstable"}
)
"""Names under which a mirror may serve Debian itself, as against its security updates."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FETCH_SECONDS = 900.0
UNPACK_SECONDS = 120.0


def cache_key() -> str:
    """Name of the folder in the cache: the packages are known, their exact versions are not yet."""
    digest = hashlib.sha256("\0".join((*PACKAGES, platform.machine())).encode())
    return f"bitcoin-{SUITE}-{digest.hexdigest()[:12]}"


def commands(prefix: Path) -> dict[str, tuple[str, ...]]:
    """How each program in `prefix` is started: by the loader of its own C library.

    Raises:
        ToolchainError: `prefix` has no loader.
    """
    libraries = prefix / "lib"
    loaders = sorted(libraries.glob("ld-linux*.so.*"))
    if not loaders:
        raise ToolchainError(f"{libraries} has no dynamic loader")
    return {
        name: (str(loaders[0]), "--library-path", str(libraries), str(prefix / "bin" / name))
        for name in Product.BITCOIN.program_names
    }


async def fetch(progress: Progress) -> cache.Entry:
    """Fetch and unpack bitcoind and store it in the cache; only with the lock `bitcoin`.

    Raises:
        ToolchainError: the machine has no apt or no Debian mirror, or the mirror does not answer.
    """

    def tell(message: str) -> None:
        progress(ProgressEvent(Product.BITCOIN.value, message))

    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise ToolchainError(
                f"this machine has no {tool} to fetch bitcoind with: install bitcoind and"
                f" bitcoin-cli {version_text(Product.BITCOIN.minimum)} or newer"
                " (https://bitcoincore.org/en/download/) and put them on PATH"
            )
    mirror = await find_mirror()
    # Packages that an interrupted set-up fetched already are used again.
    work = await cache.staging(f"{cache_key()}-packages", resume=True)
    environment = {"APT_CONFIG": str(await asyncio.to_thread(_configure_apt, work, mirror))}
    tell(f"reading the package lists of {SUITE}")
    await run_program("apt-get", "update", "-q", timeout=FETCH_SECONDS, environment=environment)
    tell("fetching bitcoind")
    await run_program(
        *("apt-get", "download", "-q", *PACKAGES),
        timeout=FETCH_SECONDS,
        environment=environment,
        directory=work / "packages",
    )
    tell("unpacking")
    staging = await cache.staging(cache_key())
    for package in await asyncio.to_thread(_packages, work):
        await run_program("dpkg", "-x", str(package), str(work / "root"), timeout=UNPACK_SECONDS)
    await asyncio.to_thread(_arrange, work / "root", staging)
    version = await probe_version("bitcoind", commands(staging)["bitcoind"])
    entry = await cache.store(cache_key(), staging, version)
    await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
    return entry


async def find_mirror() -> str:
    """The address of the Debian mirror that this machine's apt uses.

    Raises:
        ToolchainError: its sources name none.
    """
    targets = await run_program(
        # Without release information: it would leave out what was never updated, so on a fresh
        # machine everything.
        *("apt-get", "indextargets", "--no-release-info", "Created-By: Packages"),
        *("--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"),
        timeout=UNPACK_SECONDS,
    )
    for line in targets.splitlines():
        uri, release, component = line.rsplit(" ", 2)
        if release in RELEASES and component == "main":
            return uri
    raise ToolchainError(
        "the apt sources of this machine name no Debian mirror: install bitcoind and bitcoin-cli"
        f" {version_text(Product.BITCOIN.minimum)} or newer"
        " (https://bitcoincore.org/en/download/) and put them on PATH"
    )


def _configure_apt(work: Path, mirror: str) -> Path:
    """Write a configuration that sees our two suites only and keeps all its state in `work`."""
    for folder in ("lists/partial", "cache/archives/partial", "packages"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    # Nothing counts as installed.
    (work / "status").touch()
    signed_by = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    sources = work / "sources.list"
    sources.write_text(
        "".join(f"deb {signed_by}{mirror} {suite} main\n" for suite in (SUITE, BACKPORTS))
    )
    settings = {
        "Dir::State": work,
        "Dir::State::status": work / "status",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        # As root, apt would give up its rights and then could not write here.
        "APT::Sandbox::User": "root",
        # A mirror that does not answer is an error, not a warning.
        "APT::Update::Error-Mode": "any",
    }
    configuration = work / "apt.conf"
    configuration.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return configuration


def _packages(work: Path) -> list[Path]:
    shutil.rmtree(work / "root", ignore_errors=True)
    return sorted((work / "packages").glob("*.deb"))


def _arrange(root: Path, prefix: Path) -> None:
    """Keep of the unpacked `root` only programs and libraries, in `bin` and `lib`."""
    (prefix / "bin").mkdir()
    (prefix / "lib").mkdir()
    for name in Product.BITCOIN.program_names:
        shutil.copy2(root / "usr" / "bin" / name, prefix / "bin" / name)
    for library in root.glob("usr/lib/*-linux-gnu*/*.so*"):
        shutil.copy2(library, prefix / "lib" / library.name, follow_symlinks=False)
