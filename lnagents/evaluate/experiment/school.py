"""Trains what an experiment needs: a folder for each training, which can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from lnagents.evaluate import train_run
from lnagents.evaluate.experiment.lessons import Training
from lnagents.model.errors import CheckpointError

FOLDER = "trainings"
"""In the folder of an experiment's results."""

DESCRIPTION = "training.json"
_FINISHED = "finished"


def folder_of(results: Path, training: Training) -> Path:
    """Where a training is kept."""
    return results / FOLDER / training.id


def is_finished(folder: Path) -> bool:
    """Whether nothing is left to be trained."""
    return (folder / _FINISHED).exists()


def train(
    training: Training, folder: Path, *, progress: Callable[[int], None] = lambda iteration: None
) -> None:
    """Go on with a training until it is finished; the same training gives the same checkpoint.

    Args:
        training: what to learn.
        folder: where its checkpoint is, if there is one already.
        progress: told of every iteration.

    Raises:
        CheckpointError: what is there was made by other code.
        ExperimentError: the trainer has no such settings.
        TopologyError: the file that a family is taken from cannot be read.
    """
    import torch

    from lnagents.learn.trainer import Trainer

    if is_finished(folder):
        return
    _describe(training, folder)
    torch.set_num_threads(1)
    task = training.task()
    try:
        trainer = Trainer(task, training.settings(), training.seed)
        train_run.train(trainer, folder, progress=lambda report: progress(report.iteration))
    finally:
        task.close()
    (folder / _FINISHED).touch()


def trained(job: tuple[Training, Path]) -> bytes:
    """`train` as a job for any machine: the checkpoint of a finished training."""
    training, folder = job
    train(training, folder)
    return (folder / train_run.CHECKPOINT).read_bytes()


def keep(training: Training, folder: Path, checkpoint: bytes) -> None:
    """Take over what was trained, perhaps on another machine."""
    if not is_finished(folder):
        _describe(training, folder)
        (folder / train_run.CHECKPOINT).write_bytes(checkpoint)
        (folder / _FINISHED).touch()


def _describe(training: Training, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    described = json.dumps(training.model_dump(mode="json"), indent=1)
    (folder / DESCRIPTION).write_text(described + "\n", encoding="utf-8")


def digest(checkpoint: bytes) -> str:
    """What tells teams apart: the same for the same checkpoint, byte for byte."""
    return hashlib.sha256(checkpoint).hexdigest()[:16]


def read_team(results: Path, training: Training) -> bytes:
    """The checkpoint of a finished training.

    Raises:
        CheckpointError: it is not there.
    """
    path = folder_of(results, training) / train_run.CHECKPOINT
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be read: {exc.strerror}") from exc
