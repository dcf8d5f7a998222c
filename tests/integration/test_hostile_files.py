"""Spools and archives that others have planted or damaged, with the real servers: `push` and `import`."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from functools import partial

from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from anyio.to_thread import run_sync
from children import in_child, needs_root, output_of, shared_folder
from service_support import admin, cli, records_of, until, without_notices
from trialstream.event_log.topics import ensure_topics
from trialstream.spool.folder import Spool
from trialstream.spool.segment import SpooledEvent
from trialstream_console.cli import spool as commands
from trialstream_console.local.consumer import environment
from trialstream_consumer.archive import Archive, Selection, export_log, import_archive
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import TagsAdded


def event(number, size=10):
    """Make an event of a trial."""
    values = {"number": number, "text": os.urandom(size // 2).hex()}
    return SpooledEvent("trials", b"a", encode(TagsAdded(trial="a_0", writer="w", time=7, seq=number, values=values)))


def spooled(config, name, *segments):
    """Write a spool with segments of some events each, and return its folder."""
    spool = Spool(config.spools / name, config.prefix, name, 10**9, base=config.spool_folder)
    for each in segments:
        spool.append(each, on_disk=False, segment_bytes=1)
    spool.close()
    return spool.folder


async def values(config):
    """Return the values in the trials topic."""
    return [each.value for each in await records_of(config, config.trials_topic)]


async def test_good_spools_are_sent_and_bad_ones_named(config):
    """A file that is no segment keeps those after it, in its own spool, and no other spool, from being sent."""
    planted = spooled(config, "a", [event(1)], [event(2)], [event(3)])
    (planted / "00000002.avro").unlink()
    (planted / "00000002.avro").symlink_to("/dev/zero")
    fifo = spooled(config, "b", [event(4)])
    (fifo / "00000001.avro").unlink()
    os.mkfifo(fifo / "00000001.avro")
    spooled(config, "c", [event(5)], [event(6)])
    listed = await run_sync(cli, config, "spool")
    pushed = await run_sync(cli, config, "push", config.spool_dir)

    assert [listed.returncode, pushed.returncode] == [1, 1]
    link, pipe = f"{planted}/00000002.avro cannot be read: ", f"{fifo}/00000001.avro cannot be read: "
    assert listed.stderr.splitlines() == [
        f"error: {link}expected a file, got a link",
        f"error: {pipe}expected a file, got a FIFO",
    ]
    rest = "; sent 1 event of the files before it, and all others stay: mend the file, or move it away, and run "
    rest += "the push again"
    assert without_notices(pushed.stderr).splitlines() == [
        f"error: {link}expected a file, got a link{rest}",
        f"error: {pipe}expected a file, got a FIFO",
    ]
    assert pushed.stdout == f"sent 2 events from {config.spools}/c\n"
    assert len(await values(config)) == 3
    assert sorted(each.name for each in planted.iterdir()) == ["00000002.avro", "00000003.avro"]


async def test_an_event_that_no_batch_takes(config):
    """An event larger than any batch of Kafka ends the push of its spool, and of no other one."""
    spooled(config, "a", [event(1), event(2, 1_100_000), event(3)])
    spooled(config, "b", [event(4)])
    pushed = await run_sync(cli, config, "push", config.spool_dir)

    assert pushed.returncode == 1
    [line] = without_notices(pushed.stderr).splitlines()
    assert line.startswith("error: an event of a with 11000")
    assert f"is larger than topic {config.trials_topic} takes" in line
    assert pushed.stdout == f"sent 1 event from {config.spools}/b\n"
    assert len(await values(config)) == 2


async def test_a_refusal_of_the_broker_is_reported_at_once(config):
    """A refusal by the broker for another reason than size ends the push with the reason, in one line."""
    folder = spooled(config, "a", [event(1)])
    await ensure_topics(config)
    settings = {"message.timestamp.type": "CreateTime", "message.timestamp.before.max.ms": "1"}
    async with admin(config) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, config.trials_topic, configs=settings)])
    copy = shutil.copytree(folder, folder.with_name("copy"))
    found = []

    async def refused():
        shutil.copytree(copy, folder, dirs_exist_ok=True)
        found.append(await run_sync(lambda: cli(config, "push", str(folder), seconds=25)))
        return found[-1].returncode == 1

    await until(refused, 60)  # a broker applies a setting some time later

    [line] = without_notices(found[-1].stderr).splitlines()
    assert line == (
        f"error: Kafka at {config.kafka} refuses the events ([Error 32] InvalidTimestampError): those not sent stay in "
        "the spool; run the push again when it takes them"
    )
    assert [each.name for each in folder.iterdir()] == ["00000001.avro"]


@needs_root
async def test_users_push_their_own_spools(config, monkeypatch):
    """Of users who share a folder, each sends the own spool, and names and keeps that of the other one."""
    await ensure_topics(config)
    with shared_folder() as folder:
        config = replace(config, spool_dir=str(folder))
        for name, value in environment(config).items():
            monkeypatch.setenv(name, value)
        users = {uid: folder / f"uid-{uid}" / config.prefix / "w" for uid in (12345, 12346)}
        for number, uid in enumerate(users, 1):
            assert in_child(spooled, config, "w", [event(number)], uid=uid) == users[uid]
        for uid, other in ((12345, 12346), (12346, 12345)):
            push = partial(in_child, output_of, commands.push, [folder], uid=uid)
            out, err, code = await run_sync(push)

            assert (out, code) == (f"sent 1 event from {users[uid]}\n", None)
            assert f"skipped {folder}/uid-{other}: it belongs to the user {other}; include it with" in err
            assert users[other].exists() == (other == 12346)

    assert len(await values(config)) == 2


async def test_records_that_no_batch_takes_do_not_spoil_a_backup(config, tmp_path):
    """A record that is larger than a batch once it is unpacked is left out and counted; the rest is imported."""
    await ensure_topics(config)
    producer = AIOKafkaProducer(**config.kafka_client(), compression_type="gzip", max_request_size=4 * 1024 * 1024)
    await producer.start()
    try:
        for value in (bytes(1_200_000), bytes(1_043_560), bytes(1_043_400), event(1).value):
            await producer.send_and_wait(config.trials_topic, value, key=b"k" * 5000, partition=3)
    finally:
        await producer.stop()
    exported = await export_log(config, tmp_path / "log.avro", Selection(), lambda *_: None)
    other = replace(config, prefix=f"{config.prefix}-b")
    sent = await import_archive(other, Archive.check(tmp_path / "log.avro", lambda *_: None), lambda *_: None)

    assert (exported.records["trials"], exported.damaged, exported.too_large) == (2, 1, 1)
    assert sent == {"registry": 0, "trials": 2, "too large": 0}
    assert [each.partition for each in await records_of(other, other.trials_topic)] == [3, 3]
