"""A short training script for each way to end a process: `exits.py <sync|async> <ending> <name of the trial>`."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import threading
import time
from typing import Any

import trialstream as ts
import trialstream.sync
from telling import tell, wait_for_go
from trialstream.pipeline import sender

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP)
# Endings at which the protocol is entered and never left.
LEFT_OPEN = ("interpreter exit", "threads")
BLOCKING = ("SIGINT", "SIGINT twice", "SIGTERM", "SIGTERM handled")

api, ending, name = sys.argv[1:4]
timeout = float(sys.argv[4])


class Done:
    """Number of calls that have returned."""

    steps = 0


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
    atexit.register(lambda: tell("ended", logged=Done.steps, kept=installed() == before))


def watch(protocol: Any) -> None:
    """Send a message when the protocol begins to close."""
    session = getattr(protocol, "_protocol", protocol)._session

    def report_close() -> None:
        while session.lifecycle._state != "closed":
            time.sleep(0.001)
        tell("closing")

    threading.Thread(target=report_close, daemon=True).start()


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
    trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
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
    if ending in BLOCKING:
        watch(protocol)
        tell("waiting")
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
        watch(protocol)
        tell("waiting")
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
    protocol = trialstream.sync.connect(timeout=timeout)
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
    sender._ATTEMPT_SECONDS = 60.0  # a stall of the machine must not cause a resend, which the tests report_close for
    prepare()
    if api == "sync":
        main()
    else:
        asyncio.run(main_async())
