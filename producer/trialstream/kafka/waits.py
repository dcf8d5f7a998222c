"""Waiting for what was logged: acknowledged by Kafka, folded into the documents, or safe on disk."""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio
from trialstream_schemas.errors import CommitTimeout
from trialstream_schemas.messages import counted

from trialstream.pipeline.carrier import Carrier
from trialstream.pipeline.late import LateRow
from trialstream.pipeline.outbox import Outbox
from trialstream.reading.reader import Reader

__all__ = ["Waits"]

# Interval of looks whether a device has computed the values of rows, seconds.
_DEVICE_SECONDS = 0.002


class Waits:
    """Waits for all that was logged before the call. Belongs to the I/O thread.

    Args:
        outbox: Holds the open frames, which are sealed before each wait, and rows whose values a device is computing.
        pipeline: Sends events.
        reader: Reads how far the projection is.
    """

    def __init__(self, outbox: Outbox, pipeline: Carrier, reader: Reader) -> None:
        self._outbox = outbox
        self._pipeline = pipeline
        self._reader = reader

    async def wait_acked(self, timeout: float) -> None:
        """Wait until Kafka has acknowledged the events.

        Args:
            timeout: Seconds.

        Raises:
            CommitTimeout: Kafka has not acknowledged them in time, or a device has not computed their values; they stay
                queued.
        """
        await self._pipeline.wait_acked(await self._seal(timeout))

    async def wait_folded(self, timeout: float, *, latest: bool = False) -> None:
        """Wait until the projection shows the events.

        Requests whose callers still wait for the outcome are excluded: reads show a request once its call returns.

        Args:
            timeout: Seconds.
            latest: Whether to wait for all events that the log holds by then, of any writer.

        Raises:
            CommitTimeout: Kafka has not acknowledged them in time, or a device has not computed their values; they stay
                queued.
            ProjectionBehind: The consumer has not folded them in time.
            MongoUnavailable: MongoDB does not answer.
            KafkaUnavailable: With `latest`, Kafka has not returned the end of the log in time.
        """
        deadline = time.monotonic() + timeout
        offsets = await self._pipeline.wait_logged(await self._seal(timeout))
        if latest:
            ends = await self._pipeline.ends(max(0.0, deadline - time.monotonic()))
            # The ends are higher, unless a broker has lost events that it had acknowledged to this protocol.
            offsets = {route: max(end, offsets.get(route, 0)) for route, end in ends.items()}
        await self._reader.wait_folded(offsets, max(0.0, deadline - time.monotonic()), fresh=latest)

    async def wait_spooled(self, timeout: float) -> None:
        """Wait until each event is acknowledged, or on disk where it survives a crash of the machine.

        Args:
            timeout: Seconds.

        Raises:
            CommitTimeout: After the timeout, some events are neither acknowledged nor on disk, or a device has not
                computed their values; they stay queued.
            SpoolError: There is no spool, or the disk did not confirm the write.
        """
        await self._pipeline.wait_secured(await self._seal(timeout))

    async def finish(self, timeout: float) -> float:
        """Queue the rest of a closed outbox. Rows whose values a device has not computed in time count as dropped.

        Args:
            timeout: Maximum time to wait for the device, seconds.

        Returns:
            The time that is left.
        """
        self._outbox.finish()
        try:
            return await _wait_for_device(self._outbox.held.late_rows(), timeout)
        finally:
            self._outbox.lose_late_rows()

    async def _seal(self, timeout: float) -> float:
        """Queue all that was logged, once devices have computed the values of its rows, and return the time left."""
        self._outbox.seal()
        rows = self._outbox.held.late_rows()
        left = await _wait_for_device(rows, timeout)
        if not all(row.is_ready() for row in rows):
            late = counted(len(rows), "row")
            raise CommitTimeout(f"the device has not computed the values of {late} in {timeout:g} s; they stay queued")
        if rows:
            self._outbox.seal()
        return left


async def _wait_for_device(rows: Sequence[LateRow], timeout: float) -> float:
    """Wait until the rows are ready, at most `timeout` seconds, and return the time that is left."""
    if not rows:
        return timeout
    deadline = time.monotonic() + timeout
    while not all(row.is_ready() for row in rows) and time.monotonic() < deadline:  # noqa: ASYNC110 (no event tells)
        await anyio.sleep(_DEVICE_SECONDS)
    return max(0.0, deadline - time.monotonic())
