"""Warnings of outages: one in each, with the reason and what becomes of the events."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from trialstream.config import Config
from trialstream.event_log.topics import Route
from trialstream.pipeline import outage as module
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.outage import OutageWatch
from trialstream.pipeline.watermark import Watermark
from trialstream_schemas.wire.events import TagsAdded

ROUTES = [Route("trials", 0), Route("trials", 1)]


class World:
    """A backlog with a watch, without time."""

    def __init__(self, folder=None):
        self.reason, self.right, self.said = "", "", []
        self.backlog = Backlog(Watermark(), lambda: None, lambda: None, spill_bytes=10**9)
        self.backlog.connect(lambda entry: ROUTES[entry.key[0]])
        self.backlog.stop_spilling()
        config = Config(kafka="k:9092")
        self.watch = OutageWatch(
            config, self.backlog, folder, lambda: self.reason, self.said.append, lambda: self.right
        )

    def put(self, partition=0):
        """Queue an event."""
        event = TagsAdded(trial="a_0", writer="w", time=0, values={})
        self.backlog.put(Entry("trials", bytes([partition]), event, 100))

    def check(self):
        """Check once, and return the number of warnings so far."""
        self.watch._check()
        return len(self.said)


@pytest.fixture(autouse=True)
def _no_time(monkeypatch):
    """Let an event count as waiting too long at once."""
    monkeypatch.setattr(module, "_WARN_SECONDS", 1e-9)


def test_one_warning_in_each_outage():
    """The next warning comes after all events that waited at the last one were acknowledged or dropped."""
    world = World()
    world.put(0)
    counts = []
    for act in (
        lambda: world.put(1),
        lambda: world.backlog.acked(ROUTES[0], 1, 1),
        lambda: world.put(0),
        lambda: world.backlog.discard(ROUTES[1]),  # the last one that waited at the warning
        lambda: None,
        lambda: world.backlog.acked(ROUTES[0], 1, 2),
        lambda: world.put(1),
    ):
        act()
        counts.append(world.check())

    assert counts == [1, 1, 1, 1, 2, 2, 3]


def test_nothing_is_said_while_nothing_waits():
    """Without events there is no outage, whether Kafka answers or not."""
    world = World()
    world.reason = "no answer"

    assert world.check() == 0


def test_the_closing_says_the_rest():
    """While the protocol is being closed there is no further warning."""
    world = World()
    world.watch.stop()
    world.put()

    assert world.check() == 0


@pytest.mark.parametrize(
    ("folder", "fate"),
    [
        (None, "2 events wait in memory and are sent when it answers; without a spool they are lost if"),
        (Path("/s"), "2 events wait (0 in the spool /s) and are sent when it answers"),
    ],
    ids=["without a spool", "with a spool"],
)
@pytest.mark.parametrize("reason", ["", "KafkaConnectionError: refused"])
def test_the_warning_says_all(folder, fate, reason):
    """The warning has the address, the reason, the number of events and what becomes of them."""
    world = World(folder)
    world.reason = reason
    world.put()
    world.put(1)
    world.check()
    [said] = world.said

    wanted = r"trialstream: Kafka at k:9092 has not acknowledged events for 1e-09 s, since \d\d:\d\d:\d\d UTC "
    assert re.match(wanted + re.escape(f"({reason or 'no answer'}): {fate}"), said)


def test_a_missing_right(monkeypatch):
    """The warning that this user may not send comes at once, with the right, and once."""
    monkeypatch.setattr(module, "_WARN_SECONDS", 1000.0)
    world = World()
    world.put()
    assert world.check() == 0
    world.right = "this user lacks the right Write on topic p.trials"
    assert (world.check(), world.check()) == (1, 1)
    assert "refuses events: this user lacks the right Write on topic p.trials; 1 event waits in memory" in world.said[0]
