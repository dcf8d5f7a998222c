"""Files of other trackers that somebody has planted or damaged: `import-from` refuses them in little memory."""

from __future__ import annotations

import os
import struct
import zlib

import pytest
from children import in_child
from trialstream.imports import csv_run, jsonl_run, tensorboard_runs, wandb_log, wandb_runs
from trialstream.imports import tables as tables_module
from trialstream.imports import wandb as wandb_module
from trialstream.imports.importing import _Guarded, _take
from trialstream.tfevents.protobuf import bytes_field, double_field, float_field, varint_field
from trialstream.tfevents.records import frame
from trialstream_schemas.errors import InvalidValue, SchemaError

READERS = {
    "csv": csv_run,
    "jsonl": jsonl_run,
    "tensorboard": lambda path: list(tensorboard_runs(path)),
    "wandb": lambda path: list(wandb_runs(path)),
}
WANDB_HEADER = b":W&B\xe1\xbe\x00"


def read(function, path, mebibytes=64):
    """Read all rows of the runs of a file in little memory; it must not hang either."""
    return in_child(_rows, function, path, mebibytes=mebibytes, seconds=60)


def _rows(function, path):
    runs = function(path)
    return [
        row for run in (runs if isinstance(runs, list) else [runs]) for stream in run.streams for row in stream.rows()
    ]


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("make", "what"),
    [
        pytest.param(os.mkfifo, "a FIFO", id="fifo"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device", id="link to a device"),
        pytest.param(lambda path: path.mkdir(), "a folder", id="folder"),
    ],
)
def test_only_regular_files_are_read(tmp_path, kind, make, what):
    """A FIFO or a device neither blocks nor fills the memory."""
    path = tmp_path / f"file.{kind}"
    make(path)
    expected = f"expected a file, got {what}" if kind in ("csv", "jsonl") else "expected (event )?files"

    with pytest.raises(InvalidValue, match=expected):
        read(READERS[kind], path)


def test_a_file_that_becomes_a_fifo(tmp_path):
    """A file of the list of runs that is a FIFO when the rows are read is an error of that run."""
    path = tmp_path / "a.csv"
    path.write_text("loss\n1\n")
    run = csv_run(path)
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(InvalidValue, match=r"a\.csv: expected a file that can be read: expected a file, got a FIFO"):
        in_child(lambda: list(run.streams[0].rows()))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_line_of_a_gigabyte(tmp_path, kind):
    """A line is read up to its bound only."""
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.write(b"loss\n" if kind == "csv" else b"")
        file.truncate(2**30)

    with pytest.raises(InvalidValue, match=r"line \d: expected at most 16777216 bytes, got more"):
        read(READERS[kind], path)


def test_a_row_of_many_lines(tmp_path, monkeypatch):
    """A row of a CSV file whose cells have line breaks is bounded as a whole."""
    monkeypatch.setattr(tables_module, "_MAX_LINE", 1000)
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,"' + '\n","' * 1000)

    with pytest.raises(InvalidValue, match="expected a row of at most 1000 bytes, got more"):
        read(csv_run, path)


def test_many_columns(tmp_path, monkeypatch):
    """The number of columns is bounded, and no message lists them."""
    monkeypatch.setattr(tables_module, "_MAX_COLUMNS", 100)
    path = tmp_path / "a.csv"
    path.write_text(",".join(map(str, range(101))) + "\n")
    with pytest.raises(InvalidValue, match="expected at most 100 columns, got 101"):
        read(csv_run, path)
    path.write_text(",".join(["x" * 1000] * 2) + "\n")
    with pytest.raises(InvalidValue, match=r"expected each name once, got 'x{60}' twice"):
        read(csv_run, path)


def test_dicts_in_each_other_with_long_names(tmp_path):
    """The names of dicts that are in each other are not joined without a bound."""
    path = tmp_path / "a.jsonl"
    depth = 400
    path.write_text("".join('{"%s": ' % ("k" * 20_000) for _ in range(depth)) + "1" + "}" * depth + "\n")

    assert read(jsonl_run, path, mebibytes=256) == []


def test_what_is_left_out_is_counted_under_few_names(tmp_path):
    """A source cannot make a line of output of each of its names."""
    path = tmp_path / "a.jsonl"
    path.write_text("{" + ", ".join(f'"{i}": "text"' for i in range(5000)) + "}\n")
    run = jsonl_run(path)
    list(run.streams[0].rows())

    assert len(run.left_out) == 101
    assert sum(run.left_out.values()) == 5000


def test_a_record_of_an_event_file_that_claims_4_gib(tmp_path):
    """A length is compared with its bound, and with the size of the file, before anything is read."""
    path = tmp_path / "a.tfevents"
    whole = frame(double_field(1, 1.0))
    length = struct.pack("<Q", 2**32)
    path.write_bytes(whole + length + frame(length)[12 + 8 :])  # the checksum of those bytes as data

    with pytest.raises(SchemaError, match=r"expected a record of at most 268435456 bytes at byte \d+, got 4294967296"):
        read(READERS["tensorboard"], path)


@pytest.mark.parametrize(
    "record", [b"\x2a\xff\xff\xff\xff\x0f", b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x2a"]
)
def test_a_message_that_claims_too_much(tmp_path, record):
    """A length in a message is compared with the bytes that are there."""
    path = tmp_path / "a.tfevents"
    path.write_bytes(frame(double_field(1, 1.0)) + frame(record))

    with pytest.raises(SchemaError, match="protobuf: expected"):
        read(READERS["tensorboard"], path)


def test_a_record_of_a_million_values(tmp_path):
    """The values of a record are read one by one: those without a number and a tag take no memory."""
    path = tmp_path / "a.tfevents"
    value = bytes_field(1, bytes_field(1, b"loss") + float_field(2, 0.5))
    summary = bytes_field(5, b"\x0a\x00" * 500_000 + value)
    path.write_bytes(frame(double_field(1, 1.0)) + frame(double_field(1, 2.0) + varint_field(2, 7) + summary))
    [row] = read(READERS["tensorboard"], path)

    assert (row.step, row.values) == (7, {"loss": 0.5})


def part(data, kind=1):
    """Return a part of a record of a `.wandb` file."""
    return struct.pack("<IHB", zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind) + data


@pytest.mark.parametrize(
    ("name", "bound", "record"),
    [
        pytest.param("_MAX_ITEMS", 10, bytes_field(2, b"\x0a\x00" * 11), id="items of a record"),
        pytest.param("_MAX_TEXT", 100, bytes_field(2, bytes_field(1, bytes_field(16, b"1" * 101))), id="a long text"),
        pytest.param(
            "_MAX_NAMES",
            1,
            bytes_field(2, b"".join(bytes_field(1, bytes_field(1, x)) for x in (b"a", b"b"))),
            id="names",
        ),
    ],
)
def test_a_record_of_wandb_with_too_much(tmp_path, monkeypatch, name, bound, record):
    """Items, texts and names of a record are bounded."""
    monkeypatch.setattr(wandb_module, name, bound)
    path = tmp_path / "run.wandb"
    path.write_bytes(WANDB_HEADER + part(bytes_field(17, bytes_field(8, b"run"))) + part(record))

    with pytest.raises(SchemaError, match=rf"run\.wandb: record that ends at byte \d+: expected at most .*\b{bound} "):
        read(READERS["wandb"], path)


def test_empty_parts_of_a_record_of_wandb(tmp_path, monkeypatch):
    """Parts without bytes count for the bound of a record, too."""
    monkeypatch.setattr(wandb_log, "MAX_RECORD_BYTES", 1000)
    path = tmp_path / "run.wandb"
    path.write_bytes(WANDB_HEADER + part(b"", 2) + part(b"", 3) * 1000)

    with pytest.raises(SchemaError, match="expected a record of at most 1000 bytes"):
        read(READERS["wandb"], path)


def test_files_that_vanish_are_an_error_of_ours():
    """An error of the operating system while runs are listed is raised as one of ours: commands print one line."""

    def runs():
        raise FileNotFoundError(2, "No such file or directory", "a.csv")
        yield

    left = _Guarded(runs())
    assert _take(left, 10) == []
    assert isinstance(left.error, InvalidValue)
    assert "a.csv" in str(left.error)
