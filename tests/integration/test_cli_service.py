"""`trialstream consume` and `trialstream dead-letters` as commands: messages and exit codes."""

from __future__ import annotations

from dataclasses import replace

import anyio
from anyio.to_thread import run_sync
from service_support import cli
from trialstream.log.topics import ensure_topics


async def test_the_list_of_dead_letters_is_empty(config):
    """`dead-letters` on a log without any succeeds and prints one line, or nothing with --json."""
    await ensure_topics(config)
    table, lines = cli(config, "dead-letters"), cli(config, "dead-letters", "--json")

    assert (table.returncode, table.stdout.strip()) == (0, "no dead letters")
    assert (lines.returncode, lines.stdout) == (0, "")


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
