"""The file that says what is run on real nodes (YAML, unknown keys refused)."""

from __future__ import annotations

import hashlib
import json
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lnagents.env.heuristics import HEURISTICS
from lnagents.evaluate.experiment.families import CompetingPaths, HubAndSpoke
from lnagents.model.errors import ExperimentError, InputError
from lnagents.model.files import StrictModel, parse_yaml
from lnagents.testbed.data import read_named

AS_FOUND = "as-found"
FROZEN = "frozen"
ONLINE = "online"
UNTAUGHT = "untaught"

QUICK_SEEDS = 2
QUICK_ROUNDS = 12


class Scenario(str, Enum):
    """What happens in the middle of a run."""

    STEADY = "steady"
    """Nothing."""
    COMPETITOR = "competitor"
    """The last router, which was too dear for anyone, undercuts all others."""
    DRAIN = "drain"
    """Every router loses what it has on half of its channels, by payments of its own."""


class LivePlan(StrictModel):
    """Every condition on the network and with the payments of every seed."""

    name: str
    family: Annotated[CompetingPaths | HubAndSpoke, Field(discriminator="kind")]
    seeds: Annotated[int, Field(ge=1)] = 5
    """Networks, each with payments of its own; all of them held out from training."""
    rounds: Annotated[int, Field(ge=2)] = 20
    round_seconds: Annotated[float, Field(ge=0.5)] = 2.0
    """In which the payments of a round begin."""
    heuristics: tuple[str, ...] = ()
    """Who learns nothing: of `lnagents.env.heuristics`, or `as-found`, who changes nothing."""
    baseline: str = FROZEN
    """The condition that the others are compared with."""
    scenario: Scenario = Scenario.STEADY
    change_round: Annotated[int, Field(ge=1)] | None = None
    """Before which round, counted from 0, the scenario's change happens; None: after a third."""
    learners: Literal["all", "one"] = "all"
    """Which routers learn on under the condition `online`: all of them, or one, another one for
    every seed, among others that are frozen. Only one is asked whether learning improves a policy:
    what four learners take from each other says nothing about that."""
    method: Literal["ppo", "demand"] = "ppo"
    """How, see `lnagents.agent.config.ActorSection`."""
    untaught: bool = False
    """Whether the same routers are run once more without learning from what they sell: what else
    the method does is not learned. By `demand` only."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """By name; the learned ones last."""
        return (*self.heuristics, FROZEN, *((UNTAUGHT,) if self.untaught else ()), ONLINE)

    @property
    def changes_at(self) -> int | None:
        """Before which round there is a change; None: there is none."""
        if self.scenario is Scenario.STEADY:
            return None
        return self.rounds // 3 if self.change_round is None else self.change_round

    def learning(self, seed: int, routers: int) -> tuple[int, ...]:
        """The places of those who learn on, of so many routers."""
        return tuple(range(routers)) if self.learners == "all" else (seed % routers,)

    def sized(self, seeds: int | None = None, rounds: int | None = None) -> LivePlan:
        """With another number of seeds or rounds; the change keeps its place in proportion."""
        changes: dict[str, object] = {}
        if seeds is not None:
            changes["seeds"] = seeds
        if rounds is not None:
            changes["rounds"] = rounds
            if self.changes_at is not None:
                changes["change_round"] = max(1, self.changes_at * rounds // self.rounds)
        return self.model_copy(update=changes)

    def with_scenario(self, scenario: Scenario, *, untaught: bool = False) -> LivePlan:
        """Another scenario for the trained team alone: does it help one of it to go on learning?

        Half as long again, and the change after a third.
        """
        steady = self.name == Scenario.STEADY.value
        changes: dict[str, object] = {
            "name": scenario.value if steady else f"{self.name}-{scenario.value}",
            "scenario": scenario,
            "heuristics": (),
            "baseline": FROZEN,
            "rounds": self.rounds * 3 // 2,
            "change_round": max(1, self.rounds // 2),
            "learners": "one",
            "method": "demand",
            "untaught": untaught,
        }
        if scenario is Scenario.COMPETITOR and isinstance(self.family, CompetingPaths):
            more = {"routers": self.family.routers + 1}
            changes["family"] = self.family.model_copy(update=more)
        return self.model_copy(update=changes)

    def quick(self) -> LivePlan:
        """A small version: few seeds and rounds, the same conditions."""
        smaller = self.sized(min(self.seeds, QUICK_SEEDS), min(self.rounds, QUICK_ROUNDS))
        return smaller.model_copy(update={"name": f"{self.name}-quick"})

    def run_id(self, seed: int, condition: str, team: str) -> str:
        """The same for the same run only; `team` is the digest of the trained team."""
        decides: dict[str, Any] = self.model_dump(
            mode="json",
            exclude={"seeds", "heuristics", "baseline", "learners", "method", "untaught"},
        )
        if condition in (ONLINE, UNTAUGHT) and (self.learners, self.method) != ("all", "ppo"):
            decides |= {"learners": self.learners, "method": self.method}
        learned = team if condition in (FROZEN, UNTAUGHT, ONLINE) else ""
        text = json.dumps([decides, seed, condition, learned], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @model_validator(mode="after")
    def _consistent(self) -> LivePlan:
        for name in self.heuristics:
            if name not in HEURISTICS and name != AS_FOUND:
                known = ", ".join((AS_FOUND, *HEURISTICS))
                raise ValueError(f"heuristics: {name!r} is none of {known}")
        if len(set(self.heuristics)) < len(self.heuristics):
            raise ValueError("heuristics: one is named twice")
        if self.untaught and self.method != "demand":
            raise ValueError("untaught: only with method demand")
        if self.baseline not in self.conditions:
            raise ValueError(f"baseline: {self.baseline!r} is none of the conditions")
        if self.changes_at is not None and not 0 < self.changes_at < self.rounds:
            raise ValueError(f"change_round: {self.changes_at} is not within the rounds")
        return self


def scenario_named(name: str) -> Scenario:
    """The scenario of this name.

    Raises:
        InputError: there is none.
    """
    try:
        return Scenario(name)
    except ValueError as exc:
        known = ", ".join(one.value for one in Scenario)
        raise InputError("--scenario", f"{name!r} is none of {known}") from exc


def load_plan(name_or_path: str) -> LivePlan:
    """A plan that comes along, by its name, or the one in a file.

    Raises:
        ExperimentError: with one sentence that names the file and the key.
    """
    text, source = read_named("live", name_or_path, ExperimentError)
    return parse_yaml(text, source, LivePlan, ExperimentError)
