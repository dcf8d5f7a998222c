"""The watermark: in any order of events, a read waits for all events that it must show, and for no pending command."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from profiles import examples
from trialstream.event_log.topics import Route
from trialstream.pipeline.watermark import Watermark

ROUTES = [Route("trials", 0), Route("trials", 1)]
routes = st.sampled_from(ROUTES)


@dataclass
class Event:
    """A queued event of the model.

    Attributes:
        number: Its number in the backlog.
        route: Its partition.
        request: Its request, if it is a command.
        end: The offset behind it, once it is acknowledged.
        was_pending: Whether its command was pending when it was queued, and then when it was acknowledged.
    """

    number: int
    route: Route
    request: str | None
    end: int = 0
    was_pending: tuple[bool, bool] = (False, False)


class Model(RuleBasedStateMachine):
    """A watermark, and a model of it: a list of all events with their states."""

    def __init__(self):
        super().__init__()
        self.watermark = Watermark()
        self.requests = count()
        self.pending: set[str] = set()
        self.unqueued: list[str] = []
        self.abandoned: set[str] = set()
        self.decided: set[str] = set()
        self.events: list[Event] = []

    def queue(self, route, request):
        """Queue an event."""
        event = Event(len(self.events), route, request, was_pending=(request in self.pending, False))
        self.events.append(event)
        self.watermark.queued(request, event.number)

    @rule(route=routes)
    def log(self, route):
        """Queue an event that is not a command."""
        self.queue(route, None)

    @rule()
    def expect(self):
        """Begin to wait for a command."""
        request = str(next(self.requests))
        self.watermark.expect(request)
        self.pending.add(request)
        self.unqueued.append(request)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def expect_again(self, data):
        """Begin to wait for a command that another task waits for, too."""
        self.watermark.expect(data.draw(st.sampled_from(sorted(self.pending))))

    @precondition(lambda self: self.unqueued)
    @rule(route=routes, data=st.data())
    def command(self, route, data):
        """Queue a command, which may be abandoned already."""
        request = data.draw(st.sampled_from(self.unqueued))
        self.unqueued.remove(request)
        self.queue(route, request)

    @rule(route=routes, limit=st.integers(1, 5))
    def acknowledge(self, route, limit):
        """Have Kafka acknowledge the first events of a partition, to which other writers write too."""
        batch = [each for each in self.events if each.route == route and not each.end][:limit]
        if not batch:
            return
        begin = max(each.end for each in self.events if each.route == route) + 3
        for end, event in enumerate(batch, begin):
            event.end = end
            event.was_pending = (event.was_pending[0], event.request in self.pending)
        self.watermark.acked(route, [each.request for each in batch], batch[-1].end)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def decide(self, data):
        """Read the outcome of a pending command that was queued; its acknowledgement may come later."""
        queued = sorted(self.pending - set(self.unqueued))
        if queued:
            request = data.draw(st.sampled_from(queued))
            self.pending.remove(request)
            self.decided.add(request)
            self.watermark.decided(request)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def abandon(self, data):
        """Abandon a pending command, whether it is queued, acknowledged or neither."""
        request = data.draw(st.sampled_from(sorted(self.pending)))
        self.pending.remove(request)
        self.abandoned.add(request)
        self.watermark.abandon(request)

    @invariant()
    def is_behind_the_last_counting_event(self):
        """The number and the offsets are behind the last event that counts: an acknowledged one, for the offsets."""
        counting = [each for each in self.events if not each.was_pending[0] or each.request in self.abandoned]
        acked = [each for each in self.events if each.end]
        acked = [each for each in acked if not each.was_pending[1] or each.request in self.abandoned]
        ends = {route: max((each.end for each in acked if each.route == route), default=0) for route in ROUTES}

        assert self.watermark.number == max((each.number + 1 for each in counting), default=0)
        assert self.watermark.offsets() == {route: end for route, end in ends.items() if end}

    @invariant()
    def a_read_shows_all_but_commands_that_are_pending_or_decided(self):
        """Only commands that are pending or decided may be behind the watermark."""
        offsets = self.watermark.offsets()
        for event in self.events:
            if event.request not in self.pending | self.decided:
                assert event.number < self.watermark.number
                assert event.end <= offsets.get(event.route, 0)


TestWatermark = Model.TestCase
TestWatermark.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
