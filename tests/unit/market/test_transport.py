from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from lnagents.market.transport import BoundedTransport


class Trickle(httpx.AsyncByteStream):
    """Sends a byte now and then, for ever."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.001)

    async def aclose(self) -> None:
        self.closed = True


async def exchange(response: httpx.Response, seconds: float = 30.0) -> httpx.Response:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        return response

    transport = BoundedTransport(seconds, 1_000, httpx.MockTransport(handle))
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.get("http://seller/")


async def test_an_answer_within_limits_comes_through_unchanged() -> None:
    headers = [("www-authenticate", "A"), ("www-authenticate", "B"), ("x", "y")]
    answer = await exchange(httpx.Response(402, headers=headers, content=b"x" * 1_000))
    assert answer.status_code == 402
    assert answer.content == b"x" * 1_000
    assert answer.headers.get_list("www-authenticate") == ["A", "B"]


async def test_a_long_answer_is_cut_off() -> None:
    with pytest.raises(httpx.DecodingError, match="longer than 1000"):
        await exchange(httpx.Response(200, content=b"x" * 1_001))


async def test_a_compressed_answer_is_refused_unopened() -> None:
    bomb = gzip.compress(b"\0" * 1_000_000)
    with pytest.raises(httpx.DecodingError, match="compressed"):
        await exchange(
            httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Fixed(bomb))
        )


async def test_an_answer_that_never_ends_is_given_up() -> None:
    stream = Trickle()
    with pytest.raises(httpx.ReadTimeout, match="no complete answer"):
        await exchange(httpx.Response(200, stream=stream), seconds=0.05)
    assert stream.closed


class Fixed(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content
