"""Rows without padding come to what they come to with padding, gradients included."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lnagents.learn import LearnConfig, row_sets
from lnagents.learn.networks import ChannelActor, ChannelCritic, join
from lnagents.learn.row_sets import Layout, RowSets

CONFIG = LearnConfig(
    channel_features=("a", "b", "c"),
    node_features=("d", "e"),
    route_features=("f",),
    route_prior="f",
    actions=("x", "y"),
    hidden=8,
)


@pytest.fixture(params=[8, 4_096], autouse=True)
def block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(row_sets, "BLOCK_ROWS", request.param)
    row_sets._layout.cache_clear()
    yield
    row_sets._layout.cache_clear()


def given(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.randn(6, 5, 9, 3, generator=generator)
    whole = torch.randn(6, 5, 2, generator=generator)
    mask = (torch.rand(6, 5, 9, generator=generator) < 0.5).float()
    mask[0], mask[1] = 0.0, 1.0
    return rows, whole, mask


def padded(
    actor: ChannelActor, critic: ChannelCritic, rows: Tensor, whole: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    embedded, context = actor.encoder(rows, whole, mask)
    first, *rest = actor.head
    assert isinstance(first, torch.nn.Linear)
    mean = join(first, embedded, context)
    for layer in rest:
        mean = layer(mean)
    return mean * mask.unsqueeze(-1), critic.last(critic.encoder(rows, whole, mask)[1]).squeeze(-1)


def test_actor_and_critic_do_the_same_with_and_without_padding() -> None:
    generator = torch.Generator().manual_seed(1)
    actor, critic = ChannelActor(CONFIG, generator), ChannelCritic(CONFIG, generator)
    parameters = [*actor.parameters(), *critic.parameters()]
    with torch.no_grad():
        for one in parameters:
            one.add_(0.1 * torch.randn(one.shape, generator=generator))
    rows, whole, mask = given(generator)
    weights = torch.randn(6, 5, 9, 2, generator=generator)
    found = []
    for mean, value in (
        padded(actor, critic, rows, whole, mask),
        (actor(rows, whole, mask)[0], critic(rows, whole, mask)),
    ):
        for one in parameters:
            one.grad = None
        torch.autograd.backward((mean * weights).sum() + value.square().sum())
        gradients = [one.grad for one in parameters if one.grad is not None]
        assert len(gradients) == len(parameters) - 1  # all but the deviation
        found.append((mean.detach(), value.detach(), gradients))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_every_row_has_one_place_in_a_run_of_its_set() -> None:
    _, _, mask = given(torch.Generator().manual_seed(2))
    layout = Layout.of(mask)
    assert sorted(layout.place.tolist()) == mask.flatten().nonzero().flatten().tolist()
    assert layout.order[layout.back].tolist() == list(range(30))
    end = 0
    for block in layout.blocks:
        assert block.rows.start == end
        assert block.rows.stop - end >= row_sets.LEAST_ROWS
        end = block.rows.stop
        places = layout.place[block.rows]
        for run in block.runs:
            owners = run.of_sets(places.unsqueeze(1)).squeeze(-1) // 9
            assert (owners == layout.order[run.sets]).all()
    assert end == len(layout.place)
    assert Layout.of(mask.clone()) is layout


def test_what_is_picked_is_filled_in_where_it_was() -> None:
    rows, _, mask = given(torch.Generator().manual_seed(3))
    sets = RowSets.of(rows, mask)
    expected = (rows * mask.unsqueeze(-1)).flatten(0, 1)
    torch.testing.assert_close(sets.fill(sets.pick(rows)), expected, rtol=0.0, atol=0.0)
    assert sets.fill(sets.pick(rows)[:, 0]).shape == (30, 9)


def test_sets_may_all_be_empty() -> None:
    sets = RowSets.of(torch.ones(3, 2, 3), torch.zeros(3, 2))
    actor = ChannelActor(CONFIG, torch.Generator().manual_seed(1))
    mean, _ = actor.of_sets(sets, torch.ones(3, 2))
    assert mean.shape == (0, 2)
