"""`lnagents agent …` as its users type it."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lnagents.agent import load_config
from lnagents.lnd import LndClient, LndEndpoint
from lnagents.model.errors import PermissionRefusedError
from lnagents.testbed import Testbed

if TYPE_CHECKING:
    from tests.integration.agent.conftest import MakeAgent


async def _command(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lnagents", "agent", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(120.0):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_pay_status_and_control(testbed: Testbed, make_agent: MakeAgent) -> None:
    agent = make_agent("alice")
    where = ("--config", str(agent.config))
    code, _, err = await _command("status", *where)
    assert code == 1
    assert "no agent listens" in err
    await agent.start()
    invoice = await testbed.client("frank").add_invoice(2_000_000)
    code, out, _ = await _command("pay", invoice.payment_request, *where, "--json")
    paid = json.loads(out)
    assert (code, paid["state"], paid["amount_msat"]) == (0, "settled", 2_000_000)
    code, out, _ = await _command("pay", invoice.payment_request, *where)
    assert code == 0
    assert "2,000 sat paid" in out
    code, out, _ = await _command("status", "--data-directory", str(agent.directory), "--json")
    status = json.loads(out)
    assert (code, status["payments_settled"], status["name"]) == (0, 1, "alice")
    assert status["channels"][0]["scid"].count("x") == 2
    code, out, _ = await _command("status", *where)
    assert code == 0
    assert "1 settled, 0 failed" in out
    for command in ("pause", "resume", "reload", "checkpoint"):
        assert (await _command(command, *where))[0] == 0
    code, _, err = await _command("pay", "lnbcrt1nonsense", *where)
    assert code == 1
    assert err.startswith("Error:")


async def test_bad_input_ends_with_2_and_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("name = 3\n")
    code, out, err = await _command("run", "--config", str(config))
    assert (code, out) == (2, "")
    assert f"Error: {config}: name: input should be" in err
    assert "Traceback" not in err
    code, _, err = await _command("status")
    assert code == 2
    assert "take one of the two" in err


async def test_init_and_bake_make_what_a_daemon_needs(testbed: Testbed, tmp_path: Path) -> None:
    admin = testbed.nodes["dave"].admin
    macaroon, config = tmp_path / "agent.macaroon", tmp_path / "agent.toml"
    code, out, err = await _command(
        "bake", "--address", admin.address, "--tls-certificate", str(admin.tls_certificate),
        "--admin-macaroon", str(admin.macaroon), "--out", str(macaroon),
        "--role", "observer", "--role", "fees",
    )  # fmt: skip
    assert code == 0, err
    assert "observer, fees" in out
    assert stat.S_IMODE(macaroon.stat().st_mode) == 0o600
    endpoint = LndEndpoint(admin.address, admin.tls_certificate, macaroon)
    async with LndClient(endpoint) as client:
        assert (await client.info()).key == testbed.nodes["dave"].key
        with pytest.raises(PermissionRefusedError):
            await client.add_invoice(1_000)
    options = ("--name", "dave", "--address", admin.address, "--network", "regtest")
    code, _, _ = await _command("init", str(config), *options)
    assert code == 0
    assert load_config(config).lnd.macaroon == macaroon
    code, _, err = await _command("init", str(config))
    assert code == 2
    assert "exists already" in err
