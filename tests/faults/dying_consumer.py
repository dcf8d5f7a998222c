"""`python dying_consumer.py POINT PASSES`: a consumer that kills itself (SIGKILL) at a step, after some passes."""

from __future__ import annotations

import functools
import os
import signal
import sys

from motor.motor_asyncio import AsyncIOMotorClientSession, AsyncIOMotorCollection
from trialstream_console.cli import main
from trialstream_consumer.projection.ownership import Ownership
from trialstream_consumer.projection.store import Store
from trialstream_consumer.service import Service

# By name: the class, the method, and whether the process dies before the call or after it.
POINTS = {
    "taken over, nothing read": (Ownership, "acquire", "after"),
    "while it loads": (Store, "_find", "after"),
    "folded, before the transaction": (Store, "write", "before"),
    "after the checkpoint's compare-and-set": (Ownership, "_advance", "after"),
    "between two writes": (AsyncIOMotorCollection, "bulk_write", "after"),
    "before the commit": (AsyncIOMotorClientSession, "commit_transaction", "before"),
    "after the commit": (AsyncIOMotorClientSession, "commit_transaction", "after"),
    "before the offset is committed to Kafka": (Service, "_commit", "before"),
}


def deadly(method, when, passes):
    """Wrap a method so that the process dies after a number of passes."""
    left = [passes]

    def die_at_last():
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(method)
    async def wrapped(*args, **kwargs):
        if when == "before":
            die_at_last()
        found = await method(*args, **kwargs)
        if when == "after":
            die_at_last()
        return found

    return wrapped


if __name__ == "__main__":
    owner, name, when = POINTS[sys.argv[1]]
    setattr(owner, name, deadly(getattr(owner, name), when, int(sys.argv[2])))
    sys.argv = ["trialstream", "consume"]
    main()
