"""Candidates: who looks for one at the same time shares the query, and gets one of its own."""

from __future__ import annotations

import asyncio

import pytest
from trialstream.kafka.claims import Candidate, Candidates
from trialstream_schemas.errors import MongoUnavailable

OLDEST = [Candidate(f"{n}_0", 1) for n in range(5)]


class Projection:
    """Answers a while after it was asked, with what matches then."""

    def __init__(self) -> None:
        self.matching = list(OLDEST)
        self.limits: list[int] = []
        self.error: Exception | None = None

    async def look(self, _collection, _filter, limit):
        """One query."""
        self.limits.append(limit)
        for _ in range(3):  # turns of the loop, in which others come
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.matching[:limit]


@pytest.fixture
def projection():
    """With five that match."""
    return Projection()


@pytest.fixture
def claims(projection):
    """Candidates of that projection."""
    return Candidates(projection.look)


def take(claims, count, filter_=None):
    """So many that look for one at the same time."""
    return [asyncio.ensure_future(claims.take("trials", filter_ or {})) for _ in range(count)]


async def test_one_gets_the_oldest(claims):
    """And the next one, while that is being claimed, the next."""
    assert await claims.take("trials", {}) == OLDEST[0]
    assert await claims.take("trials", {}) == OLDEST[1]


async def test_who_asks_the_same_at_the_same_time_shares_the_query(projection, claims):
    """And each gets another one; whom a query finds waiting it answers, who comes during it waits for the next."""
    found = await asyncio.gather(*take(claims, 5))

    assert sorted(found) == OLDEST
    assert len(projection.limits) == 2


async def test_other_questions_are_queries_of_their_own(projection, claims):
    """True is not 1, though they are equal here."""
    found = await asyncio.gather(*take(claims, 1, {"tags.x": 1}), *take(claims, 1, {"tags.x": True}))

    assert len(projection.limits) == 2
    assert sorted(found) == OLDEST[:2]


async def test_more_that_ask_than_there_are(projection, claims):
    """They share: whoever loses asks again."""
    projection.matching = OLDEST[:2]
    found = await asyncio.gather(*take(claims, 4))
    assert set(found) == set(OLDEST[:2])


async def test_there_is_none(projection, claims):
    """All hear it."""
    projection.matching = []
    assert await asyncio.gather(*take(claims, 3)) == [None] * 3


async def test_what_was_given_back_can_be_taken(projection, claims):
    """As when its claim was lost; the query need not look past it any more."""
    claims.back(await claims.take("trials", {}))
    assert await claims.take("trials", {}) == OLDEST[0]
    assert len(set(projection.limits)) == 1


async def test_who_lost_takes_at_random(projection, claims):
    """Others are after the same ones."""
    projection.matching = [Candidate(f"{n}_0", 1) for n in range(60)]
    claims.back(await claims.take("trials", {}), lost=True)
    found = await asyncio.gather(*take(claims, 20))

    assert len(set(found)) == 20
    assert found != projection.matching[:20]


@pytest.mark.parametrize("turns", range(9))
async def test_who_is_cancelled_has_nothing(claims, turns):
    """Whether it asks itself, waits for its turn or was just answered; the others are answered."""
    tasks = take(claims, 3)
    for _ in range(turns):
        await asyncio.sleep(0)
    for each in tasks[:2]:
        each.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for each in found:
        if isinstance(each, Candidate):
            claims.back(each)

    assert isinstance(found[2], Candidate)
    assert await claims.take("trials", {}) == OLDEST[0]


async def test_a_query_that_fails_fails_for_all_that_share_it(projection, claims):
    """And the next is made."""
    projection.error = MongoUnavailable("away")
    for each in await asyncio.gather(*take(claims, 3), return_exceptions=True):
        assert each is projection.error
    assert len(projection.limits) == 2
    projection.error = None
    assert await claims.take("trials", {}) == OLDEST[0]
