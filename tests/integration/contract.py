"""Parts that the tests of the Protocol share, with its contract as data from `trialstream.testing.contract`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trialstream as ts
from trialstream.testing.contract import (
    KEYS,
    METHODS,
    NOT_NUMBERS,
    NUMBERS,
    REFUSED,
    TRIAL_METHODS,
    VALUES,
    arguments_of,
)

__all__ = [
    "KEYS",
    "METHODS",
    "NOT_NUMBERS",
    "NUMBERS",
    "REFUSED",
    "TRIAL_METHODS",
    "VALUES",
    "again",
    "arguments_of",
    "connected",
    "exactly",
    "until",
]


def connected(config: ts.Config, **settings: Any) -> ts.KafkaProtocol:
    """Return a Protocol with these settings, not entered yet."""
    return ts.connect(kafka=config.kafka, mongo=config.mongo, prefix=config.prefix, **settings)


async def again(protocol: ts.Protocol, trial: ts.Trial) -> ts.Trial:
    """Read the trial again from the projection."""
    [found] = await protocol.fetch_trials({"uid": trial.uid})
    return found


def exactly(x: Any) -> str:
    """Return a form in which True and 1, and 0.0 and -0.0, differ, and NaN equals NaN."""
    return repr(x)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    """Wait until the condition holds.

    Raises:
        TimeoutError: The condition did not hold within that many seconds.
    """
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"condition not met after {seconds} s")
        await anyio.sleep(0.02)
