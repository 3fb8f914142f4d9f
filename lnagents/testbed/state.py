"""What is known of each running testbed: one folder per name below the user's state directory.

`$XDG_STATE_HOME/lnagents/testbeds/NAME/` holds `state.json` and one `processes/SERVICE.json` for
each process, written the moment it exists. So any later command finds all that belongs to a
testbed, even if `up` was killed half-way.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import ClassVar

import platformdirs
from pydantic import Field, ValidationError

from lnagents.model.errors import BackendError, InputError, TestbedError
from lnagents.model.files import StrictModel
from lnagents.model.topology import Topology
from lnagents.model.units import Msat, NodeKey
from lnagents.testbed.backend import BackendKind
from lnagents.testbed.private import write_private
from lnagents.testbed.processes import ProcessRecord

TMPFS = Path("/dev/shm")  # noqa: S108 - the folder made in it is new, and the user's alone
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")

BYTES_BASE = 300 * 1024**2
BYTES_PER_NODE = 100 * 1024**2
"""What a network may need on tmpfs, with its snapshot, logs and some hours of payments; about a
tenth of it is used after the start."""


class NodeBooks(StrictModel):
    """One node's accounts right after provisioning, where the audit begins."""

    key: NodeKey
    deposited_msat: Msat
    """From the faucet, on chain."""
    local_msat: Msat
    """In its channels, at that time."""
    commitment_msat: Msat
    """What it had set aside in channels that it opened: commitment fees and anchors."""
    channel_points: tuple[str, ...]
    """Its channels."""


class TestbedState(StrictModel):
    """A testbed as it is written down."""

    __test__: ClassVar[bool] = False  # pytest would collect the name

    name: str
    backend: BackendKind
    mark: str
    """In the environment (or labels) of all that belongs to it."""
    directory: Path
    """Data of the services; removed by `down`."""
    topology: Topology
    owner: ProcessRecord | None = None
    """The process that it should not outlive; None lets it run until `down`."""
    ports: dict[str, int] = Field(default_factory=dict)
    began_at: float = 0.0
    """Unix seconds when provisioning ended; 0 before."""
    books: dict[str, NodeBooks] = Field(default_factory=dict)
    """By node name; empty until the network is provisioned."""


class StateFolder:
    """The folder of one testbed's name.

    Raises:
        InputError: it is no name.
    """

    def __init__(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise InputError("--name", f"{name!r} is not a name ({NAME.pattern})")
        self.name = name
        self.path = registry() / name

    def claim(self) -> None:
        """Make the folder, or find that the name is taken.

        Raises:
            BackendError: a testbed of this name exists.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError as exc:
            raise BackendError(
                f"a testbed named {self.name!r} is up already;"
                f" `lnagents testbed down --name {self.name}` removes it"
            ) from exc
        (self.path / "processes").mkdir(mode=0o700)

    def exists(self) -> bool:
        """Whether a testbed has this name."""
        return self.path.is_dir()

    def write(self, state: TestbedState) -> None:
        """Replace the state, at once or not at all."""
        write_private(self.path / "state.json", state.model_dump_json(by_alias=True, indent=1))

    def read(self) -> TestbedState:
        """The state as last written.

        Raises:
            TestbedError: there is no such testbed, or it was interrupted before it wrote anything.
        """
        try:
            text = (self.path / "state.json").read_text()
            return TestbedState.model_validate_json(text)
        except FileNotFoundError as exc:
            known = ", ".join(running_names()) or "none"
            raise TestbedError(f"no testbed named {self.name!r} is up (up: {known})") from exc
        except ValidationError as exc:
            raise TestbedError(
                f"{self.path / 'state.json'} was written by another version of lnagents"
            ) from exc

    def record(self, service: str, process: ProcessRecord) -> None:
        """Write down that `process` is the service."""
        write_private(self.path / "processes" / f"{service}.json", process.model_dump_json())

    def forget(self, service: str) -> None:
        """The service was ended on purpose."""
        (self.path / "processes" / f"{service}.json").unlink(missing_ok=True)

    def processes(self) -> dict[str, ProcessRecord]:
        """All processes that were started and not ended on purpose, by service."""
        found = {}
        for file in sorted((self.path / "processes").glob("*.json")):
            # Another command may end a service meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found[file.stem] = ProcessRecord.model_validate_json(file.read_text())
        return found

    def remove(self) -> None:
        """Give the name back."""
        shutil.rmtree(self.path, ignore_errors=True)


def registry() -> Path:
    """The folder with one folder per testbed."""
    return platformdirs.user_state_path("lnagents") / "testbeds"


def running_names() -> list[str]:
    """Names of all testbeds that are up, or that an interrupted command left behind."""
    try:
        return sorted(entry.name for entry in registry().iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []


def data_directory_for(name: str, mark: str, nodes: int) -> Path:
    """Where a testbed keeps its data: tmpfs if there is room, else the user's cache."""
    folder = f"{name}-{mark[:8]}"
    wanted = BYTES_BASE + nodes * BYTES_PER_NODE
    usable = TMPFS.is_dir() and os.access(TMPFS, os.W_OK)
    if usable and shutil.disk_usage(TMPFS).free >= wanted:
        # Directly there: in a shared folder somebody else could have made a parent.
        return TMPFS / f"lnagents-{folder}"
    return platformdirs.user_cache_path("lnagents") / "testbeds" / folder
