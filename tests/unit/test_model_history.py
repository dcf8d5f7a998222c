"""The history of a trial, in documents of bounded size."""

from __future__ import annotations

import math
import struct

import bson
import pytest
from trialstream_schemas.model import history
from trialstream_schemas.model.history import MAX_ROWS, Bucket, Rows, Shape
from trialstream_schemas.wire.limits import MAX_EVENT_BYTES

LOSS = Shape("metrics", ("loss",), "int")


def rows(shape, first, n, writer="w", step=None):
    """Return rows numbered from `first`, each with its number in every column."""
    numbers = range(first, first + n)
    steps = {
        "int": list(numbers),
        "float": [i / 2 for i in numbers],
        "text": [step or f"s{i}" for i in numbers],
        "none": [],
    }[shape.steps]
    return Rows(shape, first, writer, steps, [i * 10 for i in numbers], [list(map(float, numbers))] * len(shape.names))


def test_bucket_of_one_column():
    """A bucket packs its columns little-endian, so that any language can read them."""
    bucket = Bucket("t_0", LOSS)

    assert list(bucket.append(rows(LOSS, 5, 3))) == []
    document = bucket.to_document(full=False)

    assert document == {
        "_id": f"t_0/{LOSS.uid}/open",
        "trial": "t_0",
        "section": "metrics",
        "names": ["loss"],
        "step_type": "int",
        "number": 0,
        "rows": 3,
        "segments": [[5, 3, "w"]],
        "steps": struct.pack("<3q", 5, 6, 7),
        "times": struct.pack("<3q", 50, 60, 70),
        "values": {"loss": struct.pack("<3d", 5, 6, 7)},
    }


@pytest.mark.parametrize(
    ("steps", "stored"),
    [
        pytest.param("int", struct.pack("<2q", 0, 1), id="integers"),
        pytest.param("float", struct.pack("<2d", 0, 0.5), id="floats"),
        pytest.param("text", ["s0", "s1"], id="texts"),
        pytest.param("none", b"", id="none"),
    ],
)
def test_steps(steps, stored):
    """Integer and float steps are packed, text steps are a list, and rows without steps have none."""
    shape = Shape("metrics", ("loss",), steps)
    bucket = Bucket("t_0", shape)

    list(bucket.append(rows(shape, 0, 2)))

    assert bucket.to_document(full=False)["steps"] == stored


def test_bucket_fills():
    """A full bucket is returned under its number, and the next one starts empty."""
    bucket = Bucket("t_0", LOSS)

    assert list(bucket.append(rows(LOSS, 0, MAX_ROWS - 1))) == []
    [full] = bucket.append(rows(LOSS, MAX_ROWS - 1, 2))

    assert full.to_document(full=True)["max_step"] == MAX_ROWS - 1
    assert (full.number, len(full)) == (0, MAX_ROWS)
    assert full.to_document(full=True)["_id"] == f"t_0/{LOSS.uid}/0"
    assert full.to_document(full=True)["values"]["loss"] == struct.pack(f"<{MAX_ROWS}d", *range(MAX_ROWS))
    assert (bucket.number, len(bucket)) == (1, 1)
    assert bucket.to_document(full=False)["segments"] == [[MAX_ROWS, 1, "w"]]


def test_bucket_becomes_exactly_full():
    """A bucket that becomes exactly full is returned at once, and the open one is empty."""
    bucket = Bucket("t_0", LOSS)

    [full] = bucket.append(rows(LOSS, 0, MAX_ROWS))

    assert len(full) == MAX_ROWS
    assert (bucket.number, len(bucket), bucket.spans) == (1, 0, [])


def test_one_frame_fills_several_buckets():
    """A frame larger than a bucket fills several in order, without losing or reordering rows."""
    bucket = Bucket("t_0", LOSS)

    full = list(bucket.append(rows(LOSS, 7, 3 * MAX_ROWS + 5)))

    assert [each.number for each in full] == [0, 1, 2]
    assert [x for each in [*full, bucket] for x in each.columns[0]] == list(range(7, 3 * MAX_ROWS + 12))
    assert [each.spans[0].first for each in [*full, bucket]] == [7 + i * MAX_ROWS for i in range(4)]


@pytest.mark.parametrize(
    ("logged", "spans"),
    [
        pytest.param([("a", 0, 2), ("a", 2, 3)], [[0, 5, "a"]], id="a writer that continues"),
        pytest.param(
            [("a", 0, 2), ("b", 2, 1), ("a", 3, 1)], [[0, 2, "a"], [2, 1, "b"], [3, 1, "a"]], id="two writers"
        ),
        pytest.param([("a", 0, 2), ("a", 5, 1)], [[0, 2, "a"], [5, 1, "a"]], id="rows of another shape in between"),
    ],
)
def test_spans_of_writers(logged, spans):
    """A span has the consecutive rows of one writer in the trial."""
    bucket = Bucket("t_0", LOSS)

    for writer, first, n in logged:
        list(bucket.append(rows(LOSS, first, n, writer)))

    assert bucket.to_document(full=False)["segments"] == spans


@pytest.mark.parametrize(
    ("kind", "steps", "wanted"),
    [
        pytest.param("int", [3, -7, 5], 5, id="integers"),
        pytest.param("int", [-(2**63), 2**53, 2**53 + 1], 2**53 + 1, id="integers beyond 2**53"),
        pytest.param("int", [2**63 - 1, 0, 1], 2**63 - 1, id="the largest integer"),
        pytest.param("float", [0.5, -1e300, 0.25], 0.5, id="floats"),
        pytest.param("float", [math.nan, -1.5, math.nan], -1.5, id="NaN beside numbers"),
        pytest.param("float", [-math.nan, math.nan, math.nan], math.nan, id="NaN alone"),
        pytest.param("float", [-0.0, -0.0, -1.0], 0.0, id="a negative zero"),
        pytest.param("float", [1.0, math.inf, math.nan], math.inf, id="infinity"),
    ],
)
def test_the_largest_step_of_a_full_bucket(monkeypatch, kind, steps, wanted):
    """A full bucket stores its largest numeric step exactly, and as the same bytes on every machine."""
    monkeypatch.setattr(history, "MAX_ROWS", len(steps))
    shape = Shape("metrics", ("loss",), kind)
    [full] = Bucket("t_0", shape).append(Rows(shape, 0, "w", steps, [0] * len(steps), [[0.0] * len(steps)]))

    document = full.to_document(full=True)

    assert bson.encode({"": document["max_step"]}) == bson.encode({"": wanted})
    assert bson.encode(Bucket.from_document(document).to_document(full=True)) == bson.encode(document)


@pytest.mark.parametrize("kind", ["int", "float", "text", "none"])
def test_buckets_without_a_largest_step(kind):
    """The open bucket, and buckets whose steps are text or missing, store no largest step."""
    shape = Shape("metrics", ("loss",), kind)
    bucket = Bucket("t_0", shape)
    [full] = bucket.append(rows(shape, 0, shape.capacity + 1))

    assert "max_step" not in bucket.to_document(full=False)
    assert ("max_step" in full.to_document(full=True)) == (kind in ("int", "float"))


def test_bucket_continues_after_a_document():
    """A bucket that is read from its document continues where it was, within its last span."""
    bucket = Bucket("t_0", LOSS)
    list(bucket.append(rows(LOSS, 0, 5)))

    back = Bucket.from_document(bson.decode(bson.encode(bucket.to_document(full=False))))
    for each in (bucket, back):
        list(each.append(rows(LOSS, 5, 2)))

    assert back.to_document(full=False) == bucket.to_document(full=False)
    assert back.to_document(full=False)["segments"] == [[0, 7, "w"]]


def test_odd_names():
    """Names with dots, dollars and spaces are escaped as keys, and restored."""
    shape = Shape("metrics", ("a.b", "", "$x", "a b"), "none")
    bucket = Bucket("t_0", shape)
    list(bucket.append(rows(shape, 0, 1)))

    document = bson.decode(bson.encode(bucket.to_document(full=False)))

    assert document["names"] == ["a.b", "", "$x", "a b"]
    assert list(document["values"]) == ["a%2Eb", "%", "%24x", "a b"]
    assert Bucket.from_document(document).shape == shape


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(Shape("metrics", ("a",), "int"), Shape("chronos", ("a",), "int"), id="sections"),
        pytest.param(Shape("metrics", ("a",), "int"), Shape("metrics", ("a",), "float"), id="steps"),
        pytest.param(Shape("metrics", ("a", "b"), "int"), Shape("metrics", ("b", "a"), "int"), id="order of names"),
        pytest.param(Shape("metrics", ("ab",), "int"), Shape("metrics", ("a", "b"), "int"), id="names"),
    ],
)
def test_shapes_differ(one, other):
    """Different shapes have different uids, and so different buckets."""
    assert one.uid != other.uid


WIDE = tuple(f"layer.{i:05}.weight.grad.norm" for i in range(20_000))


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(LOSS, id="one metric"),
        pytest.param(Shape("metrics", tuple("abcdefgh"), "float"), id="eight metrics"),
        pytest.param(Shape("metrics", WIDE[:500], "int"), id="500 metrics"),
        pytest.param(Shape("metrics", WIDE[:5000], "none"), id="5,000 metrics"),
        pytest.param(Shape("metrics", ("loss",), "text"), id="text steps of the largest length"),
    ],
)
def test_bucket_documents_are_bounded(shape):
    """A full bucket of any shape and length of steps is under 2 MB, even if each row has another writer."""
    bucket, full, first = Bucket("0" * 32 + "_0", shape), [], 0
    while not full:
        full = list(bucket.append(rows(shape, first, 1, writer="w" * 60 + f"{first % 1000:04}", step="s" * 1024)))
        first += 1

    assert 1 <= len(full[0]) == shape.capacity <= MAX_ROWS
    assert len(bson.encode(full[0].to_document(full=True))) < 2_000_000


@pytest.mark.parametrize(
    ("character", "steps"),
    [
        pytest.param(".", "none", id="names of dots"),
        pytest.param("x", "text", id="text steps"),
    ],
)
def test_widest_event_fits(character, steps):
    """Events with the longest and the most names make buckets far below MongoDB's 16 MB, escapes included."""
    names = tuple(character * 1020 + f"{i:04}" for i in range(MAX_EVENT_BYTES // 1024))
    shape = Shape("metrics", names, steps)

    [full] = Bucket("0" * 32 + "_0", shape).append(rows(shape, 0, shape.capacity, step="s" * 1024))

    assert len(bson.encode(full.to_document(full=True))) < 5_000_000
