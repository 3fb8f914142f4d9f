"""HTTP towards a stranger: no answer may be larger or take longer than what a document needs."""

from __future__ import annotations

import asyncio

import httpx

_SHOWN_CHARACTERS = 200


class BoundedTransport(httpx.AsyncBaseTransport):
    """Reads every answer to its end within limits, before anybody sees it.

    Raises, besides what httpx does:
        httpx.ReadTimeout: the whole exchange took longer than `seconds`, however busy it was.
        httpx.DecodingError: the answer is longer than `max_bytes`, or compressed.
    """

    def __init__(
        self, seconds: float, max_bytes: int, inner: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and read its answer."""
        request.headers["accept-encoding"] = "identity"
        try:
            async with asyncio.timeout(self._seconds):
                return await self._exchange(request)
        except TimeoutError as exc:
            message = f"no complete answer within {self._seconds:g} s"
            raise httpx.ReadTimeout(message, request=request) from exc

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                # Its length would say nothing about what it becomes.
                raise httpx.DecodingError("the answer is compressed", request=request)
            content = b""
            if not isinstance(response.stream, httpx.AsyncByteStream):
                raise httpx.DecodingError("the answer cannot be read", request=request)
            async for chunk in response.stream:
                content += chunk
                if len(content) > self._max_bytes:
                    message = f"the answer is longer than {self._max_bytes} bytes"
                    raise httpx.DecodingError(message, request=request)
        finally:
            await response.aclose()
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            content=content,
            extensions=response.extensions,
        )


def refusal_of(response: httpx.Response | None) -> str:
    """An answer, None if there was none, as a short text for people."""
    if response is None:
        return "no answer"
    text = " ".join(response.text[:_SHOWN_CHARACTERS].split())
    return f"HTTP {response.status_code} {text}".rstrip()


def cause_of(exc: Exception) -> str:
    """Why something failed, for people."""
    return str(exc) or type(exc).__name__
