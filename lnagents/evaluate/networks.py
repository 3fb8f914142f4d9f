"""Finds the network that a user means."""

from __future__ import annotations

from pathlib import Path

from lnagents.testbed import load_topology
from lnagents.twin.announced import Selection
from lnagents.twin.loaders import from_topology, load_network
from lnagents.twin.network import Network


def find_network(name_or_path: str | Path, selection: Selection | None = None) -> Network:
    """The network of a topology that comes along, such as `default`, or the one in a file.

    Args:
        name_or_path: a bare name without suffix, or a path; `lnagents.twin.loaders.load_network`
            says which formats are understood.
        selection: what to keep of a public network, and how to draw what is not known of it.

    Raises:
        TopologyError: with one sentence that names the file and the line or key.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and path.suffix == "" and len(path.parts) == 1:
        return from_topology(load_topology(name_or_path))
    return load_network(path, selection)
