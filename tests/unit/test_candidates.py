"""Candidates: callers that ask at the same time share the query, and each reserves another candidate."""

from __future__ import annotations

import asyncio

import pytest
from trialstream.kafka.candidates import Candidates
from trialstream.reading.reader import Candidate, CandidateQuery
from trialstream_schemas.errors import MongoUnavailable

OLDEST = [Candidate(f"{n}_0", 1) for n in range(5)]


class Projection:
    """Answers a query after a few turns of the loop, with the candidates that match then."""

    def __init__(self) -> None:
        self.matching = list(OLDEST)
        self.limits: list[int] = []
        self.error: Exception | None = None

    async def find(self, limit):
        """One query."""
        self.limits.append(limit)
        for _ in range(3):  # turns of the loop, in which other callers ask
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.matching[:limit]


@pytest.fixture
def projection():
    """With five candidates."""
    return Projection()


@pytest.fixture
def candidates():
    """The candidates of one process."""
    return Candidates()


@pytest.fixture
def query(projection):
    """A query of that projection."""
    return CandidateQuery("trials {}", projection.find)


def reserve(candidates, query, count):
    """So many callers that ask at the same time."""
    return [asyncio.ensure_future(candidates.reserve(query)) for _ in range(count)]


async def test_one_gets_the_oldest(candidates, query):
    """The next caller gets the next one, while the first is reserved."""
    assert await candidates.reserve(query) == OLDEST[0]
    assert await candidates.reserve(query) == OLDEST[1]


async def test_callers_that_ask_at_the_same_time_share_the_query(projection, candidates, query):
    """Each gets another candidate; a caller that asks during a query waits for the next one."""
    found = await asyncio.gather(*reserve(candidates, query, 5))

    assert sorted(found) == OLDEST
    assert len(projection.limits) == 2


async def test_other_queries_do_not_share(projection, candidates, query):
    """Each key is a query of its own."""
    other = query._replace(key="trials {'tags.x': True}")
    found = await asyncio.gather(*reserve(candidates, query, 1), *reserve(candidates, other, 1))

    assert len(projection.limits) == 2
    assert sorted(found) == OLDEST[:2]


async def test_more_callers_than_candidates(projection, candidates, query):
    """They share candidates: a caller whose claim is lost asks again."""
    projection.matching = OLDEST[:2]
    found = await asyncio.gather(*reserve(candidates, query, 4))
    assert set(found) == set(OLDEST[:2])


async def test_no_candidate(projection, candidates, query):
    """All callers get None."""
    projection.matching = []
    assert await asyncio.gather(*reserve(candidates, query, 3)) == [None] * 3


async def test_a_released_candidate_can_be_reserved(projection, candidates, query):
    """For example after a lost claim; the limit of the query shrinks again."""
    candidates.release(await candidates.reserve(query))
    assert await candidates.reserve(query) == OLDEST[0]
    assert len(set(projection.limits)) == 1


async def test_after_a_lost_claim_candidates_are_random(projection, candidates, query):
    """Other processes claim the same ones."""
    projection.matching = [Candidate(f"{n}_0", 1) for n in range(60)]
    candidates.release(await candidates.reserve(query), lost=True)
    found = await asyncio.gather(*reserve(candidates, query, 20))

    assert len(set(found)) == 20
    assert found != projection.matching[:20]


@pytest.mark.parametrize("turns", range(9))
async def test_a_cancelled_caller_reserves_nothing(candidates, query, turns):
    """Whether it runs the query, waits for its turn or was just answered; the others are answered."""
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
    """The next query is made as usual."""
    projection.error = MongoUnavailable("away")
    for each in await asyncio.gather(*reserve(candidates, query, 3), return_exceptions=True):
        assert each is projection.error
    assert len(projection.limits) == 2
    projection.error = None
    assert await candidates.reserve(query) == OLDEST[0]
