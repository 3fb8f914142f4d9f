"""Many twins at once: independent networks that run in as many threads as there are processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TypeVar

from lnagents.twin.directions import Directions
from lnagents.twin.network import Network
from lnagents.twin.settings import TwinSettings
from lnagents.twin.simulator import Twin
from lnagents.twin.traffic import Outcomes, Traffic

Result = TypeVar("Result")


class BatchedTwin(AbstractContextManager["BatchedTwin"]):
    """Twins of any sizes, which run side by side.

    Each twin is used by one thread at a time, and kernels release Python's lock, so the payments
    per second grow with the processors as long as a run takes much longer than the 30 microseconds
    of Python around it. Results do not depend on how many threads there are.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        settings: TwinSettings | None = None,
        *,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        """One twin per network, at time 0.

        Args:
            networks: any number; the same object may stand there several times.
            settings: of all twins.
            seed: the twin at index i gets seed + i.
            threads: how many may run at once; None: one for each processor that we may use.
        """
        self.twins = tuple(
            Twin(network, settings, seed=seed + index) for index, network in enumerate(networks)
        )
        self._threads = threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="twin")

    def __len__(self) -> int:
        return len(self.twins)

    def __getitem__(self, index: int) -> Twin:
        return self.twins[index]

    def __iter__(self) -> Iterator[Twin]:
        return iter(self.twins)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown()

    def run(
        self,
        traffic: Sequence[Traffic],
        *,
        directions: Sequence[Directions | None] | None = None,
        until: float | None = None,
    ) -> list[Outcomes]:
        """Run each twin's traffic; see `Twin.run`.

        Args:
            traffic: one for each twin.
            directions: likewise; None leaves all to LND.
            until: seconds from each twin's now.

        Raises:
            ValueError: there is not one traffic for each twin, or one cannot be run.
        """
        given = directions if directions is not None else [None] * len(traffic)
        if not len(traffic) == len(given) == len(self.twins):
            raise ValueError(f"{len(traffic)} traffics for {len(self.twins)} twins")
        return self.map(
            lambda index: self.twins[index].run(
                traffic[index], directions=given[index], until=until
            )
        )

    def map(self, work: Callable[[int], Result]) -> list[Result]:
        """Do something for the index of each twin, many at once; results in their order."""
        count, share = len(self.twins), max(1, -(-len(self.twins) // (4 * self._threads)))
        parts = [range(begin, min(begin + share, count)) for begin in range(0, count, share)]
        done = self._pool.map(lambda part: [work(index) for index in part], parts)
        return [result for part in done for result in part]
