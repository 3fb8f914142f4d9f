"""One round of all agents as arrays, and how any world is observed and steered through them.

Rows are padded to the agent with the most channels; masks say which rows are real. A row stays with
its channel for a whole episode: channels are in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lnagents.env.encoding import ACTION_NAMES, CHANNEL_FEATURES, NODE_FEATURES, encode
from lnagents.env.features import FloatArray
from lnagents.env.fees import FeeBounds, decode
from lnagents.env.payments import RoundPayments
from lnagents.env.reward import REWARDS, TermArrays, mean_weight, reward_terms
from lnagents.env.settings import EnvSettings
from lnagents.env.world import World
from lnagents.model.units import NodeKey
from lnagents.model.view import ChannelDecision, NodeDecision, NodeView, RewardTerms

MaskArray: TypeAlias = NDArray[np.int8]
TermArray: TypeAlias = NDArray[np.float64]

TERM_NAMES = (*(field.name for field in fields(RewardTerms)), "payments_settled", "payments_failed")
"""Columns of `RoundArrays.terms`: those of `RewardTerms`, then how the own payments ended."""


@dataclass(frozen=True, slots=True, eq=False)
class RoundArrays:
    """What the agents see at the end of a round, and what it brought them."""

    channels: FloatArray
    """[agents, most channels, `CHANNEL_FEATURES`], 0 where there is no channel."""
    channel_mask: MaskArray
    """[agents, most channels], 1 for a channel, 0 for padding."""
    node: FloatArray
    """[agents, `NODE_FEATURES`]."""
    terms: TermArray
    """[agents, `TERM_NAMES`]."""

    @classmethod
    def empty(cls, agents: int, channels: int, batch: tuple[int, ...] = ()) -> RoundArrays:
        """Zeros, for `agents` agents with at most `channels` channels."""
        shape = (*batch, agents)
        return cls(
            np.zeros((*shape, channels, len(CHANNEL_FEATURES)), np.float32),
            np.zeros((*shape, channels), np.int8),
            np.zeros((*shape, len(NODE_FEATURES)), np.float32),
            np.zeros((*shape, len(TERM_NAMES))),
        )

    def __getitem__(self, index: int) -> RoundArrays:
        """Views into one element of the batch."""
        return RoundArrays(
            self.channels[index], self.channel_mask[index], self.node[index], self.terms[index]
        )

    def narrowed(self, channels: int) -> RoundArrays:
        """Views in which agents have at most `channels` channels."""
        if self.channel_mask.shape[1] == channels:
            return self
        return RoundArrays(
            self.channels[:, :channels], self.channel_mask[:, :channels], self.node, self.terms
        )


@dataclass(frozen=True, slots=True, eq=False)
class ActionArrays:
    """What the agents want; numbers outside their ranges are clipped to them."""

    fees: FloatArray
    """[agents, most channels, `ACTION_NAMES`], -1 to 1, see `lnagents.env.fees`."""
    preference: FloatArray | None = None
    """[agents, most channels], -1 to 1: where payments routed hop by hop leave; None: unchanged."""
    reserved: FloatArray | None = None
    """[agents, most channels], 0 to 1: share kept for priority payments; None: unchanged."""
    decides: MaskArray | None = None
    """[agents], 0 for those who are steered from elsewhere: they keep what they have, whatever
    their rows hold. None: all decide."""

    @classmethod
    def zeros(cls, agents: int, channels: int, batch: tuple[int, ...] = ()) -> ActionArrays:
        """Fees as they were found, everything else as it is."""
        return cls(np.zeros((*batch, agents, channels, len(ACTION_NAMES)), np.float32))

    def __getitem__(self, index: int) -> ActionArrays:
        """Views into one element of the batch."""
        return ActionArrays(
            self.fees[index],
            None if self.preference is None else self.preference[index],
            None if self.reserved is None else self.reserved[index],
            None if self.decides is None else self.decides[index],
        )

    def narrowed(self, channels: int) -> ActionArrays:
        """Views in which agents have at most `channels` channels."""
        if self.fees.shape[1] == channels:
            return self
        return ActionArrays(
            self.fees[:, :channels],
            None if self.preference is None else self.preference[:, :channels],
            None if self.reserved is None else self.reserved[:, :channels],
            self.decides,
        )


class Rounds(Protocol):
    """A world, observed and steered through arrays."""

    def reset(self, seed: int) -> None:
        """See `World.reset`."""

    def observe(self, into: RoundArrays) -> None:
        """Fill `into`; the rows of padding are left alone."""

    def act(self, actions: ActionArrays) -> None:
        """Carry out what the agents want, in the rows' order of the last `observe`.

        Raises:
            ValueError: an array has another shape, or a number in it is not finite.
        """

    def run(self, payments: RoundPayments) -> None:
        """Live one round."""


@runtime_checkable
class ArrayWorld(Protocol):
    """A world that has a faster way to its arrays than by views."""

    def rounds(self, bounds: FeeBounds) -> Rounds:
        """The world as arrays; fees are kept within `bounds`."""


class ViewRounds:
    """Any world as arrays, by way of its views and decisions."""

    def __init__(self, world: World, bounds: FeeBounds) -> None:
        self._world = world
        self._bounds = bounds
        self._views: list[NodeView] = []

    def reset(self, seed: int) -> None:
        """See `World.reset`."""
        self._world.reset(seed)

    def observe(self, into: RoundArrays) -> None:
        """Encode the views of all agents."""
        views = self._world.observe()
        self._views = [_ordered(views[key]) for key in self._world.agents.values()]
        for agent, view in enumerate(self._views):
            seen = encode(view)
            count = len(seen.scids)
            into.channels[agent, :count] = seen.channels
            into.channel_mask[agent, :count] = 1
            into.node[agent] = seen.node
            into.terms[agent] = terms_row(view)

    def act(self, actions: ActionArrays) -> None:
        """Decode the actions of all agents."""
        decisions: dict[NodeKey, NodeDecision] = {}
        for agent, view in enumerate(self._views):
            if actions.decides is not None and not actions.decides[agent]:
                continue
            count = len(view.channels)
            decision = decode(view, actions.fees[agent, :count], self._bounds)
            for name in ("preference", "reserved"):
                wanted = getattr(actions, name)
                if wanted is not None:
                    decision = _with_shares(decision, view, name, wanted[agent, :count].tolist())
            decisions[view.node] = decision
        self._world.apply(decisions)

    def run(self, payments: RoundPayments) -> None:
        """Hand the payments over one by one."""
        self._world.run(payments.requests(tuple(self._world.nodes)))


def _ordered(view: NodeView) -> NodeView:
    return replace(view, channels=tuple(sorted(view.channels, key=lambda one: one.scid)))


def terms_row(view: NodeView) -> list[float]:
    """`TERM_NAMES` of one agent."""
    terms = reward_terms(view)
    return [
        *(getattr(terms, field.name) for field in fields(terms)),
        view.payments_settled,
        view.payments_failed,
    ]


def _with_shares(
    decision: NodeDecision, view: NodeView, name: str, wanted: Sequence[float]
) -> NodeDecision:
    channels = dict(decision.channels)
    for channel, value in zip(view.channels, wanted, strict=True):
        if channel.active:
            one = channels.get(channel.scid, ChannelDecision())
            channels[channel.scid] = (
                replace(one, preference=min(1.0, max(-1.0, value)))
                if name == "preference"
                else replace(one, reserved_share=min(1.0, max(0.0, value)))
            )
    return NodeDecision(channels)


def own_rewards(terms: TermArray, settings: EnvSettings) -> TermArray:
    """[..., agents], each agent's own reward in units of `settings.reward_unit_msat`.

    Args:
        terms: [..., agents, `TERM_NAMES`].
        settings: the function, its weights and the unit.
    """
    given = TermArrays(*(terms[..., column] for column in range(len(fields(TermArrays)))))
    own = REWARDS[settings.reward](given, settings.weights)
    return np.divide(own, settings.reward_unit_msat)


def shared_rewards(own: TermArray, settings: EnvSettings) -> TermArray:
    """[..., agents], what each agent is rewarded with, as `settings.mode` says.

    Args:
        own: [..., agents].
        settings: mode and mix.
    """
    weight = mean_weight(settings.mode, settings.mix)
    if weight == 0.0:
        return own
    mean: TermArray = own.mean(axis=-1, keepdims=True)
    return np.add((1.0 - weight) * own, weight * mean)
