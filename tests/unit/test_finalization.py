"""A protocol that is used while the interpreter finalizes, when no other thread runs any more: without servers."""

from __future__ import annotations

import subprocess
import sys

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


def run(tmp_path, text):
    """Run a script, which must end in time, and return its result."""
    script = tmp_path / "script.py"
    script.write_text(text)
    command = [sys.executable, str(script), str(tmp_path / "spool")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def test_a_protocol_that_an_exit_handler_opens(tmp_path):
    """Left while the interpreter finalizes, it warns of the events that are lost, and does not wait."""
    ran = run(tmp_path, OPENED_IN_A_HANDLER)

    assert ran.stdout == "logged\n"
    assert "events are lost (the interpreter had ended all threads)" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_opening_while_the_interpreter_finalizes(tmp_path):
    """Opening is refused; a new thread would never run."""
    ran = run(tmp_path, OPENED_TOO_LATE)

    assert ran.stderr == ""
    assert ran.stdout.count("the interpreter exits and runs no other threads any more") == 3
