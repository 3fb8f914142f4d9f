"""Seats of a training task that follow rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lnagents.evaluate.training import LightningTask
from lnagents.learn.task import Actions, SeatArray, Seen
from lnagents.learn.trainer import Trainer
from lnagents.model.errors import ConfigError
from lnagents.twin.network import FEE_RATE
from tests.unit.evaluate.test_training import config, timeless
from tests.unit.learn.test_team import untimed


def task_against(*kinds: str, share: float = 0.5, **changes: Any) -> LightningTask:
    opponents = {"share": share, "kinds": list(kinds)}
    return config(task={"opponents": opponents, **changes}).make_task()


def levels(task: LightningTask, level: float) -> Actions:
    shape = task.shape
    agents = (shape.batch, shape.agents)
    fees = np.full((*agents, shape.rows, len(shape.actions)), level, np.float32)
    return Actions(fees, np.zeros(agents, np.int64))


def learns(seen: Seen) -> SeatArray:
    """Whose seats are the team's."""
    assert seen.learns is not None
    return seen.learns


def own_rates(task: LightningTask, place: int) -> list[np.ndarray[Any, Any]]:
    """Fee rates of each agent's channels in one environment."""
    world = task._twins[place]
    book, rates = world.book, world.twin.policies()[:, FEE_RATE]
    return [rates[book.edge[book.first[one] : book.first[one + 1]]] for one in range(7)]


def test_who_plays_is_drawn_for_every_episode_and_environment() -> None:
    task = task_against("same", "aimd", "as-found", environments=8)
    drawn = [learns(task.reset(range(seed, seed + 8))) for seed in (10, 20, 10)]
    assert np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], drawn[1])
    taken = (~np.stack(drawn)).sum(-1)
    assert set(taken.ravel().tolist()) == {0, 3}
    assert len({tuple(row) for row in drawn[0].tolist()}) > 3


def test_who_is_as_found_stays_so_and_the_team_acts() -> None:
    task = task_against("as-found")
    seen = task.reset((3, 4))
    before = [own_rates(task, place) for place in range(2)]
    for _ in range(3):
        task.step(levels(task, 1.0))
    for place in range(2):
        for agent, rates in enumerate(own_rates(task, place)):
            changed = rates != before[place][agent]
            assert changed.any() == learns(seen)[place, agent]


@pytest.mark.parametrize("kind", ["proportional", "clboss", "thompson", "aimd", "random"])
def test_rules_are_played_on_their_seats(kind: str) -> None:
    task = task_against(kind)
    seen = task.reset((3, 4))
    before = [own_rates(task, place) for place in range(2)]
    changed = np.zeros((2, 7), np.bool_)
    for _ in range(4):
        task.step(levels(task, 0.0))
        for place in range(2):
            for agent, rates in enumerate(own_rates(task, place)):
                changed[place, agent] |= (rates != before[place][agent]).any()
    assert changed[~learns(seen)].any()
    assert not changed[learns(seen)].any()


def test_a_wall_is_a_wall() -> None:
    task = task_against("wall")
    seen = task.reset((3, 4))
    task.step(levels(task, 0.0))
    for agent, rates in enumerate(own_rates(task, 0)):
        assert (rates == 2_500).all() == (not learns(seen)[0, agent])


def test_training_against_rules_is_resumed_bit_for_bit() -> None:
    chosen = config(task={"opponents": {"kinds": ["clboss", "thompson", "same"]}})
    whole = Trainer(chosen.make_task(), chosen.train, 3)
    whole.iterate()
    saved = whole.save()
    expected = [timeless(untimed(whole.iterate())) for _ in range(2)]
    again = Trainer(chosen.make_task(), chosen.train, 3)
    again.load(saved)
    assert [timeless(untimed(again.iterate())) for _ in range(2)] == expected
    assert again.save() == whole.save()
    assert any(one["others_return"] is not None for one in expected)
    assert all("others/fees_earned_msat" in one["measures"] for one in expected)


@pytest.mark.parametrize(
    ("opponents", "message"),
    [
        ({"kinds": ["closs"]}, "some.yaml: task.opponents.kinds: 'closs' is none of same, as-f"),
        ({"kinds": []}, "some.yaml: task.opponents.kinds: "),
        ({"share": 1.0}, "some.yaml: task.opponents.share: "),
        ({"shares": 0.5}, "some.yaml: task.opponents.shares: unknown key"),
    ],
)
def test_what_is_wrong_with_opponents_is_named(opponents: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(task={"opponents": opponents})
    assert message in str(caught.value)


def test_opponents_need_a_seat() -> None:
    with pytest.raises(ConfigError, match=r"task\.opponents\.share: 0\.1 of 7 agents is not even"):
        task_against("aimd", share=0.1)
