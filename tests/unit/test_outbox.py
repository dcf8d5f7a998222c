"""The outbox: frames, order, sequence numbers, bounds, and use from any thread."""

from __future__ import annotations

import itertools
import sys
import threading
import time

import pytest
from trialstream.log.topics import Route
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.frames import FRAME_BYTES, FRAME_ROWS
from trialstream.pipeline.outbox import Outbox, OutboxFull
from trialstream.pipeline.watermark import Watermark
from trialstream_schemas.model.aggregators import StatAggregator, TimeSeriesAggregator
from trialstream_schemas.model.trial import Trial
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

SERIES = TimeSeriesAggregator.lazy()
LONG = 3600.0  # a linger longer than any test


class Box:
    """An outbox that is connected, and a count of how often it woke the sender."""

    def __init__(self, *, max_bytes=10**9, linger=LONG):
        self.woken = 0
        self.end = 0
        self.watermark = Watermark()
        self.backlog = Backlog(self.watermark, self.wake, lambda: None, spill_bytes=2**63)
        self.backlog.connect(self.route)
        self.backlog.stop_spilling()
        self.outbox = Outbox("w", self.backlog, self.wake, max_bytes=max_bytes, linger=linger)

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

    def metrics(self, step=1, uid="0_0", aggregator=SERIES, time_us=1000, **row):
        """Log a row."""
        self.outbox.add_metrics(uid, step, 1000 * time_us, tuple(row), list(row.values()), aggregator)

    def row(self, trial, step=1, given=None, **row):
        """Log a row by `add_row` or else by `add_metrics`; return whether `add_row` accepted it."""
        if self.outbox.add_row(trial, step, given, row):
            return True
        values = [float(x) for x in row.values()]
        self.outbox.add_metrics(trial.uid, step, time.time_ns(), tuple(row), values, given or SERIES, (trial, given))
        return False

    def chrono(self, name="step", uid="0_0", elapsed=0.5, *, announced=False, failed=False):
        """Log a chrono."""
        self.outbox.add_chrono(uid, name, 1000, elapsed, StatAggregator.lazy(1), announced=announced, failed=failed)

    def events(self, *, seal=True):
        """Return all queued events, in their order."""
        if seal:
            self.outbox.seal()
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
    for i in range(3):
        box.metrics(step=i, time_us=1000 + i, loss=i / 2, accuracy=i)
    [frame] = box.events()

    assert isinstance(frame, MetricsLogged)
    assert (frame.trial, frame.writer, frame.seq, frame.time) == ("0_0", "w", 1, 1000)
    assert (list(frame.names), frame.aggregator) == (["loss", "accuracy"], SERIES)
    assert list(frame.times) == [0, 1, 2]
    assert [list(each) for each in frame.columns] == [[0.0, 0.5, 1.0], [0, 1, 2]]
    assert (list(frame.steps), list(frame.float_steps), list(frame.text_steps)) == ([0, 1, 2], [], [])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"accuracy": 1.0}, id="other names"),
        pytest.param({"loss": 1.0, "accuracy": 1.0}, id="more names"),
        pytest.param({"loss": 1.0, "step": 1.5}, id="a float for a step"),
        pytest.param({"loss": 1.0, "step": "a"}, id="a text for a step"),
        pytest.param({"loss": 1.0, "step": None}, id="no step"),
        pytest.param({"loss": 1.0, "aggregator": StatAggregator.lazy(1)}, id="another aggregator"),
    ],
)
def test_a_row_of_another_shape_begins_a_frame(box, other):
    """A row with other names, aggregator or type of step seals the frame; the rows stay in their order."""
    box.metrics(loss=0.0)
    box.metrics(**other)
    box.metrics(loss=2.0)
    frames = box.events()

    assert [each.seq for each in frames] == [1, 2, 3]
    assert [len(each.times) for each in frames] == [1, 1, 1]


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
    for _ in range(FRAME_ROWS + 1):
        box.chrono()

    assert [len(each.chronos) for each in box.events(seal=False)] == [FRAME_ROWS]


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
        box.outbox.put(tags(i=i))
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
    box.outbox.put(tags("1_0"))
    box.outbox.put(tags("2_0"))
    number = box.backlog.next_number
    box.outbox.put(tags("1_0"))
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
    box.outbox.put(tags("1_0"))
    box.outbox.put(command)
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
        box.outbox.put(tags(i=i))
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
    assert before + 10 <= upcoming <= after + 10
    assert box.events(seal=False) == []

    assert box.outbox.seal(due=after + 10) == float("inf")
    assert len(box.events(seal=False)) == 2


def test_seal_without_a_time_seals_every_frame(box):
    """`seal` without a time, as in a commit, seals every frame."""
    box.metrics(loss=1.0)
    box.chrono()

    assert box.outbox.seal() == float("inf")
    assert len(box.events(seal=False)) == 2
    assert box.outbox.seal() == float("inf")


def test_the_sender_is_woken_once_per_call_of_routes(box):
    """A frame's first row and the first queued event wake the sender; later events do not until it calls `routes`."""
    box.metrics(loss=1.0)
    assert box.woken == 1
    for i in range(FRAME_ROWS * 3):
        box.metrics(step=i, loss=1.0)
    box.outbox.put(tags())
    assert box.woken == 2
    box.outbox.seal(due=time.monotonic())
    box.backlog.routes()
    box.outbox.put(tags())

    assert box.woken == 3


def test_the_sender_is_not_woken_for_a_frame_that_is_due_later(box):
    """A frame due later than the first open frame, for which the sender calls `seal` anyway, wakes no sender."""
    box.metrics(uid="0_0", loss=1.0)
    box.outbox.seal(due=time.monotonic())
    box.metrics(uid="0_0", loss=1.0)
    box.metrics(uid="0_1", loss=1.0)
    assert box.woken == 1
    box.outbox.put(tags("0_2"))

    assert box.woken == 2


# --- Bounds


def fill(add):
    """Add until there is no room; return how many were added."""
    for n in range(100_000):
        try:
            add()
        except OutboxFull:
            return n
    raise AssertionError("the outbox has no bound")


def test_a_full_outbox_takes_nothing():
    """An add to a full outbox appends nothing and uses no number; acknowledged entries make room."""
    box = Box(max_bytes=10_000)
    queued = fill(lambda: box.outbox.put(tags(a=1)))
    for add in (lambda: box.metrics(loss=1.0), box.chrono, lambda: box.outbox.put(tags())):
        with pytest.raises(OutboxFull):
            add()
    assert 1 < queued == box.outbox.statistics().queued < 100
    [route] = box.backlog.routes()
    box.acked(route, queued)
    box.metrics(loss=1.0)

    assert [each.seq for each in box.events()] == [queued + 1]


@pytest.mark.parametrize("kind", ["metrics", "chronos", "values", "definitions"])
def test_memory_is_bounded(kind):
    """The bound in bytes holds for many small rows as well as for few large values."""
    box = Box(max_bytes=1_000_000)
    trial = {"name": "a", "auto_increment": True, "request": "r", "parameters": {"a": "x" * 10_000}}
    add = {
        "metrics": lambda: box.metrics(loss=1.0),
        "chronos": box.chrono,
        "values": lambda: box.outbox.put(tags(a="x" * 10_000)),
        "definitions": lambda: box.outbox.put(TrialCreated(trial="0~r", writer="w", time=1, **trial)),
    }[kind]
    fill(add)

    assert 900_000 < box.outbox.statistics().bytes < 1_100_000
    [route] = box.backlog.routes() or [None]
    if route:
        box.outbox.seal()
        box.acked(route, box.outbox.statistics().queued)
        assert box.outbox.statistics().bytes == 0


def test_a_dropped_event_leaves_a_gap(box):
    """The number of a dropped event is missing between its neighbours', so that the fold can count it."""
    box.metrics(loss=1.0)
    box.outbox.drop("0_0")
    box.metrics(loss=2.0)

    assert [each.seq for each in box.events()] == [1, 3]
    assert box.outbox.statistics().dropped == 1


# --- Rows without the lock

TRIAL = Trial(name="t", hash="0")


def test_add_row_takes_rows_of_an_open_frame(box):
    """`add_row` appends a row to the frame that the first row opened."""
    ways = [box.row(TRIAL, step, loss=step / 2) for step in range(5)]
    [frame] = box.events()

    assert ways == [False, True, True, True, True]
    assert (list(frame.steps), list(frame.columns[0])) == ([0, 1, 2, 3, 4], [0.0, 0.5, 1.0, 1.5, 2.0])
    assert frame.time > 1_700_000_000_000_000
    assert list(frame.times) == sorted(frame.times)


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
def test_add_row_refuses_a_row_that_needs_more(box, trial, step, given, row):
    """`add_row` appends nothing of a row that needs the checks of `add_metrics`."""
    box.row(TRIAL, 0, loss=0.0)

    assert not box.outbox.add_row(trial, step, given, row)
    assert [list(each.steps) for each in box.events()] == [[0]]


@pytest.mark.parametrize("step", [float("nan"), float("inf"), float("-inf")])
def test_add_row_refuses_a_float_step_that_is_not_finite(box, step):
    """`add_row` leaves a step that cannot be logged to the checks of the slow path, and takes finite ones."""
    box.row(TRIAL, 0.5, loss=0.0)

    assert not box.outbox.add_row(TRIAL, step, None, {"loss": 1.0})
    assert box.outbox.add_row(TRIAL, 1.5, None, {"loss": 1.0})
    assert [list(each.float_steps) for each in box.events()] == [[0.5, 1.5]]


def test_add_row_refuses_a_trial_object_that_was_changed(box):
    """`add_row` refuses a trial object that was changed, since its rows belong to another trial."""
    trial = Trial(name="t", hash="0")
    box.row(trial, 0, loss=0.0)
    trial.revision = 1
    box.row(trial, 1, loss=1.0)

    assert [(each.trial, list(each.steps)) for each in box.events()] == [("0_0", [0]), ("0_1", [1])]


def test_add_row_refuses_a_row_for_a_full_frame(box):
    """`add_row` refuses a row for a full frame; the row opens a new frame."""
    for step in range(FRAME_ROWS + 1):
        box.row(TRIAL, step, loss=0.0)

    assert [len(each.times) for each in box.events()] == [FRAME_ROWS, 1]


def test_add_row_refuses_a_row_whose_frame_is_sealed_before_the_append(box):
    """A row whose frame is sealed between `add_row`'s look-up and its append is refused and is not in the event."""
    box.row(TRIAL, 0, loss=0.0)
    frame = box.outbox._rows[id(TRIAL)]
    pack = frame.pack

    def late(*fields):
        box.outbox.seal()
        return pack(*fields)

    frame.pack = late
    taken = box.outbox.add_row(TRIAL, 1, None, {"loss": 1.0})
    box.row(TRIAL, 1, loss=1.0)

    assert not taken
    assert [list(each.steps) for each in box.events()] == [[0], [1]]


def test_add_row_takes_a_row_whose_frame_is_sealed_after_the_append(box):
    """A row whose frame is sealed right after the append is accepted and in the event, although `is_sealed` is set."""

    class Rows(list):
        def append(self, packed):
            super().append(packed)
            box.outbox.seal()

    box.row(TRIAL, 0, loss=0.0)
    frame = box.outbox._rows[id(TRIAL)]
    frame.rows = Rows(frame.rows)

    assert box.outbox.add_row(TRIAL, 1, None, {"loss": 1.0})
    assert [list(each.steps) for each in box.events()] == [[0, 1]]


def test_add_row_waits_for_no_lock(box):
    """`add_row` takes no lock, so a signal handler can log a row while it interrupts another log call."""
    box.row(TRIAL, 0, loss=0.0)

    with box.outbox._lock:
        assert box.outbox.add_row(TRIAL, 1, None, {"loss": 1.0})


def test_a_frame_whose_sealing_was_interrupted_takes_no_row(box):
    """A frame whose sealing was interrupted accepts no row: the next row seals it first, with its counted rows."""
    box.row(TRIAL, 0, loss=0.0)
    frame = box.outbox._rows[id(TRIAL)]
    frame.event("w", TRIAL.uid)

    assert not box.row(TRIAL, 1, loss=1.0)
    assert [list(each.steps) for each in box.events()] == [[0], [1]]


def test_a_frame_has_room_for_as_many_rows_as_the_last_one_had(box):
    """A frame has room for as many rows as the last one, so that only its first row needs `add_metrics`."""

    def locked_rows(rows):
        found = sum(not box.row(TRIAL, step, loss=0.0) for step in range(rows))
        box.outbox.seal()
        return found

    assert locked_rows(FRAME_ROWS) == 3
    assert locked_rows(FRAME_ROWS) == locked_rows(100) == locked_rows(120) == 1
    assert locked_rows(10) == locked_rows(10) == 1
    assert locked_rows(100) == 3
    assert box.outbox._bytes == 0  # as no frame is open


def test_add_row_refuses_rows_once_the_outbox_is_closed(box):
    """A closed outbox refuses rows, since nothing is sent any more."""
    box.row(TRIAL, 0, loss=0.0)
    box.outbox.close()

    assert not box.outbox.add_row(TRIAL, 1, None, {"loss": 1.0})


def test_add_row_takes_no_more_rows_than_its_frame_has_room_for():
    """`add_row` fills its frame's room only; the next row needs `add_metrics`, which raises if the outbox is full."""
    box = Box(max_bytes=4000)

    with pytest.raises(OutboxFull):
        for step in range(FRAME_ROWS):
            box.row(TRIAL, step, loss=0.0)
    assert box.outbox.statistics().bytes < 8000


# --- Threads


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
