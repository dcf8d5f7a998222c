"""Warnings of a protocol point to the line of the user's code: of the block, of the call, or of the opening."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import warnings
from contextlib import AsyncExitStack

import pytest
import trialstream as ts
import trialstream.sync

CLOSED = "closed with events that were not sent"
OPENED = "until Kafka answers"

LEFT_OPEN = """
import trialstream as ts, trialstream.sync, sys

def main():
    protocol = trialstream.sync.connect(
        kafka="127.0.0.1:1", mongo="mongodb://127.0.0.1:1", timeout=0.2, spool_dir=sys.argv[1]
    )
    protocol.open()  # line 8
    protocol.new_trial(ts.Trial(name="t"), auto_increment=True)

main()
"""


@pytest.fixture
def settings(tmp_path):
    """Settings of a protocol that reaches no server, so that opening and closing warn."""
    return {"kafka": "127.0.0.1:1", "mongo": "mongodb://127.0.0.1:1", "timeout": 0.2, "spool_dir": str(tmp_path)}


@pytest.fixture
def said():
    """The warnings that are issued in the test."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def lines(said, text):
    """Return file and line of the warnings that contain a text."""
    return [(each.filename, each.lineno) for each in said if text in str(each.message)]


def here(offset=0):
    """Return file and line of the caller."""
    frame = inspect.currentframe().f_back
    return frame.f_code.co_filename, frame.f_lineno + offset


async def test_async_blocks(settings, said):
    """Both warnings of a block point to its `async with`."""
    async with ts.connect(**settings) as protocol:
        opened = here(-1)
        await protocol.new_trial(ts.Trial(name="t"), auto_increment=True)

    assert lines(said, OPENED) == [opened]
    assert lines(said, CLOSED) == [opened]


async def test_blocks_of_an_exit_stack(settings, said):
    """Frames of the standard library between the user's code and the protocol are passed over."""
    async with AsyncExitStack() as stack:
        left = here(-1)
        protocol = await stack.enter_async_context(ts.connect(**settings))
        await protocol.new_trial(ts.Trial(name="t"), auto_increment=True)

    assert lines(said, OPENED) == [(left[0], left[1] + 2)]
    assert lines(said, CLOSED) == [left]


async def test_a_task_of_the_protocol_alone(settings, said):
    """A coroutine of the protocol that is a task has no line of its own: the warning points out of the library."""
    protocol = ts.connect(**settings)
    await asyncio.create_task(protocol.__aenter__())
    await protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
    await asyncio.create_task(protocol.__aexit__(None, None, None))

    [(file, _)] = lines(said, CLOSED)
    assert "asyncio" not in file
    assert "trialstream/" not in file.replace(__file__, "")


def test_sync_blocks(settings, said):
    """Both warnings of a block point to its `with`, although the work is done in another thread."""
    with trialstream.sync.connect(**settings) as protocol:
        opened = here(-1)
        protocol.new_trial(ts.Trial(name="t"), auto_increment=True)

    assert lines(said, OPENED) == [opened]
    assert lines(said, CLOSED) == [opened]


def test_warnings_as_errors(settings):
    """If warnings are errors, the block raises them, and its own exception is never replaced."""
    with pytest.raises(RuntimeWarning, match=OPENED), trialstream.sync.connect(**settings):
        pass

    def fail():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f".*{OPENED}")
            with trialstream.sync.connect(**settings) as protocol:
                protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_filters_by_module(settings):
    """A filter for the user's module applies to the warnings that its lines cause."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=__name__)
        with trialstream.sync.connect(**settings) as protocol:
            protocol.new_trial(ts.Trial(name="t"), auto_increment=True)


def test_exit_handlers(tmp_path):
    """A protocol that is never left warns at the exit, for the line that opened it."""
    script = tmp_path / "script.py"
    script.write_text(LEFT_OPEN)
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "spool")], capture_output=True, text=True, timeout=60, check=True
    )

    [closed] = [line for line in ran.stderr.splitlines() if CLOSED in line]
    assert closed.startswith(f"{script}:8: RuntimeWarning: ")
