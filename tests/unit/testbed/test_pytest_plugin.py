from __future__ import annotations

import subprocess
import sys

import pytest

from lnagents.testbed.pytest_plugin import setting


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    program = (
        "import sys, lnagents.testbed.pytest_plugin\n"
        "print(sorted(m for m in ('grpc', 'pydantic', 'yaml', 'httpx', 'pytest', 'lnagents.lnd')"
        " if m in sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_settings_have_defaults(pytestconfig: pytest.Config) -> None:
    assert setting(pytestconfig, "topology") == "default"
    assert setting(pytestconfig, "backend") == "native"


def test_the_fixtures_are_known(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.hasplugin("lnagents-fixtures")


def test_names_of_the_package_come_when_they_are_used() -> None:
    import lnagents.testbed

    for name in lnagents.testbed.__all__:
        assert getattr(lnagents.testbed, name).__name__ in (name, "Callable")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lnagents.testbed.nothing
