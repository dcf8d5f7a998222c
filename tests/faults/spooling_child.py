"""A process that kills itself at a step of the spool: `python spooling_child.py STEP N CONFIG train NAME`.

It trains, and writes to stdout the number of rows of its trial that the spool has confirmed so far, one line each time.
With `push` instead, it sends the events in the spool.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import trialstream as ts
from trialstream.pipeline import backlog, sender, spiller
from trialstream.pipeline.push import push_spool
from trialstream.spool import folder as spool
from trialstream.spool.finding import abandoned


def die() -> None:
    """Kill this process with SIGKILL, as the kernel's out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(owner: Any, name: str, at: int, *, after: bool = False, half: bool = False) -> None:
    """Make the n-th call of a function kill the process: before it, after it, or after writing half of its bytes."""
    real, calls = getattr(owner, name), 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            if half:
                os.write(args[0], bytes(args[1])[: len(args[1]) // 2])
            if after:
                real(*args, **kwargs)
            die()
        return real(*args, **kwargs)

    setattr(owner, name, dying)


STEPS: dict[str, Any] = {
    "before a write": lambda n: arm(spool, "write_all", n),
    "in a write": lambda n: arm(spool, "write_all", n, half=True),
    "after a write": lambda n: arm(spool, "write_all", n, after=True),
    "before a new file is in its folder": lambda n: arm(spool, "sync_folder", n),
    "before written events count": lambda n: arm(backlog.Backlog, "spooled", n),
    "after written events count": lambda n: arm(backlog.Backlog, "spooled", n, after=True),
    "before a segment is closed": lambda n: arm(spool.Spool, "close_segment", n),
    "after a segment is closed": lambda n: arm(spool.Spool, "close_segment", n, after=True),
    "before a segment is deleted": lambda n: arm(spool.Spool, "remove", n),
    "after a segment is deleted": lambda n: arm(spool.Spool, "remove", n, after=True),
}


PUSH_STEPS: dict[str, Any] = {
    "before a segment is loaded": lambda n: arm(backlog.Backlog, "load", n),
    "after a segment is loaded": lambda n: arm(backlog.Backlog, "load", n, after=True),
    "before a batch is sent": lambda n: arm(sender.Sender, "_send", n),
    "before an acknowledgement counts": lambda n: arm(backlog.Backlog, "acked", n),
    "before a segment is deleted": lambda n: arm(spool.Spool, "remove", n),
    "after a segment is deleted": lambda n: arm(spool.Spool, "remove", n, after=True),
}


async def train(config: ts.Config, name: str) -> None:
    """Train for 20,000 rows."""
    async with ts.KafkaProtocol(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name), auto_increment=True)
        assert trial is not None
        for row in range(20_000):
            await protocol.log_trial_metrics(trial, step=row, loss=row / 4, noise=hash((row, "noise")))
            if row % 100 == 99:
                await protocol.commit("spooled")
                sys.stdout.write(f"{row + 1}\n")
                sys.stdout.flush()


async def push(config: ts.Config) -> None:
    """Send the events in the spool."""
    for each in abandoned(config.spools):
        await push_spool(config, each, lambda _: None)


if __name__ == "__main__":
    spiller._SEGMENT_BYTES = 40_000  # a few blocks behind the header
    sender._BATCH_ENTRIES = 10
    step, at, config, job, *names = sys.argv[1:]
    (STEPS if job == "train" else PUSH_STEPS)[step](int(at))
    asyncio.run({"train": train, "push": push}[job](ts.Config(**json.loads(config)), *names))
