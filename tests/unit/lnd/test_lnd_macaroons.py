"""Roles hold exactly what they need."""

from __future__ import annotations

from itertools import combinations

from lnagents.lnd import Role, permissions
from lnagents.lnd.stubs import lightning_pb2, router_pb2

CALLS = {
    f"/{service.full_name}/{method.name}"
    for module in (lightning_pb2, router_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

CHANGES = {
    "/lnrpc.Lightning/AddInvoice": Role.SELLER,
    "/lnrpc.Lightning/SignMessage": Role.SELLER,
    "/lnrpc.Lightning/UpdateChannelPolicy": Role.FEES,
    "/routerrpc.Router/SendPaymentV2": Role.ROUTER,
    "/routerrpc.Router/SendToRouteV2": Role.ROUTER,
    # Only the owner of the node may do these.
    "/lnrpc.Lightning/BakeMacaroon": None,
    "/lnrpc.Lightning/BatchOpenChannel": None,
    "/lnrpc.Lightning/CloseChannel": None,
    "/lnrpc.Lightning/ConnectPeer": None,
    "/lnrpc.Lightning/DisconnectPeer": None,
    "/lnrpc.Lightning/NewAddress": None,
    "/lnrpc.Lightning/StopDaemon": None,
    "/routerrpc.Router/HtlcInterceptor": Role.FORWARDER,
    "/routerrpc.Router/ResetMissionControl": None,
}


def test_every_permission_is_a_call_that_we_have() -> None:
    assert permissions(Role) <= CALLS


def test_what_changes_something_belongs_to_one_role_or_to_none() -> None:
    assert CHANGES.keys() <= CALLS
    for call, owner in CHANGES.items():
        holders = [role for role in Role if call in permissions([role])]
        assert holders == ([] if owner is None else [owner]), call


def test_roles_share_nothing_and_add_up() -> None:
    for first, second in combinations(Role, 2):
        assert not permissions([first]) & permissions([second])
        assert permissions([first, second]) == permissions([first]) | permissions([second])
    assert permissions([]) == frozenset()
