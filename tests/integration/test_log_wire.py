"""The log read by foreign tools: single-object Avro that needs nothing but the schemas of the log."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path

import fastavro
import jgo
import pytest
import trialstream as ts
from aiokafka.partitioner import murmur2
from fastavro.schema import fingerprint, to_parsing_canonical_form
from service_load import connected
from service_support import records_of
from trialstream_console.local import binaries

SEPARATOR = b"--- next record ---"


async def write_some(config):
    """Write eleven trials, three of them revisions of one definition, each with events of several kinds."""
    async with connected(config) as protocol:
        project = await protocol.new_project(ts.Project(name="p"))
        group = await protocol.new_trial_group(ts.TrialGroup(name="g", project_id=project.uid))
        trials = [await protocol.new_trial(ts.Trial(name="a"), auto_increment=True) for _ in range(3)]
        trials += [await protocol.new_trial(ts.Trial(name=f"b{i}", group_id=group.uid)) for i in range(8)]
        for trial in trials:
            await protocol.log_trial_start(trial)
            await protocol.log_trial_metrics(trial, step=1, loss=0.5)
            await protocol.log_trial_chrono_start(trial, "epoch")
            await protocol.log_trial_chrono_finish(trial, "epoch")
            await protocol.log_trial_arguments(trial, lr=0.1, layers=[1, {"a": None}])
            await protocol.log_trial_finish(trial)
        claim = [ts.update("set_trial_status", ts.Status.Suspended), ts.update("log_trial_metrics", step=2, loss=0.25)]
        await protocol.fetch_and_update_trial({"uid": trials[0].uid}, updates=claim)
        await protocol.commit()
    return trials


async def published_schemas(config):
    """The schemas of the schemas topic by fingerprint, parsed by fastavro alone."""
    found = {}
    for record in await records_of(config, config.schemas_topic):
        schema = json.loads(record.value)
        key = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))

        assert record.key == key

        found[key] = fastavro.parse_schema(schema)
    return found


def decoded(value, schemas):
    """Return the name and content of a record in single-object encoding."""
    assert value[:2] == b"\xc3\x01"

    schema = schemas[value[2:10]]
    body = io.BytesIO(value[10:])
    content = fastavro.schemaless_reader(body, schema, None)

    assert body.read() == b""

    return schema["name"], content


async def test_every_record_is_decoded_by_fastavro_and_the_schemas_topic_alone(config, consumer):
    """Each value is C3 01, a fingerprint of the schemas topic, and a body up to the end."""
    consumer(config)
    trials = await write_some(config)
    schemas = await published_schemas(config)
    found = [decoded(each.value, schemas) for each in await records_of(config, config.trials_topic)]
    registry = [decoded(each.value, schemas) for each in await records_of(config, config.registry_topic)]

    assert [name.removeprefix("trialstream.") for name, _ in registry] == [
        "LogCreated",
        "ProjectCreated",
        "GroupCreated",
    ]
    assert {name.removeprefix("trialstream.") for name, _ in found} == {
        "TrialCreated",
        "TrialStarted",
        "MetricsLogged",
        "ChronosFinished",
        "ArgumentsLogged",
        "TrialFinished",
        "TrialUpdated",
    }
    [updates] = [content["updates"] for name, content in found if name.endswith("TrialUpdated")]
    assert [decoded(each, schemas)[0] for each in updates] == ["trialstream.StatusSet", "trialstream.MetricsLogged"]
    assert {content["trial"] for name, content in found if name.endswith("MetricsLogged")} == {
        each.uid for each in trials
    }


async def test_murmur2_of_the_hash_gives_the_partition_of_every_event(config, consumer):
    """The key is the hash of the trial, so any client finds the events of a trial."""
    consumer(config)
    trials = await write_some(config)
    schemas = await published_schemas(config)
    records = await records_of(config, config.trials_topic)
    hashes = {each.hash for each in trials}

    assert len({each.uid for each in trials if each.name == "a"}) == 3
    assert {each.key.decode() for each in records} == hashes
    for record in records:
        _, content = decoded(record.value, schemas)

        assert content["trial"].startswith(record.key.decode())
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % config.partitions
    assert len({each.partition for each in records}) > 1
    assert all(each.timestamp_type == 1 for each in records)  # the broker's clock: LogAppendTime


@pytest.mark.timeout(120)
@pytest.mark.slow
async def test_kafkas_own_console_consumer_reads_the_topics(config, consumer, stack):
    """Kafka's console consumer prints single-object Avro without any deserializer."""
    consumer(config)
    await write_some(config)
    schemas = await published_schemas(config)
    for topic in (config.trials_topic, config.registry_topic):
        count = len(await records_of(config, topic))
        values = console_consumer(stack, topic, count)

        assert len(values) == count
        for value in values:
            decoded(value, schemas)


def console_consumer(stack, topic, count):
    """Read a topic with `kafka-console-consumer`, whose jar is not among those of the broker."""
    [tools, *_] = jgo.resolve(f"org.apache.kafka:kafka-tools:{binaries.KAFKA_VERSION}")
    class_path = [Path(tools.resolve()), *stack.kafka.class_path]
    command = [
        binaries.java(),
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-cp",
        os.pathsep.join(map(str, class_path)),
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "--bootstrap-server",
        stack.kafka.address,
        "--topic",
        topic,
        "--from-beginning",
        "--max-messages",
        str(count),
        "--timeout-ms",
        "30000",
        "--formatter-property",
        f"line.separator={SEPARATOR.decode()}",
    ]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    return done.stdout.split(SEPARATOR)[:-1]
