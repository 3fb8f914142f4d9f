"""Between LND's messages and our types: nodes, channels, the network. All pure."""

from __future__ import annotations

from collections.abc import Iterator

from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.lnd.stubs import router_pb2 as router
from lnagents.lnd.types import (
    AnnouncedNode,
    ChannelClosed,
    ChannelOpening,
    ClosedChannel,
    GraphUpdate,
    NodeAnnounced,
    PairEstimate,
    PairHistory,
    PolicyAnnounced,
)
from lnagents.model.errors import InvalidRequestError
from lnagents.model.graph import (
    Channel,
    ChannelBalances,
    ChannelPolicy,
    Edge,
    LocalChannel,
    NetworkGraph,
    NodeInfo,
    WalletBalance,
)
from lnagents.model.payment import Forward
from lnagents.model.units import MSAT_PER_SAT, NodeKey

ANCHORS_MSAT = 2 * 330 * MSAT_PER_SAT
"""Two anchor outputs of 330 sat each, paid by the opener (BOLT 3)."""

_TAPROOT = frozenset(
    {
        ln.CommitmentType.SIMPLE_TAPROOT,
        ln.CommitmentType.SIMPLE_TAPROOT_OVERLAY,
        ln.CommitmentType.SIMPLE_TAPROOT_FINAL,
    }
)
_WITH_ANCHORS = _TAPROOT | {
    ln.CommitmentType.ANCHORS,
    ln.CommitmentType.SCRIPT_ENFORCED_LEASE,
}


# ---- The node and its channels


def node_info(message: ln.GetInfoResponse) -> NodeInfo:
    """From GetInfo."""
    return NodeInfo(
        key=message.identity_pubkey,
        alias=message.alias,
        version=message.version,
        network=message.chains[0].network if message.chains else "",
        block_height=message.block_height,
        synced_to_chain=message.synced_to_chain,
        synced_to_graph=message.synced_to_graph,
        uris=tuple(message.uris),
        requires_interceptor=message.require_htlc_interceptor,
        keeps_resolutions=message.store_final_htlc_resolutions,
    )


def wallet_balance(message: ln.WalletBalanceResponse) -> WalletBalance:
    """From WalletBalance."""
    return WalletBalance(
        confirmed_msat=message.confirmed_balance * MSAT_PER_SAT,
        unconfirmed_msat=message.unconfirmed_balance * MSAT_PER_SAT,
        reserved_anchor_msat=message.reserved_balance_anchor_chan * MSAT_PER_SAT,
    )


def channel_balances(message: ln.ChannelBalanceResponse) -> ChannelBalances:
    """From ChannelBalance."""
    return ChannelBalances(
        local_msat=message.local_balance.msat,
        remote_msat=message.remote_balance.msat,
        unsettled_local_msat=message.unsettled_local_balance.msat,
        unsettled_remote_msat=message.unsettled_remote_balance.msat,
        pending_open_local_msat=message.pending_open_local_balance.msat,
        pending_open_remote_msat=message.pending_open_remote_balance.msat,
    )


def local_channel(message: ln.Channel) -> LocalChannel:
    """From ListChannels.

    `local_constraints` are what the own side must keep to; its reserve is what the own side keeps.
    """
    anchors = ANCHORS_MSAT if message.commitment_type in _WITH_ANCHORS else 0
    return LocalChannel(
        scid=message.chan_id,
        channel_point=message.channel_point,
        peer=message.remote_pubkey,
        capacity_msat=message.capacity * MSAT_PER_SAT,
        local_balance_msat=message.local_balance * MSAT_PER_SAT,
        remote_balance_msat=message.remote_balance * MSAT_PER_SAT,
        unsettled_msat=message.unsettled_balance * MSAT_PER_SAT,
        local_reserve_msat=message.local_constraints.chan_reserve_sat * MSAT_PER_SAT,
        remote_reserve_msat=message.remote_constraints.chan_reserve_sat * MSAT_PER_SAT,
        commit_fee_msat=message.commit_fee * MSAT_PER_SAT,
        anchors_msat=anchors,
        initiator=message.initiator,
        active=message.active,
        private=message.private,
        pending_htlcs=len(message.pending_htlcs),
        forwarded=frozenset(
            (htlc.forwarding_channel, htlc.forwarding_htlc_index)
            for htlc in message.pending_htlcs
            if htlc.forwarding_channel and not htlc.incoming
        ),
        arriving=frozenset(htlc.htlc_index for htlc in message.pending_htlcs if htlc.incoming),
        max_accepted_htlcs=message.local_constraints.max_accepted_htlcs,
        opener_cost_msat=_commitment_fee_sat(message) * MSAT_PER_SAT + anchors,
    )


def _commitment_fee_sat(message: ln.Channel) -> int:
    """The fee of a commitment transaction without HTLCs (LND: `lnwallet.CommitWeight`)."""
    if message.commitment_type in _TAPROOT:
        weight = 968
    elif message.commitment_type in _WITH_ANCHORS:
        weight = 1_124
    else:
        weight = 724
    return message.fee_per_kw * weight // 1_000


def closed_channel(message: ln.ChannelCloseSummary) -> ClosedChannel:
    """From ClosedChannels."""
    return ClosedChannel(
        scid=message.chan_id,
        channel_point=message.channel_point,
        peer=message.remote_pubkey,
        capacity_msat=message.capacity * MSAT_PER_SAT,
        settled_balance_msat=message.settled_balance * MSAT_PER_SAT,
        kind=ln.ChannelCloseSummary.ClosureType.Name(message.close_type).lower(),
        closing_txid=message.closing_tx_hash,
    )


def forward(message: ln.ForwardingEvent) -> Forward:
    """From ForwardingHistory."""
    return Forward(
        timestamp_ns=message.timestamp_ns,
        incoming_scid=message.chan_id_in,
        outgoing_scid=message.chan_id_out,
        incoming_amount_msat=message.amt_in_msat,
        outgoing_amount_msat=message.amt_out_msat,
        fee_msat=message.fee_msat,
    )


def to_opening(opening: ChannelOpening) -> ln.BatchOpenChannel:
    """For BatchOpenChannel."""
    message = ln.BatchOpenChannel(
        node_pubkey=bytes.fromhex(opening.peer),
        local_funding_amount=opening.capacity_sat,
        push_sat=opening.push_sat,
        private=opening.private,
        min_htlc_msat=opening.min_htlc_msat or 0,
    )
    if opening.base_fee_msat is not None:
        message.base_fee = opening.base_fee_msat
        message.use_base_fee = True
    if opening.fee_rate_ppm is not None:
        message.fee_rate = opening.fee_rate_ppm
        message.use_fee_rate = True
    return message


def funding_outpoint(txid: bytes, index: int) -> str:
    """`txid:index`, from the byte order of the wire."""
    return f"{txid[::-1].hex()}:{index}"


def to_channel_point(channel_point: str) -> ln.ChannelPoint:
    """From `txid:index`.

    Raises:
        InvalidRequestError: it has another form.
    """
    txid, _, index = channel_point.partition(":")
    if len(txid) != 64 or not index.isdecimal():
        raise InvalidRequestError(f"{channel_point!r} is not a channel point, txid:index")
    return ln.ChannelPoint(funding_txid_str=txid, output_index=int(index))


# ---- The network


def policy(message: ln.RoutingPolicy) -> ChannelPolicy:
    """From any message that carries what an edge announces."""
    return ChannelPolicy(
        base_fee_msat=message.fee_base_msat,
        fee_rate_ppm=message.fee_rate_milli_msat,
        inbound_base_fee_msat=message.inbound_fee_base_msat,
        inbound_fee_rate_ppm=message.inbound_fee_rate_milli_msat,
        min_htlc_msat=message.min_htlc,
        max_htlc_msat=message.max_htlc_msat,
        time_lock_delta=message.time_lock_delta,
        disabled=message.disabled,
        last_update=message.last_update,
    )


def to_policy_update(channel_point: str, new: ChannelPolicy) -> ln.PolicyUpdateRequest:
    """For UpdateChannelPolicy.

    `disabled` and `last_update` are not the node's to set there. The inbound fee is always sent:
    left out, the old one would stay.
    """
    return ln.PolicyUpdateRequest(
        chan_point=to_channel_point(channel_point),
        base_fee_msat=new.base_fee_msat,
        fee_rate_ppm=new.fee_rate_ppm,
        time_lock_delta=new.time_lock_delta,
        max_htlc_msat=new.max_htlc_msat,
        min_htlc_msat=new.min_htlc_msat,
        min_htlc_msat_specified=True,
        inbound_fee=ln.InboundFee(
            base_fee_msat=new.inbound_base_fee_msat, fee_rate_ppm=new.inbound_fee_rate_ppm
        ),
    )


def channel(message: ln.ChannelEdge) -> Channel:
    """From DescribeGraph and GetChanInfo."""
    has1, has2 = message.HasField("node1_policy"), message.HasField("node2_policy")
    return Channel(
        scid=message.channel_id,
        channel_point=message.chan_point,
        node1=message.node1_pub,
        node2=message.node2_pub,
        capacity_msat=message.capacity * MSAT_PER_SAT,
        policy1=policy(message.node1_policy) if has1 else None,
        policy2=policy(message.node2_policy) if has2 else None,
    )


def graph(message: ln.ChannelGraph) -> NetworkGraph:
    """From DescribeGraph."""
    return NetworkGraph(
        aliases={node.pub_key: node.alias for node in message.nodes},
        channels={edge.channel_id: channel(edge) for edge in message.edges},
    )


def announced_nodes(message: ln.ChannelGraph, feature_bit: int) -> tuple[AnnouncedNode, ...]:
    """From DescribeGraph, those with a feature."""
    return tuple(
        AnnouncedNode(
            key=node.pub_key,
            addresses=tuple(one.addr for one in node.addresses if ".onion" not in one.addr),
        )
        for node in message.nodes
        if feature_bit in node.features
    )


def graph_updates(message: ln.GraphTopologyUpdate) -> Iterator[GraphUpdate]:
    """From SubscribeChannelGraph, one by one."""
    for node in message.node_updates:
        yield NodeAnnounced(node.identity_key, node.alias)
    for update in message.channel_updates:
        yield PolicyAnnounced(
            Edge(
                scid=update.chan_id,
                source=update.advertising_node,
                target=update.connecting_node,
                capacity_msat=update.capacity * MSAT_PER_SAT,
                policy=policy(update.routing_policy),
            )
        )
    for closed in message.closed_chans:
        yield ChannelClosed(closed.chan_id, closed.closed_height)


def pair_history(message: router.PairHistory) -> PairHistory:
    """From QueryMissionControl."""
    return PairHistory(
        source=message.node_from.hex(),
        target=message.node_to.hex(),
        failed_at=float(message.history.fail_time),
        failed_msat=message.history.fail_amt_msat,
        succeeded_at=float(message.history.success_time),
        succeeded_msat=message.history.success_amt_msat,
    )


def pair_estimate(
    message: router.QueryProbabilityResponse, source: NodeKey, target: NodeKey
) -> PairEstimate:
    """From QueryProbability, which was asked about `source` and `target`."""
    pair = router.PairHistory(
        node_from=bytes.fromhex(source), node_to=bytes.fromhex(target), history=message.history
    )
    return PairEstimate(message.probability, pair_history(pair))
