"""What agents remember of an episode: a recurrent state beside what they see.

Each agent has one state of its own, whatever channels it has now: what it sees goes through a
`SetEncoder`, which knows neither the order nor the number of rows, and then into a gated recurrent
unit (Cho et al. 2014). Actor and critic see the state as further columns of what concerns the agent
as a whole, so they stay as they are. An episode begins with zeros; in training gradients go back
to its beginning, and no further.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lnagents.learn.networks import SetEncoder, linear
from lnagents.learn.samples import Sight
from lnagents.learn.team import TeamSizes


class Memory(nn.Module):
    """The unit and the encoder before it; with `copies` each agent has weights of its own."""

    def __init__(self, sizes: TeamSizes, generator: torch.Generator) -> None:
        super().__init__()
        hidden, copies = sizes.hidden, sizes.copies
        whole = len(sizes.node_features) - hidden
        rows = len(sizes.channel_features)
        self.encoder = SetEncoder(rows, whole, hidden, generator, copies)
        self.taken_in = linear(hidden, 3 * hidden, 1.0, generator, copies)
        self.kept = linear(hidden, 3 * hidden, 1.0, generator, copies)
        self._agents_first = copies > 0
        self._hidden = hidden

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
