"""Notices of long waits: a command shows what it waits for; a training process shows nothing.

Code that waits for a server does so within `waiting_for`. A caller that wants a notice of each wait of more than
`NOTICE_SECONDS` runs the code within `receive_notices`; without a receiver, waits are not timed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TypeAlias

__all__ = ["NOTICE_SECONDS", "Receiver", "ignore_notices", "notice_if_slow", "receive_notices", "waiting_for"]

Receiver: TypeAlias = Callable[[str], object]
"""Called with the text of a notice: in the event loop that waits, or, without one, in a thread of the timer."""

NOTICE_SECONDS = 1.0
"""Duration of a wait after which there is a notice, seconds."""

_receiver: ContextVar[Receiver | None] = ContextVar("receiver", default=None)


@contextmanager
def receive_notices(receiver: Receiver) -> Iterator[None]:
    """Receive the notices of a block and of the tasks that it starts; each text once.

    Args:
        receiver: Called with each text.
    """
    received: set[str] = set()

    def receive(text: str) -> None:
        if text not in received:
            received.add(text)
            receiver(text)

    token = _receiver.set(receive)
    try:
        yield
    finally:
        _receiver.reset(token)


@contextmanager
def ignore_notices() -> Iterator[None]:
    """Give no notices of waits in a block, of which the user is told otherwise."""
    token = _receiver.set(None)
    try:
        yield
    finally:
        _receiver.reset(token)


@contextmanager
def notice_if_slow(text: str) -> Iterator[None]:
    """Give notice if a block takes longer than `NOTICE_SECONDS`, in the event loop or without one.

    Args:
        text: Text of the notice.
    """
    receive = _receiver.get()
    if receive is None:
        yield
        return
    timer: asyncio.TimerHandle | threading.Timer
    try:
        timer = asyncio.get_running_loop().call_later(NOTICE_SECONDS, receive, text)
    except RuntimeError:  # no event loop runs
        timer = threading.Timer(NOTICE_SECONDS, receive, (text,))
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def waiting_for(server: str) -> AbstractContextManager[None]:
    """Give notice of what a block waits for if it waits longer than `NOTICE_SECONDS`.

    Args:
        server: What it waits for, such as `Kafka at 127.0.0.1:9092`; without credentials.
    """
    return notice_if_slow(f"waiting for {server}")
