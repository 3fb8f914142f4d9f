"""A fast simulator of a Lightning network that does what LND does.

`Twin` runs the payments of a `Traffic` on a `Network`; `network`, `traffic` and `settings` say what
goes in and out, `loaders` and `generate` make networks, `demand` makes traffic. Behind them, bottom
up: `commitment` (a channel's money), `forwarding` (a node's checks), `gossip` (who knows which
policy), `memory`, `probability` and `mission` (what senders learn), `labels` and `search` (routes),
`htlcs`, `session` and `engine` (what happens when).
"""

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
