"""What each counter-measure against others that learn does: the same training with and without it.

A folder holds `ablation.yaml` and, once it was run, `result.json`. Every variant is the same
training with some settings changed, for several seeds; then the team is diagnosed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import Field, model_validator

from lnagents.evaluate.diagnose_run import Effort, best_response, cross_play_of, frozen
from lnagents.evaluate.diagnosis import CrossPlay, Gap
from lnagents.evaluate.statistics import estimate, mean
from lnagents.evaluate.train_run import (
    CONFIG,
    TrainConfig,
    begin,
    beside,
    parse_config,
    read_config,
    read_log,
    train,
)
from lnagents.model.errors import ConfigError
from lnagents.model.files import StrictModel, parse_yaml

ABLATION, RESULT = "ablation.yaml", "result.json"

NONE = "none"
"""The variant that changes nothing must be there, to be compared with."""


class EffortSpec(StrictModel):
    """See `Effort`."""

    seats: Annotated[int, Field(ge=1)] = 1
    iterations: Annotated[int, Field(ge=1)] = 100
    episodes: Annotated[int, Field(ge=1)] = 4


class AblationFile(StrictModel):
    """What is trained, how it is varied, and how much is done to diagnose it."""

    base: dict[str, Any]
    """As `lnagents train` takes it."""
    variants: dict[str, dict[str, Any]]
    """Changes to `base.train`, by a name."""
    seeds: Annotated[tuple[int, ...], Field(min_length=2)]
    diagnosis: EffortSpec = EffortSpec()

    @model_validator(mode="after")
    def _something_to_compare_with(self) -> AblationFile:
        if self.variants.get(NONE) != {}:
            raise ValueError(f"variants: one must be {NONE!r} and change nothing")
        return self


@dataclass(frozen=True, slots=True)
class Ablation:
    """An ablation, checked."""

    file: AblationFile
    configs: Mapping[str, TrainConfig]
    """Of each variant, with the base's seed."""

    @property
    def threads(self) -> int:
        """Of torch."""
        return self.configs[NONE].threads

    @property
    def effort(self) -> Effort:
        """Of the diagnosis of each team."""
        given = self.file.diagnosis
        return Effort(given.seats, given.iterations, given.episodes)

    def iterations(self) -> int:
        """Of all training together, newcomers' included."""
        effort = self.effort
        own = sum(config.train.iterations for config in self.configs.values())
        newcomers = len(self.configs) * effort.seats * effort.iterations
        return len(self.file.seeds) * (own + newcomers)


def load_ablation(folder: Path) -> Ablation:
    """The ablation in `folder`; networks are looked for there first.

    Raises:
        ConfigError: naming the file and the key.
    """
    path = folder / ABLATION
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(str(path), f"cannot be read: {exc}") from exc
    file = parse_yaml(text, str(path), AblationFile, ConfigError)
    configs = {}
    for name, changes in file.variants.items():
        whole = {**file.base, "train": {**file.base.get("train", {}), **changes}}
        source = f"{path}: variants.{name}"
        configs[name] = beside(parse_config(yaml.safe_dump(whole), source, folder), folder)
    return Ablation(file, configs)


def run_ablation(
    ablation: Ablation,
    work: Path,
    *,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[str, int], None] = lambda name, made: None,
) -> dict[str, Any] | None:
    """Train and diagnose all variants; None if it was `stopped`, to go on from `work` later.

    Args:
        ablation: what to do.
        work: folder of the runs.
        stopped: asked after every iteration.
        progress: told of a run's name and of its iterations so far, newcomers' included.

    Raises:
        CheckpointError: `work` has runs of another ablation or of other code.
    """
    from lnagents.learn.trainer import Trainer

    variants = {}
    for name, config in ablation.configs.items():
        folders, gaps = [], []
        for seed in ablation.file.seeds:
            folder = work / f"{name}-{seed}"
            if not (folder / CONFIG).is_file():
                begin(replace(config, seed=seed), folder)
            chosen = read_config(folder / CONFIG)
            if chosen.train != config.train or chosen.task != config.task:
                raise ConfigError(str(folder), "has a run of another ablation")
            task = chosen.make_task()
            try:
                trainer = Trainer(task, chosen.train, chosen.seed)
                label, total = folder.name, chosen.train.iterations
                train(
                    trainer,
                    folder,
                    stopped=stopped,
                    progress=lambda report, label=label: progress(label, report.iteration),  # type: ignore[misc]
                )
            finally:
                task.close()
            if not trainer.finished:
                return None
            gap = best_response(
                frozen(folder),
                ablation.effort,
                stopped=stopped,
                progress=lambda place, report, label=label, total=total: progress(  # type: ignore[misc]
                    label, total + place * ablation.effort.iterations + report.iteration
                ),
            )
            if gap is None:
                return None
            folders.append(folder)
            gaps.append(gap)
        crossed = cross_play_of([frozen(folder) for folder in folders], ablation.effort)
        variants[name] = summary([read_log(folder) for folder in folders], gaps, crossed)
    return {"seeds": list(ablation.file.seeds), "variants": variants}


def summary(
    logs: Sequence[Sequence[Mapping[str, Any]]], gaps: Sequence[Gap], crossed: CrossPlay
) -> dict[str, Any]:
    """The figures of one variant, with intervals over seeds where there is one figure for each.

    Args:
        logs: of each seed, a report per iteration.
        gaps: of each seed.
        crossed: between them.
    """
    halves = [log[len(log) // 2 :] for log in logs]

    def over_seeds(values: Sequence[float]) -> dict[str, float]:
        return estimate(mean, np.array(values)[:, None], seed=0)._asdict()

    def late(name: str) -> dict[str, float]:
        every = [[one[name] for one in half if one[name] is not None] for half in halves]
        return over_seeds([float(np.mean(values)) for values in every])

    return {
        "episode_return": late("episode_return"),
        "drift": late("drift"),
        "value_shift": late("value_shift"),
        "explained": late("explained"),
        "frozen_return": over_seeds([float(gap.team.mean()) for gap in gaps]),
        "best_response_gap": over_seeds([gap.estimate().value for gap in gaps]),
        "cross_play_gap": crossed.gap()._asdict(),
    }


def write_result(folder: Path, document: Mapping[str, Any]) -> Path:
    """Keep what came out."""
    path = folder / RESULT
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path
