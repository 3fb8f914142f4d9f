"""The checks that every world has to pass: the twin does, and worlds that are wrong do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from lnagents.env.conformance import (
    Check,
    check_admission,
    check_first_views,
    check_many_payments,
    check_names,
    check_next_channel,
    check_observing,
    check_payment,
    check_policies,
    check_privacy,
    check_reset,
    check_snapshot,
    check_strangers,
    check_world,
)
from lnagents.env.twin_world import TwinWorld
from lnagents.env.world import RoundPayment, World
from lnagents.model.payment import PaymentOutcome
from lnagents.model.units import NodeKey
from lnagents.model.view import ChannelDecision, ChannelView, NodeDecision, NodeView
from lnagents.testbed import load_topology


class Twin(TwinWorld):
    """The default network's twin."""

    @classmethod
    def fresh(cls) -> TwinWorld:
        """A new one of this class."""
        return cls.of_topology(load_topology("default"))


def test_all_checks_run_on_one_world_in_a_row() -> None:
    check_world(Twin.fresh())


def _with_channels(
    views: dict[NodeKey, NodeView], change: Callable[[ChannelView], ChannelView]
) -> dict[NodeKey, NodeView]:
    return {
        key: replace(view, channels=tuple(map(change, view.channels)))
        for key, view in views.items()
    }


class ForgetsReset(Twin):
    def reset(self, seed: int) -> None:
        if not hasattr(self, "was_reset"):
            super().reset(seed)
        self.was_reset = True


class Talks(Twin):
    """Tells everybody how many payments there were."""

    paid = 0

    def run(self, payments: Sequence[RoundPayment]) -> list[PaymentOutcome]:
        self.paid += len(payments)
        return super().run(payments)

    def observe(self) -> dict[NodeKey, NodeView]:
        return _with_channels(
            super().observe(),
            lambda channel: replace(
                channel, local_balance_msat=channel.local_balance_msat + 5_000 * self.paid
            ),
        )


class CountsForEver(Twin):
    """Adds the flows of earlier rounds."""

    looks = 0

    def observe(self) -> dict[NodeKey, NodeView]:
        self.looks += 1
        return _with_channels(
            super().observe(),
            lambda channel: replace(
                channel, flow=replace(channel.flow, forwards=channel.flow.forwards + self.looks)
            ),
        )


class Takes(Twin):
    """Keeps a satoshi of each fee for itself."""

    def run(self, payments: Sequence[RoundPayment]) -> list[PaymentOutcome]:
        return [
            replace(one, fee_msat=one.fee_msat - 1_000) if one.fee_msat else one
            for one in super().run(payments)
        ]


class Deaf(Twin):
    """Does nothing that agents decide."""

    def apply(self, decisions: Mapping[NodeKey, NodeDecision]) -> None:
        pass


class FeesOnly(Twin):
    """Does not let agents decide about forwards."""

    def apply(self, decisions: Mapping[NodeKey, NodeDecision]) -> None:
        def fees(one: ChannelDecision) -> ChannelDecision:
            return replace(one, preference=None, reserved_share=None)

        super().apply(
            {
                key: NodeDecision({scid: fees(one) for scid, one in decision.channels.items()})
                for key, decision in decisions.items()
            }
        )


class NoWayBack(Twin):
    def restore(self, snapshot: object) -> None:
        pass


class OneTooMany(Twin):
    @property
    def max_channels(self) -> int:
        return super().max_channels + 1


@pytest.mark.parametrize(
    ("kind", "checks"),
    [
        (ForgetsReset, [check_reset]),
        (Talks, [check_privacy]),
        (CountsForEver, [check_first_views, check_observing]),
        (Takes, [check_payment, check_many_payments]),
        (Deaf, [check_policies, check_strangers]),
        (FeesOnly, [check_admission, check_next_channel]),
        (NoWayBack, [check_snapshot]),
        (OneTooMany, [check_names]),
    ],
)
def test_a_world_that_is_wrong_is_found_out(kind: type[Twin], checks: list[Check]) -> None:
    for check in checks:
        world: World = kind.fresh()
        if kind is ForgetsReset:
            world.reset(0)
        with pytest.raises(AssertionError):
            check(world)
