"""`lnagents market`: what sellers offer, buying of them, and what their statements were worth."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lnagents.cli.output import JsonOption, console, print_json, run
from lnagents.model.errors import ConfigError, DocumentInvalidError, InputError, NotForSaleError
from lnagents.model.units import MSAT_PER_SAT, format_msat, format_short_channel_id

if TYPE_CHECKING:
    from lnagents.agent import AgentConfig, AgentControl
    from lnagents.market import Document, Request, Seller
    from lnagents.market.evidence import Finding
    from lnagents.market.scores import SellerScore
    from lnagents.model.graph import ChannelPolicy

FALSE = 3
"""Exit code of `verify` for a statement that is shown to be false."""
UNDECIDABLE = 4
"""Exit code of `verify` for a statement of which nothing can be said."""

_PASS_WORDS = 4
"""Of a question for a pass that names no holder."""

app = typer.Typer(help="Trade in signed routing information over L402.", no_args_is_help=True)

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="Of the seller's Aperture.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Of the seller's node, in hex.")]
QuestionArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="QUESTION...",
        help="`liquidity CHANNEL SOURCE AMOUNT_MSAT`, `commitment CHANNEL SECONDS`,"
        " `route DESTINATION AMOUNT_MSAT`, or `pass CHANNEL AMOUNT_MSAT SECONDS hash|key HOLDER`;"
        " to buy a pass that the agent itself presents, leave out `hash|key HOLDER`.",
    ),
]

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", dir_okay=False, help="The agent's configuration file."),
]
DirectoryOption = Annotated[
    Path | None,
    typer.Option("--data-directory", "-d", help="The agent's data directory, instead."),
]


@app.command()
def find(
    config: Annotated[
        Path, typer.Option("--config", "-c", dir_okay=False, help="Whose node to ask: an agent's.")
    ],
    json: JsonOption = False,
) -> None:
    """Sellers that announce themselves and answer. Free.

    A seller's operator announces it with `lncli peers updatenodeannouncement
    --feature_bit_add=853 --address_add=HOST:PORT`, of its Aperture.
    """
    from lnagents.agent import load_config
    from lnagents.lnd import LndClient, LndEndpoint
    from lnagents.market import Browser, find_sellers

    lnd = load_config(config).lnd

    async def work() -> tuple[Seller, ...]:
        endpoint = LndEndpoint(lnd.address, lnd.tls_certificate, lnd.macaroon)
        async with LndClient(endpoint) as node, Browser() as browser:
            return await find_sellers(node, browser.catalogue)

    sellers = run(work())
    if json:
        print_json([{"url": one.url, "key": one.key} for one in sellers])
        return
    for one in sellers:
        console.print(f"{one.url} {one.key}", markup=False, highlight=False, soft_wrap=True)


@app.command("list")
def list_offers(url: UrlArgument, key: KeyArgument, json: JsonOption = False) -> None:
    """What a seller offers now, and at what prices. Free."""
    from lnagents.market import Browser, Catalogue, Product
    from lnagents.market.paths import PASS_UNIT_MSAT, PASS_UNIT_SECONDS

    seller = _seller(url, key)

    async def work() -> Catalogue:
        async with Browser() as browser:
            return await browser.catalogue(seller)

    catalogue = run(work())
    if json:
        print_json(catalogue.model_dump())
        return
    table = Table("product", "channel", "peer", box=None, pad_edge=False)
    table.add_column("price, sat", justify="right")
    for offer in catalogue.offers:
        table.add_row(offer.product, offer.channel, offer.peer[:16], str(offer.price_sat))
    console.print(table)
    console.print(
        f"Answers divide a channel into {catalogue.bands} parts and hold for"
        f" {catalogue.valid_seconds:g} s; promises for up to {catalogue.max_seconds} s,"
        f" quoted prices for {catalogue.quote_seconds:g} s.",
        highlight=False,
    )
    if (terms := catalogue.forwarding) is not None:
        console.print(
            f"Finds the rest of a way for {format_msat(terms.base_fee_msat)} and"
            f" {terms.fee_rate_ppm} ppm beyond what it costs, up to"
            f" {format_msat(terms.max_amount_msat)} and {terms.max_hops} channels.",
            highlight=False,
        )
    if any(offer.product == Product.PASS.value for offer in catalogue.offers):
        unit = f"{format_msat(PASS_UNIT_MSAT)} and each {PASS_UNIT_SECONDS} s"
        console.print(f"A pass costs its price for each {unit} begun.", highlight=False)


@app.command("forward")
def forward_quote(
    url: UrlArgument,
    key: KeyArgument,
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="A node's key.")],
    amount_msat: Annotated[int, typer.Argument(metavar="AMOUNT_MSAT", help="What arrives there.")],
    final_cltv_delta: Annotated[
        int, typer.Option(help="Blocks that the destination's invoice asks for.")
    ] = 80,
    json: JsonOption = False,
) -> None:
    """What an agent asks for to find the rest of a way; see `lnagents agent pay --delegate`. Free.

    It is paid by the payment itself, and only if that arrives.
    """
    from lnagents.market import Browser
    from lnagents.market.documents import ForwardQuote
    from lnagents.market.forwarding import ForwardRequest, parse_forward_path

    seller = _seller(url, key)
    try:
        request = parse_forward_path(
            ForwardRequest(destination, amount_msat, final_cltv_delta).path()
        )
    except NotForSaleError as exc:
        raise InputError("DESTINATION, AMOUNT_MSAT", str(exc)) from exc

    async def work() -> ForwardQuote:
        async with Browser() as browser:
            return await browser.forward_quote(seller, request)

    made = run(work())
    if json:
        print_json(asdict(made) | {"seal": made.seal.hex()})
        return
    console.print(
        f"{format_msat(made.fee_msat)} for another {made.expires_at - time.time():.0f} s",
        highlight=False,
    )


@app.command()
def quote(
    url: UrlArgument, key: KeyArgument, question: QuestionArgument, json: JsonOption = False
) -> None:
    """The price of one answer, which the seller holds until the quote expires. Free."""
    from lnagents.market import Browser, Quote

    seller, request = _seller(url, key), _request(question)

    async def work() -> Quote:
        async with Browser() as browser:
            return await browser.quote(seller, request)

    made = run(work())
    if json:
        print_json(made.model_dump())
        return
    left = made.expires_at - time.time()
    console.print(
        f"{made.price_sat} sat for another {left:.0f} s, under\n{made.path}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def buy(
    url: UrlArgument,
    key: KeyArgument,
    question: QuestionArgument,
    config: ConfigOption = None,
    data_directory: DirectoryOption = None,
    max_price_sat: Annotated[
        int | None,
        typer.Option(min=1, help="The most to pay; without it, what the agent's budget allows."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Buy also if an answer to this question still holds.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds.")] = 60.0,
    out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Where to write the signed document; without it, in the agent's data directory.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Buy one answer through a running agent: its node pays, within its budgets.

    The same question to the same seller is paid for once as long as the answer holds, however often
    it is asked. What was paid for and did not come, because the seller or the agent failed, is
    collected by the same command later, or by the agent when it starts again.
    """
    from lnagents.agent import AgentControl, PurchaseReport
    from lnagents.market import Product, open_document

    seller, where = _seller(url, key), _directory(config, data_directory)
    own = question[0] == Product.PASS.value and len(question) == _PASS_WORDS
    if not own:
        _request(question)

    async def work() -> PurchaseReport:
        async with AgentControl(where) as agent:
            request = _request([*question, *(await _own_holder(agent) if own else ())])
            return await agent.buy(
                seller.url,
                seller.key,
                request.path(),
                max_price_msat=None if max_price_sat is None else max_price_sat * MSAT_PER_SAT,
                again=again,
                timeout=timeout,
            )

    report = run(work())
    statement = open_document(report.document)
    path = out or where / "documents" / f"{report.nonce}.signed"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(report.document)
    except OSError as exc:
        problem = f"cannot be written ({exc.strerror}); the agent keeps the document"
        raise InputError(str(path), problem) from exc
    if json:
        print_json(
            {
                "nonce": report.nonce,
                "price_msat": report.price_msat,
                "paid_now": report.paid_now,
                "document": _facts(statement),
                "file": str(path),
            }
        )
        return
    paid = "paid" if report.paid_now else "nothing paid now; it had cost"
    console.print(f"{paid} {format_msat(report.price_msat)}", markup=False, highlight=False)
    _print_facts(statement)
    console.print(f"kept in {path}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def verify(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="A signed document, or evidence in JSON: a document and what its issuer signed"
            " later.",
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            dir_okay=False,
            help="An agent's configuration: ask its node what gossip says, too. That convinces"
            " who trusts this node; a signed channel_update convinces everybody.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Whether a signed statement was true: true (exit code 0), false (3) or not decidable (4).

    A forged or damaged document is bad input (2). Without --config this needs no node and no
    network: the issuer's key and signatures are in the file.
    """
    from lnagents.agent import load_config
    from lnagents.market.evidence import Verdict, judge_evidence, judge_policy, read_evidence

    try:
        document, updates = read_evidence(file.read_bytes())
        statement, finding = judge_evidence(document, updates)
    except DocumentInvalidError as exc:
        raise InputError(str(file), str(exc)) from exc
    if finding.verdict is not Verdict.FALSE and config is not None:
        policy = run(_policy(load_config(config), statement))
        finding = judge_policy(statement, policy, time.time())
    if json:
        print_json(_finding_document(statement, finding))
    else:
        console.print(f"{finding.verdict.value}: {finding.reason}", markup=False, soft_wrap=True)
        _print_facts(statement)
    if finding.verdict is not Verdict.TRUE:
        raise typer.Exit(FALSE if finding.verdict is Verdict.FALSE else UNDECIDABLE)


@app.command()
def score(
    config: ConfigOption = None,
    data_directory: DirectoryOption = None,
    evidence: Annotated[
        Path | None,
        typer.Option(help="A folder to write evidence of broken promises to, for `verify`."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """How good the information of an agent's sellers was; the agent may be running."""
    from lnagents.agent.scores import STORE_NAME, read_scores

    scores, broken = read_scores(_directory(config, data_directory) / STORE_NAME)
    written = []
    if evidence is not None:
        evidence.mkdir(parents=True, exist_ok=True)
        for number, (seller, text) in enumerate(broken, start=1):
            path = evidence / f"{seller[:16]}-{number}.json"
            path.write_text(text)
            written.append(str(path))
    if json:
        print_json(
            {
                "sellers": [_score_document(one) for one in scores.values()],
                "evidence": written,
            }
        )
        return
    table = Table("seller", "product", box=None, pad_edge=False)
    for title in ("tested", "Brier", "without", "skill", "promises kept", "broken"):
        table.add_column(title, justify="right")
    table.add_column("")
    for one in scores.values():
        table.add_row(
            one.seller[:16],
            one.product.value,
            str(one.outcomes),
            "" if one.brier is None else f"{one.brier:.3f}",
            "" if one.prior_brier is None else f"{one.prior_brier:.3f}",
            f"{one.skill:.2f}",
            str(one.kept_promises),
            str(one.broken_promises),
            "" if one.helps else "dropped",
        )
    console.print(table)
    for path_text in written:
        console.print(path_text, markup=False, soft_wrap=True)


def _directory(config: Path | None, data_directory: Path | None) -> Path:
    """The data directory of the agent that the options name."""
    from lnagents.agent import load_config

    if data_directory is not None and config is None:
        return data_directory
    if config is None or data_directory is not None:
        raise InputError("--config and --data-directory", "take one of the two")
    return load_config(config).data_directory


def _seller(url: str, key: str) -> Seller:
    import re

    from lnagents.market import Seller

    if not re.fullmatch(r"https?://[^/\s]+/?", url):
        raise InputError("URL", f"{url!r} is not http(s)://HOST:PORT without a path")
    if not re.fullmatch(r"0[23][0-9a-f]{64}", key):
        raise InputError("KEY", f"{key!r} is not a node's key")
    return Seller(url, key)


def _request(question: list[str]) -> Request:
    from lnagents.market import new_nonce
    from lnagents.market.paths import ask

    try:
        return ask(question, new_nonce())
    except NotForSaleError as exc:
        raise InputError("QUESTION", str(exc)) from exc


async def _own_holder(agent: AgentControl) -> tuple[str, str]:
    """The words that have a pass bound to the agent."""
    key = (await agent.status()).pass_key
    if not key:
        raise InputError("QUESTION", "in dry-run the agent has no key for passes; name the HOLDER")
    return "key", key


async def _policy(config: AgentConfig, statement: Document) -> ChannelPolicy | None:
    """The issuer's policy as the agent's node has it; None: it has none."""
    from lnagents.lnd import LndClient, LndEndpoint
    from lnagents.market import FeeCommitment
    from lnagents.model.errors import NotFoundError

    if not isinstance(statement, FeeCommitment):
        return None
    lnd = config.lnd
    async with LndClient(LndEndpoint(lnd.address, lnd.tls_certificate, lnd.macaroon)) as node:
        try:
            channel = await node.channel(statement.scid)
            return channel.edge_from(statement.issuer).policy
        except NotFoundError:
            return None
        except ValueError as exc:
            raise ConfigError(str(config.name), f"its node says: {exc}") from exc


def _facts(statement: Document) -> dict[str, Any]:
    """The statement's fields, channels in the form that people know."""
    facts: dict[str, Any] = {"kind": type(statement).__name__, **asdict(statement)}
    if "scid" in facts:
        facts["scid"] = format_short_channel_id(facts["scid"])
    for hop in facts.get("hops", ()):
        hop["scid"] = format_short_channel_id(hop["scid"])
    return facts


def _print_facts(statement: Document) -> None:
    for name, value in _facts(statement).items():
        console.print(f"  {name} {value}", markup=False, highlight=False, soft_wrap=True)


def _finding_document(statement: Document, finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict.value,
        "reason": finding.reason,
        "document": _facts(statement),
    }


def _score_document(score: SellerScore) -> dict[str, Any]:
    return {
        "seller": score.seller,
        "product": score.product.value,
        "outcomes": score.outcomes,
        "brier": score.brier,
        "prior_brier": score.prior_brier,
        "skill": score.skill,
        "kept_promises": score.kept_promises,
        "broken_promises": score.broken_promises,
        "helps": score.helps,
    }
