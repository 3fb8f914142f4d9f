"""Calls about the node itself, its wallet and its peers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from lnagents.lnd import convert
from lnagents.lnd.connection import Connection
from lnagents.lnd.macaroons import Role, permissions
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.stubs import stateservice_pb2 as state
from lnagents.model.errors import (
    AlreadyExistsError,
    LndError,
    NodeTimeoutError,
    NodeUnavailableError,
    NotFoundError,
    WalletLockedError,
)
from lnagents.model.graph import NodeInfo, WalletBalance
from lnagents.model.units import MSAT_PER_SAT, Msat, NodeKey

POLL_SECONDS = 0.05


class NodeCalls:
    """Identity, readiness, macaroons, signatures, wallet, peers."""

    _connection: Connection

    async def info(self) -> NodeInfo:
        """Identity and state of the node."""
        stubs = await self._connection.stubs()
        return convert.node_info(
            await self._connection.ask(stubs.lightning.GetInfo, ln.GetInfoRequest())
        )

    async def wait_ready(self, timeout: float, *, need_synced: bool = True) -> NodeInfo:
        """Wait up to `timeout` seconds until every call works; a node that starts is waited for.

        With `need_synced` also until it has seen all blocks that its backend has.

        Raises:
            WalletLockedError: nobody unlocked (or made) the wallet in time.
            NodeTimeoutError: not ready in time; says what was missing.
            PermissionRefusedError: the macaroon does not allow GetInfo.
        """
        missing: LndError = NodeUnavailableError("not asked yet")
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        info = await self._ready()
                        if info.synced_to_chain or not need_synced:
                            return info
                        missing = NodeUnavailableError(f"behind, at block {info.block_height}")
                    except (NodeUnavailableError, NodeTimeoutError, WalletLockedError) as exc:
                        missing = exc
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as exc:
            message = f"{self._connection.endpoint.address}: not ready in {timeout:g} s: {missing}"
            kind = WalletLockedError if isinstance(missing, WalletLockedError) else NodeTimeoutError
            raise kind(message) from exc

    async def _ready(self) -> NodeInfo:
        stubs = await self._connection.stubs()
        answer = await self._connection.ask(stubs.state.GetState, state.GetStateRequest())
        if answer.state in (state.WalletState.LOCKED, state.WalletState.NON_EXISTING):
            name = state.WalletState.Name(answer.state).lower()
            raise WalletLockedError(f"the wallet is {name.replace('_', ' ')}")
        if answer.state != state.WalletState.SERVER_ACTIVE:
            raise NodeUnavailableError("starting")
        return await self.info()

    async def stop(self) -> None:
        """Ask the node to shut down; returns before it has."""
        stubs = await self._connection.stubs()
        await self._connection.ask(stubs.lightning.StopDaemon, ln.StopRequest())

    async def bake_macaroon(self, roles: Iterable[Role]) -> bytes:
        """A new binary macaroon that allows what `roles` need, and nothing else."""
        stubs = await self._connection.stubs()
        request = ln.BakeMacaroonRequest(
            permissions=[
                ln.MacaroonPermission(entity="uri", action=uri)
                for uri in sorted(permissions(roles))
            ]
        )
        answer = await self._connection.ask(stubs.lightning.BakeMacaroon, request)
        return bytes.fromhex(answer.macaroon)

    async def sign_message(self, message: bytes) -> str:
        """A signature (zbase32) of the node's key over `message` with LND's own prefix."""
        stubs = await self._connection.stubs()
        request = ln.SignMessageRequest(msg=message)
        return (await self._connection.ask(stubs.lightning.SignMessage, request)).signature

    async def verify_message(self, message: bytes, signature: str) -> tuple[bool, NodeKey]:
        """Whether a node that is in the graph made `signature`, and the key that made it.

        The key is told for unknown nodes, too, and is empty if the signature is malformed.
        """
        stubs = await self._connection.stubs()
        request = ln.VerifyMessageRequest(msg=message, signature=signature)
        answer = await self._connection.ask(stubs.lightning.VerifyMessage, request)
        return answer.valid, answer.pubkey

    async def wallet_balance(self) -> WalletBalance:
        """What the node owns on chain."""
        stubs = await self._connection.stubs()
        return convert.wallet_balance(
            await self._connection.ask(stubs.lightning.WalletBalance, ln.WalletBalanceRequest())
        )

    async def new_address(self) -> str:
        """A fresh taproot address of the wallet."""
        stubs = await self._connection.stubs()
        request = ln.NewAddressRequest(type=ln.AddressType.TAPROOT_PUBKEY)
        return (await self._connection.ask(stubs.lightning.NewAddress, request)).address

    async def on_chain_fees(self) -> Msat:
        """What the wallet paid to miners so far: fees of the transactions that it funded, in msat.

        Fees of commitment transactions are not in it, they come out of the channels.
        """
        stubs = await self._connection.stubs()
        request = ln.GetTransactionsRequest(end_height=-1)
        answer = await self._connection.ask(stubs.lightning.GetTransactions, request)
        return sum(entry.total_fees for entry in answer.transactions) * MSAT_PER_SAT

    async def knows_transaction(self, txid: str) -> bool:
        """Whether the wallet has seen this transaction of its own, in a block or not.

        Cheaper than `wallet_balance`, whose first call takes LND a second of computing.
        """
        stubs = await self._connection.stubs()
        request = ln.GetTransactionsRequest(end_height=-1)
        answer = await self._connection.ask(stubs.lightning.GetTransactions, request)
        return any(entry.tx_hash == txid for entry in answer.transactions)

    async def connect_peer(self, key: NodeKey, host: str) -> None:
        """Connect to `key` at `host` ("host:port"); fine if it is connected already.

        Raises:
            LndError: the peer could not be reached.
        """
        stubs = await self._connection.stubs()
        address = ln.LightningAddress(pubkey=key, host=host)
        seconds = max(1, int(self._connection.timeout) - 1)
        request = ln.ConnectPeerRequest(addr=address, perm=False, timeout=seconds)
        try:
            await self._connection.ask(stubs.lightning.ConnectPeer, request)
        except AlreadyExistsError:
            return

    async def disconnect_peer(self, key: NodeKey) -> None:
        """Drop the connection to `key`; fine if there is none.

        Raises:
            LndError: LND keeps peers with open channels.
        """
        stubs = await self._connection.stubs()
        request = ln.DisconnectPeerRequest(pub_key=key)
        try:
            await self._connection.ask(stubs.lightning.DisconnectPeer, request)
        except NotFoundError:
            return

    async def list_peers(self) -> tuple[NodeKey, ...]:
        """The peers that are connected now."""
        stubs = await self._connection.stubs()
        answer = await self._connection.ask(stubs.lightning.ListPeers, ln.ListPeersRequest())
        return tuple(peer.pub_key for peer in answer.peers)
