"""Tells Aperture what a path costs, before it makes an invoice.

Where this service answers with an error, Aperture answers its client with 500 and makes no invoice:
what is not for sale cannot be paid for.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import grpc
import structlog
from grpc import aio

from lnagents.market.seller import DocumentSeller
from lnagents.market.stubs import prices_pb2, prices_pb2_grpc
from lnagents.model.errors import LndError, NotForSaleError, PortInUseError, SellerBusyError

MAX_REQUEST_BYTES = 65_536
"""Aperture sends its client's whole request along; nothing of it but the path is read."""
STOP_SECONDS = 2.0

_log = structlog.get_logger()


class Pricer(prices_pb2_grpc.PricesServicer):
    """Aperture's `pricesrpc.Prices`, answered by a seller."""

    def __init__(self, seller: DocumentSeller) -> None:
        self._seller = seller

    async def GetPrice(  # noqa: N802  (the name of the rpc)
        self,
        request: prices_pb2.GetPriceRequest,
        context: aio.ServicerContext[prices_pb2.GetPriceRequest, prices_pb2.GetPriceResponse],
    ) -> prices_pb2.GetPriceResponse:
        """The price of `request.path` in satoshi."""
        try:
            price = await self._seller.price_sat(request.path)
        except NotForSaleError as exc:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(exc))
        except SellerBusyError as exc:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(exc))
        except LndError as exc:
            _log.warning("price_not_told", cause=repr(exc))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the node does not answer")
        return prices_pb2.GetPriceResponse(price_sats=price)


@contextlib.asynccontextmanager
async def serve_prices(seller: DocumentSeller, host: str, port: int) -> AsyncIterator[None]:
    """Answer Aperture on `host:port` until the block ends.

    Raises:
        PortInUseError: another program listens there.
    """
    server = aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            # Otherwise two servers may share a port, and each get some of the requests.
            ("grpc.so_reuseport", 0),
        ]
    )
    prices_pb2_grpc.add_PricesServicer_to_server(Pricer(seller), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError as exc:
        raise PortInUseError(f"the pricer cannot listen on {address}") from exc
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_SECONDS)
