"""Back to the beginning by payments, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lnagents.env.live.node import LiveNode
from lnagents.env.live.restore import Beginning, pay_back
from lnagents.model.graph import Channel, ChannelPolicy
from lnagents.model.payment import Route
from tests.unit.env.live.nodes import (
    CAPACITY,
    LEFT,
    OWN,
    ScriptedNode,
    live_node,
    local,
    public,
)

SCID = 5


class Pair:
    """Two nodes that share a channel, over which money really moves."""

    def __init__(self, balance: int = CAPACITY // 2) -> None:
        self.policy: Channel = public(SCID, OWN, LEFT)
        self.paid: list[tuple[str, int]] = []
        self.scripts = {key: ScriptedNode([], {SCID: self.policy}) for key in (OWN, LEFT)}
        for key, script in self.scripts.items():
            script.arrives = self.mover(key)
        self.nodes: list[LiveNode] = [
            live_node(self.scripts[OWN], OWN, "own"),
            live_node(self.scripts[LEFT], LEFT, "left"),
        ]
        self.set_balance(balance)

    def set_balance(self, balance: int) -> None:
        self.balance = balance
        self.scripts[OWN].local = [local(SCID, LEFT, balance)]
        self.scripts[LEFT].local = [local(SCID, OWN, CAPACITY - balance)]

    def mover(self, payer: str) -> Callable[[Route], bool]:
        def arrives(route: Route) -> bool:
            assert len(route.hops) == 1
            amount = route.total_amount_msat
            self.paid.append((payer, amount))
            self.set_balance(self.balance - amount if payer == OWN else self.balance + amount)
            return True

        return arrives

    async def beginning(self) -> Beginning:
        for node in self.nodes:
            await node.look()
        return Beginning.of(self.nodes)


async def test_the_side_that_gained_pays_back_directly() -> None:
    pair = Pair()
    beginning = await pair.beginning()
    for moved, payer in ((700_000_000, OWN), (200_000_000, LEFT)):
        pair.set_balance(moved)
        assert await pay_back(beginning, pair.nodes)
        assert pair.balance == CAPACITY // 2
        assert pair.paid.pop() == (payer, abs(moved - CAPACITY // 2))
    assert [script.forgot for script in pair.scripts.values()] == [2, 2]
    assert await pay_back(beginning, pair.nodes)
    assert not pair.paid


async def test_amounts_are_split_at_the_largest_htlc() -> None:
    pair = Pair()
    limited = ChannelPolicy(max_htlc_msat=90_000_000)
    changed = replace(pair.policy, policy1=limited, policy2=limited)
    for script in pair.scripts.values():
        script.graph_channels[SCID] = changed
    beginning = await pair.beginning()
    pair.set_balance(CAPACITY // 2 + 200_000_000)
    assert await pay_back(beginning, pair.nodes)
    assert pair.paid == [(OWN, 90_000_000), (OWN, 90_000_000), (OWN, 20_000_000)]


async def test_policies_go_back_before_the_payments() -> None:
    pair = Pair()
    beginning = await pair.beginning()
    raised = replace(pair.policy, policy1=ChannelPolicy(fee_rate_ppm=900))
    pair.scripts[OWN].graph_channels[SCID] = raised
    assert await pay_back(beginning, pair.nodes)
    assert pair.scripts[OWN].policies == [(f"{SCID}:0", ChannelPolicy())]
    assert not pair.scripts[LEFT].policies


@pytest.mark.parametrize("trouble", ["down", "inactive", "stuck", "gone", "refuses"])
async def test_what_is_not_whole_cannot_be_paid_back(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnagents.env.live.restore.STUCK_SECONDS", 0.05)
    monkeypatch.setattr("lnagents.env.live.restore.QUIET_SECONDS", 0.05)
    pair = Pair()
    beginning = await pair.beginning()
    pair.set_balance(700_000_000)
    script = pair.scripts[OWN]
    if trouble == "down":
        script.down = True
    elif trouble == "inactive":
        script.local = [local(SCID, LEFT, 700_000_000, active=False)]
    elif trouble == "stuck":
        script.local = [local(SCID, LEFT, 700_000_000, pending=1)]
    elif trouble == "gone":
        script.local = []
    else:
        script.arrives = lambda route: False
    assert not await pay_back(beginning, pair.nodes)
    assert not pair.paid


async def test_below_the_reserve_only_a_snapshot_leads_back() -> None:
    pair = Pair(balance=CAPACITY)
    beginning = await pair.beginning()
    assert not beginning.payable
    assert not await pay_back(beginning, pair.nodes)
