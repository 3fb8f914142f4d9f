"""How bitcoind, LND and Aperture are configured in a testbed, whatever runs them.

LND options are given as they stand in `lnd --help`. The profile `fast` makes gossip quick enough
for learning; `mainnet` keeps LND's own delays and rate limits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

import yaml

from lnagents.model.topology import PolicySpec, Profile, Topology

SERVICE_NAME = "hints"
"""Aperture's name for what sellers sell; it stands in the tokens' caveats."""
PAID_PATHS = "^/v1/(hints|commitments|routes|passes)/.*$"
"""Paths that Aperture asks money for; all others of the service are free."""
FREE_SERVICE_NAME = "free"

GRAPH_CACHE_SECONDS = 0.02
"""How old DescribeGraph may be in the profile `fast`; LND's default is a minute."""

_FAST_OPTIONS = (
    # 5 s by default, per hop, before a batch of announcements travels on.
    "--gossip.sub-batch-delay=5ms",
    # Milliseconds between broadcasts; 90000 by default.
    "--trickledelay=50",
    # Peers take 10 updates per channel direction at once and one a minute by default.
    "--gossip.max-channel-update-burst=100",
    "--gossip.channel-update-interval=1s",
    f"--caches.rpc-graph-cache-duration={round(1_000 * GRAPH_CACHE_SECONDS)}ms",
    # Write batches of the graph wait 500 ms by default, commitments 50 ms.
    "--db.batch-commit-interval=10ms",
    "--channel-commit-interval=5ms",
)

ANNOUNCEMENT_BLOCKS = 6
"""Confirmations after which channels are announced (BOLT 7). LND's funding manager waits for as
many, whatever its option `gossip.announcement-conf` says."""

GOSSIP_PEERS = 100
"""From how many peers a node takes gossip: all that it has in a testbed."""

_GOSSIP_SECONDS = {Profile.FAST: 60.0, Profile.MAINNET: 900.0}


@dataclass(frozen=True, slots=True)
class ChainAccess:
    """How LND reaches bitcoind."""

    rpc: str
    """`host:port`, as the next two."""
    zmq_block: str
    zmq_transaction: str


def gossip_timeout(profile: Profile) -> float:
    """Seconds after which a fee change that some node has not seen is a failure."""
    return _GOSSIP_SECONDS[profile]


def bitcoind_options() -> tuple[str, ...]:
    """What bitcoind needs beyond directories, addresses and credentials."""
    return (
        "-regtest",
        "-server",
        # One node alone: nothing to listen to and nobody to look for.
        "-listen=0",
        "-dnsseed=0",
        "-fixedseeds=0",
        "-printtoconsole",
        "-debuglogfile=0",
        # Every LND asks over several connections at once.
        "-rpcthreads=16",
        "-rpcworkqueue=512",
        "-dbcache=16",
        "-par=1",
        # 8,000 keys of a wallet that needs a few would take most of its start.
        "-keypool=1",
        "-fallbackfee=0.00001",
        # All openings may descend from the one transaction that funds the nodes.
        "-limitancestorcount=500",
        "-limitdescendantcount=500",
        "-limitancestorsize=1000",
        "-limitdescendantsize=1000",
    )


def lnd_options(topology: Topology, name: str) -> tuple[str, ...]:
    """What the LND called `name` needs beyond directories, addresses and credentials."""
    node = next(node for node in topology.nodes if node.name == name)
    policy = usual_policy(topology, name)
    options = (
        f"--alias={name}",
        "--bitcoin.regtest",
        "--bitcoin.node=bitcoind",
        f"--bitcoin.basefee={policy.base_fee_msat}",
        f"--bitcoin.feerate={policy.fee_rate_ppm}",
        f"--bitcoin.timelockdelta={policy.time_lock_delta}",
        f"--bitcoin.minhtlcout={policy.min_htlc_msat}",
        # Blocks before a channel can be used.
        "--bitcoin.defaultchanconfs=1",
        # No seed and no password: the wallet exists at once. These coins are worth nothing.
        "--noseedbackup",
        "--nobootstrap",
        "--norest",
        "--tlsdisableautofill",
        "--maxpendingchannels=10",
        # By default a node takes gossip from 3 of its peers only, and where the others are leaves,
        # nobody else can tell it what they announce.
        f"--numgraphsyncpeers={GOSSIP_PEERS}",
        # Learning needs every attempt, not only the last of each payment.
        "--keep-failed-payment-attempts",
        # Everything goes to standard output, which the backend keeps.
        "--logging.file.disable",
    )
    fast = _FAST_OPTIONS if topology.profile is Profile.FAST else ()
    # go-flags takes the last of repeated options, so the topology's own win.
    return (*options, *fast, *node.lnd)


def chain_options(chain: ChainAccess) -> tuple[str, ...]:
    """Where LND finds bitcoind; user and password do not belong on a command line."""
    return (
        f"--bitcoind.rpchost={chain.rpc}",
        f"--bitcoind.zmqpubrawblock=tcp://{chain.zmq_block}",
        f"--bitcoind.zmqpubrawtx=tcp://{chain.zmq_transaction}",
    )


def usual_policy(topology: Topology, name: str) -> PolicySpec:
    """The policy that most channels of the node ask of it: what it gives to those that it accepts.

    Channels that differ cost an update each, and each of those a second of gossip.
    """
    wanted: Counter[PolicySpec] = Counter()
    for channel in topology.channels:
        opener, acceptor = topology.channel_policies(channel)
        if channel.target == name:
            wanted[acceptor] += 1
        elif channel.source == name and channel.target != name:
            # An opener names base fee, rate and least amount in the opening itself.
            wanted[opener] += 0
    return wanted.most_common(1)[0][0] if wanted else topology.policy


@dataclass(frozen=True, slots=True)
class ApertureSettings:
    """Where one Aperture listens and whom it talks to."""

    listen: str
    """`host:port`, as all but the paths."""
    lnd: str
    tls_certificate: PurePosixPath
    macaroon_directory: PurePosixPath
    """Holds `invoice.macaroon`."""
    base_directory: PurePosixPath
    service: str
    pricer: str


def aperture_configuration(settings: ApertureSettings) -> str:
    """The YAML that Aperture reads (`--configfile`).

    Its database file must be named on the command line (`--sqlite.dbfile`): 0.5.0 does not read
    that key here. Services are tried in order. `strictverify` makes it ask LND whether an invoice
    is really paid, because forwarders on the payment's path learn the preimage before the seller's
    node does.
    """
    upstream = {"hostregexp": ".*", "address": settings.service, "protocol": "http"}
    document = {
        "listenaddr": settings.listen,
        "basedir": str(settings.base_directory),
        "insecure": True,
        "servestatic": False,
        "debuglevel": "info",
        "dbbackend": "sqlite",
        "strictverify": True,
        "authenticator": {
            "network": "regtest",
            "lndhost": settings.lnd,
            "tlspath": str(settings.tls_certificate),
            "macdir": str(settings.macaroon_directory),
        },
        "services": [
            {
                "name": SERVICE_NAME,
                **upstream,
                "pathregexp": PAID_PATHS,
                "auth": "on",
                "dynamicprice": {
                    "enabled": True,
                    "grpcaddress": settings.pricer,
                    "insecure": True,
                },
            },
            {"name": FREE_SERVICE_NAME, **upstream, "pathregexp": "^/.*$", "auth": "off"},
        ],
    }
    return yaml.safe_dump(document, sort_keys=False)


def aperture_database_option(base_directory: PurePosixPath) -> str:
    """The option without which Aperture writes its database elsewhere."""
    return f"--sqlite.dbfile={base_directory / 'aperture.db'}"
