"""Transactions of other programs in the topics: what is committed counts, markers and aborted records are no losses."""

from __future__ import annotations

import dataclasses
import json
import uuid
from contextlib import asynccontextmanager

import anyio
import pytest
import trialstream as ts
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from anyio.to_thread import run_sync
from service_load import connected
from service_support import (
    admin,
    caught_up,
    checkpoints,
    cli,
    differences,
    ends_of,
    log_entries,
    records_of,
    snapshot,
    until,
)
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import ensure_topics, partition_of
from trialstream.event_log.trial_events import TrialEvents
from trialstream_consumer.archive import Archive, Selection, export_log, exporting, import_archive
from trialstream_consumer.replay import replay
from trialstream_consumer.replay.rebuild import rebuild, rebuild_until
from trialstream_consumer.replay.verify import verify
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import TagsAdded, TrialEvent
from trialstream_schemas.wire.schemas import fingerprint


def ignore(*_):
    """Ignore progress and differences."""


@asynccontextmanager
async def transactions(config):
    """Open a producer of transactions."""
    producer = AIOKafkaProducer(**config.kafka_client(), transactional_id=f"{config.prefix}-{uuid.uuid4().hex}")
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def tagged(trial, seq, **tags):
    """Encode an event by a writer that is no Protocol."""
    return encode(TagsAdded(trial=trial.uid, writer="by-hand", seq=seq, time=1_700_000_000_000_000, values=tags))


@dataclasses.dataclass
class Place:
    """A trial, and how to write events of it by hand."""

    config: ts.Config
    trial: ts.Trial
    partition: int

    async def send(self, producer, seq, **tags):
        """Send an event of the trial."""
        key = self.trial.hash.encode()
        event = tagged(self.trial, seq, **tags)
        await producer.send_and_wait(self.config.trials_topic, event, key=key, partition=self.partition)

    async def transact(self, producer, seq, abort, **tags):
        """Send an event in a transaction."""
        await producer.begin_transaction()
        await self.send(producer, seq, **tags)
        await (producer.abort_transaction() if abort else producer.commit_transaction())


async def new_place(config, protocol):
    """Create a trial."""
    trial = await protocol.new_trial(ts.Trial(name="t"))
    return Place(config, trial, partition_of(trial.hash.encode(), config.partitions))


async def without_differences(config):
    """Whether the documents are those of the log."""
    found = []
    await verify(config, found.append, ignore)
    return found == []


async def test_committed_events_are_folded_and_aborted_ones_are_not(config, consumer, tmp_path):
    """All parts read a log with markers to its end, which is a marker: the service, waits, replays, archives."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol, transactions(config) as one, transactions(config) as other:
        place = await new_place(config, protocol)
        await place.transact(one, 1, abort=False, first=1)
        await place.transact(one, 2, abort=True, aborted=1)
        await other.begin_transaction()
        await place.send(other, 3, second=1)
        await protocol.add_trial_tags(place.trial, between=1)
        await protocol.commit("acked")
        await place.transact(one, 4, abort=True, aborted=2)
        await other.commit_transaction()
        for partition in range(config.partitions):
            await one.begin_transaction()
            await one.send_and_wait(config.trials_topic, b"aborted", partition=partition)
            await one.abort_transaction()
        with anyio.fail_after(10):
            [trial] = await protocol.fetch_trials({"uid": place.trial.uid}, latest=True)
        await caught_up(config)
        before = snapshot(config)
        read = await records_of(config, config.trials_topic)
        async with TrialEvents(config, place.trial.uid, None, 10) as events:
            of_trial = await events.read()

        assert trial.tags == {"first": 1, "second": 1, "between": 1}
        assert [each.values for each in of_trial if isinstance(each, TagsAdded)] == [
            {"first": 1},
            {"second": 1},
            {"between": 1},
        ]
        assert before["dead_letters"] == {}
        ends = await ends_of(config, config.trials_topic)
        assert sum(ends.values()) > len(read)  # markers
        assert service.running
        assert await without_differences(config)

        await rebuild(config, ignore)

        assert differences(before, snapshot(config)) == []
        assert (await protocol.fetch_trials({"uid": trial.uid}, latest=True))[0].tags == trial.tags

    file = tmp_path / "log.avro"
    exported = await export_log(config, file, Selection(), ignore)
    archive = Archive.check(file, ignore)
    copied = dataclasses.replace(config, prefix=f"copied-{uuid.uuid4().hex[:12]}")
    await import_archive(copied, archive, ignore)
    await rebuild(copied, ignore)

    assert exported.records["trials"] == archive.records - exported.records["registry"] == 4
    assert exported.damaged == 0
    assert snapshot(copied)["trials"] == snapshot(config)["trials"]


async def test_a_restarted_consumer_continues_behind_markers(config, consumer):
    """Checkpoints are behind markers; the next consumer starts there, and a log that lost its end is still refused."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol, transactions(config) as producer:
        place = await new_place(config, protocol)
        await place.transact(producer, 1, abort=True, aborted=1)
        await caught_up(config)
        await run_sync(service.stop)
        await place.transact(producer, 2, abort=False, committed=1)
        await run_sync(service.start)
        with anyio.fail_after(20):
            [trial] = await protocol.fetch_trials({"uid": place.trial.uid}, latest=True)

    assert trial.tags == {"committed": 1}


async def test_an_open_transaction(config, consumer, tmp_path, monkeypatch):
    """While a transaction is open, what needs the events after its beginning says so; what does not goes on."""
    await run_sync(consumer, config)
    monkeypatch.setattr(exporting, "_WAIT_SECONDS", 0.3)
    monkeypatch.setattr(replay, "_SILENT_SECONDS", 0.3)
    async with connected(config) as protocol, transactions(config) as producer:
        place = await new_place(config, protocol)
        await protocol.commit("folded")
        offset = checkpoints(config)[f"{config.trials_topic}/{place.partition}"]
        await producer.begin_transaction()
        await place.send(producer, 1, late=1)
        await protocol.add_trial_tags(place.trial, behind=1)
        await protocol.commit("acked")

        protocol._session.timeout = 0.5
        for read in (protocol.commit("folded"), protocol.fetch_trials(latest=True)):
            with pytest.raises(ts.ProjectionBehind, match=rf"at offset {offset} of {offset + 2}.*transaction"):
                await read
        message = (
            rf"{config.trials_topic}/{place.partition}: a transaction of another program is open, so offset {offset} "
        )
        with pytest.raises(ts.KafkaUnavailable, match=message):
            await export_log(config, tmp_path / "log.avro", Selection(), ignore)
        with pytest.raises(ts.KafkaUnavailable, match=message):
            await rebuild_until(config, "later", 2**41, ignore)
        async with TrialEvents(config, place.trial.uid, None, 0.3) as events:
            with pytest.raises(ts.KafkaUnavailable, match=message):
                await events.read()
            await rebuild(config, ignore)
            assert await without_differences(config)
            await producer.commit_transaction()
            protocol._session.timeout = 20
            [trial] = await protocol.fetch_trials({"uid": place.trial.uid}, latest=True)
            assert [each.seq for each in await events.read() if isinstance(each, TrialEvent) and each.seq] != []
        await export_log(config, tmp_path / "log.avro", Selection(), ignore)

    assert trial.tags == {"late": 1, "behind": 1}
    assert await without_differences(config)


@pytest.mark.slow
async def test_a_transaction_that_stays_open_is_logged(config, consumer):
    """After ten seconds the consumer names the partition and the offset."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol, transactions(config) as producer:
        place = await new_place(config, protocol)
        await protocol.commit("folded")
        offset = checkpoints(config)[f"{config.trials_topic}/{place.partition}"]
        await producer.begin_transaction()
        await place.send(producer, 1, late=1)
        await until(lambda: bool(log_entries(service, "held_up")), 40)
        await producer.abort_transaction()
        await protocol.fetch_trials(latest=True)

    [line] = log_entries(service, "held_up")

    assert f"{config.trials_topic}/{place.partition}: " in line["reason"]
    assert f"offset {offset} " in line["reason"]


async def test_schemas_are_read_whatever_transactions_do(config):
    """A schema that is published behind the beginning of a transaction is found, whether it is open or aborted."""
    await ensure_topics(config)
    schema = b'{"type": "record", "name": "Later", "fields": [{"name": "a", "type": "long"}]}'
    async with transactions(config) as producer, SchemaTopic(config) as topic:
        await producer.begin_transaction()
        await producer.send_and_wait(config.schemas_topic, b"no schema", key=b"k")
        async with SchemaTopic(config) as other:
            assert other.texts.keys() == topic.texts.keys()
        await producer.send_and_wait(config.schemas_topic, schema, key=fingerprint(json.loads(schema)))
        await topic.refresh()
        await producer.abort_transaction()
        await topic.refresh()

    assert schema in topic.texts.values()


async def test_a_registry_that_begins_with_an_aborted_transaction(config, consumer):
    """The identity of the log is the first record that counts."""
    async with admin(config) as client:
        await client.create_topics([NewTopic(config.registry_topic, 1, 1)])
    async with transactions(config) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(config.registry_topic, b"aborted", partition=0)
        await producer.abort_transaction()
    log = await ensure_topics(config)
    await run_sync(consumer, config)
    async with connected(config) as protocol:
        await protocol.new_project(ts.Project(name="p"))
        [project] = await protocol.fetch_projects(latest=True)

    assert await ensure_topics(config) == log
    assert project.name == "p"
    assert cli(config, "verify").returncode == 0
