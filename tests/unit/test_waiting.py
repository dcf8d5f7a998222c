"""Notices of long waits: given once, while the wait lasts, and only to a receiver."""

from __future__ import annotations

import asyncio
import threading

import anyio
import anyio.lowlevel
import pytest
from trialstream import waiting
from trialstream.waiting import notice_if_slow, receive_notices, waiting_for

# For waits that end by themselves: the deadline of a notice that must come, long for a busy machine.
SECONDS = 30.0


@pytest.fixture
def soon(monkeypatch):
    """Give notice almost at once."""
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.01)


@pytest.fixture
def late(monkeypatch):
    """Give notice of nothing that ends in the time of a test."""
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 10 * SECONDS)


def timers():
    """Return the running timers."""
    return [each for each in threading.enumerate() if isinstance(each, threading.Timer)]


async def test_a_long_wait_in_an_event_loop(soon):
    """The notice comes while the block still waits."""
    texts, received = [], asyncio.Event()
    with receive_notices(lambda text: (texts.append(text), received.set())), waiting_for("Kafka at a:1"):
        with anyio.fail_after(SECONDS):
            await received.wait()

    assert texts == ["waiting for Kafka at a:1"]


def test_a_long_wait_without_an_event_loop(soon):
    """Blocking code gives notice too, while it waits."""
    texts, received = [], threading.Event()
    with receive_notices(lambda text: (texts.append(text), received.set())), notice_if_slow("stopping"):
        assert received.wait(SECONDS)

    assert texts == ["stopping"]


async def test_tasks_of_the_block_and_each_text_once(soon):
    """Tasks that the block starts give notice to its receiver; several waits for one server are one notice."""
    texts, done = [], asyncio.Event()

    def receive(text):
        texts.append(text)
        if len(texts) == 2:
            done.set()

    async def wait(server):
        for _ in range(2):
            with waiting_for(server):
                await anyio.sleep(0.05)  # the time of five notices
        with waiting_for(f"another than {server}"):
            await done.wait()

    with receive_notices(receive):
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(SECONDS):
                for _ in range(3):
                    tasks.start_soon(wait, "MongoDB")
                await done.wait()

    assert texts == ["waiting for MongoDB", "waiting for another than MongoDB"]


@pytest.mark.parametrize("error", [None, ValueError], ids=["ends", "fails"])
async def test_a_short_wait_in_an_event_loop(late, error):
    """There is no notice of a wait that ends or fails in time, and no timer stays."""
    texts = []
    handles = asyncio.get_running_loop()._scheduled
    with receive_notices(texts.append), pytest.raises(ValueError) if error else waiting_for("x"), waiting_for("y"):
        await anyio.lowlevel.checkpoint()
        if error:
            raise error

    assert all(each.cancelled() for each in handles if each._when - asyncio.get_running_loop().time() > SECONDS)
    assert texts == []


def test_a_short_wait_without_an_event_loop(late):
    """There is no notice of blocking code that ends in time, and no thread stays."""
    texts, before = [], timers()
    with receive_notices(texts.append), notice_if_slow("stopping"):
        [timer] = [each for each in timers() if each not in before]
    timer.join(SECONDS)

    assert not timer.is_alive()
    assert texts == []


def test_without_a_receiver(soon):
    """Training processes receive no notices, and nothing is timed."""
    before = timers()
    with waiting_for("Kafka"):
        assert timers() == before
    with receive_notices(pytest.fail):
        pass
    with waiting_for("Kafka"):
        assert timers() == before


def test_the_innermost_receiver(soon):
    """A receiver within another one, such as the log of the consumer within the command, receives alone."""
    received = threading.Event()
    with receive_notices(pytest.fail), receive_notices(lambda _: received.set()), notice_if_slow("x"):
        assert received.wait(SECONDS)
