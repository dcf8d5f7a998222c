"""A process that replays and kills itself with SIGKILL: `dying.py TASK MODULE:NAME[.METHOD] CALL`.

It dies at the CALL-th call of that function, before the function has done anything.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from functools import partial

import anyio
import structlog
from trialstream.config import Config
from trialstream_consumer import worker
from trialstream_consumer.replay.rebuild import rebuild, rebuild_until
from trialstream_consumer.replay.verify import verify


def ignore(*_):
    """Ignore progress and differences."""


def arm(place, call):
    """Replace the function by one that kills the process at that call."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    original = getattr(owner, name)
    calls = 0

    def dying(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, dying)


def main(task, place, call):
    """Arm the function and run the task."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    if place.endswith("Store.write"):
        worker._BATCH_RECORDS = 3  # by default a small log is one batch
    config = Config.from_env()
    arm(place, int(call))
    tasks = {
        "rebuild": partial(rebuild, config, ignore),
        "until": partial(rebuild_until, config, "then", 2**42, ignore),
        "verify": partial(verify, config, ignore, ignore),
    }
    anyio.run(tasks[task])


if __name__ == "__main__":
    main(*sys.argv[1:])
