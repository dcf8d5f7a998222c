"""The outbox: frames, order, sequence numbers, bounds, and use from any thread."""

from __future__ import annotations

import itertools
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracing import each_instruction
from trialstream.event_log.topics import Route
from trialstream.kafka.chronos import OpenChrono
from trialstream.kafka.row_log import RowLog
from trialstream.kafka.rows import RowChecks
from trialstream.pipeline import inbox as inboxes
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.frames import CHRONO_ROWS, FRAME_BYTES, FRAME_ROWS
from trialstream.pipeline.inbox import InboxFull
from trialstream.pipeline.outbox import Outbox
from trialstream.pipeline.watermark import Watermark
from trialstream_schemas.errors import InvalidType, ProtocolClosed
from trialstream_schemas.model.aggregators import StatAggregator, TimeSeriesAggregator
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import MAX_NAME_BYTES
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    ChronosFinished,
    GroupMetadataSet,
    Heartbeat,
    MetricsLogged,
    SubjectEvent,
    TagsAdded,
    TrialCreated,
)
from trialstream_schemas.wire.limits import MAX_EVENT_BYTES

SERIES = TimeSeriesAggregator.lazy()
LONG = 3600.0  # a linger longer than any test


class Box:
    """An outbox that is connected, and a count of how often it woke the sender."""

    def __init__(self, *, max_bytes=10**9, linger=LONG):
        self.woken = 0
        self.end = 0
        self.watermark = Watermark()
        self.backlog = Backlog(self.watermark, lambda: None, lambda: None, spill_bytes=2**63)
        self.backlog.connect(self.route)
        self.backlog.stop_spilling()
        self.outbox = Outbox("w", self.backlog, self.wake, max_bytes=max_bytes, linger=linger)
        self.rows = RowLog(self.outbox, RowChecks(lambda _: None))
        self.trials: dict[str, Trial] = {}

    def wake(self):
        """Count a wake-up of the sender."""
        self.woken += 1

    def acked(self, route, count):
        """Have Kafka acknowledge the first entries of a partition."""
        self.end += count
        self.backlog.acked(route, count, self.end)

    @staticmethod
    def route(entry: Entry) -> Route:
        """Return the partition, which is the first digit of the hash."""
        return Route("topic", int(entry.key[:1] or 0))

    def trial(self, uid):
        """Return the trial object of a uid."""
        hash_, _, revision = uid.partition("_")
        return self.trials.setdefault(uid, Trial(name="t", hash=hash_, revision=int(revision)))

    def metrics(self, step=1, uid="0_0", aggregator=None, **row):
        """Log a row."""
        self.row(self.trial(uid), step, aggregator, **row)

    def row(self, trial, step=1, given=None, **row):
        """Log a row; return whether it needed no checks."""
        if self.rows.add(trial, step, given, row):
            return True
        self.rows.prepare(trial, trial.uid, step, given, row)()
        return False

    def chrono(self, name="step", uid="0_0", elapsed=0.5, *, announced=False, failed=False):
        """Log a chrono."""
        chrono = OpenChrono(uid, name, StatAggregator.lazy(1), None, announced=announced)
        self.outbox.add_chrono((chrono, 1_000_000, elapsed, failed))

    def put(self, event):
        """Queue an event."""
        self.outbox.put(event)
        self.outbox.take()

    def events(self, *, seal=True):
        """Return all queued events, in their order."""
        if seal:
            self.outbox.seal()
        else:
            self.outbox.take()
        return [each.event for route in self.backlog.routes() for each in self.backlog.peek(route, 10**9)]


@pytest.fixture
def box():
    """An outbox with room, whose frames do not become due."""
    return Box()


def tags(uid="0_0", **values):
    """Return an event that is not made of a frame."""
    return TagsAdded(trial=uid, writer="w", time=1, values=values)


# --- Frames


def test_consecutive_rows_make_one_frame(box):
    """Rows of the same trial, names, aggregator and type of step become one event."""
    before = time.time_ns() // 1000
    for i in range(3):
        box.metrics(step=i, loss=i / 2, accuracy=float(i))
    [frame] = box.events()

    assert isinstance(frame, MetricsLogged)
    assert (frame.trial, frame.writer, frame.seq) == ("0_0", "w", 1)
    assert before <= frame.time <= frame.time + frame.times[2] <= time.time_ns() // 1000
    assert (list(frame.names), frame.aggregator) == (["loss", "accuracy"], SERIES)
    assert list(frame.times) == sorted(frame.times)
    assert [list(each) for each in frame.columns] == [[0.0, 0.5, 1.0], [0, 1, 2]]
    assert (list(frame.steps), list(frame.float_steps), list(frame.text_steps)) == ([0, 1, 2], [], [])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"loss": 1.0, "accuracy": 1.0}, id="more names"),
        pytest.param({"loss": 1.0, "step": 1.5}, id="a float for a step"),
        pytest.param({"loss": 1.0, "step": "a"}, id="a text for a step"),
        pytest.param({"loss": 1.0, "step": None}, id="no step"),
        pytest.param({"loss": 1.0, "aggregator": StatAggregator.lazy(1)}, id="another aggregator"),
    ],
)
def test_a_row_of_another_shape_begins_a_frame(box, other):
    """A row with other names, aggregator or type of step seals each frame with one of its names."""
    box.metrics(loss=0.0)
    box.metrics(**other)
    box.metrics(loss=2.0)
    frames = box.events()

    assert [each.seq for each in frames] == [1, 2, 3]
    assert [len(each.times) for each in frames] == [1, 1, 1]
    assert [frame.columns[0][0] for frame in frames] == [0.0, 1.0, 2.0]


def test_rows_without_a_common_name_gather_side_by_side(box):
    """Rows of two shapes in turn, without a common name, make one frame of each."""
    for i in range(10):
        box.metrics(step=i, loss=1.0)
        box.metrics(step=i, accuracy=1.0, f1=0.5)
    frames = box.events()

    assert [(list(each.names), len(each.times)) for each in frames] == [(["loss"], 10), (["accuracy", "f1"], 10)]


SHAPES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True).map(tuple)


@given(st.lists(st.one_of(SHAPES, st.sampled_from(["chrono", "tags", "seal", "take", "drop"])), max_size=60))
def test_each_metric_keeps_its_order(calls):
    """The values of each metric leave in the order of their calls, each once, whatever else is logged in between."""
    box, logged, dropped = Box(), {}, 0
    for i, call in enumerate(calls):
        match call:
            case "chrono":
                box.chrono()
            case "tags":
                box.outbox.put(tags())
            case "seal":
                box.outbox.seal()
            case "take":
                box.outbox.take()
            case "drop":
                box.outbox.drop("0_0")
                dropped += 1
            case _:
                box.metrics(step=i, **dict.fromkeys(call, float(i)))
                for each in call:
                    logged.setdefault(each, []).append(i)
    events, found = box.events(), {}
    for event in events:
        if isinstance(event, MetricsLogged):
            for name, column in zip(event.names, event.columns, strict=True):
                found.setdefault(name, []).extend(column)

    assert found == logged
    seqs = [each.seq for each in events]
    assert seqs == sorted(set(seqs))
    assert box.outbox.statistics().dropped == dropped
    assert not seqs or seqs[-1] <= len(seqs) + dropped
    assert box.outbox.bytes == 0


def test_names_in_another_order_begin_a_frame(box):
    """A row with the same names in another order begins a frame."""
    box.metrics(a=1.0, b=2.0)
    box.metrics(b=2.0, a=1.0)

    assert [list(each.names) for each in box.events()] == [["a", "b"], ["b", "a"]]


@pytest.mark.parametrize(
    ("steps", "column"), [([1, 2], "steps"), ([0.5, 1.5], "float_steps"), (["a", "b"], "text_steps"), ([None] * 2, "")]
)
def test_steps_are_in_the_column_of_their_type(box, steps, column):
    """Steps are in the column of their type, and the columns of the other types are empty."""
    for each in steps:
        box.metrics(step=each, loss=1.0)
    [frame] = box.events()

    found = {name: list(getattr(frame, name)) for name in ("steps", "float_steps", "text_steps")}
    assert found == {"steps": [], "float_steps": [], "text_steps": []} | ({column: steps} if column else {})


def test_a_frame_of_metrics_has_a_largest_number_of_rows(box):
    """A frame of metrics with the largest number of rows is queued at once."""
    for i in range(2 * FRAME_ROWS + 1):
        box.metrics(step=i, loss=1.0)

    assert [len(each.times) for each in box.events(seal=False)] == [FRAME_ROWS, FRAME_ROWS]
    assert [len(each.times) for each in box.events()] == [FRAME_ROWS, FRAME_ROWS, 1]


@pytest.mark.parametrize(("names", "step"), [(500, 1), (5000, 1), (1, "x" * 1024), (20_000, 1.5)])
def test_a_wide_frame_has_fewer_rows(box, names, step):
    """A frame of many names or long steps has fewer rows: its encoded event is far below Kafka's largest."""
    row = {f"metric {i}": 1.0 for i in range(names)}
    for _ in range(40):
        box.metrics(step=step, **row)
    frames = box.events()

    assert sum(len(each.times) for each in frames) == 40
    assert max(len(encode(each)) for each in frames) < 2 * FRAME_BYTES + 30 * names


def test_chronos_make_frames_of_all_names(box):
    """Chronos of all names make one event, which marks the chronos that were announced or that failed."""
    box.chrono("step", elapsed=1.0)
    box.chrono("load", elapsed=2.0, announced=True)
    box.chrono("step", elapsed=3.0, failed=True)
    [frame] = box.events()

    assert isinstance(frame, ChronosFinished)
    assert (list(frame.names), list(frame.chronos), list(frame.elapsed)) == (["step", "load"], [0, 1, 0], [1, 2, 3])
    assert (list(frame.announced), list(frame.failed)) == ([0, 1], [1, 0])
    assert list(frame.aggregators) == [StatAggregator.lazy(1)] * 2


def test_a_frame_of_chronos_has_a_largest_number_of_rows(box):
    """A frame of chronos with the largest number of rows is queued at once."""
    for _ in range(CHRONO_ROWS + 1):
        box.chrono()

    assert [len(each.chronos) for each in box.events(seal=False)] == [CHRONO_ROWS]


def test_a_frame_of_chronos_has_room_for_long_names(box):
    """A frame of chronos fits an event, whatever names they have."""
    for number in range(CHRONO_ROWS):
        box.chrono(str(number).ljust(MAX_NAME_BYTES))
    [frame] = box.events()
    frame.seq = 2**60

    assert len(encode(frame)) <= MAX_EVENT_BYTES


def test_metrics_and_chronos_do_not_seal_each_other(box):
    """Metrics and chronos logged in turn make one frame of each."""
    for i in range(10):
        box.metrics(step=i, loss=1.0)
        box.chrono()
    frames = box.events()

    assert sorted(type(each).__name__ for each in frames) == ["ChronosFinished", "MetricsLogged"]
    assert sorted(each.seq for each in frames) == [1, 2]


# --- Order


def test_any_other_event_of_the_trial_seals_its_frames(box):
    """An event other than a row seals the trial's frames: it follows earlier rows, and later rows are in new frames."""
    box.metrics(step=1, loss=1.0)
    box.chrono()
    box.outbox.put(tags(a=1))
    box.metrics(step=2, loss=2.0)
    events = box.events()

    assert [type(each) for each in events] == [MetricsLogged, ChronosFinished, TagsAdded, MetricsLogged]
    assert [each.seq for each in events] == [1, 2, 3, 4]


def test_events_of_another_trial_seal_no_frame(box):
    """Events of another trial seal no frame, since each trial has its own frames and sequence numbers."""
    for i in range(3):
        box.metrics(step=i, uid="0_0", loss=1.0)
        box.metrics(step=i, uid="0_1", loss=1.0)
        box.outbox.put(tags("0_2", i=i))
    events = box.events()

    assert [(each.subject, each.seq) for each in events if isinstance(each, MetricsLogged)] == [("0_0", 1), ("0_1", 1)]
    assert [each.seq for each in events if isinstance(each, TagsAdded)] == [1, 2, 3]


def test_sequence_numbers_have_no_gap(box):
    """Events of all kinds, in any order, are numbered from 1 without a gap."""
    for i in range(500):
        if i % 7 == 0:
            box.outbox.put(ArgumentsLogged(trial="0_0", writer="w", time=1, values={}))
        elif i % 3 == 0:
            box.chrono(name=str(i % 5))
        else:
            box.metrics(step=(i if i % 2 else str(i)), loss=1.0)

    seqs = [each.seq for each in box.events()]
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_request_has_no_number(box):
    """A request is identified by its id and has no number, so it leaves no gap when it is refused."""
    box.metrics(loss=1.0)
    claim = Heartbeat(trial="0_0", writer="w", time=1, request="r", if_version=0)
    box.outbox.put(claim)
    box.outbox.put(tags())
    events = box.events()

    assert [each.seq for each in events] == [1, 0, 2]
    assert events[1] is claim


def test_events_go_to_the_partition_of_their_subject(box):
    """Events are queued by the partition of their subject."""
    box.metrics(uid="1_0", loss=1.0)
    box.outbox.put(tags("2_0"))
    box.outbox.put(GroupMetadataSet(group="", writer="w", time=1, values={}))
    box.outbox.seal()

    assert {each.partition for each in box.backlog.routes()} == {0, 1, 2}


# --- Sending


def test_entries_stay_until_they_are_acknowledged(box):
    """Entries stay queued until they are acknowledged: `peek` removes nothing, `acked` removes the first entries."""
    for i in range(5):
        box.put(tags(i=i))
    [route] = box.backlog.routes()

    assert [each.event.values["i"] for each in box.backlog.peek(route, 2)] == [0, 1]
    box.acked(route, 2)
    assert [each.event.values["i"] for each in box.backlog.peek(route, 10)] == [2, 3, 4]
    assert box.outbox.statistics()[:4:2] == (3, 2)
    box.acked(route, 3)
    assert box.backlog.routes() == []
    assert box.outbox.statistics() == (0, 0, 5, 0, 0)


def test_a_number_is_acked_when_all_lower_ones_are(box):
    """A number is acked when all entries below it are, in all partitions; entries queued later do not count."""
    box.put(tags("1_0"))
    box.put(tags("2_0"))
    number = box.backlog.next_number
    box.put(tags("1_0"))
    one, two = sorted(box.backlog.routes())

    assert not box.backlog.is_acked(number)
    box.acked(one, 1)
    assert not box.backlog.is_acked(number)
    box.acked(two, 1)
    assert box.backlog.is_acked(number)
    assert not box.backlog.is_acked(box.backlog.next_number)


def test_a_read_does_not_wait_for_a_pending_command(box):
    """A read waits for the events logged before it, and for a command only once its caller has abandoned it."""
    command = tags("1_0")
    command.request = "r"
    box.watermark.expect("r")
    box.put(tags("1_0"))
    box.put(command)
    logged = box.watermark.number

    assert logged < box.backlog.next_number
    [route] = box.backlog.routes()
    box.backlog.acked(route, 1, 1)
    assert box.backlog.is_acked(logged)
    assert box.watermark.offsets() == {route: 1}
    box.watermark.abandon("r")
    assert box.watermark.number == box.backlog.next_number
    assert not box.backlog.is_acked(box.watermark.number)
    box.backlog.acked(route, 1, 2)
    assert box.watermark.offsets() == {route: 2}


def test_an_entry_that_cannot_be_sent_is_discarded(box):
    """A discarded entry counts as dropped, and its sequence number is missing."""
    for i in range(3):
        box.put(tags(i=i))
    [route] = box.backlog.routes()
    box.acked(route, 1)
    box.backlog.discard(route)

    assert [each.seq for each in box.events()] == [3]
    assert box.outbox.statistics().dropped == 1
    assert box.backlog.is_acked(2)


def test_frames_are_sealed_when_they_are_due():
    """A frame is due one linger after its first row."""
    box = Box(linger=10)
    before = time.monotonic()
    box.metrics(uid="0_0", loss=1.0)
    box.chrono(uid="0_1")
    after = time.monotonic()
    upcoming = box.outbox.seal(due=before)
    assert before + 10 <= upcoming <= time.monotonic() + 10
    assert box.events(seal=False) == []
    assert after <= upcoming

    assert box.outbox.seal(due=upcoming) <= time.monotonic() + 1
    assert len(box.events(seal=False)) == 2


def test_seal_without_a_time_seals_every_frame(box):
    """`seal` without a time, as in a commit, seals every frame."""
    box.metrics(loss=1.0)
    box.chrono()

    box.outbox.seal()
    assert len(box.events(seal=False)) == 2


def test_only_the_first_item_wakes_the_sender(box):
    """No call wakes the sender while it looks by itself; once it has found nothing, the next call does."""
    for i in range(100):
        box.metrics(step=i, loss=1.0)
        box.outbox.put(tags("0_1"))
    assert box.woken == 1

    box.outbox.put(tags("0_2"))
    box.outbox.seal()  # a wait, such as that of a commit
    box.outbox.put(tags("0_3"))
    assert box.outbox.seal(due=time.monotonic()) > time.monotonic() + LONG / 2  # it found something, and looks again
    box.outbox.put(tags("0_4"))
    assert box.woken == 1

    box.outbox.seal()
    assert box.outbox.seal(due=time.monotonic()) <= time.monotonic() + 1
    box.metrics(loss=1.0)
    assert box.woken == 2


def test_rows_wait_for_one_linger_at_most():
    """A row that has waited in the inbox is due one linger after the look before; one after a sleep, after its look."""
    box = Box(linger=10)
    box.metrics(loss=1.0)
    first = box.outbox.seal(due=0)
    box.metrics(accuracy=1.0)
    box.outbox.seal(due=0)

    loss, accuracy = box.outbox._open["0_0"]
    assert loss.due == first
    assert loss.due <= accuracy.due <= first + 5


def test_frames_are_due_together_whatever_is_taken_between_two_looks():
    """A take between two looks does not part the frames of a trial: all are due one linger after the look before."""
    box = Box(linger=10)
    box.chrono()
    box.outbox.seal(0)
    box.metrics(loss=1.0)
    box.outbox.take()
    box.metrics(lr=1.0)
    box.outbox.seal(0)
    _, taken, found = [frame.due for frame in box.outbox._lingering]

    assert taken == found


def test_an_awake_sender_is_not_woken():
    """A sender that is about to ask for the partitions is woken only for what is queued after it has asked."""
    woken = []
    backlog = Backlog(Watermark(), lambda: woken.append(True), lambda: None, spill_bytes=2**63)
    backlog.connect(Box.route)
    backlog.stop_spilling()

    def put():
        backlog.put(Entry.of(TagsAdded(trial="0_0", writer="w", seq=1, time=0, values={}), 100))

    backlog.expect_sender()
    put()
    assert not woken
    assert backlog.routes() == [Route("topic", 0)]
    put()
    put()
    assert len(woken) == 1


def test_frames_of_thousands_of_trials_linger_longer():
    """While many frames are open, they gather rows for longer, up to a second; few are due after one linger again."""
    box = Box(linger=0.2)
    lingers = []
    for number in range(8000):
        before = time.monotonic()
        box.metrics(uid=f"{number}_0", loss=1.0)
        box.outbox.take()
        lingers.append(box.outbox._open[f"{number}_0"][0].due - before)
    assert 0.19 <= lingers[900] < 0.4 < lingers[3000] < lingers[-1] < 1.5
    dues = [frame.due for frame in box.outbox._lingering]
    assert dues == sorted(dues)

    box.outbox.seal(due=dues[-2])
    assert len(box.outbox._lingering) == 1 or dues[-2] == dues[-1]
    box.outbox.seal()
    assert box.outbox.statistics().queued == 8000


def test_many_items_wake_the_sender_before_it_would_look(box, monkeypatch):
    """A thread that logs without a pause wakes the sender once, and again only after the sender has looked."""
    monkeypatch.setattr(inboxes, "_WAKE_ITEMS", 10)
    box.metrics(loss=1.0)
    woken = []
    for _ in range(3):
        for i in range(50):
            box.metrics(step=i, loss=1.0)
        woken.append(box.woken)
        box.outbox.seal(due=0)

    assert woken == [2, 3, 4]


def test_an_item_that_cannot_be_taken_costs_no_other(box, caplog):
    """A fault in the handling of one item is logged, and all other items are taken."""
    box.outbox.put(tags())
    box.outbox.inbox.add((int, "no number"))
    box.outbox.put(tags())

    assert [each.seq for each in box.events()] == [1, 2]
    assert "please report this" in caplog.text


# --- Bounds


def fill(box, add):
    """Add until there is no room; return how many were added."""
    for n in range(100_000):
        try:
            add()
        except InboxFull:
            return n
        if n % 10 == 0:
            box.outbox.take()
    raise AssertionError("there is no bound")


def test_a_full_outbox_takes_nothing():
    """An add without room appends nothing and uses no number; acknowledged entries make room."""
    box = Box(max_bytes=10_000)
    queued = fill(box, lambda: box.outbox.put(tags(a=1)))
    for add in (lambda: box.metrics(loss=1.0), box.chrono, lambda: box.outbox.put(tags())):
        with pytest.raises(InboxFull):
            add()
    assert 1 < queued == box.outbox.statistics().queued < 100
    box.outbox.take()
    [route] = box.backlog.routes()
    box.acked(route, queued)
    box.metrics(loss=1.0)

    assert [each.seq for each in box.events()] == [queued + 1]


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("kind", ["metrics", "wide rows", "chronos", "values", "definitions"])
def test_memory_is_bounded(kind, taken):
    """The bound in bytes holds for many small rows as well as for few large values, also if nothing is taken."""
    box = Box(max_bytes=1_000_000 if taken or kind != "metrics" else 10_000_000)
    trial = {"name": "a", "auto_increment": True, "request": "r", "parameters": {"a": "x" * 10_000}}
    wide = {f"metric {i}": 1.0 for i in range(100)}
    add = {
        "metrics": lambda: box.metrics(loss=1.0),
        "wide rows": lambda: box.metrics(**wide),
        "chronos": box.chrono,
        "values": lambda: box.outbox.put(tags(a="x" * 10_000)),
        "definitions": lambda: box.outbox.put(TrialCreated(trial="0~r", writer="w", time=1, **trial)),
    }[kind]
    if taken:
        fill(box, add)
    else:
        with pytest.raises(InboxFull):
            for _ in range(100_000):
                add()
    bound = box.outbox.inbox._max_bytes

    assert box.outbox.statistics().bytes < 1.1 * bound
    assert 0.9 * bound < box.outbox.statistics().bytes or len(box.outbox.inbox.items) == bound // 512
    box.outbox.seal()
    [route] = box.backlog.routes()
    box.acked(route, box.outbox.statistics().queued)
    assert box.outbox.statistics().bytes == 0


def test_a_dropped_event_leaves_a_gap(box):
    """The number of a dropped event is missing between its neighbours', so that the fold can count it."""
    box.metrics(loss=1.0)
    box.outbox.drop("0_0")
    box.metrics(loss=2.0)

    assert [each.seq for each in box.events()] == [1, 3]
    assert box.outbox.statistics().dropped == 1


# --- Rows whose kind was checked before

TRIAL = Trial(name="t", hash="0")


def test_rows_of_a_kind_are_checked_once(box):
    """A row is taken without checks after one of its kind was checked, also in another frame."""
    ways = [box.row(TRIAL, step, loss=step / 2) for step in range(3)]
    box.outbox.seal()
    ways += [box.row(TRIAL, step, loss=step / 2) for step in range(3, 6)]
    first, second = box.events()

    assert ways == [False, True, True, False, True, True]  # one row after each look into the inbox is checked, too
    assert [*first.steps, *second.steps] == [0, 1, 2, 3, 4, 5]
    assert [*first.columns[0], *second.columns[0]] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


@pytest.mark.parametrize(
    ("trial", "step", "given", "row"),
    [
        pytest.param(Trial(name="t", hash="0"), 1, None, {"loss": 0.5}, id="another object of the trial"),
        pytest.param(TRIAL, 1.5, None, {"loss": 0.5}, id="a float for a step"),
        pytest.param(TRIAL, True, None, {"loss": 0.5}, id="a bool for a step"),
        pytest.param(TRIAL, 2**63, None, {"loss": 0.5}, id="a step of more than 64 bits"),
        pytest.param(TRIAL, None, None, {"loss": 0.5}, id="no step"),
        pytest.param(TRIAL, 1, StatAggregator.lazy(1), {"loss": 0.5}, id="another aggregator"),
        pytest.param(TRIAL, 1, None, {"loss": 1}, id="an int"),
        pytest.param(TRIAL, 1, None, {"loss": "0.5"}, id="a text"),
        pytest.param(TRIAL, 1, None, {"accuracy": 0.5}, id="another name"),
        pytest.param(TRIAL, 1, None, {}, id="no name"),
    ],
)
def test_a_row_of_another_kind_is_checked(box, trial, step, given, row):
    """`add` appends nothing of a row that needs checks."""
    box.row(TRIAL, 0, loss=0.0)

    assert not box.rows.add(trial, step, given, row)
    assert [list(each.steps) for each in box.events()] == [[0]]


@pytest.mark.parametrize(
    ("first", "later", "number"),
    [(1, 2**53 - 1, 2**53 - 1), (np.int64(1), np.int64(7), 7), (np.float32(1), np.float32(0.5), 0.5), (True, False, 0)],
)
def test_numbers_of_all_types_are_taken_without_checks(box, first, later, number):
    """Integers, bools and numbers of numpy become the same doubles with and without checks."""
    box.row(TRIAL, 0, loss=first)

    assert box.rows.add(TRIAL, 1, None, {"loss": later})
    assert [list(each.columns[0]) for each in box.events()] == [[float(first), float(number)]]


@pytest.mark.parametrize("x", [2**53, -(2**53), 2**64, 10**400, np.uint64(2**63)])
def test_integers_that_lose_digits_are_checked(box, x):
    """An integer beyond 2**53 is left to the checks, which warn of it or refuse it."""
    box.row(TRIAL, 0, loss=type(x)(1))

    assert not box.rows.add(TRIAL, 1, None, {"loss": x})


@pytest.mark.parametrize("step", [float("nan"), float("inf"), float("-inf")])
def test_a_float_step_that_is_not_finite_is_checked(box, step):
    """A step that cannot be logged is left to the checks; finite ones are taken."""
    box.row(TRIAL, 0.5, loss=0.0)

    assert not box.rows.add(TRIAL, step, None, {"loss": 1.0})
    assert box.rows.add(TRIAL, 1.5, None, {"loss": 1.0})
    assert [list(each.float_steps) for each in box.events()] == [[0.5, 1.5]]


@pytest.mark.parametrize("step", ["x" * 1025, "a\0b", "\ud800", "é" * 600])
def test_a_text_step_that_is_no_plain_name_is_checked(box, step):
    """A text that may be refused as a step is left to the checks; plain ones are taken."""
    box.row(TRIAL, "a", loss=0.0)

    assert not box.rows.add(TRIAL, step, None, {"loss": 1.0})
    assert box.rows.add(TRIAL, "b", None, {"loss": 1.0})
    assert [list(each.text_steps) for each in box.events()] == [["a", "b"]]


class Tensor:
    """A scalar whose type is not that of its class."""

    def __init__(self, inner):
        self.inner = inner

    def item(self):
        """Return the scalar."""
        return self.inner

    def __index__(self):
        return int(self.inner)

    def __float__(self):
        return float(self.inner)


class Text(str):
    """A text with a type of its own."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("first", "later"),
    [(Tensor(1), Tensor(2.5)), (Text("a"), Text("b")), (np.str_("a"), np.str_("b"))],
    ids=["tensors", "texts", "texts of numpy"],
)
def test_steps_of_other_types_are_checked_each_time(box, first, later):
    """A step whose type does not tell how it is packed, or that is to become a plain text, is checked in each row."""
    box.row(TRIAL, first, loss=0.0)

    assert not box.row(TRIAL, later, loss=1.0)
    frames = box.events()
    steps = [x for each in frames for x in (*each.steps, *each.float_steps, *each.text_steps)]
    assert [type(each) for each in steps] in ([int, float], [str, str])


def test_values_of_other_types_are_checked_each_time(box):
    """A value that may convert otherwise is checked in each row."""
    for x in (Tensor(1), np.longdouble(1)):
        assert not box.row(TRIAL, 1, loss=x)
        assert not box.row(TRIAL, 1, loss=x)

    assert [x for each in box.events() for x in each.columns[0]] == [1.0] * 4


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint64", "bool", "longdouble"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
def test_arrays_of_one_number_need_no_checks(box, dtype, shape):
    """An array of one number is read at the call: changes in place after the call do not change what is logged."""
    changing = np.ones(shape, dtype)
    box.row(TRIAL, 1, loss=changing, accuracy=0.5)
    assert box.row(TRIAL, 2, loss=changing, accuracy=0.5)
    changing[...] = 0

    assert [list(each) for event in box.events() for each in event.columns] == [[1.0, 1.0], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("x", "found"),
    [
        pytest.param(np.array([1.0, 2.0]), "whose item\\(\\) failed", id="two numbers"),
        pytest.param(np.array([]), "whose item\\(\\) failed", id="no number"),
        pytest.param(np.array(3, "datetime64[ns]"), "expected a number, got numpy.ndarray", id="a time"),
        pytest.param(np.array(3, "timedelta64[ns]"), "expected a number, got numpy.ndarray", id="a duration"),
        pytest.param(np.array(1j), "expected a number, got builtins.complex", id="a complex number"),
        pytest.param(np.array("a"), "expected a number, got builtins.str", id="a text"),
    ],
)
def test_arrays_of_no_number(box, x, found):
    """An array that is no number is refused, also where rows with arrays of a number need no checks."""
    box.row(TRIAL, 1, loss=np.array(1.0))

    with pytest.raises(InvalidType, match=rf"^metric 'loss': .*{found}"):
        box.row(TRIAL, 2, loss=x)
    assert [list(each.columns[0]) for each in box.events()] == [[1.0]]


@pytest.mark.parametrize("x", [0.5, 3, np.float16(0.5), np.array(0.5)], ids=["floats", "ints", "numpy", "arrays"])
def test_wide_rows_need_no_checks(x):
    """Rows of many metrics need no checks after the first, and count with their size in the bound of memory."""
    box, row = Box(max_bytes=20_000), {f"metric {i}": x for i in range(100)}
    box.row(TRIAL, 0, **row)
    assert box.row(TRIAL, 1, **row)
    assert box.outbox.inbox.bytes >= 2 * 100 * 8
    with pytest.raises(InboxFull):
        for step in range(2, 100):
            box.row(TRIAL, step, **row)

    frames = box.events()
    assert sum(len(each.times) for each in frames) < 40
    assert {x for each in frames for column in each.columns for x in column} == {float(x)}


def test_arrays_that_need_checks(box):
    """A large integer or an object in an array is converted by the checks."""
    box.row(TRIAL, 1, loss=np.array(1.0))

    assert not box.row(TRIAL, 2, loss=np.array(2**53 + 2))
    assert not box.row(TRIAL, 3, loss=np.array(3, object))
    assert [list(each.columns[0]) for each in box.events()] == [[1.0, 2.0**53 + 2, 3.0]]


def test_a_trial_object_that_was_changed_is_checked(box):
    """The rows of a trial object that was changed belong to another trial."""
    trial = Trial(name="t", hash="0")
    box.row(trial, 0, loss=0.0)
    trial.revision = 1
    box.row(trial, 1, loss=1.0)

    assert [(each.trial, list(each.steps)) for each in box.events()] == [("0_0", [0]), ("0_1", [1])]


def test_rows_in_turn_keep_the_order_of_each_metric(box):
    """Of rows that are taken together, those of one frame are gathered until one with some of its metrics follows."""
    for step in range(4):
        box.row(TRIAL, step, loss=float(step), accuracy=0.5)
        box.row(TRIAL, step, lr=0.1)
        box.row(box.trial("1_0"), step, loss=1.0)
        if step == 2:
            box.row(TRIAL, step, loss=-1.0)
            box.outbox.put(tags("1_0"))

    found = [(each.trial, getattr(each, "names", None), [*getattr(each, "steps", ())]) for each in box.events()]
    assert [each for each in found if each[0] == "0_0"] == [
        ("0_0", ("loss", "accuracy"), [0, 1, 2]),
        ("0_0", ("loss",), [2]),
        ("0_0", ("lr",), [0, 1, 2, 3]),
        ("0_0", ("loss", "accuracy"), [3]),
    ]
    assert [each for each in found if each[0] == "1_0"] == [
        ("1_0", ("loss",), [0, 1, 2]),
        ("1_0", None, []),
        ("1_0", ("loss",), [3]),
    ]


def test_shapes_of_a_trial_are_bounded(box):
    """Any number of metrics, and an aggregator that is made for each call, take no more memory than some shapes."""
    for i in range(3000):
        box.row(TRIAL, i, StatAggregator.lazy(1), loss=float(i))
        box.row(TRIAL, i, None, **{f"metric {i}": float(i)})
    rows = box.rows._trials["0_0"]

    assert len(rows.shapes) <= 1000
    [losses] = [each for each in box.events() if each.names == ("loss",)][:1]
    assert len(losses.steps) == 1000


def test_two_objects_of_one_trial_share_its_frames(box):
    """Rows that are logged through copies of a trial object are gathered together."""
    copies = [Trial(name="t", hash="0") for _ in range(3)]
    for step in range(9):
        box.row(copies[step % 3], step, loss=0.0)

    assert [list(each.steps) for each in box.events()] == [list(range(9))]


# --- Interrupts and the end


def test_an_interrupt_at_any_instruction_of_a_call(box):
    """A call that is interrupted has logged its row once or not at all, and disturbs no other."""
    box.row(TRIAL, -1, loss=0.0)
    for count in itertools.count():
        left = itertools.count(-count)

        def look(_, left=left):
            if next(left) == 0:
                raise KeyboardInterrupt

        try:
            each_instruction(lambda step=count: box.row(TRIAL, step, loss=1.0), look)
        except KeyboardInterrupt:
            continue
        break
    [frame] = box.events()

    assert count > 50
    assert frame.steps[0] == -1
    assert list(frame.steps) == sorted(set(frame.steps))
    assert frame.steps[-1] == count


def test_a_closed_inbox_takes_nothing(box):
    """Calls after the closing raise ProtocolClosed, and what was logged before is queued."""
    box.row(TRIAL, 0, loss=0.0)
    box.outbox.put(tags())
    box.outbox.close()
    for late in (
        lambda: box.row(TRIAL, 1, loss=1.0),
        lambda: box.outbox.put(tags()),
        box.chrono,
        lambda: box.outbox.drop("0_0"),
    ):
        with pytest.raises(ProtocolClosed):
            late()
    box.outbox.finish()

    assert [each.seq for each in box.events()] == [1, 2]


def test_a_row_appended_before_the_end_is_taken(box):
    """A call that was interrupted before its append, and goes on after the closing, has logged its row."""
    box.row(TRIAL, 0, loss=0.0)
    inbox = box.outbox.inbox
    box.outbox.close()
    item = (box.rows._trials["0_0"].latest["loss",].frame, b"\0" * 24)
    inbox.items.append(item)
    box.outbox.finish()
    inbox.look(item)

    assert [len(each.steps) for each in box.events()] == [2]


def test_a_row_appended_after_the_end_is_refused(box):
    """A call that was interrupted before its append, and goes on once nothing is taken any more, raises."""
    box.row(TRIAL, 0, loss=0.0)
    inbox = box.outbox.inbox
    box.outbox.close()
    box.outbox.finish()
    item = (box.rows._trials["0_0"].latest["loss",].frame, b"\0" * 24)
    inbox.items.append(item)

    assert inbox.idle
    with pytest.raises(ProtocolClosed):
        inbox.look(item)
    box.outbox.seal()
    assert [len(each.steps) for each in box.events()] == [1]


# --- Threads


def test_calls_let_the_io_thread_run(box, monkeypatch):
    """While very many rows wait, calls let other threads run now and then: the I/O thread has to take them."""
    slept = []
    monkeypatch.setattr(inboxes.time, "sleep", slept.append)
    for step in range(inboxes._CROWDED_ITEMS):
        box.metrics(step=step, loss=1.0)
    assert slept == []
    for step in range(4 * inboxes._YIELD_ITEMS):
        box.metrics(step=step, loss=1.0)

    assert slept == [0] * 4
    box.outbox.take()
    box.metrics(step=0, loss=1.0)
    assert slept == [0] * 4


@pytest.mark.parametrize("linger", [0.0, 0.001])
def test_any_number_of_threads_log_at_once(linger):
    """With many threads, no row is lost or repeated, numbers have no gap, and the rows of a thread keep their order."""
    box, each_logs, done = Box(linger=linger), 2000, threading.Event()
    trials = ["0_0", "0_1"]
    objects = {uid: Trial(name="t", hash="0", revision=i) for i, uid in enumerate(trials)}
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # switch threads between almost any two instructions
    sent: dict[str, list[SubjectEvent]] = {uid: [] for uid in trials}

    def work(thread):
        for i in range(each_logs):
            uid = trials[i % 2]
            if thread % 3:
                box.row(objects[uid], i, thread=float(thread))
            else:
                box.metrics(step=i, uid=uid, thread=float(thread))
            if i % 5 == 0:
                box.chrono(uid=uid, name=str(thread))
            if i % 11 == 0:
                box.outbox.put(tags(uid))

    def send():
        for last in itertools.chain(iter(done.is_set, True), [True]):
            box.outbox.seal(due=float("inf") if last else time.monotonic())
            for route in box.backlog.routes():
                entries = box.backlog.peek(route, 7 if not last else 10**9)
                for entry in entries:
                    sent[entry.event.subject].append(entry.event)
                box.acked(route, len(entries))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    sender = threading.Thread(target=send)
    for each in (*threads, sender):
        each.start()
    for each in threads:
        each.join()
    done.set()
    sender.join()
    sys.setswitchinterval(switching)

    assert box.outbox.statistics()[:2] == (0, 0)
    rows = {thread: [] for thread in range(6)}
    for events in sent.values():
        assert [each.seq for each in events] == list(range(1, len(events) + 1))
        for frame in events:
            if isinstance(frame, MetricsLogged):
                for step, thread in zip(frame.steps, frame.columns[0], strict=True):
                    rows[int(thread)].append(step)
    for steps in rows.values():
        assert steps == [*range(0, each_logs, 2), *range(1, each_logs, 2)]
