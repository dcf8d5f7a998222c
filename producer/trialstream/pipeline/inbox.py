"""The inbox: each log call appends one item to it and returns; the I/O thread takes the items out, in their order.

An item is a row of a frame, a late row (see `late.py`), or a function of the I/O thread and its argument. The
append is a single step of the interpreter, so any thread may log, and a signal handler too, whatever it interrupts: the
item is in the inbox or it is not. Neither side takes a lock. Invariant: an item is taken exactly once, or its call
raises `ProtocolClosed`. Two cases need care:

**Waking the I/O thread.** It looks into the inbox when frames are due, and sleeps for longer (`idle`) only if it has
found nothing for a while:

    log call                  I/O thread
    1. append the item        1. set `idle`
    2. read `idle`            2. if there are items, take them instead of sleeping

The interpreter runs one thread at a time, so at least one side sees the step of the other: the call wakes the I/O
thread, or the I/O thread finds the item. (If an exception of a signal handler ends the call between its two steps, the
I/O thread finds the item within a second.)

**Closing.** A call may be interrupted between its look at `limit` and its append, for as long as it likes. The I/O
thread sets `idle` for good before it takes the last items. A call that finds `idle` set then waits until these are
taken; if its own item is still in the inbox, it was appended too late.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from itertools import repeat, starmap
from typing import Any

from trialstream_schemas.errors import ProtocolClosed

from trialstream.pipeline.frames import Frame
from trialstream.pipeline.late import LateRow
from trialstream.runtime.io_thread import CLOSED_DURING_CALL, PARENT_PROCESS

__all__ = ["Inbox", "InboxFull", "Item"]

Item = tuple[Frame | LateRow | Callable[[Any], object], Any]
# Number of items from which a call wakes the I/O thread before it would look by itself. Measured: it takes 0.3 µs for a
# row, and needs 5 ms to get the interpreter from a thread that logs in a loop.
_WAKE_ITEMS = 4096
# Maximum number of items, and the memory that one without a size takes at most, bytes. There are so many only if the
# I/O thread hangs, or cannot keep up.
_MAX_ITEMS = 65_536
_ITEM_BYTES = 512
# Number of items from which a call lets other threads run, and number of items until the next one does. Measured with
# eight threads that log in loops: the longest call took 150 to 360 ms instead of 420 to 540, at the same rate of rows.
_CROWDED_ITEMS = 16_384
_YIELD_ITEMS = 256
# Poll interval while the I/O thread takes the last items, seconds.
_TAKING_SECONDS = 0.0001


class InboxFull(Exception):
    """There is no room for an item.

    Args:
        crowded: Whether there is memory, and only the I/O thread has not taken the items yet.
    """

    def __init__(self, *, crowded: bool = False) -> None:
        super().__init__()
        self.crowded = crowded


class Inbox:
    """Items on their way from log calls to the I/O thread.

    Args:
        wake: Wakes the I/O thread, from any thread.
        gather: Takes items, in their order, and raises nothing.
        memory: Returns the memory of all that was taken and not acknowledged yet, bytes.
        max_bytes: Bound of that memory and of the items together.

    Attributes:
        items: The items. `add` appends to it; so does who finds less than `limit` items, and then calls `look` if
            `idle` is set.
        limit: Number of items from which `add` is needed.
        idle: Whether the I/O thread sleeps until it is woken.
    """

    def __init__(
        self,
        wake: Callable[[], object],
        gather: Callable[[list[Item]], None],
        memory: Callable[[], int],
        *,
        max_bytes: int,
    ) -> None:
        self.items: deque[Item] = deque()
        self.limit = 0
        self.idle = True
        self._wake = wake
        self._gather = gather
        self._memory = memory
        self._max_bytes = max_bytes
        self._max_items = min(_MAX_ITEMS, max_bytes // _ITEM_BYTES)
        # Memory of the items that were added with a size.
        self._bytes = 0
        self._closed = ""
        # Whether the last items are being taken, and whether they were.
        self._ending = self._ended = False
        _inboxes.add(self)

    # --- In any thread

    def add(self, item: Item, size: int = 0) -> None:
        """Append an item.

        Args:
            item: The item.
            size: Estimated memory of the row or argument, bytes; 0 if it is small.

        Raises:
            InboxFull: There is no room; nothing was appended.
            ProtocolClosed: The inbox is closed; nothing was appended.
        """
        self.check_open()
        if self._bytes + self._memory() >= self._max_bytes:
            raise InboxFull
        count = len(self.items)
        if count >= self._max_items:
            raise InboxFull(crowded=True)
        if count >= max(self.limit, _CROWDED_ITEMS):
            time.sleep(0)
        self._append(item, size)
        if count < _WAKE_ITEMS - 1:
            self.limit = _WAKE_ITEMS
        else:
            self.limit = min(max(count + _YIELD_ITEMS, _CROWDED_ITEMS), self._max_items)

    def mark(self, item: Item) -> None:
        """Append a small item, even if there is no room; unless the I/O thread hangs, and very many were appended.

        Raises:
            ProtocolClosed: The inbox is closed; nothing was appended.
        """
        self.check_open()
        if len(self.items) < 2 * self._max_items:
            self._append(item, 0)

    def check_open(self) -> None:
        """Raise `ProtocolClosed` if the inbox is closed."""
        if self._closed:
            raise ProtocolClosed(self._closed)

    def _append(self, item: Item, size: int) -> None:
        self._bytes += size
        self.items.append(item)
        if self.idle:
            self.look(item)
        elif self.limit <= _WAKE_ITEMS <= len(self.items):
            self._wake()

    def look(self, item: Item) -> None:
        """Make the I/O thread look into the inbox, after an append that found `idle` set.

        Args:
            item: The item that was appended.

        Raises:
            ProtocolClosed: The item was appended too late to be taken.
        """
        self.idle = False
        if not self._ending:
            self._wake()
            return
        self.idle = True
        while not self._ended:
            time.sleep(_TAKING_SECONDS)
        if any(each is item for each in list(self.items)):
            raise ProtocolClosed(self._closed)

    def close(self, message: str = CLOSED_DURING_CALL) -> None:
        """Refuse further items.

        Args:
            message: Message of the `ProtocolClosed` that each further call raises.
        """
        self.limit = 0
        self._closed = message

    @property
    def bytes(self) -> int:
        """Estimated memory of the items that were added with a size."""
        return self._bytes

    def waiting(self) -> list[Item]:
        """Return the items that will be taken."""
        return [] if self._ended else list(self.items)

    # --- In the I/O thread

    def take(self) -> int:
        """Gather all items that were appended before, and return their number; 0 after `take_last`."""
        if self._ended:
            return 0
        items = self.items
        self._bytes = 0  # the items count where they are taken to; those that are appended meanwhile are counted anew
        found = list(items)
        self._gather(found)
        deque(starmap(items.popleft, repeat((), len(found))), maxlen=0)  # a loop of C code
        self.limit = 0  # the next item needs `add`, which finds out whether there is room
        return len(found)

    def sleep(self) -> bool:
        """Whether the I/O thread may sleep: the next append then wakes it; False if there are items."""
        self.idle = True
        if self.items and not self._ended:
            self.idle = False
            return False
        return True

    def take_last(self) -> None:
        """Take the last items of a closed inbox; what is appended later is refused."""
        self._ending = self.idle = True
        try:
            self.take()
        finally:
            self._ended = True


def _after_fork() -> None:
    for inbox in list(_inboxes):
        inbox.close(PARENT_PROCESS)
        _of_parents.append(list(inbox.items))
        inbox.items.clear()
        inbox._ending = inbox._ended = inbox.idle = True  # noqa: SLF001 (also for a call that the fork has interrupted)


_inboxes: weakref.WeakSet[Inbox] = weakref.WeakSet()
# In a forked child: the items of its parent. A copy of a tensor must not be freed there: that would use the device.
_of_parents: list[list[Item]] = []
# Items that a forked child appended to an inbox of its parent would be lost without an error.
os.register_at_fork(after_in_child=_after_fork)
