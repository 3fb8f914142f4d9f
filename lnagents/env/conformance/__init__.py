"""What every `World` must do, as checks that anybody can run on theirs.

    check_world(TwinWorld.of_topology(load_topology("default")))

or, one test each,

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_world(check: Check, my_world: World) -> None:
        check(my_world)

The checks need a world in which every node has an agent and there are two ways between some two
nodes, as on the default topology. They reset it first and leave it as their payments left it. A
live node reports balances in whole satoshi, so amounts may be off by `ROUNDING_MSAT`.

Read `common`, then `rounds`, `decisions` and `episodes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lnagents.env.conformance.common import ROUNDING_MSAT
from lnagents.env.conformance.decisions import (
    check_admission,
    check_next_channel,
    check_policies,
    check_strangers,
)
from lnagents.env.conformance.episodes import (
    check_candidates,
    check_reset,
    check_route_at_new_fee,
    check_snapshot,
)
from lnagents.env.conformance.rounds import (
    check_fee_limits,
    check_first_views,
    check_impossible_payment,
    check_many_payments,
    check_names,
    check_observing,
    check_payment,
    check_privacy,
)
from lnagents.env.world import World

Check: TypeAlias = Callable[[World], None]
"""Raises `AssertionError` with a sentence if a world does not do what it must."""

CHECKS: tuple[Check, ...] = (
    check_names,
    check_first_views,
    check_observing,
    check_payment,
    check_privacy,
    check_fee_limits,
    check_impossible_payment,
    check_many_payments,
    check_policies,
    check_strangers,
    check_route_at_new_fee,
    check_candidates,
    check_reset,
    check_snapshot,
    check_admission,
    check_next_channel,
)
"""All of them; none closes the world."""


def check_world(world: World) -> None:
    """Run all checks, one after the other.

    Raises:
        AssertionError: naming what the world does wrong.
    """
    for check in CHECKS:
        check(world)


__all__ = [
    "CHECKS",
    "ROUNDING_MSAT",
    "Check",
    "check_admission",
    "check_candidates",
    "check_fee_limits",
    "check_first_views",
    "check_impossible_payment",
    "check_many_payments",
    "check_names",
    "check_next_channel",
    "check_observing",
    "check_payment",
    "check_policies",
    "check_privacy",
    "check_reset",
    "check_route_at_new_fee",
    "check_snapshot",
    "check_strangers",
    "check_world",
]
