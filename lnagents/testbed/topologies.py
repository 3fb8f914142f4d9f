"""Reads topology files, by path or by the name of one that comes along."""

from __future__ import annotations

from pathlib import Path

from lnagents.model.errors import TopologyError
from lnagents.model.topology import Topology, parse_topology
from lnagents.testbed.data import read_named


def load_topology(name_or_path: str | Path) -> Topology:
    """The topology in a file, or the one that comes along under that name, such as `default`.

    Raises:
        TopologyError: naming the file, and the key that is wrong.
    """
    text, source = read_named("topologies", name_or_path, TopologyError)
    return parse_topology(text, source)
