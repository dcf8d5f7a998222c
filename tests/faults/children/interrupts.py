"""Children that log in a tight loop, each with calls of one kind, until SIGINT ends them: `interrupts.py FOLDER N`."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trialstream as ts
import trialstream.sync
from telling import tell

# Children at a time, one for each kind of call.
TOGETHER = 5
folder, children = Path(sys.argv[1]), int(sys.argv[2])


def calls_of(protocol: trialstream.sync.SyncProtocol, trial: ts.Trial) -> dict[str, Callable[[int], Any]]:
    """Return a call of each kind; each logs one row, chrono or update."""

    def chrono(_: int) -> None:
        protocol.log_trial_chrono_start(trial, "c", start_callback=lambda: None, end_callback=lambda: None)
        protocol.log_trial_chrono_finish(trial, "c")

    return {
        "floats": lambda step: protocol.log_trial_metrics(trial, step=step, loss=1.0),
        "integers": lambda step: protocol.log_trial_metrics(trial, step=step, loss=step),
        "changing names": lambda step: protocol.log_trial_metrics(trial, step=step, **{f"loss{step % 3}": 1.0}),
        "tags": lambda step: protocol.add_trial_tags(trial, step=step),
        "chronos with callbacks": chrono,
    }


def log_until_interrupted(number: int, ready: int) -> None:
    """Run a child: log until Ctrl-C, and end as a script does."""
    steps = 0
    sys.stderr = (folder / f"{number}.err").open("w", buffering=1)
    os.dup2(sys.stderr.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kind = ""
    try:
        with trialstream.sync.connect(offline=True, spool_dir=str(folder / str(number))) as protocol:
            calls = calls_of(protocol, protocol.new_trial(ts.Trial(name="t")))
            kind = list(calls)[number % len(calls)]
            call = calls[kind]
            os.write(ready, b"r")
            while True:
                call(steps)
                steps += 1
    except KeyboardInterrupt:
        pass
    finally:
        tell("child", number=number, kind=kind, steps=steps)


def main() -> None:
    """Start the children, interrupt each at some time, and report their exit codes."""
    codes = []
    for first in range(0, children, TOGETHER):
        ready, ready_in_child = os.pipe()
        pids = []
        for number in range(first, first + TOGETHER):
            pid = os.fork()
            if pid == 0:
                return log_until_interrupted(number, ready_in_child)
            pids.append(pid)
        for _ in pids:
            os.read(ready, 1)
        for pid in pids:
            time.sleep(random.uniform(0, 0.05))
            os.kill(pid, signal.SIGINT)
        codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    tell("ended", codes=codes)
    return None


if __name__ == "__main__":
    main()
