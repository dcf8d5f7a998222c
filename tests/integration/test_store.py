"""The store on the real MongoDB: one transaction per batch, and fencing."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import anyio
import pytest
from pymongo import MongoClient
from service_support import snapshot
from trialstream_consumer.fold import State, fold
from trialstream_consumer.projection.store import DeadLetter, Store, Unwritable, ensure_indexes
from trialstream_schemas.errors import Fenced, LogMismatch, MongoUnavailable
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.wire.events import LogCreated, MetricsLogged, TrialCreated

TOPIC = "t.trials"
HASH = "0" * 32


@pytest.fixture
async def stores(config):
    """Make stores for the same database."""
    made = []
    await ensure_indexes(config)

    def make() -> Store:
        made.append(Store(config))
        return made[-1]

    yield make
    for each in made:
        each.close()


def created() -> State:
    """The state after a trial was created and a frame was logged."""
    state = State()
    fold(
        state,
        TrialCreated(
            trial=f"{HASH}~r", writer="w", time=1, name="a", parameters={"x": 1}, auto_increment=False, request="r"
        ),
    )
    fold(
        state,
        MetricsLogged(
            trial=f"{HASH}_0",
            writer="w",
            seq=1,
            time=2,
            aggregator=TimeSeriesAggregator.lazy(),
            names=["loss"],
            times=[0],
            columns=[[0.5]],
            steps=[1],
        ),
    )
    return state


LETTER = DeadLetter(TOPIC, 0, 7, "reason", 1, b"bytes")


async def test_a_batch_and_its_checkpoint_are_written_together(config, stores):
    """Trial, history, outcome, dead letter and the new offset."""
    store = stores()
    checkpoint = await store.acquire(TOPIC, 0)
    written = await store.write(checkpoint, 3, created(), [LETTER])
    found = snapshot(config)

    assert (checkpoint.offset, written.offset, written.epoch) == (0, 3, checkpoint.epoch)
    assert {name: len(each) for name, each in found.items()} == {
        "trials": 1,
        "series": 1,
        "outcomes": 1,
        "dead_letters": 1,
        "groups": 0,
        "projects": 0,
        "checkpoints": 1,
    }
    assert (await store.current(written)).offset == 3


async def test_a_store_whose_partition_was_taken_over_writes_nothing(config, stores):
    """The epoch fences it, at the next batch and when it asks for the checkpoint."""
    old, new = stores(), stores()
    before = await old.acquire(TOPIC, 0)
    after = await new.acquire(TOPIC, 0)
    found = snapshot(config)

    assert after.epoch == before.epoch + 1
    with pytest.raises(Fenced):
        await old.write(before, 3, created(), [LETTER])
    with pytest.raises(Fenced):
        await old.current(before)
    assert snapshot(config) == found

    written = await new.write(after, 3, created(), [])

    assert written.offset == 3


async def test_a_batch_is_written_once_by_the_same_owner(config, stores):
    """After an unknown result the offset tells that it was written."""
    store = stores()
    checkpoint = await store.acquire(TOPIC, 0)
    await store.write(checkpoint, 3, created(), [])
    found = snapshot(config)

    with pytest.raises(Fenced):
        await store.write(checkpoint, 3, created(), [LETTER])
    assert snapshot(config) == found


async def test_of_two_stores_that_race_on_the_same_batch_exactly_one_writes(config, stores):
    """Whether the loser meets the other's transaction or its result: it has written nothing."""
    first, second = stores(), stores()
    results: Counter[str] = Counter()

    async def race(store, checkpoint, offset, name):
        letter = DeadLetter(TOPIC, 0, offset, name, 1, b"")
        try:
            await store.write(checkpoint, offset, created(), [letter])
            results["won"] += 1
        except (Fenced, MongoUnavailable):
            results["lost"] += 1

    await first.acquire(TOPIC, 0)
    checkpoint = await second.acquire(TOPIC, 0)
    rounds = 20
    for offset in range(1, rounds + 1):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(race, first, checkpoint, offset, "first")
            tasks.start_soon(race, second, checkpoint, offset, "second")
        checkpoint = await second.current(checkpoint)

        assert checkpoint.offset == offset

    assert results == {"won": rounds, "lost": rounds}
    assert len(snapshot(config)["dead_letters"]) == rounds


async def test_a_transaction_that_is_cut_off_leaves_nothing(config, stores):
    """A fault between its writes undoes the checkpoint and the documents."""
    store = stores()
    checkpoint = await store.acquire(TOPIC, 0)
    found = snapshot(config)
    too_large = DeadLetter(TOPIC, 0, 8, "too large for a document", 1, bytes(17 * 2**20))

    with pytest.raises(Unwritable, match="Size must be between"):
        await store.write(checkpoint, 3, created(), [too_large])
    assert snapshot(config) == found

    await store.write(checkpoint, 3, created(), [LETTER])

    assert (await store.current(checkpoint)).offset == 3


async def test_a_transaction_that_a_killed_owner_left_open_does_not_hold_up_the_next(config, stores):
    """MongoDB would keep it, and its locks, for a minute."""
    killed, successor = stores(), stores()
    checkpoint = await killed.acquire(TOPIC, 0)
    session = killed._sessions[checkpoint.id]
    session.start_transaction()
    await killed._advance(checkpoint, 3, session)
    started = time.monotonic()
    taken = await successor.acquire(TOPIC, 0)
    written = await successor.write(taken, 2, created(), [])

    assert time.monotonic() - started < 5
    assert (taken.offset, written.offset) == (0, 2)
    with pytest.raises(Fenced):
        await killed.current(checkpoint)


async def test_a_database_that_was_folded_from_another_log_is_refused(config, stores):
    """The message names both logs and says what to do."""
    store = stores()
    await store.check_log(LogCreated(time=1, log="one", partitions=4))
    await store.check_log(LogCreated(time=1, log="one", partitions=4))

    with pytest.raises(LogMismatch, match=r"log two.*folded from log one.*drop the database"):
        await store.check_log(LogCreated(time=2, log="two", partitions=4))


async def test_the_indexes_are_made_by_any_number_of_consumers_at_once(config):
    """Each query that readers run often has one; making them again changes nothing."""
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ensure_indexes, config)
    with MongoClient(config.mongo) as client:
        trials = client[config.database].trials.index_information()

    assert {"hash_1_revision_1", "project_id_1", "group_id_1", "status.name_1_created_1__id_1"} <= trials.keys()


async def test_a_server_that_is_not_there_is_named(config):
    """Address, cause and what to do, after the time that a call may take."""
    store = Store(replace(config, mongo="mongodb://127.0.0.1:9/?replicaSet=trialstream"))
    started = time.monotonic()
    try:
        with pytest.raises(MongoUnavailable, match=r"127\.0\.0\.1:9.*trialstream up"):
            await store.acquire(TOPIC, 0)
    finally:
        store.close()

    assert time.monotonic() - started < 10
