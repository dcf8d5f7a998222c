"""`python dying_consumer.py POINT PASSES`: a consumer that kills itself (SIGKILL) where it comes to a step again."""

from __future__ import annotations

import functools
import os
import signal
import sys

from motor.motor_asyncio import AsyncIOMotorClientSession, AsyncIOMotorCollection
from trialstream_console.cli import main
from trialstream_consumer.projection.store import Store
from trialstream_consumer.service import Service

# By name: the class, the method, and whether death comes before it or when it has returned.
POINTS = {
    "taken over, nothing read": (Store, "acquire", "after"),
    "while it loads": (Store, "_find", "after"),
    "folded, before the transaction": (Store, "write", "before"),
    "after the checkpoint's compare-and-set": (Store, "_advance", "after"),
    "between two writes": (AsyncIOMotorCollection, "bulk_write", "after"),
    "before the commit": (AsyncIOMotorClientSession, "commit_transaction", "before"),
    "after the commit": (AsyncIOMotorClientSession, "commit_transaction", "after"),
    "before the offset is told to Kafka": (Service, "_commit", "before"),
}


def deadly(method, when, passes):
    """The method, which is survived so many times."""
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
