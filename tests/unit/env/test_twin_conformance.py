"""The twin does what every world must."""

from __future__ import annotations

import pytest

from lnagents.env.conformance import CHECKS, Check
from lnagents.env.twin_world import TwinWorld
from lnagents.testbed import load_topology


@pytest.fixture(scope="module")
def world() -> TwinWorld:
    return TwinWorld.of_topology(load_topology("default"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_twin_is_a_world(check: Check, world: TwinWorld) -> None:
    check(world)
    world.twin.audit()
