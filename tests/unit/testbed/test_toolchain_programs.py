from __future__ import annotations

from pathlib import Path

import pytest

from lnagents.model.errors import ToolchainError
from lnagents.testbed.toolchain import Origin, Product
from lnagents.testbed.toolchain.buildinfo import read_build_info
from lnagents.testbed.toolchain.programs import Version, parse_version
from lnagents.testbed.toolchain.search import find_on_path


def write_program(folder: Path, name: str, version_line: str, usage: str = "") -> None:
    path = folder / name
    path.write_text(
        f"#!/bin/sh\ncase $1 in --version) echo '{version_line}' ;; *) echo '{usage}' ;; esac\n"
    )
    path.chmod(0o755)


def write_go_program(path: Path, main_version: str) -> None:
    modules = f"path\texample.org/x\nmod\texample.org/x\t{main_version}\th1:abc=\ndep\ta\tv1.0.0\n"
    marked = b"\x00" * 16 + modules.encode() + b"\x01" * 16

    def string(data: bytes) -> bytes:
        length = len(data)
        varint = bytearray()
        while length >= 0x80:
            varint.append(length & 0x7F | 0x80)
            length >>= 7
        return bytes([*varint, length]) + data

    header = (b"\xff Go buildinf:" + bytes([8, 2])).ljust(32, b"\0")
    # The magic string among constants, at an odd place, must not be taken for the header.
    constants = b"ELF..\xff Go buildinf:".ljust(48, b"\0")
    path.write_bytes(constants + header + string(b"go1.26.1") + string(marked))
    path.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Bitcoin Knots daemon version v29.5.0.knots20260508", (29, 5, 0)),
        ("Bitcoin Core version v28.1.0", (28, 1, 0)),
        ("Bitcoin Core RPC client version v29.0", (29, 0)),
        ("lnd version 0.21.1-beta commit=v0.21.1-beta", (0, 21, 1)),
        ("lncli version 0.20.0-beta.rc2 commit=", (0, 20, 0)),
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("v0.5.1-0.20260102030405-abcdef012345", (0, 5, 1)),
        ("(devel)", None),
        ("", None),
    ],
)
def test_versions_are_read_from_what_programs_print(text: str, version: Version | None) -> None:
    assert parse_version(text) == version


async def test_an_lnd_with_dev_options_is_told_from_a_stock_one(folder: Path) -> None:
    write_program(folder, "lncli", "lncli version 0.21.1-beta commit=")
    write_program(folder, "lnd", "lnd version 0.21.1-beta commit=", "--dev.unsafeconnect")
    built = await find_on_path(Product.LND)
    write_program(folder, "lnd", "lnd version 0.22.0-beta commit=", "--alias=")
    stock = await find_on_path(Product.LND)

    assert built["lnd"].has_dev_build
    assert not stock["lnd"].has_dev_build
    assert stock["lnd"].version == "0.22.0"
    assert stock["lnd"].command == (str(folder / "lnd"),)
    assert stock["lnd"].origin is Origin.PATH


async def test_what_is_too_old_is_named_with_both_versions(folder: Path) -> None:
    write_program(folder, "lnd", "lnd version 0.20.1-beta commit=")
    write_program(folder, "lncli", "lncli version 0.20.1-beta commit=")
    with pytest.raises(ToolchainError, match=r"lnd is version 0\.20\.1, 0\.21 or newer is needed"):
        await find_on_path(Product.LND)


async def test_a_product_is_taken_whole_or_not_at_all(folder: Path) -> None:
    write_program(folder, "bitcoind", "Bitcoin Core daemon version v29.0.0")
    with pytest.raises(ToolchainError, match="bitcoin-cli is not on PATH"):
        await find_on_path(Product.BITCOIN)


async def test_a_program_that_fails_is_reported_with_its_last_words(folder: Path) -> None:
    for name in Product.BITCOIN.program_names:
        path = folder / name
        path.write_text("#!/bin/sh\necho 'libevent.so: no such file' >&2\nexit 127\n")
        path.chmod(0o755)
    with pytest.raises(ToolchainError, match=r"exit 127.*\nlibevent\.so: no such file"):
        await find_on_path(Product.BITCOIN)


@pytest.mark.parametrize(("tag", "version"), [("v0.5.0", "0.5.0"), ("v0.6.1-beta", "0.6.1")])
async def test_aperture_is_known_by_its_build_information(
    folder: Path, tag: str, version: str
) -> None:
    write_go_program(folder / "aperture", tag)
    programs = await find_on_path(Product.APERTURE)
    assert programs["aperture"].version == version


@pytest.mark.parametrize(
    ("version", "problem"),
    [("v0.4.1-beta", "0.5 or newer is needed"), ("(devel)", "does not tell its version")],
)
async def test_an_aperture_of_old_or_unknown_version_is_not_used(
    folder: Path, version: str, problem: str
) -> None:
    write_go_program(folder / "aperture", version)
    with pytest.raises(ToolchainError, match=problem):
        await find_on_path(Product.APERTURE)


def test_build_information_is_none_for_other_files(tmp_path: Path) -> None:
    script, empty = tmp_path / "script", tmp_path / "empty"
    script.write_text("#!/bin/sh\n")
    empty.touch()
    cut = tmp_path / "cut"
    cut.write_bytes((b"\xff Go buildinf:" + bytes([8, 2])).ljust(32, b"\0") + b"\x90")

    assert [read_build_info(path) for path in (script, empty, cut, tmp_path / "none")] == [None] * 4
