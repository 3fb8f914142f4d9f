from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from lnagents.model.errors import BackendError, InputError, TestbedError
from lnagents.model.topology import parse_topology
from lnagents.testbed import state as module
from lnagents.testbed.backend import BackendKind
from lnagents.testbed.processes import ProcessRecord
from lnagents.testbed.state import (
    NodeBooks,
    StateFolder,
    TestbedState,
    data_directory_for,
    registry,
    running_names,
)

TOPOLOGY = parse_topology(
    """
name: tiny
nodes: [{name: alice}, {name: bob}]
channels: [{from: alice, to: bob, capacity_sat: 1000000, policy: {max_htlc_msat: 5}}]
""",
    "tiny.yaml",
)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_is_written_is_read() -> None:
    folder = StateFolder("tiny")
    folder.claim()
    state = TestbedState(
        name="tiny",
        backend=BackendKind.NATIVE,
        mark="abc",
        directory=Path("/x"),
        topology=TOPOLOGY,
        ports={"alice gRPC": 5},
        began_at=1.5,
        books={
            "alice": NodeBooks(
                key="02" * 33,
                deposited_msat=1,
                local_msat=2,
                commitment_msat=3,
                channel_points=("a:0",),
            )
        },
    )
    folder.write(state)
    assert StateFolder("tiny").read() == state
    files = [registry(), folder.path, folder.path / "state.json", folder.path / "processes"]
    assert [path.stat().st_mode & 0o077 for path in files] == [0, 0, 0, 0]
    assert running_names() == ["tiny"]
    folder.remove()
    assert running_names() == []


def test_a_name_is_taken_once() -> None:
    StateFolder("tiny").claim()
    with pytest.raises(BackendError, match="'tiny' is up already"):
        StateFolder("tiny").claim()
    StateFolder("other").claim()


def test_unknown_names_are_told_with_the_known_ones() -> None:
    assert running_names() == []
    StateFolder("tiny").claim()
    with pytest.raises(TestbedError, match=r"no testbed named 'other' is up \(up: tiny\)"):
        StateFolder("other").read()


def test_damaged_state_is_named() -> None:
    folder = StateFolder("tiny")
    folder.claim()
    (folder.path / "state.json").write_text("{}")
    with pytest.raises(TestbedError, match=r"state\.json was written by another version"):
        folder.read()


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "-x", "x" * 70])
def test_names_cannot_leave_the_registry(name: str) -> None:
    with pytest.raises(InputError, match="is not a name"):
        StateFolder(name)


def test_processes_are_recorded_one_by_one() -> None:
    folder = StateFolder("tiny")
    folder.claim()
    first, second = ProcessRecord(pid=1, started=2), ProcessRecord(pid=3, started=4)
    folder.record("alice", first)
    folder.record("aperture-carol", second)
    folder.record("alice", second)
    assert folder.processes() == {"alice": second, "aperture-carol": second}
    folder.forget("alice")
    folder.forget("alice")
    assert folder.processes() == {"aperture-carol": second}


def test_data_goes_to_tmpfs_only_if_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TMPFS", tmp_path)
    free = module.BYTES_BASE + 7 * module.BYTES_PER_NODE

    def usage(path: Path) -> Usage:
        return Usage(0, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    on_tmpfs = data_directory_for("n", "abcdef0123", 7)
    assert on_tmpfs == tmp_path / "lnagents-n-abcdef01"
    assert data_directory_for("n", "abcdef0123", 8).is_relative_to(tmp_path / "cache")
    monkeypatch.setattr(module, "TMPFS", tmp_path / "missing")
    assert data_directory_for("n", "abcdef0123", 1).is_relative_to(tmp_path / "cache")
