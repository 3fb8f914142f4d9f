from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnagents.model.errors import TopologyError
from lnagents.model.generate import Shape, Split, generate_topology
from lnagents.model.topology import dump_topology, parse_topology
from lnagents.twin.announced import Selection
from lnagents.twin.balances import BalanceSettings
from lnagents.twin.loaders import (
    from_topology,
    load_describegraph,
    load_network,
    load_snapshot,
)
from lnagents.twin.network import DISABLED, Network

# A square with a diagonal that one side disabled, and two nodes apart from it. Nodes 12 and 40 have
# two channels between them; channels and nodes are in no order.
SNAPSHOT = """\
chan,node1,node2,capacity_sat,dir,disabled,htlc_min_msat,htlc_max_msat,base_msat,ppm,cltv
7,3,12,500000,0,0,1,495000000,0,10,34
7,3,12,500000,1,0,1000,495000000,1000,1,80
2,12,40,2000000,1,0,1,1980000000,5,20,40
2,12,40,2000000,0,0,1,1980000000,6,30,40

3,12,40,90000,0,0,1,89000000,0,0,144
3,12,40,90000,1,0,1,89000000,0,1,144
4,40,5,30000,0,0,1,29000000,7,70,18
4,40,5,30000,1,0,1,29000000,8,80,18
9,5,3,1000000,0,0,1,990000000,0,100,40
9,5,3,1000000,1,0,1,990000000,0,200,40
5,3,40,800000,0,1,1,792000000,0,300,40
5,3,40,800000,1,0,1,792000000,0,400,40
8,100,200,700000,0,0,1,693000000,0,500,40
8,100,200,700000,1,0,1,693000000,0,600,40
1,100,3,700000,1,0,1,693000000,0,700,40
"""


def policy(**changes: Any) -> dict[str, Any]:
    """One side of an edge, as lncli prints it."""
    return {
        "time_lock_delta": 80,
        "min_htlc": "1000",
        "fee_base_msat": "1000",
        "fee_rate_milli_msat": "1",
        "disabled": False,
        "max_htlc_msat": "990000000",
        "last_update": 1760000000,
        "custom_records": {},
        "inbound_fee_base_msat": 0,
        "inbound_fee_rate_milli_msat": 0,
        **changes,
    }


def edge(scid: int, one: str, other: str, **changes: Any) -> dict[str, Any]:
    return {
        "channel_id": str(scid),
        "chan_point": f"{'ab' * 32}:0",
        "last_update": 1760000000,
        "node1_pub": one,
        "node2_pub": other,
        "capacity": "1000000",
        "node1_policy": policy(),
        "node2_policy": policy(),
        "custom_records": {},
        **changes,
    }


def graph(*edges: dict[str, Any]) -> str:
    nodes = [
        {"last_update": 1, "pub_key": "02aa", "alias": 'a "quoted" ] name', "addresses": []},
        {"last_update": 1, "pub_key": "02dd", "alias": "nobody's friend", "features": {"9": {}}},
    ]
    return json.dumps({"nodes": nodes, "edges": list(edges)}, indent=4)


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(text: str | bytes, name: str = "network") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


EVERYTHING = Selection(both_ways=False, largest_component=False)


def by_pair(network: Network) -> dict[tuple[int, str, str], list[int]]:
    """Policies by channel, source and target."""
    source, target = network.edge_source(), network.edge_target()
    return {
        (int(network.scids[edge >> 1]), network.names[source[edge]], network.names[target[edge]]): (
            network.policy[edge].tolist()
        )
        for edge in range(2 * network.channels)
    }


def test_a_topology_keeps_its_order_and_its_money() -> None:
    text = """
    name: pair
    policy: {base_fee_msat: 3, fee_rate_ppm: 4, time_lock_delta: 30}
    nodes: [{name: a}, {name: b}, {name: c}]
    channels:
      - {from: c, to: a, capacity_sat: 100001, local_fraction: 0.75,
         policy: {inbound_base_fee_msat: -2, inbound_fee_rate_ppm: -1, max_htlc_msat: 70000}}
      - {from: a, to: b, capacity_sat: 1000000}
    """
    network = from_topology(parse_topology(text, "pair.yaml"))
    assert network.names == ("a", "b", "c")
    assert network.channel_nodes.tolist() == [[2, 0], [0, 1]]
    assert network.opener.tolist() == [0, 0]
    assert network.capacity.tolist() == [100_001_000, 1_000_000_000]
    # 25000.25 sat are pushed, rounded.
    assert network.balance.tolist() == [[75_001_000, 25_000_000], [500_000_000, 500_000_000]]
    assert network.policy.tolist() == [
        [1_000, 1, -2, -1, 1_000, 70_000, 80, 0],
        [3, 4, 0, 0, 1_000, 99_001_000, 30, 0],
        [3, 4, 0, 0, 1_000, 990_000_000, 30, 0],
        [3, 4, 0, 0, 1_000, 990_000_000, 30, 0],
    ]
    assert (np.diff(network.scids) > 0).all()


def test_a_topology_without_channels() -> None:
    network = from_topology(parse_topology("name: lonely\nnodes: [{name: a}]", "t"))
    assert (network.nodes, network.channels) == (1, 0)


def test_the_whole_of_a_snapshot(written: Any) -> None:
    network = load_snapshot(written(SNAPSHOT), EVERYTHING)
    assert network.names == ("3", "5", "12", "40", "100", "200")
    assert network.scids.tolist() == [1, 2, 3, 4, 5, 7, 8, 9]
    assert network.capacity[0] == 700_000_000
    policies = by_pair(network)
    assert policies[7, "3", "12"] == [0, 10, 0, 0, 1, 495_000_000, 34, 0]
    assert policies[7, "12", "3"] == [1_000, 1, 0, 0, 1_000, 495_000_000, 80, 0]
    assert policies[2, "40", "12"] == [5, 20, 0, 0, 1, 1_980_000_000, 40, 0]
    assert policies[5, "3", "40"][DISABLED] == 1
    assert policies[1, "3", "100"][1] == 700
    # Nobody has announced this one.
    assert policies[1, "100", "3"] == [0, 0, 0, 0, 0, 0, 0, 1]


def test_what_is_left_out_of_a_snapshot(written: Any) -> None:
    path = written(SNAPSHOT)
    usual = load_snapshot(path)
    assert usual.names == ("3", "5", "12", "40")
    assert usual.scids.tolist() == [2, 3, 4, 7, 9]
    largest = load_snapshot(path, Selection(both_ways=False))
    assert largest.scids.tolist() == [1, 2, 3, 4, 5, 7, 8, 9]
    usable = load_snapshot(path, Selection(largest_component=False))
    assert usable.scids.tolist() == [2, 3, 4, 7, 8, 9]
    assert usable.names == ("3", "5", "12", "40", "100", "200")
    # What is drawn for a channel does not depend on what else is kept.
    kept = np.isin(largest.scids, usual.scids)
    assert (largest.balance[kept] == usual.balance).all()
    assert (largest.opener[kept] == usual.opener).all()


def test_balances_are_drawn_from_the_seed(written: Any) -> None:
    path = written(SNAPSHOT)
    one, again, other = (load_snapshot(path, Selection(seed=seed)) for seed in (1, 1, 2))
    assert (one.balance == again.balance).all()
    assert (one.balance != other.balance).any()
    even = load_snapshot(path, Selection(balances=BalanceSettings(Split.EVEN)))
    assert even.balance[-1].tolist() == [500_000_000, 500_000_000]


def test_describegraph(written: Any) -> None:
    discount = policy(inbound_fee_base_msat=-7, inbound_fee_rate_milli_msat="-20")
    text = graph(
        edge(30, "02bb", "02cc", node1_policy=discount, node2_policy=policy(disabled=True)),
        edge(20, "02aa", "02bb", node2_policy=policy(max_htlc_msat="0", fee_base_msat=12)),
        edge(10, "02aa", "02cc", node1_policy=None),
    )
    network = load_describegraph(written(text), EVERYTHING)
    assert set(network.names) == {"02aa", "02bb", "02cc"}
    assert network.scids.tolist() == [10, 20, 30]
    policies = by_pair(network)
    assert policies[30, "02bb", "02cc"] == [1_000, 1, -7, -20, 1_000, 990_000_000, 80, 0]
    assert policies[30, "02cc", "02bb"][DISABLED] == 1
    assert policies[20, "02bb", "02aa"] == [12, 1, 0, 0, 1_000, 1_000_000_000, 80, 0]
    assert policies[10, "02aa", "02cc"] == [0, 0, 0, 0, 0, 0, 0, 1]
    assert load_describegraph(written(text)).scids.tolist() == [20]


def test_old_lncli_knows_no_inbound_fees(written: Any) -> None:
    old = policy()
    for key in ("inbound_fee_base_msat", "inbound_fee_rate_milli_msat", "max_htlc_msat"):
        del old[key]
    network = load_describegraph(written(graph(edge(1, "02aa", "02bb", node1_policy=old))))
    assert network.policy[0].tolist() == [1_000, 1, 0, 0, 1_000, 1_000_000_000, 80, 0]


@pytest.mark.parametrize("compressed", [False, True])
def test_the_content_tells_the_format(written: Any, compressed: bool) -> None:
    topology = generate_topology(Shape.RING, 4, 0)
    for text, nodes in (
        (SNAPSHOT, 4),
        (graph(edge(1, "02aa", "02bb")), 2),
        (dump_topology(topology), 4),
        (json.dumps(topology.model_dump(mode="json", by_alias=True)), 4),
    ):
        data = gzip.compress(text.encode()) if compressed else text.encode()
        assert load_network(written(data)).nodes == nodes


def snapshot(old: str, new: str) -> str:
    assert SNAPSHOT.count(old) == 1
    return SNAPSHOT.replace(old, new)


HEADER = SNAPSHOT.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (snapshot("chan,node1", "chan,node"), f"line 1: the header is not '{HEADER}'"),
        (HEADER, "no channel is in it"),
        (
            snapshot("89000000,0,0,144", "89000000,0,0.5,144"),
            "line 7: ppm is not a whole number, got '0.5'",
        ),
        (
            snapshot("89000000,0,0,144", "89000000,0,,144"),
            "line 7: ppm is not a whole number, got ''",
        ),
        (snapshot("89000000,0,0,144", "89000000,0,0"), "line 7: 10 columns, not 11"),
        (
            snapshot("89000000,0,0,144", f"89000000,0,{2**63},144"),
            f"line 7: ppm is not a whole number, got '{2**63}'",
        ),
        (snapshot("89000000,0,0,144", "89000000,0,-1,144"), "line 7: ppm is negative"),
        (snapshot("3,12,40,90000,0", "3,12,40,90000,2"), "line 7: dir is neither 0 nor 1"),
        (
            snapshot("5,3,40,800000,0,1", "5,3,40,800000,0,7"),
            "line 13: disabled is neither 0 nor 1",
        ),
        (snapshot("90000,0", "0,0"), "line 7: capacity_sat is not the size of a channel"),
        (
            snapshot("90000,1", "90001,1"),
            "line 8: capacity_sat is not what another row of the same channel says",
        ),
        (
            snapshot("3,12,40,90000,1", "3,12,41,90000,1"),
            "line 8: node2 is not what another row of the same channel says",
        ),
        (
            snapshot("3,12,40,90000,1", "3,12,40,90000,0"),
            "line 8: this direction of the channel has a row already",
        ),
        (snapshot("1,100,3,700000,1", "1,3,3,700000,1"), "channel 1 joins a node to itself"),
        (graph(), "no channel is left"),
        (graph(edge(1, "02aa", "02bb"), edge(1, "02aa", "02cc")), "channel 1 occurs twice"),
        (
            graph(edge(1, "02aa", "02bb", capacity="0")),
            "edges[0].capacity: 0 is not the size of a channel",
        ),
        (
            graph(edge(1, "02aa", "02bb", capacity="x")),
            "edges[0].capacity: not a whole number, got 'x'",
        ),
        (
            graph(edge(1, "02aa", "02bb", capacity=1.5)),
            "edges[0].capacity: not a whole number, got 1.5",
        ),
        (graph(edge(1, "", "02bb")), "edges[0].node1_pub: missing"),
        (graph(edge(1, "02aa", "02bb", node2_policy=[])), "edges[0].node2_policy: not an object"),
        (
            graph(edge(1, "02aa", "02bb", node2_policy={})),
            "edges[0].node2_policy.fee_base_msat: missing",
        ),
        (
            graph(edge(1, "02aa", "02bb", node1_policy=policy(min_htlc="-1"))),
            "edges[0].node1_policy.min_htlc: -1 is out of range",
        ),
        ('{"edges": [1]}', "edges[0]: not an object"),
        ('{"edges": [\n{"a": 1}\n{}]}', "edges[0].channel_id: missing"),
        ('{"nodes": [\n{"a": 1}\n{}], "edges": []}', "line 3: not valid JSON, ',' expected"),
        ('{"nodes": [],\n "edges"', "line 2: not valid JSON, ':' expected"),
        ('{"nodes": [{"edges": []}]}', "edges: missing"),
        ('{"edges": [],\n"nodes": ["x', "line 2: not valid JSON, Unterminated string starting at"),
        ("name: x", "nodes: missing"),
        (b"\xff\xfe", "cannot be read: not UTF-8 text"),
        (b"\x1f\x8b\x08broken", "cannot be decompressed: not valid gzip"),
        (gzip.compress(SNAPSHOT.encode())[:-20], "cannot be decompressed: not valid gzip"),
    ],
)
def test_bad_files_get_one_sentence(written: Any, text: str | bytes, problem: str) -> None:
    path = written(text)
    with pytest.raises(TopologyError) as caught:
        load_network(path)
    assert str(caught.value) == f"{path}: {problem}"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"none: cannot be read: No such file or directory$"):
        load_network(tmp_path / "none")
