"""Generates the Python stubs of `protos/` whenever the package is built, editable builds included.

Each folder of `protos/` belongs to one package of ours, and its stubs go into
`lnagents/PACKAGE/stubs`, so that protobuf types stay behind that package's seam.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Runs protoc before the files of a package are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate all stubs; `version` is hatch's name of the kind of build."""
        root = Path(self.root)
        for folder in sorted(path for path in (root / "protos").iterdir() if path.is_dir()):
            sources = sorted(folder.glob("*.proto"))
            if sources:
                generate(root, folder.name, sources)


def generate(root: Path, package: str, sources: list[Path]) -> None:
    """Generate the stubs of `protos/PACKAGE`, and remove those whose .proto is gone.

    They are made aside and moved into place, because programs may be importing the old ones.

    Raises:
        RuntimeError: protoc refused a file; it has said why on standard error.
    """
    # Mapped to the place of the stubs, so that these import each other by their real names; a
    # .proto names its neighbour the same way: `import "lnagents/lnd/stubs/lightning.proto";`.
    virtual = f"lnagents/{package}/stubs"
    target = root / virtual
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root / "lnagents" / package, prefix=".stubs-") as made:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={virtual}={root / 'protos' / package}",
                f"--proto_path={files('grpc_tools') / '_proto'}",
                f"--python_out={made}",
                f"--grpc_python_out={made}",
                f"--mypy_out=quiet:{made}",
                f"--mypy_grpc_out=quiet:{made}",
                *(f"{virtual}/{source.name}" for source in sources),
            ]
        )
        if status != 0:
            raise RuntimeError(f"protoc refused protos/{package} (exit {status})")
        fresh = Path(made) / virtual
        (fresh / "__init__.py").write_text(
            f'"""Generated from protos/{package} when building."""\n'
        )
        names = {path.name for path in fresh.iterdir()}
        for path in fresh.iterdir():
            path.replace(target / path.name)
    for path in target.iterdir():
        if path.is_file() and path.name not in names:
            path.unlink()
