from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lnagents.model.errors import ToolchainError
from lnagents.testbed.toolchain import cache

KEY = "lnd-v1-abc"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "lnagents" / "toolchain"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def fill() -> cache.Entry:
    prepared = await cache.staging(KEY)
    (prepared / "bin").mkdir()
    (prepared / "bin" / "lnd").write_text("a program")
    (prepared / "bin" / "lncli").write_text("another")
    (prepared / "bin" / "link").symlink_to("lnd")
    return await cache.store(KEY, prepared, "0.21.1", has_dev_build=True)


async def test_what_was_stored_is_found_again(root: Path) -> None:
    assert await cache.load(KEY) is None
    stored = await fill()

    assert await cache.load(KEY) == stored
    assert stored.directory == root / KEY
    assert stored.manifest.version == "0.21.1"
    assert stored.manifest.has_dev_build
    assert names(root) == {KEY}


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "relinked"])
async def test_damage_is_noticed_and_the_file_named(root: Path, damage: str) -> None:
    binaries = (await fill()).directory / "bin"
    if damage == "changed":
        (binaries / "lnd").write_text("A program")
    elif damage == "missing":
        (binaries / "lncli").unlink()
    elif damage == "added":
        (binaries / "lnd.so").write_text("")
    else:
        (binaries / "link").unlink()
        (binaries / "link").symlink_to("lncli")
    name = {"changed": "lnd", "missing": "lncli", "added": "lnd.so", "relinked": "link"}[damage]

    with pytest.raises(ToolchainError, match=f"bin/{name} is not what was stored there"):
        await cache.load(KEY)


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1}'])
async def test_a_manifest_that_cannot_be_read_is_damage(root: Path, text: str) -> None:
    entry = await fill()
    (entry.directory / cache.MANIFEST).write_text(text)
    with pytest.raises(ToolchainError, match="cannot be read"):
        await cache.load(KEY)


async def test_what_an_interruption_leaves_is_no_entry_and_is_removed(root: Path) -> None:
    leftover = await cache.staging(KEY) / "half"
    leftover.write_text("")

    assert await cache.load(KEY) is None
    assert (await cache.staging(KEY, resume=True) / "half").exists()
    assert list((await cache.staging(KEY)).iterdir()) == []


async def test_a_lock_is_held_by_one_at_a_time(root: Path) -> None:
    inside, most, turns = 0, 0, 0
    waited: list[bool] = []

    async def work(name: str) -> None:
        nonlocal inside, most, turns
        async with cache.locked(name, lambda: waited.append(True)):
            inside += 1
            most, turns = max(most, inside), turns + 1
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(work("go") for _ in range(3)))
    assert (most, turns) == (1, 3)
    assert waited == [True, True]


async def test_different_locks_do_not_wait_for_each_other(root: Path) -> None:
    waited: list[str] = []
    async with (
        cache.locked("go", lambda: waited.append("go")),
        cache.locked("bitcoin", lambda: waited.append("bitcoin")),
    ):
        assert names(root) == {"go.lock", "bitcoin.lock"}
    assert waited == []
