"""The report is one page that fetches nothing, and says what the JSON says."""

import json
import re
from pathlib import Path

from lnagents.evaluate.record import (
    AgentSummary,
    EdgeSample,
    ForwardSample,
    NetworkSample,
    RunRecord,
)
from lnagents.evaluate.report import Experiment, write_report
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


def experiment() -> Experiment:
    agents = record("agents", 2_000)
    agents.agents = [AgentSummary("ann", 5, 2, 0, 10, 9, 1, 1, 1, 2_000, 0, 0, -10.0, (-4.0, -6.0))]
    return Experiment(
        TOPOLOGY, "default", "native", 7, record("baseline", 1_000), agents, {"lnd": "0.21.1"}
    )


def test_the_page_is_self_contained_and_complete(tmp_path: Path) -> None:
    page, _ = write_report(experiment(), tmp_path)
    html = page.read_text(encoding="utf-8")
    outside = re.sub(r"<script>.*?</script>", "", html, count=1, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']https?:""", outside)
    assert html.count('class="plotly-graph-div"') == 8
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


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    write_report(experiment(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
