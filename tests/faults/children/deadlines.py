"""Training scripts with a server or a disk that does not answer: `deadlines.py <what> <name of the trial> ...`."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import trialstream as ts
import trialstream.sync
from telling import tell
from trialstream.runtime import lifecycle
from trialstream.runtime.io_thread import IoThread
from trialstream.spool.folder import Spool

ROWS = 400_000


def memory_of(process: psutil.Process) -> int:
    """Return the resident size of a process, bytes."""
    return int(process.memory_info().rss)


def heavy(name: str) -> None:
    """Log as fast as possible, and measure memory and durations."""

    async def main() -> None:
        process = psutil.Process()
        async with ts.connect(timeout=1, memory_bytes=16 * 2**20) as protocol:
            trial = await protocol.new_trial(ts.Trial(name=name), auto_increment=True)
            before = grown = held = memory_of(process)
            times = []
            held = 0
            for step in range(ROWS):
                started = time.perf_counter()
                await protocol.log_trial_metrics(trial, step=step, loss=step, accuracy=0.5)
                times.append(time.perf_counter() - started)
                if step % 1000 == 0:
                    held = max(held, protocol.statistics().bytes)
                    grown = max(grown, memory_of(process))
            dropped = protocol.statistics().dropped
            quantiles = statistics.quantiles(times, n=1000)
        tell(
            "ended",
            held=held,
            grown=grown - before,
            dropped=dropped,
            median=quantiles[499],
            rare=quantiles[998],
            slowest=max(times),
        )

    asyncio.run(main())


def hang_of(what: str, protocol: Any) -> None:
    """Make the disk, or the I/O thread as a whole, hang for ever."""
    if what == "disk":
        Spool._write = lambda *_: threading.Event().wait()
    else:
        blocked = threading.Event()

        def block() -> None:
            blocked.set()
            threading.Event().wait()

        protocol._protocol._session.lifecycle.loop.call_soon_threadsafe(block)
        blocked.wait()


def hanging(name: str, what: str, left: str) -> None:
    """End while the disk or the I/O thread hangs, after leaving the block or without."""
    lifecycle._CLOSE_SECONDS = lifecycle._FINISH_SECONDS = lifecycle._HANG_SECONDS = 1.0
    protocol = trialstream.sync.connect(timeout=1)
    protocol.__enter__()
    trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
    protocol.commit("spooled")
    hang_of(what, protocol)
    for step in range(100):
        protocol.log_trial_metrics(trial, step=step, loss=step)
    tell("leaving")
    if left == "left":
        protocol.__exit__(None, None, None)
        tell("left")


def interrupt_when_waiting() -> None:
    """Send SIGINT once the main thread waits for the I/O thread."""
    main = threading.main_thread().ident

    def waits() -> bool:
        frame = sys._current_frames()[main]
        while frame is not None and frame.f_code is not IoThread.run.__code__:
            frame = frame.f_back
        return frame is not None

    def interrupt_when_it_lasts() -> None:
        seen = 0
        while seen < 20:  # a wait that lasts, not one that is answered at once
            seen = seen + 1 if waits() else 0
            time.sleep(0.01)
        tell("interrupting")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_when_it_lasts, daemon=True).start()


def interrupted(name: str, stage: str) -> None:
    """Ctrl-C while a call of `trialstream.sync` waits; then leave the block."""

    def interrupt(call: Callable[[], Any]) -> None:
        interrupt_when_waiting()
        started = time.monotonic()
        try:
            call()
        except KeyboardInterrupt:
            tell("interrupted", seconds=time.monotonic() - started)
        else:
            tell("not interrupted")

    if stage == "connect":
        interrupt(lambda: trialstream.sync.connect(timeout=20).__enter__())
        return
    with trialstream.sync.connect(timeout=20) as protocol:
        trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
        for step in range(100):
            protocol.log_trial_metrics(trial, step=step, loss=step)
        if stage == "an end callback":
            protocol.log_trial_chrono_start(trial, "step", end_callback=lambda: asyncio.sleep(20))
        protocol.commit("folded")
        tell("ready")
        sys.stdin.readline()
        calls: dict[str, Callable[[], Any]] = {
            "new_trial": lambda: protocol.new_trial(ts.Trial(name=f"{name} 2")),
            "fetch_trials": lambda: protocol.fetch_trials({"name": name}),
            "commit": lambda: (protocol.add_trial_tags(trial, a=1), protocol.commit("folded")),
            "an end callback": lambda: protocol.log_trial_chrono_finish(trial, "step"),
        }
        interrupt(calls[stage])
        tell("leaving")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
