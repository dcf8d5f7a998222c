"""Waiting for what was logged: acknowledged by Kafka, folded into the documents, or safe on disk."""

from __future__ import annotations

import time

from trialstream.pipeline.carrier import Carrier
from trialstream.pipeline.outbox import Outbox
from trialstream.reading.reader import Reader

__all__ = ["Waits"]


class Waits:
    """Waits for all that was logged before the call. Belongs to the I/O thread.

    Args:
        outbox: Holds the open frames, which are sealed before each wait.
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
            CommitTimeout: Kafka has not acknowledged them in time; they stay queued.
        """
        self._outbox.seal()
        await self._pipeline.wait_acked(timeout)

    async def wait_folded(self, timeout: float, *, latest: bool = False) -> None:
        """Wait until the projection shows the events.

        Requests whose callers still wait for the outcome are excluded: reads show a request once its call returns.

        Args:
            timeout: Seconds.
            latest: Whether to wait for all events that the log holds by then, of any writer.

        Raises:
            CommitTimeout: Kafka has not acknowledged them in time; they stay queued.
            ProjectionBehind: The consumer has not folded them in time.
            MongoUnavailable: MongoDB does not answer.
            KafkaUnavailable: With `latest`, Kafka has not returned the end of the log in time.
        """
        deadline = time.monotonic() + timeout
        self._outbox.seal()
        offsets = await self._pipeline.wait_logged(timeout)
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
            CommitTimeout: After the timeout, some events are neither acknowledged nor on disk; they stay queued.
            SpoolError: There is no spool, or the disk did not confirm the write.
        """
        self._outbox.seal()
        await self._pipeline.wait_secured(timeout)
