"""The switch from one projection to another on the real MongoDB: whoever comes when, nobody writes into the old one."""

from __future__ import annotations

import anyio
import pytest
from service_support import databases, live, snapshot
from test_store import LETTER, TOPIC, created
from trialstream_consumer.projection.store import Store, ensure_indexes
from trialstream_schemas.errors import Fenced

PARTITIONS = [(TOPIC, 0), (TOPIC, 1)]


@pytest.fixture
async def stores(config):
    """Stores of the live projection and of the one to come."""
    made = Store(config)
    await ensure_indexes(config)
    await ensure_indexes(config, f"{config.prefix}~1")
    yield made, made.of(f"{config.prefix}~1", live=False)
    made.close()


async def reached(store):
    """The checkpoints of a projection that somebody folds outside of the group."""
    return [await store.acquire(*each) for each in PARTITIONS]


async def test_after_the_switch_nobody_writes_into_the_old_projection(config, stores):
    """Neither who has a checkpoint of it nor who takes one now; the new one is taken over at its own checkpoints."""
    old, new = stores
    consumer = Store(config)
    before = await consumer.acquire(TOPIC, 0)
    [first, second] = await reached(new)
    first = await new.write(first, 3, created(), [LETTER])

    assert await old.switch(await old.hold(PARTITIONS), new.database, [first, second])
    assert await consumer.live() == live(config) == new.database
    with pytest.raises(Fenced):
        await consumer.write(before, 3, created(), [])
    with pytest.raises(Fenced, match="switched"):
        await consumer.acquire(TOPIC, 0)
    with pytest.raises(Fenced):  # who built it has given it away
        await new.write(first, 4, created(), [])
    with pytest.raises(Fenced, match="switched"):
        await new.acquire(TOPIC, 0)

    moved = consumer.of(new.database)
    taken = await moved.acquire(TOPIC, 0)

    assert taken.offset == 3
    assert (await moved.write(taken, 4, created(), [])).offset == 4
    assert snapshot(config, config.prefix)["trials"] == {}
    consumer.close()


async def test_a_consumer_that_comes_between_goes_on_and_nothing_is_switched(config, stores):
    """It has folded what the new projection may not have."""
    old, new = stores
    checkpoints = await reached(new)
    held = await old.hold(PARTITIONS)
    consumer = Store(config)
    taken = await consumer.acquire(TOPIC, 1)

    assert not await old.switch(held, new.database, checkpoints)
    assert live(config) == config.prefix
    assert (await consumer.write(taken, 3, created(), [LETTER])).offset == 3
    assert await old.switch(await old.hold(PARTITIONS), new.database, checkpoints)
    consumer.close()


async def test_a_projection_that_another_rebuild_took_over_is_not_switched_to(config, stores):
    """Its checkpoints are not known any more."""
    old, new = stores
    checkpoints = await reached(new)
    await new.of(new.database, live=False).acquire(TOPIC, 1)

    with pytest.raises(Fenced, match="another rebuild"):
        await old.switch(await old.hold(PARTITIONS), new.database, checkpoints)
    assert live(config) == config.prefix


async def test_of_a_switch_and_a_consumer_that_race_one_has_come_first(config, stores):
    """Either the consumer writes and nothing is switched, or it is fenced: never both, never neither."""
    old, new = stores
    consumer = Store(config)
    for _ in range(30):
        checkpoints = await reached(new)
        held = await old.hold(PARTITIONS)
        results = {}

        async def switch(held=held, checkpoints=checkpoints, results=results):
            results["switched"] = await old.switch(held, new.database, checkpoints)

        async def fold(results=results):
            try:
                taken = await consumer.acquire(TOPIC, 0)
                await consumer.write(taken, taken.offset + 1, created(), [])
                results["written"] = True
            except Fenced:
                results["written"] = False

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(switch)
            tasks.start_soon(fold)

        assert results["written"] != results["switched"]

        if results["switched"]:
            break
    consumer.close()


async def test_a_projection_that_is_gone_does_not_come_back_by_a_consumer_that_is_late(config, stores):
    """It looks at the pointer, and writes nothing that matters."""
    old, new = stores
    late = Store(config)
    before = await late.acquire(TOPIC, 0)
    await old.switch(await old.hold(PARTITIONS), new.database, await reached(new))
    for collection in ("trials", "checkpoints", "outcomes", "series"):
        await late._database.drop_collection(collection)
    with pytest.raises(Fenced):
        await late.write(before, 3, created(), [LETTER])
    with pytest.raises(Fenced):
        await late.current(before)

    assert new.database in databases(config)
    assert snapshot(config, config.prefix)["trials"] == {}
    late.close()
