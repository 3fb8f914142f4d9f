"""Jobs for executors, in a module of their own so that other processes find them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from lnagents.model.errors import ExperimentError


def doubled(job: int) -> int:
    return 2 * job


def process_of(job: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def refuses(job: int) -> int:
    raise ExperimentError("some.yaml", f"job {job} is wrong")


def dies_once(job: tuple[str, int]) -> int:
    """The first process that does the third job is killed."""
    mark, number = Path(job[0]), job[1]
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dies(job: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return job
