"""The store and its ownership on the real MongoDB: one transaction per batch, and fencing."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import anyio
import pytest
from pymongo import MongoClient
from service_support import place, snapshot
from trialstream.reading.paths import TRIAL_FIELDS
from trialstream.reading.sorting import sort_keys
from trialstream_consumer.fold import State, fold
from trialstream_consumer.projection.client import Connection, Unwritable
from trialstream_consumer.projection.dead_letters import DeadLetter
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_consumer.projection.store import Store
from trialstream_schemas.errors import ConfigError, Fenced, LogMismatch, MongoUnavailable
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.storage.documents import trial_to_document
from trialstream_schemas.wire.events import LogCreated, MetricsLogged, TrialCreated

TOPIC = "t.trials"
HASH = "0" * 32


@pytest.fixture
async def stores(config):
    """Make stores of the same database, each with a connection of its own."""
    connections = []
    await ensure_indexes(config)

    def make() -> Store:
        connections.append(Connection(config))
        return Store(connections[-1], place(config))

    yield make
    for each in connections:
        each.close()


def created() -> State:
    """Return the state after the creation of a trial and a frame of its metrics."""
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
    """One transaction writes the trial, its history, the outcome, the dead letter and the new offset."""
    store = stores()
    checkpoint = await store.ownership.acquire(TOPIC, 0)
    written = await store.write(checkpoint, 3, created(), [LETTER])
    found = snapshot(config)

    assert (checkpoint.offset, written.offset, written.epoch) == (0, 3, checkpoint.epoch)
    assert {name: len(each) for name, each in found.items()} == {
        "trials": 1,
        "series": 1,
        "outlines": 0,
        "outcomes": 1,
        "dead_letters": 1,
        "groups": 0,
        "projects": 0,
        "checkpoints": 1,
    }
    assert (await store.ownership.current(written)).offset == 3


async def test_a_store_whose_partition_was_taken_over_writes_nothing(config, stores):
    """The epoch fences the previous owner, at its next batch and when it reads the checkpoint."""
    old, new = stores(), stores()
    before = await old.ownership.acquire(TOPIC, 0)
    after = await new.ownership.acquire(TOPIC, 0)
    found = snapshot(config)

    assert after.epoch == before.epoch + 1
    with pytest.raises(Fenced):
        await old.write(before, 3, created(), [LETTER])
    with pytest.raises(Fenced):
        await old.ownership.current(before)
    assert snapshot(config) == found

    written = await new.write(after, 3, created(), [])

    assert written.offset == 3


async def test_a_batch_is_written_once_by_the_same_owner(config, stores):
    """A second write of the batch is fenced by the offset, so the checkpoint shows whether the first one succeeded."""
    store = stores()
    checkpoint = await store.ownership.acquire(TOPIC, 0)
    await store.write(checkpoint, 3, created(), [])
    found = snapshot(config)

    with pytest.raises(Fenced):
        await store.write(checkpoint, 3, created(), [LETTER])
    assert snapshot(config) == found


async def test_of_two_stores_that_race_on_the_same_batch_exactly_one_writes(config, stores):
    """The loser meets the winner's transaction or its result, and writes nothing in either case."""
    first, second = stores(), stores()
    results: Counter[str] = Counter()

    async def race(store, checkpoint, offset, name):
        letter = DeadLetter(TOPIC, 0, offset, name, 1, b"")
        try:
            await store.write(checkpoint, offset, created(), [letter])
            results["won"] += 1
        except (Fenced, MongoUnavailable):
            results["lost"] += 1

    await first.ownership.acquire(TOPIC, 0)
    checkpoint = await second.ownership.acquire(TOPIC, 0)
    rounds = 20
    for offset in range(1, rounds + 1):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(race, first, checkpoint, offset, "first")
            tasks.start_soon(race, second, checkpoint, offset, "second")
        checkpoint = await second.ownership.current(checkpoint)

        assert checkpoint.offset == offset

    assert results == {"won": rounds, "lost": rounds}
    assert len(snapshot(config)["dead_letters"]) == rounds


async def test_a_transaction_that_is_cut_off_leaves_nothing(config, stores):
    """An error between the writes of a transaction undoes the checkpoint and the documents."""
    store = stores()
    checkpoint = await store.ownership.acquire(TOPIC, 0)
    found = snapshot(config)
    too_large = DeadLetter(TOPIC, 0, 8, "too large for a document", 1, bytes(17 * 2**20))

    with pytest.raises(Unwritable, match="Size must be between"):
        await store.write(checkpoint, 3, created(), [too_large])
    assert snapshot(config) == found

    await store.write(checkpoint, 3, created(), [LETTER])

    assert (await store.ownership.current(checkpoint)).offset == 3


async def test_a_transaction_that_a_killed_owner_left_open_does_not_hold_up_the_next(config, stores):
    """The successor ends the transaction, which MongoDB would keep with its locks for a minute."""
    killed, successor = stores(), stores()
    checkpoint = await killed.ownership.acquire(TOPIC, 0)
    session = killed.ownership._sessions[checkpoint.id]
    session.start_transaction()
    await killed.ownership._advance(checkpoint, 3, session)
    started = time.monotonic()
    taken = await successor.ownership.acquire(TOPIC, 0)
    written = await successor.write(taken, 2, created(), [])

    assert time.monotonic() - started < 5
    assert (taken.offset, written.offset) == (0, 2)
    with pytest.raises(Fenced):
        await killed.ownership.current(checkpoint)


async def test_a_database_that_was_folded_from_another_log_is_refused(config, stores):
    """The message names both logs and the remedy."""
    store = stores()
    await store.ownership.check_log(LogCreated(time=1, log="one", partitions=4))
    await store.ownership.check_log(LogCreated(time=1, log="one", partitions=4))

    with pytest.raises(LogMismatch, match=r"log two.*folded from log one.*drop database"):
        await store.ownership.check_log(LogCreated(time=2, log="two", partitions=4))


async def test_the_indexes_are_made_by_any_number_of_consumers_at_once(config):
    """Each frequent query of readers has an index; creating the indexes again changes nothing."""
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ensure_indexes, config)
    with MongoClient(config.mongo) as client:
        trials = client[config.database].trials.index_information()

    assert {"hash_1_revision_1", "project_id_1", "group_id_1", "status.name_1_created_1__id_1"} <= trials.keys()


async def test_the_indexes_of_the_setting(config):
    """Queries and descending sorts by the paths of the setting use indexes, in each projection that is opened."""
    chosen = replace(config, indexes=r"parameters, tags,metrics.loss.last,parameters.a\.b")
    for namespace in (place(config), place(config, "1")):
        await ensure_indexes(chosen, namespace)
        await ensure_indexes(chosen, namespace)
    with MongoClient(config.mongo) as client:
        trials = client[config.database]["trials~1"]
        trials.insert_one(
            trial_to_document(Trial(name="a", parameters={"lr": 0.1, "a.b": [1, {"c": 2}]}, tags={"": 1}))
        )
        for filter_, sort in (
            ({"parameters.lr": 0.1}, "created"),
            ({"parameters.a%2Eb": 1}, "created"),
            ({"parameters.a%2Eb.c": 2}, "created"),
            ({"tags.%": {"$gt": 0}}, "created"),
            ({}, "-metrics.loss.last"),
        ):
            found = trials.find(filter_, sort=sort_keys(sort, TRIAL_FIELDS))
            plan = str(found.explain()["queryPlanner"]["winningPlan"])
            assert len(list(found)) == 1
            assert "IXSCAN" in plan
            assert sort == "created" or "'SORT'" not in plan


async def test_an_index_of_an_unknown_field(config):
    """A path of the setting `indexes` that does not exist is an error that names the setting and the field."""
    with pytest.raises(ConfigError, match=r"indexes: 'metrcs\.loss': there is no field 'metrcs', did you"):
        await ensure_indexes(replace(config, indexes="parameters,metrcs.loss"))


async def test_a_missing_server_is_named(config):
    """The error names the address, the cause and the remedy, within the time limit of a call."""
    connection = Connection(replace(config, mongo="mongodb://127.0.0.1:9/?replicaSet=trialstream"))
    started = time.monotonic()
    try:
        with pytest.raises(MongoUnavailable, match=r"127\.0\.0\.1:9.*trialstream up"):
            await Store(connection, place(config)).ownership.acquire(TOPIC, 0)
    finally:
        connection.close()

    assert time.monotonic() - started < 10
