"""Child processes of the local stack: they end with the launcher, and no other process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest
from trialstream_console.local import process
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.process import ProcessId, run_on_spawner_thread, spawn

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


@pytest.fixture
def child(tmp_path):
    """Start a process, and wait until it has written `up` to its log."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        log = tmp_path / f"{len(started)}.log"
        popen = run_on_spawner_thread(lambda: spawn(command, log=log, cwd=tmp_path))
        started.append(popen)
        _wait_for(lambda: "up" in log.read_text())
        return popen

    yield start
    for popen in started:
        popen.kill()
        popen.wait()


def _wait_for(condition, seconds: float = 10.0) -> None:
    tick = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        tick.wait(0.02)
    pytest.fail("the condition did not come true in time")


def test_a_recorded_process_is_found_and_stopped(child):
    """A pid and a start time identify a process until it ends, and the process can be stopped."""
    popen = child(SLEEP)
    recorded = ProcessId.of(popen.pid)

    assert recorded is not None
    assert recorded.alive
    assert recorded.stop(10)
    assert not recorded.alive
    assert not recorded.stop(10)
    assert popen.wait(10) == -signal.SIGTERM


def test_a_process_with_another_start_time_is_left_alone(child):
    """A process with the recorded pid and another start time is not stopped: the pid has been reused."""
    popen = child(SLEEP)
    other = ProcessId(popen.pid, psutil.Process(popen.pid).create_time() - 60)

    assert not other.alive
    assert not other.stop(10)
    assert popen.poll() is None


def test_a_process_that_ignores_sigterm_is_killed_at_the_deadline(child):
    """A process that ignores SIGTERM is killed, so that stopping takes no longer than its time limit."""
    popen = child(DEAF)
    process.stop(popen, 0.2)

    assert popen.returncode == -signal.SIGKILL


def test_a_recorded_process_that_ignores_sigterm_is_killed_at_the_deadline(child):
    """A process of another launcher that ignores SIGTERM is killed at the deadline, too."""
    popen = child(DEAF)
    recorded = ProcessId.of(popen.pid)

    assert recorded is not None
    assert recorded.stop(0.2)
    assert popen.wait(10) == -signal.SIGKILL


def test_a_paused_process_is_stopped_by_sigterm(child):
    """A process under SIGSTOP is resumed so that it handles SIGTERM."""
    popen = child(SLEEP)
    popen.send_signal(signal.SIGSTOP)
    process.stop(popen, 10)

    assert popen.returncode == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start stops what was left")
def test_children_die_with_a_launcher_that_is_killed(tmp_path):
    """Children end when their launcher is killed with SIGKILL and cannot stop them itself."""
    code = f"""
        import time
        from pathlib import Path
        from trialstream_console.local.process import run_on_spawner_thread, spawn
        here = Path({str(tmp_path)!r})
        print(run_on_spawner_thread(lambda: spawn({SLEEP!r}, log=here / "log", cwd=here)).pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        orphan = ProcessId.of(int(launcher.stdout.readline()))
        _wait_for(lambda: "up" in (tmp_path / "log").read_text())
        launcher.kill()

    assert orphan is not None
    assert orphan.wait(10)


def test_children_outlive_the_thread_that_started_them(child):
    """A server that one of anyio's worker threads has started outlives that thread."""
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(child(SLEEP)))
    thread.start()
    thread.join()

    with pytest.raises(subprocess.TimeoutExpired):
        started[0].wait(0.5)


def test_children_are_not_reached_by_the_terminals_ctrl_c(child):
    """Servers have a process group of their own, so Ctrl-C reaches the launcher only, which stops them in order."""
    assert os.getpgid(child(SLEEP).pid) != os.getpgrp()


def test_a_program_that_does_not_exist_ends_with_an_error_in_its_log(tmp_path):
    """The error of `exec` for a program that does not exist is in the log file."""
    log = tmp_path / "log"
    popen = run_on_spawner_thread(lambda: spawn([tmp_path / "nothing"], log=log, cwd=tmp_path))

    assert popen.wait(10) == 1
    assert "FileNotFoundError" in process.tail(log)


def test_the_end_of_a_log_shows_messages_not_stack_frames(tmp_path):
    """The end of a log leaves out stack frames, which would displace the message of a Java exception."""
    log = tmp_path / "log"
    log.write_text("old\n")
    offset = log.stat().st_size
    with log.open("a") as file:
        file.write("ERROR bad thing\n" + "\tat some.Class.method(Class.java:1)\n" * 50 + "\t... 12 more\nbye\n")

    assert process.tail(log, offset=offset) == "ERROR bad thing\nbye"
    assert process.tail(log).startswith("old")
    assert process.tail(tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("code", "words"), [(3, "exit code 3"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")]
)
def test_the_exit_reason_is_described_in_words(code, words):
    """An exit reason has the name of a signal instead of a negative number."""
    assert process.exit_reason(code) == words


def test_without_psutil_the_error_has_the_command_that_installs_it(monkeypatch):
    """Without psutil, an optional dependency, the error has the command that installs it."""
    monkeypatch.setitem(sys.modules, "psutil", None)

    with pytest.raises(LocalStackError, match=r"psutil.*pip install 'trialstream\[local\]'"):
        ProcessId.of(os.getpid())


def test_a_process_of_another_user_is_named(monkeypatch):
    """A process of another user that cannot be stopped is an error with the process and its owner."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    mine = ProcessId.of(os.getpid())
    monkeypatch.setattr(os, "kill", refuse)

    assert mine is not None
    with pytest.raises(LocalStackError, match="another user"):
        mine.stop(1)


def test_a_command_is_not_started_when_its_launcher_has_ended(tmp_path):
    """A child whose launcher is killed while the child starts ends before it runs its command."""
    wrapper = Path(process.__file__).with_name("die_with_parent.py")
    answer = subprocess.run([sys.executable, wrapper, "1", "0", *SLEEP], capture_output=True, text=True, check=False)

    assert answer.returncode == 1
    assert "parent process 1 has ended" in answer.stderr
