"""The network as one node sees it: channels, their directed edges, and what those announce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lnagents.model.units import Msat, NodeKey, Ppm, ShortChannelId

MAX_INBOUND_RATE_PPM: Ppm = 10_000_000
"""LND counts announced inbound rates beyond ten times the amount as this."""


@dataclass(frozen=True, slots=True)
class ChannelPolicy:
    """What one side of a channel announces for payments that it sends out over it (BOLT 7).

    Inbound fees are LND's extension (bLIP-18): charged on payments that come *in* over the
    channel, normally negative, so a discount.
    """

    base_fee_msat: Msat = 1_000
    fee_rate_ppm: Ppm = 1
    inbound_base_fee_msat: Msat = 0
    inbound_fee_rate_ppm: Ppm = 0
    min_htlc_msat: Msat = 1_000
    max_htlc_msat: Msat = 0
    """0: not announced."""
    time_lock_delta: int = 80
    """Blocks between the incoming and the outgoing HTLC's expiry."""
    disabled: bool = False
    last_update: int = 0
    """Unix seconds of the announcement; 1 s is the resolution of gossip."""

    def outbound_fee(self, amount: Msat) -> Msat:
        """Fee in msat to forward `amount` msat out over this edge (BOLT 7)."""
        return self.base_fee_msat + amount * self.fee_rate_ppm // 1_000_000

    def inbound_fee(self, amount: Msat) -> Msat:
        """Fee in msat, usually negative, for `amount` msat that comes in over this channel.

        `amount` is what goes out plus the outbound fee. As LND does (`models.InboundFee.CalcFee`),
        the rate is capped and the division rounds towards zero.
        """
        rate = max(-MAX_INBOUND_RATE_PPM, min(MAX_INBOUND_RATE_PPM, self.inbound_fee_rate_ppm))
        product = amount * rate
        proportional = product // 1_000_000 if product >= 0 else -(-product // 1_000_000)
        return self.inbound_base_fee_msat + proportional


def forwarding_fee(
    amount_out: Msat, outgoing: ChannelPolicy, incoming: ChannelPolicy | None = None
) -> Msat:
    """What a forwarding node charges in msat to send `amount_out` msat on.

    Outbound fee of the edge it leaves by, plus the inbound fee that the *same node* set on the
    channel it came in by, computed on amount + outbound fee, and never below zero in total
    (LND refuses to forward at a loss).
    """
    outbound = outgoing.outbound_fee(amount_out)
    if incoming is None:
        return outbound
    return max(0, outbound + incoming.inbound_fee(amount_out + outbound))


@dataclass(frozen=True, slots=True)
class Edge:
    """One direction of a channel: `source` decides its policy and sends over it to `target`."""

    scid: ShortChannelId
    source: NodeKey
    target: NodeKey
    capacity_msat: Msat
    policy: ChannelPolicy | None
    """None: `source` has not announced one yet."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A public channel; `node1` has the smaller key (BOLT 7)."""

    scid: ShortChannelId
    channel_point: str
    """Funding output, `txid:index`."""
    node1: NodeKey
    node2: NodeKey
    capacity_msat: Msat
    policy1: ChannelPolicy | None
    policy2: ChannelPolicy | None

    def edge_from(self, source: NodeKey) -> Edge:
        """The direction in which `source` sends.

        Raises:
            ValueError: `source` is not an end of this channel.
        """
        if source == self.node1:
            return Edge(self.scid, self.node1, self.node2, self.capacity_msat, self.policy1)
        if source == self.node2:
            return Edge(self.scid, self.node2, self.node1, self.capacity_msat, self.policy2)
        raise ValueError(f"{source} is not an end of channel {self.scid}")

    def edges(self) -> tuple[Edge, Edge]:
        """Both directions."""
        return self.edge_from(self.node1), self.edge_from(self.node2)


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """What gossip has told one node."""

    aliases: Mapping[NodeKey, str] = field(default_factory=dict)
    channels: Mapping[ShortChannelId, Channel] = field(default_factory=dict)

    def edges(self) -> Iterator[Edge]:
        """All directed edges that have a policy."""
        for channel in self.channels.values():
            for edge in channel.edges():
                if edge.policy is not None:
                    yield edge


@dataclass(frozen=True, slots=True)
class LocalChannel:
    """A channel of the own node, with what only its two ends know.

    LND reports these balances in whole satoshi; `ChannelBalances` has the node's exact sums.
    """

    scid: ShortChannelId
    channel_point: str
    peer: NodeKey
    capacity_msat: Msat
    local_balance_msat: Msat
    remote_balance_msat: Msat
    unsettled_msat: Msat
    local_reserve_msat: Msat
    remote_reserve_msat: Msat
    commit_fee_msat: Msat
    """Paid by the opener if the channel closes now; without the anchors."""
    anchors_msat: Msat
    initiator: bool
    active: bool
    private: bool
    pending_htlcs: int
    max_accepted_htlcs: int
    opener_cost_msat: Msat = 0
    """What the opener's balance is short of while no HTLC is pending: the commitment's fee at the
    present rate, and both anchors. `commit_fee_msat` also has what outputs of whole satoshi round
    off, and the outputs that are too small to exist."""
    forwarded: frozenset[tuple[ShortChannelId, int]] = frozenset()
    """Of the pending HTLCs those that leave here and came in elsewhere: the channel that they came
    in by, and their number there."""
    arriving: frozenset[int] = frozenset()
    """Numbers of the pending HTLCs that came in here."""

    @property
    def spendable_msat(self) -> Msat:
        """What could leave over this channel now, before commitment fee changes."""
        return max(0, self.local_balance_msat - self.local_reserve_msat)

    @property
    def receivable_msat(self) -> Msat:
        """What could come in over this channel now."""
        return max(0, self.remote_balance_msat - self.remote_reserve_msat)


@dataclass(frozen=True, slots=True)
class ChannelBalances:
    """Sums over all open channels of one node, exact to the millisatoshi."""

    local_msat: Msat
    remote_msat: Msat
    unsettled_local_msat: Msat
    unsettled_remote_msat: Msat
    pending_open_local_msat: Msat
    pending_open_remote_msat: Msat


@dataclass(frozen=True, slots=True)
class WalletBalance:
    """The on-chain wallet of one node, in msat."""

    confirmed_msat: Msat
    unconfirmed_msat: Msat
    reserved_anchor_msat: Msat


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Identity and state of one node."""

    key: NodeKey
    alias: str
    version: str
    network: str
    """`regtest`, `signet`, `testnet`, `testnet4`, `simnet` or `mainnet`."""
    block_height: int
    synced_to_chain: bool
    synced_to_graph: bool
    uris: tuple[str, ...] = ()
    requires_interceptor: bool = False
    """It forwards nothing, and gives nothing back, while no interceptor is connected (LND's
    `requireinterceptor`)."""
    keeps_resolutions: bool = False
    """It writes down how each HTLC that came in ended (LND's `store-final-htlc-resolutions`)."""
