from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from lnagents.model.errors import ToolchainError
from lnagents.testbed.data import data_directory
from lnagents.testbed.toolchain import (
    Origin,
    Product,
    ProgressEvent,
    cache,
    debian,
    ensure_toolchain,
    find_or_provide,
    golang,
)
from lnagents.testbed.toolchain.progress import Progress

LND = golang.RECIPES[Product.LND]
APERTURE = golang.RECIPES[Product.APERTURE]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path / "cache" / "lnagents" / "toolchain"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Product]:
    """The builds that were made, each in a moment instead of minutes."""
    made: list[Product] = []

    async def build(recipe: golang.Recipe, progress: Progress) -> cache.Entry:
        made.append(recipe.product)
        staging = await cache.staging(golang.cache_key(recipe))
        (staging / "bin").mkdir()
        for name in recipe.product.program_names:
            (staging / "bin" / name).write_text(f"{name}, build {len(made)}")
        await asyncio.sleep(0.01)
        return await cache.store(
            golang.cache_key(recipe), staging, "0.21.1", has_dev_build=recipe is LND
        )

    async def fetch(progress: Progress) -> cache.Entry:
        made.append(Product.BITCOIN)
        staging = await cache.staging(debian.cache_key())
        (staging / "bin").mkdir()
        (staging / "lib").mkdir()
        for name in ("bin/bitcoind", "bin/bitcoin-cli", "lib/ld-linux-x86-64.so.2"):
            (staging / name).write_text(name)
        return await cache.store(debian.cache_key(), staging, "29.5.0")

    monkeypatch.setattr(golang, "build", build)
    monkeypatch.setattr(debian, "fetch", fetch)
    return made


async def test_all_is_provided_once_and_cached_from_then_on(
    builds: list[Product], root: Path
) -> None:
    first = await ensure_toolchain()
    second = await ensure_toolchain()

    assert sorted(builds) == sorted(Product)
    assert {program.origin for program in first.programs} == {Origin.BUILT}
    assert {program.origin for program in second.programs} == {Origin.CACHE}
    assert [program.command for program in first.programs] == [
        program.command for program in second.programs
    ]
    assert second.lnd.has_dev_build
    assert not second.lncli.has_dev_build
    prefix = root / debian.cache_key()
    assert second.bitcoind.command == (
        str(prefix / "lib" / "ld-linux-x86-64.so.2"),
        "--library-path",
        str(prefix / "lib"),
        str(prefix / "bin" / "bitcoind"),
    )


async def test_set_ups_at_once_build_once(builds: list[Product]) -> None:
    results = await asyncio.gather(*(find_or_provide(Product.LND) for _ in range(4)))

    assert builds == [Product.LND]
    assert sorted(result["lnd"].origin for result in results) == [
        "built",
        "cache",
        "cache",
        "cache",
    ]


async def test_what_is_damaged_is_built_again(builds: list[Product]) -> None:
    programs = await find_or_provide(Product.APERTURE)
    programs["aperture"].path.write_text("not a program")
    events: list[ProgressEvent] = []
    again = await find_or_provide(Product.APERTURE, events.append)

    assert again["aperture"].origin is Origin.BUILT
    assert again["aperture"].path.read_text() == "aperture, build 2"
    assert "bin/aperture is not what was stored there" in str(events[0])


async def test_a_failure_is_raised_as_itself(
    builds: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(progress: Progress) -> cache.Entry:
        raise ToolchainError("no mirror answers")

    monkeypatch.setattr(debian, "fetch", fail)
    with pytest.raises(ToolchainError, match="no mirror answers") as caught:
        await ensure_toolchain()
    assert type(caught.value) is ToolchainError


async def test_a_full_disk_is_reported_with_what_was_being_made(
    builds: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(progress: Progress) -> cache.Entry:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(debian, "fetch", fail)
    with pytest.raises(ToolchainError, match=r"bitcoin cannot be provided: .*No space left"):
        await find_or_provide(Product.BITCOIN)


def test_the_pinned_modules_are_those_that_the_recipes_build() -> None:
    for recipe, version in ((LND, "v0.21.1-beta"), (APERTURE, "v0.5.0")):
        text = (recipe.directory / "go.mod").read_text()
        assert golang.pinned_version(text, recipe.module) == version
        assert golang.needed_go(text) >= (1, 25)
        assert golang.cache_key(recipe).startswith(f"{recipe.product.value}-{version}-")
        for package in recipe.packages:
            assert (
                f"tool {recipe.module}/{package}" in text or f"\t{recipe.module}/{package}" in text
            )


def test_images_are_built_with_the_same_tags() -> None:
    dockerfile = data_directory() / "images" / "lnd" / "Dockerfile"
    assert f"ARG TAGS={','.join(LND.tags)}\n" in dockerfile.read_text()


def test_the_cache_key_depends_on_what_is_built() -> None:
    release = replace(LND, tags=LND.tags[:-1])
    assert golang.cache_key(release) != golang.cache_key(LND)


def test_a_go_mod_without_the_module_or_the_version_is_refused() -> None:
    with pytest.raises(ToolchainError, match="does not pin example"):
        golang.pinned_version("module x\n\ngo 1.26.0\n", "example.org/lnd")
    with pytest.raises(ToolchainError, match="which Go"):
        golang.needed_go("module x\n")
