"""Back-pressure: when an event waits for space, and when it is dropped in the caller's thread."""

from __future__ import annotations

import os

import anyio
import anyio.lowlevel
import pytest
import trialstream as ts
from trialstream.kafka.backpressure import BackPressure
from trialstream.pipeline.inbox import InboxFull

MIB = 2**20


class Pipeline:
    """A pipeline whose progress the test decides."""

    def __init__(self) -> None:
        self.progressed = 0.0
        self.stuck = False
        self.waits = 0

    async def wait_progress(self):
        """Count the wait, and wait until the poll ends it."""
        self.waits += 1
        await anyio.sleep_forever()


class Outbox:
    """An outbox that counts what it drops."""

    def __init__(self) -> None:
        self.dropped: list[str] = []

    def take(self):
        """Take nothing."""

    def drop(self, uid):
        """Drop an event."""
        self.dropped.append(uid)


def full():
    """Fail as an inbox without space."""
    raise InboxFull


@pytest.fixture
def pipeline():
    """Return a pipeline without progress."""
    return Pipeline()


@pytest.fixture
def outbox():
    """Return an empty outbox."""
    return Outbox()


@pytest.fixture
def pressure(pipeline, outbox, tmp_path):
    """Return a function that makes the back-pressure of a setting."""
    return lambda **settings: BackPressure(ts.Config(block_seconds=0.01, **settings), outbox, pipeline, tmp_path)


async def test_an_outage_blocks_once(pressure, pipeline):
    """After a wait without success no event waits, until there is progress again."""
    blocking = pressure()

    assert blocking.should_wait()
    assert not await blocking.wait(full)
    assert not blocking.should_wait()

    pipeline.progressed = float("inf")
    assert blocking.should_wait()


async def test_an_event_that_finds_space_is_added(pressure, pipeline):
    """The attempt is repeated after each poll until there is space."""
    attempts = iter([True, True, False])

    def attempt():
        if next(attempts):
            raise InboxFull

    pipeline.progressed = float("inf")
    pipeline.wait_progress = anyio.lowlevel.checkpoint

    assert await pressure(spool="off", memory_bytes=16 * MIB).wait(attempt)
    assert list(attempts) == []


def test_with_raise_and_a_stuck_disk_nothing_waits(pressure, pipeline):
    """The call fails at once, and names the spool."""
    pipeline.stuck = True
    raising = pressure(when_full="raise")

    assert not raising.should_wait()
    with pytest.raises(ts.SpoolFull, match="nothing was logged"):
        raising.drop("t_0", droppable=True)


def test_a_request_is_refused_and_not_dropped(pressure, outbox):
    """Its caller waits for an outcome."""
    with pytest.raises(ts.SpoolFull):
        pressure().drop("t_0", droppable=False)

    assert outbox.dropped == []


async def test_a_dropped_call_stays_in_its_thread(tmp_path, monkeypatch):
    """Once an outage has blocked for its time, further calls are dropped without a crossing to the I/O thread.

    A task that is being cancelled can log the end of its trial: the event is dropped and counted.
    """
    settings = {"offline": True, "spool_dir": str(tmp_path), "spool_bytes": 16 * MIB, "memory_bytes": 16 * MIB}
    crossings = []
    with (
        pytest.warns(RuntimeWarning, match="closed with events that were not sent"),
        pytest.warns(RuntimeWarning, match="new events are dropped"),
    ):
        async with ts.connect(**settings, block_seconds=0.1) as protocol:
            trial = await protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
            while not protocol.statistics().dropped:
                await protocol.log_trial_metadata(trial, noise=os.urandom(400_000))
            dropped = protocol.statistics().dropped
            with monkeypatch.context() as patch, anyio.CancelScope() as scope:
                patch.setattr(protocol._session.lifecycle, "call", lambda *given: crossings.append(given))
                await protocol.log_trial_metrics(trial, step=1, loss=0.5)
                scope.cancel()
                await protocol.set_trial_status(trial, ts.Status.Suspended)
                await protocol.log_trial_finish(trial)
            counted = protocol.statistics().dropped - dropped

    assert crossings == []
    assert counted == 3
