"""Who decides: a condition's actors as sections of the configuration of a daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lnagents.agent.config import ActorSection
from lnagents.evaluate.live.plan import AS_FOUND, FROZEN, ONLINE, UNTAUGHT
from lnagents.evaluate.live.stage import Stage


def actor_values(condition: str, team: Path, stage: Stage, place: int) -> dict[str, Any]:
    """The keys of `[actor]` for one router's daemon, as a configuration has them.

    Args:
        condition: one of `LivePlan.conditions`.
        team: the checkpoint of the trained team.
        stage: what is played.
        place: of the router.
    """
    seed = stage.seed % 1_000_000 * 1_000 + place  # the same in both worlds
    if condition == AS_FOUND:
        return {"kind": "fixed", "seed": seed}
    if condition in (FROZEN, UNTAUGHT, ONLINE):
        learn = condition != FROZEN and place in stage.learning
        values = {"kind": "trained", "checkpoint": str(team), "learn": learn, "seed": seed}
        method = stage.method if condition == ONLINE else UNTAUGHT
        return {**values, "method": method} if learn else values
    return {"kind": "heuristic", "heuristic": condition, "seed": seed}


def actor_section(condition: str, team: Path, stage: Stage, place: int) -> ActorSection:
    """The same, checked."""
    return ActorSection.model_validate(actor_values(condition, team, stage, place))
