"""The agent daemon of one node.

`config` is what its user writes. `database`, `schema`, `store`, `ledger` and `trade` are what it
remembers, `limits` what it can never exceed. `liquidity` is what it believes of others' channels,
`candidates` turns that into routes, `payments` sends along them. `questions` and `worth` say what
may be worth buying first, `hints` whether to, `buying` buys it, `scores` judges who sold it.
`observer` watches the own node, `actor` decides, `rounds` holds that against the limits and carries
it out. `daemon` joins all of it; `control` is how others talk to it, `status` what it says of
itself, `metrics` and `logs` what it exposes. Who only talks to a daemon need not load one, so
`Daemon` is imported from its module.
"""

from lnagents.agent.config import AgentConfig, Mode, load_config, parse_config
from lnagents.agent.control import AgentControl
from lnagents.agent.ledger import PaymentState
from lnagents.agent.status import (
    AgentStatus,
    ChannelStatus,
    CheckpointReport,
    PaymentReport,
    PurchaseReport,
)

__all__ = [
    "AgentConfig",
    "AgentControl",
    "AgentStatus",
    "ChannelStatus",
    "CheckpointReport",
    "Mode",
    "PaymentReport",
    "PaymentState",
    "PurchaseReport",
    "load_config",
    "parse_config",
]
