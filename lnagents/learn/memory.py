"""What agents remember of an episode: a recurrent state beside what they see.

Each agent has one state of its own, whatever channels it has now: what it sees goes through a
`SetEncoder`, which knows neither the order nor the number of rows, and then into a gated recurrent
unit (Cho et al. 2014). Actor and critic see the state as further columns of what concerns the agent
as a whole, so they stay as they are. An episode begins with zeros; in training gradients go back
to its beginning, and no further.

`lnagents.learn.player.Player` carries the states of many agents through an episode, `OwnMemory`
that of one agent on its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lnagents.learn.experience import ChannelArrays, FloatArray, State, checked
from lnagents.learn.networks import SetEncoder, linear, weights_of
from lnagents.learn.row_sets import LEAST_ROWS
from lnagents.learn.samples import Sight
from lnagents.learn.team import TeamSizes

if TYPE_CHECKING:
    from lnagents.learn.policy import Policy


class Memory(nn.Module):
    """The unit and the encoder before it; with `copies` each agent has weights of its own."""

    def __init__(self, sizes: TeamSizes, generator: torch.Generator) -> None:
        super().__init__()
        hidden, copies = sizes.hidden, sizes.copies
        whole = len(sizes.node_features) - sizes.remembered
        rows = len(sizes.channel_features)
        self.encoder = SetEncoder(rows, whole, hidden, generator, copies)
        self.taken_in = linear(hidden, 3 * hidden, 1.0, generator, copies)
        self.kept = linear(hidden, 3 * hidden, 1.0, generator, copies)
        self._agents_first = copies > 0
        self._hidden = hidden
        self._sizes = sizes

    def single(self, agent: int) -> Memory:
        """That of one agent, for itself alone.

        Raises:
            CheckpointError: every agent has weights of its own, and there is no such agent.
        """
        state = self.state_dict()
        if self._agents_first:
            state = weights_of(agent, state, self._sizes.copies)
        memory = Memory(replace(self._sizes, copies=0), torch.Generator())
        memory.load_state_dict(state)
        return memory

    def blank(self, environments: int, agents: int) -> Tensor:
        """[environments, agents, hidden], the state before an episode."""
        return torch.zeros(environments, agents, self._hidden)

    @torch.no_grad()
    def after(self, state: Tensor, sight: Sight) -> Tensor:
        """[environments, agents, hidden], `state` of the moment before and what is seen now."""
        return self._step(self._taken_in(sight), state)

    def over(self, sight: Sight, steps: int) -> Tensor:
        """[samples, agents, hidden], the state at every moment of whole episodes, with gradients.

        Args:
            sight: of several episodes side by side, [steps * episodes, agents, …], step by step.
            steps: of each episode.
        """
        taken = self._taken_in(sight)
        moments = taken.reshape(steps, -1, *taken.shape[1:])
        state = self.blank(*moments.shape[1:3])
        states = []
        for moment in moments.unbind():
            state = self._step(moment, state)
            states.append(state)
        return torch.cat(states)

    def _taken_in(self, sight: Sight) -> Tensor:
        """[samples, agents, 3 * hidden]."""
        seen = sight.agents_first() if self._agents_first else sight
        sets = None if self._agents_first or self.encoder.rows is None else sight.sets
        context = self.encoder.context(seen.rows, seen.whole, seen.mask, sets)
        taken: Tensor = self.taken_in(context)
        return taken.transpose(0, 1) if self._agents_first else taken

    def _step(self, taken: Tensor, state: Tensor) -> Tensor:
        kept: Tensor = self.kept(state.transpose(0, 1) if self._agents_first else state)
        if self._agents_first:
            kept = kept.transpose(0, 1)
        reset, update, fresh = taken.chunk(3, -1)
        reset_kept, update_kept, fresh_kept = kept.chunk(3, -1)
        candidate = (fresh + (reset + reset_kept).sigmoid() * fresh_kept).tanh()
        return candidate + (update + update_kept).sigmoid() * (state - candidate)


class Remembered(NamedTuple):
    """`ChannelArrays` with what is remembered among what concerns the agent as a whole."""

    channels: FloatArray
    node: FloatArray


class OwnMemory:
    """What one agent of a team remembers where the others are elsewhere.

    The same numbers as `Player` gives for many. It is blank at first.
    """

    def __init__(self, memory: Memory, sizes: TeamSizes, agent: int = 0) -> None:
        """Copies the weights; those of `agent`, if each has its own.

        Raises:
            CheckpointError: the team has no such agent.
        """
        self._memory = memory.single(agent)
        self._rows = len(sizes.channel_features)
        self._whole = len(sizes.node_features) - sizes.remembered
        self._state = self._memory.blank(1, 1)

    @classmethod
    def of(cls, policy: Policy, agent: int = 0) -> OwnMemory | None:
        """That of an agent of `policy`; None if its agents remember nothing.

        Raises:
            CheckpointError: the team has no such agent.
        """
        return None if policy.memory is None else cls(policy.memory, policy.sizes, agent)

    def look(self, observation: ChannelArrays) -> Remembered:
        """Take in what is seen now, once at every moment; what the actor is to see.

        Raises:
            ValueError: the arrays do not fit the team or are not finite.
        """
        rows = checked(observation.channels, (None, self._rows), "channels")
        whole = checked(observation.node, (self._whole,), "node")
        # See `lnagents.learn.row_sets.LEAST_ROWS` for why there are several of one.
        rows, whole = (one.expand(LEAST_ROWS, 1, *one.shape) for one in (rows, whole))
        sight = Sight(rows, rows.new_ones(rows.shape[:-1]), whole, rows.new_zeros(LEAST_ROWS, 1, 0))
        self._state = self._memory.after(self._state.expand(LEAST_ROWS, -1, -1), sight)[:1]
        node = np.concatenate((observation.node, self._state[0, 0].numpy()))
        return Remembered(observation.channels, node)

    def state(self) -> State:
        """For a checkpoint; with the weights, without which the rest means nothing."""
        return {"weights": self._memory.state_dict(), "remembers": self._state}

    def restore(self, state: State) -> None:
        """Continue from `state`."""
        self._memory.load_state_dict(state["weights"])
        self._state = state["remembers"].reshape(self._state.shape)
