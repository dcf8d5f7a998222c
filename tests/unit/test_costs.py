"""Costs of the hottest paths in interpreter steps, which are the same on every machine and need no clock.

A step is one instruction of Python's byte code, of the call and of all Python code that it calls; a call into C is one
step. An added loop over rows or values, or an added layer, exceeds the bound. The bounds are about a quarter above the
steps of CPython 3.11, since other versions compile differently; docs/performance.md has the time of a step.
"""

from __future__ import annotations

import gc
import tracemalloc
from array import array
from functools import partial

import numpy as np
import pytest
import trialstream as ts
import trialstream.sync
from tracing import each_instruction
from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route
from trialstream.kafka.chronos import HeldChrono
from trialstream.kafka.row_log import RowLog
from trialstream.kafka.rows import RowChecks
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.frames import FRAME_ROWS
from trialstream.pipeline.outbox import Outbox
from trialstream.pipeline.watermark import Watermark
from trialstream.streaming.decoding import decode, events_of
from trialstream.streaming.filters import Filter
from trialstream.streaming.scan import TrialScan
from trialstream_consumer.fold import Changes, State, fold, fold_groups, needs, row_groups
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import MetricsLogged, TrialCreated

SERIES = TimeSeriesAggregator.lazy()
# Rows of a long frame; a longer one is folded into several buckets.
LONG = 256
# The comment behind each bound has the steps of CPython 3.11.
# 172, 227, 173, 190, 172, 360: find the trial and the shape, compare types, pack and append
CALL_STEPS = {"floats": 215, "ints": 285, "no step": 215, "a text": 240, "numpy": 215, "arrays": 450}
# 820, 723, 706, 466, 706: check the value, estimate its size, make the event and append it
KEY_STEPS = {"metadata": 1015, "arguments": 885, "tags": 890, "status": 580, "chrono": 880}
# 243, 307: read the clock, hold the chrono, append it; a body has two chronos and counts its rows
BLOCK_STEPS = {"chrono": 305, "timed": 385}
TAKE_STEPS = 34  # 28: rows of one frame are taken together
TAKE_BESIDE_STEPS = 92  # 73: a row and a chrono
SEAL_STEPS = 260  # 209: a column at a time
ROW_BYTES = 120  # 92: 48 packed, 33 for a bytes object, 8 for its place in a list
ENCODE_STEPS = {1: 1075, LONG: 1800}  # 858, 1435: the fields, and one call for each column
DECODE_STEPS = {1: 1000, LONG: 2280}  # 798, 1826: likewise
FOLD_STEPS = {1: 2510, LONG: 2880}  # 2011, 2308: needs, writer's mark, four aggregators, history
GROUP_ROW_STEPS = 560  # 445: compare the row with the previous one, four aggregators
RUN_ROW_STEPS = 480  # 384: find the trial in the record, four aggregators; numpy does the rest
STREAM_ROW_STEPS = 405  # 324: the head, the decision, the table of the record, the item
ROW = {"loss": 0.5, "accuracy": 0.25, "lr": 0.001, "norm": 3.5}
ROWS = {
    "floats": (1, ROW),
    "ints": (1, dict.fromkeys(ROW, 3)),
    "no step": (None, ROW),
    "a text": ("epoch 1", ROW),
    "numpy": (1, {name: np.float32(x) for name, x in ROW.items()}),
    "arrays": (1, {name: np.array(x) for name, x in ROW.items()}),
}


def steps(call) -> int:
    """Count the instructions of byte code that a call executes, once it has filled the caches."""
    call()
    return steps_once(call)


def steps_once(call) -> int:
    """Count the instructions of byte code that a call executes."""
    count = 0

    def look(_):
        nonlocal count
        count += 1

    gc.disable()  # its callbacks, which hypothesis has, would count
    try:
        each_instruction(call, look)
    finally:
        gc.enable()
    return count


@pytest.fixture
def outbox():
    """An outbox whose frames are sealed when they are full."""
    backlog = Backlog(Watermark(), lambda: None, lambda: None, spill_bytes=2**63)
    backlog.connect(lambda _: Route("t", 0))
    backlog.stop_spilling()
    return Outbox("w" * 16, backlog, lambda: None, max_bytes=10**9, linger=3600.0)


def drive(coroutine) -> None:
    """Run a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    pytest.fail("the coroutine waits")


def frame(trial: Trial, seq: int, rows: int) -> MetricsLogged:
    """Return an event of four metrics."""
    return MetricsLogged(
        trial=trial.uid,
        writer="w" * 16,
        seq=seq,
        time=1_700_000_000_000_000,
        aggregator=SERIES,
        names=tuple(ROW),
        steps=array("q", range(rows)),
        times=array("q", range(0, 1000 * rows, 1000)),
        columns=[array("d", [i * x for i in range(rows)]) for x in ROW.values()],
    )


@pytest.mark.parametrize("kind", list(ROWS))
def test_a_metrics_call(outbox, kind):
    """A row of four values of a kind that was checked before stays within its bound."""
    step, row = ROWS[kind]
    protocol = ts.KafkaProtocol(ts.Config())
    rows = RowLog(outbox, RowChecks(pytest.fail))
    protocol.log.add_row = rows.add
    trial = Trial(name="t")
    rows.prepare(trial, trial.uid, step, None, row)()

    assert steps(lambda: drive(protocol.log_trial_metrics(trial, step=step, **row))) <= CALL_STEPS[kind]
    assert outbox.take()
    assert len(outbox._open[trial.uid][0].rows) == 3


def test_calls_of_one_key(tmp_path, monkeypatch):
    """A call that logs one value of metadata, a parameter, a tag, a status or a chrono stays within its bound."""
    monkeypatch.setattr("trialstream.kafka.session._LINGER_SECONDS", 3600.0)

    def chrono():
        protocol.log_trial_chrono_start(trial, "step")
        protocol.log_trial_chrono_finish(trial, "step")

    with trialstream.sync.connect(offline=True, spool_dir=str(tmp_path)) as protocol:
        trial = protocol.new_trial(ts.Trial(name="t"))
        calls = {
            "metadata": lambda: protocol.log_trial_metadata(trial, epoch=3),
            "arguments": lambda: protocol.log_trial_arguments(trial, lr=1e-3),
            "tags": lambda: protocol.add_trial_tags(trial, best=True),
            "status": lambda: protocol.set_trial_status(trial, ts.Status.Running),
            "chrono": chrono,
        }
        found = {name: steps(call) for name, call in calls.items()}

    assert {name: count for name, count in found.items() if count > KEY_STEPS[name]} == {}


def test_blocks_of_the_tracker(monkeypatch):
    """A chrono of the tracker, and a body of a timed loop with its two chronos, stay within their bounds."""
    monkeypatch.setattr("trialstream.kafka.session._LINGER_SECONDS", 3600.0)

    def chrono():
        with t.chrono("step"):
            pass

    def timed(bodies):
        for _ in t.timed(range(bodies), "batch"):
            pass

    with ts.track("t", url="memory:costs", capture=False) as t:
        found = {"chrono": steps(chrono), "timed": (steps(lambda: timed(110)) - steps(lambda: timed(10))) / 100}

    assert {name: count for name, count in found.items() if count > BLOCK_STEPS[name]} == {}


def test_memory_of_a_row(outbox):
    """A row of four doubles, a step and a time is packed in 48 bytes; as a tuple, list and floats it takes 300."""
    trial, rows = Trial(name="t"), RowLog(outbox, RowChecks(pytest.fail))

    def fill():
        for step in range(FRAME_ROWS - 1):
            rows.prepare(trial, trial.uid, step, None, ROW)()
        outbox.take()

    for _ in range(2000 // FRAME_ROWS + 1):  # Python keeps 2,000 freed tuples of each length
        fill()
        outbox.seal()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    fill()
    taken = (tracemalloc.get_traced_memory()[0] - before) / FRAME_ROWS
    tracemalloc.stop()

    assert taken <= ROW_BYTES


def test_taking_a_row(outbox):
    """The I/O thread takes a row out of the inbox in a bounded number of steps."""
    trial, rows = Trial(name="t"), RowLog(outbox, RowChecks(pytest.fail))

    def taking(count):
        for step in range(count):
            rows.prepare(trial, trial.uid, step, None, ROW)()
        return steps_once(outbox.take)

    assert taking(200) - taking(100) <= 100 * TAKE_STEPS


def test_taking_rows_and_chronos_in_turn(outbox):
    """Chronos between rows do not part the rows: each is taken in few steps, and both make one event."""
    trial, rows = Trial(name="t"), RowLog(outbox, RowChecks(pytest.fail))

    def taking(count):
        for step in range(count):
            rows.prepare(trial, trial.uid, step, None, ROW)()
            outbox.add_chrono((HeldChrono(trial.uid, "step", SERIES, 0.0), 1000 * step, 0.5, False))
        return steps_once(outbox.take)

    assert taking(200) - taking(100) <= 100 * TAKE_BESIDE_STEPS
    assert [len(each.rows) for each in outbox._open[trial.uid]] == [300, 300]


def test_sealing_a_frame(outbox):
    """Sealing 200 rows takes as many steps as sealing 20, since C code handles each column."""
    trial, rows = Trial(name="t"), RowLog(outbox, RowChecks(pytest.fail))

    def sealing(count):
        for step in range(count):
            rows.prepare(trial, trial.uid, step, None, ROW)()
        outbox.take()
        [frame] = outbox._open.pop(trial.uid)
        return steps_once(lambda: frame.event("w"))

    sealing(20)
    assert sealing(200) <= sealing(20) + 10 <= SEAL_STEPS


def test_encoding_and_decoding_a_frame():
    """Encoding and decoding a long frame takes few more steps than one row."""
    trial = Trial(name="t")
    store = SchemaStore()
    for rows in (1, LONG):
        event = frame(trial, 1, rows)
        data = encode(event)

        assert steps(lambda event=event: encode(event)) <= ENCODE_STEPS[rows]
        assert steps(lambda data=data: store.decode(data)) <= DECODE_STEPS[rows]


def test_folding_a_frame():
    """Folding a row takes a bounded number of steps, and a frame of many rows less than twice as many."""
    for rows in (1, LONG):
        trial = Trial(name="t")
        state = State(trials={trial.uid: trial})
        events = iter([frame(trial, seq, rows) for seq in range(1, 4)])
        fold(state, next(events))

        def one(state=state, events=events):
            event = next(events)
            needs([event])
            fold(state, event)
            state.changes = Changes()

        assert steps(one) <= FOLD_STEPS[rows]


def test_folding_rows_together():
    """Folding a row within a group takes a quarter of the steps of folding it alone."""

    def folding(rows):
        trial = Trial(name="t")
        state = State(trials={trial.uid: trial})
        fold(state, frame(trial, 1, 1))
        seqs = iter(range(2, 2 + 2 * rows))
        batches = iter([[frame(trial, next(seqs), 1) for _ in range(rows)] for _ in range(2)])

        def one():
            batch = next(batches)
            assert fold_groups(state, batch, row_groups(batch)) == []

        return steps(one)

    assert folding(200) - folding(100) <= 100 * GROUP_ROW_STEPS


def test_decoding_and_folding_rows_together():
    """Decoding and folding a row among others takes a fraction of the steps of decoding and folding it alone."""
    store = SchemaStore()

    def folding(rows):
        trial = Trial(name="t")
        state = State(trials={trial.uid: trial})
        fold(state, frame(trial, 1, 1))
        seqs = iter(range(2, 2 + 2 * rows))
        batches = iter([[encode(frame(trial, next(seqs), 1)) for _ in range(rows)] for _ in range(2)])

        def one():
            batch = store.decode_all(next(batches))
            assert fold_groups(state, batch, row_groups(batch)) == []

        return steps(one)

    assert folding(200) - folding(100) <= 100 * RUN_ROW_STEPS


def test_streaming_a_row_that_was_logged_alone():
    """A stream looks up its head, leaves its values to numpy, and makes one item of it."""
    store = SchemaStore()
    trial = Trial(name="t")
    route = Route("trials", 0)

    def streaming(rows):
        scan = TrialScan(route, 1, Filter(None, None, None, None), store)
        created = TrialCreated(
            trial=f"{trial.hash}~r", writer="w", request="r", time=1, name="t", parameters={}, auto_increment=False
        )
        scan.scan(in_columns([encode(created)]), 0)
        seqs = iter(range(1, 1 + 2 * rows))
        batches = iter([in_columns([encode(frame(trial, next(seqs), 1)) for _ in range(rows)]) for _ in range(2)])

        def one():
            records = next(batches)
            events, _ = events_of(records, scan.scan(records, 0), store, route)
            assert len([*events.items(partial(decode, store))]) == rows

        return steps(one)

    assert streaming(200) - streaming(100) <= 100 * STREAM_ROW_STEPS


def in_columns(values):
    """Return records with these values."""
    return Records(range(len(values)), [0] * len(values), [None] * len(values), values, {})
