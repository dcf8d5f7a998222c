"""History of a trial in bounded documents.

Rows with the same section, names and type of step share a *shape*; a shape's rows fill buckets of fixed capacity in the
order of the log, so how the rows lie in buckets depends on the log alone and not on how it was cut into batches. A
bucket keeps one packed little-endian column per name and one each for steps and times, and the writers in *segments*:
a run of rows of one writer that follow one another in the trial. The first row's number of each segment lets a reader
put the rows of several shapes back into the order of the log.

The bucket that is being filled has the id `<uid>/<shape>/open` and moves to `<uid>/<shape>/<number>` when it is full.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from trialstream_schemas.model.columns import pack, unpack
from trialstream_schemas.model.identity import digest
from trialstream_schemas.model.values import escape_key, unescape_key

__all__ = ["Bucket", "Rows", "Shape"]

# 1,024 rows of one metric are 24 KiB: a batch that adds few rows rewrites little, and a million rows are a thousand
# documents.
MAX_ROWS = 1024
# Wide shapes hold fewer rows, so that no bucket comes near MongoDB's 16 MB; one row always fits (an event is < 1 MiB).
MAX_BYTES = 1024 * 1024


class _Shape(NamedTuple):
    section: str
    names: tuple[str, ...]
    steps: str


class Shape(_Shape):
    """What the rows of a bucket have in common. A tuple: it is looked up for each frame, and hashed by C.

    Attributes:
        section: `metrics`, `chronos` or `metadata`.
        names: The columns.
        steps: Type of the steps: `int`, `float`, `text` or `none`.
    """

    @cached_property
    def uid(self) -> str:
        """Names the shape in ids of buckets."""
        return digest(self.section, list(self.names), self.steps)

    @cached_property
    def capacity(self) -> int:
        """Rows that a bucket of this shape holds (text steps count as their longest: see `values.MAX_NAME_BYTES`)."""
        width = 8 * (len(self.names) + 1) + {"int": 8, "float": 8, "text": 1024, "none": 0}[self.steps]
        return max(1, min(MAX_ROWS, MAX_BYTES // width))


@dataclass
class Rows:
    """Rows of one shape, writer and frame.

    Attributes:
        shape: Their shape.
        first: Number of the first row among the rows of the trial.
        writer: Who wrote them.
        steps: One each, or empty.
        times: Microseconds since 1970 UTC, one each.
        columns: One per name, a value each.
    """

    shape: Shape
    first: int
    writer: str
    steps: Sequence[int] | Sequence[float] | Sequence[str]
    times: Sequence[int]
    columns: Sequence[Sequence[float]]

    def __len__(self) -> int:
        return len(self.times)

    def cut(self, start: int, stop: int) -> Rows:
        """Some of the rows."""
        return Rows(
            self.shape,
            self.first + start,
            self.writer,
            self.steps[start:stop],
            self.times[start:stop],
            [column[start:stop] for column in self.columns],
        )


@dataclass
class Segment:
    """A run of rows of one writer that follow one another in the trial."""

    first: int
    rows: int
    writer: str


@dataclass
class Bucket:
    """One bounded piece of history.

    Attributes:
        trial: Uid of the trial.
        shape: What its rows have in common.
        number: 0, 1, 2 … among the buckets of the shape.
        segments: Whose rows they are, in order.
    """

    trial: str
    shape: Shape
    number: int = 0
    segments: list[Segment] = field(default_factory=list)
    steps: Any = None  # array of q or d, or a list of text
    times: array[int] = field(default_factory=lambda: array("q"))
    columns: list[array[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.steps is None:
            self.steps = array({"int": "q", "float": "d"}.get(self.shape.steps, "b"))
            if self.shape.steps == "text":
                self.steps = []
        if not self.columns:
            self.columns = [array("d") for _ in self.shape.names]

    def __len__(self) -> int:
        return len(self.times)

    @property
    def open_id(self) -> str:
        """Id of the bucket of this shape that is being filled."""
        return f"{self.trial}/{self.shape.uid}/open"

    def append(self, rows: Rows) -> list[Bucket]:
        """Take rows; return every bucket that they have filled, and be the next one after it."""
        total, capacity = len(rows.times), self.shape.capacity
        room = capacity - len(self.times)
        if total < room:
            self._take(rows)
            return []
        filled = []
        at = 0
        while at < total:
            taken = rows.cut(at, at + capacity - len(self.times))
            at += len(taken.times)
            self._take(taken)
            if len(self.times) == capacity:
                filled.append(
                    Bucket(self.trial, self.shape, self.number, self.segments, self.steps, self.times, self.columns)
                )
                # The fields of the full one go with it; this one begins anew.
                self.__init__(self.trial, self.shape, self.number + 1)  # type: ignore[misc]
        return filled

    def _take(self, rows: Rows) -> None:
        count = len(rows.times)
        last = self.segments[-1] if self.segments else None
        if last is not None and last.writer == rows.writer and last.first + last.rows == rows.first:
            last.rows += count
        else:
            self.segments.append(Segment(rows.first, count, rows.writer))
        self.steps.extend(rows.steps)
        self.times.extend(rows.times)
        for column, more in zip(self.columns, rows.columns, strict=True):
            column.extend(more)

    def to_document(self, *, full: bool) -> dict[str, Any]:
        """Its document, under its number when it is full, else as the open one of its shape."""
        return {
            "_id": f"{self.trial}/{self.shape.uid}/{self.number}" if full else self.open_id,
            "trial": self.trial,
            "section": self.shape.section,
            "names": list(self.shape.names),
            "step_type": self.shape.steps,
            "number": self.number,
            "rows": len(self),
            "segments": [[each.first, each.rows, each.writer] for each in self.segments],
            "steps": self.steps if isinstance(self.steps, list) else pack(self.steps),
            "times": pack(self.times),
            "values": {
                escape_key(name): pack(column) for name, column in zip(self.shape.names, self.columns, strict=True)
            },
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Bucket:
        """The bucket of a document."""
        shape = Shape(document["section"], tuple(document["names"]), document["step_type"])
        columns = {unescape_key(key): unpack("d", packed) for key, packed in document["values"].items()}
        steps = document["steps"]
        return cls(
            document["trial"],
            shape,
            document["number"],
            [Segment(*each) for each in document["segments"]],
            list(steps) if shape.steps == "text" else unpack({"int": "q", "float": "d"}.get(shape.steps, "b"), steps),
            unpack("q", document["times"]),
            [columns[name] for name in shape.names],
        )
