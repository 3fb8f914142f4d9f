"""The table of layers in ARCHITECTURE.md, enforced on the source text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lnagents"

RANKS = {
    "model": 0,
    "lnd": 1,
    "testbed": 2,
    "twin": 2,
    "market": 3,
    "env": 3,
    "learn": 3,
    "agent": 4,
    "evaluate": 5,
    "cli": 6,
}
"""Imports point from higher to lower; equal ranks do not know each other."""

FORBIDDEN = {"learn": {"lnd", "testbed", "twin"}, "testbed": {"market", "agent"}}

GRPC_PLACES = ("lnd", "market.pricer", "agent.control")
STUB_OWNERS = {"lnd", "market", "agent"}
MAX_LINES = 500


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    at_run_time: bool
    """Executed when the module is imported: neither in a function nor for type checkers only."""


def sources() -> list[Path]:
    found = [path for path in PACKAGE.rglob("*.py") if "stubs" not in path.parts]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    """The dotted name below lnagents; empty for lnagents itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    own = ["lnagents", *path.relative_to(PACKAGE).parent.parts]
    yield from _walk(ast.parse(path.read_text()).body, own, at_run_time=True)


def _walk(body: list[ast.stmt], own: list[str], *, at_run_time: bool) -> Iterator[Import]:
    for statement in body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield Import(alias.name, statement.lineno, at_run_time)
        elif isinstance(statement, ast.ImportFrom):
            if statement.level:
                base = own[: len(own) - statement.level + 1]
                module = ".".join([*base, statement.module or ""]).rstrip(".")
            else:
                module = statement.module or ""
            for alias in statement.names:
                yield Import(f"{module}.{alias.name}", statement.lineno, at_run_time)
        else:
            inner_at_run_time = at_run_time and not (
                isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
                or (
                    isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test)
                )
            )
            inner = [node for node in ast.iter_child_nodes(statement) if isinstance(node, ast.stmt)]
            handlers = [
                node
                for node in ast.iter_child_nodes(statement)
                if isinstance(node, ast.ExceptHandler | ast.match_case)
            ]
            inner += [child for handler in handlers for child in handler.body]
            yield from _walk(inner, own, at_run_time=inner_at_run_time)


@pytest.fixture(params=sources(), ids=lambda path: name_of(path) or "lnagents")
def source(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_package_has_a_rank() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(RANKS)


def test_imports_point_down(source: Path) -> None:
    layer = name_of(source).split(".")[0]
    if layer not in RANKS:
        return  # lnagents/__init__.py and __main__.py: see the next test
    for one in imports(source):
        parts = one.module.split(".")
        if parts[0] != "lnagents" or len(parts) < 2 or parts[1] not in RANKS:
            continue
        target = parts[1]
        place = f"{source.relative_to(ROOT)}:{one.line} imports {one.module}"
        assert target == layer or RANKS[target] < RANKS[layer], place
        assert target not in FORBIDDEN.get(layer, set()), place


def test_the_package_itself_imports_nothing_of_ours() -> None:
    assert not [one for one in imports(PACKAGE / "__init__.py") if "lnagents" in one.module]


def test_only_learn_imports_torch_at_module_level(source: Path) -> None:
    layer = name_of(source).split(".")[0]
    for one in imports(source):
        if one.module.split(".")[0] == "torch":
            place = f"{source.relative_to(ROOT)}:{one.line}"
            assert layer == "learn" or not one.at_run_time, place
            assert layer != "twin", place


def test_nothing_loads_learn_just_by_being_imported(source: Path) -> None:
    """torch is an extra: whoever needs `learn` imports it where it is used."""
    if name_of(source).split(".")[0] == "learn":
        return
    for one in imports(source):
        if one.module.startswith("lnagents.learn"):
            assert not one.at_run_time, f"{source.relative_to(ROOT)}:{one.line}"


def test_stubs_stay_in_their_package(source: Path) -> None:
    layer = name_of(source).split(".")[0]
    for one in imports(source):
        parts = one.module.split(".")
        if parts[0] == "lnagents" and "stubs" in parts:
            assert parts[1] == layer, f"{source.relative_to(ROOT)}:{one.line}"
            assert layer in STUB_OWNERS, f"{source.relative_to(ROOT)}:{one.line}"


def test_grpc_only_where_it_belongs(source: Path) -> None:
    name = name_of(source)
    if any(name == place or name.startswith(f"{place}.") for place in GRPC_PLACES):
        return
    for one in imports(source):
        assert one.module.split(".")[0] != "grpc", f"{source.relative_to(ROOT)}:{one.line}"


def test_every_module_is_short_and_says_what_it_is(source: Path) -> None:
    text = source.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{source.relative_to(ROOT)} has no docstring"
    lines = text.count("\n")
    assert lines <= MAX_LINES, f"{source.relative_to(ROOT)} has {lines} lines"


def test_the_table_of_this_test_is_the_one_of_the_architecture_page() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    table = page.split("## Layers", 1)[1].split("```")[1]
    rows = [line.split("  ")[0] for line in table.strip().splitlines()]
    layers = [{name.strip() for name in row.split("·")} for row in rows]
    by_rank: dict[int, set[str]] = {}
    for name, rank in RANKS.items():
        by_rank.setdefault(rank, set()).add(name)
    assert layers == [by_rank[rank] for rank in sorted(by_rank, reverse=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import a.b", [("a.b", True)]),
        ("from a import b, c", [("a.b", True), ("a.c", True)]),
        ("from ..lnd import x", [("lnagents.lnd.x", True)]),
        ("def f():\n    import a", [("a", False)]),
        ("if TYPE_CHECKING:\n    import a", [("a", False)]),
        ("try:\n    import a\nexcept ImportError:\n    import b", [("a", True), ("b", True)]),
        ("class C:\n    import a", [("a", True)]),
    ],
)
def test_the_walk_finds_all_imports(text: str, expected: list[tuple[str, bool]]) -> None:
    found = _walk(ast.parse(text).body, ["lnagents", "agent"], at_run_time=True)
    assert [(one.module, one.at_run_time) for one in found] == expected
