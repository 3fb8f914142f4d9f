"""The twin as arrays, without an object per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnagents.env.arrays import ActionArrays, MaskArray, RoundArrays
from lnagents.env.encoding import ACTION_NAMES
from lnagents.env.features import FloatArray
from lnagents.env.fees import FeeBounds
from lnagents.env.kernels import bound_numbers, decode_fees, encode_agents, scatter_rows
from lnagents.env.payments import RoundPayments
from lnagents.model.kernel import direct
from lnagents.twin.network import POLICY_COLUMNS

if TYPE_CHECKING:
    from lnagents.env.twin_world import TwinWorld

_encode_agents = direct(encode_agents)
_decode_fees = direct(decode_fees)


class TwinRounds:
    """The `Rounds` of a `TwinWorld`: equal to those by its views, and much faster."""

    def __init__(self, world: TwinWorld, bounds: FeeBounds) -> None:
        self._world = world
        self._bounds = bound_numbers(bounds)
        self._shape = (len(world.book.node), world.max_channels)
        own = len(world.book.edge)
        self._edges = np.zeros(own, np.int64)
        self._policies = np.zeros((own, POLICY_COLUMNS), np.int64)
        self._all = np.ones(self._shape[0], np.int8)

    def reset(self, seed: int) -> None:
        """See `World.reset`."""
        self._world.reset(seed)

    def observe(self, into: RoundArrays) -> None:
        """See `Rounds.observe`."""
        world = self._world
        state = world.twin.state
        fits = _in_one_piece(into.channels, into.channel_mask, into.node, into.terms)
        (_encode_agents if fits else encode_agents)(
            world.book,
            state.switch.liquidity,
            state.mind.gossip,
            state.switch.flows,
            world.down,
            world.found,
            world.counts,
            world.twin.now,
            into.channels,
            into.channel_mask,
            into.node,
            into.terms,
        )

    def act(self, actions: ActionArrays) -> None:
        """See `Rounds.act`."""
        world = self._world
        _check_shape("fees", actions.fees, (*self._shape, len(ACTION_NAMES)))
        decides = self._all if actions.decides is None else actions.decides
        _check_shape("decides", decides, self._shape[:1])
        fits = actions.fees.dtype == np.float32 and _in_one_piece(actions.fees, decides)
        changed = (_decode_fees if fits else decode_fees)(
            world.book,
            world.twin.state.mind.gossip.policy,
            world.down,
            world.found,
            self._bounds,
            actions.fees,
            decides,
            self._edges,
            self._policies,
        )
        if changed < 0:
            raise ValueError("a number in the action is not finite")
        if changed:
            world.twin.set_policies(self._edges[:changed], self._policies[:changed])
        if actions.preference is not None:
            _check_shape("preference", actions.preference, self._shape)
            scatter_rows(
                world.book, world.down, actions.preference, decides, -1.0, world.preferences
            )
        if actions.reserved is not None:
            _check_shape("reserved", actions.reserved, self._shape)
            scatter_rows(world.book, world.down, actions.reserved, decides, 0.0, world.reserved)
        if actions.preference is not None or actions.reserved is not None:
            world.set_routing()

    def run(self, payments: RoundPayments) -> None:
        """See `Rounds.run`."""
        self._world.run_arrays(payments)


def _in_one_piece(*arrays: NDArray[Any]) -> bool:
    """Whether arrays are as they are made: not views that leave something out."""
    for array in arrays:
        flags = array.flags
        if not (flags.c_contiguous and flags.writeable):
            return False
    return True


def _check_shape(name: str, array: FloatArray | MaskArray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{name}: the shape is {array.shape}, not {expected}")
