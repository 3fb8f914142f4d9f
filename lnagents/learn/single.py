"""One agent of a team on its own, as it acts where the others are elsewhere."""

from __future__ import annotations

import torch

from lnagents.learn.acting import Acting
from lnagents.learn.experience import ChannelArrays, FloatArray, checked
from lnagents.learn.memory import OwnMemory
from lnagents.learn.networks import ChannelActor
from lnagents.learn.policy import Policy


class SingleActor:
    """The most likely actions of one agent through an episode, the same numbers as for many.

    See `lnagents.learn.player.Player`.
    """

    def __init__(self, policy: Policy, agent: int = 0) -> None:
        """Copies the weights.

        Raises:
            CheckpointError: the team has no such agent.
            ValueError: the team takes no actions for rows.
        """
        self._sizes = policy.sizes
        actor = ChannelActor(policy.sizes, torch.Generator())
        actor.load_state_dict(policy.channel_actor(agent))
        self._acting = Acting(actor)
        self._memory = OwnMemory.of(policy, agent)

    def act(self, observation: ChannelArrays) -> FloatArray:
        """[rows, actions], each from -1 to 1; once at every moment, if the team has a memory.

        Raises:
            ValueError: the arrays do not fit the team or are not finite.
        """
        sizes = self._sizes
        if self._memory is not None:
            observation = self._memory.look(observation)
        rows = checked(observation.channels, (None, len(sizes.channel_features)), "channels")
        whole = checked(observation.node, (len(sizes.node_features),), "node")
        mean, _ = self._acting.decide(rows, whole, rows.new_ones(len(rows)))
        actions: FloatArray = mean.tanh().numpy()
        return actions
