"""The spiller: moves events between the backlog and the spool.

The spiller has two modes:

- `overflow`: events are written to disk while Kafka is unavailable or half of the memory is taken. When no event is on
  disk only, and Kafka and memory have recovered, events are sent from memory again;
- `always`: every event is written before it is sent.
"""

from __future__ import annotations

import logging
import time
from typing import Literal

import anyio
from trialstream_schemas.errors import CommitTimeout, SchemaError, SpoolError, SpoolFull
from trialstream_schemas.messages import counted
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import GroupCreated, ProjectCreated, TrialCreated

from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.signals import ProgressSignal, WakeUp, until_tick
from trialstream.runtime.loop import run_sync
from trialstream.spool.folder import Segment, Spool
from trialstream.spool.segment import SpooledEvent

__all__ = ["Mode", "Spiller"]

logger = logging.getLogger("trialstream")

Mode = Literal["overflow", "always"]

# Kafka counts as unavailable when a partition has waited longer than this for an acknowledgement. Normally one takes
# milliseconds.
_AWAY_SECONDS = 2.0
# Kafka counts as available again when no partition has waited longer than this.
_BACK_SECONDS = 0.5
# Interval between steps without a wake-up: a step checks whether Kafka is available, and retries a disk that failed.
_STEP_SECONDS = 0.25
# Poll interval of `wait_secured`.
_POLL_SECONDS = 0.005
# Size of a block, the events that are encoded and written together; a torn tail loses one block at most.
_BLOCK_BYTES = 1024 * 1024
# Size of a segment, the events that are loaded or deleted together.
_SEGMENT_BYTES = 8 * 1024 * 1024
# The open segment is closed, and then deleted, when all events are acknowledged and none was written for this long.
_IDLE_SECONDS = 1.0
_CREATIONS = (TrialCreated, ProjectCreated, GroupCreated)


class Spiller:
    """Moves events of one backlog to disk and back. Lives in one event loop; uses the disk in a worker thread.

    Args:
        backlog: The events.
        spool: The place on disk.
        wake_up: Set when the spiller has work.
        progress: Notified when there is more room in memory, or when events were written.
        mode: When to write; see the module's docstring.
        memory_bytes: Bound of the memory of events, bytes.
        drop_oldest: Whether a spool at its cap drops its oldest events to make room for new ones.
    """

    def __init__(
        self,
        backlog: Backlog,
        spool: Spool,
        wake_up: WakeUp,
        progress: ProgressSignal,
        mode: Mode,
        *,
        memory_bytes: int,
        drop_oldest: bool,
    ) -> None:
        self._backlog = backlog
        self._spool = spool
        self._wake_up = wake_up
        self._progress = progress
        self._mode = mode
        self._memory_bytes = memory_bytes
        self._segment_bytes = min(_SEGMENT_BYTES, memory_bytes // 8)
        self._drop_oldest = drop_oldest
        # Number of callers in `wait_secured`.
        self._waiters = 0
        # Time of the last write (monotonic clock).
        self._written = 0.0
        # Error of the last write; empty if it succeeded.
        self._last_error = ""
        self._warned: set[str] = set()

    @property
    def stuck(self) -> bool:
        """Whether the last write failed."""
        return bool(self._last_error)

    async def run(self) -> None:
        """Move events until cancelled."""
        while True:
            self._wake_up.clear()
            await self._step()
            await self._wake_up.wait(until_tick(_STEP_SECONDS))

    async def wait_secured(self, timeout: float) -> None:
        """Return when all events that were queued before the call are acknowledged, or on disk and survive a crash.

        Args:
            timeout: Seconds.

        Raises:
            CommitTimeout: After the timeout, some events are neither acknowledged nor on disk; they stay queued.
            SpoolError: The disk did not confirm the write.
        """
        number = self._backlog.next_number
        self._waiters += 1
        try:
            with anyio.move_on_after(timeout):
                while not self._backlog.is_secured(number):
                    self._wake_up.set()
                    await anyio.sleep(_POLL_SECONDS)
                await run_sync(self._spool.sync)
                return
        finally:
            self._waiters -= 1
        raise CommitTimeout(
            f"not all events are in the spool {self._spool.folder} after {timeout:g} s; they stay queued"
            + (f" (last error: {self._last_error})" if self._last_error else "")
        )

    async def finish(self) -> None:
        """Write the events in memory, delete sent segments, and unlock the folder. Call it after `run` has ended."""
        self._backlog.start_spilling()
        await self._write()
        await self._close_segment()
        await self._delete()
        try:
            await run_sync(self._spool.close)
        except SpoolError as error:
            self._warn(str(error))

    # --- One step

    async def _step(self) -> None:
        backlog = self._backlog
        if not backlog.spilling:
            if self._is_needed():
                backlog.start_spilling()
        elif self._mode == "overflow" and not backlog.on_disk() and not self._is_needed(still=True):
            backlog.stop_spilling()
            await self._close_segment()
        if backlog.spilling:
            await self._write()
            await self._evict()
            await self._load()
            if time.monotonic() - self._written > _IDLE_SECONDS and backlog.is_acked(backlog.next_number):
                await self._close_segment()
        await self._delete()

    def _is_needed(self, *, still: bool = False) -> bool:
        """Whether events should go through the disk.

        Args:
            still: Whether events go through the disk already: the bounds are then lower, so that the answer does not
                change at each step.
        """
        backlog = self._backlog
        return (
            self._mode == "always"
            or self._waiters > 0
            or not backlog.has_connected
            or backlog.bytes > self._memory_bytes // (4 if still else 2)
            or backlog.stalled_seconds() > (_BACK_SECONDS if still else _AWAY_SECONDS)
        )

    async def _write(self) -> None:
        """Write all entries that are in no segment, oldest first, until the disk fails."""
        backlog = self._backlog
        while True:
            entries, waiting = backlog.unspooled(_BLOCK_BYTES)
            if not entries:
                break
            on_disk = waiting and (
                not backlog.has_connected or bool(backlog.on_disk()) or backlog.queue_bytes > self._memory_bytes // 2
            )
            segment = await self._append(entries, on_disk=on_disk)
            if segment is None:
                backlog.bypass_spool()
                break
            backlog.spooled(entries, segment)
            self._progress.notify()

    async def _append(self, entries: list[Entry], *, on_disk: bool) -> Segment | None:
        """Write entries as one block; return their segment, or None if the disk failed."""
        try:
            events = await run_sync(lambda: [each.to_spool() for each in entries if each.encode()])
            while True:
                try:
                    segment = await run_sync(self._append_block, events, on_disk)
                except SpoolFull:
                    if not (self._drop_oldest and await self._thin()):
                        raise
                else:
                    self._written, self._last_error = time.monotonic(), ""
                    return segment
        except SpoolError as error:
            self._last_error = str(error)
            self._warn(f"{error}; events wait in memory")
            return None

    def _append_block(self, events: list[SpooledEvent], on_disk: bool) -> Segment:
        return self._spool.append(events, on_disk=on_disk, segment_bytes=self._segment_bytes)

    async def _evict(self) -> None:
        """Drop segments from memory, newest first, while the queues take too much of it."""
        backlog = self._backlog
        if backlog.queue_bytes > self._memory_bytes // 2:
            await self._close_segment()
            while backlog.queue_bytes > self._memory_bytes // 2 and backlog.evict():
                self._progress.notify()

    async def _load(self) -> None:
        """Read segments into memory, oldest first, while there is room."""
        backlog = self._backlog
        while (
            backlog.has_connected and backlog.queue_bytes <= self._memory_bytes // 4 and (segments := backlog.on_disk())
        ):
            [segment, *_] = segments
            events: list[SpooledEvent] = []
            try:
                contents = await run_sync(self._spool.read, segment)
                events = contents.events
                if contents.lost_bytes:
                    self._warn(f"{segment.path}: {counted(contents.lost_bytes, 'byte')} skipped: torn or damaged")
            except SpoolError as error:
                self._warn(f"{error}; {counted(segment.records, 'event')} of the segment lost")
            backlog.load(segment, events)

    async def _thin(self) -> bool:
        """Drop all events but creations from the oldest segment on disk that has other events.

        Returns:
            Whether events were dropped.
        """
        for segment in self._backlog.on_disk():
            contents = await run_sync(self._spool.read, segment)
            store = SchemaStore.of(contents.schemas)
            kept = [event for event in contents.events if _is_creation(store, event)]
            dropped = segment.records - len(kept)
            if dropped:
                await run_sync(self._spool.keep, segment, contents._replace(events=kept))
                self._backlog.thin(segment, dropped)
                self._warn(f"spool {self._spool.folder} is at its cap: its oldest events are dropped and counted")
                return True
        return False

    async def _delete(self) -> None:
        """Delete the segments that were sent."""
        for segment in self._backlog.take_sent():
            try:
                await run_sync(self._spool.remove, segment)
            except SpoolError as error:
                self._warn(str(error))

    async def _close_segment(self) -> None:
        try:
            await run_sync(self._spool.close_segment)
        except SpoolError as error:
            self._warn(str(error))

    def _warn(self, message: str) -> None:
        """Log a warning, each message once; `warnings.warn` may raise, and an exception here would end the sending."""
        if message not in self._warned:
            self._warned.add(message)
            logger.warning("%s", message)


def _is_creation(store: SchemaStore, event: SpooledEvent) -> bool:
    """Whether the event creates its subject: without it, later events of the subject would be lost."""
    try:
        return isinstance(store.decode(event.value), _CREATIONS)
    except SchemaError:
        return False
