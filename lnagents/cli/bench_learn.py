"""`lnagents bench learn`: whether the learners reach what others reach on known tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from lnagents.cli.output import JsonOption, console, error_console, interruptible, print_json
from lnagents.model.errors import InputError

if TYPE_CHECKING:
    from lnagents.evaluate.reference import learn_runs
    from lnagents.evaluate.reference.study import LearnResult, LearnRun, Score, TaskName


def learn(
    study: Annotated[
        Path, typer.Argument(help="A folder with a `runs.yaml`, which says what is trained how.")
    ] = Path("bench/learn"),
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help="`spread` or `crowd`; may be given several times, as the next two. All if not.",
        ),
    ] = None,
    algorithms: Annotated[
        list[str] | None,
        typer.Option("--algorithm", help="`ippo`, `mappo` or `mean-field`, as far as in the file."),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", min=0, help="Instead of the file's.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of environments at most, instead of the file's."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of results and picture; the study's own if not given."),
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Folder of checkpoints and logs, from which runs go on.")
    ] = Path("out/learn"),
    show: Annotated[
        bool, typer.Option("--show", help="Train nothing: only what has results already.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Train on tasks of which it is known what is good, and compare.

    `spread` is mpe2's simple_spread: trained on an equal copy, the end score is played in mpe2
    itself (to be installed). `crowd` has 50 agents and an optimum that can be computed. Runs with a
    result are not made again; one that was interrupted (Ctrl-C) goes on where it was.
    """
    from lnagents.evaluate.reference.curves import PICTURE, draw
    from lnagents.evaluate.reference.study import load_study, read_result, read_rules

    loaded = load_study(study)
    _refuse_others("--task", tasks, [task.value for task in loaded.file.tasks])
    known = [name for learners in loaded.file.tasks.values() for name in learners]
    _refuse_others("--algorithm", algorithms, list(dict.fromkeys(known)))
    runs = loaded.runs(tasks or (), algorithms or (), seeds or (), steps)
    folder = out or study
    folder.mkdir(parents=True, exist_ok=True)
    if not show:
        _train(runs, folder, work)
    found = [one for one in (read_result(folder, run) for run in runs) if one]
    rules = read_rules(folder)
    if found:
        draw(found, rules, folder / PICTURE)
    if json_output:
        print_json(
            {
                "runs": [one.to_json() for one in found],
                "rules": {
                    task.value: {name: one.model_dump() for name, one in scores.items()}
                    for task, scores in rules.items()
                },
                "missing": len(runs) - len(found),
            }
        )
        return
    _print(found, rules)
    if len(found) < len(runs):
        console.print(f"{len(runs) - len(found)} of {len(runs)} runs have no result yet.")


def _refuse_others(option: str, given: Sequence[str] | None, known: Sequence[str]) -> None:
    for name in given or ():
        if name not in known:
            raise InputError(option, f"no {name!r} in the study ({', '.join(known)})")


def _train(runs: Sequence[LearnRun], folder: Path, work: Path) -> None:
    """Make the runs that have no result; the first Ctrl-C saves and leaves the others out."""
    from lnagents.evaluate.reference import learn_runs
    from lnagents.evaluate.reference.study import read_result, write_json

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with interruptible() as stopped, Progress(*columns, console=error_console) as bar:
        for task in dict.fromkeys(run.task for run in runs):
            bar.console.print(f"{task.value}: what is reached without learning", highlight=False)
            learn_runs.keep_rules(folder, task)
        for run in runs:
            if stopped:
                return
            if read_result(folder, run):
                continue
            shown = bar.add_task(run.name, total=run.spec.steps)

            def told(now: learn_runs.Progress, shown: TaskID = shown) -> None:
                score = "" if now.score is None else f"  score {now.score:.2f}"
                text = f"{now.run.name}  exploring {now.explored:.2f}{score}"
                bar.update(shown, completed=now.steps, description=text)

            result = learn_runs.train(
                run, work / run.name, stopped=lambda: bool(stopped), progress=told
            )
            if result:
                write_json(folder / f"{run.name}.json", result.to_json())


def _print(found: Sequence[LearnResult], rules: Mapping[TaskName, Mapping[str, Score]]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("task", "learner or rule", "seed"):
        table.add_column(title)
    for title in ("steps", "score", "95 % interval", "CPU-seconds"):
        table.add_column(title, justify="right")
    for task in dict.fromkeys(one.task for one in found):
        for name, score in rules.get(task, {}).items():
            table.add_row(task.value, name, "", "", *_told(score), "")
        for one in found:
            if one.task is task:
                table.add_row(
                    task.value,
                    one.algorithm,
                    str(one.seed),
                    f"{one.steps:,}",
                    *_told(one.final),
                    f"{one.cpu_seconds:,.0f}",
                )
    console.print(table)


def _told(score: Score) -> tuple[str, str]:
    return f"{score.mean:.4g}", f"{score.low:.4g} to {score.high:.4g}"
