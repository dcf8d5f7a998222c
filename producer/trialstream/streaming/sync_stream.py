"""The stream for code that is not async: see `trialstream.sync`."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from trialstream.runtime.io_thread import IoThread
from trialstream.streaming.items import LogEvent
from trialstream.streaming.positions import Position
from trialstream.streaming.stream import Stream

__all__ = ["SyncStream"]


class SyncStream:
    """The events of a log: an iterator, and a context manager. It fetches them in a thread of its own.

    An interrupt (Ctrl-C) while it waits loses no event. Threads must not share a stream.

    Args:
        stream: The asynchronous stream, not opened yet.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._io: IoThread | None = None

    def __enter__(self) -> Self:
        self._thread.run(self._stream.open)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _thread(self) -> IoThread:
        if self._io is None:
            self._io = IoThread("trialstream-stream")
        return self._io

    def close(self) -> None:
        """Close the connections, and end the thread; `position` can still be read."""
        if self._io is not None:
            try:
                self._io.run(self._stream.aclose)
            finally:
                self._io.stop()
                self._io = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LogEvent:
        while (found := next(self._stream.ready, None)) is None:
            if not self._stream.advance() and not self._thread.run(self._stream.fill):
                self.close()
                raise StopIteration
        return found

    @property
    def position(self) -> Position:
        """The position after the last event that was returned: see `Stream.position`."""
        return self._stream.position

    @property
    def skipped(self) -> int:
        """Number of records that were left out so far: see `Stream.skipped`."""
        return self._stream.skipped
