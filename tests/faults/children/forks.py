"""Training scripts that fork: `forks.py <what> <name of the trial>`."""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import trialstream as ts
import trialstream.sync
from aiokafka.conn import AIOKafkaConnection
from telling import tell, wait_for_go
from trialstream.pipeline import sender

# Deadline for the error of a call on the parent's protocol in a forked child; a call that waits for a lock never ends.
AT_ONCE_SECONDS = 5.0
# Generators that hold blocks until the interpreter finalizes.
held: list[Iterator[Any]] = []


class Writers:
    """Threads that log as fast as possible, each to a metric of its own."""

    def __init__(self, protocol: trialstream.sync.SyncProtocol, trial: ts.Trial, count: int) -> None:
        self.counts = [0] * count
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._log, args=(protocol, trial, rank), daemon=True) for rank in range(count)
        ]
        for each in self._threads:
            each.start()

    def _log(self, protocol: trialstream.sync.SyncProtocol, trial: ts.Trial, rank: int) -> None:
        while not self._stop.is_set():
            protocol.log_trial_metrics(trial, step=self.counts[rank], **{f"loss{rank}": 1.0})
            self.counts[rank] += 1
            if self.counts[rank] % 100 == 0:
                time.sleep(0.001)  # the thread that sends needs the interpreter too

    def stop(self) -> list[int]:
        """Stop them, and return the number of calls of each."""
        self._stop.set()
        for each in self._threads:
            each.join()
        return self.counts


def refused(call: Callable[[], Any]) -> bool:
    """Return whether a call on the parent's protocol is refused at once."""
    started = time.monotonic()
    try:
        call()
    except ts.ProtocolClosed as error:
        return "call trialstream.connect() here" in str(error) and time.monotonic() - started < AT_ONCE_SECONDS
    return False


def calls_of(protocol: Any, trial: ts.Trial) -> list[Callable[[], Any]]:
    """Return calls of every kind."""
    return [
        lambda: protocol.log_trial_metrics(trial, loss=1.0),
        lambda: protocol.add_trial_tags(trial, a=1),
        lambda: protocol.log_trial_start(trial),
        lambda: protocol.new_trial(ts.Trial(name="of a child")),
        lambda: protocol.new_project(ts.Project(name="of a child")),
        lambda: protocol.new_trial_group(ts.TrialGroup(name="of a child")),
        lambda: protocol.fetch_trials({}),
        lambda: protocol.commit("acked", timeout=1),
        lambda: protocol.commit("spooled", timeout=1),
    ]


def in_child(protocol: trialstream.sync.SyncProtocol, trial: ts.Trial, way: str) -> None:
    """Run the code of a forked child, up to its end."""
    inner = protocol._protocol
    asynchronous = [lambda call=call: asyncio.run(call()) for call in calls_of(inner, trial)]
    tell(
        "child",
        refused=[refused(each) for each in [*calls_of(protocol, trial), *asynchronous]],
        statistics=refused(inner.statistics),
    )
    if way == "connects itself":
        with trialstream.sync.connect() as own:
            tell("own", writer=own._protocol.writer)
            for step in range(100):
                own.log_trial_metrics(trial, step=step, child=step)
    elif way == "connects itself and does not close":
        own = trialstream.sync.connect().__enter__()
        tell("own", writer=own._protocol.writer)
        for step in range(100):
            own.log_trial_metrics(trial, step=step, child=step)
    elif way == "exception":
        raise ZeroDivisionError
    elif way == "sys.exit":
        for each in gc.get_objects():
            if type(each) is AIOKafkaConnection and each.connected():
                each.close()  # as its finalizer does
        sys.exit(3)
    if way == "os._exit":
        os._exit(5)


WAYS = (
    *("falls off the end", "os._exit", "sys.exit", "exception"),
    *("connects itself", "connects itself and does not close"),
)


def fork_while_logging(name: str) -> None:
    """Fork again and again in the middle of heavy logging; the children end in all ways."""
    codes: dict[str, int] = {}
    with trialstream.sync.connect() as protocol:
        trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
        writers = Writers(protocol, trial, 3)
        for way in WAYS * 2:
            while min(writers.counts) < 100 + sum(codes.values()):
                time.sleep(0.001)
            pid = os.fork()
            if pid == 0:
                return in_child(protocol, trial, way)
            codes[way] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            started = time.monotonic()
            protocol.commit("acked")
            tell("committed", way=way, seconds=time.monotonic() - started)
        counts = writers.stop()
    tell("ended", codes=codes, counts=counts, writer=protocol._protocol.writer)
    return None


def fork_offline(name: str) -> None:
    """Fork with an offline protocol: its calls need no other thread, so they could wait for a lock."""
    with trialstream.sync.connect(offline=True) as protocol:
        trial = protocol.new_trial(ts.Trial(name=name))
        with protocol._protocol._session._pipeline.backlog._lock:
            pid = os.fork()  # as if another thread held the lock
            if pid == 0:
                in_child(protocol, trial, "os._exit")
        tell("ended", code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def outlived(name: str) -> None:
    """Fork a child that outlives its killed parent."""
    with trialstream.sync.connect(timeout=1) as protocol:
        trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
        for step in range(100):
            protocol.log_trial_metrics(trial, step=step, loss=step)
        protocol.commit("spooled")
        pid = os.fork()
        if pid == 0:
            wait_for_go()
            os._exit(0)
        tell("child", pid=pid)
        os.waitpid(pid, 0)


# --- multiprocessing


def log_as_process(trial: ts.Trial, rank: int, *, close: bool) -> None:
    """Run a process of multiprocessing: connect, log, and leave the block or not."""
    protocol = trialstream.sync.connect()
    protocol.__enter__()
    for step in range(100):
        protocol.log_trial_metrics(trial, step=step, **{f"rank{rank}": step})
    tell("own", writer=protocol._protocol.writer)
    if close:
        protocol.__exit__(None, None, None)


def log_in_pool(trial: ts.Trial, rank: int) -> str:
    """Run a task of a pool: connect, log, and return the id of the writer."""
    with trialstream.sync.connect() as protocol:
        for step in range(100):
            protocol.log_trial_metrics(trial, step=step, **{f"rank{rank}": step})
        return protocol._protocol.writer


def processes(name: str, method: str) -> None:
    """Start processes that log to a trial of this one, by a start method; half of them do not close."""
    context = multiprocessing.get_context(method)
    with trialstream.sync.connect() as protocol:
        trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
        started = [
            context.Process(target=log_as_process, args=(trial, rank), kwargs={"close": rank % 2 == 0})
            for rank in range(4)
        ]
        for each in started:
            each.start()
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            list(pool.map(log_in_pool, [trial] * 2, (4, 5)))
        for step in range(100):
            protocol.log_trial_metrics(trial, step=step, loss=step)
        for each in started:
            each.join()
    tell("ended", codes=[each.exitcode for each in started], uid=trial.uid)


def undecided(name: str, method: str) -> None:
    """Start a process that logs to a trial that was created offline, by a start method."""
    context = multiprocessing.get_context(method)
    with trialstream.sync.connect(offline=True) as protocol:
        trial = protocol.new_trial(ts.Trial(name=name))
        child = context.Process(target=log_as_process, args=(trial, 0), kwargs={"close": False})
        child.start()
        for step in range(100):
            protocol.log_trial_metrics(trial, step=step, loss=step)
        child.join()
    tell("ended", codes=[child.exitcode], uid=trial.uid)


def hold(protocol: trialstream.sync.SyncProtocol) -> Iterator[trialstream.sync.SyncProtocol]:
    """Generator that holds the block of a protocol."""
    with protocol:
        yield protocol


def log_and_hold(trial: ts.Trial, rank: int, way: str) -> None:
    """Run a process of multiprocessing whose block is held by a generator, and end it in some way."""
    held.append(hold(trialstream.sync.connect()))
    protocol = next(held[-1])
    for step in range(100):
        protocol.log_trial_metrics(trial, step=step, **{f"rank{rank}": step})
    if way == "os._exit":
        protocol.commit("acked")
        os._exit(5)


def held_by_generators(name: str) -> None:
    """End processes of all kinds whose blocks are held by generators; this one ends in the same way."""
    held.append(hold(trialstream.sync.connect()))
    protocol = next(held[-1])
    trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
    codes: dict[str, int] = {}
    for way in ("falls off the end", "sys.exit", "os._exit"):
        pid = os.fork()
        if pid == 0:
            return in_child(protocol, trial, way)
        codes[f"os.fork, {way}"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for rank, (method, way) in enumerate(itertools.product(("fork", "spawn"), ("returns", "os._exit"))):
        child = multiprocessing.get_context(method).Process(target=log_and_hold, args=(trial, rank, way))
        child.start()
        child.join(30)
        codes[f"{method}, {way}"] = child.exitcode
    for step in range(100):
        protocol.log_trial_metrics(trial, step=step, loss=step)
    tell("ended", codes=codes)
    return None


def load(queue: Any, batches: int) -> None:
    """Run a worker of a data loader."""
    for i in range(batches):
        queue.put(i)


def data_loader(name: str) -> None:
    """Log in a loop while forked workers come and go."""
    context = multiprocessing.get_context("fork")
    slowest = 0.0
    with trialstream.sync.connect() as protocol:
        trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
        step = 0
        for _ in range(5):
            queue = context.Queue()
            workers = [context.Process(target=load, args=(queue, 50), daemon=True) for _ in range(3)]
            for each in workers:
                each.start()
            for _ in range(150):
                queue.get()
                protocol.log_trial_metrics(trial, step=step, loss=step)
                step += 1
            for each in workers:
                each.join()
            started = time.monotonic()
            protocol.commit("acked")
            slowest = max(slowest, time.monotonic() - started)
    tell("ended", steps=step, slowest=slowest, codes=[each.exitcode for each in workers])


if __name__ == "__main__":
    # A stall of the machine must not cause a resend, which the tests look for.
    sender._ATTEMPT_SECONDS = sender._REQUEST_SECONDS = 60.0
    globals()[sys.argv[1]](*sys.argv[2:])
