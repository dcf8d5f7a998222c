"""The history of a trial in documents of bounded size.

Rows with the same section, names and type of step have the same *shape*. The rows of a shape fill buckets of fixed
capacity in the order of the log, so the rows of a bucket depend on the log alone, and not on how the log was cut into
batches. A bucket has one packed little-endian column for each name, one for the steps and one for the times. The
writers are stored as spans: consecutive rows of one writer in the trial. Each span has the number of its first row,
from which a reader restores the order of the log across several shapes.

The bucket that is being filled has the id `<uid>/<shape>/open`. Once full, it is stored as `<uid>/<shape>/<number>`. If
its steps are numbers, its document then has the largest one as `max_step`, since MongoDB cannot compare packed steps.
Buckets that were filled by older consumers lack `max_step`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from trialstream_schemas.model.columns import largest, pack, unpack
from trialstream_schemas.model.identity import digest
from trialstream_schemas.model.keys import escape_key, unescape_key
from trialstream_schemas.model.values import MAX_NAME_BYTES

__all__ = ["MAX_ROWS", "Bucket", "Rows", "Shape", "WriterSpan", "ids_below"]

MAX_ROWS = 1024
"""Maximum number of rows of a bucket.

1,024 rows of one metric take 24 KiB: a batch that adds few rows rewrites little, and a million rows are a thousand
documents.
"""
# Buckets of wide shapes have fewer rows, so that no bucket comes near MongoDB's 16 MB. One row always fits: an event is
# smaller than 1 MiB.
_MAX_BYTES = 1024 * 1024


class _Shape(NamedTuple):
    section: str
    names: tuple[str, ...]
    steps: str


class Shape(_Shape):
    """Section, names and type of step that the rows of a bucket share.

    A shape is a tuple because it is a key that is looked up for each frame, and tuples are hashed in C.

    Attributes:
        section: `metrics`, `chronos` or `metadata`.
        names: Names of the columns.
        steps: Type of the steps: `int`, `float`, `text` or `none`.
    """

    @cached_property
    def uid(self) -> str:
        """Hash of the shape, for the ids of its buckets."""
        return digest(self.section, list(self.names), self.steps)

    @cached_property
    def memory(self) -> int:
        """Upper bound of the bytes that the shape takes in memory."""
        return sum([128 + 4 * len(name) for name in self.names])

    @cached_property
    def capacity(self) -> int:
        """Number of rows of a full bucket of this shape; each text step counts as the longest one."""
        width = 8 * (len(self.names) + 1) + {"int": 8, "float": 8, "text": MAX_NAME_BYTES, "none": 0}[self.steps]
        return max(1, min(MAX_ROWS, _MAX_BYTES // width))


@dataclass
class Rows:
    """Rows of one shape and one writer that are added to the history together.

    Attributes:
        shape: Shape of the rows.
        first: Number of the first row among all rows of the trial, from 0.
        writer: Id of the writer.
        steps: Step of each row; empty if the rows have no steps.
        times: Time of each row, microseconds since 1970 UTC.
        columns: For each name of the shape, the value of each row.
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
        """The rows from index `start` up to index `stop`, which is not included."""
        return Rows(
            self.shape,
            self.first + start,
            self.writer,
            self.steps[start:stop],
            self.times[start:stop],
            [column[start:stop] for column in self.columns],
        )


@dataclass
class WriterSpan:
    """Consecutive rows of one writer in a trial.

    Attributes:
        first: Number of the first row among all rows of the trial, from 0.
        rows: Number of rows.
        writer: Id of the writer.
    """

    first: int
    rows: int
    writer: str


@dataclass
class Bucket:
    """A part of the history of a trial: rows of one shape, at most as many as the shape's `capacity`.

    Attributes:
        trial: Uid of the trial.
        shape: Shape of the rows.
        number: 0, 1, 2 … among the buckets of the shape in the trial.
        spans: Writers of the rows, in order; stored in the document as `segments`.
        steps: Step of each row: an array of integers or doubles, a list of text, or an empty array.
        times: Time of each row, microseconds since 1970 UTC.
        columns: For each name of the shape, the value of each row.
    """

    trial: str
    shape: Shape
    number: int = 0
    spans: list[WriterSpan] = field(default_factory=list)
    steps: Any = None
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
        return sum([each.rows for each in self.spans])

    @property
    def open_id(self) -> str:
        """Id of the document of the bucket that is being filled."""
        return f"{self.trial}/{self.shape.uid}/open"

    @property
    def full_id(self) -> str:
        """Id of the document of the bucket once it is full."""
        return f"{self.trial}/{self.shape.uid}/{self.number}"

    def append(self, rows: Rows) -> list[Bucket]:
        """Add rows.

        Args:
            rows: Rows of this shape that come after those of the bucket.

        Returns:
            The buckets that the rows filled, in order. This object becomes the bucket that follows them.
        """
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
                    Bucket(self.trial, self.shape, self.number, self.spans, self.steps, self.times, self.columns)
                )
                # The full bucket has taken over the lists and arrays of this object, which starts with new ones.
                self.__init__(self.trial, self.shape, self.number + 1)  # type: ignore[misc]
        return filled

    def _take(self, rows: Rows) -> None:
        count = len(rows.times)
        last = self.spans[-1] if self.spans else None
        if last is not None and last.writer == rows.writer and last.first + last.rows == rows.first:
            last.rows += count
        else:
            self.spans.append(WriterSpan(rows.first, count, rows.writer))
        if self.shape.steps != "none":
            self.steps.extend(rows.steps)
        self.times.extend(rows.times)
        for column, more in zip(self.columns, rows.columns, strict=True):
            column.extend(more)

    def to_document(self, *, full: bool) -> dict[str, Any]:
        """The document of the bucket.

        Args:
            full: Whether the bucket is full. The id of a full bucket has the bucket's number, that of the open one not.
        """
        # Readers need the bound of full buckets only: they always read the open one.
        bound = {"max_step": largest(self.steps)} if full and self.shape.steps in ("int", "float") else {}
        return {
            "_id": self.full_id if full else self.open_id,
            "trial": self.trial,
            "section": self.shape.section,
            "names": list(self.shape.names),
            "step_type": self.shape.steps,
            "number": self.number,
            "rows": len(self),
            "segments": [[each.first, each.rows, each.writer] for each in self.spans],
            **bound,
            "steps": self.steps if isinstance(self.steps, list) else pack(self.steps),
            "times": pack(self.times),
            "values": {
                escape_key(name): pack(column) for name, column in zip(self.shape.names, self.columns, strict=True)
            },
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, packed: bool = False) -> Bucket:
        """The bucket of a document that `to_document` made.

        Args:
            document: The document.
            packed: Whether the times, the columns and the steps that are numbers stay little-endian bytes, for readers
                that join those of many buckets.
        """
        shape = Shape(document["section"], tuple(document["names"]), document["step_type"])
        unpacked: Callable[[str, bytes], Any] = _packed if packed else unpack
        columns = {unescape_key(key): unpacked("d", each) for key, each in document["values"].items()}
        steps = document["steps"]
        return cls(
            document["trial"],
            shape,
            document["number"],
            [WriterSpan(*each) for each in document["segments"]],
            list(steps) if shape.steps == "text" else unpacked({"int": "q", "float": "d"}.get(shape.steps, "b"), steps),
            unpacked("q", document["times"]),
            [columns[name] for name in shape.names],
        )


def _packed(_: str, column: bytes) -> bytes:
    return column


def ids_below(prefix: str) -> tuple[str, str]:
    """The bounds of the ids that begin with a prefix and a slash: those from the first up to the second, not included.

    Args:
        prefix: The uid of a trial, or such a uid, a slash and the uid of a shape.
    """
    return f"{prefix}/", f"{prefix}0"  # 0 follows the slash
