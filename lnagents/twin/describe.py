"""A network in figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lnagents.model.units import MSAT_PER_SAT
from lnagents.twin.components import components
from lnagents.twin.network import (
    BASE_FEE,
    DISABLED,
    FEE_RATE,
    INBOUND_BASE_FEE,
    INBOUND_FEE_RATE,
    TIME_LOCK_DELTA,
    Network,
)

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Of the quantiles."""


@dataclass(frozen=True, slots=True)
class NetworkFigures:
    """What `describe` finds; the quantiles are those of `LEVELS`."""

    nodes: int
    channels: int
    pairs: int
    """Of nodes that share one channel or more."""
    components: int
    largest_component: int
    """Nodes in it."""
    capacity_sat: int
    """Of all channels together."""
    disabled_share: float
    """Of the directions."""
    inbound_fee_share: float
    """Of the enabled directions: those with an inbound fee that is not 0."""
    capacity_sat_quantiles: tuple[float, ...]
    """Over channels."""
    fee_rate_ppm_quantiles: tuple[float, ...]
    """This one and the next two: over enabled directions."""
    base_fee_msat_quantiles: tuple[float, ...]
    time_lock_delta_quantiles: tuple[float, ...]
    channels_per_node_quantiles: tuple[float, ...]
    smaller_share_quantiles: tuple[float, ...]
    """Over channels: the smaller of the two balances as a part of the capacity."""

    def to_json(self) -> dict[str, Any]:
        """With the levels of the quantiles."""
        return {**asdict(self), "quantile_levels": LEVELS}


def describe(network: Network) -> NetworkFigures:
    """Figures of `network`."""
    label = components(network.nodes, network.channel_nodes)
    enabled = network.policy[network.policy[:, DISABLED] == 0]
    inbound = enabled[:, [INBOUND_BASE_FEE, INBOUND_FEE_RATE]].any(axis=1)
    pairs = np.unique(np.sort(network.channel_nodes, axis=1), axis=0)
    degree = np.bincount(network.channel_nodes.reshape(-1), minlength=network.nodes)
    return NetworkFigures(
        nodes=network.nodes,
        channels=network.channels,
        pairs=len(pairs),
        components=len(np.unique(label)),
        largest_component=int(np.bincount(label).max()) if network.nodes else 0,
        capacity_sat=int(network.capacity.sum()) // MSAT_PER_SAT,
        disabled_share=float(network.policy[:, DISABLED].mean()) if network.channels else 0.0,
        inbound_fee_share=float(inbound.mean()) if len(inbound) else 0.0,
        capacity_sat_quantiles=_quantiles(network.capacity // MSAT_PER_SAT),
        fee_rate_ppm_quantiles=_quantiles(enabled[:, FEE_RATE]),
        base_fee_msat_quantiles=_quantiles(enabled[:, BASE_FEE]),
        time_lock_delta_quantiles=_quantiles(enabled[:, TIME_LOCK_DELTA]),
        channels_per_node_quantiles=_quantiles(degree),
        smaller_share_quantiles=_quantiles(network.balance.min(axis=1) / network.capacity),
    )


def _quantiles(values: np.ndarray[Any, np.dtype[Any]]) -> tuple[float, ...]:
    if not len(values):
        return ()
    return tuple(float(value) for value in np.quantile(values, LEVELS))
