"""Repetitions of log messages: no distinct message is lost, one line a minute, and every repetition is counted."""

from __future__ import annotations

import logging

from hypothesis import given
from hypothesis import strategies as st
from trialstream_console.cli.repetitions import RepetitionFilter

NAMES = ("aiokafka", "aiokafka.cluster", "trialstream_consumer.service")
TEXTS = ("Unable connect to node with id %s", "node %s is away", "retrying")
EVENTS = ("retrying", "write_failed")
MESSAGES = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(TEXTS[:2]), st.integers(0, 2)),
    st.tuples(
        st.sampled_from(NAMES),
        st.fixed_dictionaries({"event": st.sampled_from(EVENTS), "partition": st.integers(0, 2)}),
        st.none(),
    ),
)
"""Logger, text with a place for a number or event of structlog, and the number."""


def record_of(message, time: float) -> logging.LogRecord:
    """Make a record; the time in it is not part of the message."""
    name, text, number = message
    if isinstance(text, dict):
        text = {**text, "reason": f"Timeout: {7 + time / 1e6}s", "timestamp": str(time)}
    return logging.LogRecord(name, logging.ERROR, __file__, 1, text, () if number is None else (number,), None)


@given(st.lists(st.tuples(MESSAGES, st.sampled_from([0.0, 0.125, 1.0, 20.0, 59.5, 60.0, 300.0])), max_size=60))
def test_each_message_is_logged_at_once_then_once_a_minute_and_its_repetitions_are_counted(steps):
    """For each message: the first is logged, lines are a minute apart, and no repetition is missing from the counts."""
    now = 0.0
    filtering = RepetitionFilter(lambda: now)
    lines: dict[str, float] = {}
    left_out: dict[str, int] = {}
    for message, pause in steps:
        now += pause
        record = record_of(message, now)
        key = str(message)
        due = key not in lines or now - lines[key] >= 60

        assert filtering.filter(record) == due
        if due:
            assert record.left_out == left_out.get(key, 0)
            lines[key], left_out[key] = now, 0
        else:
            left_out[key] += 1


@given(st.integers(1001, 1500))
def test_any_number_of_distinct_messages_is_logged(count):
    """No number of distinct messages makes one of them a repetition, and the memory of the filter is bounded."""
    filtering = RepetitionFilter(lambda: 0.0)

    assert all(filtering.filter(record_of(("a", "offset %s", number), 0.0)) for number in range(count))
    assert len(filtering._lines) == 1000
