"""Scripts that were written against `import lndgrpc` work against our nodes.

Its message types clash with ours (both are called `lnrpc`), so it lives in a virtual environment
and a process of its own; `lndgrpc.lock` says exactly what is in there.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from lnagents.testbed import Testbed
from lnagents.testbed.toolchain.processes import run_program

LOCK = Path(__file__).with_name("lndgrpc.lock")

SCRIPT = """
import json
import sys

from lndgrpc import LNDClient

payer, payee = (
    LNDClient(address, macaroon_filepath=macaroon, cert_filepath=certificate)
    for address, macaroon, certificate in json.loads(sys.argv[1])
)
invoice = payee.add_invoice(1_500, "from an older script")
updates = payer.send_payment_v2(
    payment_request=invoice.payment_request, fee_limit_msat=100_000, timeout_seconds=20
)
print(json.dumps({
    "alias": payer.get_info().alias,
    "channels": sorted(channel.chan_id for channel in payer.list_channels().channels),
    "edges": len(payer.describe_graph().edges),
    "local_msat": payer.channel_balance().local_balance.msat,
    "succeeded": updates[-1].status == updates[-1].SUCCEEDED,
    "fee_msat": updates[-1].fee_msat,
    "memo": payee.decode_pay_req(invoice.payment_request).description,
    "payment_hash": invoice.r_hash.hex(),
    "settled": payee.lookup_invoice(invoice.r_hash.hex()).settled,
}))
"""


@pytest.fixture(scope="session")
async def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has `lndgrpc`."""
    environment = tmp_path_factory.mktemp("lndgrpc") / "venv"
    found = environment / "bin" / "python"
    requirements = ("--quiet", "--require-hashes", "-r", str(LOCK))
    uv = shutil.which("uv")
    make: tuple[str, ...]
    install: tuple[str, ...]
    if uv is not None:
        make = (uv, "venv", "--quiet", "--python", sys.executable, str(environment))
        install = (uv, "pip", "install", "--python", str(found), *requirements)
    else:
        make = (sys.executable, "-m", "venv", str(environment))
        install = (str(found), "-m", "pip", "install", *requirements)
    await run_program(*make, timeout=120.0)
    await run_program(*install, timeout=600.0)
    return found


async def test_a_script_for_lndgrpc_works(testbed: Testbed, python: Path) -> None:
    nodes = [testbed.nodes["alice"], testbed.nodes["grace"]]
    places = [
        (node.admin.address, str(node.admin.macaroon), str(node.admin.tls_certificate))
        for node in nodes
    ]
    output = await run_program(str(python), "-c", SCRIPT, json.dumps(places), timeout=120.0)
    said = json.loads(output)

    payer, payee = testbed.client("alice"), testbed.client("grace")
    assert said["alias"] == (await payer.info()).alias
    assert said["succeeded"]
    assert said["settled"]
    assert said["memo"] == "from an older script"
    assert said["channels"] == sorted(channel.scid for channel in await payer.channels())
    assert said["edges"] == len((await payer.graph()).channels)
    assert said["local_msat"] == (await payer.channel_balances()).local_msat
    assert (await payee.lookup_invoice(said["payment_hash"])).paid_msat == 1_500_000
    paid = await payer.track_payment(said["payment_hash"])
    assert paid is not None
    assert paid.fee_msat == said["fee_msat"] > 0
