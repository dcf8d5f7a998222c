"""Notices of waits on stderr: commands whose servers are away or do not answer."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import trialstream as ts
import trialstream.sync
import warm
from rich.console import Console
from trialstream import waiting
from trialstream.waiting import receive_notices
from trialstream_console.cli import output, progress

SECONDS = 30.0


@pytest.fixture
def closed():
    """A port on which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def silent():
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def first_notice(kafka, mongo, *arguments):
    """Run a command until it writes to stderr, end it, and return that line; stdout stays empty."""
    environment = {
        **os.environ,
        "TRIALSTREAM_KAFKA": f"127.0.0.1:{kafka}",
        "TRIALSTREAM_MONGO": f"mongodb://ada:hunter2@127.0.0.1:{mongo}/?replicaSet=trialstream",
    }
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as out, os.fdopen(reading) as err:
        command = warm.WarmProcess(
            [sys.executable, "-m", "trialstream_console.cli", *map(str, arguments)],
            env=environment,
            cwd=Path.cwd(),
            stdout=out.fileno(),
            stderr=writing,
        )
        os.close(writing)
        line = err.readline()
        command.terminate()
        assert "hunter2" not in err.read()
        command.wait(SECONDS)
        out.seek(0)
        assert out.read() == b""
    return line


@pytest.mark.parametrize(
    "command",
    [
        ["trials"],
        ["dead-letters"],
        ["dead-letters", "--json"],
        ["projections"],
        ["rebuild"],
        ["rebuild", "--until", "2026-07-01"],
        ["verify"],
    ],
    ids=str,
)
def test_mongodb_is_away(closed, command):
    """Commands that first need MongoDB name it while nothing listens there; the notice holds no credentials."""
    assert first_notice(closed, closed, *command) == f"waiting for MongoDB at 127.0.0.1:{closed}\n"


def test_kafka_does_not_answer(closed, silent):
    """Commands that first read the log name Kafka while it does not answer."""
    assert first_notice(silent, closed, "trials", "--lost") == f"waiting for Kafka at 127.0.0.1:{silent}\n"


def test_files_for_a_kafka_that_does_not_answer(closed, silent, tmp_path):
    """Commands that copy between files and the log name Kafka while it does not answer."""
    with trialstream.sync.connect(offline=True, spool_dir=str(tmp_path / "spool")) as protocol:
        protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
    shown = f"waiting for Kafka at 127.0.0.1:{silent}\n"

    assert first_notice(silent, closed, "push", tmp_path / "spool") == shown
    assert first_notice(silent, closed, "export", tmp_path / "log.avro") == shown
    assert not (tmp_path / "log.avro").exists()


def test_the_consumer_logs_what_it_waits_for(closed, silent):
    """The consumer's notice is one of its log events, in JSON."""
    event = json.loads(first_notice(silent, closed, "consume"))

    assert (event["event"], event["level"], event["reason"]) == (
        "waiting",
        "info",
        f"waiting for MongoDB at 127.0.0.1:{closed}",
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_steps_and_spinners(monkeypatch, terminal):
    """Without a terminal a slow step is a notice; on a terminal, the spinner shows it from the beginning."""
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.01)
    texts, received = [], threading.Event()
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal)
    monkeypatch.setattr(progress, "new_console", lambda: console)
    with receive_notices(lambda text: (texts.append(text), received.set())):
        with progress.Steps(console) as steps:
            steps("Starting Kafka", "")
            assert received.wait(0.1 if terminal else SECONDS) is not terminal
            steps("Starting Kafka", "1 of 2")
            received.clear()
            steps("Starting the consumer", "")
            assert received.wait(0.1 if terminal else SECONDS) is not terminal
        received.clear()
        with progress.spinner("Stopping"):
            assert received.wait(0.1 if terminal else SECONDS) is not terminal

    assert texts == ([] if terminal else ["Starting Kafka", "Starting the consumer", "Stopping"])
    assert "Starting Kafka" in screen.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_step_is_named_and_not_the_waits_in_it(monkeypatch, terminal):
    """While topics are created, it is not said that Kafka is waited for; waits after the steps give notices again."""
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.01)
    texts, received = [], threading.Event()
    console = Console(file=io.StringIO(), force_terminal=terminal)
    monkeypatch.setattr(progress, "new_console", lambda: console)
    with receive_notices(lambda text: (texts.append(text), received.set())):
        with progress.Steps(console) as steps:
            steps("Creating topics", "")
            with waiting.waiting_for("Kafka"):
                assert received.wait(0.1 if terminal else SECONDS) is not terminal
                threading.Event().wait(0.1)
        with progress.spinner("Stopping"), waiting.waiting_for("MongoDB"):
            threading.Event().wait(0.1)
        received.clear()
        with waiting.waiting_for("a consumer"):
            assert received.wait(SECONDS)

    steps_alone = [] if terminal else ["Creating topics", "Stopping"]
    assert texts == [*steps_alone, "waiting for a consumer"]


def test_notices_are_literal(capsys):
    """A notice is one line on stderr, with control characters as escapes."""
    output.say_notice("a\x1b[2J\nb")

    assert capsys.readouterr() == ("", "a\\x1b[2J\\nb\n")


@pytest.mark.parametrize(
    ("uri", "hosts"),
    [
        ("mongodb://127.0.0.1:27017/?replicaSet=trialstream", "127.0.0.1:27017"),
        ("mongodb://ada:p%40w@a:1,b:2", "a:1,b:2"),
        ("mongodb+srv://ada:pw@cluster.example/db?x=a@b/c", "cluster.example"),
        ("mongodb://[::1]?x=a@b", "[::1]"),
    ],
)
def test_hosts_of_mongodb(uri, hosts):
    """The hosts of a URI are shown without user, password, database and options."""
    assert ts.Config(mongo=uri).mongo_hosts == hosts
