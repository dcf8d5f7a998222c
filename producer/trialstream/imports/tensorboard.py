"""Source runs of TensorBoard: each folder with event files is a run, each of its files a stream.

The messages are `Event`, `Summary`, `TensorProto` (tensorflow/core) and `HParamsPluginData` (tensorboard/plugins).
"""

from __future__ import annotations

import math
import os
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from trialstream_schemas.errors import InvalidValue, SchemaError
from trialstream_schemas.model.identity import digest

from trialstream.imports.bounds import count, micros
from trialstream.imports.runs import End, Row, SourceRun, Stream
from trialstream.tfevents.protobuf import double, fields, integer, text
from trialstream.tfevents.records import read_records

__all__ = ["tensorboard_runs"]

# Values of a Summary: what has no place in a trial, by number of the field.
_LEFT_OUT = {4: "images", 5: "histograms", 6: "audio", 3: "images"}
_HPARAMS = "_hparams_/session_start_info"
# DataType → format of one value of `TensorProto`: the bytes of `tensor_content`.
_TENSORS = {1: "<f", 2: "<d", 3: "<i", 9: "<q", 10: "<?"}
# Fields of `TensorProto` with one value, which may be packed: number → format.
_TENSOR_VALUES: dict[int, str | None] = {5: "<f", 6: "<d", 7: None, 10: None, 11: None}
# Names in a row, and hyperparameters of a run.
_MAX_ROW = _MAX_PARAMETERS = 100_000
_Value: TypeAlias = "tuple[str, float | None, str]"  # tag, number, and what it is if it is no number


def tensorboard_runs(folder: str | os.PathLike[str], *, live: bool = False) -> Iterator[SourceRun]:
    """Read the runs in a folder of event files, one for each folder that holds some.

    The name of a run is its path in the folder. Its id is made of the names of its folder and of its first event file,
    and of the first record, which has the time; so a copy elsewhere is the same run. Scalars are metrics,
    hyperparameters are parameters. A part of a record at the end of a file is left for a later import.

    Args:
        folder: The folder, or one event file.
        live: Whether the runs may still run: their trials are not finished.

    Yields:
        The source runs, sorted by path.

    Raises:
        InvalidValue: There is no event file.
        SchemaError: The first record of a run is damaged. Other damage is an error of the run, once its rows are read;
            both messages have the file and the offset.
    """
    root = Path(folder)
    files = [root] if root.is_file() else [path for path in root.rglob("*tfevents*") if path.is_file()]
    if not files:
        raise InvalidValue(f"folder: expected event files (*tfevents*) in {root}, got none")
    by_folder: dict[Path, list[Path]] = {}
    for path in sorted(files):
        by_folder.setdefault(path.parent, []).append(path)
    for path, found in by_folder.items():
        name = path.resolve().name
        if not root.is_file() and path != root:
            name = path.relative_to(root).as_posix()
        yield _run(name, found, live=live)


@dataclass
class _Facts:
    """Findings of the first reading of a run."""

    first: float = math.inf
    last: float = -math.inf
    parameters: dict[str, Any] = field(default_factory=dict)


def _run(name: str, files: list[Path], *, live: bool) -> SourceRun:
    facts = _Facts()
    for path in files:
        with suppress(SchemaError):  # raised again when the rows up to the damage are read
            for at, record in read_records(path):
                _note(facts, record, path, at)
    if facts.first > facts.last:  # no whole record, or a damaged one
        facts.first = facts.last = files[0].stat().st_mtime
    # The first record has the time at which the file was made, to the microsecond.
    opening = next((record for _, record in read_records(files[0])), b"")
    run = SourceRun(
        source=f"tensorboard:{files[0].resolve().parent.name}/{files[0].name}/{digest(opening)[:8]}",
        name=name,
        created=micros(facts.first),
        parameters=facts.parameters,
        end=None if live else End(micros(facts.last)),
    )
    run.streams = [Stream(path.name, path.stat().st_size, partial(_rows, path, run.left_out)) for path in files]
    return run


def _note(facts: _Facts, record: bytes, path: Path, at: int) -> None:
    try:
        for number, value in fields(record):
            if number == 1 and math.isfinite(time := double(value)):
                facts.first, facts.last = min(facts.first, time), max(facts.last, time)
            elif number == 5 and isinstance(value, bytes) and _HPARAMS.encode() in value:
                facts.parameters |= _hparams(value)
                if len(facts.parameters) > _MAX_PARAMETERS:
                    raise SchemaError(f"expected at most {_MAX_PARAMETERS} hyperparameters")
    except SchemaError as error:
        raise SchemaError(f"{path}: record that ends at byte {at}: {error}") from None


def _rows(path: Path, left_out: Counter[str]) -> Iterator[Row]:
    for at, record in read_records(path):
        try:
            time, step, summary = 0.0, 0, b""
            for number, value in fields(record):
                if number == 1:
                    time = double(value)
                elif number == 2:
                    step = integer(value)
                elif number == 5 and isinstance(value, bytes):
                    summary = value
                elif number in (4, 9):
                    left_out["graphs"] += 1
            # One value at a time: a record may have a hundred million of them.
            row: dict[str, float] = {}
            for tag, x, kind in (_value(each) for number, each in fields(summary) if number == 1):
                if x is None:
                    if kind:
                        count(left_out, kind)
                    continue
                if tag in row or len(row) == _MAX_ROW:
                    yield Row(step, micros(time), row, at)
                    row = {}
                row[tag] = x
        except SchemaError as error:
            raise SchemaError(f"{path}: record that ends at byte {at}: {error}") from None
        if row:
            yield Row(step, micros(time), row, at)


def _value(data: int | bytes) -> _Value:
    """Read one value of a Summary."""
    if isinstance(data, int):
        raise SchemaError("protobuf: expected the value of a summary, got a number")
    tag, found, kind, plugin = "", None, "values of an unknown type", ""
    tensor: bytes | None = None
    for number, value in fields(data):
        if number == 1:
            tag = text(value)
        elif number == 2:
            found = double(value)
        elif number in _LEFT_OUT:
            kind = _LEFT_OUT[number]
        elif number == 8 and isinstance(value, bytes):
            tensor, kind = value, "tensors"
        elif number == 9 and isinstance(value, bytes):
            plugin = _plugin(value)
    if tag.startswith("_hparams_/"):
        return tag, None, "" if tag == _HPARAMS else "hyperparameters of an experiment"
    if found is None and tensor is not None and plugin in ("", "scalars"):
        found = _scalar(tensor)
    if not tag:
        return tag, None, "values without a tag"
    return tag, found, kind if not plugin or plugin == "scalars" else f"values of the plugin {plugin[:40]}"


def _plugin(metadata: bytes) -> str:
    for number, value in fields(metadata):
        if number == 1 and isinstance(value, bytes):
            return next((text(each) for inner, each in fields(value) if inner == 1), "")
    return ""


def _scalar(tensor: bytes) -> float | None:
    """Return the number of a tensor without dimensions; None for any other tensor."""
    kind, content, found = 0, b"", None
    for number, value in fields(tensor):
        if number == 1:
            kind = integer(value)
        elif number == 2 and value:
            return None
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number in _TENSOR_VALUES:
            form = _TENSOR_VALUES[number]
            if form is None:
                found = _varint(value)
            elif isinstance(value, bytes) and len(value) == struct.calcsize(form):
                found = double(value)
            else:
                return None
    form = _TENSORS.get(kind, "")
    if form and len(content) == struct.calcsize(form):
        return float(struct.unpack(form, content)[0])
    return found if form else None


def _varint(value: int | bytes) -> float | None:
    if isinstance(value, int):
        return float(integer(value))
    # Packed: read as the value of a field of its own.
    packed = [each for _, each in fields(b"\x08" + value)] if value and value[-1] < 0x80 else []
    return float(integer(packed[0])) if len(packed) == 1 else None


def _hparams(summary: bytes) -> dict[str, Any]:
    """Return the hyperparameters of a Summary."""
    found: dict[str, Any] = {}
    for path in _inner(summary, (1, 9, 1, 2, 3)):  # value, metadata, plugin_data, content, session_start_info
        for number, entry in fields(path):
            if number != 1 or not isinstance(entry, bytes):
                continue
            key, value = "", None
            for inner, each in fields(entry):
                if inner == 1:
                    key = text(each)
                elif inner == 2 and isinstance(each, bytes):
                    value = _hparam(each)
            found[key] = value
            if len(found) > _MAX_PARAMETERS:
                return found
    return found


def _hparam(value: bytes) -> Any:
    """Return the value of a `google.protobuf.Value`: a number, a text or a bool."""
    for number, each in fields(value):
        if number == 2:
            return double(each)
        if number == 3:
            return text(each)
        if number == 4:
            return bool(each)
    return None


def _inner(message: bytes, path: tuple[int, ...]) -> Iterator[bytes]:
    """Yield the messages at a path of numbers of fields."""
    if not path:
        yield message
        return
    for number, value in fields(message):
        if number == path[0] and isinstance(value, bytes):
            yield from _inner(value, path[1:])
