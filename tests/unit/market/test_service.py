from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
from grpc import aio

from lnagents.lnd import InvoiceState
from lnagents.market.catalogue import parse_catalogue, parse_quote
from lnagents.market.l402 import authorization
from lnagents.market.paths import LiquidityRequest, Product, new_nonce
from lnagents.market.pricer import serve_prices
from lnagents.market.prices import PriceBook
from lnagents.market.seller import DocumentSeller, SellerSettings, standard_issuers
from lnagents.market.service import create_app, running_seller
from lnagents.market.stubs import prices_pb2, prices_pb2_grpc
from lnagents.model.errors import NodeUnavailableError, PortInUseError
from lnagents.model.graph import LocalChannel
from tests.unit.market.market_fakes import (
    SCID,
    SELLER_KEY,
    FakeNode,
    MemorySales,
    local_channel,
    paid_invoice,
)

PREIMAGE = b"p" * 32
PAYMENT_HASH = hashlib.sha256(PREIMAGE).digest()
IDENTIFIER = b"\0\0" + PAYMENT_HASH + b"\7" * 32
MACAROON = base64.b64encode(b"\2\2\x42" + IDENTIFIER + b"\0\0\6\x20" + b"s" * 32).decode()
TOKEN = {"authorization": authorization(MACAROON, PREIMAGE)}


class DeadNode(FakeNode):
    async def channels(self, *, active_only: bool = False) -> tuple[LocalChannel, ...]:
        raise NodeUnavailableError("ListChannels at secret-host:10009: connection refused")

    async def lookup_invoice(self, payment_hash: str) -> InvoiceState:
        raise NodeUnavailableError("LookupInvoice at secret-host:10009: connection refused")


def path_for(amount_msat: int = 1_000) -> str:
    return LiquidityRequest(
        scid=SCID, source=SELLER_KEY, amount_msat=amount_msat, nonce=new_nonce()
    ).path()


def seller_of(node: FakeNode | None = None) -> DocumentSeller:
    payment_hash = PAYMENT_HASH.hex()
    node = node or FakeNode(invoices={payment_hash: paid_invoice(payment_hash)})
    return DocumentSeller(
        node,
        SELLER_KEY,
        MemorySales(),
        PriceBook({Product.LIQUIDITY: 2}),
        standard_issuers(SELLER_KEY, SellerSettings()),
        clock=lambda: 10.0,
    )


def client_of(seller: DocumentSeller) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(seller)), base_url="http://seller"
    )


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(seller_of()) as client:
        yield client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def assert_refused(response: httpx.Response, status: int, error: str) -> None:
    assert response.status_code == status
    body = response.json()
    assert set(body) == {"error", "message"}
    assert body["error"] == error


async def test_the_catalogue_is_free(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/catalogue")
    assert response.status_code == 200
    assert parse_catalogue(response.content).price_msat(Product.LIQUIDITY, SCID) == 2_000


async def test_quotes_are_free(client: httpx.AsyncClient) -> None:
    path = path_for()
    response = await client.get("/v1/quotes" + path)
    assert response.status_code == 200
    quote = parse_quote(response.content)
    assert quote.path.startswith(path + "/2/70/")
    assert (quote.price_sat, quote.expires_at) == (2, 70)
    assert_refused(await client.get("/v1/quotes/v1/hints/x"), 404, "not_for_sale")
    assert_refused(await client.get("/v1/quotes" + quote.path), 404, "not_for_sale")


async def test_a_paid_token_gets_its_document_again_and_again(client: httpx.AsyncClient) -> None:
    path = path_for()
    first, again = [await client.get(path, headers=TOKEN) for _ in range(2)]
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert first.headers["content-type"] == "application/x-protobuf"


async def test_a_query_is_no_other_question(client: httpx.AsyncClient) -> None:
    path = path_for()
    first = await client.get(path, headers=TOKEN)
    assert (await client.get(path + "?amount=1", headers=TOKEN)).content == first.content


async def test_a_token_for_another_path_is_refused(client: httpx.AsyncClient) -> None:
    await client.get(path_for(1_000), headers=TOKEN)
    assert_refused(await client.get(path_for(2_000), headers=TOKEN), 403, "token")


async def test_a_request_past_aperture_is_refused(client: httpx.AsyncClient) -> None:
    assert_refused(await client.get(path_for()), 403, "token")


async def test_refusals_are_json_with_one_error(client: httpx.AsyncClient) -> None:
    not_sold = await client.get("/v1/hints/liquidity/nonsense", headers=TOKEN)
    assert_refused(not_sold, 404, "not_for_sale")
    assert_refused(await client.get("/elsewhere"), 404, "request")
    assert_refused(await client.post("/v1/catalogue"), 405, "request")
    assert_refused(await client.get("/v1/hints/" + "a" * 400, headers=TOKEN), 414, "too_long")
    with_body = await client.request("GET", path_for(), headers=TOKEN, content=b"x" * 100_000)
    assert_refused(with_body, 413, "too_long")


async def test_a_silent_node_is_a_passing_trouble_and_told_without_details() -> None:
    async with client_of(seller_of(DeadNode())) as client:
        for response in (
            await client.get("/v1/catalogue"),
            await client.get(path_for(), headers=TOKEN),
        ):
            assert_refused(response, 503, "unavailable")
            assert "secret-host" not in response.text


async def test_both_servers_run_and_free_their_ports() -> None:
    ports = {"service_port": free_port(), "pricer_port": free_port()}
    hosts = {"service_host": "127.0.0.1", "pricer_host": "127.0.0.1"}
    for _ in range(2):
        async with (
            running_seller(seller_of(), **hosts, **ports),  # type: ignore[arg-type]
            httpx.AsyncClient() as client,
        ):
            url = f"http://127.0.0.1:{ports['service_port']}/v1/catalogue"
            assert (await client.get(url)).status_code == 200


async def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"127.0.0.1:{port}"):
            async with running_seller(
                seller_of(),
                service_host="127.0.0.1",
                service_port=port,
                pricer_host="127.0.0.1",
                pricer_port=free_port(),
            ):
                pass
        with pytest.raises(PortInUseError, match=f"127.0.0.1:{port}"):
            async with serve_prices(seller_of(), "127.0.0.1", port):
                pass


async def test_aperture_is_told_prices_and_refused_nonsense() -> None:
    port = free_port()
    async with (
        serve_prices(seller_of(), "127.0.0.1", port),
        aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        prices = prices_pb2_grpc.PricesStub(channel)
        request = prices_pb2.GetPriceRequest(path=path_for(), http_request_text="GET / HTTP/1.1")
        assert (await prices.GetPrice(request)).price_sats == 2
        for path in ("/v1/hints/liquidity/a:b,c", "/v1/hints/", "", path_for() + "/"):
            with pytest.raises(aio.AioRpcError) as caught:
                await prices.GetPrice(prices_pb2.GetPriceRequest(path=path))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_pricer_without_its_node_names_no_price() -> None:
    port = free_port()
    node = DeadNode(own=(local_channel(),))
    async with (
        serve_prices(seller_of(node), "127.0.0.1", port),
        aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        prices = prices_pb2_grpc.PricesStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await prices.GetPrice(prices_pb2.GetPriceRequest(path=path_for()))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
