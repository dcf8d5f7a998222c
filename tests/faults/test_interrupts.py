"""A signal handler that raises inside a log call: nothing that was logged is lost, and nothing counts twice.

Without servers: in the calls at each place, and in whole processes at random times.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trialstream
from processes import Child
from trialstream.config import Config
from trialstream.event_log.topics import Route
from trialstream.kafka.chronos import OpenChrono
from trialstream.kafka.row_log import RowLog
from trialstream.kafka.rows import RowChecks
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.outbox import Outbox
from trialstream.pipeline.watermark import Watermark
from trialstream.spool.segment import read_segment
from trialstream_schemas.model.aggregators import StatAggregator
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import ChronosFinished, MetricsLogged, SubjectEvent, TagsAdded

HELD = Trial(name="t", hash="h")
ROUTE = Route("trials", 0)
FOLDER = str(Path(trialstream.__file__).parent)


class Interrupt(BaseException):
    """Exception that the signal handler raises."""


class Interrupter:
    """Raises once, at the n-th place where Python could run a handler: on entering a function, and after a C call."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.done = False

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        """Count the places, as the profile function of `sys.setprofile`."""
        if not self.done and event in ("call", "c_return") and frame.f_code.co_filename.startswith(FOLDER):
            self._left -= 1
            if self._left < 0:
                self.done = True
                raise Interrupt


def calls(outbox: Outbox) -> list[Callable[[], None]]:
    """Return log calls of all kinds."""
    rows = RowLog(outbox, RowChecks(lambda _: None))

    def metrics(i: int) -> None:
        row = {"a" if i % 5 else "b": float(i)}
        if not rows.add(HELD, i, None, row):
            rows.prepare(HELD, HELD.uid, i, None, row)()

    def chrono(i: int) -> None:
        outbox.add_chrono((OpenChrono(HELD.uid, "step", StatAggregator.lazy(0), None), 1000 * i, float(i), False))

    def tags(i: int) -> None:
        outbox.put(TagsAdded(trial=HELD.uid, writer="w", time=i, values={"i": i}))

    kinds = (metrics, metrics, metrics, chrono, metrics, tags, metrics)
    return [lambda i=i, kind=kind: kind(i) for i, kind in enumerate(itertools.islice(itertools.cycle(kinds), 15))]


def places(event: SubjectEvent) -> list[int]:
    """Return the numbers of the calls that an event contains."""
    match event:
        case MetricsLogged():
            return list(event.steps)
        case ChronosFinished():
            return [event.time + each for each in event.times]
        case TagsAdded():
            return [event.values["i"]]
    raise AssertionError(event)


def run(interrupter: Interrupter) -> tuple[set[int], int | None, list[SubjectEvent]]:
    """Make the calls; return those that returned, the interrupted one, and the queued events."""
    backlog = Backlog(Watermark(), lambda: None, lambda: None, spill_bytes=2**63)
    backlog.connect(lambda _: ROUTE)
    backlog.stop_spilling()
    outbox = Outbox("w", backlog, lambda: None, max_bytes=2**30, linger=60.0)
    returned, interrupted = set(), None
    for i, call in enumerate(calls(outbox)):
        sys.setprofile(interrupter.profile)
        try:
            call()
            returned.add(i)
        except Interrupt:
            interrupted = i
        finally:
            sys.setprofile(None)
        if i == 7:
            outbox.take()
    outbox.close()
    outbox.finish()
    assert outbox.statistics().bytes == backlog.bytes
    return returned, interrupted, [entry.event for entry in backlog.peek(ROUTE, 1000)]


def test_an_exception_of_a_signal_handler_at_every_place():
    """Calls that returned are queued once, in sequence without a gap; the interrupted one is queued wholly or not."""
    for at in itertools.count():
        interrupter = Interrupter(at)
        returned, interrupted, events = run(interrupter)
        held = [i for event in events for i in places(event)]

        assert [event.seq for event in events] == list(range(1, len(events) + 1)), at
        assert len(held) == len(set(held)), at
        assert set(held) - {interrupted} == returned, at
        if not interrupter.done:
            break

    assert at > 200  # number of places where it was raised


def logged(folder: Path) -> int:
    """Return the number of rows, chronos and updates in a folder of spools, each event once."""
    store = SchemaStore()
    found: dict[int | None, int] = {}
    for segment in folder.glob("*/*/*.avro"):
        for each in read_segment(segment).events:
            event = store.decode(each.value)
            match event:
                case MetricsLogged():
                    found[event.seq] = len(event.columns[0])
                case ChronosFinished():
                    found[event.seq] = len(event.times)
                case TagsAdded():
                    found[event.seq] = 1
    return sum(found.values())


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_ctrl_c_at_random_times(tmp_path, count):
    """Children that log in a tight loop end at once by Ctrl-C, print nothing, and lose and repeat nothing."""
    child = Child(Config(), tmp_path, "interrupts.py", tmp_path, count)
    try:
        ended = child.end(120)
    finally:
        child.kill()
    children = [each for each in ended.messages if each["word"] == "child"]
    printed = [(tmp_path / f"{each['number']}.err").read_text() for each in children]

    assert ended.stderr == ""
    assert ended.last("ended")["codes"] == [0] * len(children)
    assert len(children) == count
    # The warning of an offline protocol, that events wait for a push, is the only output.
    assert [line for text in printed for line in text.splitlines() if not re.search("events? waits? in", line)] == []
    for each in children:
        assert each["steps"] <= logged(tmp_path / str(each["number"])) <= each["steps"] + 1, each
