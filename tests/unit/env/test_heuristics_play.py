"""Heuristics run a node of the twin: what they decide is set, and the same again from one seed."""

from __future__ import annotations

import pytest

from lnagents.env.heuristics import HEURISTICS, make_heuristic
from lnagents.env.payments import RandomDemand
from lnagents.model.view import NodeView
from tests.unit.env.worlds import LARGE, small_world

ROUNDS = 10


def play(name: str, seed: int) -> tuple[list[NodeView], int]:
    """What a node saw that the heuristic ran, and how many fees it set."""
    world = small_world(agents=1)
    world.reset(3)
    key = next(iter(world.agents.values()))
    agent = make_heuristic(name, seed)
    names = tuple(world.nodes)
    payments = RandomDemand(60, LARGE).draw(names, ROUNDS, 5.0, 5)
    seen: list[NodeView] = []
    decided = 0
    for number in range(ROUNDS):
        seen.append(world.observe()[key])
        decision = agent.act(seen[-1])
        decided += len(decision.channels)
        world.apply({key: decision})
        now = {channel.scid: channel.policy for channel in world.observe()[key].channels}
        for scid, change in decision.channels.items():
            if change.fee_rate_ppm is not None:
                assert now[scid].fee_rate_ppm == change.fee_rate_ppm
            if change.base_fee_msat is not None:
                assert now[scid].base_fee_msat == change.base_fee_msat
        world.run(payments.of_round(number).requests(names))
    world.twin.audit()
    return seen, decided


@pytest.mark.parametrize("name", HEURISTICS)
def test_what_it_decides_is_set_and_repeats_itself(name: str) -> None:
    first, decided = play(name, 1)
    assert (first, decided) == play(name, 1)
    assert any(channel.flow.forwards for view in first for channel in view.channels)
    assert decided > 0


def test_another_seed_gambles_otherwise() -> None:
    assert play("thompson", 1) != play("thompson", 2)
