"""Outlines of histories against a plain model: the rows kept of each cell, and those of all shapes of a name."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from trialstream_schemas.model.history import MAX_ROWS, Bucket, Rows, Shape
from trialstream_schemas.model.keys import escape_key
from trialstream_schemas.model.outline import (
    CELL_ROWS,
    has_outlines,
    outline_documents,
    outline_ids,
    outline_of,
    together,
)

SPECIAL = [math.nan, math.inf, -math.inf]
VALUES = st.sampled_from([*SPECIAL, 0.0, -0.0, 1.0, -1.0, 5e-324, 1.8e308, -1.8e308]) | st.floats()
NAMES = [("loss",), ("loss", "a.b$c"), ("a.b$c", "%", "loss")]
# Rows that are logged together: their writer, names, type of step, number, and values at some of their places.
FRAMES = st.tuples(
    st.sampled_from("vw"),
    st.sampled_from(NAMES),
    st.sampled_from(["int", "float"]),
    st.sampled_from([1, 3, 300, MAX_ROWS, 2100]),
    st.dictionaries(st.integers(0, 2099), VALUES, max_size=6),
)


def buckets_of(frames):
    """Return, by shape, the full buckets and the open one that the fold makes of these frames, and all rows by name."""
    held, rows, first = {}, {}, 0
    for writer, names, kind, count, odd in frames:
        shape = Shape("metrics", names, kind)
        numbers = range(first, first + count)
        steps = [-2 * each if kind == "int" else each / 4 for each in numbers]
        columns = [[odd.get((i + j) % 2100, math.sin(i * (j + 1))) for i in numbers] for j in range(len(names))]
        full, opened = held.setdefault(shape, ([], Bucket("t_0", shape)))
        full += opened.append(Rows(shape, first, writer, steps, numbers, columns))
        for name, column in zip(names, columns, strict=True):
            rows.setdefault(name, []).extend(zip(numbers, steps, column, strict=True))
        first += count
    return held, rows


def kept_of(cell):
    """Return the numbers of the rows that an outline must have of the rows of a cell."""
    finite = [(value, row) for row, _, value in cell if math.isfinite(value)]
    odd = [row for row, _, value in cell if not math.isfinite(value)]
    least = min(finite, key=lambda each: each[0])[1:] if finite else ()
    return {*least, *(max(finite, key=lambda each: each[0])[1:] if finite else ()), *odd[:1]}


@settings(max_examples=examples(60), deadline=None)
@given(frames=st.lists(FRAMES, min_size=1, max_size=6), data=st.data())
def test_outlines_have_each_spike_of_a_history(frames, data):
    """Of each cell, the extremes and the first odd value are kept; of all rows, their numbers, steps, times, values."""
    held, rows = buckets_of(frames)
    documents = list(outline_documents(each for full, _ in held.values() for each in full))
    for name, all_rows in rows.items():
        parts = []
        wanted = set()
        for shape, (full, opened) in held.items():
            if name not in shape.names:
                continue
            first, end = outline_ids("t_0", shape)
            some = [each for each in documents if first <= each["_id"] < end]
            assert len(some) == len(full)
            parts.append(outline_of(name, data.draw(st.permutations(some)), opened))
            numbers = [
                row
                for each in [*full, opened]
                for span in each.spans
                for row in range(span.first, span.first + span.rows)
            ]
            by_number = {row[0]: row for row in all_rows}
            cut = MAX_ROWS * len(full)
            wanted |= set(numbers[cut:]) | set(numbers[0:cut:MAX_ROWS]) | set(numbers[MAX_ROWS - 1 : cut : MAX_ROWS])
            for at in range(0, cut, CELL_ROWS):
                wanted |= kept_of([by_number[number] for number in numbers[at : at + CELL_ROWS]])
        found = together(data.draw(st.permutations(parts)))
        known = {row: (step, value) for row, step, value in all_rows}
        values = np.array([value for _, _, value in all_rows])

        assert wanted <= set(found.rows.tolist())
        assert np.all(found.rows[1:] > found.rows[:-1])
        assert len(found.rows) <= len(all_rows)
        assert found.total == len(all_rows)
        assert found.specials == tuple(
            int(each.sum()) for each in (np.isnan(values), values == np.inf, values == -np.inf)
        )
        assert found.times.view(np.int64).tolist() == found.rows.tolist()
        assert found.steps.tolist() == [known[row][0] for row in found.rows.tolist()]
        np.testing.assert_array_equal(found.values, [known[row][1] for row in found.rows.tolist()])


@settings(max_examples=examples(30), deadline=None)
@given(frames=st.lists(FRAMES, min_size=2, max_size=6), cut=st.integers(1, 5))
def test_an_outline_depends_on_its_bucket_alone(frames, cut):
    """The documents are the same, however many buckets are outlined together, and whatever the others hold."""
    held, _ = buckets_of(frames)
    full = [each for some, _ in held.values() for each in some]
    one_by_one = {each["_id"]: each for bucket in full for each in outline_documents([bucket])}
    parts = [document for at in range(0, len(full), cut) for document in outline_documents(full[at : at + cut])]

    assert {each["_id"]: each for each in parts} == one_by_one
    assert len(one_by_one) == len(full)
    for bucket in full:
        document = one_by_one[bucket.to_document(full=True)["_id"]]
        odd = {
            escape_key(name)
            for name, column in zip(bucket.shape.names, bucket.columns, strict=True)
            if not np.isfinite(column).all()
        }
        assert set(document.get("specials", {})) == odd


def test_which_shapes_have_outlines():
    """Steps must be numbers, and buckets of the usual size."""
    wide = tuple(f"m{i}" for i in range(200))

    assert has_outlines(Shape("metrics", ("a",), "int"))
    assert has_outlines(Shape("metrics", ("a",), "float"))
    assert not has_outlines(Shape("metrics", ("a",), "text"))
    assert not has_outlines(Shape("chronos", ("a",), "none"))
    assert not has_outlines(Shape("metrics", wide, "int"))
    assert list(outline_documents([Bucket("t_0", Shape("chronos", ("a",), "none"))])) == []
