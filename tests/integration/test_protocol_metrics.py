"""Metrics: accepted numbers, steps in any order, aggregators, and history."""

from __future__ import annotations

import math

import anyio
import numpy as np
import pytest
import trialstream as ts
from contract import NOT_NUMBERS, NUMBERS, again, connected
from trialstream.reading.mongo import MongoReader
from trialstream.reading.reader import Since

BUCKET = 1024  # rows of one bucket of history


async def log_all(protocol, trial, rows):
    """Log rows of (step, metrics)."""
    for step, metrics in rows:
        await protocol.log_trial_metrics(trial, step, **metrics)


# --- Numbers


@pytest.mark.parametrize(("given", "wanted"), NUMBERS.values(), ids=NUMBERS)
async def test_a_metric_is_any_number(protocol, trial, given, wanted):
    """A metric is any number, and is stored as a double."""
    await protocol.log_trial_metrics(trial, loss=given)
    found = await again(protocol, trial)
    history = await protocol.fetch_metrics(trial, "loss")

    assert repr(found.metrics["loss"].last) == repr(wanted)
    assert history["loss"].values.tolist() == [wanted]


@pytest.mark.parametrize("given", NOT_NUMBERS.values(), ids=NOT_NUMBERS)
async def test_a_metric_that_is_not_a_number(protocol, trial, given):
    """A metric that is not a number raises TypeError with its name, and nothing of the call is logged."""
    with pytest.raises(TypeError, match="'loss'"):
        await protocol.log_trial_metrics(trial, step=1, accuracy=1, loss=given)
    await protocol.log_trial_metrics(trial, step=2, fine=1)
    found = await again(protocol, trial)

    assert list(found.metrics) == ["fine"]
    assert found.rows == 1
    assert found.lost_events == 0


async def test_an_integer_that_loses_digits(protocol, trial):
    """An integer that no double represents is stored as the nearest double; a warning names it, once per name."""
    with pytest.warns(RuntimeWarning, match=r"metric 'samples': .* loses digits") as warned:
        for i in range(3):
            await protocol.log_trial_metrics(trial, samples=2**53 + 1 + 2 * i, loss=0.5)
    with pytest.warns(RuntimeWarning, match=r"metadata\.seen: .* loses digits"):
        await protocol.log_trial_metadata(trial, ts.StatAggregator.lazy(), seen=2**53 + 1)
    await protocol.log_trial_metadata(trial, exact=2**53 + 1)
    found = await again(protocol, trial)

    assert len(warned) == 1
    assert found.metrics["samples"].count == 3
    assert found.metadata["seen"].max == 2.0**53
    assert found.metadata["exact"] == 2**53 + 1


async def test_a_number_too_large_for_a_double(protocol, trial):
    """A number beyond the range of a double is refused."""
    with pytest.raises(ts.InvalidValue, match="'loss'"):
        await protocol.log_trial_metrics(trial, loss=10**400)


@pytest.mark.parametrize(
    "key",
    [pytest.param("a\0b", id="NUL"), pytest.param("\ud800", id="a surrogate"), pytest.param("x" * 1025, id="1025")],
)
async def test_a_metric_with_an_invalid_name(protocol, trial, key):
    """A metric with an invalid name is refused at the call."""
    with pytest.raises(ts.InvalidValue, match="metric"):
        await protocol.log_trial_metrics(trial, good=1, **{key: 1})

    assert (await again(protocol, trial)).metrics == {}


async def test_no_metrics_at_all(protocol, trial):
    """A call without metrics logs nothing."""
    await protocol.log_trial_metrics(trial, step=1)

    assert (await again(protocol, trial)).rows == 0


async def test_nan_and_infinities_are_kept_and_counted_apart(protocol, trial):
    """NaN and infinities come back, are counted apart, and do not affect minimum, maximum and mean."""
    logged = [1.0, math.nan, math.inf, -math.inf, math.nan, 3.0]
    await log_all(protocol, trial, enumerate({"loss": x} for x in logged))
    loss = (await again(protocol, trial)).metrics["loss"]
    history = await protocol.fetch_metrics(trial, "loss")

    assert (loss.nan, loss.inf, loss.neginf) == (2, 1, 1)
    assert (loss.count, loss.avg, loss.sd, loss.min, loss.max, loss.sum) == (2, 2.0, 1.0, 1.0, 3.0, 4.0)
    assert np.array_equal(history["loss"].values, logged, equal_nan=True)


async def test_the_last_value_can_be_nan(protocol, trial):
    """If the latest observation is NaN, so is the last value."""
    await log_all(protocol, trial, [(0, {"loss": 1.0}), (1, {"loss": math.nan})])
    loss = (await again(protocol, trial)).metrics["loss"]

    assert math.isnan(loss.last)
    assert loss.last_step == 1


async def test_the_summary_of_a_metric(protocol, trial):
    """The summary covers all observations, with the population standard deviation as numpy computes it."""
    logged = np.random.default_rng(1).normal(1e6, 1e-3, 3000).tolist()
    await log_all(protocol, trial, enumerate({"loss": x} for x in logged))
    loss = (await again(protocol, trial)).metrics["loss"]

    assert (loss.count, loss.min, loss.max) == (3000, min(logged), max(logged))
    assert (loss.last, loss.last_step) == (logged[-1], 2999)
    assert loss.avg == pytest.approx(np.mean(logged), rel=1e-12)
    assert loss.sd == pytest.approx(np.std(logged), rel=1e-6)
    assert loss.sum == pytest.approx(math.fsum(logged), rel=1e-12)


# --- Steps


@pytest.mark.parametrize(
    ("steps", "wanted", "kind"),
    [
        pytest.param([3, 1, 2, 1, -5, 2**53 + 1], [3, 1, 2, 1, -5, 2**53 + 1], "i", id="int"),
        pytest.param([0.5, 0.25, 1e300], [0.5, 0.25, 1e300], "f", id="float"),
        pytest.param(["epoch 2", "", "epoch 1", "é"], ["epoch 2", "", "epoch 1", "é"], "O", id="text"),
        pytest.param([None, None], [None, None], "O", id="none"),
        pytest.param([np.int32(4), np.array(2)], [4, 2], "i", id="numpy integers"),
        pytest.param([np.float32(0.5), np.float64(0.25)], [0.5, 0.25], "f", id="numpy floats"),
        pytest.param([1, 0.5, 2], [1.0, 0.5, 2.0], "f", id="numbers of both kinds"),
        pytest.param([1, "a", None, 0.5, 2], [1, "a", None, 0.5, 2], "O", id="all kinds"),
    ],
)
async def test_steps_are_of_any_type_and_in_any_order(protocol, trial, steps, wanted, kind):
    """The history keeps steps of any type in the order in which they were logged."""
    await log_all(protocol, trial, [(step, {"loss": i}) for i, step in enumerate(steps)])
    loss = (await protocol.fetch_metrics(trial, "loss"))["loss"]

    assert loss.steps.tolist() == wanted
    assert loss.steps.dtype.kind == kind
    assert loss.values.tolist() == list(range(len(steps)))
    assert (await again(protocol, trial)).metrics["loss"].last_step == steps[-1]


@pytest.mark.parametrize(
    ("step", "error"),
    [
        pytest.param(True, TypeError, id="a bool"),
        pytest.param(np.bool_(True), TypeError, id="a numpy bool"),
        pytest.param([1], TypeError, id="a list"),
        pytest.param(1j, TypeError, id="a complex number"),
        pytest.param(object(), TypeError, id="an object"),
        pytest.param(np.array([1, 2]), TypeError, id="an array of several"),
        pytest.param(np.datetime64("2026-01-01", "ns"), TypeError, id="a numpy time"),
        pytest.param(math.nan, ts.InvalidValue, id="NaN"),
        pytest.param(-math.inf, ts.InvalidValue, id="minus infinity"),
        pytest.param(2**63, ts.InvalidValue, id="an integer beyond 64 bits"),
        pytest.param("a\0b", ts.InvalidValue, id="NUL"),
        pytest.param("\ud800", ts.InvalidValue, id="a lone surrogate"),
        pytest.param("x" * 1025, ts.InvalidValue, id="a text that is too long"),
    ],
)
async def test_an_invalid_step(protocol, trial, step, error):
    """An invalid step is refused at the call, and nothing is logged."""
    with pytest.raises(error, match="step"):
        await protocol.log_trial_metrics(trial, step=step, loss=1)
    await protocol.log_trial_metrics(trial, step=1, loss=2)
    found = await again(protocol, trial)

    assert (found.rows, found.metrics["loss"].last, found.lost_events) == (1, 2.0, 0)


# --- Aggregators


async def test_metrics_with_other_aggregators(protocol, trial):
    """A metric uses the given aggregator; only a time series has a history."""
    for x in (4, 1, 2):
        await protocol.log_trial_metrics(trial, x, ts.StatAggregator.lazy(1), stat=x)
        await protocol.log_trial_metrics(trial, step=x, aggregator=ts.RingAggregator.lazy(2), ring=x)
        await protocol.log_trial_metrics(trial, x, ts.value_aggregator, value=x)
        await protocol.log_trial_metrics(trial, x, series=x)
    metrics = (await again(protocol, trial)).metrics
    history = await protocol.fetch_metrics(trial)

    assert (metrics["stat"].count, metrics["stat"].min, metrics["stat"].max) == (2, 1.0, 2.0)
    assert metrics["ring"].values == [1.0, 2.0]
    assert (metrics["value"].last, metrics["value"].count) == (2.0, 3)
    assert (metrics["series"].last, metrics["series"].last_step) == (2.0, 2)
    assert list(history) == ["series"]


async def test_the_first_aggregator_of_a_name_stays(protocol, trial):
    """A metric keeps its first aggregator; later calls with another one add to it."""
    await protocol.log_trial_metrics(trial, aggregator=ts.RingAggregator.lazy(3), loss=1)
    await protocol.log_trial_metrics(trial, aggregator=ts.StatAggregator.lazy(0), loss=2)
    found = await again(protocol, trial)

    assert found.metrics["loss"].values == [1.0, 2.0]


@pytest.mark.parametrize(
    "given", [ts.StatAggregator, "stat", 1, ts.StatAggregator(1)], ids=["a class", "text", "int", "an instance"]
)
async def test_an_invalid_aggregator(protocol, trial, given):
    """An invalid aggregator raises a TypeError that says what to pass."""
    with pytest.raises(TypeError, match=r"aggregator: expected a specification such as StatAggregator.lazy\(1\)"):
        await protocol.log_trial_metrics(trial, aggregator=given, loss=1)


# --- History


async def test_the_history_of_a_metric_that_was_logged_in_several_shapes(protocol, trial):
    """Rows with other metrics or other types of step are stored apart, and come back in one order."""
    await log_all(
        protocol,
        trial,
        [
            (0, {"loss": 0}),
            (1, {"loss": 1, "accuracy": 10}),
            (2, {"accuracy": 20, "loss": 2}),
            ("end of epoch", {"loss": 3}),
            (3, {"loss": 4}),
            (None, {"accuracy": 30, "loss": 5}),
        ],
    )
    history = await protocol.fetch_metrics(trial)
    loss = await protocol.fetch_metrics(trial, "loss")

    assert list(history) == ["accuracy", "loss"]
    assert history["loss"].values.tolist() == [0, 1, 2, 3, 4, 5]
    assert history["loss"].steps.tolist() == [0, 1, 2, "end of epoch", 3, None]
    assert history["accuracy"].values.tolist() == [10, 20, 30]
    assert history["accuracy"].steps.tolist() == [1, 2, None]
    assert list(loss) == ["loss"]
    assert loss["loss"].values.tolist() == [0, 1, 2, 3, 4, 5]


async def test_times_and_writers_of_a_history(protocol, trial):
    """A history has the time in UTC and the writer of each row."""
    before = np.datetime64("now", "us") - np.timedelta64(1, "s")
    await log_all(protocol, trial, [(i, {"loss": i}) for i in range(10)])
    loss = (await protocol.fetch_metrics(trial, "loss"))["loss"]

    assert (loss.times[1:] >= loss.times[:-1]).all()
    assert before <= loss.times[0] <= loss.times[-1] <= np.datetime64("now", "us") + np.timedelta64(1, "s")
    assert set(loss.writers) == {protocol.writer}
    assert len(loss) == len(loss.writers) == 10


@pytest.mark.parametrize("rows", [1, BUCKET - 1, BUCKET, BUCKET + 1, 2 * BUCKET, 3 * BUCKET + 7])
async def test_a_history_of_any_length(protocol, trial, rows):
    """A history fills one bucket completely before the next; no row is missing or doubled."""
    await log_all(protocol, trial, [(i, {"loss": i}) for i in range(rows)])
    loss = (await protocol.fetch_metrics(trial, "loss"))["loss"]
    found = await again(protocol, trial)

    assert loss.steps.tolist() == list(range(rows))
    assert loss.values.tolist() == list(range(rows))
    assert (found.rows, found.metrics["loss"].count, found.lost_events) == (rows, rows, 0)


async def test_a_history_is_read_while_it_grows(protocol, trial):
    """A read of a growing history returns every row that was logged before it, once."""
    rows = 0
    for _ in range(20):
        await log_all(protocol, trial, [(i, {"loss": i}) for i in range(rows, rows + 300)])
        rows += 300
        loss = (await protocol.fetch_metrics(trial, "loss"))["loss"]

        assert loss.steps.tolist() == list(range(rows))


async def test_a_long_history_is_read_by_others_while_it_grows(served, protocol, trial):
    """Concurrent readers see a beginning of a growing history, with no row missing or doubled while buckets move."""
    # The first batch of MongoDB's answer has 101 documents; the rest is read by further requests.
    rows, more = 110 * BUCKET, 30 * BUCKET
    await log_all(protocol, trial, ((i, {"loss": i}) for i in range(rows)))
    await protocol.commit("folded")
    seen = []

    async def read(other):
        while not seen or seen[-1] < rows + more:
            loss = (await other.fetch_metrics(trial, "loss"))["loss"]
            assert (loss.steps == np.arange(len(loss))).all()
            seen.append(len(loss))

    async with connected(served) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(read, other)
        for i in range(rows, rows + more):
            await protocol.log_trial_metrics(trial, step=i, loss=i)
            if i % 500 == 0:
                await protocol.commit()

    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("since", "wanted"),
    [
        pytest.param(2, [2, 3, 2.5, 7], id="an int"),
        pytest.param(2.5, [3, 2.5, 7], id="a float"),
        pytest.param(np.int64(3), [3, 7], id="a numpy integer"),
        pytest.param(100, [], id="beyond the last"),
        pytest.param("b", ["b", "c"], id="a text"),
    ],
)
async def test_the_history_since_a_step(protocol, trial, since, wanted):
    """`since_step` leaves out rows with smaller steps, with no step, and with steps of the other type."""
    steps = [0, 2, 3, 1, None, 2.5, "a", "b", "c", 7]
    await log_all(protocol, trial, [(step, {"loss": 1}) for step in steps])
    loss = (await protocol.fetch_metrics(trial, "loss", since_step=since))["loss"]

    assert loss.steps.tolist() == wanted
    assert len(loss.times) == len(loss.writers) == len(loss.values) == len(wanted)


async def test_the_history_since_a_row(protocol, trial):
    """`since_row` reads the rows that were logged after others: each poll returns what is new, exactly once."""
    polled, at = [], 0
    for poll in range(8):
        rows = [(i, {"loss": i} | ({"accuracy": -i} if i % 2 else {})) for i in range(400 * poll, 400 * poll + 400)]
        await log_all(protocol, trial, rows)
        found = await protocol.fetch_metrics(trial, since_row=at)
        assert found["accuracy"].values.tolist() == [-i for i, _ in rows if i % 2]
        polled += found["loss"].values.tolist()
        at = int(found["loss"].rows[-1]) + 1

    assert at == (await again(protocol, trial)).rows == 3200
    assert polled == list(range(3200))
    assert [len(each) for each in (await protocol.fetch_metrics(trial, since_row=at)).values()] == [0, 0]
    assert (await protocol.fetch_metrics(trial, "loss", since_row=at, max_points=3))["loss"].rows.tolist() == []
    with pytest.raises(ts.ItemNotFound, match="other"):
        await protocol.fetch_metrics(trial, "other", since_row=at)


@pytest.mark.parametrize("rows", [2 * BUCKET, 2 * BUCKET + 7])
async def test_only_buckets_with_such_rows_are_read(served, protocol, trial, rows):
    """MongoDB returns the buckets that can have rows since a row or a step, and the open bucket of each shape.

    If the open bucket is empty, the one before it is read too, since it shows where the rows are. A bucket without a
    largest step, which an older consumer has filled, is always read.
    """
    await log_all(protocol, trial, [(i, {"loss": i}) for i in range(rows)])
    await log_all(protocol, trial, [(f"{i:05}", {"loss": i}) for i in range(rows)])
    await protocol.commit("folded")
    reader = MongoReader(served, 30.0)
    try:

        async def lengths(since):
            found = await reader.histories([trial.uid], "metrics", ["loss"], since)
            return sorted((each.shape.steps, each.number, len(each)) for each in found.buckets[trial.uid])

        everything = await lengths(Since())
        texts = [each for each in everything if each[0] == "text"]
        ends = [("int", 2, rows - 2 * BUCKET), texts[-1]]  # the open buckets
        before = [everything[1]] if rows == 2 * BUCKET else []  # the open bucket of integers is empty

        assert len(everything) == 6
        assert await lengths(Since(row=0)) == everything
        assert await lengths(Since(row=BUCKET)) == everything[1:]
        assert await lengths(Since(row=2 * rows - 1)) == [*before, *ends]
        assert await lengths(Since(row=2 * rows)) == [*before, *ends]
        assert await lengths(Since(step=0)) == [*everything[:3], texts[-1]]
        assert await lengths(Since(step=BUCKET - 1)) == [*everything[:3], texts[-1]]
        assert await lengths(Since(step=BUCKET - 0.5)) == [*everything[1:3], texts[-1]]
        assert await lengths(Since(step=BUCKET)) == [*everything[1:3], texts[-1]]
        assert await lengths(Since(step=2 * BUCKET - 1.0)) == [*everything[1:3], texts[-1]]
        assert await lengths(Since(step=2**63 - 1)) == await lengths(Since(step=1e300)) == ends
        assert await lengths(Since(step="")) == [ends[0], *texts]
        assert await lengths(Since(step=f"{rows - 1:05}")) == ends
        assert await lengths(Since(step=0, row=BUCKET)) == everything[1:]
        filter_, unset = {"trial": trial.uid, "number": 0}, {"$unset": {"max_step": 1}}
        assert (await reader._client[served.database].series.update_many(filter_, unset)).modified_count == 1
        assert await lengths(Since(step=2 * BUCKET)) == [everything[0], *ends]
    finally:
        reader.close()


@pytest.mark.parametrize("points", [3, 4, 5, 10, 100, 999])
async def test_a_history_for_a_plot(protocol, trial, points):
    """`max_points` limits the points to some of those logged, including the ends and the extremes."""
    values = np.sin(np.arange(2000) / 50)
    values[777], values[1300] = 40.0, -40.0
    await log_all(protocol, trial, [(i, {"loss": x}) for i, x in enumerate(values.tolist())])
    loss = (await protocol.fetch_metrics(trial, "loss", max_points=points))["loss"]

    assert 3 <= len(loss) <= points
    assert (loss.values == values[loss.steps]).all()
    assert (np.diff(loss.steps) > 0).all()
    assert loss.steps[-1] == 1999
    assert points == 3 or loss.steps[0] == 0
    assert {40.0, -40.0} <= set(loss.values)


async def test_a_history_for_a_plot_with_nan_in_it(protocol, trial):
    """`max_points` keeps points that cannot be plotted as gaps; a history that is short enough stays as it is."""
    values = [math.nan if i % 3 == 0 else math.inf if i % 3 == 1 else float(i) for i in range(300)]
    await log_all(protocol, trial, [(i, {"loss": x, "nothing": math.nan}) for i, x in enumerate(values)])
    history = await protocol.fetch_metrics(trial, max_points=20)
    whole = await protocol.fetch_metrics(trial, "loss", max_points=300)

    loss = history["loss"]
    finite = loss.values[np.isfinite(loss.values)]

    assert len(loss) <= 20
    assert (finite.min(), finite.max()) == (2.0, 299.0)
    assert len(finite) == len(loss) - 6
    assert np.isnan(history["nothing"].values).all()
    assert history["nothing"].steps[[0, -1]].tolist() == [0, 299]
    assert np.array_equal(whole["loss"].values, values, equal_nan=True)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        pytest.param({"max_points": 2}, ts.InvalidValue, "max_points", id="too few points"),
        pytest.param({"max_points": -1}, ts.InvalidValue, "max_points", id="a negative number of points"),
        pytest.param({"max_points": 2.5}, TypeError, "max_points", id="half a point"),
        pytest.param({"max_points": True}, TypeError, "max_points", id="a bool for points"),
        pytest.param({"since_step": [1]}, TypeError, "since_step", id="a list for a step"),
        pytest.param({"since_step": math.nan}, ts.InvalidValue, "since_step", id="NaN for a step"),
        pytest.param({"since_row": -1}, ts.InvalidValue, "since_row", id="a negative row"),
        pytest.param({"since_row": 1.0}, TypeError, "since_row", id="a float for a row"),
        pytest.param({"section": "tags"}, ts.InvalidValue, "section", id="a section without history"),
    ],
)
async def test_invalid_arguments_of_fetch_metrics(protocol, trial, arguments, error, named):
    """Invalid arguments of `fetch_metrics` are refused at the call with the parameter's name."""
    with pytest.raises(error, match=named):
        await protocol.fetch_metrics(trial, **arguments)


async def test_the_history_of_a_metric_that_was_never_logged(protocol, trial):
    """Fetching a metric that was never logged raises ItemNotFound; fetching all metrics of such a trial does not."""
    await protocol.log_trial_metrics(trial, aggregator=ts.StatAggregator.lazy(), stat=1)

    assert await protocol.fetch_metrics(trial) == {}
    with pytest.raises(ts.ItemNotFound, match="stat"):
        await protocol.fetch_metrics(trial, "stat")
    await protocol.log_trial_metrics(trial, loss=1)
    with pytest.raises(ts.ItemNotFound, match="accuracy, f1"):
        await protocol.fetch_metrics(trial, "loss", "f1", "accuracy")
    with pytest.raises(TypeError, match="metric"):
        await protocol.fetch_metrics(trial, 1)
