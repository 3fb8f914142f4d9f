from __future__ import annotations

from pathlib import Path

import pytest

from lnagents.model.errors import InputError, TopologyError
from lnagents.model.topology import Profile, dump_topology, parse_topology

REGTEST = Path(__file__).parents[3] / "regtest"

GOOD = """
name: pair
policy: {fee_rate_ppm: 10}
nodes:
  - name: a
  - {name: b, agent: false, lnd: [--alias=b]}
channels:
  - {from: a, to: b, capacity_sat: 1000000, local_fraction: 0.7, policy: {base_fee_msat: 0}}
sellers:
  - node: a
"""


def test_a_small_network() -> None:
    topology = parse_topology(GOOD, "pair.yaml")
    channel = topology.channels[0]
    assert topology.profile is Profile.FAST
    assert [(node.name, node.agent) for node in topology.nodes] == [("a", True), ("b", False)]
    assert channel.capacity_msat == 1_000_000_000
    assert channel.push_sat == 300_000
    own, other = topology.channel_policies(channel)
    assert (own.base_fee_msat, own.fee_rate_ppm) == (0, 1)
    assert other is topology.policy
    policy = own.to_policy(max_htlc_msat=990_000_000)
    assert (policy.max_htlc_msat, policy.time_lock_delta) == (990_000_000, 80)


@pytest.mark.parametrize("path", sorted(REGTEST.glob("topologies/*.yaml")), ids=lambda p: p.stem)
def test_shipped_topologies_are_read_and_written_back(path: Path) -> None:
    topology = parse_topology(path.read_text(), path.name)
    assert topology.channels
    assert parse_topology(dump_topology(topology), "again") == topology


def bad(old: str, new: str) -> str:
    """The good file with one thing wrong."""
    assert old in GOOD
    return GOOD.replace(old, new)


AGAIN = "  - {from: b, to: a, capacity_sat: 500000}\nsellers:"

BAD = {
    "unknown key": (bad("name: pair", "name: pair\nnmae: x"), "nmae: unknown key"),
    "unknown key inside": (
        bad("capacity_sat: 1000000", "capacity_sat: 1000000, color: red"),
        "channels[0].color: unknown key",
    ),
    "missing key": (bad("capacity_sat: 1000000, ", ""), "channels[0].capacity_sat: missing"),
    "wrong type": (
        bad("capacity_sat: 1000000", "capacity_sat: lots"),
        "channels[0].capacity_sat: input should be a valid integer, unable to parse string as an"
        " integer, got 'lots'",
    ),
    "unknown node": (bad("to: b", "to: c"), "channels[0].to: unknown node 'c'"),
    "unknown opener": (bad("from: a", "from: c"), "channels[0].from: unknown node 'c'"),
    "itself": (bad("to: b", "to: a"), "channels[0].to: 'a' cannot be joined to itself"),
    "unknown seller": (bad("- node: a", "- node: z"), "sellers[0].node: unknown node 'z'"),
    "seller twice": (
        bad("- node: a", "- node: a\n  - node: a"),
        "sellers[1].node: 'a' occurs twice",
    ),
    "node twice": (bad("- name: a", "- name: a\n  - name: a"), "nodes[1].name: 'a' occurs twice"),
    "bad node name": (
        bad("- name: a", "- name: A b"),
        "nodes[0].name: 'A b' is not a name ([a-z][a-z0-9-]{0,30})",
    ),
    "bad name": (
        bad("name: pair", "name: Pair!"),
        "name: 'Pair!' is not a name ([a-z][a-z0-9-]{0,30})",
    ),
    "duplicate channel": (
        bad("sellers:", AGAIN),
        "channels[1]: duplicate channel, 'b' and 'a' are joined by channels[0]",
    ),
    "impossible balance": (
        bad("local_fraction: 0.7", "local_fraction: 0.02"),
        "channels[0].local_fraction: impossible balance, the opener must keep 25000 sat of"
        " 1000000 (reserve and commitment fee)",
    ),
    "too much": (
        bad("local_fraction: 0.7", "local_fraction: 1.7"),
        "channels[0].local_fraction: input should be less than or equal to 1, got 1.7",
    ),
    "small channel": (
        bad("capacity_sat: 1000000", "capacity_sat: 19999"),
        "channels[0].capacity_sat: input should be greater than or equal to 20000, got 19999",
    ),
    "large channel": (
        bad("capacity_sat: 1000000", "capacity_sat: 16777216"),
        "channels[0].capacity_sat: input should be less than or equal to 16777215, got 16777216",
    ),
    "surcharge": (
        bad("{base_fee_msat: 0}", "{inbound_fee_rate_ppm: 5}"),
        "channels[0].policy.inbound_fee_rate_ppm: input should be less than or equal to 0, got 5",
    ),
    "unknown profile": (
        bad("name: pair", "name: pair\nprofile: slow"),
        "profile: input should be 'fast' or 'mainnet', got 'slow'",
    ),
    "no nodes": ("name: x\nnodes: []", "nodes: tuple should have at least 1 item after validation"),
    "a list": (
        "- a",
        "the file: input should be a valid dictionary or instance of Topology",
    ),
    "empty": (
        "",
        "the file: input should be a valid dictionary or instance of Topology, got None",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_get_one_sentence_with_file_and_key(kind: str) -> None:
    text, problem = BAD[kind]
    with pytest.raises(TopologyError) as caught:
        parse_topology(text, "net.yaml")
    error = caught.value
    assert isinstance(error, InputError)
    assert error.source == "net.yaml"
    if kind == "no nodes":  # pydantic goes on about what it found
        assert error.problem.startswith(problem)
    else:
        assert str(error) == f"net.yaml: {problem}"
    assert "\n" not in str(error)


def test_broken_yaml_names_the_line() -> None:
    with pytest.raises(TopologyError) as caught:
        parse_topology("name: x\nnodes: [", "net.yaml")
    assert str(caught.value).startswith("net.yaml: line 2: not valid YAML, ")
