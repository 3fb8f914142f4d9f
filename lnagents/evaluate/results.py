"""Results of runs: a journal while they are made, then one Parquet file, read with DuckDB.

A result is a row. While runs go on each is added to a journal (JSON, a line each) as soon as it is
there, so that whatever happens to the process costs only what was under way; `gather` turns the
journal into the Parquet file, which is small enough to be kept under version control.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import duckdb

from lnagents.model.errors import ExperimentError
from lnagents.model.units import Msat

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PARQUET = "runs.parquet"
JOURNAL = "runs.jsonl"

_SQL_TYPES = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}


@dataclass(frozen=True, slots=True)
class SeatResult:
    """What one agent made of a run; amounts in msat, sums over all rounds."""

    node: str
    plays: str
    """The name of who decided for it."""
    contests: bool
    """Whether it was the contestant's; the others were the field's."""
    channels: int
    capacity_msat: Msat
    fees_earned_msat: Msat
    fees_paid_msat: Msat
    """For its own payments."""
    forwards: int
    forwarded_msat: Msat
    failed_forwards: int
    updates: int
    """Policies that it announced."""
    fee_churn: float
    """See `lnagents.evaluate.measures.fee_churn`."""
    rate_ppm: float
    """Its channels' mean fee rate over the last half of the run."""
    deviates: bool
    """Whether it charges `deviation` times what it decides."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run brought; amounts in msat."""

    run: str
    """Its id: what was to be run decides it."""
    contestant: str
    field: str
    """Who had the other seats."""
    family: str
    split: str
    index: int
    """Of the network, and of the payments on it."""
    rounds: int
    disturbance: str
    """What went wrong, `calm` for nothing; see `lnagents.evaluate.experiment.disturbances`."""
    deviation: float
    """With which one seat of the contestant multiplies its fee rates; 1: none does."""
    payments: int
    settled: int
    offered_msat: Msat
    settled_msat: Msat
    bound_msat: Msat
    """What perfect knowledge could have settled at most, see `lnagents.twin.success_bound`."""
    fees_msat: Msat
    """What senders paid for what settled."""
    attempts: int
    failed_attempts: int
    income_by_round: tuple[Msat, ...]
    """Fees that the contestant's seats earned."""
    payments_by_round: tuple[int, ...]
    settled_by_round: tuple[int, ...]
    volume_by_round: tuple[Msat, ...]
    """Settled, msat."""
    seconds: float
    """That the run took of one processor; no part of the result."""
    version: str
    """Of lnagents."""
    team: str
    """Which trained team played (`lnagents.evaluate.experiment.school.digest`), empty if none did:
    the same training by other code, or on another processor, may bring another team."""
    seats: tuple[SeatResult, ...]


class Results:
    """The results in one folder."""

    def __init__(self, folder: Path, kind: type[DataclassInstance] = RunResult) -> None:
        """The results in `folder`, which need not exist yet.

        `kind` is what a result is: a dataclass with an id named `run`.
        """
        self.folder = folder
        self._kind = kind
        self._parquet = folder / PARQUET
        self._journal = folder / JOURNAL

    def append(self, result: DataclassInstance) -> None:
        """Keep a result; it is on the disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(asdict(result), allow_nan=False) + "\n")
            journal.flush()
            os.fsync(journal.fileno())

    def done(self) -> frozenset[str]:
        """Ids of the runs that have a result.

        Raises:
            ExperimentError: a file is damaged.
        """
        self._cut_torn_line()
        if not (self._parquet.exists() or self._journal.exists()):
            return frozenset()
        return frozenset(self.query("SELECT run FROM runs")["run"])

    def gather(self) -> None:
        """Move what is in the journal to the Parquet file, ordered by id; it appears whole.

        Raises:
            ExperimentError: a file is damaged.
        """
        self._cut_torn_line()
        if not self._journal.exists():
            return
        partial = self._parquet.with_suffix(".partial")
        with self._tables() as connection, self._told():
            runs = connection.sql("SELECT * FROM runs ORDER BY run")
            runs.write_parquet(str(partial), compression="zstd")
        partial.replace(self._parquet)
        self._journal.unlink()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> dict[str, list[Any]]:
        """The columns that `sql` finds, by name, in the order that it asks for.

        It may use the table `runs`, with the columns of what a result is (`RunResult`), and for
        each column of these that is a tuple of dataclasses a table of that name (`seats`), with
        their columns and `run`.

        Raises:
            ExperimentError: there are no results, or a file is damaged.
        """
        with self._tables() as connection, self._told():
            found = connection.execute(sql, list(parameters))
            names = [column[0] for column in found.description]
            rows = found.fetchall()
        columns = zip(*rows, strict=True) if rows else ((),) * len(names)
        return {name: list(column) for name, column in zip(names, columns, strict=True)}

    @contextmanager
    def _tables(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database with the table `runs` and those of its parts; of a run the last result."""
        columns = _columns(self._kind)
        with duckdb.connect() as connection:
            with self._told():
                parts = []
                if self._journal.exists():
                    journal = connection.read_json(
                        str(self._journal), columns=columns, format="newline_delimited"
                    )
                    journal.create("made_last")
                    connection.execute(
                        "DELETE FROM made_last WHERE rowid NOT IN"
                        " (SELECT max(rowid) FROM made_last GROUP BY run)"
                    )
                    parts.append(connection.table("made_last"))
                if self._parquet.exists():
                    kept = connection.read_parquet(str(self._parquet))
                    if parts:  # a run that was made again
                        kept = kept.filter("run NOT IN (SELECT run FROM made_last)")
                    parts.append(kept.select(_selected(columns, kept.columns)))
                if not parts:
                    raise ExperimentError(str(self.folder), "there are no results")
                functools.reduce(lambda one, other: one.union(other), parts).create("runs")
                for name, kind_of in columns.items():
                    if kind_of.startswith("STRUCT"):
                        connection.execute(
                            f"CREATE VIEW {name} AS SELECT run, unnest(part)"  # noqa: S608
                            f" FROM (SELECT run, unnest({name}) AS part FROM runs)"
                        )
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the database says of damaged files, in one sentence."""
        try:
            yield
        except (duckdb.IOException, duckdb.InvalidInputException, duckdb.BinderException) as exc:
            problem = f"the results cannot be read, {str(exc).splitlines()[0]}"
            raise ExperimentError(str(self.folder), problem) from exc

    def _cut_torn_line(self) -> None:
        """A line without its end is what an interrupted process left."""
        if not self._journal.exists():
            return
        text = self._journal.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            with self._journal.open("r+b") as journal:
                journal.truncate(whole)


def _selected(columns: dict[str, str], there: Sequence[str]) -> str:
    """Those columns in SQL; a file of an older version has not all, and NULL in their place."""
    return ", ".join(
        name if name in there else f"NULL::{kind} AS {name}" for name, kind in columns.items()
    )


def _columns(kind: type) -> dict[str, str]:
    hints = get_type_hints(kind)
    return {field.name: _sql_type(hints[field.name]) for field in fields(kind)}


def _sql_type(hint: Any) -> str:
    if hint in _SQL_TYPES:
        return _SQL_TYPES[hint]
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if inner in _SQL_TYPES:
            return f"{_SQL_TYPES[inner]}[]"
        parts = ", ".join(f"{name} {kind}" for name, kind in _columns(inner).items())
        return f"STRUCT({parts})[]"
    raise TypeError(f"{hint} has no column type")
