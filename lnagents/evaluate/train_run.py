"""Training runs: a folder each, which can be interrupted at any moment and resumed.

A folder holds `config.yaml`, `checkpoint.pt`, `log.jsonl` (one line per iteration) and files for
TensorBoard. A checkpoint is replaced as a whole, and what was logged after the last one is dropped
when the run is resumed, because it happens again, bit for bit.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import Field

from lnagents.evaluate.extensions import load_named
from lnagents.evaluate.training import LightningSpec, LightningTask, lightning_task
from lnagents.model.errors import CheckpointError, ConfigError
from lnagents.model.files import StrictModel, parse_yaml, validate

if TYPE_CHECKING:
    from lnagents.learn.settings import TrainSettings
    from lnagents.learn.trainer import Trainer, TrainReport

CONFIG, CHECKPOINT, LOG = "config.yaml", "checkpoint.pt", "log.jsonl"

SAVE_SECONDS = 20.0
"""Between checkpoints: what is at most lost when a run is killed."""


class TrainFile(StrictModel):
    """A training configuration as it is written; `train` is checked where torch is at hand."""

    seed: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=1)] = 1
    """Of torch; results depend on it in the last bits."""
    extensions: tuple[str, ...] = ()
    """Python files that add algorithms or rewards, beside this file or by their whole paths."""
    task: LightningSpec
    train: dict[str, Any] = Field(default_factory=dict)
    """`lnagents.learn.settings.TrainSettings`."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A training configuration, checked."""

    source: str
    seed: int
    threads: int
    task: LightningSpec
    train: TrainSettings
    extensions: tuple[str, ...] = ()
    """Absolute paths, see `lnagents.evaluate.extensions`; they have been loaded."""

    def make_task(
        self, environments: range | None = None, *, for_all: bool = False
    ) -> LightningTask:
        """The task of this configuration, or that of some of its environments.

        Args:
            environments: only these; None: all.
            for_all: whether teams of other algorithms shall play in it, which may look at more.

        Raises:
            InputError: a network does not exist, is wrong or does not fit.
        """
        from lnagents.learn.algorithms import ALGORITHMS
        from lnagents.learn.settings import OpponentMode

        algorithm = ALGORITHMS[self.train.algorithm]
        return lightning_task(
            self.task,
            self.source,
            joint_state=algorithm.joint_state,
            foresight=self.train.opponent_model is not OpponentMode.NONE,
            row_rewards=self.train.row_credit > 0.0,
            neighbours=algorithm.neighbours or for_all,
            environments=environments,
        )


def parse_config(text: str, source: str, folder: Path = Path()) -> TrainConfig:
    """The configuration in `text`; paths of extensions start at `folder`.

    Raises:
        ConfigError: naming the file `source` and the key.
    """
    from lnagents.learn.settings import TrainSettings

    extensions = load_named(text, source, folder, ConfigError)
    file = parse_yaml(text, source, TrainFile, ConfigError)
    train = validate(file.train, f"{source}: train", TrainSettings, ConfigError)
    return TrainConfig(source, file.seed, file.threads, file.task, train, extensions)


def read_config(path: Path) -> TrainConfig:
    """The configuration in a file; networks named by a path are looked for beside it first.

    Raises:
        ConfigError: it cannot be read, or is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(str(path), f"cannot be read: {exc}") from exc
    return beside(parse_config(text, str(path), path.parent), path.parent)


def beside(config: TrainConfig, folder: Path) -> TrainConfig:
    """The same with the networks that are named by a path in `folder`, if they are there."""
    names = [_found(name, folder) for name in config.task.networks]
    task = config.task.model_copy(update={"networks": tuple(names)})
    return replace(config, task=task)


def _found(name: str, folder: Path) -> str:
    beside = folder / name
    return str(beside.resolve()) if beside.is_file() else name


def begin(config: TrainConfig, folder: Path) -> None:
    """Make the folder of a new run.

    Raises:
        ConfigError: there is something in it already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(str(folder), "is not empty; `lnagents resume` goes on with a run")
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "seed": config.seed,
        "threads": config.threads,
        "extensions": list(config.extensions),
        "task": config.task.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
    }
    (folder / CONFIG).write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")


def train(
    trainer: Trainer,
    folder: Path,
    *,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[TrainReport], None] = lambda report: None,
) -> None:
    """Go on with the run in `folder` until it is finished, or `stopped` after some iteration.

    Args:
        trainer: a fresh one; it continues from the folder's checkpoint if there is one.
        folder: exists.
        stopped: asked after every iteration; the run is saved then.
        progress: told of every iteration.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another task, settings or code.
    """
    checkpoint, log = folder / CHECKPOINT, folder / LOG
    if checkpoint.exists():
        trainer.load(checkpoint.read_bytes())
    _drop_after(log, trainer.iteration)
    saved = time.monotonic()
    with log.open("a", encoding="utf-8") as lines, _scalars(folder, trainer.iteration) as scalars:
        while not trainer.finished:
            report = trainer.iterate()
            lines.write(json.dumps(asdict(report)) + "\n")
            scalars(report)
            progress(report)
            stop = stopped()
            if stop or trainer.finished or time.monotonic() - saved > SAVE_SECONDS:
                lines.flush()
                _replace(checkpoint, trainer.save())
                saved = time.monotonic()
            if stop:
                return


def read_log(folder: Path) -> list[dict[str, Any]]:
    """What was logged of a run, one `TrainReport` per iteration.

    Raises:
        CheckpointError: there is no such run.
    """
    try:
        text = (folder / LOG).read_text(encoding="utf-8")
    except OSError as exc:
        raise CheckpointError(f"{folder} is no training run: {exc.strerror}") from exc
    return [json.loads(line) for line in text.splitlines()]


def _drop_after(log: Path, iteration: int) -> None:
    """Keep the first `iteration` lines: the last one may be half written."""
    if log.exists():
        kept = log.read_text(encoding="utf-8").splitlines(keepends=True)[:iteration]
        _replace(log, "".join(kept).encode())


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that either the old or the new one is there, whenever the machine stops."""
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def _scalars(folder: Path, iteration: int) -> Iterator[Callable[[TrainReport], None]]:
    """Writes reports for TensorBoard, which forgets what it has seen after `iteration`."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=iteration + 1)

    def write(report: TrainReport) -> None:
        values = asdict(report)
        step = values.pop("iteration")
        measures, opponents = values.pop("measures"), values.pop("opponents")
        named = {f"train/{name}": value for name, value in values.items()}
        named |= {f"task/{name}": value for name, value in measures.items()}
        named |= {f"opponents/{name}": value for name, value in opponents.items()}
        for name, value in named.items():
            if value is not None:
                writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        writer.close()
