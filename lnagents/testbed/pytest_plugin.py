"""A pytest plugin for every project that tests against a real Lightning network.

It adds the fixtures of `pytest_fixtures` (`testbed`, `testbed_factory`) where pytest-asyncio is
installed, and these settings, as options and as keys of the ini file:

* `--lnagents-topology` / `lnagents_topology`: the network of the fixture `testbed` (`default`);
* `--lnagents-backend` / `lnagents_backend`: what runs it (`native`).

pytest loads this in every project of an environment, so it imports nothing else here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_SETTINGS = {
    "topology": ("default", "name or file of the network that the fixture `testbed` starts"),
    "backend": ("native", "what runs the networks of tests: native or compose"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings."""
    group = parser.getgroup("lnagents", "real Lightning networks")
    for name, (default, text) in _SETTINGS.items():
        group.addoption(f"--lnagents-{name}", default=None, help=f"{text} (default: {default})")
        parser.addini(f"lnagents_{name}", text, default=default)


def pytest_configure(config: pytest.Config) -> None:
    """Add the fixtures; they are coroutines, so without pytest-asyncio there are none."""
    if config.pluginmanager.hasplugin("asyncio"):
        fixtures = import_module("lnagents.testbed.pytest_fixtures")
        config.pluginmanager.register(fixtures, "lnagents-fixtures")


def setting(config: pytest.Config, name: str) -> str:
    """The value of a setting: the option, or else the ini file's key."""
    value = config.getoption(f"--lnagents-{name}") or config.getini(f"lnagents_{name}")
    return str(value)
