"""Training scripts that use `ts.track`: `tracking.py <what> <name of the trial> ...`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import trialstream as ts
from telling import tell, wait_for_go

STEPS = 100


def train(name: str, checkpoint: str, resume: str = "") -> None:
    """Log steps in a block, mark a checkpoint, and leave the block at the go-ahead."""
    tracker = None
    try:
        with ts.track(
            name, project="p", tags=["base"], metadata={"made": 1}, resume=resume or None, capture=False
        ) as tracker:
            tell("entered", step=tracker.step)
            for _ in range(STEPS):
                tracker.step += 1
                with tracker.chrono("step"):
                    tracker.log({"loss": tracker.step}, step=tracker.step)
            tracker.checkpoint(checkpoint)
            tracker.commit("spooled")
            tell("trained", step=tracker.step)
            wait_for_go()
    finally:
        if tracker is not None:
            tell("left", errors=tracker.health.errors, dropped=tracker.health.dropped)


# --- Forks


def use(t: ts.SyncTracker) -> None:
    """Make every call of a tracker."""
    t.log(loss=-1.0)
    t.log({"lost": -1.0}, step=1)
    t.log_metadata(of="a child")
    t.log_arguments(of="a child")
    t.tag("of a child")
    t.note("of a child")
    t.status("of a child")
    with t.chrono("of a child"):
        sys.stderr.write("a child writes\n")
    for _ in t.timed(range(3), "of a child"):
        pass
    t.summary["of"] = "a child"
    ts.log(loss=-1.0)
    t.checkpoint("nowhere/of a child")


def in_child(t: ts.SyncTracker, way: str) -> None:
    """Run the code of a forked child, up to its end."""
    use(t)
    committed = t.commit(timeout=1)
    tell("child", way=way, open=t.is_open, committed=committed, current=ts.current() is not None)
    if way == "finishes":
        t.finish()
    elif way == "attaches":
        with ts.track.attach() as own:
            for step in range(STEPS):
                own.log({"child": step}, step=step)
    elif way == "sys.exit":
        sys.exit(3)
    elif way == "exception":
        raise ZeroDivisionError
    elif way == "os._exit":
        os._exit(5)
    elif way == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)


WAYS = ("falls off the end", "finishes", "attaches", "sys.exit", "exception", "os._exit", "SIGTERM")


class Busy:
    """Threads that use the tracker all the time, so that a fork finds its parts in use."""

    def __init__(self, t: ts.SyncTracker) -> None:
        self._t = t
        self._stop = threading.Event()
        self.count = 0
        calls: list[Callable[[], object]] = [
            self._log,
            self._err,
            lambda: t.commit("spooled"),
            lambda: logging.getLogger("busy").error("busy"),
        ]
        # Not to a stream: Python does not renew the lock of its buffer in the child of a fork.
        logging.getLogger("busy").addHandler(logging.NullHandler())
        self._threads = [threading.Thread(target=self._repeat, args=(call,), daemon=True) for call in calls]
        for each in self._threads:
            each.start()

    def _log(self) -> None:
        self.count += 1
        self._t.log({"busy": self.count}, step=self.count)

    def _err(self) -> None:
        self._t.faults.report("test", ValueError("on purpose"))

    def _repeat(self, call: Callable[[], object]) -> None:
        while not self._stop.is_set():
            call()
            time.sleep(0.0005)

    def stop(self) -> int:
        """Stop them; return the number of rows."""
        self._stop.set()
        for each in self._threads:
            each.join()
        return self.count


def forks(name: str) -> None:
    """Fork children in the middle of a tracked run; they end in all ways, inside of the parent's block."""
    codes: dict[str, int] = {}
    with ts.track(name, capture=["stdout", "stderr", "logging", "warnings"]) as t:
        busy = Busy(t)
        for way in WAYS * 2:
            pid = os.fork()
            if pid == 0:
                return in_child(t, way)
            codes[way] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        rows = busy.stop()
    tell("ended", codes=codes, rows=rows)
    return None


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
