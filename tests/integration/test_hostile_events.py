"""Events that are well formed but hostile: they become dead letters, and harm no other trial, project or group.

Whoever may write events of one trial can harm that trial's data and nothing else. Raw producers write what no protocol
would; a consumer folds it, with the events of others before, beside and behind it, and is started again behind it.
"""

from __future__ import annotations

import bson
import pytest
import trialstream as ts
from aiokafka import AIOKafkaProducer
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_load import connected
from service_support import (
    caught_up,
    cli,
    collections,
    differences,
    live,
    log_entries,
    place,
    send,
    snapshot,
    until,
)
from test_consumer_dead_letters import frame, partition_of
from test_consumer_rebuild import write_all
from trialstream.event_log.topics import ensure_topics
from trialstream.event_log.trial_events import TrialEvents
from trialstream.kafka.creations import request_of_run
from trialstream_consumer import worker
from trialstream_consumer.fold import Needs, State, updates
from trialstream_consumer.projection.client import Connection, Unwritable
from trialstream_consumer.projection.dead_letters import DeadLetter
from trialstream_consumer.projection.store import Oversized, Store
from trialstream_consumer.replay.rebuild import rebuild
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import encode

MIB = 1024 * 1024
LONG = "x" * 700_000
MAX_LINE = 32 * 1024


async def send_compressed(config, values, *, topic="", partition=0):
    """Write raw records as one compressed batch, whose records may be larger together than a batch may be."""
    producer = AIOKafkaProducer(
        **config.kafka_client(),
        acks="all",
        compression_type="gzip",
        max_batch_size=128 * MIB,
        max_request_size=128 * MIB,
    )
    await producer.start()
    try:
        batch = producer.create_batch()
        for each in values:
            assert batch.append(key=None, value=each, timestamp=None)
        await (await producer.send_batch(batch, topic or config.trials_topic, partition=partition))
    finally:
        await producer.stop()


def in_batches(values, size):
    """Return the values in lists of a size at which a batch is unpacked: it has less than 16 MiB."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def dead_letters(config):
    """Return the dead letters in the order of the log."""
    with MongoClient(config.mongo) as client:
        letters = collections(client, live(config))["dead_letters"]
        return list(letters.find({}, sort=[("topic", 1), ("partition", 1), ("offset", 1)]))


def outcome_of(config, trial):
    """Return the outcome of the creation of a trial."""
    with MongoClient(config.mongo) as client:
        return collections(client, live(config))["outcomes"].find_one({"uid": trial.uid, "copy_of": None})


def restart(service):
    """Stop a consumer and start it again."""
    service.stop()
    service.start()


async def test_ids_of_any_length_do_not_stop_a_consumer(config, consumer):
    """Events with ids of 700 KB, and their neighbours, are dead letters with short reasons; good ones are folded."""
    service = consumer(config)
    given = {"writer": "w", "time": 1}
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        partition = partition_of(config, trial)
        own = {"trial": trial.uid, **given}
        hostile = [
            *(e.Heartbeat(trial=f"{i}{LONG}", seq=1, **given) for i in range(25)),
            *(e.Heartbeat(trial=f"{trial.hash}~{i}{LONG}", seq=1, **given) for i in range(25)),
            *(e.Heartbeat(**own | {"writer": f"{i}{LONG}"}, seq=1) for i in range(5)),
            *(e.Heartbeat(**own, request=f"{i}{LONG}") for i in range(25)),
            e.TagsAdded(**own, seq=1, values={LONG: 1}),
            e.MetadataLogged(**own, seq=2, values={LONG: 1}, aggregator=frame(trial).aggregator),
            e.TrialStarted(**own, seq=3, attempt=LONG),
            e.TrialStarted(**own, seq=4, attempt="a", host=LONG),
            e.ChronoStarted(**own, seq=5, name=LONG, aggregator=frame(trial).aggregator),
            e.TrialAttached(**own, seq=6, project_id=LONG),
            e.StatusSet(**own, seq=7, status=e.StatusRecord(LONG, 1)),
            frame(trial, seq=1, names=[LONG]),
            frame(trial, seq=2, aggregator=e.AggregatorSpec(LONG)),
        ]
        registry = [
            *(e.ProjectCreated(project=f"{i}{LONG}", name="p", request=f"p{i}", **given) for i in range(25)),
            e.GroupCreated(group="g", name="g", project_id=LONG, request="g", **given),
            e.GroupMetadataSet(group=LONG, seq=1, values={}, **given),
        ]
        for some in in_batches(hostile, 20):
            await send_compressed(config, map(encode, some), partition=partition)
        for some in in_batches(registry, 20):
            await send_compressed(config, map(encode, some), topic=config.registry_topic)
        await send(config, [encode(frame(trial, seq=3))], partition=partition)
        await caught_up(config)
        await run_sync(restart, service)
        await protocol.add_trial_tags(trial, after=True)
        [found] = await protocol.fetch_trials({"uid": trial.uid}, latest=True)

    letters = dead_letters(config)
    assert len(letters) == len(hostile) + len(registry)
    assert max(len(each["reason"]) for each in letters) <= 2000
    assert found.tags == {"after": True}
    assert found.metrics["loss"].count == 1
    assert found.lost_events == 0
    assert max(map(len, service.log.read_text().splitlines())) <= MAX_LINE
    assert len(bson.encode(outcome_of(config, trial))) < 1000


async def test_many_large_records_are_dead_letters_in_bounded_batches(config, consumer):
    """64 records of a MiB in small compressed batches become dead letters, and few lines of the log."""
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        for some in in_batches([b"\xc3\x01" + bytes(MIB)] * 64, 13):
            await send_compressed(config, some, partition=partition_of(config, trial))
        await send_compressed(config, [b"no event"] * 2000, partition=partition_of(config, trial))
        await protocol.add_trial_tags(trial, after=True)
        [found] = await protocol.fetch_trials({"uid": trial.uid}, latest=True)

    assert found.tags == {"after": True}
    with MongoClient(config.mongo) as client:
        assert client[config.database].dead_letters.count_documents({}) == 64 + 2000
    await until(lambda: sum(each["count"] for each in log_entries(service, "more_dead_letters")) >= 1000)
    assert len(service.log.read_text()) < MIB


async def test_requests_of_others_are_of_no_use(config, consumer):
    """Events with the request of another trial change nothing of it, nor of its outcomes, whoever comes first."""
    service = consumer(config)
    first = ts.Trial(name="to be")
    taken = request_of_run("run", first)
    async with connected(config) as protocol:
        victim = await protocol.new_trial(ts.Trial(name="victim"))
        project = await protocol.new_project(ts.Project(name="p"))
        group = await protocol.new_trial_group(ts.TrialGroup(name="g"))
        trials = [await protocol.new_trial(ts.Trial(name="attacker", parameters={"n": n})) for n in range(8)]
        attacker = next(each for each in trials if partition_of(config, each) != partition_of(config, victim))
        await protocol.set_trial_status(victim, ts.Status.Running)
        await protocol.commit("folded")
        request = outcome_of(config, victim)["_id"].partition("~")[2]
        before = snapshot(config)
        given = {"writer": protocol.writer if hasattr(protocol, "writer") else "w", "time": 1}
        own = {"trial": f"{attacker.hash}~{request}", **given}
        definition = {"name": "t", "parameters": {}, "auto_increment": True}
        forged = [
            e.StatusSet(**own, seq=1, status=e.StatusRecord("Broken", 203)),
            frame(victim, trial=own["trial"]),
            frame(victim, trial=f"{attacker.hash}~{victim.uid}"),
            e.StatusSet(**own | {"trial": attacker.uid}, request=request, status=e.StatusRecord("Broken", 203)),
            e.TrialCreated(**own, request=request, **definition),
            e.StatusSet(**own, seq=1, status=e.StatusRecord("Broken", 203)),
            e.TrialCreated(**own | {"trial": f"{attacker.hash}~{taken}"}, request=taken, **definition),
        ]
        await send(config, map(encode, forged), partition=partition_of(config, attacker))
        registry = [
            e.ProjectCreated(project=victim.uid, name=victim.uid, request=request, **given),
            e.ProjectCreated(project=first.hash, name=first.hash, request=taken, **given),
            e.GroupMetadataSet(group=group.uid, values={"a": 1}, request=taken, **given),
        ]
        await send(config, map(encode, registry), topic=config.registry_topic)
        await caught_up(config)
        await run_sync(restart, service)
        created = await protocol.new_trial(first, run_id="run")
        again = await protocol.new_trial(first, run_id="run")
        claimed = await protocol.fetch_and_update_trial({"uid": victim.uid}, "set_trial_status", ts.Status.Completed)
        await caught_up(config)
    after = snapshot(config)
    verified = await run_sync(lambda: cli(config, "verify"))

    assert created.uid == again.uid == f"{first.hash}_0"
    assert (claimed.uid, claimed.status) == (victim.uid, ts.Status.Completed)
    for collection, unchanged in before.items():
        for id_, raw in unchanged.items():
            if id_ not in (victim.uid, attacker.uid, group.uid) and collection != "checkpoints":
                assert after[collection][id_] == raw
    assert bson.decode(after["trials"][attacker.uid])["status"]["name"] == "Broken"
    assert project.uid in after["projects"]
    assert len(dead_letters(config)) == 3
    assert verified.returncode == 0, verified.stdout


async def test_outcomes_of_an_earlier_version_are_found(config, consumer):
    """A creation whose outcome is stored under its request alone is decided, for the fold and for readers."""
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await protocol.commit("folded")
        await run_sync(service.stop)
        request = outcome_of(config, trial)["_id"].partition("~")[2]
        with MongoClient(config.mongo) as client:
            outcomes = client[config.database].outcomes
            outcomes.delete_many({})
            outcomes.insert_one({"_id": request, "uid": trial.uid, "applied": True, "reason": None})
        own = {"trial": f"{trial.hash}~{request}", "writer": "w", "time": 1}
        events = [
            e.TrialCreated(**own, request=request, name="t", parameters={}, auto_increment=True),
            frame(trial, trial=own["trial"]),
        ]
        await send(config, map(encode, events), partition=partition_of(config, trial))
        await run_sync(service.start)
        undecided = ts.Trial(name="t", created=trial.created, request=request)
        history = await protocol.fetch_metrics(undecided, "loss", latest=True)
        found = await protocol.fetch_trials({"name": "t"})
    async with connected_to_read(config) as reader:
        seen = await reader.fetch_metrics(undecided, "loss")

    assert [each.uid for each in found] == [trial.uid]
    assert history["loss"].values.tolist() == seen["loss"].values.tolist() == [0.5]
    assert dead_letters(config) == []


async def test_a_reader_of_one_trials_events_passes_over_the_records_of_others(config):
    """Records under the key of a trial that are no events, which anybody may write, do not end the reading."""
    await ensure_topics(config)
    trial = ts.Trial(name="t", hash="a" * 32)
    records = [
        b"garbage",
        b"\xc3\x01" + b"\x11" * 8,
        encode(frame(trial)),
        b"\xc3\x01" + b"\x22" * 8,
        encode(frame(trial, 2)),
    ]
    await send(config, records, partition=partition_of(config, trial), key=trial.hash.encode())
    async with TrialEvents(config, trial.uid, None, 10.0) as events:
        found = await events.read()

    assert [each.seq for each in found] == [1, 2]


def connected_to_read(config):
    """Return a protocol that only reads."""
    return ts.connect(mongo=config.mongo, prefix=config.prefix, read_only=True)


async def test_writers_of_an_earlier_version_find_outcomes_by_their_request(config, consumer):
    """The outcome of a request of their form is stored under it, too."""
    consumer(config)
    trial = ts.Trial(name="earlier")
    request = "0123456789abcdef01234567"
    event = e.TrialCreated(
        trial=f"{trial.hash}~{request}", writer="w", time=1, request=request, name="earlier", parameters={},
        auto_increment=False,
    )  # fmt: skip
    async with connected(config):
        await send(config, [encode(event)], partition=partition_of(config, trial))
        await caught_up(config)
    with MongoClient(config.mongo) as client:
        copy = client[config.database].outcomes.find_one({"_id": request})
    verified = await run_sync(lambda: cli(config, "verify"))

    assert (copy["uid"], copy["applied"], copy["reason"]) == (f"{trial.hash}_0", True, None)
    assert verified.returncode == 0, verified.stdout


@pytest.fixture
def store(config):
    """A store of an empty projection."""
    connection = Connection(config)
    yield Store(connection, place(config))
    connection.close()


@pytest.mark.parametrize(
    "needs",
    [
        pytest.param(Needs(trials={"\ud800_0"}), id="lone surrogate"),
        pytest.param(Needs(groups={"g" * (17 * MIB)}), id="one id too large for a request"),
    ],
)
async def test_what_mongodb_cannot_be_asked_for_is_one_error(store, needs):
    """A query that cannot be encoded raises the error by which a worker isolates the event, with a short message."""
    with pytest.raises(Unwritable) as error:
        await store.load(State(), needs)

    assert len(str(error.value)) <= 2100


async def test_many_long_ids_are_asked_for_in_pieces(store):
    """Ids that are larger together than a request of MongoDB are loaded, in every collection."""
    ids = {f"{i:06}" + "x" * 1000 for i in range(17_000)}
    state = State()
    await store.load(state, Needs(trials=ids, groups=ids, hashes=ids, outcomes={f"{each}~r" for each in ids}))

    assert set(state.trials.values()) == set(state.groups.values()) == set(state.outcomes.values()) == {None}
    assert set(state.revisions.values()) == {0}


@pytest.mark.parametrize(
    "letter",
    [
        pytest.param(DeadLetter("t", 0, 1, "\ud800", 1, b""), id="lone surrogate"),
        pytest.param(DeadLetter("t", 0, 1, "reason", 1 << 70, b""), id="integer beyond 64 bits"),
        pytest.param(DeadLetter("t", 0, 1, "reason", 1, bytes(17 * MIB)), id="too large"),
        pytest.param(DeadLetter("t", 0, 1, "reason", 1, object()), id="no value"),
    ],
)
async def test_what_mongodb_cannot_store_is_one_error(store, letter):
    """A document that cannot be encoded, or is too large, raises that error too, with a short message."""
    checkpoint = await store.ownership.acquire("t", 0)
    with pytest.raises(Unwritable) as error:
        await store.write(checkpoint, 1, State(), [letter])

    assert len(str(error.value)) <= 2100


async def test_documents_that_are_too_large_together(config, consumer, store):
    """A load of more documents than fit is refused, with the share that fits."""
    consumer(config)
    async with connected(config) as protocol:
        trials = [
            await protocol.new_trial(ts.Trial(name="t", parameters={"n": n, "text": "x" * 10_000})) for n in range(10)
        ]
    with pytest.raises(Oversized) as error:
        await store.load(State(), Needs(trials={each.uid for each in trials}), 100_000)

    assert 0.3 < error.value.share < 0.7
    assert await store.load(State(), Needs(trials={each.uid for each in trials})) > 100_000


async def test_one_event_that_cannot_be_written_is_one_dead_letter(config, consumer, monkeypatch):
    """A batch is halved down to the event whose document BSON cannot hold; all others are folded."""
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
    await run_sync(service.stop)
    given = {"trial": trial.uid, "writer": "w", "time": 1}
    events = [e.TagsAdded(**given, seq=seq, values={f"k{seq}": seq}) for seq in range(1, 101)]
    await send(config, map(encode, events), partition=partition_of(config, trial))
    apply = updates._apply_to_trial

    def faulty(state, folded, event):
        apply(state, folded, event)
        if event.seq == 50:
            folded.tags["huge"] = 1 << 70

    monkeypatch.setattr(updates, "_apply_to_trial", faulty)
    rebuilt = await rebuild(config, lambda *_: None)
    with MongoClient(config.mongo) as client:
        [letter] = collections(client, rebuilt.namespace)["dead_letters"].find()
        document = collections(client, rebuilt.namespace)["trials"].find_one({"_id": trial.uid})

    assert letter["value"] == encode(events[49])
    assert "cannot take" in letter["reason"]
    assert sorted(document["tags"]) == sorted(f"k{seq}" for seq in range(1, 101) if seq != 50)


async def test_bounds_of_batches_and_states_change_no_document(config, consumer, monkeypatch):
    """With batches of a few KB, and states that are dropped again and again, a rebuild makes the same documents."""
    consumer(config)
    await write_all(config)
    await caught_up(config)
    before = snapshot(config)
    monkeypatch.setattr(worker, "_BATCH_BYTES", 2000)
    monkeypatch.setattr(worker, "_CHECKED_RECORDS", 1)
    monkeypatch.setattr(worker, "_CACHED_BYTES", 5000)
    monkeypatch.setattr(worker, "_LOADED_BYTES", 5000)
    rebuilt = await rebuild(config, lambda *_: None)

    assert differences(before, snapshot(config, rebuilt.namespace)) == []
