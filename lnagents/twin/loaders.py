"""Networks from files: topologies, LND's graph, and snapshots of the public network."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from lnagents.model.errors import TopologyError
from lnagents.model.topology import ChannelSpec, PolicySpec, Topology, parse_topology
from lnagents.model.units import MSAT_PER_SAT, Msat
from lnagents.twin.announced import Selection, complete
from lnagents.twin.describegraph import parse_describegraph
from lnagents.twin.network import POLICY_COLUMNS, Network
from lnagents.twin.public_snapshot import COLUMNS, parse_snapshot

_GZIP = b"\x1f\x8b"

FIRST_BLOCK = 150
"""In which the channels of a topology are said to be; any block would do."""
RESERVE_DIVISOR = 100
"""LND announces the capacity less a hundredth as max HTLC (`RequiredRemoteMaxValue`, server.go)."""


def from_topology(topology: Topology) -> Network:
    """The network that the testbed builds from `topology`, as it is before any payment.

    Nodes and channels keep their order. A channel's first node is the one that opens it, and holds
    what it has not pushed to the other side.
    """
    index = {node.name: position for position, node in enumerate(topology.nodes)}
    channels = topology.channels
    count = len(channels)
    policy = np.zeros((2 * count, POLICY_COLUMNS), np.int64)
    for position, channel in enumerate(channels):
        forth, back = topology.channel_policies(channel)
        policy[2 * position] = _policy_row(forth, channel)
        policy[2 * position + 1] = _policy_row(back, channel)
    capacity = np.array([channel.capacity_msat for channel in channels], np.int64)
    pushed = np.array([channel.push_sat * MSAT_PER_SAT for channel in channels], np.int64)
    ends = [(index[channel.source], index[channel.target]) for channel in channels]
    return Network(
        names=tuple(index),
        scids=(FIRST_BLOCK << 40) + (np.arange(count, dtype=np.int64) << 16),
        channel_nodes=np.array(ends, np.int32).reshape(count, 2),
        capacity=capacity,
        opener=np.zeros(count, np.int8),
        balance=np.stack([capacity - pushed, pushed], axis=1),
        policy=policy,
    )


def load_network(path: str | Path, selection: Selection | None = None) -> Network:
    """The network in a file, whatever its format: its content tells.

    Args:
        path: a topology (YAML), the JSON of `lncli describegraph`, or a snapshot (CSV); each of
            them may be compressed by gzip.
        selection: what to keep of a public network, and how to draw what is not known of it. A
            topology says everything itself.

    Raises:
        TopologyError: with one sentence that names the file and the line or key.
    """
    text = _read(path)
    start = text[:1_000].lstrip()
    if start.startswith(f"{COLUMNS[0]},"):
        announced = parse_snapshot(text, str(path))
    elif start.startswith("{") and '"edges"' in text:
        announced = parse_describegraph(text, str(path))
    else:
        return from_topology(parse_topology(text, str(path)))
    del text
    return complete(announced, selection or Selection(), str(path))


def load_describegraph(path: str | Path, selection: Selection | None = None) -> Network:
    """The network in the JSON that `lncli describegraph` prints; nodes are named by their keys.

    Raises:
        TopologyError: with one sentence that names the file and the line or key.
    """
    announced = parse_describegraph(_read(path), str(path))
    return complete(announced, selection or Selection(), str(path))


def load_snapshot(path: str | Path, selection: Selection | None = None) -> Network:
    """The network in a CSV file with the columns `public_snapshot.COLUMNS`.

    Raises:
        TopologyError: with one sentence that names the file and the line.
    """
    announced = parse_snapshot(_read(path), str(path))
    return complete(announced, selection or Selection(), str(path))


def default_max_htlc(capacity_sat: int) -> Msat:
    """The max HTLC in msat that LND announces for a channel unless it is told otherwise."""
    return (capacity_sat - capacity_sat // RESERVE_DIVISOR) * MSAT_PER_SAT


def _policy_row(spec: PolicySpec, channel: ChannelSpec) -> tuple[int, ...]:
    policy = spec.to_policy(default_max_htlc(channel.capacity_sat))
    return (
        policy.base_fee_msat,
        policy.fee_rate_ppm,
        policy.inbound_base_fee_msat,
        policy.inbound_fee_rate_ppm,
        policy.min_htlc_msat,
        policy.max_htlc_msat,
        policy.time_lock_delta,
        int(policy.disabled),
    )


def _read(path: str | Path) -> str:
    try:
        data = Path(path).read_bytes()
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
        return data.decode("utf-8")
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise TopologyError(str(path), "cannot be decompressed: not valid gzip") from exc
    except UnicodeDecodeError as exc:
        raise TopologyError(str(path), "cannot be read: not UTF-8 text") from exc
    except OSError as exc:
        raise TopologyError(str(path), f"cannot be read: {exc.strerror}") from exc
