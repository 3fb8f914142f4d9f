"""What is publicly known of a network, and how it becomes one with money in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lnagents.model.errors import TopologyError
from lnagents.twin.balances import BalanceSettings, draw_balances
from lnagents.twin.components import in_largest_component
from lnagents.twin.network import DISABLED, POLICY_COLUMNS, Int32Array, Int64Array, Network


@dataclass(frozen=True, slots=True, eq=False)
class Announced:
    """Channels and policies as gossip tells them, laid out as in `Network`."""

    names: tuple[str, ...]
    scids: Int64Array
    """In any order."""
    channel_nodes: Int32Array
    capacity: Int64Array
    """msat."""
    policy: Int64Array


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a public network is used, and what is made up about it."""

    seed: int = 0
    """Of openers and balances."""
    balances: BalanceSettings = field(default_factory=BalanceSettings)
    both_ways: bool = True
    """Only channels that neither side has disabled."""
    largest_component: bool = True
    """Only the largest part in which everyone can reach everyone."""


def complete(announced: Announced, selection: Selection, source: str) -> Network:
    """Draw who opened each channel and how it is split, and cut out what was asked for.

    Gossip tells neither. Everything is drawn for all channels, in the order of their ids, before
    any are left out, so what is left does not depend on what was.

    Args:
        announced: as read from a file.
        selection: what to keep and how to draw.
        source: names the file in error messages.

    Raises:
        TopologyError: a channel occurs twice or leads back to its node, or none is left.
    """
    order = np.argsort(announced.scids, kind="stable")
    announced = _take(announced, order)
    _check(announced, source)
    rng = np.random.default_rng(selection.seed)
    opener = rng.integers(0, 2, len(order), np.int8)
    balance = draw_balances(announced.capacity, opener, selection.balances, rng)
    kept = np.ones(len(order), np.bool_)
    if selection.both_ways:
        kept &= (announced.policy[:, DISABLED].reshape(-1, 2) == 0).all(axis=1)
    if selection.largest_component and kept.any():
        nodes = in_largest_component(len(announced.names), announced.channel_nodes[kept])
        kept &= nodes[announced.channel_nodes[:, 0]]
    if not kept.any():
        raise TopologyError(source, "no channel is left")
    announced, opener, balance = _take(announced, kept.nonzero()[0]), opener[kept], balance[kept]
    # Nodes keep their order, and those without channels are left out.
    used, ends = np.unique(announced.channel_nodes, return_inverse=True)
    return Network(
        names=tuple(announced.names[node] for node in used),
        scids=announced.scids,
        channel_nodes=ends.reshape(-1, 2).astype(np.int32),
        capacity=announced.capacity,
        opener=opener,
        balance=balance,
        policy=announced.policy,
    )


def _take(announced: Announced, channels: NDArray[np.int64]) -> Announced:
    policy = announced.policy.reshape(-1, 2, POLICY_COLUMNS)[channels]
    return replace(
        announced,
        scids=announced.scids[channels],
        channel_nodes=announced.channel_nodes[channels],
        capacity=announced.capacity[channels],
        policy=policy.reshape(-1, POLICY_COLUMNS),
    )


def _check(announced: Announced, source: str) -> None:
    twice = (announced.scids[1:] == announced.scids[:-1]).nonzero()[0]
    if len(twice):
        raise TopologyError(source, f"channel {announced.scids[twice[0]]} occurs twice")
    to_itself = (announced.channel_nodes[:, 0] == announced.channel_nodes[:, 1]).nonzero()[0]
    if len(to_itself):
        scid = announced.scids[to_itself[0]]
        raise TopologyError(source, f"channel {scid} joins a node to itself")
