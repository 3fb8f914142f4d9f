"""Turns a topology into a Compose file that needs nothing but Docker.

The file is complete: configuration files are inside it, images are built from `regtest/images`
or named by environment variables. Paths inside it are relative to the repository.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import yaml

from lnagents.model.errors import TopologyError
from lnagents.model.topology import Topology
from lnagents.testbed import miner
from lnagents.testbed.backend import BITCOIND, MINER, BitcoindSite, aperture_service
from lnagents.testbed.ports import HOST, port_names
from lnagents.testbed.settings import (
    ApertureSettings,
    ChainAccess,
    aperture_configuration,
    aperture_database_option,
    bitcoind_options,
    chain_options,
    lnd_options,
)

PROVISION = "provision"
"""Name of the service that funds the network and ends; only `docker compose up` alone needs it."""
DEFAULT_BASE_PORT = 21_000
"""First published port of a file made from a topology with `base_port: 0`."""

RPC_USER = "lnagents"
RPC_PASSWORD = "lnagents"  # noqa: S105 - coins of no worth, reached from this machine alone
BITCOIND_RPC_PORT = 18443
BITCOIND_DIRECTORY = PurePosixPath("/bitcoin")
LND_RPC_PORT = 10009
LND_PEER_PORT = 9735
LND_DIRECTORY = PurePosixPath("/lnd")
MACAROONS = PurePosixPath("data/chain/bitcoin/regtest")
"""Where LND writes its macaroons, below its directory."""
APERTURE_PORT = 8081
APERTURE_DIRECTORY = PurePosixPath("/aperture")
PROVISION_DIRECTORY = PurePosixPath("/provision")
"""Where `provision` notes that it is done."""
NODES_DIRECTORY = PurePosixPath("/nodes")
"""Where `provision` finds every node's directory, by name."""
TOPOLOGY_FILE = PurePosixPath("/topology.yaml")
DAEMON_HOST = "host.docker.internal"
"""How containers call the host, where the sellers' daemons run."""

PRICE_SWITCH = "APERTURE_ASKS_PRICE"
"""Variable that makes Aperture ask the seller's daemon for each price (`true`), as under the
`lnagents` command; without a daemon there is a fixed price, that of the topology."""

_IMAGE_TAGS = {
    "bitcoind": ("BITCOIND_IMAGE", "lnagents/bitcoind:29.5"),
    "lnd": ("LND_IMAGE", "lnagents/lnd:v0.21.1-beta"),
    "aperture": ("APERTURE_IMAGE", "lnagents/aperture:v0.5.0"),
    "lnagents": ("LNAGENTS_IMAGE", "lnagents/lnagents:latest"),
}
_BUILD_ARGUMENTS = {
    "lnd": ("GOPROXY", "GOSUMDB"),
    "aperture": ("GOPROXY", "GOSUMDB"),
    "lnagents": ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
}
"""Settings of the host that say where modules and packages come from; passed on if they are set."""
_PROXY_ARGUMENTS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

_HEADER = """\
# Made by `lnagents testbed render {name}`: change the topology, then render again.
#
#   docker compose -f docker-compose.regtest.yml up
#
# brings up bitcoind, LND nodes, and an Aperture for each seller of hints. `{provision}` gives the
# nodes coins, opens their channels, and ends; `{miner}` goes on mining. Everything is reached from
# this machine alone, on 127.0.0.1:
#
{places}
#
# A node's certificate and macaroons, for programs on the host:
#
#   docker compose -f docker-compose.regtest.yml cp {first}:/lnd/tls.cert .
#   docker compose -f docker-compose.regtest.yml cp {first}:/lnd/{macaroons}/admin.macaroon .
#
# Environment variables:
#   BITCOIND_IMAGE, LND_IMAGE, APERTURE_IMAGE, LNAGENTS_IMAGE   other images, such as the official
#                        `lightninglabs/lnd:v0.21.1-beta`; what is not named is built
#   {switch}  `true`: Aperture asks the seller's daemon for prices (it must run then);
#                        else hints have the topology's fixed price
#   SSL_CERT_FILE        certificate authorities that builds trust in addition, as elsewhere
"""


def default_ports(topology: Topology) -> dict[str, int]:
    """The published ports, by the names of `port_names`, when they are not looked for."""
    first = topology.base_port or DEFAULT_BASE_PORT
    return {name: first + index for index, name in enumerate(port_names(topology))}


def image_builders(topology: Topology) -> dict[str, str]:
    """The services that build an image, and the variable that names another image instead."""
    builders = {BITCOIND: "bitcoind", topology.nodes[0].name: "lnd", PROVISION: "lnagents"}
    if topology.sellers:
        builders[aperture_service(topology.sellers[0].node)] = "aperture"
    return {service: _IMAGE_TAGS[image][0] for service, image in builders.items()}


def data_path(service: str, topology: Topology) -> PurePosixPath | None:
    """Where a service keeps its data inside its container; None for those without."""
    if service == BITCOIND:
        return BITCOIND_DIRECTORY
    if any(service == node.name for node in topology.nodes):
        return LND_DIRECTORY
    if any(service == aperture_service(seller.node) for seller in topology.sellers):
        return APERTURE_DIRECTORY
    return None


def render_compose(
    topology: Topology, *, ports: Mapping[str, int] | None = None, project: str | None = None
) -> str:
    """The Compose file of a topology; always the same text for the same arguments.

    Args:
        topology: the network.
        ports: published ports of 127.0.0.1, by the names of `port_names`; None numbers them from
            the topology's `base_port` on, or from `DEFAULT_BASE_PORT` if that is 0.
        project: name of the Compose project, and so of containers, volumes and network; None
            makes it from the topology's name.

    Raises:
        TopologyError: a node's name is that of another service.
    """
    return _Renderer(
        topology, ports or default_ports(topology), project or f"lnagents-{topology.name}"
    ).text()


class _Renderer:
    def __init__(self, topology: Topology, ports: Mapping[str, int], project: str) -> None:
        taken = {BITCOIND, MINER, PROVISION}
        taken |= {aperture_service(seller.node) for seller in topology.sellers}
        for index, node in enumerate(topology.nodes):
            if node.name in taken:
                problem = f"nodes[{index}].name: {node.name!r} is the name of another service"
                raise TopologyError(topology.name, problem)
        self._topology = topology
        self._ports = ports
        self._project = project
        self._names = tuple(node.name for node in topology.nodes)
        self._built: set[str] = set()

    def text(self) -> str:
        services = {BITCOIND: self._bitcoind()}
        services |= {name: self._lnd(name) for name in self._names}
        services |= {PROVISION: self._provision(), MINER: self._miner()}
        services |= {
            aperture_service(seller.node): self._aperture(seller.node)
            for seller in self._topology.sellers
        }
        parts = [self._header(), _dump({"name": self._project})]
        parts += ["services:\n"]
        parts += [_indent(_dump({name: service})) for name, service in services.items()]
        parts += [_dump({"networks": {"default": {"driver": "bridge"}}})]
        volumes = [name for name in services if data_path(name, self._topology) is not None]
        parts += [_dump({"volumes": {name: {} for name in [*volumes, PROVISION]}})]
        parts += [_dump({"configs": self._configs()})]
        parts += [
            "# Lent to builds only: the host's certificate authorities, where it has its own.\n"
            + _dump({"secrets": {"certificates": {"file": "${SSL_CERT_FILE:-/dev/null}"}}})
        ]
        return "\n".join(parts)

    def _header(self) -> str:
        places = [("bitcoind RPC", f"user and password {RPC_USER}")]
        places += [(f"{name} gRPC", "LND") for name in self._names]
        for seller in self._topology.sellers:
            places += [(f"{seller.node} Aperture", "HTTP")]
            places += [
                (f"{seller.node} {what}", "its daemon listens there, for Aperture alone")
                for what in ("hint service", "pricer")
            ]
        return _HEADER.format(
            name=self._topology.name,
            provision=PROVISION,
            miner=MINER,
            places="\n".join(
                f"#   {self._ports[name]:<6} {name} ({remark})" for name, remark in places
            ),
            first=self._names[0],
            macaroons=MACAROONS,
            switch=PRICE_SWITCH,
        )

    def _image(self, image: str) -> dict[str, Any]:
        variable, tag = _IMAGE_TAGS[image]
        service: dict[str, Any] = {"image": f"${{{variable}:-{tag}}}"}
        if image in self._built:
            # One service builds what several use: Compose would build it once per service.
            return service
        self._built.add(image)
        own = image == "lnagents"
        build: dict[str, Any] = {
            "context": "." if own else "./regtest",
            "dockerfile": f"{'regtest/' if own else ''}images/{image}/Dockerfile",
        }
        if image in _BUILD_ARGUMENTS:
            build["args"] = [*_BUILD_ARGUMENTS[image], *_PROXY_ARGUMENTS]
            build["secrets"] = ["certificates"]
        return service | {"build": build}

    def _bitcoind(self) -> dict[str, Any]:
        credentials = (f"-rpcuser={RPC_USER}", f"-rpcpassword={RPC_PASSWORD}")
        return self._image("bitcoind") | {
            "command": [
                *bitcoind_options(),
                f"-datadir={BITCOIND_DIRECTORY}",
                *credentials,
                "-rpcbind=0.0.0.0",
                "-rpcallowip=0.0.0.0/0",
                "-zmqpubrawblock=tcp://0.0.0.0:28332",
                "-zmqpubrawtx=tcp://0.0.0.0:28333",
            ],
            **_health(
                ["CMD", "bitcoin-cli", "-regtest", *credentials, "getblockchaininfo"], interval=2
            ),
            "volumes": [f"{BITCOIND}:{BITCOIND_DIRECTORY}"],
            "ports": [self._published("bitcoind RPC", BITCOIND_RPC_PORT)],
            "stop_grace_period": "30s",
        }

    def _lnd(self, name: str) -> dict[str, Any]:
        common = self._common_lnd_options()
        own = [option for option in lnd_options(self._topology, name) if option not in common]
        lncli = ["lncli", f"--lnddir={LND_DIRECTORY}", "--network=regtest", "getinfo"]
        return self._image("lnd") | {
            "command": [
                *(f"--lnddir={LND_DIRECTORY}", "--configfile=/lnd.conf"),
                *(*own, f"--tlsextradomain={name}"),
                # Told to the others, so that they find each other when restarts change addresses.
                f"--externalhosts={name}:{LND_PEER_PORT}",
            ],
            # Go's collector would run often in these small heaps; memory is cheaper than time.
            "environment": {"GOGC": "400"},
            "configs": [{"source": "lnd", "target": "/lnd.conf"}],
            "depends_on": {BITCOIND: {"condition": "service_healthy"}},
            **_health(["CMD", *lncli], interval=5),
            "volumes": [f"{name}:{LND_DIRECTORY}"],
            "ports": [self._published(f"{name} gRPC", LND_RPC_PORT)],
            "stop_grace_period": "30s",
        }

    def _common_lnd_options(self) -> list[str]:
        first, *others = (lnd_options(self._topology, name) for name in self._names)
        return [option for option in first if all(option in other for other in others)]

    def _provision(self) -> dict[str, Any]:
        volumes = [f"{name}:{NODES_DIRECTORY / name}:ro" for name in self._names]
        # It waits for the nodes itself, which is quicker than their health checks.
        started = {name: {"condition": "service_started"} for name in self._names}
        return self._image("lnagents") | {
            "entrypoint": ["python", "-m", "lnagents.testbed.inside"],
            "init": True,
            "environment": {"BITCOIND_USER": RPC_USER, "BITCOIND_PASSWORD": RPC_PASSWORD},
            "configs": [{"source": "topology", "target": str(TOPOLOGY_FILE)}],
            "depends_on": {BITCOIND: {"condition": "service_healthy"}, **started},
            "volumes": [*volumes, f"{PROVISION}:{PROVISION_DIRECTORY}"],
        }

    def _miner(self) -> dict[str, Any]:
        url = f"http://{BITCOIND}:{BITCOIND_RPC_PORT}"
        interval = self._topology.chain.block_interval_seconds
        site = BitcoindSite(url, RPC_USER, RPC_PASSWORD)
        return self._image("lnagents") | {
            "entrypoint": ["python", "-m", "lnagents.testbed.miner"],
            "init": True,
            "environment": miner.environment(site, interval),
            "depends_on": {PROVISION: {"condition": "service_completed_successfully"}},
            "restart": "on-failure",
            "stop_grace_period": "10s",
        }

    def _aperture(self, node: str) -> dict[str, Any]:
        service = aperture_service(node)
        return self._image("aperture") | {
            "command": [
                "--configfile=/aperture.yaml",
                aperture_database_option(APERTURE_DIRECTORY),
            ],
            "configs": [{"source": service, "target": "/aperture.yaml"}],
            "environment": {"HOME": str(APERTURE_DIRECTORY)},
            # The seller's daemon runs on the host.
            "extra_hosts": [f"{DAEMON_HOST}:host-gateway"],
            "depends_on": {
                node: {"condition": "service_healthy"},
                PROVISION: {"condition": "service_completed_successfully"},
            },
            # It ends, without calling that a failure, when it loses LND's stream of invoices.
            "restart": "unless-stopped",
            **_health(["CMD", "bash", "-c", f"< /dev/tcp/127.0.0.1/{APERTURE_PORT}"], interval=5),
            "volumes": [f"{service}:{APERTURE_DIRECTORY}", f"{node}:{LND_DIRECTORY}:ro"],
            "ports": [self._published(f"{node} Aperture", APERTURE_PORT)],
            "stop_grace_period": "10s",
        }

    def _configs(self) -> dict[str, Any]:
        chain = ChainAccess(
            rpc=f"{BITCOIND}:{BITCOIND_RPC_PORT}",
            zmq_block=f"{BITCOIND}:28332",
            zmq_transaction=f"{BITCOIND}:28333",
        )
        lnd = [
            *self._common_lnd_options(),
            *chain_options(chain),
            f"--bitcoind.rpcuser={RPC_USER}",
            f"--bitcoind.rpcpass={RPC_PASSWORD}",
            f"--rpclisten=0.0.0.0:{LND_RPC_PORT}",
            f"--listen=0.0.0.0:{LND_PEER_PORT}",
        ]
        document = self._topology.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        configs = {
            "lnd": {"content": _escaped("[Application Options]\n" + _ini(lnd))},
            "topology": {"content": _escaped(yaml.safe_dump(document, sort_keys=False))},
        }
        for seller in self._topology.sellers:
            text = self._aperture_configuration(seller.node, seller.price_sat)
            configs[aperture_service(seller.node)] = {"content": text}
        return configs

    def _aperture_configuration(self, node: str, price_sat: int) -> str:
        def on_host(what: str) -> str:
            return f"{DAEMON_HOST}:{self._ports[f'{node} {what}']}"

        settings = ApertureSettings(
            listen=f"0.0.0.0:{APERTURE_PORT}",
            lnd=f"{node}:{LND_RPC_PORT}",
            tls_certificate=LND_DIRECTORY / "tls.cert",
            macaroon_directory=LND_DIRECTORY / MACAROONS,
            base_directory=APERTURE_DIRECTORY,
            service=on_host("hint service"),
            pricer=on_host("pricer"),
        )
        document = yaml.safe_load(_escaped(aperture_configuration(settings)))
        for service in document["services"]:
            if "dynamicprice" in service:
                service["price"] = price_sat
                service["dynamicprice"]["enabled"] = f"${{{PRICE_SWITCH}:-false}}"
        return yaml.safe_dump(document, sort_keys=False)

    def _published(self, name: str, inside: int) -> str:
        return f"{HOST}:{self._ports[name]}:{inside}"


def _health(test: Sequence[str], *, interval: int) -> dict[str, Any]:
    """A health check every `interval` s; two minutes of failures at the start do not count."""
    check = {"test": list(test), "interval": f"{interval}s", "timeout": "10s", "retries": 5}
    return {"healthcheck": check | {"start_period": "2m"}}


def _ini(options: Sequence[str]) -> str:
    lines = (option.removeprefix("--") for option in options)
    return "".join(f"{line if '=' in line else f'{line}=true'}\n" for line in lines)


def _escaped(text: str) -> str:
    """Compose puts variables in for `$NAME`; a plain dollar sign is doubled."""
    return text.replace("$", "$$")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # lists stand below their key, indented


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=100)


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())
