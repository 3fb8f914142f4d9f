"""What an agent sees and does, as arrays, and what it is rewarded with; no torch here.

`encoding` turns a `NodeView` into arrays with one row per channel, and an actor's action back into
a `NodeDecision`; `routes` does the first for the candidate routes of a payment; `reward` turns one
round's terms into a number. Nothing depends on the order or the number of channels, so one actor
fits every node.
"""

from lnagents.env.encoding import (
    ACTION_NAMES,
    CHANNEL_FEATURE_NAMES,
    CHANNEL_FEATURES,
    NODE_FEATURE_NAMES,
    NODE_FEATURES,
    Observation,
    encode,
)
from lnagents.env.features import Column, Feature
from lnagents.env.fees import FeeBounds, decode
from lnagents.env.reward import (
    RewardMode,
    RewardWeights,
    combine,
    network_term,
    reward,
    reward_terms,
)
from lnagents.env.routes import (
    ROUTE_FEATURE_NAMES,
    ROUTE_FEATURES,
    ROUTE_PRIOR,
    AttemptCost,
    RouteCandidate,
    encode_routes,
    expected_cost_msat,
)

__all__ = [
    "ACTION_NAMES",
    "CHANNEL_FEATURES",
    "CHANNEL_FEATURE_NAMES",
    "NODE_FEATURES",
    "NODE_FEATURE_NAMES",
    "ROUTE_FEATURES",
    "ROUTE_FEATURE_NAMES",
    "ROUTE_PRIOR",
    "AttemptCost",
    "Column",
    "Feature",
    "FeeBounds",
    "Observation",
    "RewardMode",
    "RewardWeights",
    "RouteCandidate",
    "combine",
    "decode",
    "encode",
    "encode_routes",
    "expected_cost_msat",
    "network_term",
    "reward",
    "reward_terms",
]
