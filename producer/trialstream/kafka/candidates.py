"""Candidates for claims: concurrent callers with the same query share its execution, and reserve different documents.

Otherwise the workers of one process would all claim the oldest document, and all but one would lose a round trip.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from trialstream.reading.reader import Candidate, CandidateQuery

__all__ = ["Candidates"]

# Number of candidates that a query finds in addition to those reserved in this process. If it were smaller than the
# number of workers in all processes, the losers of one claim would compete again for the next document.
_CANDIDATES = 64


@dataclass(eq=False)
class _Caller:
    """A caller that waits for a candidate; `answered` once it has one, or no document matches, or the query failed."""

    answered: bool = False
    candidate: Candidate | None = None
    error: Exception | None = None


@dataclass
class _SharedQuery:
    """The callers with the same query. One of them runs the query, holding the lock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: list[_Caller] = field(default_factory=list)


class Candidates:
    """The candidates that are reserved by claims of this process. Belongs to one event loop."""

    def __init__(self) -> None:
        # By key of the query.
        self._shared: dict[str, _SharedQuery] = {}
        # By uid, the number of claims that have reserved the document.
        self._reserved: Counter[str] = Counter()
        # Whether a claim was ever lost to another process.
        self._contended = False

    async def reserve(self, query: CandidateQuery) -> Candidate | None:
        """Reserve a document that matches: the oldest, or a random one once a claim was lost to another process.

        No other caller in this process gets the same document until it is released, unless no other document matches.

        Args:
            query: The query.

        Returns:
            The candidate; None if no document matches.

        Raises:
            MongoUnavailable: MongoDB does not answer.
            CommitTimeout: Kafka has not acknowledged the earlier events of this process in time.
            ProjectionBehind: The consumer has not folded them in time.
        """
        shared = self._shared.setdefault(query.key, _SharedQuery())
        caller = _Caller()
        shared.callers.append(caller)
        try:
            async with shared.lock:
                if not caller.answered:
                    await self._answer(shared.callers.copy(), query)
        except BaseException:
            if caller.candidate is not None:
                self.release(caller.candidate)
            raise
        finally:
            shared.callers.remove(caller)
            if not shared.callers:
                del self._shared[query.key]
        if caller.error is not None:
            raise caller.error
        return caller.candidate

    def release(self, candidate: Candidate, *, lost: bool = False) -> None:
        """End the reservation of a candidate.

        Args:
            candidate: The candidate.
            lost: Whether another process has claimed it; from then on candidates are chosen at random.
        """
        self._contended |= lost
        self._reserved[candidate.uid] -= 1
        if not self._reserved[candidate.uid]:
            del self._reserved[candidate.uid]

    async def _answer(self, callers: list[_Caller], query: CandidateQuery) -> None:
        """Run the query once, and give each of the callers a candidate."""
        try:
            found = await query.find(_CANDIDATES + len(self._reserved))
        except Exception as error:  # noqa: BLE001 (raised in each of the callers)
            for caller in callers:
                caller.answered, caller.error = True, error
            return
        free = [each for each in found if each.uid not in self._reserved] or found
        if self._contended:
            random.shuffle(free)
        for i, caller in enumerate(callers):
            caller.answered = True
            if free:
                caller.candidate = free[i % len(free)]
                self._reserved[caller.candidate.uid] += 1
