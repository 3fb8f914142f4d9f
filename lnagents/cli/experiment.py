"""`lnagents experiment`: contests of agents on many networks, and what came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lnagents.cli.output import (
    ClusterOption,
    JsonOption,
    console,
    counting,
    error_console,
    print_json,
)

if TYPE_CHECKING:
    from lnagents.evaluate.statistics import Estimate

app = typer.Typer(no_args_is_help=True, help="Contests of agents on many networks.")

DefinitionArgument = Annotated[
    str, typer.Argument(help="A definition (YAML), or the name of one that comes along.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="The folder of the results; `results/NAME` unless it is given."),
]
ProcessesOption = Annotated[
    int | None, typer.Option(min=1, help="How many at once; all processors if not given.")
]


@app.command("run")
def run_all(
    definition: DefinitionArgument,
    out: OutOption = None,
    processes: ProcessesOption = None,
    cluster: ClusterOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train what is to compete, and make the runs that have no result yet.

    Ctrl-C loses only what is under way: runs, and what trainings learned in the last 20 seconds.
    """
    from lnagents.evaluate.cluster import make_executor
    from lnagents.evaluate.experiment.definition import load_definition
    from lnagents.evaluate.experiment.runner import run_experiment
    from lnagents.evaluate.extensions import read_extensions
    from lnagents.evaluate.results import Results

    chosen = load_definition(definition)
    results = Results(out or _folder(chosen.name))
    executor = make_executor(cluster, processes, read_extensions(chosen.extensions))
    try:
        with counting() as progress:
            lessons = progress.add_task("Training", total=None, visible=bool(chosen.trainings()))
            task = progress.add_task("Runs", total=None)
            made = run_experiment(
                chosen,
                results,
                executor,
                progress=lambda done, count: progress.update(task, completed=done, total=count),
                training=lambda done, count: progress.update(lessons, completed=done, total=count),
            )
    finally:
        executor.close()
    if json_output:
        print_json({"made": made, "runs": len(chosen.runs()), "results": str(results.folder)})
        return
    console.print(f"{made:,} runs made; the results are in {results.folder}", highlight=False)


@app.command()
def tune(
    definition: DefinitionArgument,
    out: OutOption = None,
    processes: ProcessesOption = None,
    cluster: ClusterOption = None,
    json_output: JsonOption = False,
) -> None:
    """Search the learners' settings with Optuna, as the definition's key `tuning` says.

    Only training networks are used; each reward that `tuning.success_worth` names has a search of
    its own. It is recorded in `tuning.json` in the results' folder, and goes on where it was
    interrupted. What it finds has to be put into the definition by hand (`learners.by_reward`).
    """
    from lnagents.evaluate.cluster import make_executor
    from lnagents.evaluate.experiment.definition import load_definition
    from lnagents.evaluate.experiment.tuning import STUDY
    from lnagents.evaluate.experiment.tuning import tune as search
    from lnagents.evaluate.extensions import read_extensions
    from lnagents.model.errors import ExperimentError

    chosen = load_definition(definition)
    if chosen.tuning is None:
        raise ExperimentError(definition, "tuning: the definition says nothing about it")
    folder = out or _folder(chosen.name)
    executor = make_executor(cluster, processes, read_extensions(chosen.extensions))
    try:
        with counting() as progress:
            task = progress.add_task("Trials", total=None)
            found = search(
                chosen,
                chosen.tuning,
                folder,
                executor,
                progress=lambda done, count: progress.update(task, completed=done, total=count),
            )
    finally:
        executor.close()
    if json_output:
        print_json(found)
        return
    trials = chosen.tuning.trials
    console.print(f"Best of {trials} trials each, in {folder / STUDY}:", highlight=False)
    for reward, one in found["searches"].items():
        best = one["best"]
        told = ", ".join(f"{name} {value:.4g}" for name, value in best["values"].items())
        score, points = best["profit_score"], best["success_points"]
        console.print(
            f"  {reward}: {told} (profit score {score:.2f}, success {points:+.1f} points)",
            highlight=False,
        )


@app.command()
def diagnose(
    definition: DefinitionArgument,
    out: OutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Measure what newcomers gain by learning against the trained teams, and cross-play of these.

    The definition's key `diagnosis` says how. Trains the teams that are not in the results' folder.
    What was found is kept in `diagnosis` there, and is part of the next report. Ctrl-C loses only
    what is under way.
    """
    from lnagents.evaluate.experiment.definition import load_definition
    from lnagents.evaluate.experiment.diagnosis import FOLDER
    from lnagents.evaluate.experiment.diagnosis import diagnose as look_into
    from lnagents.evaluate.experiment.diagnosis_section import to_json
    from lnagents.model.errors import ExperimentError

    chosen = load_definition(definition)
    if chosen.diagnosis is None:
        raise ExperimentError(definition, "diagnosis: the definition says nothing about it")
    folder = out or _folder(chosen.name)
    with counting() as progress:
        task = progress.add_task("Seatings", total=None)
        made = look_into(
            chosen,
            chosen.diagnosis,
            folder,
            progress=lambda done, count: progress.update(task, completed=done, total=count),
        )
    if json_output:
        print_json({"made": made, **to_json(folder)})
        return
    console.print(f"{made:,} seatings made; they are in {folder / FOLDER}", highlight=False)


@app.command()
def ceiling(
    definition: DefinitionArgument,
    networks: Annotated[
        int, typer.Option(min=1, help="Training networks of each family to play on.")
    ] = 6,
    out: OutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Say how much there is to win: the best fees by balance for all, each family, each network.

    Plays a grid of 48 rules on training networks, and what is chosen on other payments of the same
    networks. Written to `ceiling.json` in the results' folder.
    """
    import json

    from lnagents.evaluate.experiment.ceiling import find_ceiling
    from lnagents.evaluate.experiment.definition import load_definition
    from lnagents.evaluate.page import write_whole

    chosen = load_definition(definition)
    folder = out or _folder(chosen.name)
    with counting() as progress:
        task = progress.add_task("Networks", total=None)
        found = find_ceiling(
            chosen,
            networks,
            progress=lambda done, count: progress.update(task, completed=done, total=count),
        )
    data = {"experiment": chosen.name, "choices": [one.to_json() for one in found]}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "ceiling.json", json.dumps(data, indent=1) + "\n")
    if json_output:
        print_json(data)
        return
    figures = ("score", "profit", "success", "more_score", "more_profit", "more_success")
    table = Table("one rule for", "success counts", *(name.replace("_", " ") for name in figures))
    for one in found:
        estimates = (_with_interval(getattr(one, name)) for name in figures)
        table.add_row(one.of, f"{one.success_weight:g}", *estimates)
    console.print(table)


def _with_interval(value: Estimate) -> str:
    return f"{value.value:+.2f} [{value.low:+.2f}, {value.high:+.2f}]"


@app.command()
def report(
    definition: DefinitionArgument,
    out: OutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Make the report of an experiment from its results: one HTML page that needs nothing else."""
    from lnagents.evaluate.experiment.definition import load_definition
    from lnagents.evaluate.experiment.report import write_report
    from lnagents.evaluate.experiment.scores import read_scores
    from lnagents.evaluate.experiment.sections import further_of
    from lnagents.evaluate.results import Results

    chosen = load_definition(definition)
    results = Results(out or _folder(chosen.name))
    scores = read_scores(chosen, results)
    further = further_of(chosen, results, scores)
    page = write_report(scores, results.folder, further)
    if json_output:
        print_json(scores.to_json())
        return
    console.print(f"The report is in {page}", highlight=False)


@app.command()
def live(
    team: Annotated[
        Path,
        typer.Option(
            help="The checkpoint of a team that `lnagents train` trained.", dir_okay=False
        ),
    ],
    plan: Annotated[
        str, typer.Argument(help="A plan (YAML), or the name of one that comes along.")
    ] = "steady",
    scenario: Annotated[
        str | None,
        typer.Option(
            help="`competitor` or `drain`: what happens in the middle; then only the team is run,"
            " frozen, and with one of it learning on."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two seeds of twelve rounds: under 30 minutes.")
    ] = False,
    twin: Annotated[
        bool, typer.Option("--twin", help="Only in the twin: no node is started, minutes at most.")
    ] = False,
    untaught: Annotated[
        bool,
        typer.Option(
            "--untaught",
            help="With a scenario: also run the one who learns on without letting it learn from"
            " what it sells, which tells what was learned from what it believes anyway.",
        ),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many networks; the plan's unless given.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=2, help="How many rounds; the plan's unless given.")
    ] = None,
    out: OutOption = None,
    backend: Annotated[
        str, typer.Option(help="`native` (plain processes) or `compose` (Docker).")
    ] = "native",
    json_output: JsonOption = False,
) -> None:
    """Compare heuristics and a trained team, frozen and learning on, on real LND nodes.

    Starts a network of each seed, one daemon beside every node, makes the same payments under every
    condition, lives through the same in the twin, and writes live.html and live.json. Runs that
    have a result are not made again; Ctrl-C loses only the one under way, and stops all nodes.
    """
    import logging

    import structlog

    from lnagents.cli.live_view import LiveView, interrupted_once
    from lnagents.cli.testbed import backend_kind
    from lnagents.evaluate.live.page import summarise_live, write_live_page
    from lnagents.evaluate.live.plan import load_plan, scenario_named
    from lnagents.evaluate.live.results import LiveResults, WorldName
    from lnagents.evaluate.live.runner import run_live, team_digest
    from lnagents.evaluate.live.scores import score
    from lnagents.model.errors import InputError

    # What actors of the twin note would get between the lines, and into the JSON.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    chosen = load_plan(plan)
    if scenario is not None:
        chosen = chosen.with_scenario(scenario_named(scenario), untaught=untaught)
    elif untaught:
        raise InputError("--untaught", "needs a --scenario")
    if quick:
        chosen = chosen.quick()
    chosen = chosen.sized(seeds, rounds)
    folder = out or Path("results") / f"{'twin' if twin else 'live'}-{chosen.name}"
    results = LiveResults(folder)
    with interrupted_once(), LiveView(error_console) as view:
        made = run_live(chosen, team, results, view, backend=backend_kind(backend), only_twin=twin)
    world: WorldName = "twin" if twin else "live"
    scores = score(chosen, team_digest(team), results.read(), world)
    page = write_live_page(scores, folder)
    if json_output:
        print_json(scores.to_json() | {"made": made})
        return
    for line in summarise_live(scores):
        console.print(line, highlight=False, markup=False)
    where = "in the twin" if twin else "on real nodes"
    console.print(f"{made} runs made {where}; the page is {page}", highlight=False)


def _folder(name: str) -> Path:
    return Path("results") / name
