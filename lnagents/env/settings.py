"""What an environment is like: how long, what may be done, what is rewarded."""

from __future__ import annotations

from dataclasses import dataclass, field

from lnagents.env.fees import FeeBounds
from lnagents.env.reward import WEIGHTED, RewardMode, RewardWeights, known_reward, mean_weight
from lnagents.model.units import Msat


@dataclass(frozen=True, slots=True)
class EnvSettings:
    """Of `LightningEnv` and of its array form.

    Raises:
        ValueError: a number is out of its range.
    """

    rounds: int = 50
    """Of one episode, which then is truncated; a network has no end of its own."""
    bounds: FeeBounds = field(default_factory=FeeBounds)
    """What fees may be set."""
    weights: RewardWeights = field(default_factory=RewardWeights)
    reward: str = WEIGHTED
    """How an agent's own reward comes of its terms, one of `lnagents.env.reward.REWARDS`."""
    mode: RewardMode = RewardMode.COMPETITIVE
    mix: float = 0.5
    """Of `MIXED`: the weight of the mean over all agents."""
    reward_unit_msat: Msat = 1_000
    """Rewards are counted in this; 1,000 is satoshi."""
    preferences: bool = False
    """Whether agents say where payments leave that are routed hop by hop."""
    admission: bool = False
    """Whether agents keep part of their channels for priority payments."""
    routes: int = 0
    """Candidate routes that an agent may choose from for its own payments; 0: LND finds them."""
    choices: int = 4
    """For how many of its payments an agent may choose in a round; LND finds the others' routes."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds: {self.rounds} is less than 1")
        if self.reward_unit_msat < 1:
            raise ValueError(f"reward_unit_msat: {self.reward_unit_msat} is less than 1")
        if self.routes < 0:
            raise ValueError(f"routes: {self.routes} is negative")
        if self.choices < 1:
            raise ValueError(f"choices: {self.choices} is less than 1")
        known_reward(self.reward)
        mean_weight(self.mode, self.mix)
