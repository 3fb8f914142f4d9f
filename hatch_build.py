"""Generates the Python stubs of `protos/` whenever the package is built, editable builds included.

Each folder of `protos/` belongs to one package of ours, and its stubs go into `lnagents/PACKAGE/stubs`,
so that protobuf types stay behind that package's seam.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs protoc before the files of a package are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate all stubs; `version` is hatch's name of the kind of build."""
        root = Path(self.root)
        for folder in sorted(path for path in (root / "protos").iterdir() if path.is_dir()):
            generate(root, folder.name)


def generate(root: Path, package: str) -> None:
    """Generate the stubs of `protos/PACKAGE` afresh.

    Raises:
        RuntimeError: protoc refused a file; it has said why on standard error.
    """
    virtual = f"lnagents/{package}/stubs"
    target = root / virtual
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        if old.is_file():
            old.unlink()
    (target / "__init__.py").write_text(f'"""Generated from protos/{package} at build time."""\n')
    sources = sorted((root / "protos" / package).glob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            # Maps the folder to the package, so that the stubs import each other by their real names.
            f"--proto_path={virtual}={root / 'protos' / package}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--python_out={root}",
            f"--grpc_python_out={root}",
            f"--mypy_out={root}",
            f"--mypy_grpc_out={root}",
            *(f"{virtual}/{source.name}" for source in sources),
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc refused protos/{package} (exit {status})")
