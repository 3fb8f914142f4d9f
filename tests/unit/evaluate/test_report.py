"""The report is one page that fetches nothing, and says what the JSON says."""

import json
import re
from pathlib import Path

from lnagents.evaluate.market_page import market_section, prices
from lnagents.evaluate.record import (
    AgentSummary,
    EdgeSample,
    ForwardSample,
    NetworkSample,
    RunRecord,
)
from lnagents.evaluate.report import Experiment, write_report
from lnagents.evaluate.trades import MarketRecord, PriceChange, SellerFigures, Trade
from lnagents.model.payment import PaymentOutcome
from lnagents.model.topology import parse_topology

TOPOLOGY = parse_topology(
    "name: tiny\nnodes: [{name: ann}, {name: ben}]\n"
    "channels: [{from: ann, to: ben, capacity_sat: 1000000}]\nsellers: [{node: ben}]\n",
    "tiny.yaml",
)


def record(name: str, fee_msat: int) -> RunRecord:
    run = RunRecord(name=name, title=f"<{name}>")
    run.outcomes = [
        PaymentOutcome(i, "ann", "ben", 50_000, i != 3, fee_msat, 1, int(i == 3), i * 1.0, 0.1)
        for i in range(10)
    ]
    edge = EdgeSample(1 << 40, "ben", 400_000_000, 1_000_000_000, 10, 1_000)
    run.samples = [NetworkSample(float(t), {"ann": (edge,)}) for t in range(3)]
    run.forwards = [ForwardSample("ben", 1.0, fee_msat, 50_000)]
    run.audit = {"difference_sat": 0}
    return run


MARKET = MarketRecord(
    trades=(
        Trade(1.0, "ann", "ben", "liquidity", 2_000),
        Trade(3.0, "ann", "ben", "liquidity", 4_000),
        Trade(4.0, "ann", "<b>", "route", 3_000),
    ),
    prices=(
        PriceChange(-1.0, "ben", "liquidity", 2),
        PriceChange(2.0, "ben", "liquidity", 4),
        PriceChange(-1.0, "ben", "commitment", 9),
    ),
    scores=(SellerFigures("ann", "ben", "liquidity", 2, 0.125, 0.5, 0.875, 3, 1),),
    weighed=12,
)


def experiment() -> Experiment:
    agents = record("agents", 2_000)
    agents.market = MARKET
    agents.agents = [AgentSummary("ann", 5, 2, 0, 10, 9, 1, 1, 1, 2_000, 0, 0, -10.0, (-4.0, -6.0))]
    return Experiment(
        TOPOLOGY, "default", "native", 7, record("baseline", 1_000), agents, {"lnd": "0.21.1"}
    )


def test_the_page_is_self_contained_and_complete(tmp_path: Path) -> None:
    page, _ = write_report(experiment(), tmp_path)
    html = page.read_text(encoding="utf-8")
    outside = re.sub(r"<script>.*?</script>", "", html, count=1, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']https?:""", outside)
    assert html.count('class="plotly-graph-div"') == 9
    assert "&lt;agents&gt;" in outside  # titles are escaped, never markup
    for needed in (
        "Payments settled",
        "difference of 0 sat",
        "seed 7",
        "lnd 0.21.1",
        "1 (2.00 sat)",
    ):
        assert needed in outside


def test_the_document_is_strict_json_with_both_runs(tmp_path: Path) -> None:
    _, data = write_report(experiment(), tmp_path)
    document = json.loads(data.read_text(encoding="utf-8"), parse_constant=lambda text: 1 / 0)
    assert document["seed"] == 7
    assert set(document["runs"]) == {"baseline", "agents"}
    assert len(document["runs"]["agents"]["outcomes"]) == 10
    fees = next(row for row in document["comparison"] if row["key"] == "routing_fees_sat")
    assert (fees["baseline"], fees["agents"], fees["verdict"]) == (9.0, 18.0, "better")


def test_the_market_is_on_the_page_and_in_the_document(tmp_path: Path) -> None:
    page, data = write_report(experiment(), tmp_path)
    html = page.read_text(encoding="utf-8")
    for needed in (
        "weighed 12 times",
        "bought 3 times (liquidity 2, route 1) for 9.00 sat",
        "<td>ben</td><td>liquidity</td><td>2</td><td>6.00</td><td>3.00</td><td>ann</td>",
        "<td>ann</td><td>9.00</td><td>0.00</td><td>-9.00</td>",
        "<td>2</td><td>0.125</td><td>0.500</td><td>0.88</td><td>3 / 1</td>",
    ):
        assert needed in html
    assert "<td><b></td>" not in html
    market = json.loads(data.read_text(encoding="utf-8"))["runs"]["agents"]["market"]
    assert len(market["trades"]) == 3
    lines = [trace for trace in prices(MARKET).data if trace.mode == "lines"]
    assert {line.name for line in lines} == {"ben: liquidity", "ben: commitment"}
    # A price holds until the end of what is shown.
    assert (list(lines[0].x), list(lines[0].y)) == ([0.0, 2.0, 4.0], [2, 4, 4])


def test_a_run_without_trade_says_so() -> None:
    parts = market_section(MarketRecord(weighed=1))
    assert "bought none" in "".join(parts)
    assert "<table" not in "".join(parts)


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    write_report(experiment(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
