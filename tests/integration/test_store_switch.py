"""The switch between projections on the real MongoDB: no order of events allows a write into the old one."""

from __future__ import annotations

import anyio
import pytest
from service_support import live, place, projections, snapshot
from test_store import LETTER, TOPIC, created
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_consumer.projection.ownership import live_namespace
from trialstream_consumer.projection.store import Store
from trialstream_schemas.errors import Fenced

PARTITIONS = [(TOPIC, 0), (TOPIC, 1)]


@pytest.fixture
async def connection(config):
    """The connection of a rebuild."""
    made = Connection(config)
    yield made
    made.close()


@pytest.fixture
async def elsewhere(config):
    """The connection of a consumer in another process."""
    made = Connection(config)
    yield made
    made.close()


@pytest.fixture
async def stores(config, connection):
    """Stores of the live projection and of the rebuilt one."""
    rebuilt = place(config, "1")
    await ensure_indexes(config)
    await ensure_indexes(config, rebuilt)
    return Store(connection, place(config)), Store(connection, rebuilt, live=False)


@pytest.fixture
def member(config, elsewhere):
    """A store of the live projection in another process."""
    return Store(elsewhere, place(config))


async def reached(store):
    """Take over all partitions of a projection that is rebuilt; return the checkpoints."""
    return [await store.ownership.acquire(*each) for each in PARTITIONS]


async def test_after_the_switch_no_consumer_writes_into_the_old_projection(config, stores, member, elsewhere):
    """Owners of its partitions and later takeovers are fenced; the new projection continues at its own checkpoints."""
    old, new = stores
    before = await member.ownership.acquire(TOPIC, 0)
    [first, second] = await reached(new)
    first = await new.write(first, 3, created(), [LETTER])

    assert await old.ownership.switch(await old.ownership.hold(PARTITIONS), new.namespace, [first, second])
    assert await live_namespace(elsewhere) == live(config) == new.namespace
    with pytest.raises(Fenced):
        await member.write(before, 3, created(), [])
    with pytest.raises(Fenced, match="switched"):
        await member.ownership.acquire(TOPIC, 0)
    with pytest.raises(Fenced):  # the switch ended the rebuild's own ownership too
        await new.write(first, 4, created(), [])
    with pytest.raises(Fenced, match="switched"):
        await new.ownership.acquire(TOPIC, 0)

    moved = Store(elsewhere, new.namespace)
    taken = await moved.ownership.acquire(TOPIC, 0)

    assert taken.offset == 3
    assert (await moved.write(taken, 4, created(), [])).offset == 4
    assert snapshot(config, place(config))["trials"] == {}


async def test_a_consumer_that_takes_over_before_the_switch_makes_it_fail(config, stores, member):
    """A takeover before the switch makes it fail, since the consumer may fold events that the new projection lacks."""
    old, new = stores
    checkpoints = await reached(new)
    held = await old.ownership.hold(PARTITIONS)
    taken = await member.ownership.acquire(TOPIC, 1)

    assert not await old.ownership.switch(held, new.namespace, checkpoints)
    assert live(config) == place(config)
    assert (await member.write(taken, 3, created(), [LETTER])).offset == 3
    assert await old.ownership.switch(await old.ownership.hold(PARTITIONS), new.namespace, checkpoints)


async def test_a_projection_that_another_rebuild_took_over_is_not_switched_to(config, stores, connection):
    """The switch finds another epoch than its own in the new projection."""
    old, new = stores
    checkpoints = await reached(new)
    await Store(connection, new.namespace, live=False).ownership.acquire(TOPIC, 1)

    with pytest.raises(Fenced, match="another rebuild"):
        await old.ownership.switch(await old.ownership.hold(PARTITIONS), new.namespace, checkpoints)
    assert live(config) == place(config)


async def test_in_a_race_of_a_switch_and_a_consumer_exactly_one_succeeds(stores, member):
    """Either the consumer writes and nothing is switched, or the consumer is fenced: never both, never neither."""
    old, new = stores
    for _ in range(30):
        checkpoints = await reached(new)
        held = await old.ownership.hold(PARTITIONS)
        results = {}

        async def switch(held=held, checkpoints=checkpoints, results=results):
            results["switched"] = await old.ownership.switch(held, new.namespace, checkpoints)

        async def fold(results=results):
            try:
                taken = await member.ownership.acquire(TOPIC, 0)
                await member.write(taken, taken.offset + 1, created(), [])
                results["written"] = True
            except Fenced:
                results["written"] = False

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(switch)
            tasks.start_soon(fold)

        assert results["written"] != results["switched"]

        if results["switched"]:
            break


async def test_a_late_consumer_does_not_recreate_a_dropped_projection(config, stores, member, elsewhere):
    """The consumer is fenced, and writes no document."""
    old, new = stores
    before = await member.ownership.acquire(TOPIC, 0)
    await old.ownership.switch(await old.ownership.hold(PARTITIONS), new.namespace, await reached(new))
    for collection in ("trials", "checkpoints", "outcomes", "series"):
        await elsewhere.collections(place(config))[collection].drop()
    with pytest.raises(Fenced):
        await member.write(before, 3, created(), [LETTER])
    with pytest.raises(Fenced):
        await member.ownership.current(before)

    assert new.namespace in projections(config)
    assert snapshot(config, place(config))["trials"] == {}
