"""Update calls as events: they are checked at the call, so that a queued event can be encoded and folded."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest
from trialstream.kafka import commands
from trialstream.protocol import Protocol
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.aggregators import RingAggregator, StatAggregator, TimeSeriesAggregator, ValueAggregator
from trialstream_schemas.model.attempts import Attempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import StatusRecord
from trialstream_schemas.wire.limits import MAX_EVENT_BYTES

UID = "0123456789abcdef0123456789abcdef_0"


def raised(error):
    """Return the error with the traceback of a raise."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize("name", [*commands.TRIAL_UPDATES, *commands.GROUP_UPDATES])
def test_an_update_has_the_parameters_of_its_method(name):
    """An update takes the writer, the uid, and the parameters of its Protocol method after the trial or group."""
    update = (commands.TRIAL_UPDATES | commands.GROUP_UPDATES)[name]
    mine = list(inspect.signature(update).parameters.values())[2:]
    method = list(inspect.signature(getattr(Protocol, name)).parameters.values())[2:]

    assert [(each.name, each.kind, each.default) for each in mine] == [
        (each.name, each.kind, each.default) for each in method
    ]


@pytest.mark.parametrize(
    "event",
    [
        commands.log_trial_start("w", UID),
        commands.log_trial_start("w", UID, attempt=Attempt("k", rank=0, world_size=2, host="n", resume_step=0.5)),
        commands.log_trial_finish("w", UID, ValueError, ValueError("no"), None),
        commands.log_trial_arguments("w", UID, a=1),
        commands.log_trial_metadata("w", UID, RingAggregator.lazy(3), a=[None]),
        commands.add_trial_tags("w", UID, a={"b": b"c"}),
        commands.set_trial_status("w", UID, Status.Broken, "why"),
        commands.set_group_metadata("w", "g", a=1.5),
    ],
    ids=lambda event: type(event).__name__,
)
def test_the_event_of_an_update_can_be_encoded(event):
    """The event of an update is restored from the wire, with the writer, the subject and the time of the call."""
    read = SchemaStore().decode(encode(event))

    assert read == event
    assert (event.writer, event.subject) in {("w", UID), ("w", "g")}
    assert 0 <= time.time_ns() // 1000 - event.time < 3600_000_000  # the event was made when the tests were collected


def test_a_start_takes_an_attempt():
    """The attempt of a start is an `Attempt`, or None."""
    with pytest.raises(InvalidType, match="attempt: expected an Attempt or None, got str"):
        commands.log_trial_start("w", UID, attempt="k")


# --- Finish


@pytest.mark.parametrize(
    "given",
    [
        pytest.param((KeyboardInterrupt, KeyboardInterrupt(), None), id="Ctrl-C"),
        pytest.param((asyncio.CancelledError, None, None), id="cancellation"),
        pytest.param((None, asyncio.CancelledError(), None), id="the instance alone"),
        pytest.param((type("Stop", (KeyboardInterrupt,), {}), None, None), id="a subclass"),
    ],
)
def test_an_interruption_is_no_error(given):
    """An interruption or cancellation sets `interrupted` and has no error."""
    event = commands.log_trial_finish("w", UID, *given)

    assert (event.interrupted, event.error) == (True, None)


def test_an_exception_is_kept_with_its_traceback():
    """An exception is logged with its type, message and traceback."""
    error = raised(ZeroDivisionError("by zero"))
    event = commands.log_trial_finish("w", UID, type(error), error, error.__traceback__)

    assert not event.interrupted
    assert (event.error.type, event.error.message) == ("ZeroDivisionError", "by zero")
    assert "in raised" in event.error.traceback
    assert event.error.traceback.endswith("ZeroDivisionError: by zero\n")


@pytest.mark.parametrize("given", [(ValueError, None), (None, ValueError("")), (SystemExit, SystemExit(""))])
def test_missing_parts_of_an_exception_are_empty(given):
    """A missing instance, message or traceback of an exception is logged as an empty text."""
    event = commands.log_trial_finish("w", UID, *given)

    assert event.error.message == ""
    assert event.error.traceback == ""


@pytest.mark.parametrize(
    "given",
    [
        pytest.param((SystemExit, SystemExit(0), None), id="code 0"),
        pytest.param((SystemExit, SystemExit(), None), id="no code"),
        pytest.param((SystemExit, SystemExit(False), None), id="False, which is 0"),
        pytest.param((SystemExit, None, None), id="the class alone"),
        pytest.param((None, SystemExit(0), None), id="the instance alone"),
        pytest.param((type("Done", (SystemExit,), {}), None, None), id="a subclass"),
        pytest.param((None, None, None), id="no exception"),
    ],
)
def test_a_successful_exit_completes_the_trial(given):
    """`SystemExit` with the code 0 or None ends a trial as no exception does, and does not make a chrono fail."""
    event = commands.log_trial_finish("w", UID, *given)

    assert (event.interrupted, event.error) == (False, None)
    assert commands.is_successful_exit(*given[:2]) == (given[:2] != (None, None))


@pytest.mark.parametrize("error", [SystemExit(1), SystemExit("no data"), SystemExit(""), SystemExit(0.0)], ids=repr)
def test_an_unsuccessful_exit_is_an_exception(error):
    """`SystemExit` with any other code is an exception, whose message is the code."""
    event = commands.log_trial_finish("w", UID, type(error), error)

    assert (event.interrupted, event.error.type, event.error.message) == (False, "SystemExit", str(error))


def test_a_closed_generator_is_an_exception():
    """`GeneratorExit` is an exception of the trial, since the code behind the `yield` has not run."""
    event = commands.log_trial_finish("w", UID, GeneratorExit, GeneratorExit())

    assert (event.interrupted, event.error.type) == (False, "GeneratorExit")


@pytest.mark.parametrize("given", ["ValueError", int, 1, ValueError()], ids=repr)
def test_a_wrong_exc_type_is_refused(given):
    """An `exc_type` that is not a class of exceptions is a TypeError that names the parameter."""
    with pytest.raises(InvalidType, match="exc_type"):
        commands.log_trial_finish("w", UID, given)


def test_an_exception_with_a_broken_str_is_logged():
    """An exception whose `__str__` raises is logged with the error of `__str__` as its message."""

    class BrokenError(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    event = commands.log_trial_finish("w", UID, BrokenError, BrokenError(), None)

    assert "no text" in event.error.message
    assert event.error.type.endswith("BrokenError")


def test_a_long_exception_is_cut():
    """The beginning of a long message and the end of its traceback are logged, in valid Unicode."""
    error = raised(ValueError("\ud800" + "é" * 100_000 + "end"))
    event = commands.log_trial_finish("w", UID, type(error), error, error.__traceback__)

    assert event.error.message.startswith("\\ud800é")
    assert len(event.error.message) <= 2048 + 5
    assert event.error.traceback.endswith("end\n")
    assert len(event.error.traceback) <= 8192
    assert SchemaStore().decode(encode(event)) == event


# --- Status


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        pytest.param(Status.Completed, StatusRecord("Completed", 302), id="a status"),
        pytest.param(CustomStatus("Paused", -1), StatusRecord("Paused", -1), id="a custom status"),
    ],
)
def test_a_status_is_a_name_and_a_number(status, wanted):
    """A status, built-in or the user's own, is logged as its name and number."""
    event = commands.set_trial_status("w", UID, status)

    assert (event.status, event.error) == (wanted, None)


def test_the_error_of_a_status():
    """The error of a status is a text without a type, or an exception with its traceback."""
    text = commands.set_trial_status("w", UID, Status.Broken, "node lost").error
    exception = commands.set_trial_status("w", UID, Status.Broken, raised(OSError("disk"))).error

    assert (text.type, text.message, text.traceback) == ("", "node lost", "")
    assert (exception.type, exception.message) == ("OSError", "disk")
    assert "raise error" in exception.traceback


def test_an_exception_class_as_the_error_of_a_status():
    """A class of exceptions is an exception of that class without a message; any other class is refused."""
    error = commands.set_trial_status("w", UID, Status.Broken, TimeoutError).error

    assert (error.type, error.message, error.traceback) == ("TimeoutError", "", "")
    with pytest.raises(InvalidType, match=r"^error: expected a text, an exception or its class, got type$"):
        commands.set_trial_status("w", UID, Status.Broken, int)


@pytest.mark.parametrize(
    ("args", "named"), [(("Running",), "status"), ((101,), "status"), ((Status.Broken, 1), "error")]
)
def test_wrong_status_or_error_is_refused(args, named):
    """A wrong status or error is a TypeError that names the parameter."""
    with pytest.raises(InvalidType, match=named):
        commands.set_trial_status("w", UID, *args)


# --- Values


@pytest.mark.parametrize("update", [commands.log_trial_arguments, commands.log_trial_metadata, commands.add_trial_tags])
def test_values_are_copied_in_their_plain_form(update):
    """A later change of a logged value does not change the event."""
    given = [1, (2, bytearray(b"a"))]
    event = update("w", UID, a=given, **{"a.b": True})
    given.append(3)

    assert event.values == {"a": [1, [2, b"a"]], "a.b": True}


@pytest.mark.parametrize(
    "update",
    [commands.log_trial_arguments, commands.log_trial_metadata, commands.add_trial_tags, commands.set_group_metadata],
)
def test_invalid_values_are_refused(update):
    """A value that cannot be logged is an error that names its key."""
    with pytest.raises(InvalidType, match="bad"):
        update("w", UID, good=1, bad=object())
    with pytest.raises(InvalidValue, match="bad"):
        update("w", UID, good=1, bad=2**63)


def test_values_too_large_for_one_event_are_refused():
    """Values that are small enough each are an error if their event is too large; the largest event can be encoded."""
    many = {f"k{i}": "x" * 1000 for i in range(MAX_EVENT_BYTES // 1000 + 1)}
    fits = dict(list(many.items())[: MAX_EVENT_BYTES // 1020])
    with pytest.raises(InvalidValue, match="spread the values over several"):
        commands.log_trial_arguments("w", UID, **many)

    assert len(encode(commands.log_trial_arguments("w", UID, **fits))) < 1_000_000


@pytest.mark.parametrize("lazy", [StatAggregator.lazy(2), TimeSeriesAggregator.lazy()], ids=["Stat", "TimeSeries"])
def test_metadata_for_statistics_is_numbers(lazy):
    """Metadata for statistics is converted to doubles; anything else is a TypeError that names the key."""
    event = commands.log_trial_metadata("w", UID, lazy, a=True, b=2)

    assert (event.values, event.aggregator) == ({"a": 1.0, "b": 2.0}, lazy)
    with pytest.raises(InvalidType, match=r"metadata\.a"):
        commands.log_trial_metadata("w", UID, lazy, a="x")


def test_metadata_for_other_aggregators_is_any_value():
    """Metadata for other aggregators, of which Value is the default, is any value."""
    assert commands.log_trial_metadata("w", UID, a="x").aggregator == ValueAggregator.lazy()
    assert commands.log_trial_metadata("w", UID, None, a="x").aggregator == ValueAggregator.lazy()
    assert commands.log_trial_metadata("w", UID, RingAggregator.lazy(1), a="x").values == {"a": "x"}
    with pytest.raises(InvalidType, match="aggregator"):
        commands.log_trial_metadata("w", UID, RingAggregator, a="x")
