from __future__ import annotations

import re
from pathlib import PurePosixPath

import yaml

from lnagents.market.paths import PAID_PREFIXES
from lnagents.model.topology import PolicySpec, Topology, parse_topology
from lnagents.testbed import load_topology
from lnagents.testbed.settings import (
    ApertureSettings,
    aperture_configuration,
    aperture_database_option,
    lnd_options,
    usual_policy,
)


def topology(profile: str) -> Topology:
    text = f"""
name: tiny
profile: {profile}
policy: {{fee_rate_ppm: 7}}
nodes: [{{name: alice}}, {{name: bob, lnd: [--trickledelay=1]}}]
channels: [{{from: alice, to: bob, capacity_sat: 1000000, reverse_policy: {{fee_rate_ppm: 9}}}}]
"""
    return parse_topology(text, "tiny.yaml")


def test_only_the_fast_profile_changes_gossip() -> None:
    fast = set(lnd_options(topology("fast"), "alice"))
    mainnet = set(lnd_options(topology("mainnet"), "alice"))
    assert mainnet < fast
    assert "--gossip.sub-batch-delay=5ms" in fast
    assert not any("gossip" in option or "trickle" in option for option in mainnet)


def test_a_nodes_own_options_come_last_and_win() -> None:
    assert lnd_options(topology("fast"), "bob")[-1] == "--trickledelay=1"


def test_a_node_accepts_channels_with_the_policy_that_most_of_them_want() -> None:
    assert usual_policy(topology("fast"), "bob") == PolicySpec(fee_rate_ppm=9)
    assert usual_policy(topology("fast"), "alice") == PolicySpec(fee_rate_ppm=7)
    star = load_topology("star_ring")
    # Each node of this one has the same fees everywhere.
    for channel in star.channels:
        assert usual_policy(star, channel.target) == star.channel_policies(channel)[1]


def test_apertures_ask_money_for_hints_only() -> None:
    text = aperture_configuration(
        ApertureSettings(
            listen="127.0.0.1:1",
            lnd="127.0.0.1:2",
            tls_certificate=PurePosixPath("/d/tls.cert"),
            macaroon_directory=PurePosixPath("/d/macaroons"),
            base_directory=PurePosixPath("/d"),
            service="127.0.0.1:3",
            pricer="127.0.0.1:4",
        )
    )
    document = yaml.safe_load(text)
    assert document["authenticator"]["macdir"] == "/d/macaroons"
    assert document["strictverify"] is True
    paid, free = document["services"]
    assert (paid["name"], paid["auth"]) == ("hints", "on")
    assert all(re.fullmatch(paid["pathregexp"], prefix + "x") for prefix in PAID_PREFIXES)
    assert not re.match(paid["pathregexp"], "/v1/catalogue")
    assert not re.match(paid["pathregexp"], "/v1/quotes/v1/hints/x")
    assert paid["dynamicprice"] == {
        "enabled": True,
        "grpcaddress": "127.0.0.1:4",
        "insecure": True,
    }
    assert free["auth"] == "off"
    assert aperture_database_option(PurePosixPath("/d")) == "--sqlite.dbfile=/d/aperture.db"
