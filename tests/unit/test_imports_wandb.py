"""Source runs of W&B: the records of `.wandb` files, and what becomes of them."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import zlib

import pytest
from trialstream.imports import wandb_runs
from trialstream.imports.wandb_log import read_wandb
from trialstream.tfevents.protobuf import bytes_field, varint_field
from trialstream_schemas.errors import InvalidValue, SchemaError

HEADER = b":W&B\xe1\xbe\x00"
BLOCK = 32 * 1024


def log(records):
    """Return the file of some records, as W&B writes it."""
    file = bytearray(HEADER)
    for record in records:
        left, first = record, True
        while first or left:
            room = BLOCK - len(file) % BLOCK
            if room < 7:
                file += bytes(room)
                continue
            part, left = left[: room - 7], left[room - 7 :]
            kind = (1 if first else 4) if not left else (2 if first else 3)
            file += struct.pack("<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
            first = False
    return bytes(file)


def items(number, **values):
    """Return items of a history, a config or a summary."""
    return b"".join(
        bytes_field(number, bytes_field(1, key.encode()) + bytes_field(16, json.dumps(value).encode()))
        for key, value in values.items()
    )


def history(step, time=100.0, **values):
    """Return a record of history."""
    return bytes_field(2, items(1, _timestamp=time, **values) + bytes_field(2, varint_field(1, step)))


def metric(name, step_metric="", glob=False):
    """Return a record of `define_metric`."""
    return bytes_field(12, bytes_field(2 if glob else 1, name.encode()) + bytes_field(4, step_metric.encode()))


RUN = bytes_field(
    17,
    bytes_field(1, b"abc")
    + bytes_field(3, b"digits")
    + bytes_field(8, b"mlp")
    + bytes_field(10, b"base")
    + bytes_field(4, items(1, lr=0.1))
    + bytes_field(17, varint_field(1, 90)),
)


def write(folder, *records, name="run-abc.wandb"):
    """Write a `.wandb` file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(log(records))
    return folder / name


def rows(run):
    """Return step and values of all rows."""
    return [(row.step, row.values) for stream in run.streams for row in stream.rows()]


def test_records_come_back(tmp_path):
    """Records that fill a block, or reach over several, or leave too little room for a header."""
    sizes = [0, 1, BLOCK - 7 - 7 - 14 - 1, BLOCK - 7, BLOCK - 10, 3 * BLOCK, 5]
    records = [bytes([i]) * size for i, size in enumerate(sizes)]
    path = write(tmp_path, *records)

    assert [record for _, record in read_wandb(path)] == records


def test_a_file_that_is_cut_anywhere_has_the_whole_records_before(tmp_path):
    """A file that is being written ends in a part of a record."""
    whole = log([b"one", b"two"])
    path = tmp_path / "x.wandb"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        found = [record for _, record in read_wandb(path)]
        assert found == [b"one", b"two"][: (cut >= len(whole)) + (cut >= len(log([b"one"])))]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"something else", "expected the header of a .wandb file"),
        (HEADER + bytes(4) + b"\x03\x00\x01abc", "byte 7, got data with a wrong checksum"),
        (HEADER + b"1234" + b"\x00\x00\x09", "byte 7, got a part of type 9"),
        (log([])[:7] + struct.pack("<IHB", zlib.crc32(b"\x04"), 0, 4), "byte 7, got a part of type 4 without a record"),
        (HEADER + b"1234\xff\xff\x01" + bytes(BLOCK), "byte 7, got 65535 bytes, which exceed the block"),
    ],
    ids=["header", "checksum", "type", "order", "length"],
)
def test_a_damaged_file_is_named(tmp_path, data, message):
    """The error has the file and the offset."""
    path = tmp_path / "x.wandb"
    path.write_bytes(data)
    with pytest.raises(SchemaError, match=rf"x\.wandb: .*{message}"):
        list(read_wandb(path))


def test_the_size_of_a_record_is_bounded(tmp_path, monkeypatch):
    """A record that never ends does not fill the memory."""
    monkeypatch.setattr("trialstream.imports.wandb_log.MAX_RECORD_BYTES", BLOCK)
    with pytest.raises(SchemaError, match=rf"at most {BLOCK} bytes at byte 7"):
        list(read_wandb(write(tmp_path, bytes(5 * BLOCK))))


def test_the_axis_of_a_metric_is_its_step(tmp_path):
    """A record has a row for each axis that `define_metric` has named before it."""
    write(
        tmp_path,
        RUN,
        metric("epoch"),
        history(0, **{"val/acc": 0.1, "epoch": 0}),
        metric("val/*", "epoch", glob=True),
        metric("lr", "fraction"),
        history(1, loss=0.5, **{"val/acc": 0.2, "epoch": 1}),
        history(2, lr=0.25, fraction=0.5),
        history(3, **{"val/acc": 0.3}),
    )
    [run] = wandb_runs(tmp_path)

    assert rows(run) == [
        (0, {"val/acc": 0.1, "epoch": 0.0}),
        (1, {"loss": 0.5, "epoch": 1.0}),
        (1, {"val/acc": 0.2}),
        (0.5, {"lr": 0.25}),
        (2, {"fraction": 0.5}),
        (3, {"val/acc": 0.3}),
    ]


def test_values_of_all_kinds(tmp_path):
    """NaN and infinity as W&B writes them; dicts by paths; what is no number is counted by its type."""
    values = {"a": "NaN", "b": "-Infinity", "c": math.nan, "d": True, "e": {"f": {"g": 1}}, "h": "text"}
    write(tmp_path, RUN, history(0, **values, image={"_type": "image-file", "width": 3}, none=None))
    [run] = wandb_runs(tmp_path)
    [(_, found)] = rows(run)

    texts = {"a": "nan", "b": "-inf", "c": "nan", "d": "1.0", "e/f/g": "1.0"}
    assert {name: str(value) for name, value in found.items()} == texts
    assert run.left_out == {"values of type str": 1, "values of type image-file": 1}


@pytest.mark.parametrize(
    ("exit_code", "live", "end"),
    [(None, True, None), (None, False, (105, None)), (0, True, (105, None)), (3, False, (105, "exit code 3"))],
    ids=["live", "not live", "success", "failure"],
)
def test_a_run_ends_with_its_exit(tmp_path, exit_code, live, end):
    """A run without an exit ends with its last row, unless it is live."""
    exit_ = [] if exit_code is None else [bytes_field(18, varint_field(1, exit_code))]
    write(tmp_path, RUN, history(0, time=105.0, x=1), *exit_)
    [run] = wandb_runs(tmp_path, live=live)

    assert (run.end and (run.end.time // 1_000_000, run.end.error)) == end
    assert (run.name, run.project, run.parameters, run.tags) == ("mlp", "digits", {"lr": 0.1}, {"base": True})
    assert (run.source, run.created) == ("wandb:/digits/abc", 90_000_000)


def test_the_parts_of_a_resumed_run_are_streams_of_one_trial(tmp_path):
    """They have the same id; the later config is merged into the earlier one."""
    later = bytes_field(5, items(1, lr=0.2, n=1))
    write(tmp_path / "offline-run-1-abc", RUN, history(0, x=1.0))
    write(tmp_path / "offline-run-2-abc", RUN, later, history(1, x=2.0))
    [run] = wandb_runs(tmp_path)

    assert rows(run) == [(0, {"x": 1.0}), (1, {"x": 2.0})]
    assert run.parameters == {"lr": 0.2, "n": 1}


def test_the_rows_before_the_damage_are_read(tmp_path):
    """Damage behind the record of the run is an error of its rows."""
    path = write(tmp_path, RUN, history(0, x=1.0))
    path.write_bytes(path.read_bytes() + b"1234\x00\x00\x09")
    [run] = wandb_runs(tmp_path)
    found = run.streams[0].rows()

    assert next(found).values == {"x": 1.0}
    with pytest.raises(SchemaError, match=r"run-abc\.wandb: expected a record at byte"):
        next(found)


def test_a_folder_without_runs_is_refused(tmp_path):
    """The message names the folder."""
    with pytest.raises(InvalidValue, match=r"expected files \*\.wandb"):
        list(wandb_runs(tmp_path))


SCRIPT = """
import math, wandb
run = wandb.init(project="digits", name="mlp", config={"lr": 0.1, "opt": {"name": "adam"}}, tags=["base"], notes="text")
run.define_metric("epoch")
run.define_metric("val/*", step_metric="epoch")
for i in range(300):
    run.log({"loss": 1 / (i + 1), "nested": {"a": i}})
run.log({"val/acc": 0.5, "epoch": 7})
run.log({"nan": math.nan, "inf": math.inf, "text": "x", "hist": wandb.Histogram([1, 2])})
run.summary["best"] = 0.75
run.config.update({"late": 1})
run.finish()
"""


def test_the_files_of_wandb(tmp_path):
    """Offline files of W&B are read: config, tags, history, axes and the summary."""
    pytest.importorskip("wandb", reason="wandb is not installed: `make peers`")
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, timeout=120, cwd=tmp_path)
    [run] = wandb_runs(tmp_path)
    found = rows(run)

    assert (run.name, run.description, run.project, run.tags) == ("mlp", "text", "digits", {"base": True})
    assert run.parameters == {"lr": 0.1, "opt": {"name": "adam"}, "late": 1}
    assert run.metadata["summary"] == {"best": 0.75}
    assert found[:300] == [(i, {"loss": 1 / (i + 1), "nested/a": float(i)}) for i in range(300)]
    assert (7, {"val/acc": 0.5}) in found
    odd = {name: str(value) for _, values in found for name, value in values.items() if name in ("nan", "inf")}
    assert odd == {"nan": "nan", "inf": "inf"}
    assert run.left_out["values of type histogram"] == 1
    assert run.end is not None
    assert run.end.error is None
