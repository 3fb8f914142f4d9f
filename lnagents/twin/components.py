"""Which nodes can reach each other at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnagents.twin.network import Int32Array, Int64Array


def components(nodes: int, channel_nodes: Int32Array) -> Int64Array:
    """[nodes], for each node the smallest node that channels join it to, directly or not."""
    label = np.arange(nodes)
    one, other = channel_nodes[:, 0], channel_nodes[:, 1]
    while True:
        least = np.minimum(label[one], label[other])
        joined = label.copy()
        # Joins whole trees, so that the number of passes grows with the logarithm of the nodes.
        np.minimum.at(joined, label[one], least)
        np.minimum.at(joined, label[other], least)
        joined = joined[joined]
        if np.array_equal(joined, label):
            return label
        label = joined


def in_largest_component(nodes: int, channel_nodes: Int32Array) -> NDArray[np.bool_]:
    """[nodes], which nodes belong to the component that has the most of them."""
    label = components(nodes, channel_nodes)
    return np.equal(label, np.argmax(np.bincount(label)))
