"""Source runs of TensorBoard: scalars, steps, times, hyperparameters, and what has no place."""

from __future__ import annotations

import math
import struct
import warnings

import pytest
from trialstream.imports import tensorboard_runs
from trialstream.tfevents.protobuf import bytes_field, double_field, float_field, varint_field
from trialstream.tfevents.records import frame
from trialstream_schemas.errors import InvalidValue, SchemaError


def event(*values, step=0, time=1000.0):
    """Return the record of an event with a summary."""
    summary = b"".join(bytes_field(1, value) for value in values)
    return frame(double_field(1, time) + varint_field(2, step) + bytes_field(5, summary))


def scalar(tag, value):
    """Return a value of a summary."""
    return bytes_field(1, tag.encode()) + float_field(2, value)


def tensor(tag, content, plugin=b"scalars"):
    """Return a value of a summary, as `tf.summary` of TensorFlow 2 writes it."""
    metadata = bytes_field(1, bytes_field(1, plugin))
    return bytes_field(1, tag.encode()) + bytes_field(8, content) + bytes_field(9, metadata)


def write(folder, *records, name="events.out.tfevents.1.host"):
    """Write an event file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(frame(double_field(1, 999.5) + bytes_field(3, b"brain.Event:2")) + b"".join(records))


def rows(run):
    """Return step, time and values of all rows."""
    return [(row.step, row.time, row.values) for stream in run.streams for row in stream.rows()]


def test_scalars_become_rows_with_their_steps_and_times(tmp_path):
    """A record is a row; NaN and infinity are kept, and so are negative steps."""
    write(
        tmp_path,
        event(scalar("loss", 0.5), scalar("acc", 1.0), step=3, time=1000.25),
        event(scalar("loss", math.inf), step=-1),
        event(scalar("loss", math.nan), step=2**40),
    )
    [run] = tensorboard_runs(tmp_path)
    first, second, third = rows(run)

    assert first == (3, 1_000_250_000, {"loss": 0.5, "acc": 1.0})
    assert second == (-1, 1_000_000_000, {"loss": math.inf})
    assert third[0] == 2**40
    assert math.isnan(third[2]["loss"])
    assert (run.name, run.created, run.end.time) == (tmp_path.name, 999_500_000, 1_000_250_000)


def test_scalars_that_are_tensors_become_numbers(tmp_path):
    """TensorFlow 2 writes a scalar as a tensor without dimensions, of any type of number."""
    double = varint_field(1, 2) + bytes_field(4, struct.pack("<d", 0.1))
    packed = varint_field(1, 1) + bytes_field(5, struct.pack("<f", 0.5))
    int64 = varint_field(1, 9) + bytes_field(10, b"\x07")
    vector = varint_field(1, 1) + bytes_field(2, bytes_field(2, varint_field(1, 3))) + bytes_field(4, bytes(12))
    write(
        tmp_path,
        event(tensor("a", double), tensor("b", packed), tensor("c", int64), tensor("d", vector)),
        event(tensor("text", double, plugin=b"text")),
    )
    [run] = tensorboard_runs(tmp_path)

    assert [values for _, _, values in rows(run)] == [{"a": 0.1, "b": 0.5, "c": 7.0}]
    assert run.left_out == {"tensors": 1, "values of the plugin text": 1}


def test_two_values_of_a_tag_in_one_record_are_two_rows(tmp_path):
    """No value is lost."""
    write(tmp_path, event(scalar("x", 1.0), scalar("x", 2.0)))
    [run] = tensorboard_runs(tmp_path)

    assert [values for _, _, values in rows(run)] == [{"x": 1.0}, {"x": 2.0}]


def test_each_folder_is_a_run_and_each_file_a_stream(tmp_path):
    """The name is the path in the folder; a copy elsewhere has the same id."""
    for name in ("a", "b/c"):
        write(tmp_path / "logs" / name, event(scalar("x", 1.0)))
        write(tmp_path / "copy" / name, event(scalar("x", 1.0)))
    write(tmp_path / "logs" / "a", event(scalar("x", 2.0)), name="events.out.tfevents.2.host")
    first, second = tensorboard_runs(tmp_path / "logs")
    copies = list(tensorboard_runs(tmp_path / "copy"))

    assert (first.name, second.name) == ("a", "b/c")
    assert [stream.key for stream in first.streams] == ["events.out.tfevents.1.host", "events.out.tfevents.2.host"]
    assert [run.source for run in copies] == [first.source, second.source]


def test_a_live_file_grows_by_whole_records(tmp_path):
    """The part of a record at the end is left for the next reading, and a live run has no end."""
    write(tmp_path, event(scalar("x", 1.0)), event(scalar("x", 2.0))[:-3])
    [run] = tensorboard_runs(tmp_path, live=True)

    assert [values for _, _, values in rows(run)] == [{"x": 1.0}]
    assert run.end is None


def test_a_damaged_file_is_named(tmp_path):
    """The rows before the damage are read; the error has the file and the offset."""
    write(tmp_path, event(scalar("x", 1.0)), frame(b"\x08"))
    [run] = tensorboard_runs(tmp_path)
    found = run.streams[0].rows()

    assert next(found).values == {"x": 1.0}
    with pytest.raises(SchemaError, match=r"events\.out\.tfevents\.1\.host: record that ends at byte \d+: protobuf"):
        next(found)


def test_a_folder_without_event_files_is_refused(tmp_path):
    """The message names the folder."""
    with pytest.raises(InvalidValue, match="expected event files"):
        list(tensorboard_runs(tmp_path))


def test_the_files_of_tensorboardx(tmp_path):
    """Scalars and hyperparameters that tensorboardX writes are read; histograms and texts have no place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer_type = pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: `make peers`")
        with writer_type.SummaryWriter(str(tmp_path)) as writer:
            for step in range(3):
                writer.add_scalar("train/loss", 1 / (step + 1), step, walltime=100.0 + step)
            writer.add_scalar("nan", math.nan, 5)
            writer.add_histogram("weights", [1.0, 2.0], 0)
            writer.add_text("note", "hello", 0)
            writer.add_hparams({"lr": 0.5, "name": "adam", "nesterov": True}, {"best": 0.9}, name="hparams")
    run, hparams = sorted(tensorboard_runs(tmp_path), key=lambda run: len(run.parameters))

    found = rows(run)
    assert [(step, time) for step, time, values in found if "train/loss" in values] == [
        (i, 100_000_000 + i * 1_000_000) for i in range(3)
    ]
    assert [math.isnan(values["nan"]) for _, _, values in found if "nan" in values] == [True]
    assert run.left_out == {"histograms": 1, "values of the plugin text": 1}
    assert hparams.parameters == {"lr": 0.5, "name": "adam", "nesterov": True}
    assert [values for _, _, values in rows(hparams)] == [{"best": pytest.approx(0.9)}]
