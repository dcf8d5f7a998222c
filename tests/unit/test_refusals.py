"""Refused events: what the user is told, and what is kept."""

from __future__ import annotations

import anyio
import pytest
from trialstream.event_log.topics import Route
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.refusals import Refusals
from trialstream.pipeline.signals import ProgressSignal
from trialstream.pipeline.watermark import Watermark
from trialstream.spool.folder import Spool
from trialstream.spool.segment import read_segment
from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.wire.events import TagsAdded

ROUTE = Route("p.trials", 0)


class World:
    """A backlog whose events are refused."""

    def __init__(self, folder, *, halts=False):
        self.said = []
        self.spool = None if folder is None else Spool(folder, "p", "w", 10**9)
        self.backlog = Backlog(Watermark(), lambda: None, lambda: None, spill_bytes=10**9)
        self.backlog.connect(lambda _: ROUTE)
        self.backlog.stop_spilling()
        self.refusals = Refusals(self.backlog, self.spool, ProgressSignal(), self.said.append, halts=halts)

    async def refuse(self, *, unsure=False, **fields):
        """Queue an event, and let Kafka refuse it."""
        event = TagsAdded(trial="a_0", writer="w", time=0, values={"x": "y"}, **fields)
        self.backlog.put(Entry.of(event, 100))
        [entry] = self.backlog.peek(ROUTE, 1)
        entry.unsure = unsure
        await self.refusals.refuse(ROUTE, entry, "too large")

    def kept(self):
        """Return the number of events in files."""
        return sum(len(contents.events) for contents in map(read_segment, self.spool.folder.glob("refused-*.avro")))


@pytest.fixture
def world(tmp_path):
    """A backlog with a spool."""
    made = World(tmp_path / "a b" / "w")
    yield made
    made.spool.unlock()


async def test_each_event_is_kept_and_few_warnings_are_issued(world):
    """Each event is on the disk and counts as dropped; the warnings are a minute apart and count all events."""
    for _ in range(3):
        await world.refuse()
    world.refusals._next_warning = 0.0  # a minute later
    await world.refuse()
    first, second = world.said
    statistics = world.backlog.statistics()
    [summary] = world.refusals.summary()

    command = f"trialstream push --refused '{world.spool.folder}'"
    assert (world.kept(), statistics.dropped, statistics.queued) == (4, 4, 0)
    assert "TagsAdded of trial a_0 with " in first
    assert "is larger than topic p.trials takes (too large): the event counts as dropped and is kept" in first
    assert first.endswith(command)
    assert second.endswith(" (2 more events were refused since the last warning)")
    assert summary.startswith("4 events that Kafka refused as too large are in ")
    assert summary.endswith(command)


async def test_nothing_is_said_without_refused_events(world):
    """Without a refused event there is neither a summary nor a folder."""
    assert world.refusals.summary() == []
    assert not world.spool.folder.exists()


async def test_events_that_cannot_be_kept(tmp_path):
    """Without a spool, or if the disk fails, the event is lost, and the warning says why."""
    (tmp_path / "file").write_text("")
    for folder, reason in (
        (None, "there is no spool: TRIALSTREAM_SPOOL is off"),
        (tmp_path / "file" / "w", "cannot be"),
    ):
        world = World(folder)
        await world.refuse()

        assert world.backlog.statistics().dropped == 1
        assert "the event is lost (" in world.said[0]
        assert reason in world.said[0]
        assert world.refusals.summary() == ["1 event that Kafka refused as too large is lost"]


async def test_a_claim_is_not_kept(world):
    """A claim without a waiting caller is lost: it must not be applied later."""
    await world.refuse(request="r", if_version=3)

    assert "the event is lost (a claim is not sent later)" in world.said[0]
    assert not world.spool.folder.exists()


async def test_an_event_that_may_have_arrived_is_not_kept(world):
    """An event of which an earlier attempt had no answer would count twice if it was sent later."""
    await world.refuse(unsure=True)

    assert "the event is lost (unless Kafka took it at an earlier attempt, which had no answer)" in world.said[0]
    assert (world.kept(), world.backlog.statistics().dropped) == (0, 1)


async def test_a_push_halts(tmp_path):
    """The event stays in its queue, and nothing else is done with it."""
    world = World(tmp_path / "w", halts=True)
    with anyio.move_on_after(0.05) as waiting:
        await world.refuse()

    assert waiting.cancelled_caught
    assert "TagsAdded of trial a_0 with " in world.refusals.halted
    assert (world.said, world.kept(), world.backlog.statistics().queued) == ([], 0, 1)


async def test_a_waiting_caller_gets_the_error(world):
    """The error is raised where the caller waits; nothing is kept, and no warning is issued."""
    wanted = r"TagsAdded of trial a_0 .* \(too large\): nothing was logged"
    with pytest.raises(InvalidValue, match=wanted), world.refusals.raised_for("r"):
        await world.refuse(request="r")
        await ProgressSignal().wait()
    with world.refusals.raised_for("s"):
        await world.refuse(request="r")  # of another caller, which has gone

    assert len(world.said) == 1
    assert world.kept() == 1


async def test_callers_of_one_request_get_the_error_each(world):
    """Each task that waits for a shared request gets the error, also after another one has stopped waiting."""
    raised = []

    async def wait(refused):
        try:
            with world.refusals.raised_for("r"):
                await (world.refuse(request="r") if refused else ProgressSignal().wait())
                await ProgressSignal().wait()
        except InvalidValue as error:
            raised.append(error)

    with world.refusals.raised_for("r"):
        pass
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, False)
        await anyio.lowlevel.checkpoint()
        with world.refusals.raised_for("r"):
            pass
        tasks.start_soon(wait, True)

    assert len(raised) == 2
    assert world.said == []
