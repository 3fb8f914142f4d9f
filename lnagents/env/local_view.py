"""An own channel as its node sees it: what the node, gossip and the flow account say, together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from lnagents.model.graph import Channel, ChannelPolicy, LocalChannel
from lnagents.model.units import NodeKey, Ppm
from lnagents.model.view import ChannelFlow, ChannelView


def competing_ppm(channels: Iterable[Channel], peer: NodeKey, own: NodeKey) -> Ppm:
    """Median fee rate of what others than `own` announce into `peer`; -1 if nobody does.

    Args:
        channels: all channels of `peer` that gossip shows; disabled edges do not compete.
        peer: where the edges lead.
        own: the node whose competitors are asked for.
    """
    rates = []
    for channel in channels:
        # As `Channel.edge_from`, without an object for each of very many edges.
        into_second = channel.node2 == peer
        source = channel.node1 if into_second else channel.node2
        policy = channel.policy1 if into_second else channel.policy2
        if source != own and policy is not None and not policy.disabled:
            rates.append(policy.fee_rate_ppm)
    return round(statistics.median(rates)) if rates else -1


def own_policy(public: Channel | None, own: NodeKey) -> ChannelPolicy | None:
    """What `own` announces on its channel; None if it has not, or the channel is not public."""
    return None if public is None else public.edge_from(own).policy


def channel_view(
    own: NodeKey,
    channel: LocalChannel,
    public: Channel | None,
    *,
    flow: ChannelFlow,
    competing: Ppm,
    found: ChannelPolicy | None,
) -> ChannelView:
    """Join what is known of one own channel.

    Args:
        own: the node whose channel it is.
        channel: as the node reports it.
        public: the same as gossip shows it; None: not announced.
        flow: what passed it since the view before.
        competing: see `competing_ppm`.
        found: the own policy when the agent took the channel over; None: not on record.
    """
    policy = own_policy(public, own)
    return ChannelView(
        scid=channel.scid,
        peer=channel.peer,
        capacity_msat=channel.capacity_msat,
        local_balance_msat=channel.local_balance_msat,
        remote_balance_msat=channel.remote_balance_msat,
        active=channel.active and policy is not None,
        policy=policy or ChannelPolicy(),
        found_policy=found,
        peer_policy=None if public is None else public.edge_from(channel.peer).policy,
        competing_ppm=competing,
        flow=flow,
    )
