"""Where topologies, images and the toolchain's Go modules lie."""

from __future__ import annotations

from pathlib import Path

import lnagents
from lnagents.model.errors import TestbedError


def data_directory() -> Path:
    """The folder `regtest`: inside an installed package, beside it in a checkout.

    Raises:
        TestbedError: the installation has neither.
    """
    package = Path(lnagents.__file__).resolve().parent
    installed = package / "_data" / "regtest"
    checkout = package.parent / "regtest"
    for directory in (installed, checkout):
        if directory.is_dir():
            return directory
    raise TestbedError(
        f"the data files of lnagents are missing: neither {installed} nor {checkout} exists"
    )
