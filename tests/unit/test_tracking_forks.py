"""A tracker whose process forks, without servers; and what another process gets in order to log to the trial."""

from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

import pytest
import trialstream as ts
from trialstream.kafka import commands
from trialstream.tracking import termination
from trialstream.tracking.handle import Handle, read_mark


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings of a tracker without servers and without a launcher."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "PMI_", "TORCHELASTIC_", "TRIALSTREAM_RUN", "TRIALSTREAM_HANDLE")):
            monkeypatch.delenv(name)
    return {"offline": True, "prefix": "test", "spool_dir": tmp_path / "spool"}


@contextmanager
def held_by_a_thread(*locks):
    """Another thread holds the locks while the block runs."""
    holds, release = threading.Event(), threading.Event()

    def hold():
        for each in locks:
            each.acquire()
        holds.set()
        release.wait()
        for each in locks:
            each.release()

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    yield
    release.set()
    thread.join()


def code_of_child(child) -> int:
    """Fork, call a function in the child, and return the exit code; a child that hangs is ended by SIGALRM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads
        pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        try:
            os._exit(child())
        finally:
            os._exit(100)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_does_not_wait_for_locks_of_its_parents_threads(settings):
    """At the fork, threads of the parent hold the locks of the errors, of the captures and of a function's calls."""

    @ts.instrument
    def work():
        pass

    instrumented = import_module("trialstream.tracking.instrument")._instrumented_calls
    [calls] = [each for each in instrumented if each._name == work.__qualname__]
    with ts.track("forked", capture=["stdout"], **settings) as t:
        captures = t._flushes[0].__self__

        def child():
            t.log(loss=1.0)
            t.commit(timeout=1)
            t.finish()
            with ts.track.attach(t.handle()):
                work()
            return 0 if t.health.errors and not t.is_open else 1

        with held_by_a_thread(t.faults._lock, captures._taking, calls._lock):
            code = code_of_child(child)
        assert t.is_open

    assert code == 0


def test_a_child_has_the_default_action_of_sigterm(settings):
    """A worker that its parent ends by SIGTERM ends at once; the handler of the tracker is that of the parent."""
    with ts.track("forked", capture=False, **settings):
        assert signal.getsignal(signal.SIGTERM) is termination._raise
        code = code_of_child(lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is termination._raise

    assert code == -signal.SIGTERM


def test_every_process_sends_the_same_creation(settings, tmp_path):
    """A handle and a mark have the metadata and tags of an undecided trial: the log takes the first creation."""
    path = tmp_path / "model.pt"
    with ts.track("marked", tags=["base"], metadata={"made": [1, None]}, capture=False, **settings) as t:
        t.checkpoint(path, step=3)
        attached = Handle.from_text(t.handle().to_text())
    wanted = commands.create_trial("a writer", replace(t.trial, status=None), auto_increment=True)
    for trial in (read_mark(path).trial, attached.trial):
        assert commands.create_trial("a writer", trial, auto_increment=True) == wanted

    mark = tmp_path / "model.pt.trialstream.json"
    old = json.loads(mark.read_text())
    for name in ("metadata", "tags"):  # which earlier versions did not write
        del old["trial"][name]
    mark.write_text(json.dumps(old))
    assert read_mark(path).trial.uid == t.trial.uid
