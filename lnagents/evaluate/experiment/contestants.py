"""Who competes: what makes the agents of one side of a contest.

A contestant makes an actor for each node: a heuristic by name, doing nothing, levels that are
linear in what is seen, or a team that was trained (`Learners`). An actor is what
`lnagents.env.heuristics.Heuristic` says: it takes a `NodeView` and gives a `NodeDecision`, in the
twin as in a daemon. A further kind of contestant is a `StrictModel` here with `name` and `actor`,
joined to `Contestant`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from lnagents.env.fees import FeeBounds
from lnagents.env.heuristics import HEURISTICS, Heuristic, make_heuristic
from lnagents.env.heuristics.linear import LinearLevels, LinearRule
from lnagents.evaluate.experiment.lessons import Training
from lnagents.model.files import StrictModel
from lnagents.model.view import NodeDecision, NodeView

AS_FOUND = "as-found"
SAME = "same"


class Passive:
    """An actor that leaves all as it is."""

    def act(self, view: NodeView) -> NodeDecision:
        """Nothing."""
        return NodeDecision()


class AsFound(StrictModel):
    """Leaves all fees as the network had them."""

    kind: Literal["as-found"] = "as-found"

    @property
    def name(self) -> str:
        """What it is called in results."""
        return AS_FOUND

    def actor(self, seed: int) -> Heuristic:
        """For one node and episode."""
        return Passive()


class HeuristicContestant(StrictModel):
    """One of `lnagents.env.heuristics`."""

    kind: Literal["heuristic"] = "heuristic"
    heuristic: str

    @model_validator(mode="after")
    def _known(self) -> HeuristicContestant:
        if self.heuristic not in HEURISTICS:
            known = ", ".join(HEURISTICS)
            raise ValueError(f"heuristic: {self.heuristic!r} is none of {known}")
        return self

    @property
    def name(self) -> str:
        """What it is called in results."""
        return self.heuristic

    def actor(self, seed: int) -> Heuristic:
        """For one node and episode."""
        return make_heuristic(self.heuristic, seed)


class LinearContestant(StrictModel):
    """Levels that are linear in what agents see: rules that a definition can write down."""

    kind: Literal["linear"] = "linear"
    name: str
    """What it is called in results."""
    weights: dict[str, dict[str, float]]
    """See `lnagents.env.heuristics.linear`."""
    min_change: Annotated[float, Field(ge=0.0, lt=1.0)] = FeeBounds().min_change
    """See `FeeBounds`: what is announced costs, so small changes may not be worth it."""

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        LinearLevels.of(weights)
        return weights

    def actor(self, seed: int) -> Heuristic:
        """For one node and episode."""
        return LinearRule(self.weights, FeeBounds(min_change=self.min_change))


class LearnedContestant(StrictModel):
    """A team that was trained, and learns no more."""

    kind: Literal["learned"] = "learned"
    learner: str
    training: Training

    @property
    def name(self) -> str:
        """What it is called in results."""
        return self.learner


class Same(StrictModel):
    """Of a field only: the contestant has these seats, too."""

    kind: Literal["same"] = "same"

    @property
    def name(self) -> str:
        """What it is called in results."""
        return SAME


def _by_name(given: Any) -> Any:
    """A bare name in a definition stands for a heuristic, unless it is one of the others' kinds."""
    if isinstance(given, str):
        return {"kind": given} if given in (AS_FOUND, SAME) else {"heuristic": given}
    return given


def _kind(given: Any) -> Any:
    if isinstance(given, dict):
        return given.get("kind", "heuristic")
    return given.kind


Player: TypeAlias = AsFound | HeuristicContestant | LinearContestant | LearnedContestant
"""Who can have seats."""

Contestant: TypeAlias = Annotated[
    Annotated[AsFound, Tag("as-found")]
    | Annotated[HeuristicContestant, Tag("heuristic")]
    | Annotated[LinearContestant, Tag("linear")],
    Discriminator(_kind),
    BeforeValidator(_by_name),
]
"""What a definition may name as a contestant."""

Opposition: TypeAlias = Annotated[
    Annotated[AsFound, Tag("as-found")]
    | Annotated[HeuristicContestant, Tag("heuristic")]
    | Annotated[Same, Tag("same")],
    Discriminator(_kind),
    BeforeValidator(_by_name),
]
"""What a definition may name as the field that contestants meet."""
