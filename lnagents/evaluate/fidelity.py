"""How well the twin agrees with real LND: random networks, the same payments on both sides."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnagents.evaluate.fidelity_cases import Case, draw_case
from lnagents.evaluate.fidelity_compare import (
    Agreement,
    CaseComparison,
    agreement,
    compare,
)
from lnagents.evaluate.fidelity_explain import divergences
from lnagents.evaluate.fidelity_live import record_case
from lnagents.evaluate.recording import CaseSet, Recording, dump_recording, load_recording
from lnagents.evaluate.replay import as_replay, replay
from lnagents.model.errors import (
    NodeTimeoutError,
    NodeUnavailableError,
    RecordingError,
    SettleTimeoutError,
)

SHOWN_DIVERGENCES = 5

STARTS = 3
"""How often a case's network is started if its nodes do not answer in time."""

Progress = Callable[[str], None]
"""Told what is being done, for people."""


@dataclass(frozen=True, slots=True)
class FidelityBench:
    """All cases that were compared, in the order in which they were asked for."""

    cases: tuple[CaseComparison, ...]
    repeated: tuple[CaseComparison, ...] = ()
    """The same live runs against second live runs, if there were any."""

    @property
    def total(self) -> Agreement:
        """Over all sets."""
        return agreement(self.cases)

    @property
    def sets(self) -> dict[CaseSet, Agreement]:
        """Of each set."""
        found: dict[CaseSet, list[CaseComparison]] = {}
        for case in self.cases:
            found.setdefault(case.recording.case_set, []).append(case)
        return {case_set: agreement(cases) for case_set, cases in found.items()}

    @property
    def divergences(self) -> list[str]:
        """The first ones, explained; at most one per case."""
        found = [text for case in self.cases for text in divergences(case)]
        return found[:SHOWN_DIVERGENCES]

    def to_json(self) -> dict[str, object]:
        """For scripts: all together, each set, and the first divergences."""
        document = self.total.to_json() | {
            "sets": {case_set.value: one.to_json() for case_set, one in self.sets.items()},
            "divergences": self.divergences,
        }
        if self.repeated:
            document["lnd_repeats_itself"] = agreement(self.repeated).to_json()
        return document


def compare_recordings(recordings: Sequence[Recording]) -> FidelityBench:
    """Replay recordings in the twin and compare.

    Raises:
        RecordingError: the twin cannot have the settings of one of them.
    """
    return FidelityBench(tuple(compare(recording, replay(recording)) for recording in recordings))


def find_recordings(paths: Sequence[Path]) -> list[Recording]:
    """Read recordings from files, and from all files `*.json` of folders.

    Raises:
        RecordingError: one is wrong, or a folder has none.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise RecordingError(str(path), "has no recordings (*.json)")
        files += found
    return [load_recording(file) for file in files]


async def bench_fidelity(
    case_sets: Sequence[CaseSet],
    *,
    cases: Iterable[int],
    seed: int,
    directory: Path | None = None,
    twice: bool = False,
    progress: Progress = lambda text: None,
) -> FidelityBench:
    """Run cases on real LND and in the twin, and compare.

    Args:
        case_sets: which sets.
        cases: which ones of each set, by their numbers.
        seed: of everything that is drawn.
        directory: where recordings of the live side are kept, one file per case. Cases that it has
            already are not run live again, so an interrupted bench goes on where it was.
        twice: run each case live a second time, to see how far LND agrees with itself.
        progress: told what is being done.

    Raises:
        TestbedError: a network did not come up.
        LndError: a node refused or does not answer.
        RecordingError: a recording in `directory` is wrong, or is of another case.
    """
    numbers = list(cases)
    drawn = [draw_case(case_set, seed, index) for case_set in case_sets for index in numbers]
    compared, repeated = [], []
    for number, case in enumerate(drawn):

        def told(text: str, place: str = f"{case.name} ({number + 1} of {len(drawn)})") -> None:
            progress(f"{place}: {text}")

        recording = await record_or_load(case, directory, told)
        told("in the twin")
        compared.append(compare(recording, await asyncio.to_thread(replay, recording)))
        if twice:
            second = await record_or_load(case, directory, told, again=True)
            repeated.append(compare(recording, as_replay(recording, second)))
    return FidelityBench(tuple(compared), tuple(repeated))


async def record_or_load(
    case: Case,
    directory: Path | None,
    progress: Progress = lambda text: None,
    *,
    again: bool = False,
) -> Recording:
    """The recording of a case: from `directory` if it is there, else by running it now.

    The one of a second live run (`again`) has a file of its own.

    Raises:
        TestbedError: the network did not come up.
        LndError: a node refused or does not answer.
        RecordingError: what is in `directory` is wrong, or is of another case.
    """
    path = None if directory is None else directory / f"{case.name}{'.again' if again else ''}.json"
    if path is not None and await asyncio.to_thread(path.exists):
        recording = await asyncio.to_thread(load_recording, path)
        if recording.topology != case.topology:
            problem = "topology: it is not that of the case; another version drew it"
            raise RecordingError(str(path), problem)
        return recording
    recording = await _record(case, progress)
    if path is not None:
        await asyncio.to_thread(write_recording, recording, path)
    return recording


async def _record(case: Case, progress: Progress) -> Recording:
    for tries_left in reversed(range(STARTS)):
        progress("starting the network")
        try:
            return await record_case(
                case,
                name=f"fidelity-{case.name}-{os.getpid()}",
                progress=lambda done, count: progress(f"live, {done} of {count}"),
            )
        except (SettleTimeoutError, NodeTimeoutError, NodeUnavailableError):
            # On a busy machine a node may not answer in time; a new network begins from nothing.
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def write_recording(recording: Recording, path: Path) -> None:
    """Write a recording to a file, whole or not at all.

    Raises:
        RecordingError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(dump_recording(recording))
        draft.replace(path)
    except OSError as exc:
        raise RecordingError(str(path), f"cannot be written, {exc.strerror}") from exc
