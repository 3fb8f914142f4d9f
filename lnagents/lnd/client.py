"""The client of one node: all calls together."""

from __future__ import annotations

from types import TracebackType

from lnagents.lnd.channel_calls import ChannelCalls
from lnagents.lnd.connection import Connection
from lnagents.lnd.graph_calls import GraphCalls
from lnagents.lnd.invoice_calls import InvoiceCalls
from lnagents.lnd.node_calls import NodeCalls
from lnagents.lnd.payment_calls import PaymentCalls
from lnagents.lnd.types import LndEndpoint

DEFAULT_TIMEOUT_SECONDS = 30.0


class LndClient(NodeCalls, ChannelCalls, GraphCalls, InvoiceCalls, PaymentCalls):
    """Typed calls to one node, as an async context manager.

    The connection is made at the first call, so a node that is still starting may be given; see
    `wait_ready`. Every call has a deadline of `timeout` seconds unless it says otherwise, and
    raises `lnagents.model.errors.LndError`s.
    """

    def __init__(self, endpoint: LndEndpoint, *, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self._connection = Connection(endpoint, timeout)

    @property
    def endpoint(self) -> LndEndpoint:
        """The node that is called."""
        return self._connection.endpoint

    async def __aenter__(self) -> LndClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way end with an error."""
        await self._connection.close()
