"""`lnagents train` and `lnagents resume`: teams that learn in the twin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lnagents.cli.output import ClusterOption, console, error_console, interruptible
from lnagents.model.errors import ConfigError

if TYPE_CHECKING:
    from lnagents.evaluate.train_run import TrainConfig
    from lnagents.learn.trainer import Collector, TrainReport

WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Collect experience in so many processes, or of a local cluster."),
]


def train(
    config: Annotated[Path, typer.Argument(help="A training configuration (YAML).")],
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of the run, made here; by default one in `runs`, by date."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the file's.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Instead of the file's.")] = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
) -> None:
    """Train a team of agents in the twin. Ctrl-C saves and stops; `lnagents resume` goes on."""
    from dataclasses import replace

    from lnagents.evaluate.train_run import begin, read_config

    chosen = read_config(config)
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    if iterations is not None:
        settings = chosen.train.model_copy(update={"iterations": iterations})
        chosen = replace(chosen, train=settings)
    folder = run or Path("runs") / f"{config.stem}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    begin(chosen, folder)
    _go_on(chosen, folder, cluster, workers)


def resume(
    run: Annotated[Path, typer.Argument(help="Folder of a run that `lnagents train` began.")],
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
) -> None:
    """Go on with a training run where it was saved last, bit for bit as if it had never stopped."""
    from lnagents.evaluate.train_run import CONFIG, read_config

    if not (run / CONFIG).is_file():
        raise ConfigError(str(run), f"is no training run, as there is no {CONFIG} in it")
    _go_on(read_config(run / CONFIG), run, cluster, workers)


@contextmanager
def _collector(
    config: TrainConfig, cluster: str | None, workers: int | None
) -> Iterator[Collector | None]:
    """Where experience is collected; None: in this process."""
    from lnagents.evaluate.cluster import make_executor
    from lnagents.evaluate.extensions import read_extensions
    from lnagents.evaluate.rollouts import SpreadRollouts

    if cluster is None and workers is None:
        yield None
        return
    executor = make_executor(cluster, workers, read_extensions(config.extensions))
    try:
        spread = SpreadRollouts(config, executor)
        console.print(
            f"{spread.parts} parts an iteration: more workers have nothing to do"
            " (train.episodes and train.together decide it)",
            highlight=False,
        )
        yield spread
    finally:
        executor.close()


def _go_on(
    config: TrainConfig, folder: Path, cluster: str | None = None, workers: int | None = None
) -> None:
    import torch

    from lnagents.evaluate import train_run
    from lnagents.learn.trainer import Trainer

    torch.set_num_threads(config.threads)
    task = config.make_task()
    shape = task.shape
    console.print(
        f"{config.train.algorithm}: {shape.agents} agents in {shape.batch} environments,"
        f" {shape.steps} rounds an episode; {folder}",
        highlight=False,
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with (
            _collector(config, cluster, workers) as collector,
            interruptible() as stopped,
            Progress(*columns, console=error_console) as bar,
        ):
            trainer = Trainer(task, config.train, config.seed, collector=collector)
            shown = bar.add_task("training", total=config.train.iterations)

            def progress(report: TrainReport) -> None:
                bar.update(shown, completed=report.iteration, description=_line(report))

            train_run.train(trainer, folder, stopped=lambda: bool(stopped), progress=progress)
    finally:
        task.close()
    if trainer.finished:
        console.print(f"Finished: {trainer.iteration} iterations.", highlight=False)
    else:
        console.print(
            f"Saved after {trainer.iteration} iterations; go on with: lnagents resume {folder}",
            highlight=False,
            soft_wrap=True,
        )


def _line(report: TrainReport) -> str:
    busy = report.collect_seconds + report.train_seconds
    rate = report.iteration_steps / busy if busy > 0.0 else 0.0
    return (
        f"return {report.episode_return:+.4g}  KL {report.divergence:.3f}"
        f"  foreseen {100 * report.explained:.0f} %  {rate:,.0f} steps/s"
    )
