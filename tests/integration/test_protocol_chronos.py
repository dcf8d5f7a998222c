"""Chronos: clocks of one name in many tasks, threads and trials."""

from __future__ import annotations

import asyncio
import threading
import time

import anyio
import pytest
import trialstream as ts
from contract import again, connected, until

# Long compared with the jitter of a busy machine, short enough for a test.
PAUSE = 0.1


async def timed(protocol, trial, name, body, **arguments):
    """Run a body between start and finish, as training code does."""
    await protocol.log_trial_chrono_start(trial, name, **arguments)
    try:
        await body()
    except Exception as error:
        await protocol.log_trial_chrono_finish(trial, name, type(error), error, error.__traceback__)
        raise
    else:
        await protocol.log_trial_chrono_finish(trial, name)


async def nothing():
    """A body that takes no time."""


@pytest.mark.parametrize("arguments", [{}, {"aggregator": None}], ids=["default", "None"])
async def test_the_first_observation_does_not_count(protocol, trial, arguments):
    """By default a chrono skips its first observation, since the first step compiles and warms up."""
    for i in range(4):
        await timed(protocol, trial, "step", (lambda: anyio.sleep(PAUSE)) if i == 0 else nothing, **arguments)
    step = (await again(protocol, trial)).chronos["step"]

    assert isinstance(step, ts.StatAggregator)
    assert (step.skip_obs, step.count) == (1, 3)
    assert 0 <= step.min <= step.avg <= step.max


async def test_a_chrono_that_ran_once(protocol, name):
    """A chrono that ran once shows its seconds, which queries and sorts find, although it has no statistics."""
    for i, pause in enumerate((2 * PAUSE, 0, PAUSE)):
        trial = await protocol.new_trial(ts.Trial(name=name, parameters={"i": i}))
        await timed(protocol, trial, "epoch", lambda pause=pause: anyio.sleep(pause))
    of_name = {"name": name}
    trials = await protocol.fetch_trials(of_name, sort="chronos.epoch.last")
    long = await protocol.fetch_trials(of_name | {"chronos.epoch.last": {"$gte": PAUSE}}, sort="-chronos.epoch.last")
    skipped = await protocol.fetch_trials(of_name | {"chronos.epoch.skipped": {"$size": 1}})

    for each in trials:
        epoch = each.chronos["epoch"]
        assert (epoch.count, epoch.avg, epoch.skipped_values) == (0, None, [epoch.last])
    assert [each.parameters["i"] for each in trials] == [1, 2, 0]
    assert [each.parameters["i"] for each in long] == [0, 2]
    assert len(skipped) == 3


async def test_chronos_with_other_aggregators(protocol, trial):
    """A chrono uses the given aggregator; only a time series has a history."""
    for _ in range(3):
        await timed(protocol, trial, "all", nothing, aggregator=ts.StatAggregator.lazy(0))
        await timed(protocol, trial, "series", nothing, aggregator=ts.timeseries_aggregator)
        await timed(protocol, trial, "ring", nothing, aggregator=ts.RingAggregator.lazy(2))
    chronos = (await again(protocol, trial)).chronos
    history = await protocol.fetch_metrics(trial, section="chronos")

    assert (chronos["all"].count, chronos["series"].count, len(chronos["ring"].values)) == (3, 3, 2)
    assert list(history) == ["series"]
    assert history["series"].values.tolist()[-1] == chronos["series"].last
    assert len(history["series"]) == 3


@pytest.mark.parametrize("kind", ["sync", "async", "a callable object", "a partial awaitable"])
async def test_the_end_callback_runs_before_the_clock_stops(protocol, trial, kind):
    """The time of the end callback, where a device is synchronised, counts."""
    done = []

    def wait():
        threading.Event().wait(PAUSE)
        done.append(kind)

    async def wait_async():
        await anyio.sleep(PAUSE)
        done.append(kind)

    class Waiting:
        def __call__(self):
            wait()

    callback = {
        "sync": wait,
        "async": wait_async,
        "a callable object": Waiting(),
        "a partial awaitable": lambda: asyncio.ensure_future(wait_async()),
    }[kind]
    await timed(protocol, trial, "step", nothing, aggregator=ts.StatAggregator.lazy(0), end_callback=callback)
    step = (await again(protocol, trial)).chronos["step"]

    assert done == [kind]
    assert PAUSE <= step.min < 100 * PAUSE


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_start_callback_runs_before_the_clock_starts(protocol, trial, kind):
    """The time of the start callback does not count."""
    done = []

    def wait():
        threading.Event().wait(5 * PAUSE)
        done.append(kind)

    async def wait_async():
        await anyio.sleep(5 * PAUSE)
        done.append(kind)

    callback = wait if kind == "sync" else wait_async
    await timed(protocol, trial, "step", nothing, aggregator=ts.StatAggregator.lazy(0), start_callback=callback)
    step = (await again(protocol, trial)).chronos["step"]

    assert done == [kind]
    assert step.max < 5 * PAUSE


async def test_a_start_callback_that_raises(protocol, trial):
    """The exception of a start callback propagates, and no chrono is open."""

    def fail():
        raise OSError("no device")

    with pytest.raises(OSError, match="no device"):
        await protocol.log_trial_chrono_start(trial, "step", start_callback=fail)
    with pytest.raises(ts.ChronoError, match="step"):
        await protocol.log_trial_chrono_finish(trial, "step")

    assert (await again(protocol, trial)).chronos == {}


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_end_callback_that_raises(protocol, trial, kind):
    """The exception of an end callback propagates; the time is recorded and counted as failed."""

    def fail():
        raise OSError("device lost")

    async def fail_async():
        fail()

    callback = fail if kind == "sync" else fail_async
    await protocol.log_trial_chrono_start(trial, "step", ts.StatAggregator.lazy(0), end_callback=callback)
    with pytest.raises(OSError, match="device lost"):
        await protocol.log_trial_chrono_finish(trial, "step")
    found = await again(protocol, trial)

    assert found.chronos["step"].count == 1
    assert found.failed_chronos == {"step": 1}
    with pytest.raises(ts.ChronoError):
        await protocol.log_trial_chrono_finish(trial, "step")


async def test_a_body_that_raises(protocol, trial):
    """The time of a body that raises is recorded and counted as failed."""

    async def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await timed(protocol, trial, "step", fail, aggregator=ts.StatAggregator.lazy(0))
    await timed(protocol, trial, "step", nothing, aggregator=ts.StatAggregator.lazy(0))
    found = await again(protocol, trial)

    assert found.chronos["step"].count == 2
    assert found.failed_chronos == {"step": 1}


async def test_a_body_that_exits(protocol, trial):
    """A successful exit is not counted as failed; any other exit is."""
    for code in (0, None, 1):
        await protocol.log_trial_chrono_start(trial, "step", ts.StatAggregator.lazy(0))
        await protocol.log_trial_chrono_finish(trial, "step", SystemExit, SystemExit(code))
    found = await again(protocol, trial)

    assert found.chronos["step"].count == 3
    assert found.failed_chronos == {"step": 1}


async def test_a_body_that_is_cancelled(protocol, trial):
    """Cancellation ends the end callback early; the time is recorded and counted as failed."""
    with anyio.move_on_after(PAUSE):
        await protocol.log_trial_chrono_start(
            trial, "step", ts.StatAggregator.lazy(0), end_callback=lambda: anyio.sleep(60)
        )
        await protocol.log_trial_chrono_finish(trial, "step")
    found = await again(protocol, trial)

    assert found.chronos["step"].count == 1
    assert found.failed_chronos == {"step": 1}


async def test_a_finish_without_a_start(protocol, trial):
    """A finish without a start raises an error with the chrono's name, and logs nothing."""
    with pytest.raises(ts.ChronoError, match=r"'step'.*never started"):
        await protocol.log_trial_chrono_finish(trial, "step")
    await timed(protocol, trial, "step", nothing)
    with pytest.raises(ts.ChronoError, match="'step'"):
        await protocol.log_trial_chrono_finish(trial, "step")
    found = await again(protocol, trial)

    assert found.chronos["step"].count == 0
    assert found.lost_events == 0


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        pytest.param({"name": "a\0b"}, ts.InvalidValue, "chrono", id="NUL in the name"),
        pytest.param({"name": 1}, TypeError, "chrono", id="a number for a name"),
        pytest.param({"name": "runtime"}, ts.InvalidValue, "chrono 'runtime'", id="the name of the trial's own chrono"),
        pytest.param(
            {"name": "a", "aggregator": ts.StatAggregator}, TypeError, "aggregator", id="a class for an aggregator"
        ),
        pytest.param({"name": "a", "start_callback": 1}, TypeError, "start_callback", id="a number for a callback"),
        pytest.param({"name": "a", "end_callback": "f"}, TypeError, "end_callback", id="a text for a callback"),
    ],
)
async def test_a_chrono_with_an_invalid_argument(protocol, trial, arguments, error, named):
    """A chrono with an invalid argument is refused at the start, and no chrono is open."""
    with pytest.raises(error, match=named):
        await protocol.log_trial_chrono_start(trial, **arguments)

    assert (await again(protocol, trial)).chronos == {}


async def test_chronos_of_one_name_nest(protocol, trial):
    """A finish ends the latest chrono of that name that its task has started."""
    await protocol.log_trial_chrono_start(trial, "step", ts.RingAggregator.lazy(2))
    await anyio.sleep(PAUSE)
    await protocol.log_trial_chrono_start(trial, "step", ts.RingAggregator.lazy(2))
    await protocol.log_trial_chrono_finish(trial, "step")
    await protocol.log_trial_chrono_finish(trial, "step")
    inner, outer = (await again(protocol, trial)).chronos["step"].values

    assert inner < outer


async def test_chronos_of_one_name_in_many_tasks(protocol, trial):
    """Each finish stops the clock that its own task started, in any order."""

    async def one(i):
        await protocol.log_trial_chrono_start(trial, "step", ts.timeseries_aggregator)
        await anyio.sleep(PAUSE * (1 if i % 2 else 20))
        await protocol.log_trial_chrono_finish(trial, "step")

    async with anyio.create_task_group() as tasks:
        for i in range(20):
            tasks.start_soon(one, i)
    history = (await protocol.fetch_metrics(trial, "step", section="chronos"))["step"]

    assert len(history) == 20
    assert sum(history.values >= 20 * PAUSE) == 10
    assert min(history.values) >= PAUSE


async def test_a_chrono_that_another_task_finishes(protocol, trial):
    """A task can finish the only open chrono of a name for another task; with several open, it gets a ChronoError."""

    async def start():
        await protocol.log_trial_chrono_start(trial, "step", ts.StatAggregator.lazy(0))

    await asyncio.create_task(start())
    await protocol.log_trial_chrono_finish(trial, "step")
    await asyncio.gather(start(), start())
    with pytest.raises(ts.ChronoError, match="open in 2 other tasks"):
        await protocol.log_trial_chrono_finish(trial, "step")

    assert (await again(protocol, trial)).chronos["step"].count == 1


async def test_chronos_of_one_name_in_many_trials(protocol, name):
    """Chronos of the same name in several trials are independent."""
    trials = [await protocol.new_trial(ts.Trial(name=name), auto_increment=True) for _ in range(3)]
    for each in trials:
        await protocol.log_trial_chrono_start(each, "step", ts.StatAggregator.lazy(0))
    for each in trials[:2]:
        await protocol.log_trial_chrono_finish(each, "step")
    counts = [sum(chrono.count for chrono in each.chronos.values()) for each in await protocol.get_trial(trials[0])]
    with pytest.raises(ts.ChronoError):
        await protocol.log_trial_chrono_finish(trials[0], "step")

    assert counts == [1, 1, 0]


async def test_chronos_of_one_name_in_many_threads(served, protocol, trial):
    """Chronos of the same name in several threads, each with an event loop, are independent."""
    together = threading.Barrier(8)

    def work(i):
        async def main():
            together.wait(30)  # so that no chrono is open while other threads begin
            await protocol.log_trial_chrono_start(trial, "step", ts.timeseries_aggregator)
            together.wait(30)  # all are open at once
            await anyio.sleep(PAUSE * (1 if i % 2 else 20))
            await protocol.log_trial_chrono_finish(trial, "step")

        asyncio.run(main())

    async with anyio.create_task_group() as tasks:
        for i in range(8):
            tasks.start_soon(anyio.to_thread.run_sync, work, i)
    history = (await protocol.fetch_metrics(trial, "step", section="chronos"))["step"]

    assert len(history) == 8
    assert sum(history.values >= 20 * PAUSE) == 4


async def test_a_chrono_that_runs_for_long_is_shown_as_open(served, protocol, trial):
    """A long-running chrono is shown in `open_chronos` until it is finished, which locates a hanging run."""
    async with connected(served) as other:

        async def is_open():
            return (await again(other, trial)).open_chronos == {"load": 2}

        for _ in range(2):
            await protocol.log_trial_chrono_start(trial, "load", ts.StatAggregator.lazy(0))
        started = time.monotonic()
        await until(is_open)
        for _ in range(2):
            await protocol.log_trial_chrono_finish(trial, "load")
        elapsed = time.monotonic() - started
    found = await again(protocol, trial)

    assert found.open_chronos == {}
    assert found.chronos["load"].count == 2
    assert found.chronos["load"].max == pytest.approx(elapsed, abs=1.0)
