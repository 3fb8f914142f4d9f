"""Teams with a memory compete: the same as in the rollouts that they are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lnagents.env.arrays import ActionArrays, RoundArrays
from lnagents.env.encoding import ACTION_NAMES, CHANNEL_FEATURE_NAMES, NODE_FEATURE_NAMES
from lnagents.env.fees import FeeBounds
from lnagents.env.neighbourhood import NEIGHBOUR_FEATURES
from lnagents.env.twin_world import TwinWorld
from lnagents.evaluate.executors import Here
from lnagents.evaluate.experiment.choices import choices
from lnagents.evaluate.experiment.contest import play
from lnagents.evaluate.experiment.contestants import LearnedContestant
from lnagents.evaluate.experiment.definition import Definition, RunSpec
from lnagents.evaluate.experiment.report import to_html
from lnagents.evaluate.experiment.runner import run_experiment
from lnagents.evaluate.experiment.scores import read_scores
from lnagents.evaluate.experiment.seats import seats_of
from lnagents.evaluate.experiment.trial import SETTINGS, TIMES, draw_stage
from lnagents.evaluate.results import Results
from lnagents.learn.rollout import live
from lnagents.learn.settings import Recurrence
from lnagents.learn.task import Actions, Seen, StepResult, TaskShape
from lnagents.learn.trainer import load_policy
from lnagents.model.errors import ExperimentError
from lnagents.model.files import parse_yaml
from lnagents.twin.network import Int64Array
from lnagents.twin.state import FEES_EARNED
from tests.unit.evaluate.live.teams import write_team

TEXT = """
name: small
baseline: as-found
contestants: [as-found]
learners:
  algorithms: [ippo]
  rewards: {competitive: {}}
  recurrences: [none, gru]
  lessons: {environments: 1, networks: 2, rounds: 3, train: {iterations: 2, hidden: 8}}
fields: [as-found]
seeds: 2
first: 5
split: training
rounds: 10
families:
  - {name: paths, kind: competing-paths, routers: 3, ends: 2}
"""


def definition() -> Definition:
    return parse_yaml(TEXT, "small.yaml", Definition, ExperimentError)


class Stage:
    """The seats of a contestant as a task of one environment, on the payments of a contest."""

    def __init__(self, spec: RunSpec) -> None:
        self._stage = draw_stage(spec.family, spec.split, spec.index, spec.rounds)
        arena = self._stage.arena
        seats = seats_of(arena.agents, self._stage.seed, everyone=False)
        agents = [seat.node for seat in seats if seat.contests]
        self._world = TwinWorld(arena.network, agents, settings=SETTINGS, times=TIMES)
        self._rounds = self._world.rounds(FeeBounds())
        places = [arena.network.names.index(name) for name in agents]
        self._edges = np.flatnonzero(np.isin(arena.network.edge_source(), places))
        self.income: list[int] = []
        self.updates = 0
        self.shape = TaskShape(
            batch=1,
            agents=len(agents),
            steps=spec.rounds,
            rows=self._world.max_channels,
            row_features=CHANNEL_FEATURE_NAMES,
            whole_features=NODE_FEATURE_NAMES,
            neighbour_features=NEIGHBOUR_FEATURES,
            actions=ACTION_NAMES,
        )

    def reset(self, seeds: Sequence[int]) -> Seen:
        self._rounds.reset(self._stage.seed)
        return self._seen()

    def _seen(self) -> Seen:
        arrays = RoundArrays.empty(self.shape.agents, self.shape.rows)
        self._rounds.observe(arrays)
        mask = arrays.channel_mask.astype(np.float32)[None]
        return replace(
            Seen.blank(self.shape),
            rows=arrays.channels[None],
            mask=mask,
            whole=arrays.node[None],
        )

    def _policies(self) -> Int64Array:
        return self._world.twin.policies()[self._edges]

    def step(self, actions: Actions) -> StepResult:
        before = self._policies()
        self._rounds.act(ActionArrays(fees=actions.rows[0]))
        self.updates += int((before != self._policies()).any(axis=1).sum())
        self._world.run_arrays(self._stage.episode.of_round(len(self.income)))
        self.income.append(int(self._world.twin.flows[self._edges, FEES_EARNED].sum()))
        rewards = np.zeros((1, self.shape.agents), np.float32)
        return StepResult(self._seen(), rewards, len(self.income) == self.shape.steps)

    def close(self) -> None:
        """See `Task.close`."""


def test_a_contest_is_the_rollout_that_the_team_was_trained_on(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    spec = next(one for one in definition().runs() if one.contestant.name == "ippo-competitive-gru")
    task = Stage(spec)
    team = write_team(tmp_path / "team.pt", memory=1.0).read_bytes()
    policy = load_policy(team, task.shape)
    rollout = live(task, policy, np.array([[1, 2]], np.uint32), explores=False)
    result = play(spec, team)
    assert list(result.income_by_round) == task.income
    assert sum(seat.updates for seat in result.seats if seat.contests) == task.updates > 0
    # What is remembered matters here, and each contest begins with nothing.
    assert rollout.memory is not None
    assert rollout.memory[0].any()
    forgetful = Stage(spec)
    assert policy.memory is not None
    for weights in policy.memory.parameters():
        weights.data.zero_()
    live(forgetful, policy, np.array([[1, 2]], np.uint32), explores=False)
    assert forgetful.income != task.income
    assert replace(play(spec, team), seconds=0.0) == replace(result, seconds=0.0)


def test_with_and_without_a_memory_in_one_experiment(tmp_path: Path) -> None:
    chosen = definition()
    with_memory, without = (
        next(one for one in chosen.runs() if one.contestant.name == name).contestant
        for name in ("ippo-competitive-gru", "ippo-competitive")
    )
    assert isinstance(with_memory, LearnedContestant)
    assert isinstance(without, LearnedContestant)
    assert with_memory.training.settings().recurrence is Recurrence.GRU
    # Whoever has none is trained as if nobody had, into the same folder.
    only = parse_yaml(TEXT.replace("[none, gru]", "[none]"), "s", Definition, ExperimentError)
    assert [one.id for one in only.trainings()] == [without.training.id]
    results = Results(tmp_path)
    made = run_experiment(chosen, results, Here(), progress=lambda done, count: None)
    assert made == 2 * 3
    scores = read_scores(chosen, results)
    assert scores.complete
    assert scores.networks == 2
    assert results.query('SELECT DISTINCT "index" FROM runs ORDER BY 1') == {"index": [5, 6]}
    assert [(one.learner, one.other) for one in choices(chosen, scores.fields[0])] == [
        ("ippo-competitive-gru", "ippo-competitive")
    ]
    assert "numbers 5 to 6" in to_html(scores)
    assert run_experiment(chosen, results, Here(), progress=lambda done, count: None) == 0
