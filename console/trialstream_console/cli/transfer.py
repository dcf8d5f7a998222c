"""`export-to` and `import-from`: trials as files of other tools, and runs of other trackers as trials."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from trialstream.config import Config
from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.messages import counted
from trialstream_schemas.model.times import from_micros

from trialstream_console.cli.output import print_json, say
from trialstream_console.cli.progress import progress_bar
from trialstream_console.cli.running import run
from trialstream_console.cli.times import parse_time
from trialstream_console.cli.where import Where

__all__ = ["register"]


class Format(StrEnum):
    """Formats of `export-to`."""

    PARQUET = "parquet"
    CSV = "csv"
    TENSORBOARD = "tensorboard"


Project = Annotated[
    str | None,
    typer.Option(help="Project of new trials, created if need be. The default is the project of the source, if any."),
]
Group = Annotated[str | None, typer.Option(help="Group of new trials, created if need be.")]
Live = Annotated[bool, typer.Option("--live", help="The source may still grow: do not finish its trials.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for each run.")]
Step = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the steps.")]
Time = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column of the times: ISO 8601 in UTC, or seconds since 1970."),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="COLUMN", help="Column of a metric. The default is all columns of numbers."),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", metavar="COLUMN", help="Column of a parameter, whose first value counts."),
]
Name = Annotated[str | None, typer.Option(help="Name of the trial. The default is the name of the file.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("export-to")(export_to)
    sources = typer.Typer(
        help="Import runs of other trackers as trials. Runs and rows that were imported before are not imported again.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (tensorboard, wandb, mlflow, sacred, csv, jsonl):
        sources.command()(command)
    app.add_typer(sources, name="import-from")


def export_to(
    format: Annotated[Format, typer.Argument(help="Format of the files.")],
    folder: Annotated[Path, typer.Argument(help="The folder, created if need be.")],
    project: Annotated[str | None, typer.Option(help="Export only the trials of this project.")] = None,
    trial: Annotated[list[str] | None, typer.Option(metavar="UID", help="Export only this trial.")] = None,
    since: Annotated[
        int | None, typer.Option(parser=parse_time, metavar="TIME", help="Export only trials created at TIME or later.")
    ] = None,
    where: Where = None,
) -> None:
    """Write trials and their metrics as Parquet, CSV or event files of TensorBoard."""
    from trialstream_console.queries import parse_where  # noqa: PLC0415 (heavy)

    query: dict[str, Any] = {} if project is None else {"project_id": project}
    if trial:
        query["uid"] = {"$in": trial}
    if since is not None:
        query["created"] = {"$gte": from_micros(since * 1000)}
    if where is not None:
        query = {"$and": [query, parse_where(where)]}
    say(run(_export, format, query, folder))


async def _export(format: Format, query: dict[str, Any], folder: Path) -> str:
    from trialstream.export import export_csv, export_parquet, export_tensorboard  # noqa: PLC0415 (heavy)
    from trialstream.reading.read_only import ReadOnlyProtocol  # noqa: PLC0415 (heavy)

    async with ReadOnlyProtocol(Config.from_env()) as protocol:
        if format is Format.TENSORBOARD:
            written = await export_tensorboard(protocol, query, folder)
            trials, values = len(written), sum(written.values())
        else:
            export = export_parquet if format is Format.PARQUET else export_csv
            trials, values = await export(protocol, query, folder)
    return f"exported {counted(trials, 'trial')} with {counted(values, 'value')} of metrics to {folder}"


def tensorboard(
    folder: Annotated[Path, typer.Argument(help="Folder with event files, or one of them.")],
    project: Project = None,
    group: Group = None,
    live: Live = False,
    as_json: AsJson = False,
) -> None:
    """Import event files of TensorBoard: each folder with some is a run."""
    from trialstream.imports import tensorboard_runs  # noqa: PLC0415 (heavy)

    _import(tensorboard_runs(folder, live=live), project, group, as_json)


def wandb(
    folder: Annotated[Path, typer.Argument(help="Folder `wandb`, that of one run, or a .wandb file.")],
    project: Project = None,
    group: Group = None,
    live: Live = False,
    as_json: AsJson = False,
) -> None:
    """Import offline runs of W&B."""
    from trialstream.imports import wandb_runs  # noqa: PLC0415 (heavy)

    _import(wandb_runs(folder, live=live), project, group, as_json)


def mlflow(
    uri: Annotated[str, typer.Argument(help="Tracking URI: sqlite:///mlflow.db, a folder, or a server.")],
    experiment: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Import only this experiment.")] = None,
    project: Project = None,
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """Import the runs of a tracking store of MLflow, through mlflow-skinny."""
    from trialstream.imports import mlflow_runs  # noqa: PLC0415 (heavy)

    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow refuses a folder otherwise; it is only read

    _import(mlflow_runs(uri, experiments=tuple(experiment or ())), project, group, as_json)


def sacred(
    uri: Annotated[str, typer.Argument(help="URI of the MongoDB.")],
    database: Annotated[str, typer.Argument(help="Name of the database.")],
    collection: Annotated[str, typer.Option(help="Name of the collection of runs.")] = "runs",
    project: Project = None,
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """Import the runs that a MongoObserver of Sacred has written."""
    from trialstream.imports import sacred_runs  # noqa: PLC0415 (heavy)

    _import(sacred_runs(uri, database, collection=collection), project, group, as_json)


def csv(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files.")],
    name: Name = None,
    step: Step = None,
    time: Time = None,
    metric: Metrics = None,
    parameter: Parameters = None,
    project: Project = None,
    group: Group = None,
    live: Live = False,
    as_json: AsJson = False,
) -> None:
    """Import CSV files: each file is a run, and each line a row."""
    from trialstream.imports import Columns, csv_run  # noqa: PLC0415 (heavy)

    columns = Columns(step, time, metric or (), parameter or ())
    _import((csv_run(file, columns, name=name, live=live) for file in files), project, group, as_json)


def jsonl(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files.")],
    name: Name = None,
    step: Step = None,
    time: Time = None,
    metric: Metrics = None,
    parameter: Parameters = None,
    project: Project = None,
    group: Group = None,
    live: Live = False,
    as_json: AsJson = False,
) -> None:
    """Import files with a JSON object in each line: each file is a run, and each line a row."""
    from trialstream.imports import Columns, jsonl_run  # noqa: PLC0415 (heavy)

    columns = Columns(step, time, metric or (), parameter or ())
    _import((jsonl_run(file, columns, name=name, live=live) for file in files), project, group, as_json)


def _import(runs: Iterable[Any], project: str | None, group: str | None, as_json: bool) -> None:
    """Import runs, and print what was done with each.

    Raises:
        TrialStreamError: Some runs could not be imported as a whole.
    """
    from trialstream.imports import import_runs  # noqa: PLC0415 (heavy)

    with progress_bar() as progress:
        send = partial(import_runs, project=project, group=group, progress=progress)
        imported = run(send, Config.from_env(), runs)
    for each in imported:
        if as_json:
            print_json(vars(each))
            continue
        left_out = "".join(f"; left out {what} ({count})" for what, count in sorted(each.left_out.items()))
        rows = counted(each.rows, "row is new", "rows are new")
        say(f"{each.name}: {each.new} of {rows}, trial {each.uid}{left_out}")
    if failed := [each for each in imported if each.error is not None]:
        more = f"; and {counted(len(failed) - 1, 'more run')}" if len(failed) > 1 else ""
        raise TrialStreamError(f"{failed[0].error}{more}")
