"""What all conditions of one seed have in common: the network, who competes, and who pays whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lnagents.env.payments import WorkloadDemand
from lnagents.env.world import RoundPayment, World
from lnagents.evaluate.experiment.families import Split, draw_arena, seed_of
from lnagents.evaluate.live.plan import LivePlan, Scenario
from lnagents.model.errors import ExperimentError
from lnagents.model.payment import Hop, Route
from lnagents.model.topology import RESERVE_FRACTION, Topology
from lnagents.model.units import MSAT_PER_SAT
from lnagents.model.view import ChannelDecision, NodeDecision
from lnagents.model.workload import PaymentIntent

DEAR = ChannelDecision(fee_rate_ppm=5_000, base_fee_msat=5_000)
"""What a competitor asks before it enters: hardly anyone pays that."""
CHEAP = ChannelDecision(fee_rate_ppm=1, base_fee_msat=0)
"""And then."""

KEPT = 2 * RESERVE_FRACTION
"""Share of a channel that is left of the own side when it is drained: LND keeps its reserve, and
what a commitment costs."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """The same for every condition."""

    topology: Topology
    seed: int
    routers: tuple[str, ...]
    """Whose agents are compared; the daemons of all other nodes leave fees as they are."""
    rival: str | None
    """Who enters the market, in the scenario with a competitor."""
    payments: tuple[tuple[RoundPayment, ...], ...]
    """By round."""
    scenario: Scenario
    changes_at: int | None
    learning: tuple[int, ...]
    """Places of the routers that learn on under the condition `online`."""
    method: str
    """How."""


def make_stage(plan: LivePlan, seed: int) -> Stage:
    """The stage of one seed; the same arguments give the same.

    Raises:
        ExperimentError: the family has no topology, or too few routers for a competitor.
    """
    arena = draw_arena(plan.family, Split.HELD_OUT, seed)
    if arena.topology is None:
        raise ExperimentError(plan.name, "family: a testbed cannot be built from it")
    rival = arena.agents[-1] if plan.scenario is Scenario.COMPETITOR else None
    routers = tuple(name for name in arena.agents if name != rival)
    if not routers:
        raise ExperimentError(plan.name, "family: a competitor needs others to compete with")
    payments_seed = seed_of("live", plan.name, seed)
    names = tuple(node.name for node in arena.topology.nodes)
    demand = WorkloadDemand(arena.workload)
    episode = demand.draw(names, plan.rounds, plan.round_seconds, payments_seed)
    return Stage(
        topology=arena.topology.model_copy(update={"name": f"live-{seed}"}),
        seed=payments_seed,
        routers=routers,
        rival=rival,
        payments=tuple(
            tuple(episode.of_round(number).requests(names)) for number in range(plan.rounds)
        ),
        scenario=plan.scenario,
        changes_at=plan.changes_at,
        learning=plan.learning(seed, len(routers)),
        method=plan.method,
    )


def rivals_decision(stage: Stage, world: World, number: int) -> Mapping[str, NodeDecision]:
    """What the competitor does before round `number`, by key; nothing if there is no competitor."""
    if stage.rival is None or number not in (0, stage.changes_at):
        return {}
    key = world.agents[stage.rival]
    channels = [one.scid for one in world.truth() if key in (one.node1, one.node2)]
    wanted = DEAR if number == 0 else CHEAP
    return {key: NodeDecision(dict.fromkeys(channels, wanted))}


def drains(stage: Stage, world: World, number: int) -> list[RoundPayment]:
    """Payments that drain channels before round `number`; none in other scenarios.

    Every second channel of each router, in the topology's order, loses what the router has there
    to the peer: payments of one hop, which cost nothing and depend on nobody.
    """
    if stage.scenario is not Scenario.DRAIN or number != stage.changes_at:
        return []
    names = {key: name for name, key in world.nodes.items()}
    joined = {frozenset((names[one.node1], names[one.node2])): one for one in world.truth()}
    payments: list[RoundPayment] = []
    for router in stage.routers:
        peers = [
            channel.target if channel.source == router else channel.source
            for channel in stage.topology.channels
            if router in (channel.source, channel.target)
        ]
        for peer in peers[1::2]:
            channel = joined[frozenset((router, peer))]
            own = channel.balance1_msat if names[channel.node1] == router else channel.balance2_msat
            left = own - round(KEPT * channel.capacity_msat)
            amount = left // MSAT_PER_SAT * MSAT_PER_SAT
            if amount > 0:
                index = len(payments)
                hop = Hop(channel.scid, world.nodes[peer], amount, 0, 0)
                route = Route((hop,), amount, 0)
                intent = PaymentIntent(index, 0.0, router, peer, amount, 0)
                payments.append(RoundPayment(intent, route=route))
    return payments
