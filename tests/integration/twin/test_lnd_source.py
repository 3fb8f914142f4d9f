"""The twin's mission control, estimators and route search beside LND's own code.

Live nodes show that a whole payment goes as it goes on LND. Here the parts are asked directly, far
more often and about more: parallel channels, every failure code, settings that nobody uses.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from lnagents.twin.commitment import make_liquidity
from lnagents.twin.gossip import make_gossip
from lnagents.twin.memory import NEVER, Memory, load_sender, make_memory, results_of
from lnagents.twin.mission import report_failure, report_success
from lnagents.twin.probability import edge_probability
from lnagents.twin.search import NO_BALANCE, NO_PATH, find_route
from lnagents.twin.settings import CommitmentSettings, GossipSettings
from lnagents.twin.space import TIES, make_search_space
from tests.integration.twin.lnd_source.oracle import Oracle
from tests.integration.twin.lnd_source.scenarios import (
    HEIGHT,
    NANOSECONDS,
    Scenario,
    draw_scenario,
)

SCENARIOS = 400
NO_ROUTES = {
    NO_PATH: "unable to find a path to destination",
    NO_BALANCE: "insufficient local balance",
}
ULPS = 1e-9
"""Go's exp and pow are other approximations than those of the C library."""
MICROSECOND = 1e-6
"""The twin's times are floating-point numbers."""

Route = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], str]
"""Channels, amounts, expiries, or why there is none."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asked(
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[Scenario, Memory, dict[str, Any]]]:
    """Scenarios, what the twin's senders learned in them, and LND's answers."""
    directory: Path = tmp_path_factory.mktemp("oracle")
    oracle = await Oracle.build(directory)
    scenarios = [draw_scenario(seed) for seed in range(SCENARIOS)]
    answers = oracle.ask([scenario.question for scenario in scenarios])
    memories = [_learn(*pair) for pair in zip(scenarios, answers, strict=True)]
    return list(zip(scenarios, memories, answers, strict=True))


def _learn(scenario: Scenario, answer: dict[str, Any]) -> Memory:
    """Tell the twin what LND was told, and see that it draws the same conclusions for payments."""
    network = scenario.network
    memory = make_memory(network.nodes)
    numbers = scenario.settings.numbers()
    edges = {pair: edge for edge, pair in _edges(scenario)}
    steps = scenario.question["Steps"]
    for step, reason in zip(steps, answer["Reasons"] or [], strict=True):
        nodes = step["Nodes"]
        sender, hops, now = nodes[0], len(nodes) - 1, step["Now"] / NANOSECONDS
        route = np.array([edges[pair] for pair in itertools.pairwise(nodes)], np.int32)
        amounts = np.array(step["Amounts"], dtype=np.int64)
        told = (memory, numbers, network.channel_nodes, sender, route, amounts, hops)
        if step["FailedAt"] < 0:
            report_success(*told, now)
        else:
            assert report_failure(*told, step["FailedAt"], step["Code"], now) == reason, step
    return memory


def _edges(scenario: Scenario) -> Iterator[tuple[int, tuple[int, int]]]:
    network = scenario.network
    pairs = zip(network.edge_source().tolist(), network.edge_target().tolist(), strict=True)
    return enumerate(pairs)


def test_senders_remember_the_same(
    asked: list[tuple[Scenario, Memory, dict[str, Any]]],
) -> None:
    compared = 0
    for _, memory, answer in asked:
        theirs = sorted(tuple(result.values()) for result in answer["Results"] or [])
        ours = sorted(
            (sender, *result)
            for sender in range(len(memory.sender_first))
            for result in results_of(memory, sender)
        )
        assert len(ours) == len(theirs)
        for mine, its in zip(ours, theirs, strict=True):
            sender, source, target, failed_at, failed, succeeded_at, succeeded = mine
            assert (sender, source, target, failed, succeeded) == (*its[:3], its[4], its[6])
            for at, nanoseconds in ((failed_at, its[3]), (succeeded_at, its[5])):
                expected = NEVER if nanoseconds < 0 else nanoseconds / NANOSECONDS
                assert at == expected or abs(at - expected) < MICROSECOND
            compared += 1
    assert compared > 10 * SCENARIOS


def test_senders_expect_the_same(asked: list[tuple[Scenario, Memory, dict[str, Any]]]) -> None:
    seen = set()
    for scenario, memory, answer in asked:
        numbers = scenario.settings.numbers()
        asks = scenario.question["Asks"]
        for ask, expected in zip(asks, answer["Probabilities"], strict=True):
            load_sender(memory, ask["Sender"])
            probability = edge_probability(
                memory,
                numbers,
                ask["Sender"],
                ask["From"],
                ask["To"],
                ask["Amount"],
                ask["CapacitySat"] * 1_000,
                ask["Now"] / NANOSECONDS,
            )
            assert probability == pytest.approx(expected, abs=ULPS), ask
            seen.add(round(expected, 3))
    assert len(seen) > 100


@pytest.mark.parametrize("exhaustive", [True, False])
def test_senders_find_the_same_routes(
    asked: list[tuple[Scenario, Memory, dict[str, Any]]], exhaustive: bool
) -> None:
    found = ties = asked_for = 0
    differing = []
    for number, (scenario, memory, answer) in enumerate(asked):
        network = scenario.network
        space = make_search_space(network)
        gossip = make_gossip(network, GossipSettings())
        liquidity = make_liquidity(network, CommitmentSettings())
        queries = scenario.question["Queries"]
        for query, routes in zip(queries, answer["Routes"], strict=True):
            hops = find_route(
                space,
                gossip,
                liquidity,
                memory,
                scenario.settings.numbers(),
                query["Sender"],
                query["Target"],
                query["Amount"],
                query["FeeLimit"],
                HEIGHT,
                query["Now"] / NANOSECONDS,
                exhaustive,
            )
            mine: Route = (
                tuple(network.scids[space.route_edge[: max(hops, 0)] >> 1].tolist()),
                tuple(space.route_amount[: max(hops, 0)].tolist()),
                tuple(space.route_expiry[: max(hops, 0)].tolist()),
                NO_ROUTES.get(hops, ""),
            )
            theirs = {
                (
                    tuple(route["Channels"] or ()),
                    tuple(route["Amounts"] or ()),
                    tuple(route["Expiries"] or ()),
                    route["Error"],
                )
                for route in routes
            }
            asked_for += 1
            found += hops > 0
            # LND's map order decides between equals.
            tied = len(theirs) > 1 or (hops > 0 and space.report[TIES] != 0)
            ties += tied
            if mine not in theirs and not tied:
                differing.append((number, query, mine, theirs))
    assert differing == []
    assert found > asked_for / 2
    assert ties < asked_for / 20
