"""Optuna's callback and its storage over the log, with workers in processes on the real Kafka."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trialstream as ts
import trialstream.sync

optuna = pytest.importorskip("optuna", reason="optuna is not installed: make test-integrations")

from trialstream.integrations.optuna import LogBackend, OptunaCallback  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)
WORKERS, TRIALS = 8, 3


@pytest.fixture
def backend(name):
    """A storage with a name of its own."""
    backend = LogBackend(name)
    yield backend
    backend.close()


def storage_of(backend):
    """Make a storage of Optuna over a backend."""
    return optuna.storages.JournalStorage(backend)


def objective(trial):
    """Return the value of a trial."""
    return (trial.suggest_float("x", -1, 1) - 0.5) ** 2


def die(_):
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def work(name, ready, of_trial):
    """Run some trials of a study, in a process of its own, once all workers are ready."""
    backend = LogBackend(name)
    storage = storage_of(backend)
    ready.wait(120)
    study = optuna.create_study(study_name="study", storage=storage, load_if_exists=True)
    study.optimize(of_trial, n_trials=TRIALS)
    backend.close()


def test_many_workers_share_a_study(name, backend):
    """No two workers get the same trial number, since the log decides the order; one that is killed holds up nobody."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(WORKERS + 1)
    workers = [context.Process(target=work, args=(name, ready, each)) for each in (*[objective] * WORKERS, die)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(150)
    study = optuna.load_study(study_name="study", storage=storage_of(backend))

    assert [each.exitcode for each in workers] == [0] * WORKERS + [-signal.SIGKILL]
    assert [each.number for each in study.trials] == list(range(WORKERS * TRIALS + 1))
    assert Counter(each.state.name for each in study.trials) == {"COMPLETE": WORKERS * TRIALS, "RUNNING": 1}


def test_the_example_of_a_study():
    """Eight workers of the example share its study, and each number is given once."""
    script = Path(__file__).parents[2] / "examples" / "optuna_study.py"
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=150, check=False)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("24 trials of 24 with a number of their own, 24 logged, best loss 0.")


def test_the_lines_are_the_same_for_all(name, backend):
    """Lines of several connections are in one order; an append is in the log when it returns."""
    other = LogBackend(name)
    for i in range(10):
        (backend, other)[i % 2].append_logs([{"i": i}, {"i": i, "text": "ä\ud800" if i == 5 else "x"}])
    expected = [i for i in range(10) for _ in range(2)]

    assert [each["i"] for each in other.read_logs(0)] == expected
    assert [each["i"] for each in backend.read_logs(7)] == expected[7:]
    assert [each["i"] for each in backend.read_logs(2)] == expected[2:]  # lines that it has forgotten
    assert list(backend.read_logs(20)) == []
    other.close()


def test_storages_do_not_mix(name, backend):
    """Storages with other names have lines of their own."""
    backend.append_logs([{"i": 1}])
    other = LogBackend(f"{name} 2")

    assert list(other.read_logs(0)) == []
    other.close()


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of jax, if another test has imported it
def test_a_copy_in_another_process(backend):
    """A backend may be pickled, and used in the child of a fork."""
    backend.append_logs([{"i": 1}])
    copy = pickle.loads(pickle.dumps(backend))

    assert list(copy.read_logs(0)) == [{"i": 1}]
    copy.close()
    pid = os.fork()
    if pid == 0:
        found = list(backend.read_logs(0))
        backend.append_logs([{"i": 2}])
        backend.close()
        os._exit(0 if found == [{"i": 1}] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert list(backend.read_logs(1)) == [{"i": 2}]


def test_an_append_that_fails(name):
    """Lines that are too large, or that Kafka cannot take, raise an error, and nothing is appended later."""
    backend = LogBackend(name)
    with pytest.raises(ts.InvalidValue):
        backend.append_logs([{"text": "x" * 600_000}])
    assert list(backend.read_logs(0)) == []
    backend.close()
    with pytest.raises(ts.KafkaUnavailable):
        LogBackend(name, kafka="127.0.0.1:1", timeout=2.0).append_logs([{"i": 1}])


def test_the_document_stays_small(name, backend):
    """The document of the storage has the lines of its last event only."""
    for i in range(20):
        backend.append_logs([{"i": i}])
    with trialstream.sync.connect() as protocol:
        [trial] = protocol.fetch_trials({"name": f"optuna storage {name}"}, latest=True)

    assert len(trial.metadata["lines"]) == 1


@pytest.mark.parametrize(
    "settings",
    [{"offline": True}, {"read_only": True}, {"projection": "x"}],
    ids=["offline", "read-only", "projection"],
)
def test_settings_without_kafka_are_refused(settings):
    """A storage that cannot append is refused when it is made."""
    with pytest.raises(ts.ConfigError, match="LogBackend"):
        LogBackend("x", **settings)


def test_an_interrupted_read_loses_no_line(backend, monkeypatch):
    """The lines of a read that fails come with the next one."""
    backend.append_logs([{"i": i} for i in range(3)])
    assert len(list(backend.read_logs(3))) == 0
    backend.append_logs([{"i": 3}])
    events = backend._journal._events
    fetch = events._fetch

    async def fail_after_a_fetch():
        found = await fetch()
        monkeypatch.setattr(events, "_fetch", fail)
        return found._replace(end=found.end + 1)

    async def fail():
        raise TimeoutError

    monkeypatch.setattr(events, "_fetch", fail_after_a_fetch)
    with pytest.raises(ts.KafkaUnavailable):
        backend.read_logs(3)
    monkeypatch.setattr(events, "_fetch", fetch)

    assert list(backend.read_logs(3)) == [{"i": 3}]


def test_the_callback(name, logged, tracker, monkeypatch):
    """Each trial of a study is a trial in its group; the current tracker has the values by number.

    A worker may be a rank of a job: its trials are its own.
    """
    for key, x in {"RANK": "1", "WORLD_SIZE": "4", "TRIALSTREAM_RUN_ID": "job"}.items():
        monkeypatch.setenv(key, x)

    def pruned(trial):
        trial.report(0.75, 1)
        trial.set_user_attr("why", "slow")
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise ZeroDivisionError
        return trial.suggest_float("x", 0, 1)

    study = optuna.create_study(study_name=f"study {name}")
    study.optimize(pruned, n_trials=3, callbacks=[OptunaCallback(project=f"p {name}")], catch=ZeroDivisionError)
    _, history = logged()
    trials = tracker.protocol.fetch_trials({"project_id": f"p {name}"}, sort="name", latest=True)

    assert history["value"].steps.tolist() == [0, 1]  # a pruned trial has its last intermediate value
    assert [each.parameters for each in trials] == [study.trials[0].params, {}, {}]
    assert [each.status for each in trials] == [ts.Status.Completed, ts.Status.Completed, ts.Status.Exception]
    assert [each.tags["optuna"] for each in trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert trials[0].metrics["intermediate"].last == 0.75
    assert trials[0].metrics["value"].last == study.trials[0].value
    assert trials[0].metadata["optuna"]["why"] == "slow"
