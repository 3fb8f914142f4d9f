"""Integration tests share one real network, the fixture `testbed` of `lnagents.testbed`.

A test leaves it as it found it: it may pay, but what it stops, freezes, opens or reprices it puts
back. Whoever needs a network of its own takes `testbed_factory`, or `shell` for the command line.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """The command line, with a registry of its own; its networks end with the test."""
    shell = Shell(tmp_path)
    yield shell
    shell.run("testbed", "down", "--all")
