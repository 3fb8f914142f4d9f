"""Where topologies, workloads, images and the toolchain's Go modules lie."""

from __future__ import annotations

from pathlib import Path

import lnagents
from lnagents.model.errors import InputError, TestbedError


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


def read_named(folder: str, name_or_path: str | Path, error: type[InputError]) -> tuple[str, str]:
    """The text of a YAML file and the path to call it by in messages.

    Args:
        folder: of `regtest`, where the files lie that come along.
        name_or_path: a bare name, such as `default`, means `regtest/FOLDER/default.yaml`.
        error: what to raise.

    Raises:
        InputError: of the class `error`: there is no such file, or it cannot be read.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and path.suffix == "" and len(path.parts) == 1:
        path = data_directory() / folder / f"{name_or_path}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
            raise error(name_or_path, f"not one of {folder} (there are {known}, or give a path)")
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as exc:
        cause = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise error(str(path), f"cannot be read: {cause}") from exc
