"""Aggregators: the statistics and values that they keep of a stream of observations, and their stored forms."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from trialstream_schemas.errors import InvalidType, InvalidValue, SchemaError
from trialstream_schemas.model.aggregators import (
    MAX_KEPT,
    Aggregator,
    AggregatorSpec,
    RingAggregator,
    StatAggregator,
    TimeSeriesAggregator,
    ValueAggregator,
    is_aggregator_document,
    timeseries_aggregator,
    value_aggregator,
)

NAN, INF = math.nan, math.inf
KINDS = [
    pytest.param(ValueAggregator.lazy(), id="ValueAggregator"),
    pytest.param(StatAggregator.lazy(1), id="StatAggregator"),
    pytest.param(RingAggregator.lazy(3), id="RingAggregator"),
    pytest.param(TimeSeriesAggregator.lazy(), id="TimeSeriesAggregator"),
    pytest.param(TimeSeriesAggregator.lazy("max"), id="BestAggregator"),
]


def fed(lazy, xs, step=None):
    """Return an aggregator with these observations."""
    made = lazy()
    made.extend(xs, step)
    return made


def test_value_keeps_the_last():
    """A ValueAggregator keeps the last observation, of any type, and counts the observations."""
    value = ValueAggregator()
    assert (value.last, value.count) == (None, 0)

    value.extend([1, "two"])
    value.extend([])
    value.extend([{"three": 3}])

    assert value.value == value.last == {"three": 3}
    assert value.count == 3


def test_ring_keeps_the_last_n():
    """A RingAggregator keeps the last n, oldest first, also when more than n come at once."""
    ring = RingAggregator(3)
    assert ring.last is None

    ring.extend([1, 2])
    ring.extend([3, 4])

    assert ring.values == [2, 3, 4]
    assert ring.last == 4
    ring.extend(range(10, 20))
    assert ring.values == [17, 18, 19]


def test_stat_equals_numpy():
    """A StatAggregator has the count, mean, population standard deviation, minimum, maximum and sum of numpy."""
    xs = np.random.default_rng(7).normal(5, 3, 1000)
    stat = StatAggregator()
    for part in np.array_split(xs, 7):
        stat.extend(part.tolist())

    assert stat.count == 1000
    assert stat.avg == pytest.approx(xs.mean(), rel=1e-13)
    assert stat.sd == pytest.approx(xs.std(ddof=0), rel=1e-13)
    assert (stat.min, stat.max) == (xs.min(), xs.max())
    assert stat.sum == pytest.approx(xs.sum(), rel=1e-13)


def test_stat_is_stable_far_from_zero():
    """A small deviation around a large mean is not lost to rounding."""
    stat = StatAggregator()
    for x in (1e9 + 1, 1e9 + 2, 1e9 + 3):
        stat.extend([x])

    assert stat.avg == 1e9 + 2
    assert stat.sd == pytest.approx(math.sqrt(2 / 3), rel=1e-9)


def test_stat_without_observations():
    """Without observations there is no mean, deviation, minimum or maximum, and no NaN in their place."""
    stat = StatAggregator()

    assert (stat.count, stat.avg, stat.sd, stat.min, stat.max, stat.sum) == (0, None, None, None, None, 0.0)


def test_stat_of_one_observation():
    """The deviation of one observation is 0."""
    stat = fed(StatAggregator.lazy(), [2.5])

    assert (stat.avg, stat.sd, stat.min, stat.max, stat.sum) == (2.5, 0.0, 2.5, 2.5, 2.5)


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([[100.0, -100.0, 1.0, 3.0]], id="at once"),
        pytest.param([[100.0], [-100.0], [1.0], [3.0]], id="one by one"),
        pytest.param([[100.0], [-100.0, 1.0, 3.0]], id="cut among the skipped"),
        pytest.param([[100.0, -100.0], [1.0, 3.0]], id="cut after the skipped"),
    ],
)
def test_skipped_observations_count_in_no_statistic(chunks):
    """The first skip_obs observations count in no statistic, including minimum, maximum, count and sum."""
    stat = StatAggregator(2)
    for xs in chunks:
        stat.extend(xs)

    assert (stat.count, stat.avg, stat.sd, stat.min, stat.max, stat.sum) == (2, 2.0, 1.0, 1.0, 3.0, 4.0)


def test_skipped_nan_is_not_counted():
    """A NaN among the skipped observations is not counted."""
    stat = fed(StatAggregator.lazy(2), [NAN, INF, 1.0, NAN])

    assert (stat.count, stat.nan, stat.inf) == (1, 1, 0)


@pytest.mark.parametrize("chunks", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], []]], ids=str)
def test_stat_while_all_are_skipped(chunks):
    """While all observations are skipped there are no statistics, but the last observation and the skipped ones."""
    stat = StatAggregator(5)
    assert (stat.last, stat.skipped_values) == (None, [])
    for xs in chunks:
        stat.extend(xs)

    assert (stat.count, stat.min, stat.avg, stat.sum) == (0, None, None, 0.0)
    assert (stat.last, stat.skipped_values) == (2.0, [1.0, 2.0])


@pytest.mark.parametrize("last", [NAN, INF, -INF, 0.5], ids=str)
@pytest.mark.parametrize("before", [[], [1.0], [1.0, 2.0, 3.0]], ids=str)
@pytest.mark.parametrize(
    "lazy",
    [
        pytest.param(StatAggregator.lazy(), id="StatAggregator"),
        pytest.param(StatAggregator.lazy(2), id="StatAggregator that skips"),
        pytest.param(TimeSeriesAggregator.lazy(), id="TimeSeriesAggregator"),
    ],
)
def test_the_last_observation_is_kept_as_it_is(lazy, before, last):
    """The last observation is kept: NaN, infinite or skipped, alone or after others, and through every stored form."""
    together, apart = fed(lazy, [*before, last]), fed(lazy, before)
    apart.extend([last])

    for each in (together, apart, Aggregator.from_json(together.to_json())):
        assert str(each.last) == str(last)
    assert str(together.to_document()["last"]) == str(last)


@pytest.mark.parametrize(
    "lazy", [pytest.param(StatAggregator.lazy(skip), id=f"skips {skip}") for skip in (0, 1, MAX_KEPT)]
)
def test_a_document_of_an_earlier_version_is_continued(lazy):
    """A StatAggregator stored without its last observation has none until the next one; then nothing differs."""
    stayed = fed(lazy, [1.0, 2.0])
    document = stayed.to_document()
    del document["last"]
    restored = Aggregator.from_document(document)
    assert (restored.last, restored.count, restored.skipped_values) == (None, stayed.count, stayed.skipped_values)

    for each in (stayed, restored):
        each.extend([3.0])
    assert list(restored.to_document().items()) == list(stayed.to_document().items())


@pytest.mark.parametrize(
    "lazy",
    [
        pytest.param(StatAggregator.lazy(), id="StatAggregator"),
        pytest.param(TimeSeriesAggregator.lazy(), id="TimeSeriesAggregator"),
    ],
)
def test_nan_and_inf_are_counted_apart(lazy):
    """NaN and ±inf are counted apart, and do not change the statistics of the finite observations."""
    stat = fed(lazy, [1.0, NAN, INF, 3.0, -INF, -INF])

    assert (stat.nan, stat.inf, stat.neginf) == (1, 1, 2)
    assert (stat.count, stat.avg, stat.min, stat.max, stat.sum) == (2, 2.0, 1.0, 3.0, 4.0)


def test_only_nan():
    """Observations that are all NaN are counted, and have no statistics."""
    stat = fed(StatAggregator.lazy(), [NAN, NAN])

    assert (stat.count, stat.nan, stat.avg, stat.min, stat.max, stat.sd) == (0, 2, None, None, None, None)


def test_largest_doubles():
    """A sum beyond a double is inf, and the mean is still exact."""
    largest = 1.7976931348623157e308

    stat = fed(StatAggregator.lazy(), [largest] * 3)

    assert (stat.avg, stat.min, stat.max, stat.sum) == (largest, largest, largest, INF)


def test_timeseries_keeps_the_last_with_its_step():
    """A TimeSeriesAggregator keeps the last observation in the order of the log and its step, beside the statistics."""
    series = TimeSeriesAggregator()
    assert (series.last, series.last_step) == (None, None)

    series.extend([1.0, 2.0], 10)
    series.extend([], 11)
    series.extend([-5.0], 3)

    assert (series.last, series.last_step) == (-5.0, 3)
    assert (series.count, series.max) == (3, 2.0)


@pytest.mark.parametrize("step", [None, 7, -(2**63), 0.5, "warm-up"], ids=repr)
def test_timeseries_takes_any_step(step):
    """A step may be an integer, a float, a text or None."""
    series = fed(TimeSeriesAggregator.lazy(), [NAN], step)

    assert math.isnan(series.last)
    assert series.last_step == step


def test_merge_equals_one_pass():
    """A merge equals one pass: observations that the later aggregator skipped are counted if they are not the first."""
    merged = fed(StatAggregator.lazy(2), [1.0])
    merged.merge(fed(StatAggregator.lazy(2), [2.0, 3.0, 4.0]))

    assert (merged.count, merged.avg, merged.min, merged.max, merged.sum) == (2, 3.5, 3.0, 4.0, 7.0)
    assert merged.sd == pytest.approx(0.5)


def test_merge_of_an_empty_aggregator():
    """Merging an aggregator without observations changes nothing."""
    for lazy in (ValueAggregator.lazy(), StatAggregator.lazy(1), RingAggregator.lazy(2), TimeSeriesAggregator.lazy()):
        merged = fed(lazy, [1.0, 2.0], 5)
        merged.merge(lazy())

        assert merged == fed(lazy, [1.0, 2.0], 5)


def test_lazy_returns_a_specification():
    """`lazy` returns a specification; each call of it makes a new aggregator."""
    lazy = StatAggregator.lazy(1)

    assert lazy == AggregatorSpec("stat", 1) == StatAggregator.lazy(1)
    assert isinstance(lazy(), StatAggregator)
    assert lazy().skip_obs == 1
    assert lazy() is not lazy()
    assert RingAggregator.lazy(5)().size == 5
    assert (value_aggregator, timeseries_aggregator) == (ValueAggregator.lazy(), TimeSeriesAggregator.lazy())


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        pytest.param(
            lambda: RingAggregator.lazy(0),
            InvalidValue,
            "RingAggregator: size: expected 1 to 4096, got 0",
            id="ring of length 0",
        ),
        pytest.param(
            lambda: RingAggregator(MAX_KEPT + 1), InvalidValue, "expected 1 to 4096, got 4097", id="ring too large"
        ),
        pytest.param(
            lambda: RingAggregator.lazy(2.0),
            InvalidType,
            "RingAggregator: size: expected an int, got float",
            id="ring of a float",
        ),
        pytest.param(
            lambda: StatAggregator.lazy(-1),
            InvalidValue,
            "StatAggregator: skip_obs: expected 0 to 4096, got -1",
            id="negative skip_obs",
        ),
        pytest.param(
            lambda: StatAggregator(True),
            InvalidType,
            "StatAggregator: skip_obs: expected an int, got bool",
            id="skip_obs of True",
        ),
        pytest.param(
            AggregatorSpec("median"),
            SchemaError,
            "aggregator: expected one of .*stat.*, got 'median'",
            id="unknown kind",
        ),
        pytest.param(
            AggregatorSpec("ring", 0), InvalidValue, "expected 1 to 4096, got 0", id="a ring of length 0 from the wire"
        ),
        pytest.param(
            lambda: AggregatorSpec.check(StatAggregator, "p"),
            InvalidType,
            r"^p: .*StatAggregator.lazy\(1\), got ABCMeta",
            id="a class",
        ),
        pytest.param(lambda: AggregatorSpec.check("stat", "p"), InvalidType, r"^p: .*got str", id="a text"),
    ],
)
def test_lazy_refuses(make, error, reason):
    """A specification that is out of range is an error with the allowed range."""
    with pytest.raises(error, match=reason):
        make()


@pytest.mark.parametrize("lazy", KINDS)
def test_json_comes_back(lazy):
    """Strict JSON restores every aggregator, in any state, with NaN and ±inf."""
    for xs in ([], [1.0], [NAN, 2.0, INF, -INF, 5.0]):
        made = fed(lazy, xs, "s")
        text = json.dumps(made.to_json(), allow_nan=False)
        back = Aggregator.from_json(json.loads(text))

        assert type(back) is type(made)
        assert back == made
        assert type(made).from_json(json.loads(text)) == made


@pytest.mark.parametrize("lazy", KINDS)
def test_document_comes_back(lazy):
    """The document of every aggregator restores it, and is recognized as an aggregator's document."""
    made = fed(lazy, [NAN, 2.0, INF], 4)
    document = made.to_document()

    assert Aggregator.from_document(document) == made
    assert is_aggregator_document(document)
    assert not is_aggregator_document({"kind": "stat"})
    assert not is_aggregator_document("%kind")


@pytest.mark.parametrize(
    ("lazy", "xs", "short"),
    [
        pytest.param(ValueAggregator.lazy(), [NAN], "nan", id="ValueAggregator"),
        pytest.param(
            RingAggregator.lazy(2),
            [1.0, b"\0", {"a": [INF]}],
            [{"%bytes": "AA=="}, {"a": ["inf"]}],
            id="RingAggregator",
        ),
        pytest.param(
            StatAggregator.lazy(),
            [1.0, 3.0],
            {"count": 2, "avg": 2.0, "sd": 1.0, "min": 1.0, "max": 3.0, "sum": 4.0, "last": 3.0},
            id="StatAggregator",
        ),
        pytest.param(
            TimeSeriesAggregator.lazy(),
            [3.0, NAN],
            {"count": 1, "avg": 3.0, "sd": 0.0, "min": 3.0, "max": 3.0, "sum": 3.0, "nan": 1}
            | {"last": "nan", "last_step": 9},
            id="TimeSeriesAggregator",
        ),
    ],
)  # fmt: skip
def test_short_json_is_the_summary(lazy, xs, short):
    """The short JSON form is the summary of the aggregator, and is strict JSON too."""
    made = fed(lazy, xs, 9)

    assert made.to_json(short=True) == short
    json.dumps(made.to_json(short=True), allow_nan=False)
    assert str(short) in repr(made)


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        pytest.param(RingAggregator, StatAggregator(), id="a Stat for a Ring"),
        pytest.param(ValueAggregator, TimeSeriesAggregator(), id="a TimeSeries for a Value"),
        pytest.param(TimeSeriesAggregator, StatAggregator(), id="a Stat for a TimeSeries"),
    ],
)
def test_state_of_another_kind_is_refused(wanted, given):
    """The state of one kind is an error for the class of another."""
    with pytest.raises(SchemaError, match=f"expected the JSON of {wanted.__name__}, got kind '{given.kind}'"):
        wanted.from_json(given.to_json())
    with pytest.raises(SchemaError, match=f"expected the document of {wanted.__name__}, got kind '{given.kind}'"):
        wanted.from_document(given.to_document())


@pytest.mark.parametrize("given", [{}, {"kind": "median"}, {"kind": None}], ids=repr)
def test_object_without_a_state_is_refused(given):
    """An object that is not the state of an aggregator is an error that names its kind."""
    with pytest.raises(SchemaError, match="expected the JSON of Aggregator, got kind"):
        Aggregator.from_json(given)


def test_a_timeseries_is_a_stat():
    """StatAggregator also accepts the state of a time series, which has the same statistics."""
    assert type(StatAggregator.from_json(TimeSeriesAggregator().to_json())) is TimeSeriesAggregator


def test_equality():
    """Aggregators are equal if kind, argument and state are; NaN equals NaN."""
    assert fed(ValueAggregator.lazy(), [NAN]) == fed(ValueAggregator.lazy(), [NAN])
    assert StatAggregator(1) != StatAggregator(2)
    assert StatAggregator() != TimeSeriesAggregator()
    assert RingAggregator(2) != [1]
    with pytest.raises(TypeError):
        hash(StatAggregator())
