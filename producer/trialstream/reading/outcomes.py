"""Waiting for the outcomes of requests.

All requests that wait share one query: 32 coroutines that polled one by one would block each other on the threads of
the MongoDB driver (measured: 113 outcomes/s instead of 1,300).
"""

from __future__ import annotations

import logging

import anyio
from pymongo.errors import PyMongoError
from trialstream_schemas.errors import LogMismatch, MongoUnavailable, TrialStreamError
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.storage.documents import trial_from_document
from trialstream_schemas.storage.outcomes import stored_outcome, stored_outcome_ids

from trialstream.reading.budget import remaining
from trialstream.reading.diagnosis import is_refusal
from trialstream.reading.live import Document, LiveProjection
from trialstream.reading.pieces import pieces
from trialstream.reading.polling import is_refresh_due, pause
from trialstream.reading.reader import Decision

__all__ = ["DecisionPoller"]

logger = logging.getLogger("trialstream")

# The uid of an outcome that was applied: a claim that lost does not need its trial.
_WON: Document = {"$set": {"won": {"$cond": ["$applied", "$uid", None]}}}


class _Pending:
    """A request whose outcome callers wait for."""

    def __init__(self) -> None:
        self.callers = 0
        self.ended = anyio.Event()
        self.found: Decision | None = None


class DecisionPoller:
    """Polls the outcomes that callers wait for. Belongs to one event loop.

    Args:
        live: The projection that is read.
    """

    def __init__(self, live: LiveProjection) -> None:
        self._live = live
        self._waiting: dict[str, _Pending] = {}
        self._polls = 0
        # Why outcomes cannot be read, for callers that are woken without one.
        self._error: TrialStreamError = MongoUnavailable()
        self._wake = anyio.Event()

    async def wait(self, id_: str, timeout: float) -> Decision | None:
        """Wait for the outcome of a request.

        Args:
            id_: Id of the outcome.
            timeout: Seconds.

        Returns:
            The decision; None if there is none within the timeout.

        Raises:
            LogMismatch: The live projection was folded from another log.
            MongoUnavailable: MongoDB refuses this user, or it lacks a right.
        """
        pending = self._waiting.setdefault(id_, _Pending())
        pending.callers += 1
        self._polls = min(self._polls, 1)  # the long pauses for a late outcome do not apply to this request
        self._wake.set()
        try:
            with anyio.move_on_after(remaining(timeout)):
                await pending.ended.wait()
            if pending.found is None and pending.ended.is_set():
                raise type(self._error)(str(self._error))
            return pending.found
        finally:
            pending.callers -= 1
            if not pending.callers:
                del self._waiting[id_]

    async def run(self) -> None:
        """Poll while callers wait; runs until cancelled."""
        while True:
            if not self._waiting:
                self._wake = anyio.Event()
                await self._wake.wait()
            self._polls = 0
            while self._waiting:
                await anyio.sleep(pause(self._polls))
                self._polls += 1
                try:
                    self._live.raise_refusal()
                    if await self._poll():
                        self._polls = 1
                    elif is_refresh_due(self._polls):
                        await self._live.refresh()
                except PyMongoError as error:  # each caller has a deadline, and MongoDB may be back before it
                    logger.debug("outcomes could not be read", exc_info=True)
                    if is_refusal(error):
                        self._end_waits(await self._live.translated(error))
                except LogMismatch as error:  # the outcomes are folded elsewhere
                    self._end_waits(error)

    def _end_waits(self, error: TrialStreamError) -> None:
        self._error = error
        for pending in self._waiting.values():
            pending.ended.set()

    async def _poll(self) -> int:
        """Read the outcomes that exist by now; return their number."""
        pending = [id_ for id_, each in self._waiting.items() if not each.ended.is_set()]
        collections = self._live.collections
        trial = {"from": collections["trials"].name, "localField": "won", "foreignField": "_id", "as": "trials"}
        found: dict[str, Document] = {}
        for ids in pieces(stored for id_ in pending for stored in stored_outcome_ids(id_)):
            stages: list[Document] = [{"$match": {"_id": {"$in": ids}}}, _WON, {"$lookup": trial}]
            found_now = collections["outcomes"].aggregate(stages, maxTimeMS=self._live.max_time_ms)
            documents = await found_now.to_list(None)
            found.update({each["_id"]: each for each in documents})
        decided = 0
        for id_ in pending if found else ():
            outcome, waiting = stored_outcome(id_, found), self._waiting.get(id_)
            if outcome is not None and waiting is not None:  # None: the wait has ended
                waiting.found = Decision(outcome, _trial_of(id_, found))
                waiting.ended.set()
                decided += 1
        return decided


def _trial_of(id_: str, found: dict[str, Document]) -> Trial | None:
    """The trial of an outcome; its document is that which `stored_outcome` takes."""
    own, earlier = (found.get(each) for each in stored_outcome_ids(id_))
    document = own or earlier
    return trial_from_document(document["trials"][0]) if document and document["trials"] else None
