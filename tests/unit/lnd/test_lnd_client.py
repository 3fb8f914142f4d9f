"""The client against a server of our own: credentials, deadlines, retries, endings of streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lnagents.lnd import ChannelOpening, LndClient, LndEndpoint, Role, permissions
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.stubs import router_pb2 as router
from lnagents.lnd.stubs import stateservice_pb2 as state
from lnagents.model.errors import (
    InvalidRequestError,
    NodeTimeoutError,
    NodeUnavailableError,
    NotFoundError,
    PermissionRefusedError,
    WalletLockedError,
)
from lnagents.model.graph import ChannelPolicy
from lnagents.model.payment import PaymentStatus
from tests.unit.lnd.lnd_server import MACAROON, Handler, make_identity, serving

Context = grpc.aio.ServicerContext[Any, Any]

CHANNEL_POINT = "ab" * 32 + ":0"


async def info(request: ln.GetInfoRequest, context: Context) -> ln.GetInfoResponse:
    return ln.GetInfoResponse(
        alias="carol", synced_to_chain=True, chains=[ln.Chain(network="regtest")]
    )


async def active(request: state.GetStateRequest, context: Context) -> state.GetStateResponse:
    return state.GetStateResponse(state=state.SERVER_ACTIVE)


async def test_macaroon_and_deadline_go_with_every_call(tmp_path: Path) -> None:
    seen: list[tuple[dict[str, Any], float]] = []

    async def remember(request: ln.GetInfoRequest, context: Context) -> ln.GetInfoResponse:
        seen.append((dict(context.invocation_metadata() or ()), context.time_remaining()))
        return await info(request, context)

    async with (
        serving(tmp_path, {"GetInfo": remember}) as node,
        LndClient(node.endpoint, timeout=7.0) as client,
    ):
        answer = await client.info()
    assert (answer.alias, answer.network) == ("carol", "regtest")
    metadata, remaining = seen[0]
    assert metadata["macaroon"] == MACAROON.hex()
    assert 0 < remaining <= 7.0


async def test_a_server_with_another_certificate_is_not_talked_to(tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    certificate = make_identity(stranger).certificate
    async with serving(tmp_path, {"GetInfo": info}) as node:
        endpoint = LndEndpoint(node.endpoint.address, certificate, node.endpoint.macaroon)
        async with LndClient(endpoint, timeout=5.0) as client:
            with pytest.raises(NodeUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.info()


async def test_a_missing_macaroon_is_named(tmp_path: Path) -> None:
    certificate = make_identity(tmp_path).certificate
    endpoint = LndEndpoint("127.0.0.1:1", certificate, tmp_path / "no.macaroon")
    async with LndClient(endpoint) as client:
        with pytest.raises(NodeUnavailableError, match=r"no\.macaroon cannot be read"):
            await client.info()


async def test_a_closed_client_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, {"GetInfo": info}) as node, LndClient(node.endpoint) as client:
        await client.info()
    with pytest.raises(NodeUnavailableError, match="closed"):
        await client.info()


async def test_closing_ends_calls_under_way_with_an_error(tmp_path: Path) -> None:
    began = asyncio.Event()

    async def hang(request: ln.GetInfoRequest, context: Context) -> ln.GetInfoResponse:
        began.set()
        await asyncio.sleep(60)
        return ln.GetInfoResponse()

    async with serving(tmp_path, {"GetInfo": hang}) as node:
        client = LndClient(node.endpoint)
        call = asyncio.create_task(client.info())
        await began.wait()
        await client.close()
        with pytest.raises(NodeUnavailableError, match="closed"):
            await call
        assert not call.cancelled()


async def test_cancelling_a_task_cancels_its_call(tmp_path: Path) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def hang(request: ln.GetInfoRequest, context: Context) -> ln.GetInfoResponse:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return ln.GetInfoResponse()

    async with serving(tmp_path, {"GetInfo": hang}) as node, LndClient(node.endpoint) as client:
        call = asyncio.create_task(client.info())
        await began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(10):
            await ended.wait()


async def test_a_call_that_takes_too_long(tmp_path: Path) -> None:
    async def hang(request: ln.GetInfoRequest, context: Context) -> ln.GetInfoResponse:
        await asyncio.sleep(60)
        return ln.GetInfoResponse()

    async with (
        serving(tmp_path, {"GetInfo": hang}) as node,
        LndClient(node.endpoint, timeout=0.2) as client,
    ):
        with pytest.raises(NodeTimeoutError, match="GetInfo at 127"):
            await client.info()


async def test_a_read_is_repeated_and_a_change_is_not(tmp_path: Path) -> None:
    calls = {"GetInfo": 0, "UpdateChannelPolicy": 0}

    async def first_refused(request: ln.GetInfoRequest, context: Context) -> ln.GetInfoResponse:
        calls["GetInfo"] += 1
        if calls["GetInfo"] == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        return await info(request, context)

    async def refuse(request: ln.PolicyUpdateRequest, context: Context) -> ln.PolicyUpdateResponse:
        calls["UpdateChannelPolicy"] += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        return ln.PolicyUpdateResponse()

    async with (
        serving(tmp_path, {"GetInfo": first_refused, "UpdateChannelPolicy": refuse}) as node,
        LndClient(node.endpoint) as client,
    ):
        assert (await client.info()).alias == "carol"
        with pytest.raises(NodeUnavailableError):
            await client.set_policy(CHANNEL_POINT, ChannelPolicy())
    assert calls == {"GetInfo": 2, "UpdateChannelPolicy": 1}


async def test_a_large_graph_fits(tmp_path: Path) -> None:
    async def graph(request: ln.ChannelGraphRequest, context: Context) -> ln.ChannelGraph:
        nodes = [ln.LightningNode(pub_key=f"{n:066x}", alias="x" * 32) for n in range(60_000)]
        return ln.ChannelGraph(nodes=nodes)

    async with (
        serving(tmp_path, {"DescribeGraph": graph}) as node,
        LndClient(node.endpoint) as client,
    ):
        assert len((await client.graph()).aliases) == 60_000


async def test_waiting_for_a_node_that_starts_later(tmp_path: Path) -> None:
    states = [state.WAITING_TO_START, state.LOCKED, state.RPC_ACTIVE]

    async def starting(request: state.GetStateRequest, context: Context) -> state.GetStateResponse:
        return state.GetStateResponse(state=states.pop(0) if states else state.SERVER_ACTIVE)

    handlers: dict[str, Handler] = {"GetState": starting, "GetInfo": info}
    async with serving(tmp_path, handlers) as node, LndClient(node.endpoint) as client:
        await node.stop()
        waiting = asyncio.create_task(client.wait_ready(20.0))
        await asyncio.sleep(0.2)
        await node.start()
        assert (await waiting).alias == "carol"
    assert not states


async def test_waiting_ends_with_what_was_missing(tmp_path: Path) -> None:
    async def locked(request: state.GetStateRequest, context: Context) -> state.GetStateResponse:
        return state.GetStateResponse(state=state.LOCKED)

    async def behind(request: ln.GetInfoRequest, context: Context) -> ln.GetInfoResponse:
        return ln.GetInfoResponse(alias="dave", block_height=7)

    async with (
        serving(tmp_path, {"GetState": locked, "GetInfo": behind}) as node,
        LndClient(node.endpoint) as client,
    ):
        with pytest.raises(WalletLockedError, match="the wallet is locked"):
            await client.wait_ready(0.3)
    async with (
        serving(tmp_path, {"GetState": active, "GetInfo": behind}) as node,
        LndClient(node.endpoint) as client,
    ):
        with pytest.raises(NodeTimeoutError, match="behind, at block 7"):
            await client.wait_ready(0.3)
        assert (await client.wait_ready(5.0, need_synced=False)).alias == "dave"


async def test_waiting_does_not_hide_a_refusal(tmp_path: Path) -> None:
    async def refuse(request: ln.GetInfoRequest, context: Context) -> ln.GetInfoResponse:
        await context.abort(grpc.StatusCode.UNKNOWN, "permission denied")
        return ln.GetInfoResponse()

    async with (
        serving(tmp_path, {"GetState": active, "GetInfo": refuse}) as node,
        LndClient(node.endpoint) as client,
    ):
        with pytest.raises(PermissionRefusedError):
            await client.wait_ready(5.0)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (ln.UPDATE_FAILURE_INVALID_PARAMETER, InvalidRequestError),
        (ln.UPDATE_FAILURE_NOT_FOUND, NotFoundError),
        (ln.UPDATE_FAILURE_PENDING, NodeUnavailableError),
    ],
)
async def test_a_policy_that_was_not_set_is_an_error(
    tmp_path: Path, reason: ln.UpdateFailure.ValueType, kind: type[Exception]
) -> None:
    async def update(request: ln.PolicyUpdateRequest, context: Context) -> ln.PolicyUpdateResponse:
        failed = ln.FailedUpdate(reason=reason, update_error="because")
        return ln.PolicyUpdateResponse(failed_updates=[failed])

    async with (
        serving(tmp_path, {"UpdateChannelPolicy": update}) as node,
        LndClient(node.endpoint) as client,
    ):
        with pytest.raises(kind, match="because"):
            await client.set_policy(CHANNEL_POINT, ChannelPolicy())


async def test_paying_gives_the_final_state(tmp_path: Path) -> None:
    seen: list[router.SendPaymentRequest] = []

    async def send(
        request: router.SendPaymentRequest, context: Context
    ) -> AsyncIterator[ln.Payment]:
        seen.append(request)
        yield ln.Payment(status=ln.Payment.FAILED, failure_reason=ln.FAILURE_REASON_NO_ROUTE)

    async with (
        serving(tmp_path, {"SendPaymentV2": send}) as node,
        LndClient(node.endpoint) as client,
    ):
        payment = await client.pay(
            "lnbcrt1", fee_limit_msat=0, timeout_seconds=3, max_parts=2, outgoing_scids=(2**64 - 1,)
        )
    assert (payment.status, payment.failure_reason) == (PaymentStatus.FAILED, "no_route")
    assert list(seen[0].outgoing_chan_ids) == [2**64 - 1]
    assert (seen[0].timeout_seconds, seen[0].max_parts) == (3, 2)
    assert seen[0].no_inflight_updates


async def test_a_payment_whose_stream_ends_without_a_result_is_not_called_failed(
    tmp_path: Path,
) -> None:
    async def send(
        request: router.SendPaymentRequest, context: Context
    ) -> AsyncIterator[ln.Payment]:
        return
        yield ln.Payment()

    async with (
        serving(tmp_path, {"SendPaymentV2": send}) as node,
        LndClient(node.endpoint) as client,
    ):
        with pytest.raises(NodeUnavailableError, match="without an answer"):
            await client.pay("lnbcrt1", fee_limit_msat=0, timeout_seconds=3)


async def test_an_unknown_payment_is_none(tmp_path: Path) -> None:
    async def track(
        request: router.TrackPaymentRequest, context: Context
    ) -> AsyncIterator[ln.Payment]:
        if request.payment_hash == b"\x01" * 32:
            yield ln.Payment(status=ln.Payment.IN_FLIGHT)
            await asyncio.sleep(60)
        await context.abort(grpc.StatusCode.NOT_FOUND, "payment isn't initiated")

    async with (
        serving(tmp_path, {"TrackPaymentV2": track}) as node,
        LndClient(node.endpoint) as client,
    ):
        assert await client.track_payment("00" * 32) is None
        known = await client.track_payment("01" * 32)
    assert known is not None
    assert known.status is PaymentStatus.IN_FLIGHT


async def test_long_lists_are_read_to_their_end(tmp_path: Path) -> None:
    async def payments(
        request: ln.ListPaymentsRequest, context: Context
    ) -> ln.ListPaymentsResponse:
        first = request.index_offset + 1
        last = min(2_500, request.index_offset + request.max_payments)
        found = [
            ln.Payment(payment_index=index, status=ln.Payment.FAILED)
            for index in range(first, last + 1)
        ]
        return ln.ListPaymentsResponse(payments=found)

    async with (
        serving(tmp_path, {"ListPayments": payments}) as node,
        LndClient(node.endpoint) as client,
    ):
        everything = await client.list_payments()
        rest = await client.list_payments(2_499)
    assert [payment.payment_index for payment in everything] == list(range(1, 2_501))
    assert [payment.payment_index for payment in rest] == [2_500]


async def test_openings_give_channel_points_in_order(tmp_path: Path) -> None:
    async def batch(
        request: ln.BatchOpenChannelRequest, context: Context
    ) -> ln.BatchOpenChannelResponse:
        assert request.spend_unconfirmed
        txid = bytes(range(32))
        return ln.BatchOpenChannelResponse(
            pending_channels=[
                ln.PendingUpdate(txid=txid, output_index=channel.local_funding_amount)
                for channel in request.channels
            ]
        )

    openings = [ChannelOpening("02" * 33, 3), ChannelOpening("03" * 33, 1)]
    async with (
        serving(tmp_path, {"BatchOpenChannel": batch}) as node,
        LndClient(node.endpoint) as client,
    ):
        points = await client.batch_open_channels(openings, min_confirmations=0)
    txid = bytes(range(32))[::-1].hex()
    assert points == (f"{txid}:3", f"{txid}:1")


async def test_baking_asks_for_single_calls_only(tmp_path: Path) -> None:
    asked: list[ln.BakeMacaroonRequest] = []

    async def bake(request: ln.BakeMacaroonRequest, context: Context) -> ln.BakeMacaroonResponse:
        asked.append(request)
        return ln.BakeMacaroonResponse(macaroon="0201")

    async with (
        serving(tmp_path, {"BakeMacaroon": bake}) as node,
        LndClient(node.endpoint) as client,
    ):
        assert await client.bake_macaroon([Role.FEES, Role.ROUTER]) == b"\x02\x01"
    assert {entry.entity for entry in asked[0].permissions} == {"uri"}
    actions = {entry.action for entry in asked[0].permissions}
    assert actions == permissions([Role.FEES, Role.ROUTER])


@pytest.mark.parametrize(
    ("code", "details", "told"),
    [
        (None, "", True),
        (grpc.StatusCode.NOT_FOUND, "htlc unknown", None),
        # What LND says if it was not started with the option.
        (
            grpc.StatusCode.UNAVAILABLE,
            "cannot lookup with flag --store-final-htlc-resolutions=false",
            None,
        ),
    ],
)
async def test_an_end_that_the_node_does_not_know_is_no_error(
    tmp_path: Path, code: grpc.StatusCode | None, details: str, told: bool | None
) -> None:
    async def lookup(
        request: ln.LookupHtlcResolutionRequest, context: Context
    ) -> ln.LookupHtlcResolutionResponse:
        assert (request.chan_id, request.htlc_index) == (5, 3)
        if code is not None:
            await context.abort(code, details)
        return ln.LookupHtlcResolutionResponse(settled=True)

    async with (
        serving(tmp_path, {"LookupHtlcResolution": lookup}) as node,
        LndClient(node.endpoint, timeout=5.0) as client,
    ):
        assert await client.htlc_settled(5, 3) is told


async def test_a_node_that_is_away_does_not_tell_an_end(tmp_path: Path) -> None:
    async with serving(tmp_path, {}) as node:
        endpoint = node.endpoint
    async with LndClient(endpoint, timeout=1.0) as client:
        with pytest.raises(NodeUnavailableError):
            await client.htlc_settled(5, 3)
