"""A trained team's actor on one node: from what the node sees to fees, as in the twin.

    actor = TrainedActor(read_team(Path("runs/mine/checkpoint.pt")))
    decision = actor.act(view)

It gets the same numbers as the team in training, bit for bit: features and fees come from the same
functions, and `lnagents.learn.acting` decides for one node as for many.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnagents.env.encoding import (
    ACTION_NAMES,
    CHANNEL_FEATURE_NAMES,
    NODE_FEATURE_NAMES,
    Observation,
    encode,
)
from lnagents.env.fees import FeeBounds, decode
from lnagents.env.neighbourhood import NEIGHBOUR_FEATURES, Neighbourhood
from lnagents.env.peers import (
    FORESIGHT_FEATURES,
    LIQUIDITY_BINS,
    MOVE_SIZES,
    MOVES,
    NodeMemory,
)
from lnagents.model.errors import CheckpointError
from lnagents.model.view import NodeDecision, NodeView

if TYPE_CHECKING:
    from lnagents.learn.opponent import SingleForesight
    from lnagents.learn.policy import Policy


def load_team(data: bytes) -> Policy:
    """The team in a checkpoint of `lnagents train`, to act on what nodes see.

    Raises:
        CheckpointError: it is none, is damaged, or was trained to see or to do something else.
    """
    from lnagents.learn import team_checkpoint
    from lnagents.learn.trainer import load_policy

    shape = replace(
        team_checkpoint.unpack(data).shape,
        row_features=CHANNEL_FEATURE_NAMES,
        whole_features=NODE_FEATURE_NAMES,
        neighbour_features=NEIGHBOUR_FEATURES,
        actions=ACTION_NAMES,
        choices=(),
        foresight_features=FORESIGHT_FEATURES,
        moves=MOVES,
        move_sizes=MOVE_SIZES,
        liquidity_bins=LIQUIDITY_BINS,
    )
    return load_policy(data, shape)


def read_team(path: Path) -> Policy:
    """The team in a file.

    Raises:
        CheckpointError: naming the file; it cannot be read, or as for `load_team`.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be read: {exc.strerror}") from exc
    try:
        return load_team(data)
    except CheckpointError as exc:
        raise CheckpointError(f"{path}: {exc}") from exc


class TeamSight:
    """What an agent of a team sees, round after round."""

    def __init__(self, policy: Policy, agent: int = 0) -> None:
        """What `agent` sees, if each has a model of the others of its own.

        Raises:
            CheckpointError: the team has no such agent.
        """
        self._around = Neighbourhood() if policy.algorithm.neighbours else None
        self._foresight: SingleForesight | None = None
        self._memory = NodeMemory()
        if policy.opponents is not None:
            from lnagents.learn.opponent import SingleForesight

            self._foresight = SingleForesight(policy.opponents, agent)

    def observe(self, view: NodeView) -> Observation:
        """The arrays of `view` as the team's actors take them; once a round."""
        seen = encode(view)
        foreseen = self._with_forecasts(view, seen)
        if self._around is None:
            return foreseen
        return replace(foreseen, node=np.concatenate((seen.node, self._around.look(seen))))

    def _with_forecasts(self, view: NodeView, seen: Observation) -> Observation:
        if self._foresight is None:
            return seen
        import torch

        features = self._memory.look(view, seen).features
        forecasts = self._foresight.columns(
            *(torch.from_numpy(one) for one in (seen.channels, features, seen.node))
        )
        return replace(seen, channels=np.concatenate((seen.channels, forecasts.numpy()), -1))


class TrainedActor:
    """Sets one node's fees as an agent of a trained team does; one object per node and episode."""

    def __init__(self, policy: Policy, agent: int = 0, bounds: FeeBounds | None = None) -> None:
        """An agent that only acts and learns nothing.

        Args:
            policy: see `read_team`.
            agent: which of the team's agents, if each has weights of its own.
            bounds: what fees may be set; as in training unless given.

        Raises:
            CheckpointError: the team has no such agent.
        """
        from lnagents.learn.single import SingleActor

        self._actor = SingleActor(policy, agent)
        self._sight = TeamSight(policy, agent)
        self._bounds = bounds or FeeBounds()

    def act(self, view: NodeView) -> NodeDecision:
        """What the team finds best, given what the rounds before have brought; once a round."""
        if not view.channels:
            return NodeDecision()
        return decode(view, self._actor.act(self._sight.observe(view)), self._bounds)
