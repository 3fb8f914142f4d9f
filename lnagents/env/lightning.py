"""`LightningEnv`: a network of agents as a PettingZoo environment, on the twin or on live nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from lnagents.env.arrays import (
    TERM_NAMES,
    ActionArrays,
    ArrayWorld,
    RoundArrays,
    Rounds,
    ViewRounds,
    own_rewards,
    shared_rewards,
)
from lnagents.env.choices import RouteChoices
from lnagents.env.encoding import ACTION_NAMES, CHANNEL_FEATURES, NODE_FEATURES
from lnagents.env.payments import Demand, EpisodePayments, RandomDemand, RoundPayments
from lnagents.env.routes import ROUTE_FEATURE_NAMES
from lnagents.env.settings import EnvSettings
from lnagents.env.truth import TruthArray, truth_array
from lnagents.env.world import World

AgentObservation: TypeAlias = dict[str, Any]
AgentAction: TypeAlias = dict[str, Any]

LIMIT = 10.0
"""No feature is larger: a logarithm of the largest amounts comes to less."""

INFO_NAMES = (*TERM_NAMES, "own_reward")
"""Keys of each agent's `infos`: the terms of `RewardTerms` in msat and counts, the own payments
that settled and failed, and the own reward before it was shared."""


class LightningEnv(ParallelEnv[str, AgentObservation, AgentAction]):
    """Agents are nodes; a step is a round: set fees, let payments happen, see what they brought.

    An agent observes a dict:

    - `channels` [most channels, `CHANNEL_FEATURES`] and `channel_mask`: its own channels in the
      order of their ids, the same rows for a whole episode;
    - `node` [`NODE_FEATURES`];
    - with `settings.routes`, `routes` [choices, routes, `ROUTE_FEATURE_NAMES`] and `route_mask`:
      candidates for its next payments.

    and acts with a dict:

    - `fees` [most channels, `ACTION_NAMES`], -1 to 1, 0 for the fees that it found;
    - with `settings.preferences`, `preference` [most channels], -1 to 1;
    - with `settings.admission`, `reserved` [most channels], 0 to 1;
    - with `settings.routes`, `routes` [choices]: 0 leaves a payment to LND, r takes candidate
      r - 1; one that does not exist leaves it to LND, too.

    Rewards are in units of `settings.reward_unit_msat`; `infos` has every term of them.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by PettingZoo
        "name": "lightning_v0",
        "render_modes": ["rgb_array"],
        "is_parallelizable": True,
        "render_fps": 4,
    }

    def __init__(
        self,
        world: World,
        demand: Demand | None = None,
        settings: EnvSettings | None = None,
        *,
        render_mode: str | None = None,
    ) -> None:
        """An environment on `world`, which it closes when it is closed.

        Args:
            world: a `TwinWorld`, or a `LiveWorld`: nothing else changes.
            demand: where payments come from; None: 50 a round between random nodes.
            settings: None takes the defaults.
            render_mode: `rgb_array` for pictures.

        Raises:
            ValueError: there is no such render mode.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"there is no render mode {render_mode!r}")
        self.render_mode = render_mode
        self.world = world
        self.settings = settings or EnvSettings()
        self._demand = demand or RandomDemand()
        self._rounds: Rounds = (
            world.rounds(self.settings.bounds)
            if isinstance(world, ArrayWorld)
            else ViewRounds(world, self.settings.bounds)
        )
        self.possible_agents = list(world.agents)
        self.agents: list[str] = []
        self._most = world.max_channels
        self._choices = RouteChoices(world, self.settings) if self.settings.routes else None
        self._actions = self._no_actions()
        self._seeds = np.random.default_rng()
        self._episode: EpisodePayments | None = None
        self._number = 0
        self._seen = RoundArrays.empty(len(self.possible_agents), self._most)
        self._observation_spaces = {name: self._observation_space() for name in world.agents}
        self._action_spaces = {name: self._action_space() for name in world.agents}
        self.state_space = spaces.Box(-LIMIT, LIMIT, self._truth().shape, np.float32)

    # ---- Spaces

    def observation_space(self, agent: str) -> spaces.Dict:
        """What `agent` observes."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Dict:
        """What `agent` may do."""
        return self._action_spaces[agent]

    def _observation_space(self) -> spaces.Dict:
        most, settings = self._most, self.settings
        parts: dict[str, spaces.Space[Any]] = {
            "channels": spaces.Box(-LIMIT, LIMIT, (most, len(CHANNEL_FEATURES)), np.float32),
            "channel_mask": spaces.MultiBinary(most),
            "node": spaces.Box(-LIMIT, LIMIT, (len(NODE_FEATURES),), np.float32),
        }
        if settings.routes:
            shape = (settings.choices, settings.routes)
            low = np.full((*shape, len(ROUTE_FEATURE_NAMES)), -LIMIT, np.float32)
            low[..., -1] = -50.0
            parts["routes"] = spaces.Box(low, -low, dtype=np.float32)
            parts["route_mask"] = spaces.MultiBinary(shape)
        return spaces.Dict(parts)

    def _action_space(self) -> spaces.Dict:
        most, settings = self._most, self.settings
        parts: dict[str, spaces.Space[Any]] = {
            "fees": spaces.Box(-1.0, 1.0, (most, len(ACTION_NAMES)), np.float32)
        }
        if settings.preferences:
            parts["preference"] = spaces.Box(-1.0, 1.0, (most,), np.float32)
        if settings.admission:
            parts["reserved"] = spaces.Box(0.0, 1.0, (most,), np.float32)
        if settings.routes:
            parts["routes"] = spaces.MultiDiscrete([settings.routes + 1] * settings.choices)
        return spaces.Dict(parts)

    def _no_actions(self) -> ActionArrays:
        agents, settings = len(self.possible_agents), self.settings
        shape = (agents, self._most)
        return ActionArrays(
            fees=np.zeros((*shape, len(ACTION_NAMES)), np.float32),
            preference=np.zeros(shape, np.float32) if settings.preferences else None,
            reserved=np.zeros(shape, np.float32) if settings.admission else None,
        )

    # ---- Episodes

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, AgentObservation], dict[str, dict[str, Any]]]:
        """Begin an episode; `seed` decides this one and all that follow without a seed."""
        if seed is not None:
            self._seeds = np.random.default_rng(seed)
        world_seed, demand_seed = self._seeds.integers(0, 2**31, 2).tolist()
        self._rounds.reset(world_seed)
        self._episode = self._demand.draw(
            tuple(self.world.nodes), self.settings.rounds, self.world.round_seconds, demand_seed
        )
        self.agents = list(self.possible_agents)
        self._number = 0
        observations = self._observe()
        return observations, self._infos(self._own_rewards())

    def step(
        self, actions: Mapping[str, AgentAction]
    ) -> tuple[
        dict[str, AgentObservation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Live one round.

        Raises:
            RuntimeError: there is no episode under way.
            ValueError: an action has another shape, or a number in it is not finite.
        """
        if not self.agents:
            raise RuntimeError("there is no episode under way: call reset()")
        payments = self._payments()
        self._take(actions)
        if self._choices is not None:
            wanted = [actions[agent]["routes"] for agent in self.agents]
            payments.routes.update(self._choices.chosen(wanted))
        self._rounds.act(self._actions)
        self._rounds.run(payments)
        self._number += 1
        over = self._number == self.settings.rounds
        agents = self.agents
        if over:
            self.agents = []
        observations = self._observe()
        own = self._own_rewards()
        shared = shared_rewards(own, self.settings)
        return (
            observations,
            dict(zip(agents, shared.tolist(), strict=True)),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, over),
            self._infos(own),
        )

    @property
    def episode(self) -> EpisodePayments:
        """The payments of the episode under way.

        Raises:
            RuntimeError: there was none yet.
        """
        if self._episode is None:
            raise RuntimeError("there is no episode under way: call reset()")
        return self._episode

    def _payments(self) -> RoundPayments:
        return self.episode.of_round(self._number)

    def _take(self, actions: Mapping[str, AgentAction]) -> None:
        """Gather the agents' actions; what is given for padding is not looked at."""
        arrays = self._actions
        for index, agent in enumerate(self.possible_agents):
            action = actions[agent]
            arrays.fees[index] = action["fees"]
            if arrays.preference is not None:
                arrays.preference[index] = action["preference"]
            if arrays.reserved is not None:
                arrays.reserved[index] = action["reserved"]

    def _observe(self) -> dict[str, AgentObservation]:
        """Fresh arrays each time: a learner may keep them."""
        seen = self._seen = RoundArrays.empty(len(self.possible_agents), self._most)
        self._rounds.observe(seen)
        observations: dict[str, AgentObservation] = {
            agent: {"channels": channels, "channel_mask": mask, "node": node}
            for agent, channels, mask, node in zip(
                self.possible_agents, seen.channels, seen.channel_mask, seen.node, strict=True
            )
        }
        if self._choices is not None:
            self._choices.offer(self._payments() if self.agents else None, observations)
        return observations

    def _own_rewards(self) -> NDArray[np.float64]:
        return own_rewards(self._seen.terms, self.settings)

    def _infos(self, own: NDArray[np.float64]) -> dict[str, dict[str, Any]]:
        return {
            agent: dict(zip(INFO_NAMES, (*terms, reward), strict=True))
            for agent, terms, reward in zip(
                self.possible_agents, self._seen.terms.tolist(), own.tolist(), strict=True
            )
        }

    # ---- What no agent sees

    def state(self) -> NDArray[Any]:
        """[channels, `TRUTH_COLUMNS`]: the whole truth, for centralised training only."""
        return self._truth()

    def _truth(self) -> TruthArray:
        return truth_array(self.world.truth())

    def render(self) -> NDArray[np.uint8] | None:
        """A picture of the network; None unless the render mode is `rgb_array`."""
        if self.render_mode is None:
            return None
        from lnagents.env.render import picture

        names = {key: name for name, key in self.world.nodes.items()}
        return picture(self.world.truth(), names, set(self.possible_agents), self._number)

    def close(self) -> None:
        """Close the world."""
        self.world.close()
