"""`trialstream consume` and `trialstream dead-letters` as commands: messages and exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from service_support import cli, settings
from trialstream.event_log.topics import ensure_topics


async def test_the_list_of_dead_letters_is_empty(config):
    """`dead-letters` on a log without any succeeds and prints one line, or nothing with --json."""
    await ensure_topics(config)
    table, lines = cli(config, "dead-letters"), cli(config, "dead-letters", "--json")

    assert (table.returncode, table.stdout.strip()) == (0, "no dead letters")
    assert (lines.returncode, lines.stdout) == (0, "")


async def test_names_of_trials_are_shown_literally_and_whole(config, consumer):
    """`trials` shows escape sequences and markup of a name as text, on one line that is not cut; JSON has the name."""
    consumer(config)
    name = "\x1b[2J[link=http://x]a[/link]\n" + "long " * 40 + "→"
    async with ts.KafkaProtocol(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))
        table, lines = await run_sync(cli, config, "trials"), await run_sync(cli, config, "trials", "--json")
        narrow = await anyio.run_process(
            [sys.executable, "-m", "trialstream_console.cli", "trials"],
            env={**os.environ, **settings(config), "PYTHONIOENCODING": "ascii"},
            check=False,
        )
    [_, row] = table.stdout.splitlines()

    assert row.strip().startswith(trial.uid)
    assert row.rstrip().endswith(r"\x1b[2J[link=http://x]a[/link]\n" + "long " * 40 + "→")
    assert json.loads(lines.stdout)["name"] == name
    assert narrow.returncode == 0, narrow.stderr
    assert narrow.stdout.rstrip().endswith(b"long ?")


async def test_a_server_that_does_not_answer(config):
    """If a server does not answer, the exit code is 1, and the message has the address and the remedy."""
    no_mongo = replace(config, mongo="mongodb://127.0.0.1:9/?replicaSet=trialstream")
    no_kafka = replace(config, kafka="127.0.0.1:9")
    found = {}

    async def run(name, *arguments):
        found[name] = await run_sync(cli, *arguments)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, "dead-letters without MongoDB", no_mongo, "dead-letters")
        tasks.start_soon(run, "consume without MongoDB", no_mongo, "consume")
        tasks.start_soon(run, "consume without Kafka", no_kafka, "consume")
    for name, done in found.items():
        [*_, last] = done.stderr.splitlines()

        assert (done.returncode, done.stdout) == (1, "")
        assert last.startswith("error: Kafka at 127.0.0.1:9" if "Kafka" in name else "error: MongoDB")
        assert "127.0.0.1:9" in last
        assert "trialstream up" in last
        assert "Traceback" not in done.stderr
        assert "Unclosed" not in done.stderr


@pytest.mark.parametrize("command", ["rebuild", "verify"])
async def test_what_a_replay_waits_for_is_shown(config, command):
    """While MongoDB is away, a replay names it on stderr; a signal then ends it, and stdout stays empty."""
    environment = {**os.environ, **settings(replace(config, mongo="mongodb://ada:pw@127.0.0.1:9/?replicaSet=r"))}
    replay = await anyio.open_process([sys.executable, "-m", "trialstream_console.cli", command], env=environment)
    async with replay:
        shown = await replay.stderr.receive()
        replay.terminate()
        out = b"".join([part async for part in replay.stdout])

    assert shown == b"waiting for MongoDB at 127.0.0.1:9\n"
    assert (replay.returncode, out) == (128 + signal.SIGTERM, b"")


async def test_a_bad_limit_and_a_bad_setting_are_refused(config):
    """The exit code is 2 for a bad option and 1 for a bad setting, without a traceback."""
    limit = cli(config, "dead-letters", "--limit", "0")
    prefix = cli(config, "consume", environment={"TRIALSTREAM_PREFIX": "not.allowed"})

    assert limit.returncode == 2
    assert "--limit" in limit.stderr
    assert prefix.returncode == 1
    assert "error: prefix: expected 1 to 48 letters" in prefix.stderr
    assert "got 'not.allowed'" in prefix.stderr
    assert "Traceback" not in prefix.stderr


@pytest.mark.parametrize("command", ["consume", "trials", "dead-letters", "projections", "rebuild", "verify"])
def test_a_malformed_setting_is_one_message(config, command):
    """A URI that MongoDB's driver refuses ends each command with one message and exit code 1."""
    done = cli(config, command, environment={"TRIALSTREAM_MONGO": "mongodb://ada:hunter2:x@host"})

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: mongo: expected a URI")
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
