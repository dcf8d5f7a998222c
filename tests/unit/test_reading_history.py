"""Buckets of history are read as arrays, in the order of the log."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trialstream.protocol import MetricHistory
from trialstream.reading.history import check_points, check_row, downsampled, histories
from trialstream.reading.reader import Since
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.history import Bucket, Rows, Shape

KINDS = {int: "int", float: "float", str: "text", type(None): "none"}


def buckets_of(rows):
    """Return the buckets, full and open, that the fold makes of rows of (writer, step, metrics), by their documents."""
    held, full = {}, []
    for first, (writer, step, metrics) in enumerate(rows):
        shape = Shape("metrics", tuple(metrics), KINDS[type(step)])
        bucket = held.setdefault(shape, Bucket("t_0", shape))
        steps = [] if step is None else [step]
        row = Rows(shape, first, writer, steps, [1_000_000 + first], [[x] for x in metrics.values()])
        full.extend(each.to_document(full=True) for each in bucket.append(row))
    return [Bucket.from_document(each) for each in (*full, *(each.to_document(full=False) for each in held.values()))]


def plain(steps, values):
    """Return a history of these steps and values."""
    n = len(values)
    times = np.arange(n).astype("datetime64[us]")
    writers = np.array(["w"] * n, dtype=object)
    return MetricHistory(np.array(steps), times, writers, np.array(values, dtype=float), np.arange(n) * 2)


def test_no_buckets():
    """Without buckets there are no histories."""
    assert histories([]) == {}


def test_five_arrays_of_one_length():
    """A history has arrays of steps, times, writers, values and rows, of one length and with their types."""
    loss = histories(buckets_of([("a", 1, {"loss": 0.5}), ("b", 2, {"loss": 0.25})]))["loss"]

    assert (loss.steps.dtype, loss.steps.tolist()) == (np.int64, [1, 2])
    assert (loss.values.dtype, loss.values.tolist()) == (np.float64, [0.5, 0.25])
    assert loss.writers.tolist() == ["a", "b"]
    assert (loss.rows.dtype, loss.rows.tolist()) == (np.int64, [0, 1])
    assert loss.times.tolist() == np.array([1_000_000, 1_000_001], dtype="datetime64[us]").tolist()
    assert len(loss) == 2


def test_rows_of_several_shapes_come_in_the_order_of_the_log():
    """Rows of different names, steps and writers are in the order of the log, for any order of the buckets."""
    rows = [
        (f"w{i % 3}", [i, float(i), str(i), None][i % 4], {"a": i} | ({"b": -i} if i % 5 else {})) for i in range(99)
    ]
    buckets = buckets_of(rows)

    for each in (buckets, buckets[::-1]):
        found = histories(each)
        assert list(found) == ["a", "b"]
        assert found["a"].values.tolist() == list(range(99))
        assert found["a"].steps.tolist() == [step for _, step, _ in rows]
        assert found["a"].writers.tolist() == [writer for writer, _, _ in rows]
        assert found["b"].values.tolist() == [-i for i in range(99) if i % 5]
        assert found["a"].rows.tolist() == list(range(99))
        assert found["b"].rows.tolist() == [i for i in range(99) if i % 5]


@pytest.mark.parametrize("rows", [1, 1023, 1024, 1025, 2048, 2049])
def test_buckets_follow_each_other(rows):
    """A history continues across full buckets, also if the open bucket is empty since the last one was just filled."""
    found = histories(buckets_of([("w", i, {"loss": i}) for i in range(rows)]))

    assert found["loss"].steps.tolist() == list(range(rows))
    assert found["loss"].values.tolist() == list(range(rows))
    assert found["loss"].rows.tolist() == list(range(rows))


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        pytest.param([1, 2], "i", id="int"),
        pytest.param([0.5, 1.5], "f", id="float"),
        pytest.param([1, 0.5], "f", id="numbers of both kinds"),
        pytest.param(["a", "b"], "O", id="text"),
        pytest.param([None, None], "O", id="none"),
        pytest.param([1, "a", None], "O", id="all kinds"),
    ],
)
def test_the_type_of_the_steps(steps, kind):
    """Steps are an array of numbers if all are numbers, else an array of the objects that were logged."""
    loss = histories(buckets_of([("w", step, {"loss": 1}) for step in steps]))["loss"]

    assert loss.steps.dtype.kind == kind
    assert loss.steps.tolist() == steps


@pytest.mark.parametrize(
    ("since", "wanted"),
    [
        (2, [2, 3, 2.5]),
        (2.5, [3, 2.5]),
        (2**63 - 1, []),
        ("b", ["b"]),
        ("", ["a", "b"]),
        (None, [1, 2, None, 3, 2.5, "a", "b"]),
    ],
)
def test_since_a_step(since, wanted):
    """Smaller steps, missing steps and steps of the other type are left out of all five arrays."""
    rows = [("w", step, {"loss": 1}) for step in (1, 2, None, 3, 2.5, "a", "b")]
    loss = histories(buckets_of(rows), Since(since))["loss"]

    assert loss.steps.tolist() == wanted
    assert {len(each) for each in (loss.times, loss.writers, loss.values, loss.rows)} == {len(wanted)}


@pytest.mark.parametrize(
    ("since", "wanted"),
    [
        (2**53, [2**53, 2**53 + 1, 2**53 + 3, 2**63 - 1, 2.0**53, 2.0**53 + 2, 1e300]),
        (2**53 + 1, [2**53 + 1, 2**53 + 3, 2**63 - 1, 2.0**53 + 2, 1e300]),
        (2.0**53 + 2, [2**53 + 3, 2**63 - 1, 2.0**53 + 2, 1e300]),
        (2.0**53 + 4, [2**63 - 1, 1e300]),
        (2**63 - 1, [2**63 - 1, 1e300]),
        (2.0**63, [1e300]),
        (1e300, [1e300]),
        (-(2**63), [-(2**63), 2**53, 2**53 + 1, 2**53 + 3, 2**63 - 1, 2.0**53, 2.0**53 + 2, 1e300]),
        (-1e300, [-(2**63), 2**53, 2**53 + 1, 2**53 + 3, 2**63 - 1, 2.0**53, 2.0**53 + 2, 1e300]),
    ],
)
def test_since_a_large_step(since, wanted):
    """Integers are compared with doubles exactly, also beyond 2**53 and at the ends of 64 bits; NaN is left out."""
    steps = [-(2**63), 2**53, 2**53 + 1, 2**53 + 3, 2**63 - 1, 2.0**53, 2.0**53 + 2, 1e300, math.nan]
    found = [histories(buckets_of([("w", step, {"loss": 1})]), Since(since))["loss"].steps.tolist() for step in steps]

    assert [step for each in found for step in each] == wanted


@pytest.mark.parametrize("since", [0, 1, 5, 1023, 1024, 1500, 2999, 3000, 2**63 - 1])
def test_since_a_row(since):
    """Earlier rows are left out of all five arrays, whatever the shapes, the writers and the order of the buckets."""
    rows = [(f"w{i // 7 % 2}", i if i % 3 else str(i), {"a": i} | ({"b": -i} if i % 2 else {})) for i in range(3000)]
    buckets = buckets_of(rows)
    whole = histories(buckets)

    for each in (buckets, buckets[::-1]):
        found = histories(each, Since(row=since))
        assert list(found) == ["a", "b"]
        for name, history in found.items():
            kept = whole[name].rows >= since
            assert history.steps.dtype == whole[name].steps.dtype
            for key in ("steps", "times", "writers", "values", "rows"):
                assert getattr(history, key).tolist() == getattr(whole[name], key)[kept].tolist()


def test_since_a_step_and_a_row():
    """A step and a row together keep the rows that both of them keep."""
    rows = [("w", step, {"loss": i}) for i, step in enumerate([1, 2, 3, 0.5, 4, "a", 1, 5, None, 2])]

    assert histories(buckets_of(rows), Since(2, 2))["loss"].rows.tolist() == [2, 4, 7, 9]
    assert histories(buckets_of(rows), Since("a", 5))["loss"].rows.tolist() == [5]
    assert histories(buckets_of(rows), Since("a", 6))["loss"].rows.tolist() == []


@pytest.mark.parametrize("rows", [1024, 2048])
def test_a_name_whose_buckets_are_all_full(rows):
    """The empty open bucket shows that a name has a history, if none of its full buckets is read."""
    empty = [each for each in buckets_of([("w", i, {"loss": i}) for i in range(rows)]) if not len(each)]
    loss = histories(empty, Since(row=rows))["loss"]

    assert len(empty) == 1
    assert (len(loss), loss.steps.dtype, loss.times.dtype) == (0, np.int64, np.dtype("datetime64[us]"))
    assert (loss.values.dtype, loss.rows.dtype, loss.writers.dtype) == (np.float64, np.int64, np.dtype(object))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        *((-1, InvalidValue), (2**63, InvalidValue), (10**5000, InvalidValue), (1.0, InvalidType), (True, InvalidType)),
        *(("1", InvalidType), (np.bool_(False), InvalidType), (np.float64(1), InvalidType), ([1], InvalidType)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_invalid_rows_are_refused(given, error):
    """A row that is negative, beyond 64 bits or no integer is an error that names the parameter."""
    with pytest.raises(error, match="since_row"):
        check_row(given)


def test_valid_rows():
    """A row is an integer of any type, from 0, or None."""
    assert check_row(None) is None
    assert check_row(0) == 0
    assert (check_row(np.int64(7)), type(check_row(np.int64(7)))) == (7, int)


@pytest.mark.parametrize("points", [3, 4, 7, 10, 99])
def test_downsampling_keeps_ends_and_extremes(points):
    """Downsampling keeps the ends and the extremes in order, and returns at most the requested number of points."""
    values = np.sin(np.arange(1000) / 9)
    values[100], values[200] = 9.0, -9.0
    found = downsampled(plain(range(1000), values), points)

    assert 3 <= len(found) <= points
    assert (np.diff(found.steps) > 0).all()
    assert (found.values == values[found.steps]).all()
    assert found.times.astype(int).tolist() == found.steps.tolist()
    assert found.rows.tolist() == (found.steps * 2).tolist()
    assert found.steps[-1] == 999
    assert points == 3 or found.steps[0] == 0
    assert {9.0, -9.0} <= set(found.values)


def test_downsampling_keeps_gaps():
    """A bucket with NaN or ±inf keeps the first of them beside its finite extremes; so does one without others."""
    values = np.arange(100.0)
    values[::2], values[1::20] = math.nan, math.inf
    found = downsampled(plain(range(100), values), 8)
    nothing = downsampled(plain(range(100), [math.nan] * 100), 8)

    assert found.steps.tolist() == [0, 3, 49, 50, 51, 99]
    assert np.isnan(found.values[[0, 3]]).all()
    assert nothing.steps.tolist() == [0, 50, 99]
    assert np.isnan(nothing.values).all()


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        pytest.param(3, [5, 6, 9], id="the extremes and the last row"),
        pytest.param(4, [2, 5, 6, 9], id="also the row that is infinite"),
        pytest.param(5, [0, 2, 5, 6, 9], id="also the first row"),
    ],
)
def test_downsampling_to_few_points(points, wanted):
    """With too few points for all rows that are kept otherwise, the extremes come first."""
    values = [1.0, 1.0, -math.inf, math.nan, 1.0, 9.0, -9.0, 1.0, 1.0, 1.0]

    assert downsampled(plain(range(10), values), points).steps.tolist() == wanted


def test_a_short_history_is_not_downsampled():
    """A history with at most the requested number of points is returned as it is, including NaN."""
    history = plain(range(3), [1.0, math.nan, 2.0])

    assert downsampled(history, 3) is history


@pytest.mark.parametrize(
    ("given", "error"),
    [
        *((2, InvalidValue), (0, InvalidValue), (-(10**5000), InvalidValue), (3.0, InvalidType), (True, InvalidType)),
        *((np.int64(2), InvalidValue), (np.bool_(True), InvalidType), (np.float64(3), InvalidType), ("3", InvalidType)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_invalid_numbers_of_points_are_refused(given, error):
    """A number of points below three, or that is no int, is an error that names the parameter."""
    with pytest.raises(error, match="max_points"):
        check_points(given)


def test_valid_numbers_of_points():
    """A number of points is at least three, an integer of any type, or None."""
    assert check_points(None) is None
    assert check_points(3) == 3
    assert type(check_points(np.int64(3))) is int
