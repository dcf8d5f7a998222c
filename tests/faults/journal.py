"""What a writer did and saw acknowledged: its calls with their arguments, in order.

Calls and events are brought into one form, a `Call` with its content as JSON text, so that what was logged can be
compared with what lies in the log: floats to the bit, NaN with NaN, 1 apart from True and 1.0.
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
    """One log call: of which trial, its kind, and its content as JSON."""

    trial: str
    kind: str
    content: str


def call(trial, kind, *content):
    """Put a call into that form."""
    return Call(trial, kind, json.dumps(content, sort_keys=True, default=repr))


@dataclass
class Journal:
    """Of one writer; with a path it is kept in that file too, from before each call on, so that it outlives a kill -9.

    Attributes:
        writer: Id of the writer.
        calls: Its log calls, in order; the last ones may not have been sent.
        acked: How many of them a `commit` has reported as acknowledged.
        answers: What its requests returned: ("claim" or "create", uid) of each that was granted.
        unsure: How many of its requests ended without an answer.
        notes: Figures: see `Writer.note`.
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
        """Take down one thing."""
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
        """Read one back; what a killed writer was just writing is left out."""
        journal = cls()
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                kind, *what = json.loads(line)
                journal._take(kind, what)
        return journal


def calls_of(event: Event) -> Iterator[Call]:
    """The calls that an event stands for; none for what a Protocol writes by itself."""
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
        case TrialStarted():
            yield call(event.trial, "start")
        case TrialFinished():
            yield call(event.trial, "finish", event.interrupted, event.error and event.error.type)
        case Heartbeat() | ChronoStarted():
            return
        case _:
            yield call(event.subject, type(event).__name__)
