"""Calls about the network: what gossip has told, and routes through it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence

from lnagents.lnd import convert, convert_payments
from lnagents.lnd.connection import Connection
from lnagents.lnd.streams import reconnecting
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.stubs import router_pb2 as router
from lnagents.lnd.types import (
    AnnouncedNode,
    GraphUpdate,
    PairEstimate,
    PairHistory,
    StreamRestarted,
)
from lnagents.model.graph import Channel, NetworkGraph
from lnagents.model.payment import Route
from lnagents.model.units import Msat, NodeKey, ShortChannelId

DEFAULT_FINAL_CLTV_DELTA = 80
"""Blocks that LND's invoices ask for (its option `bitcoin.timelockdelta`)."""


class GraphCalls:
    """Gossip, routes, mission control."""

    _connection: Connection

    async def graph(self) -> NetworkGraph:
        """All public channels that the node knows."""
        stubs = await self._connection.stubs()
        return convert.graph(
            await self._connection.ask(stubs.lightning.DescribeGraph, ln.ChannelGraphRequest())
        )

    async def announced_nodes(self, feature_bit: int) -> tuple[AnnouncedNode, ...]:
        """All nodes that the node knows and that announce a feature (BOLT 9)."""
        stubs = await self._connection.stubs()
        answer = await self._connection.ask(stubs.lightning.DescribeGraph, ln.ChannelGraphRequest())
        return convert.announced_nodes(answer, feature_bit)

    async def channel(self, scid: ShortChannelId) -> Channel:
        """One channel with both policies.

        Raises:
            NotFoundError: the node does not know it.
        """
        stubs = await self._connection.stubs()
        request = ln.ChanInfoRequest(chan_id=scid)
        return convert.channel(await self._connection.ask(stubs.lightning.GetChanInfo, request))

    async def graph_updates(self) -> AsyncGenerator[GraphUpdate | StreamRestarted, None]:
        """Everything that gossip changes in the node's graph, as it happens.

        Nothing is told twice: after a `StreamRestarted` read `graph()`.
        """
        updates = reconnecting(
            self._connection,
            lambda stubs: stubs.lightning.SubscribeChannelGraph,
            ln.GraphTopologySubscription,
        )
        async for update in updates:
            if isinstance(update, StreamRestarted):
                yield update
            else:
                for change in convert.graph_updates(update):
                    yield change

    async def query_routes(
        self,
        target: NodeKey,
        amount_msat: Msat,
        *,
        fee_limit_msat: Msat | None = None,
        final_cltv_delta: int = DEFAULT_FINAL_CLTV_DELTA,
        use_mission_control: bool = True,
        outgoing_scids: Sequence[ShortChannelId] = (),
        last_hop: NodeKey | None = None,
        ignored_nodes: Iterable[NodeKey] = (),
        ignored_pairs: Iterable[tuple[NodeKey, NodeKey]] = (),
    ) -> tuple[Route, ...]:
        """The best route by LND's own search (it gives one), without a payment secret.

        Args:
            target: where `amount_msat` shall arrive.
            amount_msat: what arrives, in msat.
            fee_limit_msat: None for no limit.
            final_cltv_delta: blocks that the receiver asks for.
            use_mission_control: weigh hops by what earlier payments taught the node.
            outgoing_scids: own channels to leave by; empty for any.
            last_hop: the node before `target`.
            ignored_nodes: not to be passed.
            ignored_pairs: (from, to) not to be passed in this direction.

        Raises:
            NoRouteError: there is none within the limits.
        """
        stubs = await self._connection.stubs()
        request = ln.QueryRoutesRequest(
            pub_key=target,
            amt_msat=amount_msat,
            final_cltv_delta=final_cltv_delta,
            fee_limit=None if fee_limit_msat is None else ln.FeeLimit(fixed_msat=fee_limit_msat),
            use_mission_control=use_mission_control,
            outgoing_chan_ids=outgoing_scids,
            last_hop_pubkey=bytes.fromhex(last_hop or ""),
            ignored_nodes=[bytes.fromhex(node) for node in ignored_nodes],
            ignored_pairs=[
                ln.NodePair(**{"from": bytes.fromhex(source), "to": bytes.fromhex(end)})
                for source, end in ignored_pairs
            ],
        )
        answer = await self._connection.ask(stubs.lightning.QueryRoutes, request)
        return tuple(convert_payments.route(route) for route in answer.routes)

    async def build_route(
        self,
        amount_msat: Msat,
        hops: Sequence[NodeKey],
        *,
        final_cltv_delta: int = DEFAULT_FINAL_CLTV_DELTA,
        outgoing_scid: ShortChannelId = 0,
        payment_addr: bytes = b"",
    ) -> Route:
        """The route along `hops`, with LND's own amounts, fees and expiries.

        Args:
            amount_msat: what arrives, in msat.
            hops: the nodes to pass after the own one; the last is the receiver.
            final_cltv_delta: blocks that the receiver asks for.
            outgoing_scid: the own channel to leave by, 0 for any.
            payment_addr: the invoice's payment secret.

        Raises:
            LndError: two of the hops have no channel that carries the amount.
        """
        stubs = await self._connection.stubs()
        request = router.BuildRouteRequest(
            amt_msat=amount_msat,
            final_cltv_delta=final_cltv_delta,
            outgoing_chan_id=outgoing_scid,
            hop_pubkeys=[bytes.fromhex(hop) for hop in hops],
            payment_addr=payment_addr,
        )
        answer = await self._connection.ask(stubs.router.BuildRoute, request)
        return convert_payments.route(answer.route)

    async def mission_control(self) -> tuple[PairHistory, ...]:
        """What earlier payments taught the node about pairs of nodes."""
        stubs = await self._connection.stubs()
        request = router.QueryMissionControlRequest()
        answer = await self._connection.ask(stubs.router.QueryMissionControl, request)
        return tuple(convert.pair_history(pair) for pair in answer.pairs)

    async def estimate(self, source: NodeKey, target: NodeKey, amount_msat: Msat) -> PairEstimate:
        """How likely the node thinks it that `amount_msat` passes from `source` to `target`."""
        stubs = await self._connection.stubs()
        request = router.QueryProbabilityRequest(
            from_node=bytes.fromhex(source), to_node=bytes.fromhex(target), amt_msat=amount_msat
        )
        answer = await self._connection.ask(stubs.router.QueryProbability, request)
        return convert.pair_estimate(answer, source, target)

    async def reset_mission_control(self) -> None:
        """Forget all of that."""
        stubs = await self._connection.stubs()
        request = router.ResetMissionControlRequest()
        await self._connection.ask(stubs.router.ResetMissionControl, request)
