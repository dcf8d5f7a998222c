"""Tables of trials and metrics: columns, their types, and missing values."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime

import numpy as np
import pytest
import trialstream as ts
from trialstream.export import to_arrow, to_pandas, to_polars
from trialstream.export.tables import FIXED, table_of

CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def trial(name="t", **parameters):
    """Return a trial as it is fetched."""
    loss = ts.timeseries_aggregator()
    loss.extend([2.0, 1.0], step=7)
    return dataclasses.replace(
        ts.Trial(name=name, parameters=parameters, tags={"a.b": "x"}),
        status=ts.Status.Completed,
        created=CREATED,
        metrics={"loss": loss},
        metadata={"note": {"deep": [1, None]}},
    )


def history(steps, values, rows=None):
    """Return a history of values at steps."""
    count = len(values)
    return ts.MetricHistory(
        np.array(steps, dtype=object if None in steps or any(isinstance(x, str) for x in steps) else None),
        np.array([CREATED.replace(tzinfo=None)] * count, dtype="datetime64[us]"),
        np.array(["w"] * count, dtype=object),
        np.array(values, dtype=float),
        np.array(range(count) if rows is None else rows, dtype=np.int64),
    )


HISTORIES = {
    "u1": {"loss": history([0, 1, 2], [1.0, math.nan, math.inf]), "acc": history([1, 2], [0.5, 0.6], rows=[1, 2])},
    "u2": {"loss": history([0, 5], [3.0, 4.0])},
}
LIBRARIES = {
    "pandas": lambda given, **form: [
        {key: None if each != each or str(each) == "<NA>" else each for key, each in row.items()}  # noqa: PLR0124 (NaN)
        for row in to_pandas(given, **form).to_dict("records")
    ],
    "polars": lambda given, **form: to_polars(given, **form).to_dicts(),
    "pyarrow": lambda given, **form: to_arrow(given, **form).to_pylist(),
}
library = pytest.mark.parametrize("library", LIBRARIES)


def rows_of(library, given, **form):
    """Return the rows of a data frame as dicts."""
    pytest.importorskip(library, reason=f"{library} is not installed: pip install 'trialstream[export]'")
    return LIBRARIES[library](given, **form)


def test_a_column_has_the_path_of_its_value_in_queries():
    """Nested keys are joined by dots, a dot in a key is escaped, and an aggregator has a column for each statistic."""
    table = table_of([trial(opt={"lr": 0.1, "betas": [0.9, 0.99]}, empty={})], "long")

    assert list(table)[: len(FIXED)] == list(FIXED)
    assert table["parameters.opt.lr"].cells == [0.1]
    assert table["parameters.opt.betas"].cells == ["[0.9, 0.99]"]
    assert table["parameters.empty"].cells == ["{}"]
    assert table["tags.a\\.b"].cells == ["x"]
    assert table["metadata.note.deep"].cells == ["[1, null]"]
    assert (table["metrics.loss.last"].cells, table["metrics.loss.last_step"].cells) == ([1.0], [7])
    assert (table["status"].cells, table["status_code"].cells) == (["Completed"], [302])


@pytest.mark.parametrize(
    ("given", "kind", "cells"),
    [
        ([1, None, 2**60], "int", [1, None, 2**60]),
        ([1, 0.5], "float", [1.0, 0.5]),
        ([2**60, 0.5], "text", [str(2**60), "0.5"]),
        ([True, 1], "text", ["true", "1"]),
        ([True, None], "bool", [True, None]),
        (["a", 1, None], "text", ["a", "1", None]),
        ([b"\0", b"x"], "bytes", [b"\0", b"x"]),
        ([[1], {"a": 1}], "text", ["[1]", None]),
        ([None, None], "text", [None, None]),
        ([math.nan, "a"], "text", ["nan", "a"]),
    ],
    ids=["int", "int and float", "large int and float", "bool and int", "bool", "text", "bytes", "json", "none", "nan"],
)
def test_a_column_of_mixed_types_follows_one_rule(given, kind, cells):
    """The type of a column is that of its values, float for exact numbers, and text otherwise."""
    column = table_of([trial(x=each) for each in given], "long")["parameters.x"]

    assert (column.kind, column.cells) == (kind, cells)


@library
def test_trials_become_rows(library):
    """Each trial is a row, and a value that it does not have is missing."""
    first, second = rows_of(library, [trial(lr=0.1, n=1), trial("other", lr=1)])

    assert (first["name"], first["parameters.lr"], first["parameters.n"]) == ("t", 0.1, 1)
    assert (second["name"], second["parameters.lr"], second["parameters.n"]) == ("other", 1.0, None)
    assert first["created"] == CREATED
    assert first["finished"] is None or str(first["finished"]) == "NaT"
    assert first["metrics.loss.count"] == 2


@library
def test_long_metrics_have_a_row_for_each_value(library):
    """Trial, name, step, time, row, value and writer, in the order of the log."""
    rows = rows_of(library, HISTORIES)

    assert list(rows[0]) == ["trial", "name", "step", "time", "row", "value", "writer"]
    assert [(each["trial"], each["name"], each["step"], each["row"]) for each in rows] == [
        *(("u1", "loss", i, i) for i in range(3)),
        *(("u1", "acc", i, i) for i in (1, 2)),
        ("u2", "loss", 0, 0),
        ("u2", "loss", 5, 1),
    ]
    assert rows[2]["value"] == math.inf
    assert rows[0]["time"] == CREATED


@library
def test_wide_metrics_join_the_rows_of_the_log(library):
    """A row that was logged is a row, with a column for each metric; what it did not log is missing, and not NaN."""
    rows = rows_of(library, HISTORIES, form="wide")

    assert [(each["trial"], each["row"], each["step"], each["metrics.acc"]) for each in rows] == [
        ("u1", 0, 0, None),
        ("u1", 1, 1, 0.5),
        ("u1", 2, 2, 0.6),
        ("u2", 0, 0, None),
        ("u2", 1, 5, None),
    ]
    if library != "pandas":
        assert math.isnan(rows[1]["metrics.loss"])


@library
def test_metrics_of_one_trial_have_no_column_of_trials(library):
    """The histories that `fetch_metrics` returns do not name their trial."""
    assert "trial" not in rows_of(library, HISTORIES["u2"])[0]


@library
@pytest.mark.parametrize("form", ["long", "wide"])
def test_nothing_is_a_table_without_rows(library, form):
    """No trials, no histories, and trials without histories are tables, too."""
    assert rows_of(library, [], form=form) == []
    assert rows_of(library, {}, form=form) == []
    assert rows_of(library, {"u1": {}}, form=form) == []


@pytest.mark.parametrize(
    ("steps", "kind", "cells"),
    [
        ([[0, 1], [0.5]], "float", [0.0, 1.0, 0.5]),
        ([[0], ["last"]], "text", ["0", "last"]),
        ([[0], [None]], "int", [0, None]),
        ([[2**60], [0.5]], "text", [str(2**60), "0.5"]),
    ],
    ids=["int and float", "int and text", "int and none", "large int and float"],
)
def test_steps_of_mixed_types_follow_the_same_rule(steps, kind, cells):
    """No step loses digits."""
    given = {str(i): history(each, [0.0] * len(each)) for i, each in enumerate(steps)}
    column = table_of({"u": given}, "long")["step"]

    assert (column.kind, list(column.cells)) == (kind, cells)


@pytest.mark.parametrize(
    ("given", "form", "message"),
    [
        ([1], "long", "trials: expected what fetch_trials returns, got int"),
        ({"u": 1}, "long", "histories: expected what fetch_histories returns, got int"),
        ({}, "tall", "form: expected 'long' or 'wide', got 'tall'"),
    ],
    ids=["trials", "histories", "form"],
)
def test_what_has_no_table_is_refused(given, form, message):
    """The message names the argument."""
    with pytest.raises((ts.InvalidType, ts.InvalidValue), match=message):
        table_of(given, form)
