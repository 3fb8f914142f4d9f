"""`lnagents testbed`: starts, shows, uses and removes live networks."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.table import Table

from lnagents.cli.output import FAILURE, JsonOption, console, error_console, print_json, run
from lnagents.model.errors import InputError
from lnagents.model.units import MSAT_PER_SAT, format_msat, format_short_channel_id

if TYPE_CHECKING:
    from lnagents.model.graph import ChannelPolicy, LocalChannel
    from lnagents.testbed import AuditReport, BackendKind, Testbed

Result = TypeVar("Result")

app = typer.Typer(help="Real Lightning networks on this machine.", no_args_is_help=True)

NameOption = Annotated[
    str | None,
    typer.Option("--name", "-n", help="Which network; may be left out while only one is up."),
]


def backend_kind(text: str) -> BackendKind:
    """The backend that the user named.

    Raises:
        InputError: there is none of that name.
    """
    from lnagents.testbed import BackendKind

    try:
        return BackendKind(text)
    except ValueError as exc:
        known = ", ".join(kind.value for kind in BackendKind)
        raise InputError("--backend", f"unknown backend {text!r} (there are {known})") from exc


@app.command()
def up(
    topology: Annotated[
        str, typer.Argument(help="A topology file, or the name of one that comes along.")
    ] = "default",
    backend: Annotated[
        str, typer.Option(help="`native` (plain processes) or `compose` (Docker).")
    ] = "native",
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Instead of the topology's name.")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(help="A new folder for its data, instead of one on tmpfs or in the cache."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a network: funded, channels open, gossip settled. It runs until `down`."""
    from lnagents.testbed import load_topology

    chosen, kind = load_topology(topology), backend_kind(backend)

    started: list[str] = []

    async def start() -> dict[str, Any]:
        from lnagents.testbed import Testbed

        with error_console.status("Starting") as status:
            testbed = await Testbed.up(
                chosen,
                backend=kind,
                name=name,
                directory=directory,
                progress=lambda text: status.update(text),
            )
        started.append(testbed.name)
        try:
            return await _describe(testbed)
        finally:
            await testbed.close()

    try:
        document = run(start())
        if as_json:
            print_json(document)
        else:
            _show(document)
    except BaseException:
        # Whoever presses Ctrl-C before this command has ended wants no network, and pressing it
        # once more does not change that.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for each in started:
            _remove(each)
        raise


@app.command()
def down(
    name: NameOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All networks, also half-started ones.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop a network and remove all that it wrote."""
    from lnagents.testbed.state import running_names

    names = running_names() if everything else [_chosen(name)]
    for each in names:
        _remove(each)
        if not as_json:
            console.print(f"{each}: stopped and removed", highlight=False)
    if as_json:
        print_json({"removed": names})


@app.command()
def status(name: NameOption = None, as_json: JsonOption = False) -> None:
    """Show services, endpoints, macaroons and channels with their balances."""
    document = _with_testbed(name, _describe)
    if as_json:
        print_json(document)
    else:
        _show(document)


@app.command()
def reset(name: NameOption = None, as_json: JsonOption = False) -> None:
    """Bring a network back to its first state: same keys, same ports, all else forgotten."""

    async def restore(testbed: Testbed) -> str:
        with error_console.status("Restoring"):
            await testbed.reset()
        return testbed.name

    restored = _with_testbed(name, restore)
    if as_json:
        print_json({"reset": restored})
    else:
        console.print(f"{restored}: back in its first state", highlight=False)


@app.command()
def pay(
    source: Annotated[str, typer.Argument(help="Name of the node that pays.")],
    destination: Annotated[str, typer.Argument(help="Name of the node that is paid.")],
    amount_sat: Annotated[int, typer.Argument(min=1, help="How much, in satoshi.")],
    max_parts: Annotated[int, typer.Option(min=1, help="Into how many parts at most.")] = 1,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one payment with LND's own sender; exit code 1 if it fails."""

    async def make(testbed: Testbed) -> dict[str, Any]:
        outcome = await testbed.pay(
            source, destination, amount_sat * MSAT_PER_SAT, max_parts=max_parts
        )
        return asdict(outcome)

    outcome = _with_testbed(name, make)
    if as_json:
        print_json(outcome)
    elif outcome["settled"]:
        console.print(
            f"{source} paid {format_msat(outcome['amount_msat'])} to {destination}:"
            f" fee {format_msat(outcome['fee_msat'])}, {outcome['attempts']} attempts,"
            f" {outcome['seconds']:.2f} s",
            highlight=False,
        )
    else:
        console.print(
            f"{source} could not pay {destination}: {outcome['reason']}"
            f" after {outcome['attempts']} attempts",
            style="red",
            highlight=False,
        )
    if not outcome["settled"]:
        raise typer.Exit(FAILURE)


@app.command()
def logs(
    service: Annotated[
        str, typer.Argument(help="A node's name, `bitcoind`, `miner` or `aperture-NODE`.")
    ],
    lines: Annotated[int, typer.Option("--lines", "-l", min=1, help="How many.")] = 50,
    name: NameOption = None,
) -> None:
    """Print the last lines that a service wrote."""
    text = _with_testbed(name, lambda testbed: testbed.logs(service, lines))
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command()
def audit(name: NameOption = None, as_json: JsonOption = False) -> None:
    """Prove that no satoshi was lost; exit code 1 when it does not add up."""
    report: AuditReport = _with_testbed(name, lambda testbed: testbed.audit())
    if as_json:
        print_json(report.to_json())
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "expected", "found", "difference"):
            table.add_column(heading, justify="left" if not heading else "right")
        for statement in report.statements:
            table.add_row(
                statement.what,
                format_msat(statement.expected),
                format_msat(statement.found),
                format_msat(statement.difference),
                style="red" if statement.difference else None,
            )
        console.print(table)
        verdict = "Every millisatoshi is accounted for."
        if report.difference_msat:
            verdict = f"{format_msat(report.difference_msat)} are not accounted for."
        console.print(verdict, style="red" if report.difference_msat else "green", highlight=False)
    if report.difference_msat:
        raise typer.Exit(FAILURE)


@app.command()
def mine(
    blocks: Annotated[int, typer.Argument(min=1, help="How many.")] = 1,
    name: NameOption = None,
) -> None:
    """Mine blocks now; they come by themselves when transactions wait."""
    _with_testbed(name, lambda testbed: testbed.mine(blocks))
    console.print(f"Mined {blocks}; every node has seen them.", highlight=False)


@app.command()
def render(
    topology: Annotated[
        str, typer.Argument(help="A topology file, or the name of one that comes along.")
    ] = "default",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, instead of standard output.")
    ] = None,
) -> None:
    """Write the Docker Compose file of a topology."""
    from lnagents.testbed import load_topology
    from lnagents.testbed.render import render_compose

    text = render_compose(load_topology(topology))
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InputError(str(output), f"cannot be written: {exc.strerror}") from exc


def _remove(name: str) -> None:
    from lnagents.testbed.network import remove

    run(remove(name))


def _chosen(name: str | None) -> str:
    """The network that a command is about.

    Raises:
        InputError: none was named, and not exactly one is up.
    """
    from lnagents.testbed.state import running_names

    if name is not None:
        return name
    names = running_names()
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError("testbed", "no network is up; `lnagents testbed up` starts one")
    raise InputError("--name", f"say which of the networks that are up: {', '.join(names)}")


def _with_testbed(name: str | None, use: Callable[[Testbed], Awaitable[Result]]) -> Result:
    chosen = _chosen(name)

    async def attached() -> Result:
        from lnagents.testbed import Testbed

        testbed = await Testbed.attach(chosen)
        try:
            return await use(testbed)
        finally:
            await testbed.close()

    return run(attached())


async def _describe(testbed: Testbed) -> dict[str, Any]:
    """All that `status` shows, as plain data."""
    states = await testbed.states()
    aliases = {node.key: name for name, node in testbed.nodes.items()}
    return {
        "name": testbed.name,
        "backend": testbed.kind.value,
        "topology": testbed.topology.name,
        "directory": str(testbed.directory),
        "services": {service: state.value for service, state in states.items()},
        "nodes": {
            name: {
                "key": node.key,
                "grpc": node.admin.address,
                "peer_address": node.peer_address,
                "tls_certificate": str(node.admin.tls_certificate),
                "admin_macaroon": str(node.admin.macaroon),
                "agent_macaroon": str(node.agent.macaroon),
                "role_macaroons": {role.value: str(path) for role, path in node.macaroons.items()},
            }
            for name, node in testbed.nodes.items()
        },
        "sellers": {name: asdict(site) for name, site in testbed.sellers.items()},
        "channels": await _channels(testbed, aliases, set(states)),
    }


async def _channels(
    testbed: Testbed, aliases: dict[str, str], services: set[str]
) -> list[dict[str, Any]]:
    """Each channel once, as its opener sees it."""
    names = [name for name in testbed.nodes if name in services]
    seen = await asyncio.gather(
        *(testbed.client(name).channels() for name in names), return_exceptions=True
    )
    graph = await testbed.client(names[0]).graph() if names else None
    rows = []
    for name, channels in zip(names, seen, strict=True):
        if isinstance(channels, BaseException):
            # A node that does not answer; `services` says why.
            continue
        for channel in channels:
            if not channel.initiator:
                continue
            policies: tuple[ChannelPolicy | None, ChannelPolicy | None] = (None, None)
            if graph is not None and channel.scid in graph.channels:
                public = graph.channels[channel.scid]
                own = public.edge_from(testbed.nodes[name].key).policy
                policies = own, public.edge_from(channel.peer).policy
            rows.append(_channel_row(name, aliases.get(channel.peer, ""), channel, policies))
    return rows


def _channel_row(
    source: str,
    target: str,
    channel: LocalChannel,
    policies: tuple[ChannelPolicy | None, ChannelPolicy | None],
) -> dict[str, Any]:
    def fees(policy: ChannelPolicy | None) -> dict[str, int] | None:
        if policy is None:
            return None
        return {"base_fee_msat": policy.base_fee_msat, "fee_rate_ppm": policy.fee_rate_ppm}

    return {
        "channel": format_short_channel_id(channel.scid),
        "from": source,
        "to": target,
        "capacity_sat": channel.capacity_msat // MSAT_PER_SAT,
        "from_balance_sat": channel.local_balance_msat // MSAT_PER_SAT,
        "to_balance_sat": channel.remote_balance_msat // MSAT_PER_SAT,
        "active": channel.active,
        "from_fees": fees(policies[0]),
        "to_fees": fees(policies[1]),
    }


def _show(document: dict[str, Any]) -> None:
    console.print(
        f"[bold]{document['name']}[/] ({document['topology']}, {document['backend']})"
        f" in {document['directory']}",
        highlight=False,
    )
    services = Table(box=None, pad_edge=False)
    for heading in ("service", "state", "at", "agent's macaroon"):
        services.add_column(heading, overflow="fold")
    sellers = {f"aperture-{name}": site["url"] for name, site in document["sellers"].items()}
    for service, state in document["services"].items():
        node = document["nodes"].get(service)
        at = node["grpc"] if node else sellers.get(service, "")
        color = {"running": "green", "paused": "yellow"}.get(state, "red")
        macaroon = node["agent_macaroon"] if node else ""
        services.add_row(service, f"[{color}]{state}[/]", at, macaroon)
    console.print(services)
    channels = Table(box=None, pad_edge=False)
    for heading in ("channel", "from", "to"):
        channels.add_column(heading)
    for heading in ("capacity", "balance", "of peer", "fees", "of peer"):
        channels.add_column(heading, justify="right")
    for row in document["channels"]:
        channels.add_row(
            row["channel"],
            row["from"],
            row["to"],
            *(f"{row[key]:,}" for key in ("capacity_sat", "from_balance_sat", "to_balance_sat")),
            *(_fees(row[key]) for key in ("from_fees", "to_fees")),
            style=None if row["active"] else "red",
        )
    console.print(channels)
    console.print("Balances in satoshi; fees in msat + ppm.", style="dim")


def _fees(fees: dict[str, int] | None) -> str:
    return f"{fees['base_fee_msat']} + {fees['fee_rate_ppm']}" if fees else "-"
