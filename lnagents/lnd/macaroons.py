"""Roles: which calls the macaroon of an agent allows, one by one.

LND's own permissions are too coarse (`offchain:write` pays, sets fees and intercepts alike), so
each role is a set of URIs, as `BakeMacaroon` takes them with the entity `uri`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Role(str, Enum):
    """What a macaroon is good for."""

    OBSERVER = "observer"
    """See the own node, its forwards and the network. Sees no payment or invoice."""
    FEES = "fees"
    """Set the policies of the own channels, nothing else."""
    ROUTER = "router"
    """Find routes, pay, and see own payments."""
    FORWARDER = "forwarder"
    """Hold, refuse or settle what the node is asked to forward, and see how it ended."""
    SELLER = "seller"
    """Sign with the node's key, make invoices, and see them."""


_PERMISSIONS: dict[Role, frozenset[str]] = {
    Role.OBSERVER: frozenset(
        {
            "/lnrpc.Lightning/GetInfo",
            "/lnrpc.Lightning/WalletBalance",
            "/lnrpc.Lightning/ChannelBalance",
            "/lnrpc.Lightning/ListPeers",
            "/lnrpc.Lightning/ListChannels",
            "/lnrpc.Lightning/PendingChannels",
            "/lnrpc.Lightning/ClosedChannels",
            "/lnrpc.Lightning/ForwardingHistory",
            "/lnrpc.Lightning/DescribeGraph",
            "/lnrpc.Lightning/GetChanInfo",
            "/lnrpc.Lightning/SubscribeChannelGraph",
            "/lnrpc.Lightning/VerifyMessage",
            "/routerrpc.Router/SubscribeHtlcEvents",
        }
    ),
    Role.FEES: frozenset({"/lnrpc.Lightning/UpdateChannelPolicy"}),
    Role.ROUTER: frozenset(
        {
            "/lnrpc.Lightning/DecodePayReq",
            "/lnrpc.Lightning/ListPayments",
            "/lnrpc.Lightning/QueryRoutes",
            "/routerrpc.Router/BuildRoute",
            "/routerrpc.Router/QueryProbability",
            "/routerrpc.Router/SendPaymentV2",
            "/routerrpc.Router/SendToRouteV2",
            "/routerrpc.Router/TrackPaymentV2",
        }
    ),
    Role.FORWARDER: frozenset(
        {"/lnrpc.Lightning/LookupHtlcResolution", "/routerrpc.Router/HtlcInterceptor"}
    ),
    Role.SELLER: frozenset(
        {
            "/lnrpc.Lightning/AddInvoice",
            "/lnrpc.Lightning/LookupInvoice",
            "/lnrpc.Lightning/ListInvoices",
            "/lnrpc.Lightning/SubscribeInvoices",
            "/lnrpc.Lightning/SignMessage",
        }
    ),
}


def permissions(roles: Iterable[Role]) -> frozenset[str]:
    """The URIs that a macaroon for all of `roles` allows."""
    return frozenset().union(*(_PERMISSIONS[role] for role in roles))
