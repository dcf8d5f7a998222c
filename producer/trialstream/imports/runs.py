"""A source run: what an importer reads from another tracker, and what becomes one trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trialstream.protocol import Step

__all__ = ["End", "Row", "SourceRun", "Stream"]


class Row(NamedTuple):
    """A row of metrics.

    Attributes:
        step: Its step, or None.
        time: When it was logged, microseconds since 1970 UTC.
        values: Numbers by name.
        at: How much of the stream is read with this row, in the unit of `Stream.size`.
    """

    step: Step | None
    time: int
    values: dict[str, float]
    at: int


@dataclass
class Stream:
    """A sequence of rows to which the source only appends, such as a file.

    Attributes:
        key: Id of the stream in its run.
        size: How much there is to read: bytes or rows.
        rows: Reads the rows, from the first one.
    """

    key: str
    size: int
    rows: Callable[[], Iterator[Row]]


class End(NamedTuple):
    """End of a source run.

    Attributes:
        time: Microseconds since 1970 UTC.
        interrupted: Whether it was interrupted.
        error: Message of the error that ended it, or None.
    """

    time: int
    interrupted: bool = False
    error: str | None = None


@dataclass
class SourceRun:
    """A run of another tracker.

    Attributes:
        source: Id of the run, which is the same at each import: `<tracker>:<id>`.
        name: Name of the trial.
        created: When the run began, microseconds since 1970 UTC.
        parameters: Values by name.
        tags: Values by name.
        metadata: Values by name; `imported` is added.
        description: Any text.
        project: Name of the project, if the tracker has one.
        streams: The rows.
        end: How the run ended; None if it may still run.
        left_out: What has no place in a trial → how often it was found; complete once the streams are read.
    """

    source: str
    name: str
    created: int
    parameters: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    project: str | None = None
    streams: list[Stream] = field(default_factory=list)
    end: End | None = None
    left_out: Counter[str] = field(default_factory=Counter)
