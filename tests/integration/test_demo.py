"""The demo: a complete run, an interrupted one, and its check of the data."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import psutil
import pytest
import trialstream as ts
import trialstream.sync

PAGE = Path(__file__).parents[2] / "docs" / "demo.md"
EXAMPLES = Path(__file__).parents[2] / "examples"
OK = r"demo ok: 8 trials \(7 completed, 1 failed\), (\d+) points logged, \1 folded, 0 dead letters"


@pytest.fixture
def demo(tmp_path):
    """Start the demo in a folder of its own, with an environment variable that marks all its processes."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "demo.py", "--data", tmp_path / "demo"],
        env={**os.environ, "TRIALSTREAM_TEST_DEMO": mark},
        stdout=subprocess.PIPE,
        text=True,
    )
    process.mark = mark
    with process:
        yield process
        process.terminate()


def left_behind(demo) -> list[psutil.Process]:
    """Return the processes of the demo that are still running."""
    return [each for each in psutil.process_iter() if _environment(each).get("TRIALSTREAM_TEST_DEMO") == demo.mark]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:  # the process has ended, is a zombie, or belongs to another user
        return {}


@pytest.mark.timeout(300)
def test_a_complete_demo_leaves_no_process(demo):
    """A complete demo folds all logged points, has one failed trial, and leaves no process."""
    output, _ = demo.communicate()

    assert re.fullmatch(OK, output.splitlines()[-1]), output
    assert demo.returncode == 0
    assert left_behind(demo) == []


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_stopped_demo_leaves_no_process(demo):
    """A demo that is stopped during the training stops its workers and servers."""
    for line in demo.stdout:
        if "Running" in line:
            break
    demo.send_signal(signal.SIGTERM)  # like Ctrl-C; a process in the background may ignore SIGINT
    output, _ = demo.communicate()

    assert output.splitlines()[-1] == "demo failed: interrupted"
    assert demo.returncode == 130
    assert left_behind(demo) == []


@pytest.mark.usefixtures("environment")
def test_the_script_of_the_page_reads_the_latest_search(tmp_path):
    """The script of docs/demo.md reads the demo's trials, whatever other projects have logged since."""
    with trialstream.sync.connect() as protocol:
        for name in ("digits", "another"):
            project = ts.Project(name=name)
            group = ts.TrialGroup(name=f"search of {name}", project_id=project.uid)
            protocol.new_project(project)
            protocol.new_trial_group(group)
            for rate in (0.1, 3.0):
                trial = ts.Trial(
                    name=name, parameters={"learning_rate": rate}, project_id=project.uid, group_id=group.uid
                )
                protocol.new_trial(trial)
                protocol.log_trial_start(trial)
                if name == "digits":
                    protocol.log_trial_metrics(trial, step=1, loss=1.0, test_accuracy=1.0 - rate / 10)
                    protocol.log_trial_chrono_start(trial, "batch")
                    protocol.log_trial_chrono_finish(trial, "batch")
                try:
                    if rate > 1:
                        raise FloatingPointError(f"{name} diverged")
                except FloatingPointError as error:
                    protocol.log_trial_finish(trial, type(error), error, error.__traceback__)
                else:
                    protocol.log_trial_finish(trial)
        protocol.commit("folded")
    [script] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "look.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "-W", "error", tmp_path / "look.py"]

    ran = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("{'learning_rate': 0.1} {}")
    assert "digits diverged" in ran.stdout
    assert "another diverged" not in ran.stdout


@pytest.fixture
def digits(monkeypatch):
    """The module `digits`, for a search of one trial without servers."""
    monkeypatch.syspath_prepend(EXAMPLES)
    module = importlib.import_module("digits")
    monkeypatch.setattr(module, "SEARCH", module.SEARCH[:1])
    monkeypatch.setattr(module, "dead_letters", Mock(return_value=0))
    return module


class Projection:
    """A projection of one trial, which logged ten losses."""

    def __init__(self, folded=10, history=10, **fields) -> None:
        losses = ts.TimeSeriesAggregator()
        losses.extend([0.5] * folded)
        self.fetch_metrics = AsyncMock(return_value={"loss": range(history)})
        self.trial = ts.Trial(
            name="perceptron",
            parameters={"learning_rate": 0.1, "hidden": 16},
            metrics={"loss": losses},
            **{"status": ts.Status.Completed, "starts": 1, "created": datetime.now(UTC)} | fields,
        )
        self.logged = Counter({(self.trial.uid, "metrics", "loss"): 10})


async def test_the_summary_has_the_compared_numbers(digits):
    """The check returns a summary if nothing differs."""
    found = Projection()

    summary = await digits.check(found, [found.trial], found.logged)

    assert summary == "1 trials (1 completed, 0 failed), 10 points logged, 10 folded, 0 dead letters"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param({"folded": 9}, "metrics loss: 10 logged, 9 folded", id="a point was not folded"),
        pytest.param({"folded": 11}, "metrics loss: 10 logged, 11 folded", id="a point was folded twice"),
        pytest.param({"history": 9}, "metrics loss: 10 logged, 9 in the history", id="a point is not in the history"),
        pytest.param({"lost_events": 1}, "1 events lost", id="an event never reached the log"),
        pytest.param({"starts": 2}, "started 2 times", id="a trial was claimed twice"),
        pytest.param({"status": ts.Status.Running}, "0 of 1 trials ended", id="a trial has not ended"),
    ],
)
async def test_the_check_fails_on_a_difference(digits, found, message):
    """The check fails on any difference between logged and folded data, and the error names it."""
    projection = Projection(**found)

    with pytest.raises(digits.Mismatch, match=message):
        await digits.check(projection, [projection.trial], projection.logged)


async def test_the_check_fails_on_a_dead_letter(digits, monkeypatch):
    """The check fails on a record that could not be folded, even if no count differs."""
    monkeypatch.setattr(digits, "dead_letters", Mock(return_value=1))
    found = Projection()

    with pytest.raises(digits.Mismatch, match="1 dead letters"):
        await digits.check(found, [found.trial], found.logged)
