"""The examples: each runs as a script on the real servers, as its docstring says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import trialstream as ts
import trialstream.sync
from service_support import cli

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.usefixtures("environment")


def run(name: str, *arguments: str, folder: Path) -> str:
    """Run an example, and return the last line that it prints."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)

    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1]


def test_an_asyncio_service_with_instrumented_handlers(tmp_path):
    """Each request is measured, failures are counted, and concurrent requests do not mix."""
    found = re.fullmatch(
        r"200 answers, 200 handled, 4 failed, at most (\d+) at the same time", run("service", folder=tmp_path)
    )

    assert found is not None
    assert int(found[1]) > 1


@pytest.mark.timeout(180)
def test_data_parallel_training_that_loses_a_rank(tmp_path):
    """A killed rank makes all restart from the checkpoint; the trial is one, and its line has each step once."""
    last = run("data_parallel", folder=tmp_path)
    found = re.search(r"Completed after 2 attempts; 4 ranks of 60 steps, .* (\d+) rows superseded$", last)

    assert found is not None, last
    assert 30 <= int(found[1]) <= 40  # ten steps of four ranks, and what the killed processes had not sent


def test_a_script_without_servers_is_pushed_later(served, tmp_path):
    """An offline run is on disk, and `trialstream push` sends all of it."""
    last = run("offline", folder=tmp_path)

    assert re.fullmatch(r"\d+ events on disk, 0 dropped, 0 errors", last)
    assert "sent" in cli(served, "push", str(tmp_path / "trialstream-spool")).stdout


def test_a_metric_is_recomputed_from_the_log(served, tmp_path):
    """An archive of the log gives the metrics without the database."""
    run("service", folder=tmp_path)
    cli(served, "export", str(tmp_path / "log.avro"))
    last = run("replay", str(tmp_path / "log.avro"), folder=tmp_path)

    assert "points)" in last


def test_the_runs_of_a_project_are_followed(served, tmp_path):
    """A program that is started again goes on where it was left."""
    with trialstream.sync.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix) as protocol:
        protocol.new_project(ts.Project(name="followed"))
        trial = protocol.new_trial(ts.Trial(name="t", project_id="followed"))
        protocol.log_trial_metrics(trial, step=0, loss=0.5)
        protocol.commit()

        assert run("follow", "followed", "position", "--once", folder=tmp_path) == "3 events, 1 rows"

        protocol.log_trial_metrics(trial, step=1, loss=0.25)
        protocol.commit()

        assert run("follow", "followed", "position", "--once", folder=tmp_path) == "1 events, 1 rows"
