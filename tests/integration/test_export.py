"""Exports of a query: Parquet, CSV and event files of TensorBoard."""

from __future__ import annotations

import csv
import math

import pytest
import trialstream as ts
from contract import connected
from service_support import cli
from trialstream.export import export_csv, export_parquet, export_tensorboard
from trialstream.imports import import_runs, tensorboard_runs

TRIALS = 130  # more than a page


@pytest.fixture(scope="module")
async def exported_query(protocol):
    """Trials with metrics of all kinds of steps, and a query that finds them."""
    name = "exported"
    for i in range(TRIALS):
        trial = await protocol.new_trial(ts.Trial(name=name, parameters={"i": i, "opt": {"lr": 0.1}}), True, wait=False)
        await protocol.log_trial_metrics(trial, step=i, loss=i / 2)
    await protocol.log_trial_metrics(trial, step=1.5, loss=math.nan)
    await protocol.log_trial_metrics(trial, step="last", loss=math.inf, other=1.0)
    await protocol.log_trial_metrics(trial, aggregator=ts.StatAggregator.lazy(), plain=3.0)
    await protocol.log_trial_finish(trial, ValueError, ValueError("x"))
    await protocol.commit("folded")
    return {"name": name}


async def test_csv_has_all_trials_and_all_values(protocol, exported_query, tmp_path):
    """Trials in pages, metrics in the long form; the files are complete, and nothing else is left in the folder."""
    found = await export_csv(protocol, exported_query, tmp_path / "new")
    with (tmp_path / "new" / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    with (tmp_path / "new" / "metrics.csv").open(newline="") as file:
        metrics = list(csv.DictReader(file))

    assert (found.trials, found.values) == (len(trials), len(metrics)) == (TRIALS, TRIALS + 3)
    assert sorted(int(each["parameters.i"]) for each in trials) == list(range(TRIALS))
    assert {each["parameters.opt.lr"] for each in trials} == {"0.1"}
    [last] = [each for each in trials if each["error_message"]]
    assert (last["status"], last["error_type"], last["metrics.plain.sum"]) == ("Exception", "ValueError", "3.0")
    rows = [each for each in metrics if each["trial"] == last["uid"]]
    assert [(each["name"], each["step"], each["step_text"], each["value"]) for each in rows] == [
        ("loss", "129.0", "", "64.5"),
        ("loss", "1.5", "", "nan"),
        ("loss", "", "last", "inf"),
        ("other", "", "last", "1.0"),
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["metrics.csv", "trials.csv"]


async def test_parquet_has_all_trials_and_all_values(protocol, exported_query, tmp_path):
    """The same in Parquet, with types."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install trialstream[export]")
    found = await export_parquet(protocol, exported_query, tmp_path)
    trials = parquet.read_table(tmp_path / "trials.parquet").to_pylist()
    metrics = parquet.read_table(tmp_path / "metrics.parquet").to_pylist()

    assert (found.trials, found.values) == (len(trials), len(metrics)) == (TRIALS, TRIALS + 3)
    assert sorted(each["parameters.i"] for each in trials) == list(range(TRIALS))
    assert sum(each["metrics.other.last"] == 1.0 for each in trials) == 1
    assert [each["value"] for each in metrics if each["step_text"] == "last"] == [math.inf, 1.0]
    assert all(each["created"].tzinfo is not None for each in trials)


async def test_no_trials_are_empty_files(protocol, tmp_path):
    """A query without results has files with the fixed columns."""
    assert await export_csv(protocol, {"name": "nothing of this name"}, tmp_path) == (0, 0)
    assert (tmp_path / "trials.csv").read_text().startswith("uid,name,version")


async def test_a_folder_that_is_a_file_is_refused(protocol, tmp_path):
    """The message names it."""
    (tmp_path / "file").touch()
    with pytest.raises(ts.InvalidValue, match=r"folder: expected a folder, got .*file"):
        await export_csv(protocol, {}, tmp_path / "file")


async def test_event_files_come_back(served, protocol, exported_query, tmp_path):
    """Metrics exported for TensorBoard are imported again with the same steps, times and values."""
    query = exported_query | {"parameters.i": {"$lt": 3}}
    written = await export_tensorboard(protocol, query, tmp_path)
    imported = await import_runs(served, tensorboard_runs(tmp_path))

    assert written == {each.name: 1 for each in imported}
    for each in imported:
        async with connected(served) as other:
            [original, copy] = await other.fetch_trials({"uid": {"$in": [each.name, each.uid]}}, sort="created")
            found = await other.fetch_histories([original, copy], "loss")
        before, after = found[each.name]["loss"], found[each.uid]["loss"]
        assert before.steps.tolist() == after.steps.tolist()
        assert before.values.tolist() == after.values.tolist()
        assert abs((before.times - after.times).astype(int)).max() <= 1  # seconds as a double


async def test_the_command_exports(served, protocol, exported_query, tmp_path):
    """`trialstream export-to csv FOLDER --trial UID` writes one trial."""
    [trial] = await protocol.fetch_trials(exported_query, limit=1)
    done = cli(served, "export-to", "csv", str(tmp_path), "--trial", trial.uid)

    assert (done.returncode, done.stdout) == (0, f"exported 1 trial with 1 value of metrics to {tmp_path}\n")
