"""Rows with values that a device is still computing: tensors and arrays like those of torch and jax."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import threading
import types
import weakref

import pytest
import trialstream as ts
import trialstream.sync
from hypothesis import given
from hypothesis import strategies as st
from trialstream.event_log.topics import Route
from trialstream.kafka.chronos import OpenChrono
from trialstream.kafka.row_log import RowLog
from trialstream.kafka.rows import RowChecks
from trialstream.kafka.waits import Waits
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.outbox import Outbox
from trialstream.pipeline.watermark import Watermark
from trialstream_schemas.errors import CommitTimeout, InvalidType
from trialstream_schemas.model.aggregators import StatAggregator
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.events import ChronosFinished, Heartbeat, MetricsLogged, TagsAdded

TRIALS = [Trial(name="t", hash="0", revision=number) for number in range(3)]
TRIAL = TRIALS[0]


class Device:
    """A device that performs the operations that were launched, in their order, when it is told to.

    Attributes:
        waits: The threads that have waited for it.
        capturing: Whether operations are taken up into a graph.
        fault: What each look at it raises; None while it works.
    """

    def __init__(self):
        self.launched = []
        self.performed = 0
        self.waits = []
        self.capturing = False
        self.fault = None

    def launch(self, operation):
        """Launch an operation, and return a function like the `query` of an event behind it."""
        self.launched.append(operation)
        number = len(self.launched)

        def query():
            if self.fault is not None:
                raise self.fault
            return self.performed >= number

        return query

    def perform(self, count=10**9):
        """Perform launched operations."""
        for operation in self.launched[self.performed :][:count]:
            operation()
            self.performed += 1

    def cuda(self):
        """Return what is used of `torch.cuda`."""
        event = types.SimpleNamespace
        stream = types.SimpleNamespace(record_event=lambda: event(query=self.launch(lambda: None)))
        return types.SimpleNamespace(
            is_current_stream_capturing=lambda: self.capturing, current_stream=lambda _: stream
        )


class Tensor:
    """The part of `torch.Tensor` that is used.

    Args:
        device: The device; None for the memory of the process.
        value: The value.
        count: Number of elements.
    """

    def __init__(self, device, value=None, count=1):
        self.device = device
        self.is_cuda = device is not None
        self.value = value
        self.count = count

    def numel(self):
        """Return the number of elements."""
        return self.count

    def is_complex(self):
        """Return whether the number is complex."""
        return isinstance(self.value, complex)

    def detach(self):
        """Return the same tensor."""
        return self

    def to(self, where, *, non_blocking):
        """Launch a copy into memory."""
        assert (where, non_blocking) == ("cpu", True)
        if isinstance(self.value, RuntimeError):
            raise self.value
        copy = Tensor(None, "not there yet")
        self.device.launch(functools.partial(copy.take, self))
        return copy

    def take(self, other):
        """Take the value of another tensor."""
        self.value = other.value

    def fill(self, value):
        """Launch a change in place."""
        self.device.launch(lambda: setattr(self, "value", value))

    def item(self):
        """Return the value, once the device has performed all that was launched."""
        if self.count != 1:
            raise RuntimeError(f"a Tensor with {self.count} elements cannot be converted to Scalar")
        if self.is_cuda:
            self.device.waits.append(threading.current_thread())
            self.device.perform()
        if isinstance(self.value, RuntimeError):
            raise self.value
        return self.value


Tensor.__module__, Tensor.__qualname__ = "torch", "Tensor"


class ArrayImpl:
    """The part of `jax.Array` that is used."""

    size, is_fully_addressable, dtype = 1, True, types.SimpleNamespace(kind="V")

    def __init__(self, device, value=None):
        self.device = device
        self.value = value
        self.is_ready = device.launch(lambda: None)

    def copy(self):
        """Launch a copy."""
        return ArrayImpl(self.device, self.item(wait=False))

    def item(self, *, wait=True):
        """Return the value."""
        if wait and not self.is_ready():
            self.device.waits.append(threading.current_thread())
        if self.value is None:
            raise RuntimeError("Array has been deleted.")
        return self.value


ArrayImpl.__module__ = "jaxlib._jax"


class Box:
    """An outbox that is connected."""

    def __init__(self):
        self.backlog = Backlog(Watermark(), lambda: None, lambda: None, spill_bytes=2**63)
        self.backlog.connect(lambda _: Route("t", 0))
        self.backlog.stop_spilling()
        self.outbox = Outbox("w", self.backlog, lambda: None, max_bytes=10**9, linger=3600.0)
        self.warnings = []
        self.rows = RowLog(self.outbox, RowChecks(self.warnings.append))

    def row(self, step, trial=TRIAL, **row):
        """Log a row."""
        if not self.rows.add(trial, step, None, row):
            self.rows.prepare(trial, trial.uid, step, None, row)()

    def events(self, trial=TRIAL):
        """Return the queued events of a trial, in their order."""
        self.outbox.seal()
        entries = [each for route in self.backlog.routes() for each in self.backlog.peek(route, 10**9)]
        return [each.event for each in entries if each.event.subject == trial.uid]


@pytest.fixture
def box():
    """An outbox that is connected."""
    return Box()


@pytest.fixture
def device(monkeypatch):
    """A device of torch."""
    found = Device()
    monkeypatch.setitem(__import__("sys").modules, "torch", types.SimpleNamespace(cuda=found.cuda()))
    return found


def tags(trial=TRIAL):
    """Return an event that is made of no row."""
    return TagsAdded(trial=trial.uid, writer="w", time=1, values={})


# --- At the call


def test_the_call_does_not_wait(box, device):
    """A tensor is logged with its value at the call, which does not wait for it, whatever is launched afterwards."""
    loss = Tensor(device, 0.5)
    for step in range(3):
        box.row(step, loss=loss, lr=0.1)
        loss.fill(step + 7.0)
    assert box.events() == []
    device.perform()
    [frame] = box.events()

    assert device.waits == []
    assert [list(each) for each in frame.columns] == [[0.5, 7.0, 8.0], [0.1] * 3]
    assert list(frame.steps) == [0, 1, 2]


@pytest.mark.parametrize("step", [None, 1.5, "epoch 1", "x" * 100])
def test_steps_of_rows_that_wait(box, device, step):
    """A row that waits keeps its step, its names and the time of its call."""
    box.row(step, a=1, b=Tensor(device, 2.0), c=Tensor(device, True))
    device.perform()
    [frame] = box.events()

    assert list(frame.names) == ["a", "b", "c"]
    assert [list(each) for each in frame.columns] == [[1.0], [2.0], [1.0]]
    assert [*frame.steps, *frame.float_steps, *frame.text_steps] == ([] if step is None else [step])


@pytest.mark.parametrize(
    "x",
    [float("nan"), float("inf"), -0.0, 5e-324, 3, 2**53 + 1, True],
    ids=["nan", "inf", "-0", "tiny", "int", "large", "bool"],
)
def test_values_of_rows_that_wait(box, device, x):
    """A value that waits is converted as any other, with a warning about an integer that loses digits."""
    box.row(1, loss=Tensor(device, x))
    device.perform()
    [frame] = box.events()

    assert repr(frame.columns[0][0]) == repr(float(x))
    assert len(box.warnings) == (x == 2**53 + 1)


def test_a_warning_that_raises_loses_no_row(box, device):
    """A warning about lost digits that is an error does not lose the row, since its call is over."""

    def fail(message):
        raise RuntimeWarning(message)

    rows = RowLog(box.outbox, RowChecks(fail))
    rows.prepare(TRIAL, TRIAL.uid, 1, None, {"loss": Tensor(device, 2**53 + 1)})()
    device.perform()

    assert [list(each.columns[0]) for each in box.events()] == [[2.0**53]]


@pytest.mark.parametrize(
    ("x", "found"),
    [
        pytest.param({"count": 2}, "a Tensor with 2 elements cannot be converted", id="two elements"),
        pytest.param({"value": 1j}, "expected a number, got builtins.complex", id="a complex number"),
        pytest.param({"value": RuntimeError("out of memory")}, "item.. failed: out of memory", id="a failing copy"),
    ],
)
def test_an_error_is_raised_at_the_call(box, device, x, found):
    """Errors that the shape and type of a tensor show without its device are raised at the call."""
    with pytest.raises(InvalidType, match=rf"^metric 'loss': .*{found}"):
        box.row(1, loss=Tensor(device, **{"value": 1.0, **x}))

    device.perform()
    assert box.events() == []


def test_tensors_that_are_read_at_the_call(box, device):
    """A tensor in memory, and one whose copy would be taken up into a graph, is read at the call."""
    box.row(1, loss=Tensor(None, 0.5))
    device.capturing = True
    box.row(2, loss=Tensor(device, 0.25))

    assert [list(each.columns[0]) for each in box.events()] == [[0.5, 0.25]]
    assert device.waits == [threading.current_thread()]


def test_arrays_that_may_be_deleted(box):
    """An array like jax's that is not there yet is copied: it may be deleted after the call."""
    device = Device()
    loss = ArrayImpl(device, 0.5)
    box.row(1, loss=loss)
    assert box.events() == []
    loss.value = None
    device.perform()

    assert [list(each.columns[0]) for each in box.events()] == [[0.5]]
    box.row(2, loss=ArrayImpl(device, 0.25))
    device.perform()
    assert device.waits == []


@pytest.mark.parametrize("ready", [True, False])
def test_arrays_that_are_read_at_the_call(box, monkeypatch, ready):
    """An array like jax's that is there, or belongs to several processes, is read at the call."""
    device = Device()
    loss = ArrayImpl(device, 0.5)
    monkeypatch.setattr(ArrayImpl, "is_fully_addressable", ready)
    if ready:
        device.perform()
    box.row(1, loss=loss)

    assert len(device.launched) == 1
    assert [list(each.columns[0]) for each in box.events()] == [[0.5]]


def test_values_of_the_first_call_for_a_trial(device, tmp_path):
    """A call that first looks its trial up reads and copies values in its own thread, which chooses the stream."""
    threads = []
    metric, metadata = Tensor(device, 0.5), Tensor(device, 0.25)
    metric.detach = lambda: threads.append(threading.current_thread()) or metric
    with trialstream.sync.connect(offline=True, spool_dir=str(tmp_path)) as protocol:
        known = protocol.new_trial(ts.Trial(name="t"))
    with trialstream.sync.connect(offline=True, spool_dir=str(tmp_path)) as protocol:
        protocol.log_trial_metrics(known, step=1, loss=metric)
        device.perform()
    with trialstream.sync.connect(offline=True, spool_dir=str(tmp_path)) as protocol:
        protocol.log_trial_metadata(known, loss=metadata)
        device.perform()

    assert threads == device.waits == [threading.current_thread()]


# --- Order


def test_what_waits_and_what_does_not(box, device):
    """All later events of the trial wait behind a row; heartbeats and other trials do not."""
    box.row(1, loss=0.5)
    box.row(2, loss=Tensor(device, 0.25))
    box.row(3, loss=0.125)
    box.outbox.put(tags())
    box.outbox.add_chrono((OpenChrono(TRIAL.uid, "step", StatAggregator.lazy(1), None), 1000, 0.5, False))
    box.outbox.put(Heartbeat(trial=TRIAL.uid, writer="w", time=1))
    box.row(1, TRIALS[1], loss=1.0)
    box.outbox.drop(TRIAL.uid)

    assert [type(each) for each in box.events()] == [MetricsLogged, Heartbeat]
    assert [list(each.columns[0]) for each in box.events(TRIALS[1])] == [[1.0]]
    assert box.outbox.statistics().queued == 3 + 3
    assert box.outbox.statistics().dropped == 1
    device.perform()
    events = box.events()
    assert [type(each) for each in events] == [MetricsLogged, Heartbeat, MetricsLogged, TagsAdded, ChronosFinished]
    assert list(events[2].columns[0]) == [0.25, 0.125]
    assert [each.seq for each in events] == [1, 2, 3, 4, 5]
    assert box.outbox.held.bytes == box.outbox.bytes == 0


CALLS = st.one_of(
    st.tuples(st.sampled_from(["row", "late", "chrono", "tags"]), st.sampled_from([0, 1, 2])),
    st.tuples(st.sampled_from(["take", "seal", "perform"]), st.integers(1, 3)),
)


@given(st.lists(CALLS, max_size=60))
def test_the_order_is_kept(calls):
    """Each row is queued once, in its order, between the events of its trial, for any rows that wait for any time."""
    box, device, logged = Box(), Device(), {number: [] for number in range(3)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "torch", types.SimpleNamespace(cuda=device.cuda()))
        for i, (call, number) in enumerate(calls):
            trial = TRIALS[number % 3]
            match call:
                case "row":
                    box.row(i, trial, loss=float(i))
                case "late":
                    box.row(i, trial, loss=Tensor(device, float(i)))
                case "chrono":
                    chrono = OpenChrono(trial.uid, "step", StatAggregator.lazy(1), None)
                    box.outbox.add_chrono((chrono, 1000, 0.5, False))
                case "tags":
                    box.outbox.put(tags(trial))
                case "take":
                    box.outbox.take()
                case "seal":
                    box.outbox.seal()
                case "perform":
                    device.perform(number)
            if call in ("row", "late", "tags"):
                logged[number].append("tags" if call == "tags" else float(i))
    device.perform()

    for number, trial in enumerate(TRIALS):
        found, events = [], box.events(trial)
        for event in events:
            found += event.columns[0] if isinstance(event, MetricsLogged) else ["tags"] * isinstance(event, TagsAdded)
        assert found == logged[number]
        assert [each.seq for each in events] == list(range(1, len(events) + 1))
    assert not box.outbox.held.trials
    assert box.outbox.held.bytes == box.outbox.bytes == 0


# --- Bounds, failures, the end


def test_memory_of_what_waits(box, device):
    """Rows that wait count in the bound of memory."""
    for step in range(100):
        box.row(step, loss=Tensor(device, 0.5))
    box.outbox.put(tags())
    box.outbox.take()
    found = box.outbox.statistics()

    assert found.bytes == box.outbox.held.bytes >= 100 * 1024
    assert found.queued == 2


def test_a_device_that_fails(box, device, caplog):
    """Rows whose device has failed count as dropped; what was logged behind them is queued."""
    box.row(1, loss=0.5)
    box.row(2, loss=Tensor(device, 0.25))
    box.row(3, loss=0.125)
    device.fault = RuntimeError("an illegal memory access was encountered")
    with caplog.at_level(logging.ERROR):
        events = box.events()

    assert [list(each.columns[0]) for each in events] == [[0.5], [0.125]]
    assert [each.seq for each in events] == [1, 3]
    assert box.outbox.statistics().dropped == 1
    assert "lost a row of trial 0_0" in caplog.text
    assert "illegal memory access" in caplog.text


class Sent:
    """A pipeline that sends at once."""

    async def wait_acked(self, timeout):
        """Return at once."""
        assert timeout >= 0


async def test_waiting_for_a_device(box, device):
    """A wait for what was logged includes the rows that wait for a device, and not those that are logged meanwhile."""
    waits = Waits(box.outbox, Sent(), None)
    box.row(1, loss=Tensor(device, 0.5))
    with pytest.raises(CommitTimeout, match=r"^the device has not computed the values of 1 row in 0.01 s; they stay"):
        await waits.wait_acked(0.01)
    waiting = asyncio.create_task(waits.wait_acked(30))
    await asyncio.sleep(0)
    launched = len(device.launched)
    box.row(2, loss=Tensor(device, 0.25))
    device.perform(launched)
    await waiting

    assert [list(each.columns[0]) for each in box.events()] == [[0.5]]


async def test_the_end_does_not_wait_for_ever(box, device):
    """At the end, rows that are not there in time count as dropped, and all else is queued."""
    box.row(1, loss=Tensor(device, 0.5))
    device.perform()
    box.row(2, loss=Tensor(device, 0.25))
    box.outbox.put(tags())
    box.outbox.close()
    await Waits(box.outbox, Sent(), None).finish(0.01)

    entries = box.backlog.peek(Route("t", 0), 10)
    assert [type(each.event) for each in entries] == [MetricsLogged, TagsAdded]
    assert [each.event.seq for each in entries] == [1, 3]
    assert box.outbox.statistics().dropped == 1


def test_a_protocol(device, tmp_path):
    """Commit and close of a protocol without servers wait for rows whose values are computed meanwhile."""
    with trialstream.sync.connect(offline=True, spool_dir=str(tmp_path)) as protocol:
        trial = protocol.new_trial(ts.Trial(name="t"))
        protocol.log_trial_metrics(trial, step=1, loss=Tensor(device, 0.5))
        with pytest.raises(CommitTimeout, match="device has not computed"):
            protocol.commit("spooled", timeout=0.01)
        timer = threading.Timer(0.05, device.perform)
        timer.start()
        protocol.commit("spooled")
        timer.join()
        protocol.log_trial_metrics(trial, step=2, loss=Tensor(device, 0.25))
        timer = threading.Timer(0.05, device.perform)
        timer.start()
    timer.join()

    assert device.waits == []
    assert protocol._protocol._session.outbox.statistics().dropped == 0
    assert protocol._protocol._session.outbox.statistics().spooled == 3


def test_a_forked_child_keeps_the_copies(box, device):
    """A forked child frees no tensor that waits in the inbox of its parent: that would use the device."""
    box.row(1, loss=Tensor(device, 0.5))
    [copy, _] = device.launched
    copy = weakref.ref(copy.func.__self__)
    device.launched.clear()
    if (child := os.fork()) == 0:
        gc.collect()
        os._exit(0 if copy() is not None and not box.outbox.inbox.items else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
