"""Source runs of CSV and JSONL files: each file is a run, and each of its lines a row."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.times import to_micros

from trialstream.files import open_given
from trialstream.imports.bounds import count, micros
from trialstream.imports.runs import End, Row, SourceRun, Stream
from trialstream.protocol import Step

__all__ = ["Columns", "csv_run", "jsonl_run"]

_MAX_LINE = 16 * 1024 * 1024
"""Maximum length of a line, and of a row with line breaks in its cells, bytes."""

_MAX_COLUMNS = 100_000
# Length of the names of dicts that are in each other, from which on an inner dict is one value.
_MAX_PREFIX = 10_000


@dataclass(frozen=True)
class Columns:
    """Meaning of the columns of a file; a column of JSONL is a key, and `a/b` the key b in the dict a.

    Attributes:
        step: Column of the steps: ints, floats or texts; None if there is none.
        time: Column of the times: ISO 8601, in UTC unless they have an offset, or seconds since 1970; None for the time
            of the file.
        metrics: Columns of the metrics; all others whose values are numbers if empty.
        parameters: Columns of the parameters, whose first value counts.
    """

    step: str | None = None
    time: str | None = None
    metrics: Sequence[str] = ()
    parameters: Sequence[str] = ()

    @property
    def named(self) -> set[str]:
        """All columns that are named."""
        return {*filter(None, (self.step, self.time)), *self.metrics, *self.parameters}


def csv_run(
    file: str | os.PathLike[str], columns: Columns | None = None, *, name: str | None = None, live: bool = False
) -> SourceRun:
    """Read a CSV file with a line of names as a run; its id is the path of the file.

    An empty cell is a missing value. `nan` and `inf` are numbers.

    Args:
        file: The file.
        columns: What its columns are; all of them are metrics if not given.
        name: Name of the trial; the name of the file if not given.
        live: Whether the file may still grow: a last line without its end is left for later, and the trial is not
            finished.

    Returns:
        The source run.

    Raises:
        InvalidValue: The file has no such columns, or a line that cannot be read; the message has the line.
    """
    return _run("csv", Path(file), columns or Columns(), name, _csv, live=live)


def jsonl_run(
    file: str | os.PathLike[str], columns: Columns | None = None, *, name: str | None = None, live: bool = False
) -> SourceRun:
    """Read a file with a JSON object in each line as a run; its id is the path of the file.

    Args:
        file: The file.
        columns: What its keys are; all of them are metrics if not given.
        name: Name of the trial; the name of the file if not given.
        live: As for `csv_run`.

    Returns:
        The source run.

    Raises:
        InvalidValue: A line cannot be read; the message has the line.
    """
    return _run("jsonl", Path(file), columns or Columns(), name, _jsonl, live=live)


# Reads a file: the number of each line, the byte behind it, and its cells by column.
_Read = Callable[[Path, bool], Iterator["tuple[int, int, dict[str, Any]]"]]


def _run(kind: str, path: Path, columns: Columns, name: str | None, read: _Read, *, live: bool) -> SourceRun:
    try:
        written = micros(path.stat().st_mtime)
        size = path.stat().st_size
    except OSError as error:
        raise InvalidValue(f"file: expected a file that can be read: {error}") from error
    parameters: dict[str, Any] = {}
    first, last, seen = None, written, set[str]()
    for line, _, cells in read(path, live):  # the first reading finds parameters, times and mistakes
        seen |= columns.named & cells.keys()
        if columns.time is not None:
            last = _time(cells.get(columns.time), f"{path}: line {line}: {columns.time}")
            first = last if first is None else first
        for column in columns.parameters:
            if column not in parameters and cells.get(column) not in (None, ""):
                parameters[column] = _parsed(cells[column])
    if missing := columns.named - seen:
        raise InvalidValue(f"{path}: expected the columns {sorted(missing)}, got none of that name in any line")
    run = SourceRun(
        source=f"{kind}:{path.resolve()}",
        name=name or path.name,
        created=written if first is None else first,
        parameters=parameters,
        end=None if live else End(last),
    )
    run.streams = [Stream("rows", size, lambda: _rows(path, read(path, live), columns, written, run.left_out))]
    return run


def _rows(
    path: Path, lines: Iterator[tuple[int, int, dict[str, Any]]], columns: Columns, written: int, left_out: Counter[str]
) -> Iterator[Row]:
    others = {*filter(None, (columns.step, columns.time)), *columns.parameters}
    for line, at, cells in lines:
        values: dict[str, float] = {}
        for column in columns.metrics or cells:
            cell = cells.get(column)
            if column in others or cell is None or cell == "":
                continue
            number = _number(cell)
            if number is None:
                count(left_out, f"values of {column[:60]!r} that are no numbers")
            else:
                values[column] = number
        if not values:
            continue
        time = written
        if columns.time is not None:
            time = _time(cells.get(columns.time), f"{path}: line {line}: {columns.time}")
        yield Row(None if columns.step is None else _step(cells.get(columns.step)), time, values, at)


def _lines(file: IO[bytes], path: Path, live: bool) -> Iterator[tuple[int, int, bytes]]:
    number = at = 0
    while line := file.readline(_MAX_LINE + 1):
        number, at = number + 1, at + len(line)
        if len(line) > _MAX_LINE:
            raise InvalidValue(f"{path}: line {number}: expected at most {_MAX_LINE} bytes, got more")
        if live and not line.endswith(b"\n"):
            return
        yield number, at, line


def _text(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{path}: line {number}: expected UTF-8: {error}") from None


def _csv(path: Path, live: bool) -> Iterator[tuple[int, int, dict[str, Any]]]:
    at = 0
    with open_given(path) as file:
        begun = 0  # where the row begins, which may have several lines

        def lines() -> Iterator[str]:
            nonlocal at
            for number, end, line in _lines(file, path, live):
                at = end
                if at - begun > _MAX_LINE:
                    raise InvalidValue(f"{path}: line {number}: expected a row of at most {_MAX_LINE} bytes, got more")
                yield _text(line, path, number)

        reader = csv.reader(lines(), strict=True)
        names: list[str] | None = None
        try:
            for cells in reader:
                begun = at
                if names is None:
                    names = cells
                    if len(names) > _MAX_COLUMNS:
                        raise InvalidValue(f"{path}: expected at most {_MAX_COLUMNS} columns, got {len(names)}")
                    if twice := [name for name, times in Counter(names).items() if times > 1]:
                        raise InvalidValue(f"{path}: line 1: expected each name once, got {twice[0][:60]!r} twice")
                elif cells:
                    if len(cells) != len(names):
                        raise InvalidValue(
                            f"{path}: line {reader.line_num}: expected {len(names)} cells, got {len(cells)}"
                        )
                    yield reader.line_num, at, dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise InvalidValue(f"{path}: line {reader.line_num}: expected CSV: {error}") from None
    if names is None:
        raise InvalidValue(f"{path}: expected a line with the names of the columns, got an empty file")


def _jsonl(path: Path, live: bool) -> Iterator[tuple[int, int, dict[str, Any]]]:
    with open_given(path) as file:
        for number, at, line in _lines(file, path, live):
            if not line.strip():
                continue
            cells: dict[str, Any] = {}
            try:
                found = json.loads(_text(line, path, number))
                if isinstance(found, dict):
                    _flatten(cells, found, "")
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n"):  # the last line of a process that was killed, or still runs
                    return
                raise InvalidValue(f"{path}: line {number}: expected a JSON object: {error}") from None
            if not isinstance(found, dict):
                raise InvalidValue(f"{path}: line {number}: expected a JSON object, got {type(found).__name__}")
            yield number, at, cells


def _flatten(cells: dict[str, Any], found: dict[str, Any], prefix: str) -> None:
    for key, each in found.items():
        if isinstance(each, dict) and each and len(prefix) < _MAX_PREFIX:
            _flatten(cells, each, f"{prefix}{key}/")
        else:
            cells[prefix + key] = each


def _number(cell: Any) -> float | None:
    if isinstance(cell, (list, dict)):
        return None
    try:
        return float(cell)  # a text, a number or a bool
    except (ValueError, OverflowError):
        return {"true": 1.0, "false": 0.0}.get(str(cell).strip().casefold())


def _step(cell: Any) -> Step | None:
    """Return a step: an int, a float or a text; None for an empty cell and what cannot be a step."""
    if isinstance(cell, str):
        return None if cell == "" else _parsed(cell)
    return cell if isinstance(cell, (int, float)) and not isinstance(cell, bool) else None


def _parsed(cell: Any) -> Any:
    """Return an int or a float if a text is one, and the value as it is otherwise."""
    if not isinstance(cell, str):
        return cell
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _time(cell: Any, where: str) -> int:
    if isinstance(cell, bool) or cell is None:
        raise InvalidValue(f"{where}: expected a time, got {cell!r}")
    try:
        return micros(float(cell))
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        found = datetime.fromisoformat(f"{cell}")
        return to_micros(found if found.tzinfo else found.replace(tzinfo=UTC))
    except ValueError:
        raise InvalidValue(f"{where}: expected ISO 8601 or seconds since 1970, got {str(cell)[:40]!r}") from None
