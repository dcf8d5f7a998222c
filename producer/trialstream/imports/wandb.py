"""Source runs of W&B: each offline run, `offline-run-*/run-*.wandb`.

The messages are those of wandb/proto/wandb_internal.proto; the numbers of fields are the same in all versions.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from trialstream_schemas.errors import InvalidValue, SchemaError
from trialstream_schemas.model.values import MAX_DEPTH

from trialstream.imports.bounds import count, micros
from trialstream.imports.runs import End, Row, SourceRun, Stream
from trialstream.imports.wandb_log import read_wandb
from trialstream.tfevents.protobuf import fields, integer, text

__all__ = ["wandb_runs"]

# Fields of Record.
_HISTORY, _SUMMARY, _CONFIG, _METRIC, _RUN, _EXIT = 2, 3, 5, 12, 17, 18
_LEFT_OUT = {
    4: "lines of output",
    6: "files",
    7: "system metrics",
    8: "artifacts",
    9: "links to TensorBoard",
    10: "alerts",
    13: "lines of output",
    24: "artifacts",
    25: "artifacts",
}
# Bounds of what is in memory at a time: items of a record, and their bytes; names of a run, and patterns of names.
_MAX_ITEMS = 100_000
_MAX_TEXT = 16 * 1024 * 1024
_MAX_NAMES = 1_000_000
_MAX_GLOBS = 1000


def wandb_runs(folder: str | os.PathLike[str], *, live: bool = False) -> Iterator[SourceRun]:
    """Read the offline runs of W&B in a folder.

    Config becomes parameters, tags become tags, history becomes metrics, and the summary metadata, unless it is the
    last value of a metric. The step of a row is W&B's, or the value of the metric that `define_metric` has named as the
    axis. A run that was resumed has a file for each part; they are streams of one trial.

    Args:
        folder: The folder `wandb`, one of a run, or a `.wandb` file.
        live: Whether runs without an exit may still run: their trials are not finished.

    Yields:
        The source runs, sorted by path.

    Raises:
        InvalidValue: There is no such file.
        SchemaError: A file is damaged before the record of its run. Other damage is an error of the run, once its rows
            are read; both messages have the file and the offset.
    """
    root = Path(folder)
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*.wandb") if path.is_file())
    if not files:
        raise InvalidValue(f"folder: expected files *.wandb in {root}, got none")
    by_run: dict[str, list[tuple[Path, _Facts]]] = {}
    for path in files:
        facts = _facts(path)
        by_run.setdefault("/".join([facts.entity, facts.project, facts.id or path.stem]), []).append((path, facts))
    for source, found in by_run.items():
        yield _run(source, found, live=live)


@dataclass
class _Facts:
    """Findings of the first reading of a file."""

    id: str = ""
    entity: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    kind: str = ""
    notes: str = ""
    host: str = ""
    sweep: str = ""
    start: float | None = None
    last: float | None = None
    exit_code: int | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    logged: set[str] = field(default_factory=set)


# Fields of RunRecord with a text → attribute.
_TEXTS = {
    1: "id",
    2: "entity",
    3: "project",
    6: "group",
    7: "kind",
    8: "name",
    9: "notes",
    12: "sweep",
    13: "host",
}


def _records(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield the offset of the end of each record, its type and its message."""
    for at, record in read_wandb(path):
        for number, value in _fields(record, path, at):
            if isinstance(value, bytes) and number not in (16, 19, 200):
                yield at, number, value


def _fields(message: bytes, path: Path, at: int) -> Iterator[tuple[int, int | bytes]]:
    try:
        yield from fields(message)
    except SchemaError as error:
        raise SchemaError(f"{path}: record that ends at byte {at}: {error}") from None


def _facts(path: Path) -> _Facts:
    facts = _Facts()
    try:
        for at, kind, message in _records(path):
            try:
                _note(facts, kind, message)
                if len(facts.logged) > _MAX_NAMES:
                    raise SchemaError(f"expected at most {_MAX_NAMES} names of metrics")
            except SchemaError as error:
                raise SchemaError(f"{path}: record that ends at byte {at}: {error}") from None
    except SchemaError:  # raised again when the rows up to the damage are read
        if not facts.id:
            raise
    return facts


def _note(facts: _Facts, kind: int, message: bytes) -> None:
    if kind == _RUN:
        for number, value in fields(message):
            if number in _TEXTS:
                setattr(facts, _TEXTS[number], text(value))
            elif number == 10 and len(facts.tags) < _MAX_NAMES:
                facts.tags.append(text(value))
            elif number == 4 and isinstance(value, bytes):
                _update(facts.config, value, 1, 2)
            elif number == 17 and isinstance(value, bytes):
                facts.start = _timestamp(value)
    elif kind == _CONFIG:
        _update(facts.config, message, 1, 2)
    elif kind == _SUMMARY:
        _update(facts.summary, message, 1, 2)
    elif kind == _EXIT:
        facts.exit_code = 0
        for number, value in fields(message):
            if number == 1:
                facts.exit_code = integer(value)
    elif kind == _HISTORY:
        items = _items(message, 1)
        facts.logged |= {keys[0] for keys, _ in items if keys}
        facts.last = _time(items, facts.last)


def _timestamp(message: bytes) -> float:
    found = {number: integer(value) for number, value in fields(message)}
    return found.get(1, 0) + found.get(2, 0) / 1e9


def _items(message: bytes, wanted: int) -> list[tuple[tuple[str, ...], Any]]:
    """Return the items of a message: keys from the outside in, and the value of the JSON."""
    items: list[tuple[tuple[str, ...], Any]] = []
    left = _MAX_TEXT
    for number, item in fields(message):
        if number != wanted or not isinstance(item, bytes):
            continue
        left -= len(item)
        if left < 0 or len(items) == _MAX_ITEMS:
            raise SchemaError(f"expected at most {_MAX_ITEMS} items of {_MAX_TEXT} bytes together in a record")
        keys: list[str] = []
        value = None
        for inner, each in fields(item):
            if inner in (1, 2) and len(keys) <= MAX_DEPTH:
                keys.append(text(each))
            elif inner == 16:
                value = _json(text(each))
        if len(keys) > 1 and not keys[0]:
            keys = keys[1:]
        items.append((tuple(keys), value))
    return items


def _json(given: str) -> Any:
    """Return the value of JSON as W&B writes it, with NaN, Infinity and -Infinity; None for what is no JSON."""
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        return None


def _update(held: dict[str, Any], message: bytes, update: int, remove: int) -> None:
    """Apply the updates and removals of a config or a summary."""
    for keys, value in _items(message, update):
        _set(held, keys, value)
    if len(held) > _MAX_NAMES:
        raise SchemaError(f"expected at most {_MAX_NAMES} names")
    for keys, _ in _items(message, remove):
        if len(keys) == 1:
            held.pop(keys[0], None)


def _set(held: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    """Set the value at some keys, from the outside in."""
    for key in keys[:-1]:
        inner = held.get(key)
        if not isinstance(inner, dict):
            inner = held[key] = {}
        held = inner
    if keys:
        held[keys[-1]] = value


def _time(items: list[tuple[tuple[str, ...], Any]], default: float | None) -> float | None:
    for keys, value in items:
        if keys == ("_timestamp",) and isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    return default


def _run(source: str, files: list[tuple[Path, _Facts]], *, live: bool) -> SourceRun:
    first, last = files[0][1], files[-1][1]
    start = first.start if first.start is not None else files[0][0].stat().st_mtime
    config = {key: each for _, facts in files for key, each in facts.config.items()}
    config.pop("_wandb", None)
    logged = set().union(*(facts.logged for _, facts in files))
    summary = {
        key: each
        for _, facts in files
        for key, each in facts.summary.items()
        if key not in logged and not key.startswith("_")
    }
    run = SourceRun(
        source=f"wandb:{source}",
        name=last.name or last.id or files[0][0].stem,
        created=micros(start),
        # The config was {"key": {"value": …}} in older versions.
        parameters={
            key: each["value"] if isinstance(each, dict) and "value" in each and {*each} <= {"value", "desc"} else each
            for key, each in config.items()
        },
        tags={tag: True for _, facts in files for tag in facts.tags},
        metadata={
            key: each
            for key, each in {
                "group": last.group,
                "job_type": last.kind,
                "host": last.host,
                "sweep": last.sweep,
                "summary": summary,
            }.items()
            if each
        },
        description=last.notes,
        project=last.project or None,
    )
    if last.exit_code is not None or not live:
        time = max(start, *(facts.last for _, facts in files if facts.last is not None), start)
        run.end = End(micros(time), error=f"exit code {last.exit_code}" if last.exit_code else None)
    run.streams = [
        Stream(f"{path.parent.name}/{path.name}", path.stat().st_size, partial(_rows, path, run.left_out))
        for path, _ in files
    ]
    return run


def _rows(path: Path, left_out: Counter[str]) -> Iterator[Row]:
    axes = _Axes()
    time = 0.0
    for at, kind, message in _records(path):
        try:
            if kind == _METRIC:
                axes.define(message)
            elif kind in _LEFT_OUT:
                left_out[_LEFT_OUT[kind]] += 1
            elif kind == _RUN:
                time = next((_timestamp(x) for n, x in fields(message) if n == 17 and isinstance(x, bytes)), time)
            if kind != _HISTORY:
                continue
            items = _items(message, 1)
            step = next((_number(x) for n, x in fields(message) if n == 2 and isinstance(x, bytes)), None)
        except SchemaError as error:
            raise SchemaError(f"{path}: record that ends at byte {at}: {error}") from None
        time = _time(items, time) or 0.0
        yield from axes.rows(items, step, micros(time), at, left_out)


def _number(message: bytes) -> int:
    """Return the number of a HistoryStep."""
    return next((integer(value) for number, value in fields(message) if number == 1), 0)


class _Axes:
    """The axes of the metrics, as `define_metric` has named them so far."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._globs: dict[str, str] = {}
        self._indexed: list[str] = []  # metrics by index, to which `step_metric_index` refers from 1

    def define(self, message: bytes) -> None:
        name = glob = step = ""
        index = 0
        for number, value in fields(message):
            if number == 1:
                name = text(value)
            elif number == 2:
                glob = text(value)
            elif number == 4:
                step = text(value)
            elif number == 5:
                index = integer(value)
        self._indexed.append(name)
        if len(self._indexed) > _MAX_NAMES or len(self._globs) > _MAX_GLOBS:
            raise SchemaError(f"expected at most {_MAX_NAMES} definitions of metrics, and {_MAX_GLOBS} with patterns")
        if index and not step and 0 < index <= len(self._indexed):
            step = self._indexed[index - 1]
        if step and name:
            self._names[name] = step
        elif step and glob:
            self._globs[glob] = step

    def _axis(self, name: str) -> str:
        if name in self._names:
            return self._names[name]
        return next((step for glob, step in self._globs.items() if fnmatch.fnmatchcase(name, glob)), "")

    def rows(
        self,
        items: list[tuple[tuple[str, ...], Any]],
        step: int | None,
        time: int,
        at: int,
        left_out: Counter[str],
    ) -> Iterator[Row]:
        """Yield the rows of a history record: one for each axis."""
        logged: dict[str, Any] = {}
        for keys, found in items:
            _set(logged, keys, found)
        values: dict[str, float] = {}
        for name, found in logged.items():
            if name == "_step" and isinstance(found, int):
                step = found if step is None else step
            elif not name.startswith("_"):
                _collect(values, name, found, left_out)
        by_axis: dict[str, dict[str, float]] = {}
        for name, value in values.items():
            axis = self._axis(name)
            by_axis.setdefault(axis if axis in values else "", {})[name] = value
        for axis, part in by_axis.items():
            own: float | int | None = step
            if axis:
                own = values[axis]
                own = int(own) if own.is_integer() and abs(own) < 2**53 else own
            yield Row(own, time, part, at)


def _collect(values: dict[str, float], name: str, found: Any, left_out: Counter[str], depth: int = 0) -> None:
    """Collect the numbers of a value, which may be a dict, and count what is no number."""
    if isinstance(found, (bool, int, float)):
        try:
            values[name] = float(found)
        except OverflowError:
            left_out["integers beyond a double"] += 1
    elif found in ("NaN", "Infinity", "-Infinity"):
        values[name] = float(found.replace("Infinity", "inf"))
    elif isinstance(found, dict) and "_type" not in found and depth < MAX_DEPTH:
        for key, each in found.items():
            _collect(values, f"{name}/{key}", each, left_out, depth + 1)
    elif found is not None:
        kind = found.get("_type") if isinstance(found, dict) else None
        count(left_out, f"values of type {str(kind or type(found).__name__)[:40]}")
