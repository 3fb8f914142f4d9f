from __future__ import annotations

import pytest
from typer.testing import CliRunner

from lnagents.cli.topology import app
from lnagents.model.errors import TopologyError
from lnagents.model.generate import Shape, generate_topology
from lnagents.model.topology import parse_topology


def test_it_prints_what_the_testbed_reads() -> None:
    result = CliRunner().invoke(app, ["generate", "ring", "--nodes", "6", "--seed", "4"])
    assert result.exit_code == 0
    assert parse_topology(result.stdout, "out") == generate_topology(Shape.RING, 6, 4)


def test_an_impossible_network_is_an_input_error() -> None:
    result = CliRunner().invoke(app, ["generate", "ring", "--nodes", "2"])
    assert isinstance(result.exception, TopologyError)


@pytest.mark.parametrize("arguments", [["generate", "torus"], ["generate"], ["make"]])
def test_bad_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2
