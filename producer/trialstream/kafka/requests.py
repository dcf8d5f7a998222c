"""Requests: events whose callers wait for the outcome that the fold writes."""

from __future__ import annotations

import time

from trialstream_schemas.errors import InvalidValue, ItemNotFound, ProjectionBehind
from trialstream_schemas.wire.events import SubjectEvent

from trialstream.kafka.backpressure import BackPressure
from trialstream.kafka.commands import new_request
from trialstream.kafka.waits import Waits
from trialstream.pipeline.carrier import RefusedRequests
from trialstream.pipeline.inbox import InboxFull
from trialstream.pipeline.outbox import Outbox
from trialstream.pipeline.watermark import Watermark
from trialstream.reading.reader import Decision, Reader

__all__ = ["Requests"]


class Requests:
    """Sends requests and waits for their outcomes. Belongs to the I/O thread.

    Args:
        outbox: The outbox.
        watermark: Records which requests have callers that still wait: reads do not wait for these.
        refusals: Raises an error for a request whose event Kafka refuses.
        backpressure: Waits for space in the outbox.
        waits: Raises the error of a projection that is behind.
        reader: Reads outcomes.
        timeout: Maximum duration of a request, seconds.
    """

    def __init__(
        self,
        outbox: Outbox,
        watermark: Watermark,
        refusals: RefusedRequests,
        backpressure: BackPressure,
        waits: Waits,
        reader: Reader,
        timeout: float,
    ) -> None:
        self._outbox = outbox
        self._watermark = watermark
        self._refusals = refusals
        self._backpressure = backpressure
        self._waits = waits
        self._reader = reader
        self._timeout = timeout

    async def request(self, event: SubjectEvent) -> Decision:
        """Send an event as a request, and wait for its outcome.

        Args:
            event: The event; it gets the id of a new request if it has none.

        Returns:
            The decision: applied or not, never refused.

        Raises:
            ItemNotFound: The fold refused the event, since its subject does not exist.
            InvalidValue: The fold refused the event for another reason, or Kafka did since it is too large.
            SpoolFull: There is no space for the event.
            CommitTimeout: Kafka has not acknowledged the event in time.
            ProjectionBehind: The consumer has not folded the event in time.
        """
        deadline = time.monotonic() + self._timeout
        event.request = request = event.request or new_request()
        decision = None
        self._watermark.expect(request)
        try:
            with self._refusals.raised_for(request):
                try:
                    self._outbox.put(event)
                except InboxFull:
                    pressure = self._backpressure
                    if not (pressure.should_wait() and await pressure.wait(lambda: self._outbox.put(event))):
                        pressure.drop(event.subject, droppable=False)
                self._outbox.take()
                decision = await self._reader.decision(event.outcome_id, max(0.0, deadline - time.monotonic()))
        finally:
            if decision is None:
                self._watermark.abandon(request)
            else:
                self._watermark.decided(request)
        if decision is None:
            await self._waits.wait_folded(0.0)  # its message says how far behind the projection is
            raise ProjectionBehind(f"the outcome of a {type(event).__name__} could not be read in {self._timeout:g} s")
        if (reason := decision.outcome.reason) is not None:
            raise (ItemNotFound if decision.outcome.uid is None else InvalidValue)(reason)
        return decision
