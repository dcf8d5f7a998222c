"""The tracker over a log in memory, and its handle as a text."""

from __future__ import annotations

import json
import os
import sys
import uuid

import numpy as np
import pytest
import trialstream as ts
import trialstream.sync
from trialstream.tracking.capture import Captures
from trialstream.tracking.handle import Connection, Handle


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    """The environment of no launcher, and of no tracker."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "PMI_", "TORCHELASTIC_", "TRIALSTREAM_")):
            monkeypatch.delenv(name)


@pytest.fixture
def url():
    """A log in memory of its own."""
    return f"memory:{uuid.uuid4().hex}"


def read(url):
    """Return the trial of a log, and its histories."""
    with trialstream.sync.connect(url, read_only=True) as protocol:
        [trial] = protocol.fetch_trials()
        return trial, protocol.fetch_metrics(trial)


def test_a_plain_tracker(url):
    """Project, group, rows, attached parts and the end of a trial are in the log; an attached tracker adds to it."""
    with ts.track("plain", url=url, project="p", group="g", parameters={"lr": 0.1}, capture=["host"]) as t:
        t.log(loss=0.5)
        with ts.track.attach(Handle.from_text(t.handle().to_text())) as attached:
            attached.log(child=1.0)
        assert t.commit("folded")
        assert t.protocol.get_trial(t.trial)
    trial, history = read(url)

    assert (trial.status, trial.project_id, trial.parameters) == (ts.Status.Completed, "p", {"lr": 0.1})
    assert set(history) == {"loss", "child"}
    assert (t.health.dropped, t.health.errors) == (0, 0)
    assert "host" in trial.metadata


@pytest.mark.anyio
async def test_an_async_tracker(url):
    """The block ends the trial with its exception."""
    with pytest.raises(ValueError, match="bad"):
        async with ts.track("async", url=url, capture=False) as t:
            t.log(loss=0.5)
            raise ValueError("bad")
    async with ts.connect(url) as protocol:
        [trial] = await protocol.fetch_trials()

    assert trial.status is ts.Status.Exception


def test_a_resumed_tracker(url, tmp_path):
    """A checkpoint resumes its trial."""
    path = tmp_path / "model"
    with ts.track("resumed", url=url, capture=False) as t:
        for step in range(5):
            t.log({"loss": step}, step=step)
        t.checkpoint(path, step=2)
    with ts.track("resumed", url=url, capture=False, resume=path) as t:
        assert t.resume_step == 2
    trial, history = read(url)

    assert trial.starts == 2
    assert history["loss"].steps.tolist() == [0, 1, 2]


def test_places_that_cannot_log(tmp_path):
    """Folders of spools and unknown schemes are refused, and so are settings of servers."""
    with pytest.raises(ts.InvalidValue, match="can log"):
        ts.track("x", url=f"spool:{tmp_path}", read_only=True).start()
    with pytest.raises(ts.ConfigError, match="url: expected"):
        ts.track("x", url="nowhere:").start()
    with pytest.raises(ts.ConfigError, match="kafka: expected no value"):
        ts.track("x", url="memory:", kafka="localhost").start()


def test_the_rate_of_a_short_loop(url):
    """A loop of less than a second has a rate too; numbers of rows may be of numpy's types."""
    with ts.track("timed", url=url, capture=False) as t:
        for _ in t.timed(range(4), "batch", rows_of=lambda _: np.int64(32)):
            pass
        for _ in t.timed(range(4), "broken", rows_of=lambda _: "many"):
            break
    trial, history = read(url)

    assert len(history["batch/rows_per_second"]) == 1
    assert history["batch/rows_per_second"].steps.tolist() == [4]
    elapsed = trial.chronos["batch"].sum + trial.chronos["batch/load"].sum
    assert history["batch/rows_per_second"].values[0] <= 128 / elapsed
    assert len(history["broken/rows_per_second"]) == 1
    assert t.health.errors == 1


def test_captures_that_do_not_start(url, monkeypatch):
    """An error of the captures is counted, and the trial goes on."""
    monkeypatch.setattr(Captures, "_run", None)
    monkeypatch.setattr("trialstream.tracking.capture.captures.MessageHandler", None)
    with ts.track("captured", url=url, capture=["logging"]) as t:
        t.log(loss=0.5)
    trial, _ = read(url)

    assert trial.status is ts.Status.Completed
    assert t.health.errors == 1


def test_a_handle_as_a_text_has_no_passwords(monkeypatch):
    """The text of a handle has all settings but those that may hold a password, which come from the environment."""
    secret = ts.Config(
        kafka="broker:1",
        mongo="mongodb://ada:hunter2@db/?replicaSet=x",
        kafka_sasl_password="hunter2",
        offline=True,
        spool_dir="elsewhere",
    )
    text = Handle(ts.Trial(name="x"), "job", Connection(secret, 5.0)).to_text()
    monkeypatch.setenv("TRIALSTREAM_KAFKA", "other:2")
    monkeypatch.setenv("TRIALSTREAM_KAFKA_SASL_PASSWORD", "of the environment")
    found = json.loads(text)
    found["connection"]["place"]["of_a_later_version"] = 1
    place = Handle.from_text(json.dumps(found)).connection.place

    assert "hunter2" not in text
    assert (place.kafka, place.offline, str(place.spool_dir)) == ("broker:1", True, "elsewhere")
    assert (place.mongo, place.kafka_sasl_password) == (ts.Config().mongo, "of the environment")


@pytest.mark.anyio
async def test_an_attempt_that_comes_late_has_the_place_before_the_one_that_resumes_it(url):
    """Its rows are superseded as if it had come in time, and it neither runs the trial again nor ends it."""
    async with ts.connect(url) as early, ts.connect(url) as resumed:
        trial = await resumed.new_trial(ts.Trial(name="late"))
        await resumed.log_trial_start(trial, attempt=ts.Attempt("2", rank=0, resume_step=4, resumes="1"))
        await resumed.log_trial_metrics(trial, step=5, loss=50.0)
        await resumed.log_trial_finish(trial)
        await early.log_trial_start(trial, attempt=ts.Attempt("1", rank=0, host="a"))
        for step in (4, 5, 6):
            await early.log_trial_metrics(trial, step=step, loss=float(step))
        await early.log_trial_finish(trial, KeyboardInterrupt)
        await early.commit("folded")
        [found] = await resumed.fetch_trials()
        shown = await resumed.fetch_metrics(trial)

    assert [(each.key, each.number, each.resume_step) for each in found.attempts] == [("1", 1, None), ("2", 2, 4)]
    assert (found.status, found.starts) == (ts.Status.Completed, 2)
    assert found.attempts[0].started > found.attempts[1].started
    assert sorted(shown["loss"].values.tolist()) == [4, 50]


def test_a_checkpoint_names_its_attempt(tmp_path, monkeypatch):
    """An attempt that resumes from a file without servers names the attempt that wrote it."""
    monkeypatch.setenv("TRIALSTREAM_OFFLINE", "1")
    path = tmp_path / "model"
    for run, resume in [("first", None), ("second", path)]:
        monkeypatch.setenv("TRIALSTREAM_SPOOL_DIR", str(tmp_path / run))
        with ts.track("x", run_id=run, resume=resume, capture=False) as t:
            t.log({"loss": 1.0}, step=3)
            t.checkpoint(path, step=1)
    with trialstream.sync.connect(f"spool:{tmp_path / 'second'}", read_only=True) as protocol:
        [trial] = protocol.fetch_trials()

    assert len(trial.attempts) == 2
    assert trial.attempts[1].resume_step == 1


@pytest.mark.parametrize(("given", "count"), [(None, 2), ("a run", 1)], ids=["of the environment", "as an argument"])
def test_one_definition_twice_in_a_run(url, monkeypatch, given, count):
    """Each block is a trial, which the ranks share, unless the run is named in the call."""
    run = uuid.uuid4().hex
    monkeypatch.setenv("TRIALSTREAM_RUN_ID", run)
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr(sys.modules[ts.track.__module__], "_begun", {})  # as in a process of its own
        for _ in range(2):
            with ts.track("fold", url=url, run_id=given, capture=False) as t:
                assert t.commit("folded")
    with trialstream.sync.connect(url, read_only=True) as protocol:
        trials = protocol.fetch_trials()

    assert len(trials) == count
    assert [sorted(each.ranks) for each in trials] == [[0, 1]] * count
