"""The spooler: moves events between the backlog and the spool.

Modes: `overflow` writes to disk once Kafka has acknowledged nothing for a while, or half of the memory is taken, and
goes back to sending from memory when the disk holds nothing more; `always` writes every event before it is sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

import anyio
from trialstream_schemas.errors import CommitTimeout, SchemaError, SpoolError, SpoolFull
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import GroupCreated, ProjectCreated, TrialCreated

from trialstream.pipeline.backlog import Backlog, Entry
from trialstream.runtime.loop import run_sync
from trialstream.spool.folder import Segment, Spool
from trialstream.spool.segment import Row

__all__ = ["Mode", "Spooler"]

log = logging.getLogger("trialstream")

Mode = Literal["overflow", "always"]

# Kafka answers in milliseconds; one that has acknowledged nothing for so long is taken as away.
_AWAY_SECONDS = 2.0
# It is back when its acknowledgements come this often again.
_BACK_SECONDS = 0.5
# How often to look for that, and to try a disk again that did not take anything.
_LOOK_SECONDS = 0.25
# A block is what a torn tail loses at most, and what is encoded at a time.
_BLOCK_BYTES = 1024 * 1024
# What is loaded at a time, and the least by which the disk gets emptier.
_SEGMENT_BYTES = 8 * 1024 * 1024
# A segment to which nothing came for so long, and of which all is acknowledged, is not kept for what may come.
_IDLE_SECONDS = 1.0
_CREATIONS = (TrialCreated, ProjectCreated, GroupCreated)


class Spooler:
    """See the module. Lives in one event loop; the disk is used in a worker thread.

    Args:
        spool: Where on disk.
        backlog: What is moved.
        mode: When to write.
        memory_bytes: What may be held in memory.
        drop_oldest: Whether a spool at its cap gives up its oldest events for new ones.
        made_progress: Called when there is more room in memory, or more on disk.
    """

    def __init__(
        self,
        spool: Spool,
        backlog: Backlog,
        mode: Mode,
        *,
        memory_bytes: int,
        drop_oldest: bool,
        made_progress: Callable[[], object],
    ) -> None:
        self.spool = spool
        self._backlog = backlog
        self._mode = mode
        self._memory_bytes = memory_bytes
        backlog.high = memory_bytes // 2
        self._segment_bytes = min(_SEGMENT_BYTES, memory_bytes // 8)
        self._drop_oldest = drop_oldest
        self._made_progress = made_progress
        self._wake = anyio.Event()
        # Callers who want everything on disk.
        self._demands = 0
        self._written = 0.0
        self._trouble = ""
        self._warned: set[str] = set()

    @property
    def stuck(self) -> bool:
        """Whether the disk does not take anything."""
        return bool(self._trouble)

    def wake(self) -> None:
        """Make it look; from its own loop."""
        self._wake.set()

    async def run(self) -> None:
        """Move events until cancelled."""
        while True:
            self._wake = anyio.Event()
            await self._step()
            with anyio.move_on_after(_LOOK_SECONDS):
                await self._wake.wait()

    async def secure(self, timeout: float) -> None:
        """Return when all that was queued before the call is acknowledged, or on disk to stay there in a crash.

        Raises:
            CommitTimeout: it is not in that many seconds.
            SpoolError: the disk does not say that it is.
        """
        mark = self._backlog.mark()
        self._demands += 1
        try:
            with anyio.move_on_after(timeout):
                while not self._backlog.secured(mark):
                    self.wake()
                    await anyio.sleep(0.005)
                await run_sync(self.spool.sync)
                return
        finally:
            self._demands -= 1
        raise CommitTimeout(
            f"not all events are in the spool {self.spool.folder} after {timeout:g} s; they stay queued"
            + (f" (last trouble: {self._trouble})" if self._trouble else "")
        )

    async def finish(self) -> None:
        """Write what is left in memory, delete what was sent, and let go of the folder; after `run` has ended."""
        self._backlog.hold()
        await self._write()
        await self._close_segment()
        await self._delete()
        try:
            await run_sync(self.spool.close)
        except SpoolError as error:
            self._tell(str(error))

    # --- One step

    async def _step(self) -> None:
        backlog = self._backlog
        if backlog.direct:
            if self._needed():
                backlog.hold()
        elif self._mode == "overflow" and not backlog.colds() and not self._needed(back=True):
            backlog.release()  # and with it what waits
            await self._close_segment()
        if not backlog.direct:
            await self._write()
            await self._evict()
            await self._load()
            if time.monotonic() - self._written > _IDLE_SECONDS and backlog.reached(backlog.mark()):
                await self._close_segment()
        await self._delete()

    def _needed(self, *, back: bool = False) -> bool:
        """Whether events should go through the disk (`back`: whether they still should)."""
        backlog = self._backlog
        return (
            self._mode == "always"
            or self._demands > 0
            or not backlog.connected
            or backlog.bytes > self._memory_bytes // (4 if back else 2)
            or backlog.age(time.monotonic()) > (_BACK_SECONDS if back else _AWAY_SECONDS)
        )

    async def _write(self) -> None:
        """Write everything that is in no segment, oldest first, as far as the disk takes it."""
        backlog = self._backlog
        while True:
            entries, waiting = backlog.unwritten(_BLOCK_BYTES)
            if not entries:
                break
            cold = waiting and (
                not backlog.connected or bool(backlog.colds()) or backlog.queue_bytes > self._memory_bytes // 2
            )
            segment = await self._append(entries, cold=cold)
            if segment is None:
                backlog.unwritable()
                break
            backlog.written(entries, segment)
            self._made_progress()

    async def _append(self, entries: list[Entry], *, cold: bool) -> Segment | None:
        try:
            rows = await run_sync(lambda: [each.row for each in entries if each.wire()])
            while True:
                try:
                    segment = await run_sync(self._add, rows, cold)
                except SpoolFull:
                    if not (self._drop_oldest and await self._thin()):
                        raise
                else:
                    self._written, self._trouble = time.monotonic(), ""
                    return segment
        except SpoolError as error:
            self._trouble = str(error)
            self._tell(f"{error}; events wait in memory")
            return None

    def _add(self, rows: list[Row], cold: bool) -> Segment:
        return self.spool.append(rows, cold=cold, segment_bytes=self._segment_bytes)

    async def _evict(self) -> None:
        """Let what is in memory and on disk be on disk only, newest first, as far as memory is short."""
        backlog = self._backlog
        if backlog.queue_bytes > self._memory_bytes // 2:
            await self._close_segment()
            while backlog.queue_bytes > self._memory_bytes // 2 and backlog.evict():
                self._made_progress()

    async def _load(self) -> None:
        """Read cold segments into memory, oldest first, while there is room."""
        backlog = self._backlog
        while backlog.connected and backlog.queue_bytes <= self._memory_bytes // 4 and (colds := backlog.colds()):
            [segment, *_] = colds
            rows: list[Row] = []
            try:
                contents = await run_sync(self.spool.read, segment)
                rows = contents.rows
                if contents.lost_bytes:
                    self._tell(f"{segment.path}: {contents.lost_bytes} bytes of it are in no whole block")
            except SpoolError as error:
                self._tell(f"{error}: its {segment.records} events are lost")
            backlog.loaded(segment, rows)

    async def _thin(self) -> bool:
        """Give up the oldest events that are on disk only, all but creations; whether there were any."""
        for segment in self._backlog.colds():
            contents = await run_sync(self.spool.read, segment)
            store = _store(contents.schemas)
            kept = [row for row in contents.rows if _creates(store, row)]
            dropped = segment.records - len(kept)
            if dropped:
                await run_sync(self.spool.keep, segment, kept)
                self._backlog.thinned(segment, dropped)
                self._tell(f"spool {self.spool.folder} is at its cap: its oldest events are dropped and counted")
                return True
        return False

    async def _delete(self) -> None:
        """Delete the segments that were sent."""
        for segment in self._backlog.emptied():
            try:
                await run_sync(self.spool.remove, segment)
            except SpoolError as error:
                self._tell(str(error))

    async def _close_segment(self) -> None:
        try:
            await run_sync(self.spool.close_segment)
        except SpoolError as error:
            self._tell(str(error))

    def _tell(self, message: str) -> None:
        """Log a warning, once of each thing: a warning that is an error must not end the sending."""
        if message not in self._warned:
            self._warned.add(message)
            log.warning("%s", message)


def _store(schemas: dict[bytes, bytes]) -> SchemaStore:
    store = SchemaStore()
    for text in schemas.values():
        store.add(text)
    return store


def _creates(store: SchemaStore, row: Row) -> bool:
    """Whether all that follows of its subject would be lost with this event."""
    try:
        return isinstance(store.decode(row.value), _CREATIONS)
    except SchemaError:
        return False
