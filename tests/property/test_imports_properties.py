"""Hostile files of other trackers: whatever their messages hold, they are rows or an error that names the file."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trialstream.imports import csv_run, jsonl_run, tensorboard_runs, wandb_runs
from trialstream.imports.bounds import storable_rows
from trialstream.imports.events import RunEvents
from trialstream.tfevents.protobuf import bytes_field, double_field, float_field, varint_field
from trialstream.tfevents.records import frame
from trialstream_schemas.errors import TrialStreamError

# Messages whose fields have the right numbers, any values, and any nesting.
LEAVES = st.one_of(
    st.builds(varint_field, st.integers(1, 17), st.integers(-(2**63), 2**63 - 1)),
    st.builds(double_field, st.integers(1, 17), st.floats()),
    st.builds(float_field, st.integers(1, 17), st.floats(width=32)),
    st.builds(
        bytes_field,
        st.integers(1, 17),
        st.sampled_from(
            [b"_timestamp", b"_step", b"x", b"[1", b"1e999", b"NaN", b"{}", b"_hparams_/session_start_info"]
        )
        | st.binary(max_size=12),
    ),
)
MESSAGES = st.recursive(
    LEAVES, lambda inner: st.builds(bytes_field, st.integers(1, 17), st.lists(inner, max_size=4).map(b"".join))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for the file of each example."""
    return tmp_path_factory.mktemp("hostile")


def read_all(runs, folder):
    """Read runs as an import does; the error of a file names it."""
    try:
        for run in runs:
            events = RunEvents(run, None, None, None)
            for stream in run.streams:
                for row in storable_rows(stream.rows(), run.left_out):
                    assert row.values
            assert list(events.after({}))
    except TrialStreamError as error:
        assert str(folder) in str(error) or run.source in str(error)  # noqa: PT017 (either is right)


@given(records=st.lists(MESSAGES, max_size=4))
def test_event_files(folder, records):
    """Files of TensorBoard with whole records and any messages."""
    (folder / "events.out.tfevents.1").write_bytes(b"".join(map(frame, records)))
    read_all(tensorboard_runs(folder / "events.out.tfevents.1"), folder)


@given(records=st.lists(MESSAGES, max_size=4))
def test_wandb_files(folder, records):
    """Files of W&B with whole records and any messages."""
    parts = [struct.pack("<IHB", zlib.crc32(each, zlib.crc32(b"\x01")), len(each), 1) + each for each in records]
    (folder / "run.wandb").write_bytes(b":W&B\xe1\xbe\x00" + b"".join(parts))
    read_all(wandb_runs(folder / "run.wandb"), folder)


@given(data=st.binary(max_size=100) | st.text("a,1\n\"'{}[]:e.-NaN\0", max_size=60).map(str.encode))
def test_files_of_lines(folder, data):
    """CSV and JSONL files of any bytes."""
    (folder / "lines").write_bytes(data)
    read_all((read(folder / "lines") for read in [csv_run]), folder)
    read_all((read(folder / "lines") for read in [jsonl_run]), folder)
