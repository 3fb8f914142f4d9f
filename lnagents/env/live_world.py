"""A live network of real LND nodes as a `World`: `LiveWorld`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from lnagents.env.live.loop import LoopThread
from lnagents.env.live.network import LiveNetwork, Snapshot
from lnagents.env.routes import RouteCandidate
from lnagents.env.world import ChannelTruth, RoundPayment
from lnagents.model.payment import PaymentOutcome
from lnagents.model.topology import Topology
from lnagents.model.units import NodeKey
from lnagents.model.view import NodeDecision, NodeView
from lnagents.model.workload import PaymentIntent
from lnagents.testbed import BackendKind, Testbed
from lnagents.testbed.together import to_its_end

ROUND_SECONDS = 2.0
"""Of real time; long enough for about 50 payments on a machine with two cores."""

OVERTIME_SECONDS = 10.0
"""How long a round waits for payments that take longer than it should last."""

Result = TypeVar("Result")

_NUMBERS = itertools.count(1)


class LiveWorld:
    """Real LND nodes; this process decides for the agents among them, without their daemons.

        with LiveWorld(load_topology("default")) as world:
            world.reset(0)

    A network that it starts ends with `close`; if that is never called, the next network that
    somebody starts removes it, or `lnagents testbed down`. A network that runs already, given as
    its `Testbed`, goes back to its snapshot first and is left running; only its name is taken from
    the object, which belongs to another event loop.

    What the agents do that no policy can say (admission, the next channel of payments that are
    routed hop by hop) they do over LND's `HtlcInterceptor`, which holds forwards only while there
    is something to decide. `reset` brings balances back by direct payments, 0.2 to 0.3 s for 12
    channels, and puts back the testbed's snapshot (2 to 2.3 s) where that is not possible.
    """

    def __init__(
        self,
        network: Topology | Testbed,
        *,
        agents: Sequence[str] | None = None,
        round_seconds: float = ROUND_SECONDS,
        overtime_seconds: float = OVERTIME_SECONDS,
        backend: BackendKind = BackendKind.NATIVE,
    ) -> None:
        """Start or find the network.

        Args:
            network: what to start, or a network that runs.
            agents: names of the nodes that agents decide for; None: those that the topology marks.
            round_seconds: how long a round lasts.
            overtime_seconds: how much longer `run` waits for the last payments.
            backend: what runs a network that is started.

        Raises:
            ValueError: an agent is no node of the network.
            TestbedError: it did not come up, or is not there.
        """
        self._round_seconds = round_seconds
        self._overtime_seconds = overtime_seconds
        topology = network if isinstance(network, Topology) else network.topology
        chosen = tuple(
            agents if agents is not None else (node.name for node in topology.nodes if node.agent)
        )
        self._loop = LoopThread("live world")
        try:
            self._network = self._loop.run(_open(network, chosen, backend))
        except BaseException:
            self._loop.close()
            raise
        self._closed = False

    def __enter__(self) -> LiveWorld:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def testbed_name(self) -> str:
        """How `Testbed.attach` and the command line find the network."""
        return self._network.testbed.name

    def with_testbed(self, action: Callable[[Testbed], Coroutine[Any, Any, Result]]) -> Result:
        """What `action` makes of the testbed: faults, audits, logs.

        world.with_testbed(lambda testbed: testbed.backend.kill(["carol"]))
        """
        return self._loop.run(action(self._network.testbed))

    @property
    def agents(self) -> Mapping[str, NodeKey]:
        """See `World.agents`."""
        return {name: node.key for name, node in self._network.agents.items()}

    @property
    def nodes(self) -> Mapping[str, NodeKey]:
        """See `World.nodes`."""
        return {name: node.key for name, node in self._network.nodes.items()}

    @property
    def round_seconds(self) -> float:
        """See `World.round_seconds`."""
        return self._round_seconds

    @property
    def max_channels(self) -> int:
        """See `World.max_channels`."""
        names = [name for name, _ in self._network.beginning.channels]
        return max((names.count(agent) for agent in self._network.agents), default=0)

    def reset(self, seed: int) -> None:
        """See `World.reset`. This world draws nothing, so the seed changes nothing."""
        self._loop.run(self._network.reset())

    def observe(self) -> dict[NodeKey, NodeView]:
        """See `World.observe`."""
        return self._loop.run(self._network.observe())

    def apply(self, decisions: Mapping[NodeKey, NodeDecision]) -> None:
        """See `World.apply`.

        Raises:
            ValueError: a decision is about a node that is no agent, or a channel it has not got.
            InvalidRequestError: a node refuses a policy.
        """
        self._loop.run(self._network.apply(decisions))

    def candidates(
        self, intents: Sequence[PaymentIntent], limit: int
    ) -> list[tuple[RouteCandidate, ...]]:
        """See `World.candidates`."""
        return self._loop.run(self._network.candidates(intents, limit))

    def run(self, payments: Sequence[RoundPayment]) -> list[PaymentOutcome]:
        """See `World.run`."""
        return self._loop.run(
            self._network.run(payments, self._round_seconds, self._overtime_seconds)
        )

    def truth(self) -> tuple[ChannelTruth, ...]:
        """See `World.truth`."""
        return self._loop.run(self._network.truth())

    def snapshot(self) -> Snapshot:
        """See `World.snapshot`. The testbed copies its data, so each takes space until `close`."""
        return self._loop.run(self._network.snapshot())

    def restore(self, snapshot: object) -> None:
        """See `World.restore`; the nodes start anew, which takes seconds.

        Raises:
            TypeError: it is no snapshot of a live world.
        """
        if not isinstance(snapshot, Snapshot):
            raise TypeError("this is no snapshot of a live world")
        self._loop.run(self._network.restore(snapshot))

    def close(self) -> None:
        """See `World.close`."""
        if not self._closed:
            self._closed = True
            try:
                self._loop.run(self._network.close())
            finally:
                self._loop.close()


async def _open(
    network: Topology | Testbed, agents: Sequence[str], backend: BackendKind
) -> LiveNetwork:
    owned = isinstance(network, Topology)
    if isinstance(network, Topology):
        # Worlds run beside each other, and beside what the user has up.
        name = f"{network.name}-world-{os.getpid()}-{next(_NUMBERS)}"
        testbed = await Testbed.up(network, backend=backend, name=name, tied=True)
    else:
        testbed = await Testbed.attach(network.name)
    try:
        live = LiveNetwork(testbed, agents, owned=owned)
        await live.open()
    except BaseException:
        await to_its_end(testbed.down() if owned else testbed.close())
        raise
    return live
