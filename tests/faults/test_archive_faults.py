"""Export while the broker dies, and export ended by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial

import pytest
from anyio.to_thread import run_sync
from service_support import paused, send, until, without_notices
from trialstream.event_log.topics import ensure_topics
from trialstream_console.local.consumer import environment
from trialstream_consumer.archive import Archive, Selection, export_log
from trialstream_schemas.errors import KafkaUnavailable


def ignore(*_):
    """Ignore progress."""


async def some_log(config):
    """Write records to each partition and return the number of records of the log."""
    await ensure_topics(config)
    for partition in range(config.partitions):
        await send(config, [b"no event"] * 3, partition=partition)
    return 1 + 3 * config.partitions


@pytest.mark.slow
async def test_an_export_during_which_the_broker_dies_raises_and_leaves_no_file(config, stack, tmp_path, monkeypatch):
    """An export fails and leaves no file when the broker dies; once the broker is back, it writes the whole log."""
    records = await some_log(config)

    def kill(step, *_):
        if step == "writing" and stack.kafka.running:
            stack.kafka.kill()

    with monkeypatch.context() as patch, pytest.raises(KafkaUnavailable):
        patch.setattr("trialstream_consumer.archive.exporting._WAIT_SECONDS", 2.0)
        await export_log(config, tmp_path / "log.avro", Selection(), kill)

    assert list(tmp_path.iterdir()) == []

    await run_sync(stack.kafka.start)
    await export_log(config, tmp_path / "log.avro", Selection(), ignore)

    assert Archive.check(tmp_path / "log.avro", ignore).records == records


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_export_that_is_ended_by_a_signal_leaves_no_file(config, stack, tmp_path, number):
    """An export ended by a signal leaves no file, and its exit code is 128 plus the number of the signal."""
    await ensure_topics(config)
    for partition in range(config.partitions):  # compressing them takes a second
        await send(config, [os.urandom(900_000)] * 10, partition=partition)
    command = [sys.executable, "-m", "trialstream_console.cli", "export", str(tmp_path / "log.avro")]
    env = {**os.environ, **environment(config)}
    process = await run_sync(partial(subprocess.Popen, command, env=env, stderr=subprocess.PIPE))
    try:
        await until(lambda: (tmp_path / "log.avro.partial").exists() or process.poll() is not None)
        with paused(stack.kafka):
            process.send_signal(number)
            _, said = await run_sync(partial(process.communicate, timeout=10))
    finally:
        process.kill()

    assert (process.returncode, without_notices(said.decode())) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []
