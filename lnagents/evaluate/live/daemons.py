"""Real daemons, one beside every node, that decide on a live network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from lnagents.env.live_world import LiveWorld
from lnagents.evaluate.fleet import Fleet, FleetSettings, running_fleet
from lnagents.evaluate.live.conditions import actor_values
from lnagents.evaluate.live.play import Books
from lnagents.evaluate.live.stage import Stage
from lnagents.testbed import Testbed


class DaemonDeciders:
    """The daemons of one condition; those beside other nodes than routers leave fees alone."""

    def __init__(
        self, world: LiveWorld, stage: Stage, condition: str, team: Path, directory: Path
    ) -> None:
        """Start them all.

        Args:
            world: a network of the stage's topology, reset.
            stage: who the routers are.
            condition: who decides there.
            team: the checkpoint of the trained team.
            directory: where each daemon gets a folder; its path must be short.

        Raises:
            LnagentsError: a daemon did not start.
        """
        self._world = world
        self._routers = stage.routers
        self._stack = AsyncExitStack()
        settings = FleetSettings(
            seed=stage.seed,
            actor="fixed",
            buy_hints=False,
            on_request=True,
            actors={
                name: actor_values(condition, team, stage, place)
                for place, name in enumerate(stage.routers)
            },
        )

        async def start(testbed: Testbed) -> Fleet:
            return await self._stack.enter_async_context(
                running_fleet(testbed, directory, settings)
            )

        self._fleet = world.with_testbed(start)

    def decide(self) -> Mapping[str, Books]:
        """See `Deciders.decide`."""
        books = self._world.with_testbed(self._step)
        self._world.apply({})  # returns when gossip has settled
        return books

    async def _step(self, testbed: Testbed) -> dict[str, Books]:
        fleet = self._fleet
        await asyncio.gather(*(fleet.control(name).step() for name in fleet.names))
        statuses = await fleet.statuses()
        names = {node.key: name for name, node in testbed.nodes.items()}
        books = {}
        for name in self._routers:
            status = statuses[name]
            earned = 0 if status.reward_terms is None else status.reward_terms.fees_earned_msat
            peers = tuple(names[channel.peer] for channel in status.channels)
            books[name] = Books(earned, status.policy_updates, peers)
        return books

    def close(self) -> None:
        """End the daemons."""

        async def stop(testbed: Testbed) -> None:
            await self._stack.aclose()

        self._world.with_testbed(stop)
