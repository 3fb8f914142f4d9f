"""The diagnosis of finished runs: newcomers are trained beside them, in folders of their own.

In a run's folder, `diagnosis` has what came out (`best-response.json`, `cross-play.json`), and the
newcomers' training, which is resumed like any run. Newcomers belong to one state of the team: when
it has learned on, new ones are trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnagents.evaluate.diagnosis import CrossPlay, Gap, cross_play, responder_settings, seat_gap
from lnagents.evaluate.train_run import CHECKPOINT, CONFIG, TrainConfig, read_config, train
from lnagents.evaluate.training import LightningTask
from lnagents.model.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from lnagents.learn.policy import Policy
    from lnagents.learn.trainer import TrainReport

FOLDER, BEST_RESPONSE, CROSS_PLAY = "diagnosis", "best-response.json", "cross-play.json"

_STREAM = 3
"""Sets episodes of the diagnosis apart from those of training."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done for a diagnosis."""

    seats: int = 2
    """On which newcomers are trained."""
    iterations: int = 100
    """Of a newcomer's training."""
    episodes: int = 4
    """In each environment, for what is compared."""
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FrozenRun:
    """A run as it was saved last."""

    folder: Path
    config: TrainConfig
    checkpoint: bytes

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.name

    def task(self, of: FrozenRun | None = None) -> LightningTask:
        """Its task, without opponents that follow rules: seats are the team's or a newcomer's.

        Args:
            of: what a task tells is what this run's algorithm looks at; None: its own.
        """
        spec = self.config.task.model_copy(update={"opponents": None})
        config = replace((of or self).config, task=spec, source=self.config.source)
        return config.make_task(for_all=True)

    def policy(self, task: LightningTask) -> Policy:
        """Its actors, to act in `task`.

        Raises:
            CheckpointError: they see or do other things.
        """
        from lnagents.learn.trainer import load_policy

        return load_policy(self.checkpoint, task.shape)

    @property
    def central(self) -> bool:
        """Whether its critic sees the joint state."""
        from lnagents.learn.algorithms import ALGORITHMS

        return ALGORITHMS[self.config.train.algorithm].joint_state


def frozen(folder: Path) -> FrozenRun:
    """The run in `folder`.

    Raises:
        ConfigError: there is none, or it is wrong.
        CheckpointError: nothing of it was saved yet.
    """
    if not (folder / CONFIG).is_file():
        raise ConfigError(str(folder), f"is no training run, as there is no {CONFIG} in it")
    config = read_config(folder / CONFIG)
    try:
        return FrozenRun(folder, config, (folder / CHECKPOINT).read_bytes())
    except OSError as exc:
        raise CheckpointError(f"{folder} has no {CHECKPOINT} yet: {exc.strerror}") from exc


def best_response(
    run: FrozenRun,
    effort: Effort,
    *,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[int, TrainReport], None] = lambda seat, report: None,
) -> Gap | None:
    """The best-response gap of a run, kept in its folder; None if it was `stopped` before.

    Args:
        run: whose team is frozen.
        effort: how much to do.
        stopped: asked after every iteration; what was trained is saved then.
        progress: told of a newcomer's seat, by its place among those chosen, and of its iteration.

    Raises:
        ConfigError: there are not so many seats.
        CheckpointError: a newcomer's training cannot go on, as it was begun otherwise.
    """
    from lnagents.learn.seats import Beside
    from lnagents.learn.trainer import Trainer

    task = run.task()
    try:
        agents = task.shape.agents
        if effort.seats > agents:
            raise ConfigError(str(run.folder), f"has {agents} seats, not {effort.seats}")
        team = run.policy(task)
        settings = responder_settings(run.config.train, effort.iterations)
        seats = np.random.default_rng((effort.seed, _STREAM)).permutation(agents)[: effort.seats]
        state = hashlib.sha256(run.checkpoint).hexdigest()[:12]
        pairs = []
        for place, seat in enumerate(seats.tolist()):
            folder = run.folder / FOLDER / f"{state}-seat{seat}-{effort.iterations}-{effort.seed}"
            folder.mkdir(parents=True, exist_ok=True)
            own = np.full(task.shape.batch, seat, np.intp)
            cast = Beside(team, own, explores=False)
            newcomer = Trainer(task, settings, effort.seed, cast)

            def tell(report: TrainReport, place: int = place) -> None:
                progress(place, report)

            train(newcomer, folder, stopped=stopped, progress=tell)
            if not newcomer.finished:
                return None
            pairs.append(
                seat_gap(task, team, newcomer.policy, seat, _seed(effort.seed), effort.episodes)
            )
        count = len(run.config.task.networks)
        networks = tuple(place % count for place in range(task.shape.batch))
        new, own_returns = (np.stack(each) for each in zip(*pairs, strict=True))
        gap = Gap(tuple(seats.tolist()), new, own_returns, networks)
    finally:
        task.close()
    _write(run.folder, BEST_RESPONSE, {"iterations": effort.iterations, **gap.to_json()})
    return gap


def cross_play_of(runs: Sequence[FrozenRun], effort: Effort) -> CrossPlay:
    """Cross-play between runs on the task of the first, kept in its folder.

    Raises:
        CheckpointError: a run's actors see or do other things than the first one's.
        ValueError: there are fewer than two runs.
    """
    task = runs[0].task(next((run for run in runs if run.central), None))
    try:
        teams = [run.policy(task) for run in runs]
        names = [run.name for run in runs]
        result = cross_play(task, names, teams, _seed(effort.seed), effort.episodes)
    finally:
        task.close()
    _write(runs[0].folder, CROSS_PLAY, result.to_json())
    return result


def _seed(seed: int) -> int:
    return int(np.random.SeedSequence((seed, _STREAM)).generate_state(1)[0])


def _write(folder: Path, name: str, document: dict[str, Any]) -> None:
    path = folder / FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
