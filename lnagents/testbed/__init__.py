"""Live networks: bitcoind, LND nodes and Apertures of one topology file, on one backend.

    async with Testbed.running(load_topology("default")) as testbed:
        await testbed.pay("alice", "frank", 50_000_000)
        assert (await testbed.audit()).difference_sat == 0

Read `network` (`Testbed`, what everyone uses), then below it `backend` (the protocol) with `native`
(over `processes`, `ports`, `state`) and `compose`; `settings` (how the programs are configured);
`bitcoin`, `provision`, `gossip`, `audit` and `miner`, which are the same for both backends.
`toolchain` finds the programs, `pytest_plugin` has the fixtures.
"""

from lnagents.testbed.audit import AuditReport, Statement
from lnagents.testbed.backend import Backend, BackendKind, Progress, SellerSite, ServiceState
from lnagents.testbed.network import Testbed, TestbedNode
from lnagents.testbed.topologies import load_topology

__all__ = [
    "AuditReport",
    "Backend",
    "BackendKind",
    "Progress",
    "SellerSite",
    "ServiceState",
    "Statement",
    "Testbed",
    "TestbedNode",
    "load_topology",
]
