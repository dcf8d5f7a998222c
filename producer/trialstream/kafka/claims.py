"""The claim loop: find a candidate, send the update with its version, and repeat until one is applied.

The log decides each claim: the fold applies the update only if the document still has the version that the claim names.
If several workers claim the same document, exactly one succeeds, and the others try other documents.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trialstream_schemas.errors import ItemNotFound
from trialstream_schemas.wire.events import SubjectEvent, TrialFinished, TrialStarted, TrialUpdated, updates_of

from trialstream.kafka.candidates import Candidates
from trialstream.kafka.commands import now
from trialstream.kafka.requests import Requests
from trialstream.kafka.waits import Waits
from trialstream.reading.budget import remaining, within
from trialstream.reading.reader import Candidate, CandidateQuery, Decision

__all__ = ["Claims"]


class Claims:
    """Runs claims. Belongs to the I/O thread, so that a whole claim takes one call there and one answer back.

    Args:
        requests: Sends the updates.
        waits: Waits until the projection shows all earlier events of this process.
        started: Start time of each trial that was started here, by uid, on the clock `time.perf_counter`.
        timeout: Maximum duration of any wait, seconds.
    """

    def __init__(self, requests: Requests, waits: Waits, started: Mapping[str, float], timeout: float) -> None:
        self._requests = requests
        self._waits = waits
        self._started = started
        self._timeout = timeout
        self._candidates = Candidates()

    async def claim(self, query: CandidateQuery, event: SubjectEvent) -> Decision:
        """Claim one document that matches a query.

        Args:
            query: The checked query.
            event: The update, without its subject.

        Returns:
            The decision that applied the update.

        Raises:
            ItemNotFound: No document matches.
            InvalidValue: The fold refused the update.
            SpoolFull: There is no space for the event.
            CommitTimeout: Kafka has not acknowledged the event in time.
            ProjectionBehind: The consumer has not folded the event in time.
            MongoUnavailable: MongoDB does not answer.
        """

        async def find(limit: int) -> list[Candidate]:
            with within(self._timeout):
                await self._waits.wait_folded(remaining(self._timeout))
                return await query.find(limit)

        current = query._replace(find=find)
        while candidate := await self._candidates.reserve(current):
            lost = False
            try:
                decision = await self._requests.request(self._update_of(candidate, event))
                if decision.outcome.applied:
                    return decision
                lost = True
            finally:
                self._candidates.release(candidate, lost=lost)
        raise ItemNotFound(f"no {event.SUBJECT} matches the query")

    def _update_of(self, candidate: Candidate, event: SubjectEvent) -> SubjectEvent:
        """Return the update of one candidate."""
        time_us = now()
        started = self._started.get(candidate.uid)  # the caller's thread may remove it at any time
        updates: list[Any] = []
        for each in updates_of(event):
            changes: dict[str, Any] = {event.SUBJECT: candidate.uid, "time": time_us}
            if isinstance(each, TrialStarted):
                started = time.perf_counter()
            elif isinstance(each, TrialFinished) and started is not None:
                changes["elapsed"] = time.perf_counter() - started
                started = None
            updates.append(replace(each, **changes))
        if isinstance(event, TrialUpdated):
            updated: SubjectEvent = replace(event, trial=candidate.uid, time=time_us, updates=updates)
        else:
            [updated] = updates
        updated.if_version = candidate.version
        return updated
