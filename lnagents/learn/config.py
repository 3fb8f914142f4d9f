"""What a learner is made of; a checkpoint carries it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LearnConfig:
    """Names of the columns, sizes, and the hyperparameters of PPO (Schulman et al. 2017).

    Raises:
        ValueError: a number is out of its range, or the prior is no route feature.
    """

    channel_features: tuple[str, ...]
    node_features: tuple[str, ...]
    actions: tuple[str, ...]
    route_features: tuple[str, ...]
    route_prior: str
    """The route feature that holds the log odds to start from."""
    hidden: int = 32
    """Width of every hidden layer."""
    horizon: int = 8
    """Rounds of experience between updates of the fee actor."""
    route_horizon: int = 16
    """Route outcomes between updates of the route head."""
    epochs: int = 6
    """Passes over the experience in one update."""
    learning_rate: float = 2e-3
    discount: float = 0.6
    """Weight of the next round's reward; fees show their effect within few rounds."""
    trace_decay: float = 0.95
    """Lambda of generalised advantage estimation."""
    clip: float = 0.2
    """Largest relative change of an action's probability that the objective rewards."""
    target_divergence: float = 0.05
    """An update ends early when old and new actor are further apart (KL, nats per decision)."""
    entropy_weight: float = 1e-3
    value_weight: float = 0.5
    prior_weight: float = 0.1
    """Pull of the route head to its prior, per squared log odds: noise must not add up."""
    max_gradient_norm: float = 0.5
    initial_deviation: float = 0.1
    """Standard deviation of exploration at the start, in units of an action before its bound."""
    min_deviation: float = 0.03
    """Exploration never falls below this: the other agents keep changing."""
    max_deviation: float = 0.5

    def __post_init__(self) -> None:
        if self.route_prior not in self.route_features:
            raise ValueError(f"the prior {self.route_prior!r} is no route feature")
        for name in ("hidden", "horizon", "route_horizon", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("learning_rate", "clip", "target_divergence", "max_gradient_norm"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be above 0")
        if not 0.0 <= self.discount < 1.0:
            raise ValueError("discount must be at least 0 and below 1")
        if not 0.0 <= self.trace_decay <= 1.0:
            raise ValueError("trace_decay must be between 0 and 1")
        if not 0.0 < self.min_deviation <= self.initial_deviation <= self.max_deviation:
            raise ValueError("deviations must satisfy 0 < minimum <= initial <= maximum")
