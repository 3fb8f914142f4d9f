"""The fixtures that `pytest_plugin` adds.

`testbed` is one network for the whole session, started when the first test asks for it; tests that
share it leave it as they found it, or call `testbed.reset()`. `testbed_factory` starts further
ones, which end with the session. Ports are free ones, so sessions can run beside each other.

    async def test_payment(testbed: Testbed) -> None:
        assert (await testbed.pay("alice", "frank", 1_000_000)).settled
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import pytest_asyncio

from lnagents.testbed.pytest_plugin import setting

if TYPE_CHECKING:
    from lnagents.model.topology import Topology
    from lnagents.testbed.network import Testbed


class NetworkFactory(Protocol):
    """Starts networks."""

    async def __call__(self, topology: Topology | Path | str = "default") -> Testbed:
        """Start the network of a topology, a file, or the name of one that comes along."""
        ...


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def testbed_factory(pytestconfig: pytest.Config) -> AsyncIterator[NetworkFactory]:
    """Start networks that end with the session, or earlier by their own `down`."""
    from lnagents.model.topology import Topology
    from lnagents.testbed.backend import BackendKind
    from lnagents.testbed.network import Testbed
    from lnagents.testbed.topologies import load_topology

    backend = BackendKind(setting(pytestconfig, "backend"))
    numbers = itertools.count(1)
    async with AsyncExitStack() as stack:

        async def start(topology: Topology | Path | str = "default") -> Testbed:
            chosen = topology if isinstance(topology, Topology) else load_topology(topology)
            # Sessions run beside each other, and beside what the user has up.
            name = f"{chosen.name}-pytest-{os.getpid()}-{next(numbers)}"
            testbed = await Testbed.up(
                chosen.model_copy(update={"base_port": 0}), backend=backend, name=name, tied=True
            )
            stack.push_async_callback(testbed.down)
            return testbed

        yield start


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def testbed(testbed_factory: NetworkFactory, pytestconfig: pytest.Config) -> Testbed:
    """The network that all tests of the session share."""
    return await testbed_factory(setting(pytestconfig, "topology"))
