"""Items that wait until a device has computed the values of late rows, in the order of the calls."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from itertools import chain

from trialstream_schemas.wire.events import Heartbeat, SubjectEvent

from trialstream.pipeline.frames import Frame
from trialstream.pipeline.inbox import Item
from trialstream.pipeline.late import LateRow

__all__ = ["Held"]

logger = logging.getLogger("trialstream")
# Memory of an item that counts an event as dropped, bytes.
_DROP_BYTES = 200


class Held:
    """Items that wait for late rows. Belongs to the I/O thread, apart from `items`.

    A late row waits until it is ready, and all items of its trial that were logged afterwards wait behind it, so the
    order is kept. Two kinds of items do not wait: those of other trials, and heartbeats, which change nothing but the
    time when a trial was last heard from.

    Args:
        drop: Counts an event of the trial with a uid as dropped.

    Attributes:
        trials: By uid of the trial: its items, of which the first is a row that was not ready at the last look.
        bytes: Estimated memory of the items.
    """

    def __init__(self, drop: Callable[[str], object]) -> None:
        self.trials: dict[str, list[Item]] = {}
        self.bytes = 0
        self._drop = drop
        self._moving: list[Item] = []
        _all.add(self)

    def items(self) -> list[Item]:
        """Return the items; from any thread. One that moves on meanwhile is among them."""
        return [*self._moving, *chain.from_iterable([list(each) for each in list(self.trials.values())])]

    def late_rows(self) -> list[LateRow]:
        """Return the late rows among the items."""
        return [target for target, _ in self.items() if isinstance(target, LateRow)]

    def sift(self, items: list[Item], *, lose: bool = False) -> list[Item]:
        """Hold the items that have to wait, and return the others, in which late rows have become usual ones.

        Args:
            items: Items, after those that are held.
            lose: Whether to count late rows that are not ready as dropped, instead of waiting for them.

        Returns:
            The items that do not wait.
        """
        found: list[Item] = []
        for item in items:
            target, argument = item
            uid = _subject(item)
            if uid in self.trials:
                waits = not (isinstance(argument, tuple) and isinstance(argument[0], Heartbeat))
            else:
                waits = isinstance(target, LateRow) and not lose and not target.is_ready()
            if waits:
                self.trials.setdefault(uid, []).append(item)
                self.bytes += _memory(item)
            else:
                found.append(self._read(target) if isinstance(target, LateRow) else item)
        return found

    def release(self, gather: Callable[[list[Item]], None], *, lose: bool = False) -> None:
        """Gather the items that need not wait any more.

        Args:
            gather: Takes the items, and raises nothing.
            lose: As for `sift`.
        """
        if self.trials:
            self._moving = self.items()
            self.trials, self.bytes = {}, 0
            gather(self.sift(self._moving, lose=lose))
            self._moving = []

    def _read(self, row: LateRow) -> Item:
        try:
            return row.frame, row.read()
        except Exception as error:  # noqa: BLE001 (of any library)
            logger.error("trialstream lost a row of trial %s, whose values were not computed: %r", row.frame.uid, error)
            return self._drop, row.frame.uid


def _subject(item: Item) -> str:
    """Return the uid of the subject of an item."""
    match item:
        case (Frame() as frame, _):
            return frame.uid
        case (LateRow() as row, _):
            return row.frame.uid
        case (_, (SubjectEvent() as event, _)):
            return event.subject
    uid: str = item[1]
    return uid


def _memory(item: Item) -> int:
    """Estimated memory of an item, bytes."""
    match item:
        case (Frame() as frame, _):
            return frame.row_bytes
        case (LateRow() as row, _):
            return row.size + row.frame.row_bytes
        case (_, (SubjectEvent(), int() as bytes_)):
            return bytes_
    return _DROP_BYTES


def _after_fork() -> None:
    _of_parents.extend([each.items() for each in list(_all)])


_all: weakref.WeakSet[Held] = weakref.WeakSet()
# In a forked child: the items of its parent. A copy of a tensor must not be freed there: that would use the device.
_of_parents: list[list[Item]] = []
os.register_at_fork(after_in_child=_after_fork)
