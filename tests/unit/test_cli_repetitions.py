"""The log of `consume`: which messages count as repeated, and the form of the lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from trialstream_console.cli import logs
from trialstream_console.cli.repetitions import RepetitionFilter


def error(name="aiokafka", level=logging.ERROR, text="Unable connect to %s", *arguments, exc_info=None):
    """Make a record."""
    return logging.LogRecord(name, level, __file__, 1, text, arguments, exc_info)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("Timeout: 7.99968s", "Timeout: 8.0s", id="durations"),
        pytest.param("took 0.25 ms, rtt=1.5", "took 0.75 ms, rtt=1.25", id="several durations"),
    ],
)
def test_measured_times_make_no_distinct_message(first, second):
    """Messages that differ in decimal numbers only are equal."""
    filtering = RepetitionFilter()

    assert filtering.filter(error(text=first))
    assert not filtering.filter(error(text=second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(error(text="10.0.0.1:9092"), error(text="10.0.0.2:9092"), id="address"),
        pytest.param(error(text="10.20.0.1"), error(text="10.21.0.1"), id="part of an address"),
        pytest.param(error(text="kafka-1.example:9092"), error(text="kafka-2.example:9092"), id="host"),
        pytest.param(error(text="partition 1"), error(text="partition 2"), id="integer"),
        pytest.param(error(text="library v1.2"), error(text="library v1.3"), id="version"),
        pytest.param(error(), error(name="aiokafka.cluster"), id="logger"),
        pytest.param(error(), error(level=logging.WARNING), id="level"),
        pytest.param(
            error(text={"event": "dead_letter", "offset": 1}),
            error(text={"event": "dead_letter", "offset": 2}),
            id="field",
        ),
        pytest.param(
            error(exc_info=(ValueError, ValueError("a"), None)),
            error(exc_info=(ValueError, ValueError("b"), None)),
            id="exception",
        ),
    ],
)
def test_what_tells_messages_apart(first, second):
    """Messages that differ in anything else are distinct, and both are logged."""
    filtering = RepetitionFilter()

    assert filtering.filter(first)
    assert filtering.filter(second)


def test_levels_below_warning_are_never_left_out():
    """Each step of normal work is logged, however often it occurs."""
    filtering = RepetitionFilter()

    assert all(filtering.filter(error(level=logging.INFO)) for _ in range(3))


@contextmanager
def consuming() -> Iterator[None]:
    """Configure logging as `consume` does, and restore it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.log_json(logging.INFO)
    try:
        yield
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in ("aiokafka", "trialstream_consumer"):
            logging.getLogger(name).setLevel(logging.NOTSET)


def printed(capsys) -> list[dict[str, Any]]:
    """Parse the lines on stderr."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_lines_keep_their_form_and_count_what_was_left_out(capsys, monkeypatch):
    """The first and, a minute later, another line of each message are logged, the latter with `left_out`."""
    now = 100.0
    with consuming():
        filters = [each for handler in logging.getLogger().handlers for each in handler.filters]
        [filtering] = [each for each in filters if isinstance(each, RepetitionFilter)]
        monkeypatch.setattr(filtering, "_clock", lambda: now)
        own = structlog.get_logger("trialstream_consumer").bind(partition=3)
        for _ in range(5):
            own.warning("retrying", reason="MongoDB is away")
            logging.getLogger("aiokafka").warning("Unable connect to node %s", 1)
        now += 60
        own.warning("retrying", reason="MongoDB is away")
        logging.getLogger("aiokafka").warning("Unable connect to node %s", 1)
    first, theirs, again, theirs_again = printed(capsys)
    for each in (first, theirs, again, theirs_again):
        assert each.pop("timestamp")

    assert first == {
        "event": "retrying",
        "level": "warning",
        "logger": "trialstream_consumer",
        "partition": 3,
        "reason": "MongoDB is away",
    }
    assert again == {**first, "left_out": 4}
    assert theirs == {"event": "Unable connect to node 1", "level": "warning", "logger": "aiokafka"}
    assert theirs_again == {**theirs, "left_out": 4}


def test_errors_that_a_driver_retries_are_warnings(capsys):
    """An error of aiokafka is a warning; an unexpected exception in it, and an error of the service, is an error."""
    with consuming():
        logging.getLogger("aiokafka.consumer.fetcher").error("Failed fetch offsets from %s", 1)
        logging.getLogger("aiokafka_like").error("another library")
        structlog.get_logger("trialstream_consumer").error("fold_failed")
        try:
            raise ValueError("a fault")
        except ValueError:
            logging.getLogger("aiokafka.consumer.fetcher").exception("Unexpected error in fetcher routine")
    fetch, other, own, fault = printed(capsys)

    assert fetch["level"] == "warning"
    assert other["level"] == own["level"] == fault["level"] == "error"
    assert "ValueError: a fault" in fault["exception"]


LONG = "\U0001f600" * 1_000_000


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"reason": LONG}, id="text"),
        pytest.param({"reason": LONG, "other": LONG, "third": LONG}, id="several texts"),
        pytest.param({"documents": [{"a": LONG}] * 3}, id="documents"),
        pytest.param({"document": b"\0" * 1_000_000}, id="bytes"),
        pytest.param({LONG: "value"}, id="name of a field"),
    ],
)
def test_lines_are_bounded(fields, capsys):
    """A line is JSON of a bounded length, whatever an error or a field quotes."""
    with consuming():
        structlog.get_logger("trialstream_consumer").warning("write_failed", **fields)
        logging.getLogger("pymongo").warning("%r", fields)
        try:
            raise ValueError(LONG)
        except ValueError:
            structlog.get_logger("trialstream_consumer").exception("fold_failed", **fields)
            logging.getLogger("aiokafka").exception("%s", LONG)
        logs.log_printable()
        logging.getLogger("any").warning("%s", LONG)
    *lines, plain = capsys.readouterr().err.splitlines()

    assert len(lines) == 4
    assert max(map(len, lines)) <= 32 * 1024
    assert len(plain) <= 8000
    for each in lines:
        assert json.loads(each)["level"] in ("warning", "error")


def test_the_memory_of_repetitions_is_bounded():
    """Long messages are told apart by their whole text, of which no more than a hash is kept."""
    filtering = RepetitionFilter()
    first, second = (error(text="x" * 100_000 + each) for each in "ab")

    assert [filtering.filter(each) for each in (first, second, first)] == [True, True, False]
    assert sum(len(text) for _, _, text in filtering._lines) < 1000


def test_only_the_consumer_shows_what_aiokafka_retries(capsys):
    """Other commands show one error if aiokafka gives an error, and nothing while it retries."""
    with consuming():
        logs.log_printable()
        logging.getLogger("aiokafka").error("Unable connect")
        others = capsys.readouterr().err
        logs.log_json(logging.INFO)
        logging.getLogger("aiokafka").error("Unable connect")

    assert others == ""
    assert [each["event"] for each in printed(capsys)] == ["Unable connect"]
