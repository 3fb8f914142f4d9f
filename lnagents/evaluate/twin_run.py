"""One run of payments in the twin, summed up beside the best that could have been."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lnagents.model.errors import WorkloadError
from lnagents.model.units import Msat
from lnagents.model.workload import draw_payments, parse_workload
from lnagents.testbed.data import read_named
from lnagents.twin.demand import draw_traffic, to_traffic
from lnagents.twin.network import Network
from lnagents.twin.settings import TwinSettings
from lnagents.twin.simulator import Twin
from lnagents.twin.success_bound import success_bound
from lnagents.twin.traffic import Traffic


@dataclass(frozen=True, slots=True)
class TwinRun:
    """What became of the payments; amounts in msat."""

    nodes: int
    channels: int
    payments: int
    settled: int
    offered_msat: Msat
    settled_msat: Msat
    bound_msat: Msat | None
    """What perfect knowledge could have delivered at most; None if it was not asked for."""
    fees_msat: Msat
    attempts: int
    failed_attempts: int

    def to_json(self) -> dict[str, Any]:
        """The same, and shares of it."""
        bound = self.bound_msat
        return {
            **asdict(self),
            "settled_share": self.settled / self.payments,
            "settled_volume_share": self.settled_msat / self.offered_msat,
            "share_of_bound": self.settled_msat / bound if bound else None,
        }


def find_traffic(
    network: Network, workload: str | None, count: int, seed: int, *, max_parts: int = 1
) -> Traffic:
    """The first `count` payments of a workload, or between random nodes if it is None.

    Args:
        network: whose nodes pay.
        workload: a file, or the name of one that comes along.
        count: how many payments.
        seed: of all that is drawn.
        max_parts: of each payment.

    Raises:
        WorkloadError: the workload does not exist, is wrong, or names nodes that do not.
    """
    if workload is None:
        return draw_traffic(network, count, seed, max_parts=max_parts)
    text, source = read_named("workloads", workload, WorkloadError)
    parsed = parse_workload(text, source)
    parsed.check_nodes(set(network.names), "the network", source)
    return to_traffic(draw_payments(parsed, count, seed), network, max_parts=max_parts)


def run_in_twin(
    network: Network,
    traffic: Traffic,
    settings: TwinSettings | None = None,
    *,
    seed: int = 0,
    bound: bool = True,
) -> TwinRun:
    """Let LND's own senders make the payments in a twin of `network`.

    Args:
        network: at the start.
        traffic: one payment or more.
        settings: of the twin; None takes its defaults.
        seed: of what LND itself chooses at random.
        bound: whether to compute what could have been delivered at most.
    """
    settings = settings or TwinSettings()
    outcomes = Twin(network, settings, seed=seed).run(traffic)
    settled = outcomes.settled
    best = success_bound(network, traffic, settings.commitment).volume_msat if bound else None
    return TwinRun(
        nodes=network.nodes,
        channels=network.channels,
        payments=len(traffic),
        settled=int(settled.sum()),
        offered_msat=int(traffic.amount.sum()),
        settled_msat=int(traffic.amount[settled].sum()),
        bound_msat=best,
        fees_msat=int(outcomes.fee[settled].sum()),
        attempts=int(outcomes.attempts.sum()),
        failed_attempts=int(outcomes.failed_attempts.sum()),
    )
