"""Deciding for rows without torch: what the actor comes to, whoever else decides beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lnagents.learn import LearnConfig, ppo
from lnagents.learn.acting import Acting
from lnagents.learn.networks import ChannelActor

CONFIG = LearnConfig(
    channel_features=("a", "b", "c", "d", "e"),
    node_features=("f", "g"),
    actions=("h", "i", "j"),
    route_features=("k",),
    route_prior="k",
)


def actor_of(config: LearnConfig, generator: torch.Generator) -> ChannelActor:
    """One whose weights are all different."""
    actor = ChannelActor(config, generator)
    with torch.no_grad():
        for one in actor.parameters():
            one.add_(0.2 * torch.randn(one.shape, generator=generator))
    return actor


def seen(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """By 4 teams of 6 agents, some of whom have no rows."""
    given = torch.randn(4, 6, rows, 5, generator=generator)
    mask = (torch.rand(4, 6, rows, generator=generator) < 0.6).float()
    mask[1, 2] = 0.0
    return given, torch.randn(4, 6, 2, generator=generator), mask


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize(("hidden", "actions"), [(7, 1), (8, 2), (32, 3)])
def test_the_actor_draws_so_without_gradients(rows: int, hidden: int, actions: int) -> None:
    generator = torch.Generator().manual_seed(3)
    actor = actor_of(replace(CONFIG, hidden=hidden, actions=CONFIG.actions[:actions]), generator)
    given, whole, mask = seen(rows, generator)
    noise = torch.randn(4, 6, rows, actions, generator=generator)
    acting = Acting(actor)
    for _ in range(2):
        mean, deviation = actor(given, whole, mask)
        expected = mean + deviation * noise
        likely = ppo.normal_log_prob(expected, mean, deviation)
        sample, log_prob = acting.decide(given, whole, mask, noise)
        real = mask.bool()
        torch.testing.assert_close(sample[real], expected[real].detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(log_prob[real], likely[real].detach(), rtol=1e-4, atol=1e-5)
        assert not sample[~real].any()
        assert not log_prob[~real].any()
        torch.testing.assert_close(
            acting.decide(given, whole, mask)[0], mean.detach(), rtol=1e-4, atol=1e-5
        )
        with torch.no_grad():  # what is changed in place shows
            for one in actor.parameters():
                one.mul_(0.9)


def test_an_agent_decides_the_same_alone_and_among_many() -> None:
    generator = torch.Generator().manual_seed(4)
    acting = Acting(actor_of(CONFIG, generator))
    given, whole, mask = seen(9, generator)
    noise = torch.randn(4, 6, 9, 3, generator=generator)
    sample, log_prob = acting.decide(given, whole, mask, noise)
    for place in ((0, 0), (1, 2), (3, 5)):
        real = mask[place].bool()
        ones = torch.ones(int(real.sum()))
        alone = acting.decide(given[place][real], whole[place], ones, noise[place][real])
        assert torch.equal(alone[0], sample[place][real])
        assert torch.equal(alone[1], log_prob[place][real])


def test_what_rows_of_padding_hold_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(5)
    acting = Acting(actor_of(CONFIG, generator))
    given, whole, mask = seen(9, generator)
    expected = acting.decide(given, whole, mask)[0]
    given[mask == 0.0] = torch.nan
    assert torch.equal(acting.decide(given, whole, mask)[0], expected)


def test_agents_with_weights_of_their_own_are_refused() -> None:
    actor = ChannelActor(CONFIG, torch.Generator().manual_seed(6), copies=3)
    with pytest.raises(ValueError, match="copies"):
        Acting(actor)
