"""`lnagents agent …` as its users type it."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lnagents.agent import load_config
from lnagents.lnd import LndClient, LndEndpoint
from lnagents.model.errors import PermissionRefusedError
from lnagents.testbed import Testbed
from tests.integration.agent.commands import run_command

if TYPE_CHECKING:
    from tests.integration.agent.conftest import MakeAgent


async def test_pay_status_and_control(testbed: Testbed, make_agent: MakeAgent) -> None:
    agent = make_agent("alice")
    where = ("--config", str(agent.config))
    code, _, err = await run_command("agent", "status", *where)
    assert code == 1
    assert "no agent listens" in err
    await agent.start()
    invoice = await testbed.client("frank").add_invoice(2_000_000)
    code, out, _ = await run_command("agent", "pay", invoice.payment_request, *where, "--json")
    paid = json.loads(out)
    assert (code, paid["state"], paid["amount_msat"]) == (0, "settled", 2_000_000)
    code, out, _ = await run_command("agent", "pay", invoice.payment_request, *where)
    assert code == 0
    assert "2,000 sat paid" in out
    code, out, _ = await run_command(
        "agent", "status", "--data-directory", str(agent.directory), "--json"
    )
    status = json.loads(out)
    assert (code, status["payments_settled"], status["name"]) == (0, 1, "alice")
    assert status["channels"][0]["scid"].count("x") == 2
    code, out, _ = await run_command("agent", "status", *where)
    assert code == 0
    assert "1 settled, 0 failed" in out
    for command in ("pause", "resume", "reload", "checkpoint"):
        assert (await run_command("agent", command, *where))[0] == 0
    code, _, err = await run_command("agent", "pay", "lnbcrt1nonsense", *where)
    assert code == 1
    assert err.startswith("Error:")


async def test_bad_input_ends_with_2_and_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("name = 3\n")
    code, out, err = await run_command("agent", "run", "--config", str(config))
    assert (code, out) == (2, "")
    assert f"Error: {config}: name: input should be" in err
    assert "Traceback" not in err
    code, _, err = await run_command("agent", "status")
    assert code == 2
    assert "take one of the two" in err


async def test_init_and_bake_make_what_a_daemon_needs(testbed: Testbed, tmp_path: Path) -> None:
    admin = testbed.nodes["dave"].admin
    macaroon, config = tmp_path / "agent.macaroon", tmp_path / "agent.toml"
    code, out, err = await run_command("agent",
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
    code, _, _ = await run_command("agent", "init", str(config), *options)
    assert code == 0
    assert load_config(config).lnd.macaroon == macaroon
    code, _, err = await run_command("agent", "init", str(config))
    assert code == 2
    assert "exists already" in err
