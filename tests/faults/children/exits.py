"""A short training script for each way to end a process: `exits.py <sync|async> <ending> <name of the trial>`."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trialstream as ts
import trialstream.sync
from telling import tell, wait_for_go
from trialstream.pipeline import sender

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP)
# Endings at which the protocol is entered and never left.
LEFT_OPEN = ("interpreter exit", "threads", "__del__", "exit handlers", "daemon thread")
BLOCKING = ("SIGINT", "SIGINT twice", "SIGTERM", "SIGTERM handled")

api, ending, name = sys.argv[1:4]
timeout = float(sys.argv[4])


class Done:
    """Number of calls that have returned, the trial, and objects that are held until the interpreter finalizes."""

    steps = 0
    trial: ts.Trial
    held: Any = None
    unopened: trialstream.sync.SyncProtocol


def installed() -> list[Any]:
    """Return the installed handlers of signals."""
    return [signal.getsignal(each) for each in SIGNALS]


def handle(number: int, _: Any) -> None:
    """Handler of a signal, installed by a user."""
    sys.exit(4)


def prepare() -> None:
    """Install handlers before the protocol is entered, as a user may."""
    if ending != "SIGTERM":
        signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    before = installed()

    def report_end() -> None:
        """Report after the exit handler of the protocol, which is registered later."""
        if ending == "daemon thread":
            Done.held.join(10)
        tell("ended", logged=Done.steps, kept=installed() == before)

    atexit.register(report_end)


def tell_waiting(protocol: Any) -> None:
    """Send a message that a signal can come, and another one when the protocol begins to close."""
    session = getattr(protocol, "_protocol", protocol)._session

    def report_close() -> None:
        while session.lifecycle._state != "closed":
            time.sleep(0.001)
        tell("closing")

    threading.Thread(target=report_close, daemon=True).start()
    # Python ignores a KeyboardInterrupt in a `__del__`, and the closed connections of the opening have one.
    gc.collect()
    tell("waiting")


# --- Calls at the exit of the interpreter


def report_refused(protocol: trialstream.sync.SyncProtocol) -> None:
    """Make calls of every kind that the closed protocol must refuse, and report the class of each error."""
    calls: list[Callable[[], Any]] = [
        lambda: protocol.log_trial_metrics(Done.trial, loss=1.0),
        lambda: protocol.log_trial_metrics(Done.trial, loss=1),
        lambda: protocol.add_trial_tags(Done.trial, a=1),
        lambda: protocol.log_trial_finish(Done.trial),
        lambda: protocol.new_trial(ts.Trial(name="late")),
        lambda: protocol.commit("spooled"),
        lambda: protocol.fetch_trials({}),
        protocol.statistics,
        protocol.open,
        Done.unopened.open,
    ]
    errors = []
    for call in calls if sys.is_finalizing() else calls[:-1]:
        try:
            call()
        except Exception as error:  # noqa: BLE001 (reported)
            errors.append(type(error).__name__)
        else:
            errors.append("")
    protocol.close()
    tell("refused", errors=errors, finalizing=sys.is_finalizing())


def hold(protocol: trialstream.sync.SyncProtocol) -> Iterator[trialstream.sync.SyncProtocol]:
    """Generator that holds the block of a protocol."""
    with protocol:
        try:
            yield protocol
        finally:
            report_refused(protocol)


class Logger:
    """Object that logs when it is finalized."""

    def __init__(self, protocol: trialstream.sync.SyncProtocol) -> None:
        self.protocol = protocol
        self.cycle = self

    def __del__(self) -> None:
        report_refused(self.protocol)


def log_late(protocol: trialstream.sync.SyncProtocol) -> None:
    """Log more in an exit handler that runs before that of the protocol."""
    for _ in range(10):
        protocol.log_trial_metrics(Done.trial, step=Done.steps, loss=Done.steps)
        Done.steps += 1
    protocol.add_trial_tags(Done.trial, late=True)


def log_until_closed(protocol: trialstream.sync.SyncProtocol) -> None:
    """Log in a loop until the protocol is closed."""
    try:
        while True:
            protocol.log_trial_metrics(Done.trial, step=Done.steps, loss=float(Done.steps))
            Done.steps += 1
            if Done.steps % 100 == 0:
                protocol.commit("spooled")
    except ts.ProtocolClosed:
        return


def act() -> None:
    """End in the way that was requested."""
    if ending == "sys.exit":
        sys.exit(3)
    if ending == "exception":
        raise ZeroDivisionError
    if ending == "os._exit":
        os._exit(5)


def train(protocol: trialstream.sync.SyncProtocol) -> None:
    """Log, wait, log more, and end."""
    Done.trial = trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
    protocol.log_trial_start(trial)
    while Done.steps < 500:
        protocol.log_trial_metrics(trial, step=Done.steps, loss=Done.steps)
        Done.steps += 1
    protocol.commit("spooled")
    tell("ready")
    wait_for_go()
    while Done.steps < 1000:
        protocol.log_trial_metrics(trial, step=Done.steps, loss=Done.steps)
        Done.steps += 1
    if ending == "threads":
        threading.Thread(target=log_on, args=(protocol, trial)).start()
    if ending == "__del__":
        Done.held = Logger(protocol)
    if ending == "exit handlers":
        atexit.register(log_late, protocol)
    if ending == "daemon thread":
        Done.held = threading.Thread(target=log_until_closed, args=(protocol,), daemon=True)
        Done.held.start()
    if ending in BLOCKING:
        tell_waiting(protocol)
    while ending in BLOCKING:
        protocol.log_trial_metrics(trial, step=Done.steps, loss=Done.steps)
        Done.steps += 1
    act()


def log_on(protocol: trialstream.sync.SyncProtocol, trial: ts.Trial) -> None:
    """Log more after the main thread has ended."""
    threading.main_thread().join()
    protocol.log_trial_metrics(trial, step=Done.steps, loss=Done.steps)
    protocol.commit("spooled")
    Done.steps += 1


async def train_async(protocol: ts.Protocol) -> None:
    """Log, wait, log more, and end, asynchronously."""
    trial = await protocol.new_trial(ts.Trial(name=name), auto_increment=True)
    await protocol.log_trial_start(trial)
    while Done.steps < 500:
        await protocol.log_trial_metrics(trial, step=Done.steps, loss=Done.steps)
        Done.steps += 1
    await protocol.commit("spooled")
    tell("ready")
    wait_for_go()
    while Done.steps < 1000:
        await protocol.log_trial_metrics(trial, step=Done.steps, loss=Done.steps)
        Done.steps += 1
    if ending == "threads":
        threading.Thread(target=lambda: asyncio.run(log_on_async(protocol, trial))).start()
    if ending in BLOCKING:
        tell_waiting(protocol)
    while ending in BLOCKING:
        await protocol.log_trial_metrics(trial, step=Done.steps, loss=Done.steps)
        Done.steps += 1
    act()


async def log_on_async(protocol: ts.Protocol, trial: ts.Trial) -> None:
    """Log more after the main thread has ended."""
    threading.main_thread().join()
    await protocol.log_trial_metrics(trial, step=Done.steps, loss=Done.steps)
    await protocol.commit("spooled")
    Done.steps += 1


def main() -> None:
    """Run `train` without async."""
    protocol, Done.unopened = (trialstream.sync.connect(timeout=timeout) for _ in range(2))
    if ending == "exit handlers":
        atexit.register(report_refused, protocol)
    if ending == "generator":
        Done.held = hold(protocol)
        train(next(Done.held))
        return
    if ending == "contextmanager":
        Done.held = contextmanager(hold)(protocol)
        train(Done.held.__enter__())
        return
    if ending in LEFT_OPEN:
        train(protocol.__enter__())
        return
    before = installed()
    with protocol:
        assert installed() == before
        train(protocol)


async def main_async() -> None:
    """Run `train_async`."""
    protocol = ts.connect(timeout=timeout)
    if ending in LEFT_OPEN:
        await train_async(await protocol.__aenter__())
        return
    before = installed()
    async with protocol:
        assert installed() == before
        await train_async(protocol)


if __name__ == "__main__":
    # A stall of the machine must not cause a resend, which the tests look for.
    sender._ATTEMPT_SECONDS = sender._REQUEST_SECONDS = 60.0
    prepare()
    if api == "sync":
        main()
    else:
        asyncio.run(main_async())
