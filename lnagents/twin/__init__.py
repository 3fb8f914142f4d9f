"""A fast simulator of a Lightning network that does what LND does.

`Twin` runs the payments of a `Traffic` on a `Network`, `BatchedTwin` many of them at once;
`network`, `traffic`, `directions` and `settings` say what goes in and out, `loaders`, `generate`
and `sample` make networks, `demand` makes traffic, `success_bound` says what nobody could beat.

Behind them, bottom up: `commitment` (a channel's money), `forwarding` (a node's checks), `gossip`
(who knows which policy), `memory`, `probability` and `mission` (what senders learn), `labels`,
`space` and `search` (LND's routes), `steering` (agents' own), `htlcs`, `session` and `engine` (what
happens when), `state`, `payments` and `assembly` (the arrays of all that).
"""

from lnagents.twin.batch import BatchedTwin
from lnagents.twin.directions import BY_HOP, BY_LND, BY_ROUTE, Directions
from lnagents.twin.network import Network
from lnagents.twin.settings import (
    CommitmentSettings,
    Estimator,
    GossipSettings,
    LatencySettings,
    SenderSettings,
    TwinSettings,
)
from lnagents.twin.simulator import Snapshot, Twin
from lnagents.twin.traffic import AttemptLog, Outcomes, Traffic

__all__ = [
    "BY_HOP",
    "BY_LND",
    "BY_ROUTE",
    "AttemptLog",
    "BatchedTwin",
    "CommitmentSettings",
    "Directions",
    "Estimator",
    "GossipSettings",
    "LatencySettings",
    "Network",
    "Outcomes",
    "SenderSettings",
    "Snapshot",
    "Traffic",
    "Twin",
    "TwinSettings",
]
