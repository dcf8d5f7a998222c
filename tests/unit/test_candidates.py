"""Candidates of claims: concurrent callers share a query, and each reserves another candidate."""

from __future__ import annotations

import asyncio

import pytest
from trialstream.kafka.candidates import Candidates
from trialstream.reading.reader import Candidate, CandidateQuery
from trialstream_schemas.errors import MongoUnavailable

OLDEST = [Candidate(f"{n}_0", 1) for n in range(5)]


class Projection:
    """A projection that answers a query after a few turns of the loop, with the candidates that match at that time."""

    def __init__(self) -> None:
        self.matching = list(OLDEST)
        self.limits: list[int] = []
        self.error: Exception | None = None

    async def find(self, limit):
        """Return the first matching candidates."""
        self.limits.append(limit)
        for _ in range(3):  # turns of the loop in which other callers can ask
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.matching[:limit]


@pytest.fixture
def projection():
    """A projection with five candidates."""
    return Projection()


@pytest.fixture
def candidates():
    """The candidates of one process."""
    return Candidates()


@pytest.fixture
def query(projection):
    """A query of the projection."""
    return CandidateQuery("trials {}", projection.find)


def reserve(candidates, query, count):
    """Start concurrent callers that reserve a candidate each."""
    return [asyncio.ensure_future(candidates.reserve(query)) for _ in range(count)]


async def test_the_oldest_candidate_is_reserved_first(candidates, query):
    """A caller gets the oldest candidate that is not reserved."""
    assert await candidates.reserve(query) == OLDEST[0]
    assert await candidates.reserve(query) == OLDEST[1]


async def test_concurrent_callers_share_the_query(projection, candidates, query):
    """Concurrent callers get different candidates of one query; calls during a query share the next one."""
    found = await asyncio.gather(*reserve(candidates, query, 5))

    assert sorted(found) == OLDEST
    assert len(projection.limits) == 2


async def test_queries_with_different_keys_are_not_shared(projection, candidates, query):
    """Callers with different query keys do not share a query."""
    other = query._replace(key="trials {'tags.x': True}")
    found = await asyncio.gather(*reserve(candidates, query, 1), *reserve(candidates, other, 1))

    assert len(projection.limits) == 2
    assert sorted(found) == OLDEST[:2]


async def test_more_callers_than_candidates(projection, candidates, query):
    """More callers than candidates share candidates; a caller whose claim is lost asks again."""
    projection.matching = OLDEST[:2]
    found = await asyncio.gather(*reserve(candidates, query, 4))
    assert set(found) == set(OLDEST[:2])


async def test_no_candidate(projection, candidates, query):
    """All callers get None if no candidate matches."""
    projection.matching = []
    assert await asyncio.gather(*reserve(candidates, query, 3)) == [None] * 3


async def test_a_released_candidate_can_be_reserved(projection, candidates, query):
    """A candidate released after a lost claim, for example, can be reserved, and the limit of the query shrinks."""
    candidates.release(await candidates.reserve(query))
    assert await candidates.reserve(query) == OLDEST[0]
    assert len(set(projection.limits)) == 1


async def test_after_a_lost_claim_candidates_are_random(projection, candidates, query):
    """After a lost claim candidates are drawn at random, since other processes claim the same ones."""
    projection.matching = [Candidate(f"{n}_0", 1) for n in range(60)]
    candidates.release(await candidates.reserve(query), lost=True)
    found = await asyncio.gather(*reserve(candidates, query, 20))

    assert len(set(found)) == 20
    assert found != projection.matching[:20]


@pytest.mark.parametrize("turns", range(9))
async def test_a_cancelled_caller_reserves_nothing(candidates, query, turns):
    """A caller cancelled before, during or after its query reserves nothing, and the other callers get an answer."""
    tasks = reserve(candidates, query, 3)
    for _ in range(turns):
        await asyncio.sleep(0)
    for each in tasks[:2]:
        each.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for each in found:
        if isinstance(each, Candidate):
            candidates.release(each)

    assert isinstance(found[2], Candidate)
    assert await candidates.reserve(query) == OLDEST[0]


async def test_a_query_that_fails_fails_for_all_that_share_it(projection, candidates, query):
    """All callers that share a failing query get its error, and the next query runs as usual."""
    projection.error = MongoUnavailable("away")
    for each in await asyncio.gather(*reserve(candidates, query, 3), return_exceptions=True):
        assert each is projection.error
    assert len(projection.limits) == 2
    projection.error = None
    assert await candidates.reserve(query) == OLDEST[0]
