"""The seller's HTTP service, the upstream of its Aperture, and the running of both its servers.

Aperture forwards what costs money (`PAID_PREFIXES`) only with a token that it has checked, and
everything else as it comes. Nobody else is meant to reach this service: it listens where it is
told, which should be the loopback device or a network that only Aperture is on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lnagents.market.forwarding import FORWARD_QUOTES_PREFIX
from lnagents.market.l402 import parse_authorization
from lnagents.market.paths import (
    CATALOGUE_PATH,
    MAX_PATH_LENGTH,
    PAID_PREFIXES,
    QUOTES_PREFIX,
)
from lnagents.market.pricer import serve_prices
from lnagents.market.seller import DocumentSeller
from lnagents.model.errors import (
    LndError,
    MarketError,
    NotForSaleError,
    PortInUseError,
    SellerBusyError,
    StoreError,
    TokenError,
)

DOCUMENT_TYPE = "application/x-protobuf"
ANSWER_SECONDS = 15.0
"""After which a request is given up; Aperture gives up writing after 30 s (`writetimeout`)."""
STOP_SECONDS = 5
"""Which open requests get to end, when the service stops."""

_log = structlog.get_logger()

_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (NotForSaleError, 404, "not_for_sale"),
    (TokenError, 403, "token"),
    (SellerBusyError, 503, "unavailable"),
    (LndError, 503, "unavailable"),
    (StoreError, 503, "unavailable"),
    (TimeoutError, 503, "unavailable"),
)
"""What each failure becomes; a buyer who has paid asks again only after 503."""


def create_app(seller: DocumentSeller) -> Starlette:
    """The ASGI application: catalogue and quotes for free, and the documents behind Aperture."""

    async def catalogue(request: Request) -> Response:
        async with asyncio.timeout(ANSWER_SECONDS):
            offers = await seller.catalogue()
        return Response(offers.model_dump_json(), media_type="application/json")

    async def quote(request: Request) -> Response:
        async with asyncio.timeout(ANSWER_SECONDS):
            made = await seller.quote(request.url.path.removeprefix(QUOTES_PREFIX))
        return Response(
            made.model_dump_json(),
            media_type="application/json",
            headers={"cache-control": "private, no-store"},
        )

    async def forward_quote(request: Request) -> Response:
        async with asyncio.timeout(ANSWER_SECONDS):
            signed = await seller.forward_quote(request.url.path)
        return Response(
            signed, media_type=DOCUMENT_TYPE, headers={"cache-control": "private, no-store"}
        )

    async def document(request: Request) -> Response:
        async with asyncio.timeout(ANSWER_SECONDS):
            token = parse_authorization(request.headers.getlist("authorization"))
            signed = await seller.answer(request.url.path, token)
        return Response(
            signed, media_type=DOCUMENT_TYPE, headers={"cache-control": "private, no-store"}
        )

    return Starlette(
        routes=[
            Route(CATALOGUE_PATH, catalogue, methods=["GET"]),
            Route(FORWARD_QUOTES_PREFIX + "{scope:path}", forward_quote, methods=["GET"]),
            Route(QUOTES_PREFIX + "{scope:path}", quote, methods=["GET"]),
            *(
                Route(prefix + "{scope:path}", document, methods=["GET"])
                for prefix in PAID_PREFIXES
            ),
        ],
        middleware=[Middleware(_Limits)],
        exception_handlers={
            HTTPException: _http_error,
            **{kind: _error(status, name) for kind, status, name in _STATUS},
        },
    )


@contextlib.asynccontextmanager
async def running_seller(
    seller: DocumentSeller,
    *,
    service_host: str,
    service_port: int,
    pricer_host: str,
    pricer_port: int,
) -> AsyncIterator[None]:
    """Serve documents and prices until the block ends.

    Raises:
        PortInUseError: another program listens there.
    """
    listener = _listen(service_host, service_port)
    config = uvicorn.Config(
        create_app(seller),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = _Server(config)
    async with serve_prices(seller, pricer_host, pricer_port):
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="document service")
        try:
            yield
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """Leaves the signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    # Bound here, as uvicorn ends the whole program when it cannot.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; else each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise PortInUseError(f"the document service cannot listen on {host}:{port}: {exc}") from exc
    return listener


class _Limits:
    """Refuses what no question needs, before anything reads it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := _excess(scope)):
            await problem(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _excess(scope: Scope) -> Response | None:
    if len(scope["path"]) > len(QUOTES_PREFIX) + MAX_PATH_LENGTH:
        return _json(414, "too_long", f"the path has more than {MAX_PATH_LENGTH} characters")
    headers = dict(scope["headers"])
    if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
        return _json(413, "too_long", "no request here has a body")
    return None


def _json(status: int, error: str, message: str) -> JSONResponse:
    return JSONResponse({"error": error, "message": message}, status)


async def _http_error(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    detail = exc.detail if isinstance(exc, HTTPException) else "internal error"
    return _json(status, "request", detail)


def _error(status: int, name: str) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    async def handle(request: Request, exc: Exception) -> Response:
        if isinstance(exc, MarketError):
            return _json(status, name, str(exc))
        # Why the own node or store failed is no buyer's business.
        _log.warning("request_not_answered", path=request.url.path, cause=repr(exc))
        return _json(status, name, "not available now, ask again")

    return handle
