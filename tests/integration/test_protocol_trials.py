"""Start, end, arguments, metadata, status and tags of trials."""

from __future__ import annotations

import asyncio

import pytest
import trialstream as ts
from contract import TRIAL_METHODS, again, arguments_of, connected

# --- Start and finish


async def test_a_started_trial_is_running(protocol, trial):
    """A started trial has the status `Running` and the time of its start."""
    await protocol.log_trial_start(trial)
    found = await again(protocol, trial)

    assert found.status is ts.Status.Running
    assert found.starts == 1
    assert found.created <= found.started <= found.last_seen
    assert found.finished is None


async def test_a_second_start_is_a_resume(protocol, trial):
    """A second start is counted, sets the status `Running` again, and keeps the time of the first start."""
    await protocol.log_trial_start(trial)
    await protocol.log_trial_finish(trial)
    first = await again(protocol, trial)
    await protocol.log_trial_start(trial)
    await protocol.log_trial_start(trial)
    found = await again(protocol, trial)

    assert found.starts == 3
    assert found.started == first.started
    assert found.status is ts.Status.Running
    assert found.finished is None
    assert found.errors == []


async def test_a_finished_trial_is_completed(protocol, trial):
    """A finished trial is completed, and each finish after a start adds its elapsed time to the chrono `runtime`."""
    for _ in range(2):
        await protocol.log_trial_start(trial)
        await protocol.log_trial_finish(trial)
    found = await again(protocol, trial)

    assert found.status is ts.Status.Completed
    assert found.finished >= found.started
    assert found.chronos["runtime"].count == 2
    assert 0 < found.chronos["runtime"].sum < 30
    assert found.errors == []


async def test_the_runtime_of_a_trial_that_another_process_started(served, protocol, trial):
    """If another process started the trial, its runtime is the difference of the two times in the log."""
    await protocol.log_trial_start(trial)
    await protocol.commit()
    async with connected(served) as other:
        await other.log_trial_finish(trial)
        found = await again(other, trial)

    assert found.chronos["runtime"].max == (found.finished - found.started).total_seconds()


async def test_a_finish_without_a_start(protocol, trial):
    """A finish without a start ends the trial without a runtime."""
    await protocol.log_trial_finish(trial)
    found = await again(protocol, trial)

    assert found.status is ts.Status.Completed
    assert (found.starts, found.started, found.chronos) == (0, None, {})


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, asyncio.CancelledError])
async def test_an_interrupted_trial(protocol, trial, interruption):
    """An interruption ends the trial with the status `Interrupted` and without an error."""
    await protocol.log_trial_start(trial)
    try:
        raise interruption
    except interruption as error:
        await protocol.log_trial_finish(trial, type(error), error, error.__traceback__)
    found = await again(protocol, trial)

    assert found.status is ts.Status.Interrupted
    assert found.errors == []
    assert found.chronos["runtime"].count == 1


async def test_a_trial_that_exits(protocol, trial):
    """A successful exit completes the trial."""
    await protocol.log_trial_finish(trial, SystemExit, SystemExit(0), None)
    found = await again(protocol, trial)

    assert (found.status, found.errors) == (ts.Status.Completed, [])


async def test_a_trial_that_raised(protocol, trial):
    """A trial that raised has the status `Exception`, and type, message and traceback in `errors`."""
    await protocol.log_trial_start(trial)
    try:
        raise FloatingPointError("loss is NaN \ud800")
    except FloatingPointError as error:
        await protocol.log_trial_finish(trial, exc_type=type(error), exc_val=error, exc_tb=error.__traceback__)
    found = await again(protocol, trial)

    assert found.status is ts.Status.Exception
    [error] = found.errors
    assert (error.type, error.message) == ("FloatingPointError", "loss is NaN \\ud800")
    assert "test_protocol_trials.py" in error.traceback
    assert error.time == found.finished
    assert found.chronos["runtime"].count == 1


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"exc_type": ValueError}, id="the class alone"),
        pytest.param({"exc_val": ValueError("no")}, id="the exception alone"),
    ],
)
async def test_a_class_or_an_exception_alone_marks_a_trial_that_raised(protocol, trial, how):
    """`log_trial_finish` accepts the exception class or the exception alone."""
    await protocol.log_trial_finish(trial, **how)
    found = await again(protocol, trial)

    assert found.status is ts.Status.Exception
    assert found.errors[0].type == "ValueError"


async def test_an_invalid_exception_type(protocol, trial):
    """An exception type that is not an exception class is refused, and the trial stays as it is."""
    await protocol.log_trial_start(trial)
    with pytest.raises(TypeError, match="exc_type"):
        await protocol.log_trial_finish(trial, exc_type="ValueError")
    await protocol.log_trial_finish(trial)
    found = await again(protocol, trial)

    assert found.status is ts.Status.Completed
    assert found.chronos["runtime"].count == 1
    assert found.lost_events == 0


# --- Arguments, metadata, tags


async def test_arguments_are_merged_and_the_uid_stays(protocol, name):
    """Later arguments replace earlier ones of the same key; the uid stays, since it was set at the creation."""
    trial = await protocol.new_trial(ts.Trial(name=name, parameters={"lr": 0.1, "depth": 2}))
    await protocol.log_trial_arguments(trial, lr=0.2, width=64)
    await protocol.log_trial_arguments(trial, width=[64, 32])
    found = await again(protocol, trial)

    assert found.parameters == {"lr": 0.2, "depth": 2, "width": [64, 32]}
    assert found.uid == trial.uid
    assert [each.uid for each in await protocol.get_trial(trial)] == [trial.uid]


async def test_metadata_is_merged(protocol, name):
    """Later metadata replaces earlier metadata of the same key."""
    trial = await protocol.new_trial(ts.Trial(name=name, metadata={"host": "a", "gpu": None}))
    await protocol.log_trial_metadata(trial, host="b")
    await protocol.log_trial_metadata(trial, commit="c")
    found = await again(protocol, trial)

    assert found.metadata == {"host": "b", "gpu": None, "commit": "c"}


async def test_metadata_can_accumulate(protocol, trial):
    """An aggregator other than Value takes every observation of its key, and stays."""
    for i in range(4):
        await protocol.log_trial_metadata(trial, ts.RingAggregator.lazy(2), batch=f"b{i}")
        await protocol.log_trial_metadata(trial, aggregator=ts.StatAggregator.lazy(1), memory=10.0 * i)
        await protocol.log_trial_metadata(trial, aggregator=ts.timeseries_aggregator, power=i)
        await protocol.log_trial_metadata(trial, note=i)
    await protocol.log_trial_metadata(trial, memory=40.0)
    found = await again(protocol, trial)
    history = await protocol.fetch_metrics(trial, section="metadata")

    assert found.metadata["batch"].values == ["b2", "b3"]
    memory = found.metadata["memory"]
    assert (memory.count, memory.min, memory.max, memory.avg) == (4, 10.0, 40.0, 25.0)
    assert (found.metadata["power"].last, found.metadata["power"].count) == (3.0, 4)
    assert found.metadata["note"] == 3
    assert history["power"].values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("aggregator", "given", "named"),
    [
        pytest.param(ts.StatAggregator.lazy(), {"memory": "10 MB"}, "memory", id="a text for Stat"),
        pytest.param(ts.timeseries_aggregator, {"power": None}, "power", id="None for TimeSeries"),
        pytest.param(ts.StatAggregator, {"memory": 1}, "aggregator", id="a class for an aggregator"),
        pytest.param(1, {"memory": 1}, "aggregator", id="a number for an aggregator"),
        pytest.param("stat", {"memory": 1}, "aggregator", id="a text for an aggregator"),
    ],
)
async def test_metadata_that_its_aggregator_cannot_take(protocol, trial, aggregator, given, named):
    """Metadata that its aggregator cannot take raises TypeError at the call, and nothing is logged."""
    with pytest.raises(TypeError, match=named):
        await protocol.log_trial_metadata(trial, aggregator, good=1, **given)
    await protocol.log_trial_metadata(trial, fine=True)
    found = await again(protocol, trial)

    assert found.metadata == {"fine": True}
    assert found.lost_events == 0


async def test_tags_are_merged(protocol, name):
    """Later tags replace earlier ones of the same key, and trials are found by their tags."""
    trial = await protocol.new_trial(ts.Trial(name=name, tags={"user": "ada", "old": True}))
    await protocol.add_trial_tags(trial, user="grace", **{"a.b": [1]})
    [found] = await protocol.fetch_trials({"name": name, "tags.user": "grace"})

    assert found.tags == {"user": "grace", "old": True, "a.b": [1]}


async def test_values_are_logged_as_they_are_at_the_call(protocol, trial):
    """Changing a value after the call does not change the logged value."""
    layers = [64, 32]
    await protocol.log_trial_arguments(trial, layers=layers)
    await protocol.log_trial_metadata(trial, ts.RingAggregator.lazy(2), layers=layers)
    layers.append(16)
    found = await again(protocol, trial)

    assert found.parameters == {"layers": [64, 32]}
    assert found.metadata["layers"].values == [[64, 32]]


# --- Status


@pytest.mark.parametrize("status", [*ts.Status, ts.CustomStatus("Paused by ops.", -7)], ids=lambda each: each.name)
async def test_any_status_can_be_set(protocol, trial, status):
    """Any status can be set, comes back unchanged, and trials are found by it."""
    await protocol.set_trial_status(trial, status)
    found = await protocol.fetch_trials({"uid": trial.uid, "status": status})

    assert [each.status for each in found] == [status]


async def test_errors_of_a_status_are_appended(protocol, trial):
    """The error of a status, a text or an exception, is appended to the trial's errors."""
    try:
        raise MemoryError("4 GB")
    except MemoryError as error:
        await protocol.set_trial_status(trial, ts.Status.Broken, error)
    await protocol.set_trial_status(trial, status=ts.Status.Broken, error="node lost")
    await protocol.set_trial_status(trial, ts.Status.Suspended)
    found = await again(protocol, trial)

    assert [(each.type, each.message) for each in found.errors] == [("MemoryError", "4 GB"), ("", "node lost")]
    assert "raise MemoryError" in found.errors[0].traceback
    assert found.status is ts.Status.Suspended


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param({"status": "Running"}, "status", id="a name for a status"),
        pytest.param({"status": 101}, "status", id="a code for a status"),
        pytest.param({"status": ts.Status.Broken, "error": 3}, "error", id="a number for an error"),
    ],
)
async def test_an_invalid_status(protocol, trial, given, named):
    """An invalid status or error raises TypeError at the call, and nothing is logged."""
    with pytest.raises(TypeError, match=named):
        await protocol.set_trial_status(trial, **given)
    await protocol.add_trial_tags(trial, fine=True)
    found = await again(protocol, trial)

    assert (found.status, found.errors, found.lost_events) == (ts.Status.CreatedGroup, [], 0)


# --- Missing trials


@pytest.mark.parametrize("method", TRIAL_METHODS)
async def test_a_trial_that_was_never_created(protocol, name, method):
    """A call with a trial that was never created raises ItemNotFound with its name, at the call."""
    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    arguments = arguments_of(project, group, ts.Trial(name=name))[method]

    with pytest.raises(ts.ItemNotFound, match=name):
        await getattr(protocol, method)(**arguments)


@pytest.mark.parametrize("method", [*TRIAL_METHODS, "new_trial", "get_trial"])
@pytest.mark.parametrize("given", ["a name", None, ts.Project(name="a project")], ids=["text", "None", "a project"])
async def test_an_argument_that_is_not_a_trial(protocol, name, method, given):
    """An argument that is not a trial raises TypeError with the parameter's name."""
    project, group = ts.Project(name=name), ts.TrialGroup(name=name)
    if method == "add_group_trial":
        await protocol.new_trial_group(group)
    arguments = {**arguments_of(project, group, ts.Trial(name=name))[method], "trial": given}

    with pytest.raises(TypeError, match="trial"):
        await getattr(protocol, method)(**arguments)


async def test_arguments_with_an_obvious_meaning(protocol, name):
    """None for a description or an aggregator, a number for a version and a class for an error mean what they say."""
    trial = await protocol.new_trial(ts.Trial(name=name, version=3, description=None))
    await protocol.log_trial_metadata(trial, None, note="a")
    await protocol.set_trial_status(trial, ts.Status.Broken, TimeoutError)
    [found] = await protocol.get_trial(ts.Trial(name=name, version="3"))

    assert (found.uid, found.version, found.description) == (trial.uid, "3", "")
    assert found.metadata == {"note": "a"}
    assert [(each.type, each.message) for each in found.errors] == [("TimeoutError", "")]
