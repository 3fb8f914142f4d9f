"""How a team is trained; read from files, and carried by checkpoints."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from lnagents.learn.algorithms import AlgorithmName, known_algorithm
from lnagents.model.files import StrictModel


class AdvantageScale(str, Enum):
    """Among which advantages are made comparable."""

    AGENT = "agent"
    """Each agent's own: what is little for one may be much for another."""
    TEAM = "team"


class OpponentMode(str, Enum):
    """What agents are given of a model of the others, see `lnagents.learn.opponent`."""

    NONE = "none"
    FEATURES = "features"
    """Its forecasts, as further features of each row."""
    GRADIENT = "gradient"
    """Its embedding, too, which the losses of actors and critic then train as well."""


class Recurrence(str, Enum):
    """Whether agents remember what they saw before, see `lnagents.learn.memory`."""

    NONE = "none"
    GRU = "gru"
    """A gated recurrent unit for each agent, as wide as the hidden layers."""


class Schedule(StrictModel):
    """A number that moves evenly over all iterations; in files, a plain number stays the same."""

    start: Annotated[float, Field(ge=0.0)]
    end: Annotated[float, Field(ge=0.0)]

    @model_validator(mode="before")
    @classmethod
    def _constant(cls, given: Any) -> Any:
        return {"start": given, "end": given} if isinstance(given, int | float) else given

    def at(self, progress: float) -> float:
        """The number after a share of the training, 0 to 1."""
        return self.start + (self.end - self.start) * progress


def constant(value: float) -> Schedule:
    """A schedule that never moves."""
    return Schedule(start=value, end=value)


class PopulationSettings(StrictModel):
    """Past selves of a team that play in some episodes, see `lnagents.learn.population`."""

    probability: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """With which they play in an environment's episode."""
    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Of the seats that they have then, rounded down, but at least one."""
    size: Annotated[int, Field(ge=1)] = 8
    """Of the pool."""
    every: Annotated[int, Field(ge=1)] = 5
    """Iterations from one that is offered to the pool to the next."""


class TrainSettings(StrictModel):
    """The algorithm, the networks, and the hyperparameters of PPO (Schulman et al. 2017)."""

    algorithm: Annotated[str, AfterValidator(known_algorithm)] = AlgorithmName.IPPO.value
    """One of `lnagents.learn.algorithms.ALGORITHMS`."""
    shared: bool = True
    """Whether all agents run the same weights; else each has its own."""
    iterations: Annotated[int, Field(ge=1)] = 200
    """Each collects experience with the actors as they are, then improves them."""
    episodes: Annotated[int, Field(ge=1)] = 1
    """In each environment, of one iteration."""
    together: Annotated[int, Field(ge=1)] | None = None
    """Environments that are decided for at once; None: all. Each such group can live on a machine
    of its own. Products of matrices depend on the number of their rows in the last bits, so results
    depend on this, but never on the number of machines."""
    hidden: Annotated[int, Field(ge=1)] = 32
    """Width of every hidden layer."""
    recurrence: Recurrence = Recurrence.NONE
    """What agents remember within an episode."""
    epochs: Annotated[int, Field(ge=1)] = 6
    """Most passes over an iteration's experience."""
    minibatches: Annotated[int, Field(ge=1)] = 1
    """Parts of the experience, each with a step of the optimiser of its own; with a memory, of
    whole episodes."""
    learning_rate: Schedule = constant(1e-3)
    discount: Annotated[float, Field(ge=0.0, le=1.0)] = 0.9
    """Weight of the next step's reward."""
    trace_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    """Lambda of generalised advantage estimation."""
    clip: Annotated[float, Field(gt=0.0)] = 0.2
    """Largest relative change of an action's probability that the objective rewards."""
    target_divergence: Annotated[float, Field(gt=0.0)] = 0.02
    """How far an update may move the actors (KL(old || new), nats per decision), see
    `lnagents.learn.leash`."""
    entropy: Schedule = constant(1e-3)
    """Weight of the exploration's entropy."""
    value_weight: Annotated[float, Field(gt=0.0)] = 0.5
    max_gradient_norm: Annotated[float, Field(gt=0.0)] = 0.5
    """Of the actor and of the critic, each for itself."""
    stagger: Annotated[int, Field(ge=1)] = 1
    """Groups of agents that learn in turn, one in each iteration: only its experience moves actors.
    The critic learns from all. 1: everybody learns at once."""
    actor_pace: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the way that actors go of what an update wants; the critic goes all of it."""
    drift_budget: Annotated[float, Field(gt=0.0)] | None = None
    """Actors go no further than this in one iteration (`TrainReport.drift`); None: no bound."""
    population: PopulationSettings | None = None
    """Past selves to play against; None: none."""
    advantages: AdvantageScale = AdvantageScale.AGENT
    row_credit: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """How much of a row's advantage is its own, see `lnagents.learn.credit`; the rest is shared."""
    initial_level: Annotated[float, Field(gt=-1.0, lt=1.0)] = 0.0
    """Where all continuous actions begin, in their range of -1 to 1."""
    first_rule: dict[str, dict[str, float]] = Field(default_factory=dict)
    """What actors do before they have learned anything, instead of `initial_level`: by action, the
    weight of each feature of a row, see `lnagents.learn.beginning`; none: all rows alike."""
    initial_deviation: Annotated[float, Field(gt=0.0)] = 0.3
    """Standard deviation of continuous actions at the start, before their bound."""
    min_deviation: Annotated[float, Field(gt=0.0)] = 0.03
    """Exploration never falls below this: the other agents keep changing."""
    max_deviation: Annotated[float, Field(gt=0.0)] = 1.0

    opponent_model: OpponentMode = OpponentMode.NONE
    """Whether a model of the other agents is trained alongside, and what is made of it."""
    opponent_epochs: Annotated[int, Field(ge=1)] = 2
    """Its passes over an iteration's experience."""
    opponent_minibatches: Annotated[int, Field(ge=1)] = 8
    """As `minibatches`, of these passes."""
    opponent_learning_rate: Annotated[float, Field(gt=0.0)] = 2e-3
    """Of these passes."""

    def __hash__(self) -> int:
        # Configurations are keys, and dicts are not hashed by themselves.
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _deviations_in_order(self) -> TrainSettings:
        if not self.min_deviation <= self.initial_deviation <= self.max_deviation:
            raise ValueError("initial_deviation: not between min_deviation and max_deviation")
        return self
