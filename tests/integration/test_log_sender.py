"""The sender: events arrive complete and in order although the broker dies (go-back-N)."""

from __future__ import annotations

import time

import anyio
import pytest
import trialstream as ts
from aiokafka.admin import NewTopic
from anyio.to_thread import run_sync
from service_load import connected
from service_support import admin, records_of, send, until
from trialstream.event_log.topics import ensure_topics
from trialstream.pipeline import sender
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import SubjectEvent

ROWS = 2000


async def test_a_killed_broker_loses_and_reorders_nothing(config, consumer, stack):
    """Log calls neither raise nor wait for a killed broker; no event is missing, counted twice or out of order."""
    service = consumer(config)
    slowest = 0.0
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        logged = 0

        async def log_rows():
            nonlocal logged, slowest
            for i in range(ROWS):
                started = time.perf_counter()
                await protocol.log_trial_metrics(trial, step=i, loss=i / 4)
                if i % 10 == 0:
                    await protocol.add_trial_tags(trial, i=i)
                slowest = max(slowest, time.perf_counter() - started)
                logged += 1
                await anyio.sleep(0.001)

        async def break_the_broker():
            await until(lambda: logged > ROWS * 0.2)
            await run_sync(stack.kafka.kill)
            await until(lambda: logged > ROWS * 0.6)
            await run_sync(stack.kafka.start)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log_rows)
            tasks.start_soon(break_the_broker)
        await protocol.commit("folded", timeout=60)
        [again] = await protocol.fetch_trials({"uid": trial.uid})
        history = await protocol.fetch_metrics(trial, "loss")
        dropped = protocol.statistics().dropped

    assert (again.lost_events, dropped) == (0, 0)
    assert again.state_version == ROWS // 10
    assert again.metrics["loss"].count == ROWS
    assert history["loss"].steps.tolist() == list(range(ROWS))
    assert history["loss"].values.tolist() == [i / 4 for i in range(ROWS)]
    assert slowest < 1.0  # tolerance for a busy machine; the fault suite measures precisely
    assert service.running

    schemas = SchemaStore()
    events = [schemas.decode(each.value) for each in await records_of(config, config.trials_topic)]
    seqs = [each.seq for each in events if isinstance(each, SubjectEvent) and each.seq]
    first_seen = list(dict.fromkeys(seqs))

    assert first_seen == list(range(1, len(first_seen) + 1))


async def test_an_error_of_ours_while_connecting_is_retried(config, consumer, monkeypatch):
    """While the client cannot be made, as when certificates are being replaced, events wait; then they are sent."""
    consumer(config)
    failures = []

    def broken(*_):
        failures.append(1)
        raise ts.ConfigError("kafka_ssl_certfile: the certificate does not match its key")

    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
    async with connected(config) as protocol:
        with monkeypatch.context() as patched:
            patched.setattr(sender, "batch_producer", broken)
            await protocol.add_trial_tags(trial, i=1)
            await until(lambda: len(failures) > 1)
        await protocol.commit("folded")
        [again] = await protocol.fetch_trials({"uid": trial.uid})

    assert again.tags == {"i": 1}


async def test_a_registry_that_begins_with_a_foreign_record_is_refused(config):
    """Topics of another program are no log."""
    async with admin(config) as client:
        await client.create_topics([NewTopic(config.registry_topic, 1, 1)])
    await send(config, [b"no event"], topic=config.registry_topic)
    with pytest.raises(ts.LogMismatch, match=r"/0, offset 0: expected LogCreated, .*not in Avro"):
        await ensure_topics(config)
