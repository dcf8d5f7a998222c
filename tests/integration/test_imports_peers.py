"""Imports of what the packages of other trackers have written: MLflow, Sacred, W&B and tensorboardX."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trialstream as ts
from service_support import cli

MLFLOW = """
import math, sys
from mlflow.tracking import MlflowClient

client = MlflowClient(tracking_uri=sys.argv[1])
experiment = client.create_experiment(sys.argv[2])
run = client.create_run(experiment, run_name="first", tags={"mlflow.note.content": "note", "k": "v"}, start_time=10**12)
for key, value in {"lr": 0.1, "name": "adam", "flag": True, "version": "1.10", "n": 3}.items():
    client.log_param(run.info.run_id, key, value)
for step in range(5):
    client.log_metric(run.info.run_id, "loss", 1 / (step + 1), timestamp=10**12 + step * 1000, step=step)
client.log_metric(run.info.run_id, "nan", math.nan, timestamp=10**12, step=-3)
client.log_metric(run.info.run_id, "inf", -math.inf, timestamp=10**12, step=2)
client.set_terminated(run.info.run_id, "FAILED", end_time=10**12 + 9000)
running = client.create_run(experiment, run_name="second", start_time=10**12 + 1)
client.log_metric(running.info.run_id, "x", 1.0, timestamp=10**12 + 2)
"""

MLFLOW_LATER = """
import sys
from mlflow.tracking import MlflowClient

client = MlflowClient(tracking_uri=sys.argv[1])
experiment = client.get_experiment_by_name(sys.argv[2])
[run] = client.search_runs([experiment.experiment_id], "attributes.run_name = 'second'")
client.log_metric(run.info.run_id, "x", 2.0, timestamp=10**12 + 3, step=1)
client.log_param(run.info.run_id, "late", 1)
client.set_terminated(run.info.run_id, "FINISHED", end_time=10**12 + 4)
"""

SACRED = """
import sys
from sacred import Experiment
from sacred.observers import MongoObserver

experiment = Experiment(sys.argv[3], save_git_info=False)
experiment.observers.append(MongoObserver(url=sys.argv[1], db_name=sys.argv[2]))
experiment.captured_out_filter = None

@experiment.config
def config():
    lr = 0.1
    opt = {"name": "adam", "betas": [0.9, 0.99]}
    fails = False

@experiment.main
def main(_run, lr, fails):
    for step in range(4):
        _run.log_scalar("train.loss", 1 / (step + 1), step)
    _run.log_scalar("nan", float("nan"), 7)
    _run.info["note"] = {"a.b": 1}
    if fails:
        raise ValueError("it failed")
    return 0.5

experiment.run()
try:
    experiment.run(config_updates={"fails": True, "lr": 0.2})
except ValueError:
    pass
"""


def write(package, script, *arguments, **environment):
    """Run the script of another tracker; skip the test if its package is not installed."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: `make peers`")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.py"  # Sacred reads the source of its configuration
        path.write_text(script)
        command = [sys.executable, "-W", "ignore", str(path), *arguments]
        done = subprocess.run(
            command, env={**os.environ, **environment}, check=False, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr


def reports(config, *arguments):
    """Run `import-from` and return its reports by the name of the run."""
    done = cli(config, "import-from", *arguments, "--json", seconds=120)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {each["name"]: each for each in found}


async def read(protocol, report):
    """Return the trial of a report and its histories."""
    [trial] = await protocol.fetch_trials({"uid": report["uid"]}, latest=True)
    return trial, await protocol.fetch_metrics(trial)


@pytest.mark.parametrize("store", ["sqlite:///{}/mlflow.db", "file:{}/mlruns"], ids=["SQL", "files"])
async def test_mlflow(served, protocol, tmp_path, store):
    """Parameters with types, tags, the note, steps, times, NaN and infinity; a run that goes on gets its new rows."""
    uri, name = store.format(tmp_path), f"mlflow {uuid.uuid4().hex[:8]}"
    write("mlflow", MLFLOW, uri, name, MLFLOW_ALLOW_FILE_STORE="true")
    first = reports(served, "mlflow", uri, "--experiment", name)
    before, _ = await read(protocol, first["second"])
    write("mlflow", MLFLOW_LATER, uri, name, MLFLOW_ALLOW_FILE_STORE="true")
    later = reports(served, "mlflow", uri, "--experiment", name)
    trial, histories = await read(protocol, first["first"])
    second, grown = await read(protocol, later["second"])

    assert trial.parameters == {"lr": 0.1, "name": "adam", "flag": True, "version": "1.10", "n": 3}
    assert (trial.tags["k"], trial.description, trial.project_id) == ("v", "note", name)
    assert histories["loss"].values.tolist() == [1 / (step + 1) for step in range(5)]
    assert histories["loss"].steps.tolist() == list(range(5))
    assert histories["loss"].times.astype(int).tolist() == [(10**12 + step * 1000) * 1000 for step in range(5)]
    assert math.isnan(histories["nan"].values[0])
    assert (histories["nan"].steps[0], histories["inf"].values[0]) == (-3, -math.inf)
    assert (trial.status, trial.chronos["runtime"].sum) == (ts.Status.Exception, 9.0)
    assert (before.status, second.status) == (ts.Status.Running, ts.Status.Completed)
    assert grown["x"].values.tolist() == [1.0, 2.0]
    assert second.parameters == {"late": 1}
    assert (later["first"]["new"], later["second"]["new"]) == (0, 1)


async def test_sacred(served, stack, protocol):
    """Configuration, result, info and metrics; a failed run has its traceback."""
    database, name = f"sacred_{uuid.uuid4().hex[:8]}", f"sacred {uuid.uuid4().hex[:8]}"
    write("sacred", SACRED, stack.mongo.uri, database, name)
    done = cli(served, "import-from", "sacred", stack.mongo.uri, database, "--json")
    again = cli(served, "import-from", "sacred", stack.mongo.uri, database, "--json")
    assert done.returncode == 0, done.stderr
    first, failed = [await read(protocol, json.loads(line)) for line in done.stdout.splitlines()]
    trial, histories = first

    assert trial.parameters == {"lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.99]}, "fails": False}
    assert (trial.metadata["result"], trial.metadata["info"]["note"]) == (0.5, {"a.b": 1})
    assert (trial.name, trial.project_id, trial.status) == (name, name, ts.Status.Completed)
    assert histories["train.loss"].values.tolist() == [1 / (step + 1) for step in range(4)]
    assert (histories["nan"].steps[0], math.isnan(histories["nan"].values[0])) == (7, True)
    assert abs((datetime.now(UTC) - trial.created).total_seconds()) < 300
    assert failed[0].status is ts.Status.Exception
    assert "ValueError: it failed" in failed[0].errors[0].message
    assert [json.loads(line)["new"] for line in again.stdout.splitlines()] == [0, 0]


WANDB = """
import wandb
run = wandb.init(project=__import__("sys").argv[1], name="mlp", config={"lr": 0.1}, tags=["base"])
run.define_metric("epoch")
run.define_metric("val/*", step_metric="epoch")
for i in range(300):
    run.log({"loss": 1 / (i + 1)})
run.log({"val/acc": 0.5, "epoch": 7})
run.finish()
"""


async def test_wandb(served, protocol, tmp_path):
    """An offline run becomes a trial of its project; the axis of `define_metric` is the step."""
    project = f"wandb-{uuid.uuid4().hex[:8]}"
    write("wandb", WANDB, project, WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR=str(tmp_path))
    first, again = (reports(served, "wandb", str(tmp_path))["mlp"] for _ in range(2))
    trial, histories = await read(protocol, first)

    assert (trial.parameters, trial.tags, trial.project_id) == ({"lr": 0.1}, {"base": True}, project)
    assert histories["loss"].values.tolist() == [1 / (i + 1) for i in range(300)]
    assert histories["val/acc"].steps.tolist() == [7]
    assert (trial.status, again["new"]) == (ts.Status.Completed, 0)


TENSORBOARDX = """
import sys
from tensorboardX import SummaryWriter
with SummaryWriter(sys.argv[1]) as writer:
    for step in range(300):
        writer.add_scalar("loss", 0.5**step, step, walltime=1e9 + step)
    writer.add_text("note", "x", 0)
"""


async def test_tensorboard(served, protocol, tmp_path):
    """The event files of tensorboardX become trials."""
    write("tensorboardX", TENSORBOARDX, str(tmp_path / "run"))
    first, again = (reports(served, "tensorboard", str(tmp_path))["run"] for _ in range(2))
    _, histories = await read(protocol, first)

    assert histories["loss"].steps.tolist() == list(range(300))
    assert histories["loss"].times.astype(int).tolist() == [(10**9 + step) * 10**6 for step in range(300)]
    assert (first["left_out"], again["new"]) == ({"values of the plugin text": 1}, 0)
