"""The settings that bitcoind, LND and Aperture run with, the same on every backend.

A backend adds what differs between them: addresses, ports and folders.
"""

from __future__ import annotations

import json
from typing import Any

from lnagents.model.topology import Profile

BITCOIND_OPTIONS: tuple[str, ...] = (
    "-regtest",
    "-server",
    # Estimates need a history of blocks that a fresh chain does not have.
    "-fallbackfee=0.0001",
    # Twenty nodes that start at once ask more at a time than the default 4 threads and 16 places hold.
    "-rpcthreads=16",
    "-rpcworkqueue=256",
    # Blocks and transactions come from ourselves alone.
    "-listen=0",
    "-dnsseed=0",
    "-printtoconsole",
)
"""bitcoind's own, but for its data folder, its RPC server and its ZMQ publishers."""

_FAST_OPTIONS: dict[str, str] = {
    # Gossip: with LND's defaults a change of fees takes 5 s per hop and up to 90 s to be sent on,
    # and after ten changes a minute a channel's peers ignore the rest.
    "gossip.sub-batch-delay": "5ms",
    "trickledelay": "50",
    "gossip.max-channel-update-burst": "100",
    "gossip.channel-update-interval": "1s",
    # The least that LND takes; 6 by default.
    "gossip.announcement-conf": "3",
    # DescribeGraph would answer up to a minute late.
    "caches.rpc-graph-cache-duration": "100ms",
    "db.batch-commit-interval": "10ms",
    "channel-commit-interval": "5ms",
}


def lnd_options(profile: Profile) -> dict[str, str]:
    """LND's options by name (without dashes), but for addresses, folders and bitcoind's RPC.

    Names and defaults are those of LND's `sample-lnd.conf`. A flag that takes no value is `true`.
    """
    common = {
        "bitcoin.regtest": "true",
        "bitcoin.node": "bitcoind",
        # A wallet at once, without a password that somebody has to type.
        "noseedbackup": "true",
        "nobootstrap": "true",
        "norest": "true",
        "debuglevel": "info",
        # Where payments failed is what agents learn from.
        "keep-failed-payment-attempts": "true",
        # One batch may open channels to many peers, and a peer may receive several.
        "maxpendingchannels": "50",
        # Agents may surcharge incoming payments as well as discount them.
        "accept-positive-inbound-fees": "true",
    }
    return common | (_FAST_OPTIONS if profile is Profile.FAST else {})


HINTS_PATH = r"^/v1/hints/.*$"
"""What Aperture sells; every other path is free."""


def aperture_config(
    *,
    listen: str,
    directory: str,
    lnd: str,
    lnd_certificate: str,
    macaroons: str,
    service: str,
    price: dict[str, Any],
) -> str:
    """Aperture's configuration file for one seller.

    `listen`, `lnd` and `service` are `host:port`; the paths are as Aperture sees them, `macaroons`
    the folder with LND's `invoice.macaroon`. `price` is Aperture's own block for the paid service:
    `static_price(sat)` or `asked_price(pricer)`.
    """
    free = {
        "hostregexp": "^.*$",
        "address": service,
        "protocol": "http",
    }
    document = {
        "listenaddr": listen,
        # Plain HTTP: only this machine reaches it.
        "insecure": True,
        "basedir": directory,
        "debuglevel": "info",
        "dbbackend": "sqlite",
        "authenticator": {
            "network": "regtest",
            "lndhost": lnd,
            "tlspath": lnd_certificate,
            "macdir": macaroons,
        },
        # The first service that matches counts.
        "services": [
            {"name": "hints", "pathregexp": HINTS_PATH, **free, **price},
            {"name": "free", "pathregexp": "^/.*$", **free, "auth": "off"},
        ],
    }
    # JSON is YAML, and needs no care for special characters.
    return json.dumps(document, indent=2) + "\n"


def static_price(sat: int) -> dict[str, Any]:
    """The price block of a service that always costs `sat` satoshis (Aperture makes 0 into 1)."""
    return {"price": sat}


def asked_price(pricer: str) -> dict[str, Any]:
    """The price block of a service whose price is asked of the gRPC server at `pricer`."""
    return {"dynamicprice": {"enabled": True, "grpcaddress": pricer, "insecure": True}}
