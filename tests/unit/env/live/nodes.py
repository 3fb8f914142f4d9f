"""A small network of scripted nodes: what LND would answer, without LND."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from lnagents.env.live.node import LiveNode
from lnagents.lnd import HeldHtlc, HtlcAnswer, PairEstimate, PairHistory
from lnagents.model.errors import NodeUnavailableError, NoRouteError
from lnagents.model.graph import Channel, ChannelPolicy, LocalChannel, NetworkGraph
from lnagents.model.payment import (
    Attempt,
    AttemptFailure,
    AttemptStatus,
    FailureCode,
    Hop,
    Invoice,
    Route,
)

CAPACITY = 1_000_000_000
OWN, LEFT, RIGHT, FAR = ("02" + digit * 64 for digit in "1234")
PREIMAGE = bytes(range(32))
PAYMENT_HASH = hashlib.sha256(PREIMAGE).hexdigest()
HEIGHT = 200


def local(
    scid: int, peer: str, balance: int = CAPACITY // 2, *, active: bool = True, pending: int = 0
) -> LocalChannel:
    reserve = CAPACITY // 100
    return LocalChannel(
        scid, f"{scid}:0", peer, CAPACITY, balance, CAPACITY - balance,
        0, reserve, reserve, 0, 0, False, active, False, pending, 483,
    )  # fmt: skip


def public(scid: int, one: str, other: str) -> Channel:
    policy = ChannelPolicy()
    return Channel(scid, f"{scid}:0", one, other, CAPACITY, policy, policy)


@dataclass
class ScriptedNode:
    """One node: channels, what it finds, and what becomes of what it sends."""

    local: list[LocalChannel]
    graph_channels: dict[int, Channel]
    routes: dict[int, Route] = field(default_factory=dict)
    """What it finds by way of an own channel."""
    arrives: Callable[[Route], bool] = lambda route: True
    sent: list[Route] = field(default_factory=list)
    searches: list[dict[str, Any]] = field(default_factory=list)
    policies: list[tuple[str, ChannelPolicy]] = field(default_factory=list)
    built_fee_msat: int = 0
    """What a route costs that it is asked to build."""
    down: bool = False
    forgot: int = 0

    async def channels(self) -> tuple[LocalChannel, ...]:
        self._answer()
        return tuple(self.local)

    async def graph(self) -> NetworkGraph:
        self._answer()
        return NetworkGraph({}, dict(self.graph_channels))

    async def channel(self, scid: int) -> Channel:
        self._answer()
        return self.graph_channels[scid]

    async def query_routes(self, target: str, amount: int, **options: Any) -> tuple[Route, ...]:
        self._answer()
        self.searches.append({"target": target, "amount": amount, **options})
        allowed = options.get("outgoing_scids") or list(self.routes)
        for scid in allowed:
            route = self.routes.get(scid)
            if route is not None and route.fee_msat <= options["fee_limit_msat"]:
                return (route,)
        raise NoRouteError("unable to find a path to destination")

    async def build_route(self, amount: int, hops: Sequence[str], **options: Any) -> Route:
        self._answer()
        hop = Hop(options["outgoing_scid"], hops[-1], amount, 0, HEIGHT + 80)
        total = amount + self.built_fee_msat
        return Route((hop,), total, HEIGHT + 80, options["payment_addr"], amount)

    async def send_to_route(self, payment_hash: str, route: Route, **options: Any) -> Attempt:
        self._answer()
        self.sent.append(route)
        settled = self.arrives(route)
        status = AttemptStatus.SETTLED if settled else AttemptStatus.FAILED
        failure = None
        if not settled:
            failure = AttemptFailure(FailureCode.TEMPORARY_CHANNEL_FAILURE, 1)
        preimage = PREIMAGE if settled else b""
        return Attempt(1, route, status, 0.0, 1.0, failure, preimage)

    async def set_policy(self, channel_point: str, policy: ChannelPolicy) -> None:
        self._answer()
        self.policies.append((channel_point, policy))

    async def add_invoice(self, amount_msat: int) -> Invoice:
        self._answer()
        return Invoice("lnbc", PAYMENT_HASH, RIGHT, amount_msat, 0.0, 80, bytes(32))

    async def estimate(self, source: str, target: str, amount_msat: int) -> PairEstimate:
        self._answer()
        own = source == OWN
        return PairEstimate(0.95 if own else 0.6, PairHistory(source, target, 0.0, 0, 0.0, 0))

    async def reset_mission_control(self) -> None:
        self._answer()
        self.forgot += 1

    def htlc_interceptor(self) -> Any:
        return None

    def _answer(self) -> None:
        if self.down:
            raise NodeUnavailableError("down")


@dataclass
class ScriptedInterceptor:
    """Takes answers."""

    answers: list[tuple[HeldHtlc, HtlcAnswer]] = field(default_factory=list)

    async def answer(self, htlc: HeldHtlc, answer: HtlcAnswer) -> bool:
        self.answers.append((htlc, answer))
        return True


def live_node(script: ScriptedNode, key: str = OWN, name: str = "own") -> LiveNode:
    return LiveNode(name, key, cast(Any, script))


def route_by(scid: int, peer: str, amount: int, *, fee: int = 0, destination: str = FAR) -> Route:
    """Two hops: to `peer`, which takes `fee`, and on to `destination`."""
    return Route(
        hops=(
            Hop(scid, peer, amount, fee, HEIGHT + 83),
            Hop(10 * scid, destination, amount, 0, HEIGHT + 83),
        ),
        total_amount_msat=amount + fee,
        total_time_lock=HEIGHT + 163,
    )
