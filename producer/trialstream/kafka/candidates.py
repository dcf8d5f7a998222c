"""Candidates for claims: callers that ask for one at the same time share the query, and each reserves another one.

Without that, the workers of one process would all claim the oldest, and all but one would lose a round trip.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from trialstream.reading.reader import Candidate, CandidateQuery

__all__ = ["Candidates"]

# Candidates that a query finds beyond those that are reserved here. With fewer than there are workers in all processes,
# the losers of one claim would meet again at the next.
_CANDIDATES = 64


@dataclass(eq=False)
class _Asker:
    """A caller that waits for a candidate; `answered` once it has one, or there is none."""

    answered: bool = False
    candidate: Candidate | None = None
    error: Exception | None = None


@dataclass
class _Question:
    """The callers with the same query; one of them runs it, holding the lock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    askers: list[_Asker] = field(default_factory=list)


class Candidates:
    """The candidates that are reserved by claims of this process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._questions: dict[str, _Question] = {}
        # By uid, how many claims have reserved it.
        self._reserved: Counter[str] = Counter()
        # Whether a claim was ever lost to another process.
        self._contended = False

    async def reserve(self, query: CandidateQuery) -> Candidate | None:
        """Reserve a document that matches: the oldest, or a random one once claims of other processes were met.

        No other caller here gets it before it is released, unless there is no other one.

        Args:
            query: The query.

        Returns:
            The candidate; None if no document matches.

        Raises:
            MongoUnavailable: MongoDB does not answer.
            ProjectionBehind: The projection does not show in time what was logged before.
        """
        question = self._questions.setdefault(query.key, _Question())
        asker = _Asker()
        question.askers.append(asker)
        try:
            async with question.lock:
                if not asker.answered:
                    await self._answer(question.askers.copy(), query)
        except BaseException:
            if asker.candidate is not None:
                self.release(asker.candidate)
            raise
        finally:
            question.askers.remove(asker)
            if not question.askers:
                del self._questions[query.key]
        if asker.error is not None:
            raise asker.error
        return asker.candidate

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

    async def _answer(self, askers: list[_Asker], query: CandidateQuery) -> None:
        """Run the query for all callers that wait by now."""
        try:
            found = await query.find(_CANDIDATES + len(self._reserved))
        except Exception as error:  # noqa: BLE001 (raised in each of the callers)
            for asker in askers:
                asker.answered, asker.error = True, error
            return
        free = [each for each in found if each.uid not in self._reserved] or found
        if self._contended:
            random.shuffle(free)
        for i, asker in enumerate(askers):
            asker.answered = True
            if free:
                asker.candidate = free[i % len(free)]
                self._reserved[asker.candidate.uid] += 1
