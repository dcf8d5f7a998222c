"""Parquet and CSV: the trials of a query in one file, and all their metrics in another."""

from __future__ import annotations

import csv
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO, NamedTuple, TypeAlias

from anyio.to_thread import run_sync

from trialstream.export.columns import Column, Kind, cell_kind, column_of, common_kind
from trialstream.export.folder import make_folder
from trialstream.export.frames import arrow_table, arrow_type, require
from trialstream.export.pages import histories_of, trials_of
from trialstream.export.tables import FIXED, Table, long_table, trial_row
from trialstream.files import new_file
from trialstream.protocol import MetricHistory, Protocol, Query

__all__ = ["Exported", "export_csv", "export_parquet"]

_Write: TypeAlias = Callable[[Table], None]
# Writes a file of columns of some types: yields a function that adds rows.
_Open: TypeAlias = "Callable[[BinaryIO, dict[str, Kind]], Any]"

_METRICS: dict[str, Kind] = {
    "trial": "text",
    "name": "text",
    "step": "float",
    "step_text": "text",
    "time": "time",
    "row": "int",
    "value": "float",
    "writer": "text",
}


class Exported(NamedTuple):
    """Numbers of an export.

    Attributes:
        trials: Number of trials.
        values: Number of values of metrics.
    """

    trials: int
    values: int


async def export_parquet(protocol: Protocol, query: Query | None, folder: str | os.PathLike[str]) -> Exported:
    """Write the trials that match, and their metrics, as `trials.parquet` and `metrics.parquet`.

    The trials are read in pages, and one metric of one trial is in memory at a time. A file appears under its name once
    it is whole, and replaces one of an earlier export. What is logged meanwhile may be missing. `metrics.parquet` is
    the long form of `to_arrow`, with numbers in `step` as doubles, and texts in `step_text`.

    Args:
        protocol: The protocol.
        query: As for `fetch_trials`; None for all trials.
        folder: The folder, which is created if need be.

    Returns:
        How much was written.

    Raises:
        ConfigError: The package pyarrow is not installed.
        InvalidValue: The folder cannot be created, or is a file.
        QueryError: As for `fetch_trials`.
        MongoUnavailable: As for `fetch_trials`.
    """
    require("pyarrow")
    return await _export(protocol, query, make_folder(folder), "parquet", _parquet)


async def export_csv(protocol: Protocol, query: Query | None, folder: str | os.PathLike[str]) -> Exported:
    """Write the trials that match, and their metrics, as `trials.csv` and `metrics.csv`, like `export_parquet`.

    A missing value is an empty cell; NaN is `nan`, infinity `inf`; times are ISO 8601 in UTC.

    Args:
        protocol: The protocol.
        query: As for `fetch_trials`; None for all trials.
        folder: The folder, which is created if need be.

    Returns:
        How much was written.

    Raises:
        InvalidValue: The folder cannot be created, or is a file.
        QueryError: As for `fetch_trials`.
        MongoUnavailable: As for `fetch_trials`.
    """
    return await _export(protocol, query, make_folder(folder), "csv", _csv)


async def _export(protocol: Protocol, query: Query | None, folder: Path, suffix: str, open_: _Open) -> Exported:
    kinds: dict[str, set[str]] = {}
    trials = values = 0
    # The table of trials needs the columns of all of them before its first row, so their rows wait in a file.
    with ExitStack() as files:
        waiting = files.enter_context(TemporaryFile(dir=folder))
        trials_file, metrics_file = (
            files.enter_context(new_file(folder / f"{name}.{suffix}", f".{name}.{suffix}.part"))
            for name in ("trials", "metrics")
        )
        with open_(metrics_file, _METRICS) as write:
            async for page in trials_of(protocol, query):
                rows = [trial_row(trial) for trial in page]
                for name, cell in [cell for row in rows for cell in row.items()]:
                    kinds.setdefault(name, set()).update(() if cell is None else {cell_kind(cell)})
                await run_sync(pickle.dump, rows, waiting)
                trials += len(rows)
                for trial in page:
                    async for name, history in histories_of(protocol, trial):
                        values += len(history)
                        await run_sync(_write_metrics, write, trial.uid, name, history)
        columns = {**FIXED, **{name: common_kind(kinds[name]) for name in sorted({*kinds} - {*FIXED})}}
        await run_sync(_write_trials, waiting, trials_file, columns, open_)
    return Exported(trials, values)


def _write_trials(waiting: IO[bytes], file: BinaryIO, columns: dict[str, Kind], open_: _Open) -> None:
    end = waiting.tell()
    waiting.seek(0)
    with open_(file, columns) as write:
        while waiting.tell() < end:
            rows = pickle.load(waiting)  # noqa: S301 (written by this process)
            write({name: column_of([row.get(name) for row in rows], kind) for name, kind in columns.items()})


def _write_metrics(write: _Write, uid: str, name: str, history: MetricHistory) -> None:
    """Write the long table of a history, with numbers and texts of the steps apart."""
    steps = history.steps.tolist()
    numbers = [None if x is None or isinstance(x, str) else float(x) for x in steps]
    texts = [x if isinstance(x, str) else None for x in steps]
    columns = {"step": Column("float", numbers), "step_text": Column("text", texts)}
    write(long_table({uid: {name: history}}) | columns)


@contextmanager
def _parquet(file: BinaryIO, columns: dict[str, Kind]) -> Iterator[_Write]:
    pyarrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    schema = pyarrow.schema([(name, arrow_type(kind)) for name, kind in columns.items()])
    with parquet.ParquetWriter(file, schema) as writer:
        yield lambda table: writer.write_table(arrow_table({name: table[name] for name in columns}))


@contextmanager
def _csv(file: BinaryIO, columns: dict[str, Kind]) -> Iterator[_Write]:
    lines = TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(lines)
    writer.writerow(columns)

    def write(table: Table) -> None:
        cells = [map(_cell, table[name].cells) for name in columns]
        writer.writerows(zip(*cells, strict=True))

    yield write
    lines.detach()  # leaves the file open, unlike the end of the wrapper


def _cell(x: Any) -> Any:
    if x is None:
        return ""
    return f"{x}Z" if type(x).__name__ == "datetime64" else x.isoformat() if hasattr(x, "isoformat") else x
