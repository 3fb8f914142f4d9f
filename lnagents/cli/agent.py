"""`lnagents agent`: runs the daemon of one node, and talks to running ones."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from lnagents.cli.output import FAILURE, JsonOption, console, print_json, run
from lnagents.lnd.macaroons import Role
from lnagents.model.errors import ConfigError, InputError
from lnagents.model.units import format_msat, format_short_channel_id

if TYPE_CHECKING:
    from lnagents.agent import AgentControl, AgentStatus, PaymentReport
    from lnagents.agent.delegation_ledger import DelegationTotals
    from lnagents.agent.forwarder import ForwarderStatus

Result = TypeVar("Result")

app = typer.Typer(
    help="An agent daemon for one node: run it, pay with it, watch it.", no_args_is_help=True
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The agent's configuration file.", dir_okay=False),
]
DirectoryOption = Annotated[
    Path | None,
    typer.Option("--data-directory", "-d", help="The agent's data directory, instead of a file."),
]


@app.command("run")
def run_agent(
    config: Annotated[Path, typer.Option("--config", "-c", help="A TOML file.", dir_okay=False)],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Log decisions with reasons and change nothing.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Carry decisions out, also on other nets than regtest.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log decisions to change nothing, too.")
    ] = False,
) -> None:
    """Run the daemon until it is stopped by Ctrl-C or SIGTERM."""
    if dry_run and live:
        raise InputError("--dry-run and --live", "take one of the two")
    from lnagents.agent import Mode
    from lnagents.agent.daemon import Daemon
    from lnagents.agent.logs import configure_logging

    mode = Mode.DRY_RUN if dry_run else Mode.LIVE if live else None
    daemon = Daemon(config, mode=mode)
    configure_logging(daemon.config.name, verbose=verbose)
    run(_until_stopped(daemon.run()))


async def _until_stopped(work: Awaitable[None]) -> None:
    import asyncio

    try:
        await work
    except asyncio.CancelledError:
        import structlog

        structlog.get_logger("lnagents.cli").info("stopped")


@app.command()
def pay(
    invoice: Annotated[str, typer.Argument(help="A BOLT 11 payment request with an amount.")],
    config: ConfigOption = None,
    data_directory: DirectoryOption = None,
    max_fee_msat: Annotated[
        int | None, typer.Option(min=0, help="At most this fee; can only lower the limits.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds.")] = 60.0,
    delegate: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Leave the rest of the way to the agent of this node, for the fee that it quotes,"
            " or, if it is none of market.buy.sellers, for --max-fee-msat.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Pay an invoice through the agent. Asking again never pays twice."""
    if delegate is not None and not re.fullmatch("0[23][0-9a-f]{64}", delegate):
        raise InputError("--delegate", f"{delegate!r} is not a node's key")

    async def ask(agent: AgentControl) -> PaymentReport:
        return await agent.pay(
            invoice, max_fee_msat=max_fee_msat, timeout=timeout, delegate=delegate
        )

    report = _ask(config, data_directory, ask)
    if json:
        print_json(_payment_document(report))
    else:
        console.print(_payment_line(report), markup=False, soft_wrap=True)
    if not report.settled:
        raise typer.Exit(FAILURE)


@app.command()
def status(
    config: ConfigOption = None, data_directory: DirectoryOption = None, json: JsonOption = False
) -> None:
    """Show what the agent has, does and has done."""

    async def ask(agent: AgentControl) -> AgentStatus:
        return await agent.status()

    answer = _ask(config, data_directory, ask)
    if json:
        document = asdict(answer)
        for channel in document["channels"]:
            channel["scid"] = format_short_channel_id(channel["scid"])
        document["forwarding"]["state"] = answer.forwarding.state.value
        print_json(document)
    else:
        _show_status(answer)


@app.command()
def outcomes(
    config: ConfigOption = None, data_directory: DirectoryOption = None, json: JsonOption = False
) -> None:
    """Show every payment that ends, until interrupted; with --json one document a line."""
    import json as codec

    async def watch(agent: AgentControl) -> None:
        async for report in agent.outcomes():
            if json:
                typer.echo(codec.dumps(_payment_document(report)))
            else:
                console.print(_payment_line(report), markup=False, soft_wrap=True)

    _ask(config, data_directory, watch)


@app.command()
def pause(
    config: ConfigOption = None, data_directory: DirectoryOption = None, json: JsonOption = False
) -> None:
    """Stop decisions; observing and paying go on."""
    _ask(config, data_directory, lambda agent: agent.pause())
    _done("paused", json)


@app.command()
def resume(
    config: ConfigOption = None, data_directory: DirectoryOption = None, json: JsonOption = False
) -> None:
    """Let the agent decide again."""
    _ask(config, data_directory, lambda agent: agent.resume())
    _done("resumed", json)


@app.command()
def reload(
    config: ConfigOption = None, data_directory: DirectoryOption = None, json: JsonOption = False
) -> None:
    """Let the agent read its configuration file again; a bad file changes nothing."""
    _ask(config, data_directory, lambda agent: agent.reload())
    _done("reloaded", json)


@app.command()
def step(
    config: ConfigOption = None, data_directory: DirectoryOption = None, json: JsonOption = False
) -> None:
    """Let the agent live one round now; for agents with `rounds.on_request = true`."""
    number = _ask(config, data_directory, lambda agent: agent.step())
    if json:
        print_json({"round": number})
    else:
        console.print(f"Round {number}.", highlight=False)


@app.command()
def checkpoint(
    config: ConfigOption = None, data_directory: DirectoryOption = None, json: JsonOption = False
) -> None:
    """Save what the agent has learned, now."""
    report = _ask(config, data_directory, lambda agent: agent.checkpoint())
    if json:
        print_json(asdict(report))
    else:
        console.print(f"Round {report.round}: {report.bytes:,} bytes saved.")


@app.command()
def bake(
    address: Annotated[str, typer.Option(help="The node's gRPC server, HOST:PORT.")],
    tls_certificate: Annotated[Path, typer.Option(help="LND's tls.cert.", dir_okay=False)],
    admin_macaroon: Annotated[Path, typer.Option(help="LND's admin.macaroon.", dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Where the new macaroon goes.", dir_okay=False)],
    role: Annotated[
        list[Role] | None, typer.Option(help="What it may do; repeat it. Without: observe only.")
    ] = None,
) -> None:
    """Bake a macaroon that allows an agent what it needs and nothing else."""
    from lnagents.lnd import LndClient, LndEndpoint

    roles = role or [Role.OBSERVER]

    async def work() -> bytes:
        async with LndClient(LndEndpoint(address, tls_certificate, admin_macaroon)) as client:
            return await client.bake_macaroon(roles)

    _write_private(out, run(work()))
    console.print(f"{out}: {', '.join(one.value for one in roles)}", markup=False, soft_wrap=True)


class NetworkName(str, Enum):
    """Networks that LND knows."""

    REGTEST = "regtest"
    SIGNET = "signet"
    TESTNET = "testnet"
    TESTNET4 = "testnet4"
    SIMNET = "simnet"
    MAINNET = "mainnet"


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("agent.toml"),
    name: Annotated[str, typer.Option(help="The agent's name.")] = "agent",
    address: Annotated[str, typer.Option(help="The node's gRPC server.")] = "127.0.0.1:10009",
    tls_certificate: Annotated[str, typer.Option(help="LND's tls.cert.")] = "tls.cert",
    macaroon: Annotated[str, typer.Option(help="See `lnagents agent bake`.")] = "agent.macaroon",
    network: Annotated[NetworkName, typer.Option(help="Which.")] = NetworkName.SIGNET,
) -> None:
    """Write a commented configuration file; an existing one is kept."""
    from lnagents.agent.template import render_template

    text = render_template(
        name=name,
        address=address,
        tls_certificate=tls_certificate,
        macaroon=macaroon,
        network=network.value,
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as exc:
        raise ConfigError(str(path), "exists already, and is kept") from exc
    except OSError as exc:
        raise ConfigError(str(path), f"cannot be written ({exc.strerror})") from exc
    console.print(f"{path} written; adapt it, above all [limits].", markup=False, soft_wrap=True)


def _ask(
    config: Path | None,
    data_directory: Path | None,
    ask: Callable[[AgentControl], Awaitable[Result]],
) -> Result:
    """Ask the agent that the options name."""
    from lnagents.agent import AgentControl, load_config

    if (config is None) == (data_directory is None):
        raise InputError("--config and --data-directory", "take one of the two")
    if config is not None:
        data_directory = load_config(config).data_directory
    if data_directory is None:  # for the type checker: one of the two is there
        raise InputError("--data-directory", "missing")
    where = data_directory

    async def work() -> Result:
        async with AgentControl(where) as agent:
            return await ask(agent)

    return run(work())


def _done(what: str, json: bool) -> None:
    if json:
        print_json({"done": what})
    else:
        console.print(f"{what.capitalize()}.")


def _write_private(path: Path, data: bytes) -> None:
    try:
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_bytes(data)
    except OSError as exc:
        raise ConfigError(str(path), f"cannot be written ({exc.strerror})") from exc


def _payment_document(report: PaymentReport) -> dict[str, Any]:
    document = asdict(report)
    document["state"] = report.state.value
    document["preimage"] = report.preimage.hex()
    return document


def _payment_line(report: PaymentReport) -> str:
    tries = f"{report.attempts} attempt{'' if report.attempts == 1 else 's'}"
    amount = format_msat(report.amount_msat)
    if report.settled:
        return f"{report.payment_hash}: {amount} paid, fee {format_msat(report.fee_msat)}, {tries}"
    return f"{report.payment_hash}: {amount} {report.state.value}, {tries}: {report.reason}"


def _forwarding_line(forwarding: ForwarderStatus) -> str:
    from lnagents.agent.forwarder import ForwarderState

    if forwarding.state is ForwarderState.OFF:
        return "left to the node"
    return (
        f"{forwarding.state.value}; {forwarding.resumed} let through, {forwarding.refused} refused,"
        f" {forwarding.settled} settled, {forwarding.held} held; median {forwarding.p50_ms:.2f} ms"
    )


def _delegation_line(totals: DelegationTotals) -> str:
    line = f"{totals.settled} ways found for {format_msat(totals.earned_msat)}, {totals.failed} not"
    lost = f"; {totals.lost} LOST, {format_msat(totals.lost_msat)}"
    return line + (lost if totals.lost else "")


def _show_status(status: AgentStatus) -> None:
    from rich.table import Table

    marks = [mark for mark, on in (("dry-run", status.dry_run), ("paused", status.paused)) if on]
    title = f"{status.name} on {status.network}, round {status.round}"
    console.print(f"{title} {' '.join(marks)}".rstrip(), style="bold", markup=False, soft_wrap=True)
    facts = Table(show_header=False, box=None)
    for name, value in (
        ("node", status.node),
        ("fees earned", f"{format_msat(status.fees_earned_msat)} in {status.forwards} forwards"),
        ("fees paid", format_msat(status.fees_paid_msat)),
        (
            "payments",
            f"{status.payments_settled} settled, {status.payments_failed} failed, "
            f"{status.payments_in_flight} under way",
        ),
        ("attempts", f"{status.attempts}, {status.failed_attempts} failed"),
        ("policy updates", str(status.policy_updates)),
        (
            "hints",
            f"{status.hints_bought} bought for {format_msat(status.hint_costs_msat)}, "
            f"{status.hints_sold} sold for {format_msat(status.hint_income_msat)}",
        ),
        ("forwarding", _forwarding_line(status.forwarding)),
        ("left to it", _delegation_line(status.delegation)),
        (
            "last reward",
            "none yet" if status.last_reward is None else f"{status.last_reward:,.0f} msat",
        ),
        (
            "learned",
            f"fees {status.learner.fee_updates} times, routes {status.learner.route_updates} times",
        ),
    ):
        facts.add_row(name, value)
    console.print(facts)
    channels = Table("channel", "peer", "local", "remote", "ppm", "base msat", "inbound ppm", "")
    for channel in status.channels:
        channels.add_row(
            format_short_channel_id(channel.scid),
            channel.peer_alias or channel.peer[:16],
            format_msat(channel.local_balance_msat),
            format_msat(channel.remote_balance_msat),
            str(channel.fee_rate_ppm),
            str(channel.base_fee_msat),
            str(channel.inbound_fee_rate_ppm),
            "" if channel.active else "inactive",
        )
    console.print(channels)
