"""Finds bitcoind, lnd and aperture, or provides them.

PATH comes first (each version is checked), then a cache of the user's own, and what is in neither
is provided: LND and Aperture are built from the pinned Go modules in `regtest/toolchain`, bitcoind
comes from Debian packages in a private prefix, without root. Whatever is cached is checked against
its checksums before use, and the second time needs no network.

`programs` says what is looked for, `search` looks on PATH, `cache` keeps things, `golang` and
`debian` provide them, `provide` puts it all in order.
"""

from lnagents.testbed.toolchain.programs import Origin, Product, Program, Toolchain
from lnagents.testbed.toolchain.progress import Progress, ProgressEvent
from lnagents.testbed.toolchain.provide import ensure_toolchain, find_or_provide

__all__ = [
    "Origin",
    "Product",
    "Program",
    "Progress",
    "ProgressEvent",
    "Toolchain",
    "ensure_toolchain",
    "find_or_provide",
]
