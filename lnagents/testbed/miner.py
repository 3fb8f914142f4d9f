"""Mines blocks: at once when transactions wait, and at least once per block interval.

`python -m lnagents.testbed.miner` is the native backend's service `miner`; its environment says
where bitcoind is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping

from lnagents.model.errors import BackendError
from lnagents.testbed.backend import BitcoindSite
from lnagents.testbed.bitcoin import BitcoinClient

LOOK_SECONDS = 0.25
"""How often it looks for waiting transactions."""


async def mine_waiting(bitcoin: BitcoinClient, block_interval_seconds: float) -> None:
    """Mine until cancelled; a bitcoind that does not answer for a while is waited for."""
    last = time.monotonic()
    while True:
        try:
            due = time.monotonic() - last >= block_interval_seconds
            if due or await bitcoin.waiting_transactions():
                await bitcoin.mine(1)
                last = time.monotonic()
        except BackendError:
            # Restarting, or being put back to an earlier state; its wallet may have to be loaded.
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)


def environment(site: BitcoindSite, block_interval_seconds: float) -> dict[str, str]:
    """What `main` reads; a command line would show the password to every user."""
    return {
        "LNAGENTS_MINER_URL": site.url,
        "LNAGENTS_MINER_USER": site.user,
        "LNAGENTS_MINER_PASSWORD": site.password,
        "LNAGENTS_MINER_INTERVAL": repr(block_interval_seconds),
    }


async def _serve(variables: Mapping[str, str]) -> None:
    site = BitcoindSite(
        variables["LNAGENTS_MINER_URL"],
        variables["LNAGENTS_MINER_USER"],
        variables["LNAGENTS_MINER_PASSWORD"],
    )
    async with BitcoinClient(site) as bitcoin:
        work = asyncio.ensure_future(
            mine_waiting(bitcoin, float(variables["LNAGENTS_MINER_INTERVAL"]))
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        await asyncio.wait([work])


if __name__ == "__main__":
    asyncio.run(_serve(os.environ))
