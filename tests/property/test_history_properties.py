"""Histories since a row and a step, from any rows in any buckets, and downsampled histories."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from trialstream.protocol import MetricHistory
from trialstream.reading.buckets import BucketSearch
from trialstream.reading.history import downsampled, histories
from trialstream.reading.reader import Since
from trialstream_schemas.model.history import Bucket, Rows, Shape

KINDS = {int: "int", float: "float", str: "text", type(None): "none"}
LARGE = [2**53 + i for i in range(-2, 4)] + [2**63 - 1, -(2**63)]
NUMBERS = [-0.5, 2.5, 8.0, *map(float, LARGE), *LARGE]
STEPS = st.integers(-3, 9) | st.sampled_from(NUMBERS) | st.sampled_from("abc") | st.none()
# Each frame: its writer, its step, its names, and how often it is repeated (a text shape holds 1,008 rows).
FRAMES = st.tuples(
    st.sampled_from("vw"),
    STEPS | st.just(math.nan),
    st.sampled_from([("a",), ("b",), ("a", "b")]),
    st.sampled_from([1, 2, 700, 1024]),
)


def buckets_of(frames):
    """Return the full buckets and the open ones that the fold makes of these frames."""
    held, full, first = {}, [], 0
    for writer, step, names, rows in frames:
        shape = Shape("metrics", names, KINDS[type(step)])
        steps = [] if step is None else [step] * rows
        columns = [[float(first + i) for i in range(rows)]] * len(names)
        bucket = held.setdefault(shape, Bucket("t_0", shape))
        full += bucket.append(Rows(shape, first, writer, steps, [first] * rows, columns))
        first += rows
    return full, list(held.values())


def can_hold(bucket, since):
    """Return whether a bucket can have rows since a row or a step, as far as MongoDB can compare its document."""
    if since.row is not None and bucket.spans[-1].first + bucket.spans[-1].rows <= since.row:
        return False
    if isinstance(since.step, str):
        return bucket.shape.steps == "text" and max(bucket.steps) >= since.step
    return since.step is None or bucket.to_document(full=True).get("max_step", -math.inf) >= since.step


def is_kept(step, row, since):
    """Return whether a row is one of those that are asked for."""
    if since.row is not None and row < since.row:
        return False
    if since.step is None:
        return True
    return step is not None and isinstance(step, str) == isinstance(since.step, str) and step >= since.step


@settings(max_examples=examples(60), deadline=None)
@given(
    frames=st.lists(FRAMES, min_size=1, max_size=6),
    since=st.builds(Since, STEPS, st.none() | st.integers(0, 5000)),
    data=st.data(),
)
def test_a_history_since_a_row_and_a_step(frames, since, data):
    """The rows that are asked for are returned in order, also without the buckets that cannot have any of them."""
    full, opened = buckets_of(frames)
    whole = histories([*full, *opened])
    old = data.draw(st.sets(st.integers(0, len(full))))  # filled by an older consumer, without a bound: always read
    read = [each for i, each in enumerate(full) if i in old or can_hold(each, since)]
    read = data.draw(st.permutations([*read, *opened]))
    found = histories(read, since)

    assert list(found) == list(whole)
    for name, history in found.items():
        rows = list(zip(whole[name].steps.tolist(), whole[name].rows.tolist(), strict=True))
        wanted = [i for i, (step, row) in enumerate(rows) if is_kept(step, row, since)]
        assert history.rows.tolist() == [rows[i][1] for i in wanted]
        assert history.values.tolist() == history.rows.tolist()
        assert repr(history.steps.tolist()) == repr([rows[i][0] for i in wanted])  # NaN equals NaN
        assert history.writers.tolist() == whole[name].writers[wanted].tolist()
        assert history.steps.dtype == whole[name].steps.dtype
        assert len(history.times) == len(wanted)


@settings(max_examples=examples(60), deadline=None)
@given(
    frames=st.lists(FRAMES, min_size=1, max_size=9),
    row=st.integers(0, 9300),
    names=st.sampled_from([(), ("a",), ("b",)]),
)
def test_the_buckets_before_the_open_ones(frames, row, names):
    """The search from the open buckets finds each bucket with such rows, no bucket twice, and few others."""
    full, opened = buckets_of(frames)
    stored = {each["_id"]: each for each in (bucket.to_document(full=True) for bucket in full)}
    search = BucketSearch(names, row)
    for bucket in opened:
        if not names or set(names) & set(bucket.shape.names):
            search.add(bucket.to_document(full=False))
    read = []
    while ids := search.take_missing():
        read += ids
        for each in ids:
            search.add(dict(stored[each]))
    found = histories(search.buckets.get("t_0", []), Since(row=row))
    whole = histories([*full, *opened], Since(row=row))

    assert len(set(read)) == len(read)
    assert {name: each.rows.tolist() for name, each in found.items() if not names or name in names} == {
        name: each.rows.tolist() for name, each in whole.items() if not names or name in names
    }
    if len(opened) == 1:  # rows of other shapes are unknown without reading them
        needed = [each for each in full if can_hold(each, Since(row=row))]
        assert len(read) <= len(needed) + (not len(opened[0]))


# Often equal, with zeros of both signs, the ends of the range, and sequences of values that cannot be plotted.
VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.7e308, -1.7e308, 5e-324]) | st.floats()
VALUES |= st.sampled_from([math.nan, math.inf, -math.inf])
SERIES = st.lists(st.tuples(VALUES, st.integers(1, 30)), min_size=1, max_size=40).map(
    lambda runs: [x for x, times in runs for _ in range(times)]
)


@settings(max_examples=examples(300), deadline=None)
@given(values=SERIES, points=st.integers(3, 200))
def test_downsampling_loses_no_spike(values, points):
    """The extremes of each bucket and of the whole are kept, and a row of each bucket with NaN or infinite values."""
    n, column = len(values), np.array(values)
    times, writers = np.arange(n).astype("datetime64[us]"), np.array([f"w{i}" for i in range(n)], dtype=object)
    found = downsampled(MetricHistory(np.arange(n) * 3, times, writers, column, np.arange(n) * 2), points)
    kept = (found.rows // 2).tolist()

    assert len(kept) <= points
    assert kept == sorted(set(kept))
    assert found.steps.tolist() == [3 * i for i in kept]
    assert found.times.tolist() == times[kept].tolist()
    assert found.writers.tolist() == [f"w{i}" for i in kept]
    assert np.array_equal(found.values, column[kept], equal_nan=True)
    if n <= points:
        assert kept == list(range(n))
        return
    finite = np.isfinite(column)
    count = max(1, (points - 2) // (2 if finite.all() else 3))
    for bucket in np.array_split(np.arange(n), count):
        here = [i for i in kept if bucket[0] <= i <= bucket[-1]]
        good, bad = bucket[finite[bucket]], bucket[~finite[bucket]]
        if len(good):
            assert column[here][finite[here]].min() == column[good].min()
            assert column[here][finite[here]].max() == column[good].max()
        if len(bad) and points >= 5:
            assert bad[0] in here
    if finite.any():
        assert found.values[np.isfinite(found.values)].min() == column[finite].min()
        assert found.values[np.isfinite(found.values)].max() == column[finite].max()
    assert kept[-1] == n - 1
    assert kept[0] == 0 or points < 5
