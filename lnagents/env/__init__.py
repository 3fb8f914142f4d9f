"""What an agent sees and does, as arrays, and what it is rewarded with; no torch here.

`encoding` turns a `NodeView` into arrays with one row per channel, and an actor's action back into
a `NodeDecision`; `routes` does the first for the candidate routes of a payment; `reward` turns one
round's terms into a number. Nothing depends on the order or the number of channels, so one actor
fits every node.

`LightningEnv` (`lightning`) is the PettingZoo environment over a `World` (`world`): `TwinWorld` or
`LiveWorld`, which `conformance` holds to the same rules. `LightningBatch` (`batch`) is its form for
trainers, `FlatLightningEnv` (`flat`) the one for learners that know nothing but vectors. These need
the extra `twin`, so they are imported when they are asked for; a daemon does without.
"""

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from lnagents.env.batch import LightningBatch
    from lnagents.env.flat import FlatLightningEnv
    from lnagents.env.lightning import LightningEnv
    from lnagents.env.live_world import LiveWorld
    from lnagents.env.payments import RandomDemand, WorkloadDemand
    from lnagents.env.settings import EnvSettings
    from lnagents.env.twin_world import TwinWorld

_MODULES = {
    "EnvSettings": "settings",
    "FlatLightningEnv": "flat",
    "LightningBatch": "batch",
    "LightningEnv": "lightning",
    "LiveWorld": "live_world",
    "RandomDemand": "payments",
    "TwinWorld": "twin_world",
    "WorkloadDemand": "payments",
}
"""Of what is imported when it is asked for."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


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
    "EnvSettings",
    "Feature",
    "FeeBounds",
    "FlatLightningEnv",
    "LightningBatch",
    "LightningEnv",
    "LiveWorld",
    "Observation",
    "RandomDemand",
    "RewardMode",
    "RewardWeights",
    "RouteCandidate",
    "TwinWorld",
    "WorkloadDemand",
    "combine",
    "decode",
    "encode",
    "encode_routes",
    "expected_cost_msat",
    "network_term",
    "reward",
    "reward_terms",
]
