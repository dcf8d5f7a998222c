"""Peak memory of a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


class Peak:
    """The largest resident size seen so far, in bytes."""

    def __init__(self) -> None:
        self.bytes = 0


@contextmanager
def peak_memory(pid: int) -> Iterator[Peak]:
    """Measure the resident size of a process every 10 ms while the block runs."""
    process, peak, stop = psutil.Process(pid), Peak(), threading.Event()

    def measure() -> None:
        while not stop.wait(0.01):
            try:
                peak.bytes = max(peak.bytes, process.memory_info().rss)
            except psutil.NoSuchProcess:
                return

    thread = threading.Thread(target=measure, name="peak memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
