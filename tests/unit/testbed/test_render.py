from __future__ import annotations

from typing import Any

import pytest
import yaml

from lnagents.model.errors import TopologyError
from lnagents.model.topology import Topology, parse_topology
from lnagents.testbed import load_topology
from lnagents.testbed.data import data_directory
from lnagents.testbed.render import data_path, image_builders, render_compose

PAIR = """
name: pair
base_port: 23000
nodes: [{name: ann, lnd: [--trickledelay=70]}, {name: ben}]
channels: [{from: ann, to: ben, capacity_sat: 1000000}]
sellers: [{node: ben, price_sat: 7}]
"""


def pair() -> Topology:
    return parse_topology(PAIR, "pair")


def document(topology: Topology, **arguments: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(render_compose(topology, **arguments))
    return loaded


def test_the_committed_file_is_what_the_default_topology_renders_to() -> None:
    committed = data_directory().parent / "docker-compose.regtest.yml"
    assert committed.read_text() == render_compose(load_topology("default")), (
        "run `lnagents testbed render default --output docker-compose.regtest.yml`"
    )


def test_ports_are_published_on_loopback_alone() -> None:
    services = document(load_topology("default"))["services"]
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 1 + 7 + 1
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len(set(published)) == len(published)


def test_ports_begin_at_the_base_port() -> None:
    services = document(pair())["services"]
    assert services["bitcoind"]["ports"] == ["127.0.0.1:23000:18443"]


def test_two_networks_share_no_name_and_no_port() -> None:
    one = document(pair(), project="lnagents-one")
    other = document(pair().model_copy(update={"base_port": 24000}), project="lnagents-other")
    assert one["name"] != other["name"]
    assert "container_name" not in render_compose(pair())


def test_builders_are_the_services_that_build() -> None:
    topology = load_topology("default")
    services = document(topology)["services"]
    building = {name: service["image"] for name, service in services.items() if "build" in service}
    assert building.keys() == image_builders(topology).keys()
    for name, variable in image_builders(topology).items():
        assert building[name].startswith(f"${{{variable}:-")


def test_each_image_is_built_once_and_can_be_replaced() -> None:
    services = document(load_topology("default"))["services"].values()
    assert all(service["image"].startswith("${") for service in services)
    built = [service["image"] for service in services if "build" in service]
    assert len(built) == len(set(built)) == 4
    assert {service["image"] for service in services} == set(built)


def test_every_service_with_data_has_its_volume() -> None:
    topology = pair()
    loaded = document(topology)
    for name, service in loaded["services"].items():
        path = data_path(name, topology)
        if path is not None:
            assert f"{name}:{path}" in service["volumes"]
            assert name in loaded["volumes"]


def test_a_nodes_own_options_win_over_the_common_ones() -> None:
    loaded = document(pair())
    assert "--trickledelay=70" in loaded["services"]["ann"]["command"]
    assert "--trickledelay=70" not in loaded["services"]["ben"]["command"]
    assert "trickledelay=50" in loaded["configs"]["lnd"]["content"].splitlines()


def test_aperture_has_a_fixed_price_until_it_is_told_to_ask() -> None:
    content = document(pair())["configs"]["aperture-ben"]["content"]
    paid = yaml.safe_load(content.replace("$$", "$"))["services"][0]
    assert paid["price"] == 7
    assert paid["dynamicprice"]["enabled"] == "${APERTURE_ASKS_PRICE:-false}"


def test_the_topology_inside_is_the_same() -> None:
    content = document(load_topology("default"))["configs"]["topology"]["content"]
    assert parse_topology(content, "inside") == load_topology("default")


@pytest.mark.parametrize("name", ["bitcoind", "miner", "provision", "aperture-ben"])
def test_nodes_cannot_take_the_name_of_another_service(name: str) -> None:
    text = PAIR.replace("{name: ann, lnd: [--trickledelay=70]}", f"{{name: {name}}}")
    topology = parse_topology(text.replace("from: ann", f"from: {name}"), "pair")
    with pytest.raises(TopologyError, match=f"'{name}' is the name of another service"):
        render_compose(topology)
