"""Source runs of CSV and JSONL files."""

from __future__ import annotations

import json
import math

import pytest
from trialstream.imports import Columns, csv_run, jsonl_run
from trialstream_schemas.errors import InvalidValue


def rows(run):
    """Return step and values of all rows."""
    return [(row.step, row.values) for stream in run.streams for row in stream.rows()]


def written(tmp_path, text, name="run.csv"):
    """Write a file."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_all_columns_of_numbers_are_metrics(tmp_path):
    """An empty cell is missing; NaN and infinity are numbers; a text is counted."""
    run = csv_run(written(tmp_path, "epoch,loss,acc,note\n0,0.5,,start\n1,nan,inf,\n"), Columns(step="epoch"))
    first, second = rows(run)

    assert first == (0, {"loss": 0.5})
    assert (second[0], second[1]["acc"]) == (1, math.inf)
    assert math.isnan(second[1]["loss"])
    assert run.left_out == {"values of 'note' that are no numbers": 1}
    assert (run.name, run.source) == ("run.csv", f"csv:{tmp_path / 'run.csv'}")


def test_columns_are_chosen_by_name(tmp_path):
    """Steps keep their type, times are UTC, and a parameter is the first value of its column."""
    text = 'lr,step,when,a,b\n0.1,0.5,2026-01-02T03:04:05,1,9\n0.1,last,2026-01-02T04:04:05+01:00,"2",9\n'
    columns = Columns(step="step", time="when", metrics=["a"], parameters=["lr"])
    run = csv_run(written(tmp_path, text), columns, name="mine")

    assert rows(run) == [(0.5, {"a": 1.0}), ("last", {"a": 2.0})]
    assert {row.time for row in run.streams[0].rows()} == {1767323045000000}
    assert (run.name, run.parameters) == ("mine", {"lr": 0.1})
    assert (run.created, run.end.time) == (1767323045000000, 1767323045000000)


def test_json_objects_are_rows(tmp_path):
    """A key of a dict in a dict is joined by a slash; bools are numbers; lists are counted."""
    lines = [{"step": 2, "train": {"loss": 0.5}, "ok": True, "all": [1]}, {"step": 3, "train": {"loss": math.nan}}]
    run = jsonl_run(written(tmp_path, "\n".join(map(json.dumps, lines)) + "\n\n"), Columns(step="step"))
    first, second = rows(run)

    assert first == (2, {"train/loss": 0.5, "ok": 1.0})
    assert math.isnan(second[1]["train/loss"])
    assert run.left_out == {"values of 'all' that are no numbers": 1}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_live_file_ends_with_its_last_whole_line(tmp_path, kind):
    """A last line without its end is left for a later import."""
    text = {"csv": "x\n1\n2", "jsonl": '{"x": 1}\n{"x": 2'}[kind]
    path = written(tmp_path, text, f"run.{kind}")
    run = {"csv": csv_run, "jsonl": jsonl_run}[kind](path, live=True)

    assert [values for _, values in rows(run)] == [{"x": 1.0}]
    assert run.end is None


@pytest.mark.parametrize(
    ("read", "text", "columns", "message"),
    [
        (csv_run, "a,b\n1\n", {}, "line 2: expected 2 cells, got 1"),
        (csv_run, "a,a\n1,2\n", {}, "line 1: expected each name once"),
        (csv_run, "", {}, "expected a line with the names"),
        (csv_run, 'a\n"1\n', {}, "line 2: expected CSV"),
        (csv_run, b"a\n\xff\n", {}, "line 2: expected UTF-8"),
        (csv_run, "a\n1\n", {"step": "b"}, r"expected the columns \['b'\], got none"),
        (csv_run, "a,t\n1,noon\n", {"time": "t"}, "line 2: t: expected ISO 8601"),
        (csv_run, "a\n" + "1" * 200_000 + "\n", {}, "line 2: expected CSV"),
        (jsonl_run, '{"a": 1}\n[1]\n', {}, "line 2: expected a JSON object, got list"),
        (jsonl_run, '{"a": 1\n{"a": 2}\n', {}, "line 1: expected a JSON object"),
        (jsonl_run, '{"a":' * 100_000 + "\n", {}, "line 1: expected a JSON object"),
    ],
    ids=[
        *("cells", "names", "empty file", "quote", "encoding", "column", "time", "huge cell", "list", "json", "deep"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, read, text, columns, message):
    """The error has the file and the line."""
    with pytest.raises(InvalidValue, match=message) as error:
        rows(read(written(tmp_path, text), Columns(**columns)))
    assert str(tmp_path / "run.csv") in str(error.value)


def test_a_line_without_end_is_not_read_into_memory(tmp_path, monkeypatch):
    """The length of a line is bounded."""
    monkeypatch.setattr("trialstream.imports.tables._MAX_LINE", 100)
    with pytest.raises(InvalidValue, match="line 1: expected at most 100 bytes"):
        jsonl_run(written(tmp_path, '{"a": "' + "x" * 200))


def test_a_file_that_is_not_there_is_named(tmp_path):
    """The message has the path."""
    with pytest.raises(InvalidValue, match=r"file: expected a file that can be read: .*none\.csv"):
        csv_run(tmp_path / "none.csv")
