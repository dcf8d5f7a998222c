"""The update calls as events: checked at the call, so that what is queued can be encoded and folded."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest
from trialstream.kafka import commands as updates
from trialstream.protocol import Protocol
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.aggregators import RingAggregator, StatAggregator, TimeSeriesAggregator, ValueAggregator
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import StatusRecord
from trialstream_schemas.wire.limits import MAX_EVENT_BYTES

UID = "0123456789abcdef0123456789abcdef_0"


def raised(error):
    """The error with the traceback of a raise."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize("name", [*updates.TRIAL_UPDATES, *updates.GROUP_UPDATES])
def test_an_update_has_the_parameters_of_its_method(name):
    """After the writer and the uid: what the Protocol's method takes after the trial or group."""
    update = (updates.TRIAL_UPDATES | updates.GROUP_UPDATES)[name]
    mine = list(inspect.signature(update).parameters.values())[2:]
    method = list(inspect.signature(getattr(Protocol, name)).parameters.values())[2:]

    assert [(each.name, each.kind, each.default) for each in mine] == [
        (each.name, each.kind, each.default) for each in method
    ]


@pytest.mark.parametrize(
    "event",
    [
        updates.log_trial_start("w", UID),
        updates.log_trial_finish("w", UID, ValueError, ValueError("no"), None),
        updates.log_trial_arguments("w", UID, a=1),
        updates.log_trial_metadata("w", UID, RingAggregator.lazy(3), a=[None]),
        updates.add_trial_tags("w", UID, a={"b": b"c"}),
        updates.set_trial_status("w", UID, Status.Broken, "why"),
        updates.set_group_metadata("w", "g", a=1.5),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_an_update_makes_can_be_encoded(event):
    """It comes back from the wire as it was, with the writer, the subject and the time of the call."""
    read = SchemaStore().decode(encode(event))

    assert read == event
    assert (event.writer, event.subject) in {("w", UID), ("w", "g")}
    assert 0 <= time.time_ns() // 1000 - event.time < 3600_000_000  # made when the tests were collected


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
    """`interrupted`, without an error."""
    event = updates.log_trial_finish("w", UID, *given)

    assert (event.interrupted, event.error) == (True, None)


def test_an_exception_is_kept_with_its_traceback():
    """Type, message, and where it was raised."""
    error = raised(ZeroDivisionError("by zero"))
    event = updates.log_trial_finish("w", UID, type(error), error, error.__traceback__)

    assert not event.interrupted
    assert (event.error.type, event.error.message) == ("ZeroDivisionError", "by zero")
    assert "in raised" in event.error.traceback
    assert event.error.traceback.endswith("ZeroDivisionError: by zero\n")


@pytest.mark.parametrize("given", [(ValueError, None), (None, ValueError("")), (SystemExit, SystemExit(""))])
def test_an_exception_without_its_parts(given):
    """What is missing is empty."""
    event = updates.log_trial_finish("w", UID, *given)

    assert event.error.message == ""
    assert event.error.traceback == ""


@pytest.mark.parametrize("given", ["ValueError", int, 1, ValueError()], ids=repr)
def test_what_is_no_class_of_an_exception(given):
    """It is a TypeError that names the parameter."""
    with pytest.raises(InvalidType, match="exc_type"):
        updates.log_trial_finish("w", UID, given)


def test_an_exception_that_cannot_be_shown():
    """A broken `__str__` does not keep the end of a trial from the log."""

    class BrokenError(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    event = updates.log_trial_finish("w", UID, BrokenError, BrokenError(), None)

    assert "no text" in event.error.message
    assert event.error.type.endswith("BrokenError")


def test_an_exception_that_says_too_much():
    """The beginning of the message and the end of the traceback are kept, in valid Unicode."""
    error = raised(ValueError("\ud800" + "é" * 100_000 + "end"))
    event = updates.log_trial_finish("w", UID, type(error), error, error.__traceback__)

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
def test_a_status_goes_by_name_and_number(status, wanted):
    """The user's own too."""
    event = updates.set_trial_status("w", UID, status)

    assert (event.status, event.error) == (wanted, None)


def test_the_error_of_a_status():
    """A text has no type; an exception that was raised has a traceback."""
    text = updates.set_trial_status("w", UID, Status.Broken, "node lost").error
    exception = updates.set_trial_status("w", UID, Status.Broken, raised(OSError("disk"))).error

    assert (text.type, text.message, text.traceback) == ("", "node lost", "")
    assert (exception.type, exception.message) == ("OSError", "disk")
    assert "raise error" in exception.traceback


@pytest.mark.parametrize(
    ("args", "named"), [(("Running",), "status"), ((101,), "status"), ((Status.Broken, 1), "error")]
)
def test_what_is_no_status_and_no_error(args, named):
    """It is a TypeError that names the parameter."""
    with pytest.raises(InvalidType, match=named):
        updates.set_trial_status("w", UID, *args)


# --- Values


@pytest.mark.parametrize("update", [updates.log_trial_arguments, updates.log_trial_metadata, updates.add_trial_tags])
def test_values_are_copied_in_their_plain_form(update):
    """What is changed later does not change the event."""
    given = [1, (2, bytearray(b"a"))]
    event = update("w", UID, a=given, **{"a.b": True})
    given.append(3)

    assert event.values == {"a": [1, [2, b"a"]], "a.b": True}


@pytest.mark.parametrize(
    "update",
    [updates.log_trial_arguments, updates.log_trial_metadata, updates.add_trial_tags, updates.set_group_metadata],
)
def test_values_that_cannot_be_logged(update):
    """The error names the key."""
    with pytest.raises(InvalidType, match="bad"):
        update("w", UID, good=1, bad=object())
    with pytest.raises(InvalidValue, match="bad"):
        update("w", UID, good=1, bad=2**63)


def test_values_that_do_not_fit_one_event():
    """Each is small enough, together they are not; what just fits can be encoded."""
    many = {f"k{i}": "x" * 1000 for i in range(MAX_EVENT_BYTES // 1000 + 1)}
    fits = dict(list(many.items())[: MAX_EVENT_BYTES // 1020])
    with pytest.raises(InvalidValue, match="spread the values over several"):
        updates.log_trial_arguments("w", UID, **many)

    assert len(encode(updates.log_trial_arguments("w", UID, **fits))) < 1_000_000


@pytest.mark.parametrize("lazy", [StatAggregator.lazy(2), TimeSeriesAggregator.lazy()], ids=["Stat", "TimeSeries"])
def test_metadata_for_statistics_is_numbers(lazy):
    """They become doubles; all else is a TypeError that names the key."""
    event = updates.log_trial_metadata("w", UID, lazy, a=True, b=2)

    assert (event.values, event.aggregator) == ({"a": 1.0, "b": 2.0}, lazy)
    with pytest.raises(InvalidType, match=r"metadata\.a"):
        updates.log_trial_metadata("w", UID, lazy, a="x")


def test_metadata_for_other_aggregators_is_any_value():
    """Value is the default."""
    assert updates.log_trial_metadata("w", UID, a="x").aggregator == ValueAggregator.lazy()
    assert updates.log_trial_metadata("w", UID, RingAggregator.lazy(1), a="x").values == {"a": "x"}
    with pytest.raises(InvalidType, match="aggregator"):
        updates.log_trial_metadata("w", UID, RingAggregator, a="x")
