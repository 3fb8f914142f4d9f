"""One agent's learner, fed round by round and payment by payment while the network runs."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

from lnagents.learn import checkpoint
from lnagents.learn.channels import ChannelLearner
from lnagents.learn.config import LearnConfig
from lnagents.learn.demand import DemandLearner, PriceColumns
from lnagents.learn.experience import (
    Action,
    ChannelArrays,
    FloatArray,
    RouteChoice,
    UpdateReport,
)
from lnagents.learn.memory import OwnMemory
from lnagents.learn.routes import RouteLearner
from lnagents.model.errors import CheckpointError

if TYPE_CHECKING:
    from lnagents.learn.policy import Policy


class OnlineLearner:
    """Fees by PPO over rounds, routes by PPO over attempts.

    Who goes on from a trained actor may leave it as it is and learn at which level prices earn most
    (see `adopt`): experience of one node is too little to improve many weights.

    The same seed and the same inputs give the same outputs bit for bit (with the same number of
    torch threads), also across `save` and `load`. Calls must not overlap: it is no thread-safe
    object, but may live in a thread of its own.
    """

    def __init__(self, config: LearnConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._channels = ChannelLearner(config, 2 * seed)
        self._routes = RouteLearner(config, 2 * seed + 1)
        self._prices: PriceColumns | None = None
        self._untaught = False
        self._demand: DemandLearner | None = None
        self._memory: OwnMemory | None = None

    def act(self, observation: ChannelArrays, *, explore: bool) -> Action:
        """One step per channel and action; `explore` adds noise and opens a step to learn from.

        Once a round: what an agent of a team with a memory sees it remembers.

        Raises:
            ValueError: the arrays do not fit the configuration or are not finite.
        """
        if self._memory is not None:
            observation = self._memory.look(observation)
        if self._demand is None or not explore:
            return self._channels.act(observation, explore=explore)
        action = self._channels.act(observation, explore=False)
        return replace(action, values=self._demand.adjust(observation.channels, action.values))

    def reward(self, value: float) -> UpdateReport | None:
        """Close the step that `act` opened; every `config.horizon` rounds this learns.

        Passed over if no step is open, as after `act(explore=False)`. Who learns what prices do
        takes what was sold from observations, and learns more often.

        Raises:
            ValueError: the reward is not finite.
        """
        if self._demand is not None and math.isfinite(value):
            return self._demand.reward(value)
        return self._channels.reward(value)

    def choose_route(self, features: FloatArray, *, explore: bool) -> RouteChoice:
        """Choose one of the rows: drawn by their odds if `explore`, else the best.

        Raises:
            ValueError: there is no row, or the array does not fit the configuration.
        """
        return self._routes.choose(features, explore=explore)

    def route_outcome(self, token: int, return_: float) -> UpdateReport | None:
        """Say what a choice brought; every `config.route_horizon` outcomes this learns.

        Outcomes may come in any order; a token that is not pending is passed over.

        Raises:
            ValueError: the return is not finite.
        """
        return self._routes.outcome(token, return_)

    def adopt(
        self,
        policy: Policy,
        agent: int = 0,
        prices: PriceColumns | None = None,
        *,
        untaught: bool = False,
    ) -> None:
        """Set fees as an agent of a trained team does, and learn from there; experience is dropped.

        What it remembers is blank, and how it remembers stays as it is: only the actor learns on.

        Args:
            policy: the team.
            agent: which of it.
            prices: learn at which level prices earn most, and leave the actor as it is; None: go on
                with PPO.
            untaught: with `prices`, go by what is believed at first.

        Raises:
            CheckpointError: the team's actors have other features, actions or sizes.
            ValueError: the team takes no actions for rows, or `prices` names no columns of it.
        """
        for name in ("channel_features", "node_features", "actions", "hidden"):
            found, wanted = getattr(policy.sizes, name), getattr(self.config, name)
            if found != wanted:
                raise CheckpointError(f"the team was trained with {name} {found}, not {wanted}")
        self._channels.adopt(policy.channel_actor(agent))
        self._memory = OwnMemory.of(policy, agent)
        self._prices, self._untaught = prices, untaught
        self._demand = self._fresh_demand(self.seed)

    def _fresh_demand(self, seed: int) -> DemandLearner | None:
        if self._prices is None:
            return None
        config = self.config
        return DemandLearner(
            self._prices,
            config.channel_features,
            config.actions,
            seed,
            untaught=self._untaught,
        )

    def save(self) -> bytes:
        """A checkpoint from which `load` continues bit for bit."""
        state = {"channels": self._channels.state(), "routes": self._routes.state()}
        if self._demand is not None:
            state["prices"] = self._demand.state()
        if self._memory is not None:
            state["memory"] = self._memory.state()
        return checkpoint.pack(self.config, self.seed, state)

    def load(self, data: bytes) -> None:
        """Continue where `save` was called; on an error nothing has changed.

        What is known of demand is passed over by who does not learn it, and learned anew by who
        does if the checkpoint does not have it.

        Raises:
            CheckpointError: not a checkpoint, of another version, or of networks with other
                features, actions or sizes.
        """
        seed, state = checkpoint.unpack(data, self.config)
        channels = ChannelLearner(self.config, 2 * seed)
        routes = RouteLearner(self.config, 2 * seed + 1)
        with checkpoint.broken_state_refused():
            channels.restore(state["channels"])
            routes.restore(state["routes"])
            demand = self._fresh_demand(seed)
            if demand is not None and "prices" in state:
                demand.restore(state["prices"])
            memory = deepcopy(self._memory)
            if memory is not None:
                memory.restore(state["memory"])
        self.seed, self._channels, self._routes = seed, channels, routes
        self._demand, self._memory = demand, memory
