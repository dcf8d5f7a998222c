"""Protocols at the exit of the interpreter, and while it finalizes, when no other thread runs: without servers."""

from __future__ import annotations

import subprocess
import sys

import pytest

OPENED_IN_A_HANDLER = """
import atexit, sys
import trialstream as ts, trialstream.sync

protocol = trialstream.sync.connect(offline=True, spool_dir=sys.argv[1])

def hold():
    with protocol:
        yield protocol

held = hold()

@atexit.register
def open_late():
    next(held).new_trial(ts.Trial(name="t"))
    print("logged", flush=True)
"""

OPENED_TOO_LATE = """
import asyncio, sys
import trialstream as ts, trialstream.sync

class Late:
    def __init__(self):
        self.protocols = [trialstream.sync.connect(offline=True, spool_dir=sys.argv[1]) for _ in range(2)]
        self.asynchronous = ts.connect(offline=True, spool_dir=sys.argv[1])
        self.out, self.closed = sys.stdout, ts.ProtocolClosed

    def __del__(self):
        for each in (*self.protocols, self.asynchronous):
            opening = None
            try:
                opening = each.open()
                opening.send(None)
            except self.closed as error:
                self.out.write(f"{error}\\n")
        self.out.flush()

late = Late()
late.cycle = late
"""

INTERRUPTED = """
import os, signal, sys, threading, time
import trialstream as ts, trialstream.sync

protocol = trialstream.sync.connect(kafka="127.0.0.1:1", mongo="mongodb://127.0.0.1:1", spool_dir=sys.argv[1])

def hold():
    with protocol:
        yield protocol

def interrupt():
    while protocol._protocol.lifecycle._closing is None:
        time.sleep(0.01)
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))

held = hold()
next(held).new_trial(ts.Trial(name="t"), auto_increment=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
threading.Thread(target=interrupt, daemon=True).start()
"""


def run(tmp_path, text, *arguments):
    """Run a script, which must end in time, and return its result."""
    script = tmp_path / "script.py"
    script.write_text(text)
    command = [sys.executable, str(script), str(tmp_path / "spool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def test_a_protocol_that_an_exit_handler_opens(tmp_path):
    """Left while the interpreter finalizes, it warns of events that may be lost, and waits for no thread and lock."""
    ran = run(tmp_path, OPENED_IN_A_HANDLER)

    assert ran.stdout == "logged\n"
    assert "opened by an exit handler and not closed there: its last events may be lost" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_a_signal_while_the_exit_handler_waits_for_kafka(tmp_path, signal):
    """Ctrl-C, or a handler that exits, ends the wait for Kafka; the events are written to the spool."""
    ran = run(tmp_path, INTERRUPTED, signal)

    assert "1 event waits in" in ran.stderr
    assert "(interrupted)" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_opening_while_the_interpreter_finalizes(tmp_path):
    """Opening is refused; a new thread would never run."""
    ran = run(tmp_path, OPENED_TOO_LATE)

    assert ran.stderr == ""
    assert ran.stdout.count("the interpreter exits and runs no other threads any more") == 3
