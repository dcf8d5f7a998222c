"""Records of a partition in columns.

An object for each record would have to be made, and looked at by each collection of garbage as long as it lives: with
some 100,000 of them in memory that takes longer than all else that a reader does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trialstream.event_log.notes import Note

__all__ = ["Records"]


class Records(NamedTuple):
    """Consecutive records of a partition.

    Attributes:
        offsets: The offset of each record, ascending.
        times: When each was appended, milliseconds since 1970 UTC.
        keys: The key of each.
        values: The value of each; no bytes for those that have none, or a note.
        notes: The notes of those that stand for other offsets, by position.
    """

    offsets: Sequence[int]
    times: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes]
    notes: Mapping[int, Note]

    def cut(self, start: int, stop: int) -> Records:
        """Return the records from position `start` up to position `stop`, which is not included."""
        if start == 0 and stop == len(self.offsets):
            return self
        notes = {i - start: each for i, each in self.notes.items() if start <= i < stop}
        part = slice(start, stop)
        return Records(self.offsets[part], self.times[part], self.keys[part], self.values[part], notes)

    def position_of(self, offset: int) -> int:
        """Return the position of the first record at an offset or after it."""
        return bisect_left(self.offsets, offset)
