"""The trackers of plain and of async code: what waits is a plain call in one and awaited in the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialstream_schemas.errors import TrialStreamError

from trialstream.protocol import CommitLevel
from trialstream.sync import SyncProtocol
from trialstream.tracking.tracker import Tracker

if TYPE_CHECKING:
    from trialstream.kafka.protocol import LoggingProtocol

__all__ = ["AsyncTracker", "SyncTracker"]


class SyncTracker(Tracker):
    """The tracker of code that is not async; made by `with track(…) as t:` or `track(…).start()`."""

    @property
    def protocol(self) -> SyncProtocol:
        """The protocol beneath, for all else: creating, fetching, claiming."""
        return SyncProtocol(self._protocol)

    def commit(self, level: CommitLevel = "acked", timeout: float | None = None) -> bool:
        """Wait until all that was logged is safe.

        Args:
            level: As for `Protocol.commit`.
            timeout: Seconds; None for the timeout of the tracker.

        Returns:
            Whether it is; if not, the reason was logged, and the events stay queued.
        """
        self.flush()
        try:
            self.protocol.commit(level, timeout)
        except TrialStreamError as error:
            self.faults.report("commit", error)
            return False
        return True

    def finish(self, error: BaseException | None = None) -> None:
        """End the trial and close the tracker; does nothing if it was closed.

        Args:
            error: The exception that ended the trial; None if it is complete.
        """
        if self.end(error):
            self.faults.call("finish", self._protocol.lifecycle.close_blocking)


class AsyncTracker(Tracker):
    """The tracker of async code; made by `async with track(…) as t:`."""

    @property
    def protocol(self) -> LoggingProtocol:
        """The protocol beneath, for all else: creating, fetching, claiming."""
        return self._protocol

    async def commit(self, level: CommitLevel = "acked", timeout: float | None = None) -> bool:
        """Wait until all that was logged is safe: see `SyncTracker.commit`.

        Args:
            level: As for `Protocol.commit`.
            timeout: Seconds; None for the timeout of the tracker.

        Returns:
            Whether it is; if not, the reason was logged, and the events stay queued.
        """
        self.flush()
        try:
            await self._protocol.commit(level, timeout)
        except TrialStreamError as error:
            self.faults.report("commit", error)
            return False
        return True

    async def finish(self, error: BaseException | None = None) -> None:
        """End the trial and close the tracker; does nothing if it was closed.

        Args:
            error: The exception that ended the trial; None if it is complete.
        """
        if self.end(error):
            try:
                await self._protocol.close(failed=error is not None)
            except Exception as fault:  # noqa: BLE001 (as in log)
                self.faults.report("finish", fault)
