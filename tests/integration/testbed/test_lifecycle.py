"""The command line from the outside: what it starts, and that nothing of it stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from lnagents.testbed import load_topology
from tests.integration.shell import TINY, Shell


def test_up_pay_reset_audit_down(shell: Shell) -> None:
    data = str(shell.folder / "data")
    up = shell.json("testbed", "up", shell.topology(), "--directory", data)
    assert up["name"] == "tiny"
    assert set(up["services"].values()) == {"running"}
    assert [row["from"] for row in up["channels"]] == ["alice", "bob"]
    code, _, err = shell.run("testbed", "up", shell.topology())
    assert code == 1
    assert "a testbed named 'tiny' is up already" in err

    code, out, _ = shell.run("testbed", "status")
    assert code == 0
    assert "aperture-carol" in out
    paid = shell.json("testbed", "pay", "alice", "carol", "50000")
    assert paid["settled"]
    code, out, _ = shell.run("testbed", "pay", "carol", "alice", "900000")
    assert code == 1
    assert "carol could not pay alice" in out
    audit = shell.json("testbed", "audit")
    assert audit["difference_sat"] == 0
    assert shell.json("testbed", "status")["channels"] != up["channels"]
    assert shell.json("testbed", "reset") == {"reset": "tiny"}
    assert shell.json("testbed", "status")["channels"] == up["channels"]
    assert shell.run("testbed", "mine", "2")[0] == 0
    code, out, _ = shell.run("testbed", "logs", "alice", "--lines", "5")
    assert code == 0
    assert len(out.splitlines()) == 5

    shell.json("testbed", "down")
    shell.assert_nothing_left()
    code, _, err = shell.run("testbed", "status")
    assert code == 2
    assert "no network is up" in err


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("nodes:", "colour: red\nnodes:", "colour: unknown key"),
        ("to: carol", "to: dora", "channels[1].to: unknown node 'dora'"),
        ("to: carol", "to: alice", "channels[1]: duplicate channel"),
        (
            "to: carol, capacity_sat: 1000000",
            "to: carol, capacity_sat: 1000000, local_fraction: 0.0",
            "channels[1].local_fraction: impossible balance",
        ),
    ],
)
def test_a_bad_topology_gets_one_sentence_and_starts_nothing(
    shell: Shell, old: str, new: str, sentence: str
) -> None:
    assert old in TINY
    text = TINY.replace(old, new, 1)
    code, out, err = shell.run("testbed", "up", shell.topology(text))
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "tiny.yaml" in err
    assert sentence in err
    shell.assert_nothing_left()


def test_unknown_names_are_bad_input(shell: Shell) -> None:
    for arguments, sentence in (
        (("up", "nowhere"), "there are default, line5, star_ring"),
        (("up", "line5", "--backend", "steam"), "unknown backend 'steam'"),
        (("up", "line5", "--name", "../escape"), "is not a name"),
    ):
        code, _, err = shell.run("testbed", *arguments)
        assert code == 2, err
        assert sentence in err
    shell.assert_nothing_left()


def free_run_of_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody listens on."""
    for first in range(12_000, 30_000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError(f"no {count} free ports in a row")


def test_a_port_in_use_is_named_with_who_wants_it(shell: Shell) -> None:
    with socket.socket() as taken:
        # alice's gRPC is the fourth port. Fixed ports below the range from which the system gives
        # out its own: one of those might be in use next to the one that is taken here.
        port = free_run_of_ports(20) + 3
        taken.bind(("127.0.0.1", port))
        taken.listen()
        text = TINY.replace("nodes:", f"base_port: {port - 3}\nnodes:", 1)
        code, _, err = shell.run("testbed", "up", shell.topology(text))
    assert code == 1
    assert f"port {port}" in err
    assert "alice gRPC" in err
    shell.assert_nothing_left()


def test_a_node_that_dies_at_start_tells_why_and_all_else_is_stopped(shell: Shell) -> None:
    text = TINY.replace("{name: bob}", "{name: bob, lnd: [--no-such-option]}")
    data = str(shell.folder / "data")
    code, _, err = shell.run("testbed", "up", shell.topology(text), "--directory", data)
    assert code == 1
    assert "bob ended by itself" in err
    assert "no-such-option" in err
    shell.assert_nothing_left()


def test_a_folder_that_exists_is_left_alone(shell: Shell) -> None:
    data = shell.folder / "mine"
    data.mkdir()
    (data / "letter").write_text("dear")
    code, _, err = shell.run("testbed", "up", shell.topology(), "--directory", str(data))
    assert code == 1
    assert "File exists" in err
    assert (data / "letter").read_text() == "dear"
    shell.assert_nothing_left()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_named_and_all_is_stopped(shell: Shell) -> None:
    small = shell.folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        data = small / "data"
        code, _, err = shell.run("testbed", "up", shell.topology(), "--directory", str(data))
        assert code == 1
        assert "space" in err.lower() or "full" in err.lower()
        assert not data.exists()
        shell.assert_nothing_left()
    finally:
        subprocess.run(["umount", str(small)], check=True)


MOMENTS = [
    "*/state.json",
    "*/processes/bitcoind.json",
    "*/processes/alice.json",
    "*/processes/carol.json",
    "*/processes/aperture-carol.json",
    "*/processes/miner.json",
]
"""What exists when the signal comes: the network's state, or the record of a process."""


def wait_for(shell: Shell, process: subprocess.Popen[str], pattern: str) -> None:
    """Until a file of the registry appears, or the command has ended."""
    testbeds = shell.folder / "state" / "lnagents" / "testbeds"
    while process.poll() is None and not list(testbeds.glob(pattern)):
        time.sleep(0.001)


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize("delay", [0.0, 0.3])
@pytest.mark.parametrize("moment", MOMENTS)
def test_control_c_at_any_moment_leaves_nothing(
    shell: Shell, moment: str, delay: float, signals: int
) -> None:
    with shell.start(
        "testbed", "up", shell.topology(), "--json", "--directory", str(shell.folder / "data")
    ) as process:
        wait_for(shell, process, moment)
        time.sleep(delay)
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130, -signal.SIGINT), err
    if out:
        # It came too late: the command had told what it made.
        assert json.loads(out)["name"] == "tiny"
        shell.json("testbed", "down", "--all")
    shell.assert_nothing_left()


@pytest.mark.parametrize("moment", MOMENTS)
def test_down_removes_what_a_killed_up_left(shell: Shell, moment: str) -> None:
    with shell.start(
        "testbed", "up", shell.topology(), "--directory", str(shell.folder / "data")
    ) as process:
        wait_for(shell, process, moment)
        process.kill()
        process.communicate()
    code, _, err = shell.run("testbed", "down", "--all")
    assert code == 0, err
    shell.assert_nothing_left()


OWNER = """
import asyncio, sys, time
from pathlib import Path
from lnagents.testbed import Testbed, load_topology

async def main() -> None:
    async with Testbed.running(load_topology(Path(sys.argv[1])), name="orphan"):
        print("up", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_what_a_killed_program_left_is_removed_by_the_next_start(shell: Shell) -> None:
    topology = shell.topology()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, topology], env=shell.environment, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        code, _, err = shell.run("testbed", "status", "--name", "orphan")
        assert code == 0, err
        owner.kill()
        owner.communicate()
    up = shell.json("testbed", "up", topology)
    assert up["name"] == "tiny"
    code, _, err = shell.run("testbed", "status", "--name", "orphan")
    assert code == 1
    assert "(up: tiny)" in err
    assert not any("/lnagents-orphan-" in command for command in shell.processes())
    shell.json("testbed", "down")
    shell.assert_nothing_left()


def test_topologies_that_come_along_are_those_that_are_documented() -> None:
    for name, nodes, channels in (("default", 7, 12), ("star_ring", 7, 12), ("line5", 5, 4)):
        topology = load_topology(name)
        assert (len(topology.nodes), len(topology.channels)) == (nodes, channels)
        assert topology.base_port == 0
