"""Fuzz targets of the files that come from elsewhere: segments of a spool, archives, and files of other trackers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from trialstream.imports.tables import csv_run, jsonl_run
from trialstream.imports.tensorboard import tensorboard_runs
from trialstream.imports.wandb import wandb_runs
from trialstream.spool.segment import Container, SpooledEvent, parse_segment
from trialstream.tfevents.protobuf import bytes_field, double_field, float_field, varint_field
from trialstream.tfevents.records import frame
from trialstream_consumer.archive.file import Archive, ArchiveError, new_archive
from trialstream_consumer.archive.records import SCHEMA
from trialstream_schemas.errors import InvalidValue, SchemaError, SpoolError
from trialstream_schemas.wire.schemas import SCHEMAS

__all__ = ["TARGETS"]

_SCHEMA = dict(list(SCHEMAS.items())[:1])


def _segment(data: bytes) -> object:
    return parse_segment(Path("00000001.avro"), data)


def _segments() -> list[bytes]:
    container = Container("w", "p", "l", _SCHEMA)
    events = [SpooledEvent("trials", b"key", bytes([i]) * i) for i in range(20)]
    header, *blocks = container.header, container.block(events), container.block(events[:1]), container.block(events)
    return [header, header + blocks[0], header + b"".join(blocks), header + b"\xff" * 40 + b"".join(blocks)]


def _on_disk(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Make a target of a function that reads a file."""

    def run(data: bytes) -> object:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            return read(Path(file.name))

    return run


def _archive(path: Path) -> object:
    archive = Archive.check(path, lambda *_: None)
    return sum(1 for _ in archive.logged_records())


def _archives() -> list[bytes]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (0, 1, 300):
            path = Path(folder, f"{count}.avro")
            with new_archive(path, _SCHEMA, {}) as write:
                for i in range(count):
                    write({**_RECORD, "offset": i, "key": b"k" if i % 2 else None, "value": bytes([i % 251]) * i})
            found.append(path.read_bytes())
    return found


_RECORD = {each["name"]: 0 for each in SCHEMA["fields"]} | {"topic": "trials"}


def _rows(runs: object) -> int:
    return sum(1 for run in runs for stream in run.streams for _ in stream.rows())  # type: ignore[attr-defined]


def _events() -> list[bytes]:
    value = bytes_field(1, b"loss") + float_field(2, 0.5)
    opening = frame(double_field(1, 1.0) + bytes_field(3, b"brain.Event:2"))
    row = frame(double_field(1, 2.0) + varint_field(2, 7) + bytes_field(5, bytes_field(1, value) * 2))
    return [opening, opening + row, opening + row * 3 + row[:5]]


def _wandb() -> list[bytes]:
    def part(data: bytes) -> bytes:
        import struct
        import zlib

        return struct.pack("<IHB", zlib.crc32(data, zlib.crc32(b"\x01")), len(data), 1) + data

    run = bytes_field(
        17, bytes_field(1, b"id") + bytes_field(4, bytes_field(1, bytes_field(1, b"lr") + b"\x82\x01\x010"))
    )
    item = bytes_field(1, bytes_field(1, b"loss") + bytes_field(16, b"0.5"))
    row = bytes_field(2, item + bytes_field(2, varint_field(1, 3)))
    header = b":W&B\xe1\xbe\x00"
    return [header, header + part(run), header + part(run) + part(row) * 2]


_TABLES = (SchemaError, InvalidValue)
# The name of each target, its function, its seeds, and the errors that it may raise.
TARGETS = [
    ("segment", _segment, _segments, (SpoolError,)),
    ("archive", _on_disk(_archive), _archives, (ArchiveError,)),
    ("tfevents", _on_disk(lambda path: _rows(tensorboard_runs(path))), _events, _TABLES),
    ("wandb", _on_disk(lambda path: _rows(wandb_runs(path))), _wandb, _TABLES),
    ("csv", _on_disk(lambda path: _rows([csv_run(path)])), lambda: [b"a,b\n1,2\n", b'a\n"1\n2"\n'], _TABLES),
    (
        "jsonl",
        _on_disk(lambda path: _rows([jsonl_run(path)])),
        lambda: [b'{"a": {"b": 1}}\n', b'{"a": [1]}\n{"b": 2}'],
        _TABLES,
    ),
]
