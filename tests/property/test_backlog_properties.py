"""Events leave the backlog in their order, and the spool has the oldest events, in any order of actions."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from random import Random

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from trialstream.event_log.topics import Route
from trialstream.pipeline import spiller as module
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.signals import ProgressSignal, WakeUp
from trialstream.pipeline.spiller import Spiller
from trialstream.pipeline.watermark import Watermark
from trialstream.spool.folder import Spool
from trialstream.spool.segment import read_segment
from trialstream_schemas.errors import SpoolError
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import TagsAdded

PARTITIONS = 3
STORE = SchemaStore()
KIB = 1024


class FlakySpool(Spool):
    """A spool on a disk that fails at times."""

    broken = False

    def append(self, *args, **kwargs):
        """Append, unless the disk is broken."""
        if self.broken:
            raise SpoolError("the disk is broken")
        return super().append(*args, **kwargs)


class World:
    """A backlog with its spiller, a model of the sender, and a record of all events."""

    def __init__(self, folder, dice, mode, *, connected):
        self.dice = dice
        self.now = 100.0
        self.spool = FlakySpool(folder, "p", "w", 10**9)
        wake_up = WakeUp(asyncio.get_running_loop())
        self.backlog = Backlog(Watermark(), lambda: None, wake_up.set, spill_bytes=32 * KIB)
        self.spiller = Spiller(
            self.backlog, self.spool, wake_up, ProgressSignal(), mode, memory_bytes=64 * KIB, drop_oldest=False
        )
        self.end = 0
        self.put = 0
        self.refused: set[int] = set()
        self.sent: dict[int, list[int]] = {i: [] for i in range(PARTITIONS)}
        if connected:
            self.connect()

    def connect(self):
        """Connect to Kafka."""
        self.backlog.connect(lambda entry: Route("t", entry.key[0]))

    def log(self):
        """Put some events into the backlog."""
        for _ in range(self.dice.randrange(20)):
            event = TagsAdded(trial="a", writer="w", time=0, values={"n": self.put})
            self.backlog.put(Entry("trials", bytes([self.dice.randrange(PARTITIONS)]), event, 1024))
            self.put += 1

    def send(self):
        """Send some events and have them acknowledged."""
        for route in self.backlog.routes():
            entries = self.backlog.peek(route, self.dice.randrange(15))
            self.sent[route.partition] += [number(each.encode()) for each in entries]
            self.end += len(entries)
            self.backlog.acked(route, len(entries), self.end)

    def refuse(self):
        """Refuse the first event of a partition."""
        for route in self.backlog.routes()[:1]:
            [entry] = self.backlog.peek(route, 1)
            self.refused.add(number(entry.encode()))
            self.backlog.discard(route)

    async def move(self):
        """Run a step of the spiller; half of the time a caller waits for the disk, so that it spills."""
        self.spiller._waiters = self.dice.randrange(2)
        await self.spiller._step()

    def break_disk(self):
        """Break the disk, or repair it."""
        self.spool.broken = not self.spool.broken

    def on_disk(self):
        """Return the numbers of the events in the files, in their order."""
        paths = sorted(self.spool.folder.glob("*.avro"))
        return [number(event.value) for path in paths for event in read_segment(path).events]

    def check(self, mode):
        """Assert that the disk has the oldest unsent events, in order; in mode `always`, before they can be sent."""
        disk = self.on_disk()
        assert disk == sorted(set(disk))
        sent = {each for numbers in self.sent.values() for each in numbers}
        waiting = [each for each in range(self.put) if each not in sent | self.refused]
        held = set(disk)
        assert [each for each in waiting if each in held] == waiting[: sum(each in held for each in waiting)]
        statistics = self.backlog.statistics()
        assert (statistics.queued, statistics.acked) == (len(waiting), len(sent))
        assert statistics.dropped == len(self.refused)
        assert statistics.spooled == sum(each in held for each in waiting)
        if mode == "always" and not self.spool.broken:
            sendable = [each for route in self.backlog.routes() for each in self.backlog.peek(route, 10**6)]
            assert held.issuperset(number(each.encode()) for each in sendable if each.segment is not None)


def number(value):
    """Return the number of an event."""
    return STORE.decode(value).values["n"]


async def live(folder, seed, mode, *, connected, flaky):
    """Perform actions in a random order, then send everything."""
    dice = Random(seed)
    world = World(folder, dice, mode, connected=connected)
    for _ in range(dice.randrange(60)):
        actions = [world.log, world.log, world.send, world.send, world.move, world.move, world.move, world.refuse]
        actions += [world.break_disk] if flaky else []
        actions += [] if world.backlog.has_connected else [world.connect]
        done = dice.choice(actions)()
        if done is not None:
            await done
            world.check(mode)
    world.spool.broken = False
    if not world.backlog.has_connected:
        world.connect()
    while world.backlog.statistics().queued:
        world.send()
        await world.spiller._step()
    await world.spiller.finish()

    sent = [each for numbers in world.sent.values() for each in numbers]
    assert sorted([*sent, *world.refused]) == list(range(world.put))
    assert all(numbers == sorted(numbers) for numbers in world.sent.values())
    assert not folder.exists()
    assert world.backlog.statistics() == (0, 0, len(sent), len(world.refused), 0)


@pytest.mark.timeout(600)  # 60 lives, each with many writes to the disk
@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["overflow", "always"]), st.booleans(), st.booleans())
def test_events_leave_in_the_order_in_which_they_came(seed, mode, connected, flaky):
    """Events leave in the order in which they came, in either mode, if the disk fails, or Kafka is late or refuses."""
    with tempfile.TemporaryDirectory() as folder:
        patched = module._BLOCK_BYTES
        module._BLOCK_BYTES = 4 * KIB
        try:
            anyio.run(lambda: live(Path(folder) / "p" / "w", seed, mode, connected=connected, flaky=flaky))
        finally:
            module._BLOCK_BYTES = patched
