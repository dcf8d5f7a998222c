"""Imports of runs of other trackers: exactly once, whatever happens, and what comes with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import anyio
import pytest
import trialstream as ts
from service_support import cli, settings
from trialstream.imports import Columns, SourceRun, csv_run, import_runs, jsonl_run
from trialstream.imports.runs import End, Row, Stream

MICROS = 1_700_000_000_000_000


class Interrupt(Exception):
    """An import is interrupted."""


def source_run(source, rows, **fields):
    """Return a run whose only stream has `rows` rows."""

    def read():
        for i in range(rows):
            yield Row(i, MICROS + i, {"loss": float(i), "acc": i / 2} if i % 3 else {"loss": float(i)}, i + 1)

    return SourceRun(source, source, MICROS, streams=[Stream("rows", rows, read)], **fields)


@pytest.fixture
def source():
    """Id of a run that is new on the log."""
    return f"test:{uuid.uuid4().hex}"


async def found(protocol, source):
    """Return the only trial of a source run, and its history."""
    [trial] = await protocol.fetch_trials({"metadata.imported.source": source}, latest=True)
    return trial, await protocol.fetch_metrics(trial)


def check_rows(trial, histories, rows):
    """Check that each row is in the history once, in order, with its step and time."""
    assert histories["loss"].steps.tolist() == histories["loss"].values.tolist() == list(range(rows))
    assert histories["loss"].times.astype(int).tolist() == [MICROS + i for i in range(rows)]
    assert histories["acc"].steps.tolist() == [i for i in range(rows) if i % 3]
    assert (trial.rows, trial.lost_events) == (rows, 0)


async def test_a_run_becomes_a_trial(served, protocol, source):
    """Its parameters, tags, metadata, times and end are those of the source."""
    run = source_run(
        source,
        10,
        parameters={"lr": 0.1, "bad": 2**70},
        tags={"a.b": "x"},
        metadata={"host": "h"},
        description="text",
        end=End(MICROS + 5_000_000, error="it failed"),
    )
    [done] = await import_runs(served, [run], project=f"project {source}", group="g")
    trial, histories = await found(protocol, source)

    check_rows(trial, histories, 10)
    assert (done.uid, done.rows, done.new, done.error) == (trial.uid, 10, 10, None)
    assert done.left_out == {"parameters: values that cannot be stored": 1}
    assert (trial.name, trial.parameters, trial.tags) == (source, {"lr": 0.1}, {"a.b": "x"})
    assert (trial.metadata["host"], trial.description) == ("h", "text")
    assert trial.project_id == f"project {source}"
    assert trial.group_id == ts.TrialGroup(name="g", project_id=trial.project_id).uid
    assert trial.status is ts.Status.Exception
    assert [error.message for error in trial.errors] == ["it failed"]
    assert trial.created == trial.started
    assert trial.chronos["runtime"].sum == 5.0
    assert (trial.last_seen, trial.starts) == (trial.finished, 1)


async def test_an_import_that_is_repeated_changes_nothing(served, protocol, source):
    """The second import sends no event of the trial."""
    run = source_run(source, 10, parameters={"lr": 0.1}, end=End(MICROS))
    await import_runs(served, [run])
    before, _ = await found(protocol, source)
    [again] = await import_runs(served, [source_run(source, 10, parameters={"lr": 0.1}, end=End(MICROS))])
    after, _ = await found(protocol, source)

    assert (again.rows, again.new) == (10, 0)
    assert before == after


async def test_a_run_that_has_grown_gets_its_new_rows(served, protocol, source):
    """A live run is imported again and again; what has changed beside the rows is merged."""
    await import_runs(served, [source_run(source, 7, parameters={"lr": 0.1})])
    running, _ = await found(protocol, source)
    [done] = await import_runs(served, [source_run(source, 20, parameters={"lr": 0.1, "n": 1}, end=End(MICROS + 9))])
    trial, histories = await found(protocol, source)

    check_rows(trial, histories, 20)
    assert (done.rows, done.new) == (20, 13)
    assert (running.status, trial.status) == (ts.Status.Running, ts.Status.Completed)
    assert trial.parameters == {"lr": 0.1, "n": 1}
    assert trial.starts == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # aiokafka's cancelled connections
async def test_interrupted_imports_add_up(served, protocol, source):
    """Each import goes on where the one before was interrupted, wherever that was."""
    rows = 5000
    for end in (0, 1000, 2000, 4000):

        def interrupt(_step, done, _total, end=end):
            if done > end:
                raise Interrupt

        with pytest.raises(Interrupt):
            await import_runs(served, [source_run(source, rows, end=End(MICROS))], progress=interrupt)
    await import_runs(served, [source_run(source, rows, end=End(MICROS))])
    trial, histories = await found(protocol, source)

    check_rows(trial, histories, rows)
    assert trial.status is ts.Status.Completed


async def test_imports_at_the_same_time_are_one(served, protocol, source):
    """Several processes import the same run, of which each sees another length: each row is there once."""
    async with anyio.create_task_group() as tasks:
        for rows in (500, 2000, 2500, 2500):
            tasks.start_soon(import_runs, served, [source_run(source, rows, end=End(MICROS))])
    trial, histories = await found(protocol, source)

    check_rows(trial, histories, 2500)
    assert (trial.starts, trial.chronos["runtime"].count) == (1, 1)


@pytest.mark.parametrize("rows", [5, 15], ids=["shorter", "other values"])
async def test_a_source_that_was_changed_is_refused(served, protocol, source, rows):
    """The log keeps what it has, the report names the run, and other runs are imported."""
    await import_runs(served, [source_run(source, 10)])
    changed = source_run(source, rows)
    if rows > 10:
        read = changed.streams[0].rows
        changed.streams[0].rows = lambda: (row._replace(values={"loss": 9.0}) for row in read())
    other = f"{source}-other"
    refused, fine = await import_runs(served, [changed, source_run(other, 3)])
    trial, histories = await found(protocol, source)

    check_rows(trial, histories, 10)
    assert "expected the 10 rows that were imported before" in refused.error
    assert (fine.error, fine.new) == (None, 3)


async def test_rows_within_the_bounds_of_the_log(served, protocol, source):
    """A wide row is cut into rows of the same step; what cannot be stored is counted."""
    wide = {f"{'n' * 1000}{i}": float(i) for i in range(300)}
    given = [
        Row(1, MICROS, wide, 1),
        Row(2**70, MICROS, {"a": 1.0}, 2),
        Row(1, 2**63 - 1, {"a": 1.0}, 3),
        Row(1, MICROS, {"x" * 2000: 1.0, "a\0": 1.0, "b": 2.0}, 4),
        Row("text", MICROS, {"b": 3.0}, 5),
        Row(0.5, MICROS, {"b": 4.0}, 6),
        Row(None, MICROS, {"b": 5.0}, 7),
    ]
    run = SourceRun(source, source, MICROS, streams=[Stream("rows", 7, lambda: iter(given))])
    [done] = await import_runs(served, [run])
    _, histories = await found(protocol, source)

    assert {name: each.values.tolist() for name, each in histories.items() if name in wide} == {
        name: [value] for name, value in wide.items()
    }
    assert histories["b"].steps.tolist() == [1, "text", 0.5, None]
    assert done.left_out == {
        "rows whose step or time cannot be stored": 2,
        "metrics whose name cannot be stored": 2,
    }


def test_the_command_reports_what_it_did(served, environment, tmp_path):
    """One line for each run, or one JSON object; an error is a message and the exit code 1."""
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 1, "loss": 0.5, "note": "x"}\n')
    first = cli(served, "import-from", "jsonl", str(path), "--step", "step", "--name", "mine", "--json")
    second = cli(served, "import-from", "jsonl", str(path), "--step", "step", "--name", "mine")
    path.write_text('{"step": 2, "loss": 0.5}\n')
    third = cli(served, "import-from", "jsonl", str(path), "--step", "step", "--name", "mine")

    report = json.loads(first.stdout)
    assert (report["name"], report["rows"], report["new"]) == ("mine", 1, 1)
    assert report["left_out"] == {"values of 'note' that are no numbers": 1}
    assert second.stdout == (
        f"mine: 0 of 1 row is new, trial {report['uid']}; left out values of 'note' that are no numbers (1)\n"
    )
    assert third.returncode == 1
    assert third.stderr.startswith("error: jsonl:")
    assert "Traceback" not in third.stderr


async def test_files_of_lines(served, protocol, tmp_path):
    """CSV and JSONL files become trials."""
    (tmp_path / "a.csv").write_text("epoch,loss\n0,0.5\n1,0.25\n")
    (tmp_path / "b.jsonl").write_text('{"epoch": 0, "val": {"loss": 0.5}}\n')
    columns = Columns(step="epoch")
    runs = [csv_run(tmp_path / "a.csv", columns), jsonl_run(tmp_path / "b.jsonl", columns)]
    first, second = await import_runs(served, runs)
    histories = await protocol.fetch_histories(await protocol.fetch_trials({"uid": {"$in": [first.uid, second.uid]}}))

    assert histories[first.uid]["loss"].values.tolist() == [0.5, 0.25]
    assert histories[second.uid]["val/loss"].steps.tolist() == [0]


async def test_a_killed_command_is_run_again(served, protocol, tmp_path):
    """`kill -9` in the middle of an import, three times: each row is in the log once."""
    path, rows = tmp_path / "run.csv", 20_000
    path.write_text("step,loss\n" + "".join(f"{i},{i}\n" for i in range(rows)))
    command = [sys.executable, "-m", "trialstream_console.cli", "import-from", "csv", str(path), "--step", "step"]
    environment = {**os.environ, **settings(served)}
    seen = killed = 0
    for _ in range(3):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: ASYNC220 (takes milliseconds)
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            trials = await protocol.fetch_trials({"name": "run.csv", "metadata.imported.source": f"csv:{path}"})
            if trials and trials[0].rows > seen:
                seen = trials[0].rows
                process.send_signal(signal.SIGKILL)
            await anyio.sleep(0.01)
        killed += process.wait(30) == -signal.SIGKILL
    done = cli(served, "import-from", "csv", str(path), "--step", "step", "--json")
    trial, histories = await found(protocol, f"csv:{path}")

    assert done.returncode == 0, done.stderr
    assert killed
    assert histories["loss"].steps.tolist() == list(range(rows))
    assert (trial.rows, trial.lost_events) == (rows, 0)
