"""What people see while a demo runs, and its result as a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lnagents.agent import AgentStatus
from lnagents.evaluate.record import NetworkSample, RunRecord
from lnagents.evaluate.summary import Comparison
from lnagents.model.units import MSAT_PER_SAT, Msat

BAR_CELLS = 8
"""Width of a channel's balance in the live table."""


class DemoView:
    """A live table on `console`; on anything but a terminal it prints one line per step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._phase = ""
        self._began = time.monotonic()

    def __enter__(self) -> DemoView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def phase(self, text: str) -> None:
        """Print the step with the time since the start; it stays on the screen."""
        self._phase = text
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {text}")
        self._live.update(Text(""))

    def progress(self, text: str) -> None:
        """Show what the step is doing; the next text replaces it."""
        self._live.update(Text(f"          {text}", style="dim"))

    def sample(self, record: RunRecord, asked: int, statuses: dict[str, AgentStatus]) -> None:
        """Draw the run as it stands."""
        self._live.update(Group(_headline(record, asked), _table(record, statuses)))


def _sat(amount: Msat) -> str:
    return f"{amount / MSAT_PER_SAT:,.1f}"


def _headline(record: RunRecord, asked: int) -> RenderableType:
    outcomes = record.outcomes
    settled = [outcome for outcome in outcomes if outcome.settled]
    share = f"{100 * len(settled) / len(outcomes):.1f} %" if outcomes else "–"
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text(record.title, style="bold"),
        ProgressBar(total=asked, completed=len(outcomes), width=30),
        f"{len(outcomes)}/{asked} payments",
        f"settled {share}",
        f"fees paid {_sat(sum(outcome.fee_msat for outcome in settled))} sat",
    )
    return line


def _table(record: RunRecord, statuses: dict[str, AgentStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    latest = record.samples[-1] if record.samples else NetworkSample(0.0, {})
    table.add_column("node")
    if statuses:
        for title in ("round", "earned", "paid", "settled", "updates", "hints +/-", "reward"):
            table.add_column(title, justify="right")
    table.add_column("channels: local share and fee rate")
    for name in latest.edges:
        cells = [name]
        if statuses:
            cells += _agent_cells(statuses[name]) if name in statuses else [""] * 7
        table.add_row(*cells, _channels(latest, name))
    return table


def _agent_cells(status: AgentStatus) -> list[str]:
    tried = status.payments_settled + status.payments_failed
    return [
        str(status.round),
        _sat(status.fees_earned_msat),
        _sat(status.fees_paid_msat),
        f"{status.payments_settled}/{tried}",
        str(status.policy_updates),
        f"{status.hints_bought}/{status.hints_sold}",
        "–" if status.last_reward is None else _sat(round(status.last_reward)),
    ]


def _channels(sample: NetworkSample, name: str) -> Text:
    text = Text()
    for edge in sample.edges[name]:
        filled = round(BAR_CELLS * edge.local_share)
        text.append(f"{edge.peer} ")
        text.append("█" * filled, style="green")
        text.append("░" * (BAR_CELLS - filled), style="dim")
        text.append(f" {edge.fee_rate_ppm} ppm   ")
    return text


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Both runs side by side."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in ("LND's defaults", "agents", "difference", "95 % interval"):
        table.add_column(title, justify="right")
    table.add_column("with agents")
    styles = {"better": "green", "worse": "red"}
    for row in comparisons:
        table.add_row(
            f"{row.title}, {row.unit}" if row.unit else row.title,
            f"{row.baseline:,.2f}",
            f"{row.agents:,.2f}",
            f"{row.difference:+,.2f}",
            f"{row.low:,.2f} … {row.high:,.2f}",
            Text(row.verdict, style=styles.get(row.verdict, "dim")),
        )
    return table
