"""The JSON-RPC client of the chain's bitcoind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from lnagents.model.errors import BackendError, SettleTimeoutError
from lnagents.testbed.backend import BitcoindSite

WALLET = "faucet"
_LOADING = -28
"""RPC_IN_WARMUP: bitcoind answers this while it loads."""
_WALLET_EXISTS = (-4, -35)
"""RPC_WALLET_ERROR and RPC_WALLET_ALREADY_LOADED."""
SATOSHI_PER_BITCOIN = 100_000_000


class BitcoinRpcError(BackendError):
    """bitcoind refused a call."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"bitcoind, {method}: {message} ({code})")
        self.code = code


class BitcoinClient:
    """Calls to one bitcoind; mines, and pays from its wallet `faucet`."""

    def __init__(self, site: BitcoindSite, *, timeout: float = 30.0) -> None:
        self._http = httpx.AsyncClient(
            base_url=site.url,
            auth=(site.user, site.password),
            timeout=timeout,
            # It is on this machine; proxies of the environment are for others.
            trust_env=False,
        )

    async def __aenter__(self) -> BitcoinClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, method: str, *params: Any) -> Any:
        """Call `method` and give its result.

        Raises:
            BitcoinRpcError: bitcoind refused.
            BackendError: it does not answer.
        """
        document = {"jsonrpc": "1.0", "id": 0, "method": method, "params": list(params)}
        try:
            response = await self._http.post("/", json=document)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as exc:
            detail = str(exc) or type(exc).__name__
            raise BackendError(f"bitcoind does not answer {method}: {detail}") from exc
        if answer["error"] is not None:
            error = answer["error"]
            raise BitcoinRpcError(method, error["code"], error["message"])
        return answer["result"]

    async def wait_ready(self, timeout: float) -> None:
        """Wait until bitcoind has loaded and answers.

        Raises:
            SettleTimeoutError: not within `timeout` s.
        """
        cause = ""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        await self.call("getblockcount")
                        return
                    except BackendError as exc:
                        if isinstance(exc, BitcoinRpcError) and exc.code != _LOADING:
                            raise
                        cause = str(exc)
                    await asyncio.sleep(0.01)
        except TimeoutError as exc:
            raise SettleTimeoutError(f"bitcoind is not ready after {timeout:g} s: {cause}") from exc

    async def open_wallet(self) -> None:
        """Make the wallet `faucet`, or load it after a restart."""
        for method in ("createwallet", "loadwallet"):
            try:
                await self.call(method, WALLET)
            except BitcoinRpcError as exc:
                if exc.code not in _WALLET_EXISTS:
                    raise
            else:
                return

    async def height(self) -> int:
        """Blocks after the first one."""
        return int(await self.call("getblockcount"))

    async def tip_time(self) -> int:
        """Unix seconds that the last block carries."""
        tip = await self.call("getbestblockhash")
        return int((await self.call("getblockheader", tip))["time"])

    async def waiting_transactions(self) -> int:
        """How many transactions are in no block yet."""
        return int((await self.call("getmempoolinfo"))["size"])

    async def mine(self, blocks: int) -> None:
        """Mine `blocks` blocks at once, for the faucet."""
        if blocks > 0:
            address = await self.call("getnewaddress")
            await self.call("generatetoaddress", blocks, address)

    async def pay(self, amounts_sat: Mapping[str, int]) -> str:
        """Send from the faucet to many addresses in one transaction; gives its id."""
        amounts = {
            address: f"{sat // SATOSHI_PER_BITCOIN}.{sat % SATOSHI_PER_BITCOIN:08d}"
            for address, sat in amounts_sat.items()
        }
        return str(await self.call("sendmany", "", amounts))

    async def flush(self) -> None:
        """Write the chain to disk; until then a kill loses the last blocks.

        `gettxoutsetinfo` does that first, and nothing else that costs anything on a small chain.
        """
        await self.call("gettxoutsetinfo", "none")
