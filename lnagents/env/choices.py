"""An agent's choice among candidate routes for its own payments, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnagents.env.payments import RoundPayments
from lnagents.env.routes import ROUTE_FEATURE_NAMES, RouteCandidate, encode_routes
from lnagents.env.settings import EnvSettings
from lnagents.env.world import World
from lnagents.model.payment import Route


class RouteChoices:
    """What is offered to all agents for the coming round."""

    def __init__(self, world: World, settings: EnvSettings) -> None:
        self._world = world
        self._choices = settings.choices
        self._routes = settings.routes
        self._offers: list[list[tuple[int, tuple[RouteCandidate, ...]]]] = []
        """Of each agent: position of the payment, and its candidates."""

    def offer(
        self, payments: RoundPayments | None, observations: Mapping[str, dict[str, NDArray[Any]]]
    ) -> None:
        """Add `routes` and `route_mask` for the coming `payments`; None: there is no round left."""
        names = tuple(self._world.nodes)
        places = {name: place for place, name in enumerate(names)}
        positions: list[NDArray[np.intp]] = [
            np.flatnonzero(payments.source == places[agent])[: self._choices]
            if payments is not None
            else np.zeros(0, np.intp)
            for agent in self._world.agents
        ]
        intents = (
            []
            if payments is None
            else [payments.intent(int(p), names) for own in positions for p in own]
        )
        found = iter(self._world.candidates(intents, self._routes))
        self._offers = [[(int(position), next(found)) for position in own] for own in positions]
        for agent, offers in zip(self._world.agents, self._offers, strict=True):
            shape = (self._choices, self._routes)
            rows = np.zeros((*shape, len(ROUTE_FEATURE_NAMES)), np.float32)
            mask = np.zeros(shape, np.int8)
            for choice, (_, candidates) in enumerate(offers):
                if candidates:
                    rows[choice, : len(candidates)] = encode_routes(candidates)
                    mask[choice, : len(candidates)] = 1
            observations[agent]["routes"] = rows
            observations[agent]["route_mask"] = mask

    def chosen(self, wanted: Sequence[NDArray[Any]]) -> dict[int, Route]:
        """The chosen routes by the payment's position; `wanted` has each agent's choices."""
        routes = {}
        for offers, choices in zip(self._offers, wanted, strict=True):
            for (position, candidates), choice in zip(offers, choices, strict=False):
                if 1 <= choice <= len(candidates):
                    routes[position] = candidates[int(choice) - 1].route
        return routes
