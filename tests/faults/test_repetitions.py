"""Repeated events, and events of different writers in another order."""

from __future__ import annotations

import random
from dataclasses import replace

from oracle import check, check_documents, read_log, read_view
from service_support import caught_up, records_of, send, snapshot
from trialstream_schemas.wire.events import SubjectEvent, TrialCreated
from writers import load


async def test_repetitions_change_no_document(config, consumer):
    """Stretches of the log that are sent again, as after a resend or an import, change no document."""
    dice = random.Random(3)
    service = consumer(config)
    async with load(config, writers=3, claims=4) as running:
        await running.grow(400)
    before = await check(config, running.journals)
    documents = snapshot(config)
    for topic in (config.trials_topic, config.registry_topic):
        records = await records_of(config, topic)
        for partition in {each.partition for each in records}:
            values = [each.value for each in records if each.partition == partition]
            for _ in range(3):
                start = dice.randrange(len(values))
                await send(config, values[start : start + dice.randint(1, 50)], topic=topic, partition=partition)
    after = await check(config, running.journals)
    again = snapshot(config)

    assert after.duplicated > before.duplicated == 0
    assert after.calls == before.calls
    assert {**again, "checkpoints": None} == {**documents, "checkpoints": None}
    assert service.running


async def test_events_of_different_writers_may_change_places(config, consumer):
    """With the order kept per writer and changed across writers, each trial has the same data of each writer.

    Data of several writers, such as which of two rows comes first in a history, follows the log. So trials of a single
    writer are compared as a whole; of the trials that all share, the marks and sums are compared.
    """
    dice = random.Random(5)
    consumer(config)
    async with load(config, writers=3) as running:
        await running.grow(300)
    await check(config, running.journals)
    log = await records_of(config, config.trials_topic)
    events = {(each.topic, each.partition, each.offset): each.event for each in await read_log(config)}
    first = read_view(config)

    other = replace(config, prefix=f"{config.prefix}-other")
    consumer(other)
    for partition in {each.partition for each in log}:
        here = [each for each in log if each.partition == partition]
        by_writer: dict[str, list[bytes]] = {}
        created = []
        for each in here:
            event = events[each.topic, each.partition, each.offset]
            assert isinstance(event, SubjectEvent)
            (created if isinstance(event, TrialCreated) else by_writer.setdefault(event.writer, [])).append(each.value)
        turns = [writer for writer, values in by_writer.items() for _ in values]
        dice.shuffle(turns)
        shuffled = [*created, *(by_writer[writer].pop(0) for writer in turns)]
        await send(other, shuffled, partition=partition)
    await caught_up(other)
    check_documents(await read_log(other), read_view(other))
    second = read_view(other)
    shared = running.trials[0].uid

    assert first.documents["trials"].keys() == second.documents["trials"].keys()
    for uid in first.documents["trials"].keys() - {shared}:
        assert first.documents["trials"][uid] == second.documents["trials"][uid]
    assert _marks(first, shared) == _marks(second, shared)


def _marks(view, uid):
    import bson

    trial = bson.decode(view.documents["trials"][uid])
    counts = {name: (each["count"], each["sum"]) for name, each in trial["metrics"].items()}
    return trial["writers"], trial["lost_events"], trial["rows"], counts
