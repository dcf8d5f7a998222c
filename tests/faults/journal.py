"""Record of a writer: its calls with their arguments, in order, and the acknowledgements that it got.

Calls and events are converted into one form, a `Call` with its content as JSON text, so that calls can be compared with
the log: floats to the bit, NaN equals NaN, 1 differs from True and 1.0.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    ChronosFinished,
    ChronoStarted,
    Event,
    Heartbeat,
    MetadataLogged,
    MetricsLogged,
    StatusSet,
    TagsAdded,
    TrialFinished,
    TrialStarted,
)


class Call(NamedTuple):
    """One log call: its trial, its kind, and its content as JSON."""

    trial: str
    kind: str
    content: str


def call(trial, kind, *content):
    """Make a `Call`."""
    return Call(trial, kind, json.dumps(content, sort_keys=True, default=repr))


@dataclass
class Journal:
    """Journal of one writer; with a path it is also written to that file before each call, so that it survives kill -9.

    Attributes:
        writer: Id of the writer.
        calls: Its log calls, in order; the last ones may not have been sent.
        acked: Number of calls that a `commit` has reported as acknowledged.
        answers: Granted requests by ("claim" or "create", uid).
        unsure: Number of requests that ended without an answer.
        notes: Figures of `Writer.note`.
    """

    writer: str = ""
    path: Path | None = None
    calls: list[Call] = field(default_factory=list)
    acked: int = 0
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    unsure: int = 0
    notes: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        self._file = self.path.open("w") if self.path else None

    def add(self, kind, *what):
        """Add one entry."""
        self._take(kind, what)
        if self._file:
            self._file.write(json.dumps([kind, *what]) + "\n")
            self._file.flush()

    def _take(self, kind, what):
        match kind:
            case "writer":
                [self.writer] = what
            case "call":
                self.calls.append(Call(*what))
            case "acked":
                [self.acked] = what
            case "answer":
                self.answers[tuple(what)] += 1
            case "asks":
                self.unsure += 1
            case "answered":
                self.unsure -= 1
            case _:
                self.notes[kind] = what[0]

    def close(self):
        """Close the file."""
        if self._file:
            self._file.close()

    @classmethod
    def load(cls, path):
        """Read a journal from its file, without the line that a killed writer has left incomplete."""
        journal = cls()
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                kind, *what = json.loads(line)
                journal._take(kind, what)
        return journal


def calls_of(event: Event) -> Iterator[Call]:
    """Yield the calls that an event contains; none for events that a Protocol writes by itself."""
    match event:
        case MetricsLogged():
            steps = event.steps or event.float_steps or event.text_steps or [None] * len(event.times)
            lazy = [event.aggregator.kind, event.aggregator.argument]
            for step, *row in zip(steps, *event.columns, strict=True):
                yield call(event.trial, "metrics", step, dict(zip(event.names, row, strict=True)), lazy)
        case ChronosFinished():
            for i in event.chronos:
                yield call(event.trial, "chrono", event.names[i])
        case TagsAdded():
            yield call(event.trial, "tags", event.values)
        case ArgumentsLogged():
            yield call(event.trial, "arguments", event.values)
        case MetadataLogged():
            yield call(event.trial, "metadata", event.values, [event.aggregator.kind, event.aggregator.argument])
        case StatusSet():
            yield call(event.trial, "status", event.status.name, event.error and event.error.message)
        case TrialStarted(attempt=None):
            yield call(event.trial, "start")
        case TrialStarted():
            yield call(event.trial, "start", event.attempt, event.rank, event.world_size, event.resume_step)
        case TrialFinished():
            yield call(event.trial, "finish", event.interrupted, event.error and event.error.type)
        case Heartbeat() | ChronoStarted():
            return
        case _:
            yield call(event.subject, type(event).__name__)
