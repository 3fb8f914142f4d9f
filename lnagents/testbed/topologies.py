"""Reads topology files, by path or by the name of one that comes along."""

from __future__ import annotations

from pathlib import Path

from lnagents.model.errors import TopologyError
from lnagents.model.topology import Topology, parse_topology
from lnagents.testbed.data import data_directory


def load_topology(name_or_path: str | Path) -> Topology:
    """The topology in a file, or the one that comes along under that name, such as `default`.

    Raises:
        TopologyError: naming the file, and the key that is wrong.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and path.suffix == "" and len(path.parts) == 1:
        folder = data_directory() / "topologies"
        path = folder / f"{name_or_path}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
            raise TopologyError(name_or_path, f"no such topology (there are {known}, or give a path)")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        cause = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise TopologyError(str(path), f"cannot be read: {cause}") from exc
    return parse_topology(text, str(path))
