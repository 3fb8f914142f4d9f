"""What live runs brought: one line of JSON per run, kept as soon as it is there."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lnagents import __version__
from lnagents.evaluate.live.play import Record
from lnagents.model.errors import ExperimentError
from lnagents.model.units import Msat

FILE = "runs.jsonl"

WorldName = Literal["live", "twin"]


@dataclass(frozen=True, slots=True)
class LiveResult:
    """One run in one world; amounts in msat, times in seconds."""

    run: str
    """`LivePlan.run_id`."""
    world: WorldName
    seed: int
    condition: str
    routers: tuple[str, ...]
    earned: tuple[tuple[Msat, ...], ...]
    """[rounds][routers], routing income."""
    updates: tuple[int, ...]
    """[routers], policies announced."""
    payments: tuple[tuple[tuple[int, int, int, float], ...], ...]
    """[rounds][payments]: settled (1 or 0), fee, failed attempts, seconds until the answer."""
    amounts: tuple[tuple[Msat, ...], ...]
    """[rounds][payments]."""
    drained: int
    """Payments that drained channels."""
    round_seconds: tuple[float, ...]
    """That each round took, of real time."""
    version: str
    peers: tuple[tuple[str, ...], ...] = ()
    """[routers], see `Books.peers`."""
    announced: tuple[tuple[int, ...], ...] = ()
    """[rounds][routers], policies announced; runs of older versions do not tell."""
    deciding_seconds: tuple[float, ...] = ()
    """Of each round, until its payments began; runs of older versions do not tell."""

    @classmethod
    def of(
        cls,
        record: Record,
        routers: tuple[str, ...],
        *,
        run: str,
        world: WorldName,
        seed: int,
        condition: str,
    ) -> LiveResult:
        """From what `play` gave."""
        return cls(
            run=run,
            world=world,
            seed=seed,
            condition=condition,
            routers=routers,
            earned=tuple(
                tuple(one.fees_earned_msat.get(name, 0) for name in routers)
                for one in record.rounds
            ),
            updates=tuple(record.updates.get(name, 0) for name in routers),
            payments=tuple(
                tuple(
                    (int(one.settled), one.fee_msat, one.failed_attempts, round(one.seconds, 4))
                    for one in lived.outcomes
                )
                for lived in record.rounds
            ),
            amounts=tuple(
                tuple(one.amount_msat for one in lived.outcomes) for lived in record.rounds
            ),
            drained=record.drained,
            round_seconds=tuple(round(one.seconds, 3) for one in record.rounds),
            version=__version__,
            peers=tuple(record.peers.get(name, ()) for name in routers),
            announced=tuple(
                tuple(one.updates.get(name, 0) for name in routers) for one in record.rounds
            ),
            deciding_seconds=tuple(round(one.deciding_seconds, 3) for one in record.rounds),
        )


class LiveResults:
    """The results in one folder."""

    def __init__(self, folder: Path) -> None:
        """The results in `folder`, which need not exist yet."""
        self.folder = folder
        self._file = folder / FILE

    def append(self, result: LiveResult) -> None:
        """Keep a result; it is on the disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._cut_torn_line()
        with self._file.open("a", encoding="utf-8") as file:
            line = json.dumps(asdict(result), allow_nan=False, separators=(",", ":"))
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> dict[tuple[str, WorldName], LiveResult]:
        """All results by run and world.

        Raises:
            ExperimentError: the file is damaged.
        """
        self._cut_torn_line()
        if not self._file.exists():
            return {}
        found: dict[tuple[str, WorldName], LiveResult] = {}
        for number, line in enumerate(self._file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                result = LiveResult(**json.loads(line))
            except (TypeError, ValueError) as exc:
                problem = f"line {number} is not a result"
                raise ExperimentError(str(self._file), problem) from exc
            found[result.run, result.world] = result
        return found

    def _cut_torn_line(self) -> None:
        """A line without its end is what an interrupted process left."""
        if not self._file.exists():
            return
        text = self._file.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            with self._file.open("r+b") as file:
                file.truncate(whole)
