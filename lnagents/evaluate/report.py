"""A report of two runs: one HTML page that needs nothing else, and the same as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from lnagents import __version__
from lnagents.evaluate import figures as draw
from lnagents.evaluate.market_page import market_section
from lnagents.evaluate.page import chart, number, page, table, write_whole
from lnagents.evaluate.record import AgentSummary, RunRecord
from lnagents.evaluate.summary import Comparison, compare, figures
from lnagents.model.topology import Topology
from lnagents.model.units import MSAT_PER_SAT


@dataclass(frozen=True, slots=True)
class Experiment:
    """All that a report tells."""

    topology: Topology
    workload: str
    backend: str
    seed: int
    baseline: RunRecord
    agents: RunRecord
    versions: dict[str, str]

    @property
    def runs(self) -> tuple[RunRecord, RunRecord]:
        """Both runs, the baseline first."""
        return self.baseline, self.agents

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The runs held against each other, the same at every call."""
        return compare(self.baseline, self.agents, self.seed)

    @property
    def names(self) -> list[str]:
        """The nodes, in the topology's order."""
        return [node.name for node in self.topology.nodes]


def write_report(experiment: Experiment, directory: Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into `directory`; returns both paths.

    Blocking; each file appears whole or not at all.
    """
    directory.mkdir(parents=True, exist_ok=True)
    comparisons = experiment.comparisons
    html, data = directory / "report.html", directory / "report.json"
    write_whole(html, to_html(experiment, comparisons))
    write_whole(data, _json(to_document(experiment, comparisons)))
    return html, data


def to_document(experiment: Experiment, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The whole experiment as plain data, with every outcome and sample."""
    return {
        "lnagents": __version__,
        "versions": experiment.versions,
        "topology": experiment.topology.model_dump(mode="json", by_alias=True),
        "workload": experiment.workload,
        "backend": experiment.backend,
        "seed": experiment.seed,
        "comparison": [asdict(row) | {"verdict": row.verdict} for row in comparisons],
        "runs": {
            run.name: {"figures": figures(run)} | asdict(run) for run in experiment.runs
        },
    }  # fmt: skip


def summarise(comparisons: Sequence[Comparison]) -> str:
    """What came out, in plain sentences, better or worse."""
    parts = []
    for row in comparisons:
        if row.verdict == "no clear difference":
            continue
        direction = "rose" if row.difference > 0 else "fell"
        unit = f" {row.unit}" if row.unit else ""
        parts.append(
            f"{row.title} ({row.unit or 'count'}) {direction} from {number(row.baseline)} to "
            f"{number(row.agents)}{unit}, which is {row.verdict}."
        )
    if not parts:
        return "The agents and LND's defaults cannot be told apart in this run."
    return " ".join(parts)


def to_html(experiment: Experiment, comparisons: Sequence[Comparison]) -> str:
    """The page; plotly's script is inside it, nothing is fetched."""
    agents, names = experiment.agents, experiment.names
    learning = [agent.name for agent in agents.agents]
    charts: list[tuple[str, str, go.Figure]] = [
        ("Success over time", "", draw.success(experiment.runs)),
        (
            "Fees over time",
            "From the nodes' own forwarding ledgers. What routers earn here is what senders pay.",
            draw.fees(experiment.runs),
        ),
        ("Who earned it", "", draw.income(experiment.runs, names)),
        (
            "Policies the agents chose",
            "Each panel is a node, each line the fee rate it asks on one of its channels.",
            draw.policies(agents.samples, learning),
        ),
        (
            "Channel balances with agents",
            "Share of each channel on the node's own side.",
            draw.balances(agents.samples, names),
        ),
        (
            "Channel balances with LND's defaults",
            "",
            draw.balances(experiment.baseline.samples, names),
        ),
        ("Reward of each agent", "As in the agents' own books.", draw.rewards(agents)),
    ]
    body = [
        "<h1>Lightning agents against LND's defaults</h1>",
        _facts(experiment),
        f'<p class="summary">{escape(summarise(comparisons))}</p>',
        "<h2>Both runs</h2>",
        _comparison_table(comparisons),
        '<p class="note">Both runs make the same payments on the same network, restored to '
        "the same state in between. The interval resamples the paired payments; it does not cover "
        "that a whole run could come out otherwise, for which several seeds are needed. Routers "
        "and senders are agents of one network: fees move satoshi between them.</p>",
        "<h2>The network</h2>",
        chart(draw.network(experiment.topology), "network"),
        "<h2>The agents</h2>",
        _agent_table(agents.agents),
    ]
    for index, (title, note, figure) in enumerate(charts):
        body.append(f"<h2>{escape(title)}</h2>")
        if note:
            body.append(f'<p class="note">{escape(note)}</p>')
        body.append(chart(figure, f"chart-{index}"))
    body += ["<h2>The market</h2>", *market_section(agents.market)]
    body += ["<h2>Money</h2>", _audit(experiment)]
    return page("lnagents report", body)


def _facts(experiment: Experiment) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in experiment.versions.items())
    facts = (
        f"{len(experiment.agents.outcomes)} payments (workload {experiment.workload}) on topology "
        f"{experiment.topology.name}: {len(experiment.topology.nodes)} nodes, "
        f"{len(experiment.topology.channels)} channels, backend {experiment.backend}, "
        f"seed {experiment.seed}. {versions}."
    )
    return f'<p class="facts">{escape(facts)}</p>'


def _comparison_table(comparisons: Sequence[Comparison]) -> str:
    rows = [
        (
            escape(f"{row.title}, {row.unit}" if row.unit else row.title),
            number(row.baseline),
            number(row.agents),
            f"{'+' if row.difference > 0 else ''}{number(row.difference)}",
            f"{number(row.low)} … {number(row.high)}",
            f'<span class="{row.verdict.replace(" ", "-")}">{row.verdict}</span>',
        )
        for row in comparisons
    ]
    head = ("", "LND's defaults", "agents", "difference", "95 % interval", "with agents")
    return table(head, rows)


def _agent_table(agents: Sequence[AgentSummary]) -> str:
    rows = [
        (
            escape(agent.name),
            f"{agent.rounds:,}",
            f"{agent.policy_updates:,}",
            number(agent.fees_earned_msat / MSAT_PER_SAT),
            number(agent.fees_paid_msat / MSAT_PER_SAT),
            f"{agent.payments_settled:,} / {agent.payments_settled + agent.payments_failed:,}",
            f"{agent.failed_attempts:,}",
            f"{agent.hints_bought:,} ({number(agent.hint_costs_msat / MSAT_PER_SAT)} sat)",
            f"{agent.hints_sold:,} ({number(agent.hint_income_msat / MSAT_PER_SAT)} sat)",
            number(agent.reward_total / MSAT_PER_SAT),
        )
        for agent in agents
    ]
    head = (
        "agent", "rounds", "fee updates", "earned, sat", "paid, sat", "payments settled",
        "failed attempts", "hints bought", "hints sold", "reward, sat",
    )  # fmt: skip
    return table(head, rows)


def _audit(experiment: Experiment) -> str:
    parts = [
        f"After the run “{run.title}” all channel balances, wallets, fees and on-chain costs add "
        f"up with a difference of {run.audit.get('difference_sat', '?')} sat."
        for run in experiment.runs
    ]
    return f"<p>{escape(' '.join(parts))}</p>"


def _json(document: dict[str, Any]) -> str:
    return json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN: a figure that a run has no data for is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
