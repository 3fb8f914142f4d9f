"""A network as flat arrays: what the twin, its loaders and its generators share.

Channel c has two edges: edge 2c leads from its first node to its second, edge 2c + 1 back. So
`edge ^ 1` is the other direction, and `edge >> 1` the channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Int64Array: TypeAlias = NDArray[np.int64]
Int32Array: TypeAlias = NDArray[np.int32]
Int8Array: TypeAlias = NDArray[np.int8]
FloatArray: TypeAlias = NDArray[np.float64]

# Columns of a policy; see `lnagents.model.graph.ChannelPolicy` for units.
BASE_FEE = 0
FEE_RATE = 1
INBOUND_BASE_FEE = 2
INBOUND_FEE_RATE = 3
MIN_HTLC = 4
MAX_HTLC = 5
TIME_LOCK_DELTA = 6
DISABLED = 7
POLICY_COLUMNS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Nodes, channels, balances and policies; all amounts in msat.

    Raises:
        ValueError: the arrays do not fit together.
    """

    names: tuple[str, ...]
    """Of the nodes, by index."""
    scids: Int64Array
    """[channels], ascending."""
    channel_nodes: Int32Array
    """[channels, 2]."""
    capacity: Int64Array
    """[channels]."""
    opener: Int8Array
    """[channels], 0 or 1: which of the two nodes pays for the commitment transaction."""
    balance: Int64Array
    """[channels, 2], what belongs to each side. The opener's part includes what the commitment
    transaction costs it, so a row's sum is the capacity."""
    policy: Int64Array
    """[2 * channels, POLICY_COLUMNS], what each edge announces."""

    def __post_init__(self) -> None:
        channels = len(self.scids)
        shapes = {
            "channel_nodes": (self.channel_nodes.shape, (channels, 2)),
            "capacity": (self.capacity.shape, (channels,)),
            "opener": (self.opener.shape, (channels,)),
            "balance": (self.balance.shape, (channels, 2)),
            "policy": (self.policy.shape, (2 * channels, POLICY_COLUMNS)),
        }
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise ValueError(f"{name}: the shape is {shape}, not {expected}")
        if channels and not (
            self.channel_nodes.min() >= 0 and self.channel_nodes.max() < len(self.names)
        ):
            raise ValueError("channel_nodes: names a node that does not exist")
        if not np.array_equal(self.balance.sum(axis=1), self.capacity):
            raise ValueError("balance: the two sides do not sum to the capacity")

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self.names)

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return len(self.scids)

    def edge_source(self) -> Int32Array:
        """[edges], the node that sends over each edge and sets its policy."""
        return np.ascontiguousarray(self.channel_nodes.reshape(-1))

    def edge_target(self) -> Int32Array:
        """[edges], the node that each edge leads to."""
        return np.ascontiguousarray(self.channel_nodes[:, ::-1].reshape(-1))
