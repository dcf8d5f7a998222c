"""The dashboard's forms of values and its lines, against plain models."""

from __future__ import annotations

import base64
import itertools
import json
import math
import struct
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trialstream.protocol import MetricHistory
from trialstream_console.dashboard import encoding
from trialstream_console.dashboard import lines as dashboard_lines
from trialstream_console.dashboard.curves import Curve
from trialstream_console.dashboard.encoding import TooLong, columns, dumps, encoded, encoded_column
from trialstream_console.dashboard.lines import NO_BLOCKS, Line, Progression, Sorted, points_of

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"))
    | st.binary(max_size=1500)
)
KEYS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["$float", "$int", "$bytes", "$dict", "size"]
)
VALUES = st.recursive(
    SCALARS, lambda parts: st.lists(parts, max_size=4) | st.dictionaries(KEYS, parts, max_size=4), max_leaves=12
)
FLOATS = st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf, -math.inf])


def decoded(x):
    """Return the value of a form, as a page reads it."""
    if isinstance(x, list):
        return [decoded(each) for each in x]
    if not isinstance(x, dict):
        return x
    match x:
        case {"$float": text}:
            return float(text)
        case {"$int": text}:
            return int(text)
        case {"$bytes": text, "size": size}:
            return base64.b64decode(text), size
        case {"$dict": given}:
            return {key: decoded(each) for key, each in given.items()}
    return {key: decoded(each) for key, each in x.items()}


def expected(x):
    """Return what `decoded` returns for a value."""
    if isinstance(x, bytes):
        return x[:1024], len(x)
    if isinstance(x, list):
        return [expected(each) for each in x]
    if isinstance(x, dict):
        return {key: expected(each) for key, each in x.items()}
    return x


@given(VALUES)
def test_every_value_is_read_back_from_strict_json(value):
    """A page reads back every value: those that JSON lacks, and dicts whose keys look like their forms."""
    text = dumps(encoded(value))

    assert repr(decoded(json.loads(text, parse_constant=None))) == repr(expected(value))
    assert repr(encoded_column([value, value])) == repr([encoded(value)] * 2)


@given(VALUES, st.integers(1, 100))
def test_json_is_made_in_parts(value, part):
    """JSON made in parts is that made at once, whatever the size of the parts; with a bound, it is that or an error."""
    plain = encoded({"values": [[value] * 3, [], value], "one": value, "none": {}})
    expected = json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()

    with mock.patch.object(encoding, "_PART_BYTES", part):
        assert dumps(plain) == dumps(plain, len(expected)) == expected
        with pytest.raises(TooLong):
            dumps(plain, len(expected) - 1)


@given(st.dictionaries(st.text(max_size=20), st.integers()), st.lists(st.lists(st.floats(), max_size=5), max_size=4))
def test_columns_are_at_multiples_of_eight_bytes(header, blocks):
    """The header and the doubles are read back, and the doubles are aligned."""
    found = columns(header, [np.array(each, np.float64) for each in blocks])

    [length] = struct.unpack_from("<I", found)
    start = 4 + length + -(4 + length) % 8
    assert json.loads(found[4 : 4 + length]) == header
    doubles = np.frombuffer(found, offset=start) if len(found) > start else np.empty(0)
    assert repr(doubles.tolist()) == repr([x for each in blocks for x in each])


@st.composite
def lines(draw):
    """Draw rows in the order of x, as arrays and as a line."""
    values = np.array(draw(st.lists(FLOATS, max_size=400)), np.float64)
    count = len(values)
    if draw(st.booleans()):
        first, stride = draw(st.integers(-1000, 1000)), draw(st.integers(1, 5))
        x, axis = first + stride * np.arange(count, dtype=np.float64), Progression(first, stride, count)
    else:
        x = np.sort(
            np.array(draw(st.lists(st.floats(-100, 100, width=16), min_size=count, max_size=count)), np.float64)
        )
        axis = Sorted(x)
    return x, values, Line(axis, values, NO_BLOCKS.extended(values), np.flatnonzero(~np.isfinite(values)))


@given(
    lines(), st.integers(1, 12), st.floats(-100, 100, width=16), st.floats(0, 200, width=16), st.sampled_from([0, 1000])
)
def test_no_pixel_column_loses_its_extremes(drawn, width, first, span, few):
    """Each column keeps the first, the last, the smallest and the largest finite value; others are counted."""
    x, values, line = drawn
    last = first + span
    with mock.patch.object(dashboard_lines, "_FEW_ROWS", few):  # both ways: through blocks, and through all rows
        found = points_of(line, first, last, width)

    inside = (x >= first) & (x <= last)
    assert found.total == inside.sum()
    special = values[inside & ~np.isfinite(values)]
    counts = found.specials
    assert (counts.nan, counts.inf, counts.neginf) == (
        np.isnan(special).sum(),
        (special == math.inf).sum(),
        (special == -math.inf).sum(),
    )
    assert len(found.x) <= 4 * width
    if found.exact:
        assert len(found.x) == (inside & np.isfinite(values)).sum()
    check_columns(found, x, values, np.linspace(first, last, width + 1))


def check_columns(found, x, values, edges):
    """Check that the points are rows, and that each column has the first, the last and the extremes of its rows."""
    assert np.all(np.isfinite(found.y))
    assert np.all(found.x[1:] >= found.x[:-1])
    inside = (x >= edges[0]) & (x <= edges[-1])
    rows = set(zip(x[inside].tolist(), values[inside].tolist(), strict=True))
    assert set(zip(found.x.tolist(), found.y.tolist(), strict=True)) <= rows
    edges[-1] = np.nextafter(edges[-1], np.inf)
    for left, right in itertools.pairwise(edges):
        of_column = values[(x >= left) & (x < right) & np.isfinite(values)]
        kept = found.y[(found.x >= left) & (found.x < right)]
        if len(of_column):
            assert kept.min() == of_column.min()
            assert kept.max() == of_column.max()
            assert kept[0] == of_column[0]
            assert kept[-1] == of_column[-1]
        else:
            assert not len(kept)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0, 10, 40]))
def test_a_part_of_a_long_line_has_the_extremes_of_its_columns(seed, width, few):
    """Columns of many rows, in a part of a line, have their extremes, at their edges and within."""
    random = np.random.default_rng(seed)
    count = int(random.integers(40, 6000))
    values = [random.standard_normal(count), random.integers(0, 4, count).astype(np.float64), np.zeros(count)][seed % 3]
    if seed % 2:
        values[random.integers(0, count, random.integers(1, count))] = random.choice([math.nan, math.inf, -math.inf])
    axis = [Progression(int(random.integers(-5, 5)), 3, count), Sorted(np.sort(random.standard_normal(count)))][
        seed % 5 % 2
    ]
    x = axis.at(np.arange(count))
    first, last = np.sort(random.choice(x, 2))
    line = Line(axis, values, NO_BLOCKS.extended(values), np.flatnonzero(~np.isfinite(values)))
    with mock.patch.object(dashboard_lines, "_FEW_ROWS", few):
        found = points_of(line, first, last, width)

    check_columns(found, x, values, np.linspace(first, last, width + 1))


@st.composite
def histories(draw):
    """Draw a history, in parts in the order of the log, with steps of one kind."""
    count = draw(st.integers(0, 120))
    kind = draw(st.sampled_from(["even", "int", "float", "text"]))
    steps = {
        "even": lambda: 3 + 2 * np.arange(count),
        "int": lambda: np.array(draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count)), np.int64),
        "float": lambda: np.array(draw(st.lists(st.floats(-9, 9), min_size=count, max_size=count)), np.float64),
        "text": lambda: np.array([f"s{i}" for i in range(count)], object),
    }[kind]()
    gaps = draw(st.lists(st.integers(-5 if draw(st.booleans()) else 0, 5), min_size=count, max_size=count))
    times = (1_700_000_000_000_000 + np.cumsum(np.array(gaps, np.int64))).view("datetime64[us]")
    values = np.array(draw(st.lists(FLOATS, min_size=count, max_size=count)), np.float64)
    rows = np.cumsum(np.array(draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)), np.int64))
    whole = MetricHistory(steps, times, np.full(count, "w", object), values, rows)
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=4)))
    parts = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    return whole, [MetricHistory(*(column[part] for column in vars(whole).values())) for part in parts]


@given(
    histories(), st.sampled_from(["step", "time", "relative"]), st.integers(0, 100), st.integers(-20, 200) | st.none()
)
def test_a_curve_that_grows_has_the_rows_of_the_whole(drawn, axis, since, until):
    """The line of a history that came in any parts has the rows in the order of x, from a row on and up to a time."""
    whole, parts = drawn
    curve = Curve()
    for part in parts:
        curve.extend(part)
        curve.line(axis, 1_700_000_000_000_000)  # lines between the parts change nothing
    limit = None if until is None else 1_700_000_000_000_000 + until
    line, rows = curve.line(axis, 1_700_000_000_000_000, since, limit)

    times = whole.times.view(np.int64)
    kept = whole.rows >= since
    if limit is not None:
        kept &= times <= limit
    if axis == "step":
        x = np.arange(len(whole), dtype=np.float64) if whole.steps.dtype.kind == "O" else whole.steps.astype(np.float64)
    else:
        x = times.astype(np.float64) if axis == "time" else (times - 1_700_000_000_000_000) / 1e6
    order = np.argsort(x[kept], kind="stable")
    found = slice(*rows) if rows is not None else slice(None)
    index = np.arange(len(line.x), dtype=np.intp)[found]
    assert repr(line.values[found].tolist()) == repr(whole.values[kept][order].tolist())
    assert line.x.at(index).tolist() == x[kept][order].tolist()
    if rows is None:
        assert line.specials.tolist() == np.flatnonzero(~np.isfinite(line.values)).tolist()
    some = line.x.at(np.arange(len(line.x), dtype=np.intp))
    probes = np.concatenate([some, some + 0.5, [-np.inf, np.inf]])
    assert line.x.find(probes).tolist() == np.searchsorted(some, probes).tolist()
