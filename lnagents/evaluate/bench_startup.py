"""How long a network takes from nothing to funded, active, and gossip known to all."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from lnagents.model.topology import Topology
from lnagents.testbed import BackendKind, Testbed
from lnagents.testbed.backend import Progress

AFTER = ("sellers", "snapshot", "up")
"""Phases that come when the network can be used already; told, but not part of the figure."""


@dataclass(frozen=True, slots=True)
class StartupBench:
    """One start."""

    nodes: int
    channels: int
    seconds: float
    """From the call until every node knows every channel's policies."""
    phases: dict[str, float]
    """Seconds of each phase, in order, those after the figure included."""
    gossip_seconds: float
    """After the start: from a fee change until the barrier saw it at every node."""
    reset_seconds: float
    """Back to the first state."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class _Clock:
    def __init__(self) -> None:
        self._name = ""
        self._began = time.perf_counter()
        self.phases: dict[str, float] = {}

    def phase(self, name: str) -> None:
        now = time.perf_counter()
        if self._name:
            self.phases[self._name] = now - self._began
        self._name, self._began = name, now


async def bench_startup(
    topology: Topology, *, backend: BackendKind = BackendKind.NATIVE, progress: Progress
) -> StartupBench:
    """Start a network of `topology`, measure, and remove it.

    Raises:
        TestbedError: it did not come up.
    """
    clock = _Clock()
    testbed = await Testbed.up(
        topology,
        backend=backend,
        name=f"{topology.name}-bench",
        progress=progress,
        phase=clock.phase,
    )
    try:
        gossip = await _change_a_fee(testbed) if topology.channels else 0.0
        began = time.perf_counter()
        await testbed.reset()
        reset = time.perf_counter() - began
    finally:
        await testbed.down()
    return StartupBench(
        nodes=len(topology.nodes),
        channels=len(topology.channels),
        seconds=round(sum(s for name, s in clock.phases.items() if name not in AFTER), 3),
        phases={name: round(seconds, 3) for name, seconds in clock.phases.items()},
        gossip_seconds=round(gossip, 3),
        reset_seconds=round(reset, 3),
    )


async def _change_a_fee(testbed: Testbed) -> float:
    name = testbed.topology.channels[0].source
    client, key = testbed.client(name), testbed.nodes[name].key
    channel = (await client.channels())[0]
    policy = (await client.channel(channel.scid)).edge_from(key).policy
    if policy is None:
        return 0.0
    began = time.perf_counter()
    await client.set_policy(
        channel.channel_point, replace(policy, fee_rate_ppm=policy.fee_rate_ppm + 10)
    )
    await testbed.wait_gossip()
    return time.perf_counter() - began
