"""SQLite in a thread of its own: durable writes that share commits, and cheap batched ones.

A `write` returns when its changes are on disk. Writes that wait together are committed together,
each in its own savepoint, so that forty payments at once do not cost forty disk flushes. What comes
at a high rate and may be lost for a tenth of a second goes through `later`.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import structlog

from lnagents.model.errors import StoreError

Result = TypeVar("Result")
Work: TypeAlias = Callable[[sqlite3.Connection], Result]
Statement: TypeAlias = tuple[str, tuple[Any, ...]]

FLUSH_SECONDS = 0.1
"""How long a statement given to `later` may wait for its commit."""

WRITE_TIMEOUT_SECONDS = 30.0
"""After which a disk counts as stuck."""

MAX_BATCH = 256
"""Jobs in one commit, so that the first of them does not wait for long."""

_log = structlog.get_logger("lnagents.agent.database")


class _Job:
    """One unit of work, answered in the loop that asked."""

    __slots__ = ("error", "future", "loop", "result", "work")

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    def answer(self) -> None:
        """Hand over result or error; runs in the loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Database:
    """One SQLite file (WAL, synchronous=FULL, foreign keys) behind one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._later: list[Statement] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flushes: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None

    async def open(self, schema: tuple[str, ...]) -> None:
        """Open the file and bring it to the version `len(schema)`, one script per version.

        Raises:
            StoreError: it cannot be opened, is damaged, or is of a newer version.
        """
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(
            target=self._run,
            args=(schema, asyncio.get_running_loop(), opened),
            name=f"database {self.path.name}",
            daemon=True,
        )
        self._thread.start()
        await opened

    async def write(self, work: Work[Result]) -> Result:
        """Run `work` in a transaction of its own; when this returns, it is on disk.

        `work` runs in the database's thread. If it raises, its changes are undone.

        Raises:
            StoreError: SQLite failed, or did not answer in time; the changes may still come.
        """
        if self._thread is None:
            raise StoreError(f"{self.path} is closed")
        job = _Job(work)
        self._jobs.put(job)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                result: Result = await job.future
        except TimeoutError as exc:
            waited = f"no answer within {WRITE_TIMEOUT_SECONDS:.0f} s"
            raise StoreError(f"{self.path}: {waited}") from exc
        return result

    async def read(self, work: Work[Result]) -> Result:
        """Run a query; it sees everything that was written before, batched statements included."""
        self._send_later()
        return await self.write(work)

    def later(self, statement: str, *parameters: Any) -> None:
        """Run `statement` soon, with others; never waits, and costs almost nothing."""
        self._later.append((statement, parameters))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._send_later)

    async def flush(self) -> None:
        """Wait until everything given to `later` is on disk.

        Raises:
            StoreError: SQLite failed.
        """
        await self.read(lambda connection: None)

    async def close(self) -> None:
        """Write what is left and end the thread."""
        if self._thread is None:
            return
        self._send_later()
        if self._flushes:
            await asyncio.gather(*self._flushes)
        self._jobs.put(None)
        thread, self._thread = self._thread, None
        await asyncio.to_thread(thread.join)

    def _send_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._later:
            return
        statements, self._later = self._later, []

        def work(connection: sqlite3.Connection) -> None:
            for statement, parameters in statements:
                connection.execute(statement, parameters)

        # Queued at once, so that a read that follows comes after it; the task only reports.
        job = _Job(work)
        self._jobs.put(job)
        task = asyncio.get_running_loop().create_task(self._report(job, len(statements)))
        self._flushes.add(task)
        task.add_done_callback(self._flushes.discard)

    async def _report(self, job: _Job, count: int) -> None:
        try:
            await job.future
        except StoreError as exc:
            _log.error("records lost", count=count, cause=str(exc))

    def _run(
        self,
        schema: tuple[str, ...],
        loop: asyncio.AbstractEventLoop,
        opened: asyncio.Future[None],
    ) -> None:
        try:
            connection = _connect(self.path, schema)
        except (sqlite3.Error, OSError) as exc:
            error = StoreError(f"{self.path} cannot be opened: {exc}")
            loop.call_soon_threadsafe(opened.set_exception, error)
            return
        except StoreError as exc:
            loop.call_soon_threadsafe(opened.set_exception, exc)
            return
        loop.call_soon_threadsafe(opened.set_result, None)
        ended = False
        while not ended:
            batch: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) == MAX_BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            ended = job is None
            if batch:
                _commit(connection, batch, self.path)
                for done in batch:
                    # The loop may be gone after a hard stop; then nobody waits for the answer.
                    if not done.loop.is_closed():
                        done.loop.call_soon_threadsafe(done.answer)
        connection.close()


def _connect(path: Path, schema: tuple[str, ...]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    path.chmod(0o600)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(schema):
        connection.close()
        problem = f"its version {version} is newer than this program's {len(schema)}"
        raise StoreError(f"{path} cannot be opened: {problem}")
    for number, script in enumerate(schema[version:], start=version + 1):
        connection.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
    return connection


def _commit(connection: sqlite3.Connection, batch: list[_Job], path: Path) -> None:
    """Run all jobs of `batch` and commit once; a job that fails undoes only its own changes."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in batch:
            connection.execute("SAVEPOINT job")
            try:
                job.result = job.work(connection)
            except sqlite3.Error as exc:
                job.error = StoreError(f"{path}: {exc}")
            except Exception as exc:  # whatever the work raised belongs to who asked
                job.error = exc
            if job.error is not None:
                connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
        connection.execute("COMMIT")
    except sqlite3.Error as exc:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        for job in batch:
            if job.error is None:
                job.error = StoreError(f"{path}: {exc}")
