"""Live networks: bitcoind, LND nodes and Apertures of one topology file, on one backend.

    async with Testbed.running(load_topology("default")) as testbed:
        await testbed.pay("alice", "frank", 50_000_000)
        assert (await testbed.audit()).difference_sat == 0

Read `network` (`Testbed`, what everyone uses) and `startup` (in which order it comes up), then
below them `backend` (the protocol) with `native` (over `processes`, `ports`, `state`) and
`compose`; `settings` (how the programs are configured); `bitcoin`, `provision`, `gossip`,
`snapshot`, `audit` and `miner`, which are the same for both backends. `toolchain` finds the
programs, `pytest_plugin` has the fixtures.

The names below are imported when they are first used: pytest loads `pytest_plugin` in every project
of an environment, and must not pay for gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lnagents.testbed.audit import AuditReport, Statement
    from lnagents.testbed.backend import Backend, BackendKind, Progress, SellerSite, ServiceState
    from lnagents.testbed.network import Testbed, TestbedNode
    from lnagents.testbed.topologies import load_topology

_HOMES = {
    "AuditReport": "audit",
    "Statement": "audit",
    "Backend": "backend",
    "BackendKind": "backend",
    "Progress": "backend",
    "SellerSite": "backend",
    "ServiceState": "backend",
    "Testbed": "network",
    "TestbedNode": "network",
    "load_topology": "topologies",
}

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


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
