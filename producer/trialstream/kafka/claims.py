"""Candidates for claims: who looks for one at the same time shares the query, and gets one of its own.

Workers of one process that each took the oldest would meet on it, and all but one would have lost a round trip.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from trialstream.reading.reader import Candidate

__all__ = ["Candidates"]

# A query finds so many beside those that are being claimed here; with fewer than there are workers in all processes,
# losers would meet again on the next.
_CANDIDATES = 64


Look: TypeAlias = Callable[[str, Mapping[str, Any], int], Awaitable[list[Candidate]]]


@dataclass(eq=False)
class _Asker:
    """Who waits for a candidate; `answered` when it has one, or when there is none."""

    answered: bool = False
    candidate: Candidate | None = None
    error: Exception | None = None


@dataclass
class _Question:
    """Who asks the same; one of them makes the query, holding the lock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    askers: list[_Asker] = field(default_factory=list)


class Candidates:
    """See the module. Lives in one event loop.

    Args:
        look: Returns the oldest of a collection that match a filter, so many at most, as they are after its call.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._questions: dict[tuple[str, str], _Question] = {}
        # How often each is being claimed here.
        self._taken: Counter[str] = Counter()
        self._contended = False

    async def take(self, collection: str, filter_: Mapping[str, Any]) -> Candidate | None:
        """One that matches, if there is any: the oldest, until others are after the same ones.

        Nobody else here gets it before it is given `back`, unless there is no other.
        """
        key = collection, repr(filter_)  # as dicts, {"x": 1} would equal {"x": True}
        question = self._questions.setdefault(key, _Question())
        asker = _Asker()
        question.askers.append(asker)
        try:
            async with question.lock:
                if not asker.answered:
                    await self._answer(question.askers.copy(), collection, filter_)
        except BaseException:
            if asker.candidate is not None:
                self.back(asker.candidate)
            raise
        finally:
            question.askers.remove(asker)
            if not question.askers:
                del self._questions[key]
        if asker.error is not None:
            raise asker.error
        return asker.candidate

    def back(self, candidate: Candidate, lost: bool = False) -> None:
        """It is not being claimed any more; from the first that was lost on, candidates are taken at random."""
        self._contended |= lost
        self._taken[candidate.uid] -= 1
        if not self._taken[candidate.uid]:
            del self._taken[candidate.uid]

    async def _answer(self, askers: list[_Asker], collection: str, filter_: Mapping[str, Any]) -> None:
        """Answer all who ask by now."""
        try:
            found = await self._look(collection, filter_, _CANDIDATES + len(self._taken))
        except Exception as error:  # noqa: BLE001 (raised by each of them)
            for asker in askers:
                asker.answered, asker.error = True, error
            return
        free = [each for each in found if each.uid not in self._taken] or found
        if self._contended:
            random.shuffle(free)
        for i, asker in enumerate(askers):
            asker.answered = True
            if free:
                asker.candidate = free[i % len(free)]
                self._taken[asker.candidate.uid] += 1
