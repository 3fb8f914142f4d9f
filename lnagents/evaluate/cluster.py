"""Jobs on the machines of a Ray cluster; nothing else in lnagents knows Ray.

`local` is a Ray of its own on this machine, which ends with its user: it listens on the loopback
interface only, with a token that nobody else knows, and reports nothing to anyone. A cluster that
runs already is used as it is: every machine of it needs lnagents of the same version, and the files
that a configuration names by path; the text of extensions is sent along.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lnagents.evaluate.executors import ATTEMPTS, Call, Executor, Job, Result, on_this_machine
from lnagents.evaluate.extensions import Extension
from lnagents.model.errors import LnagentsError

LOCAL = "local"

STARTS = 6
"""How often a local Ray is begun, which on a busy machine gives up waiting for itself."""


def make_executor(
    cluster: str | None, workers: int | None, extensions: tuple[Extension, ...]
) -> Executor:
    """Where jobs are to be done.

    Args:
        cluster: a Ray's address, `local` for one of its own, None for plain processes.
        workers: how many at once on this machine; None takes its processors.
        extensions: are loaded wherever a job is done.

    Raises:
        LnagentsError: Ray is missing, or cannot be reached.
    """
    if cluster is None:
        return on_this_machine(workers, extensions)
    return RayCluster(cluster, workers or len(os.sched_getaffinity(0)), extensions)


class RayCluster:
    """An `Executor`: a job whose worker dies is begun anew, on whatever machine is there."""

    def __init__(self, address: str, workers: int, extensions: tuple[Extension, ...] = ()) -> None:
        """Join the cluster at `address`, or begin a local one with `workers` workers.

        Raises:
            LnagentsError: Ray is missing, or cannot be reached.
        """
        self._extensions = extensions
        self._folder: Path | None = None
        if address == LOCAL:
            self._ray = _import_ray(_private_environment())
            self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
            self._begin(workers, self._folder)
        else:
            self._ray = _import_ray({})
            self._join(address)
        self._perform = self._ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(perform)

    def _begin(self, workers: int, folder: Path) -> None:
        for attempt in range(1, STARTS + 1):
            try:
                self._ray.init(
                    address=LOCAL,
                    num_cpus=workers,
                    include_dashboard=False,
                    _temp_dir=str(folder),
                    **_QUIET,
                )
            except Exception as exc:  # Ray raises bare exceptions here
                self._ray.shutdown()
                if attempt == STARTS:
                    self.close()
                    raise LnagentsError(f"a local Ray did not come up: {exc}") from exc
            else:
                return

    def _join(self, address: str) -> None:
        try:
            self._ray.init(address=address, **_QUIET)
        except Exception as exc:
            self._ray.shutdown()
            raise LnagentsError(f"no Ray cluster can be joined at {address}: {exc}") from exc

    def run(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Result]]:
        """See `Executor.run`."""
        ray = self._ray
        call = ray.put(Call(function, self._extensions))
        under_way = {self._perform.remote(call, job): place for place, job in enumerate(jobs)}
        try:
            while under_way:
                (done, *_), _ = ray.wait(list(under_way), num_returns=1)
                try:
                    result: Result = ray.get(done)
                except ray.exceptions.RayTaskError as exc:
                    raise exc.cause from None
                except ray.exceptions.RayError as exc:
                    problem = f"workers of the cluster died {ATTEMPTS} times: {exc}"
                    raise LnagentsError(problem.splitlines()[0]) from exc
                yield under_way.pop(done), result
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def perform(call: Call, job: Any) -> Any:
    """What a worker does."""
    return call(job)


_QUIET: dict[str, Any] = {
    "log_to_driver": False,
    "configure_logging": False,
    "logging_level": "error",
}


def _private_environment() -> dict[str, str]:
    """What makes a local Ray keep to itself; it reads this when it is imported."""
    return {
        # Its name notwithstanding, on Linux it says that this node is reached by loopback only.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_enable_metrics_collection": "0",
        # A busy machine needs more than the 15 seconds that Ray has in mind.
        "RAY_agent_register_timeout_ms": "120000",
    }


def _import_ray(environment: dict[str, str]) -> Any:
    """The package, told to report nothing.

    Raises:
        LnagentsError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            # Of its own modules, while they are imported.
            warnings.simplefilter("ignore")
            import ray
            import ray.exceptions
    except ImportError as exc:
        raise LnagentsError(
            "--cluster needs Ray, which is not installed: python -m pip install 'lnagents[ray]'"
        ) from exc
    return ray
