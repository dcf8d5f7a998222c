"""Frames that are decoded and measured together: the same as one by one, to the bit."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

import bson
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from profiles import examples
from strategies import exact
from trialstream_consumer.fold import Refused, State, batch, fold, fold_groups, row_groups
from trialstream_schemas.errors import SchemaError, UnknownSchema
from trialstream_schemas.model.aggregators import RingAggregator, StatAggregator, TimeSeriesAggregator
from trialstream_schemas.model.history import Bucket
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.storage.documents import trial_from_document, trial_to_document
from trialstream_schemas.wire import frames as frames_module
from trialstream_schemas.wire.codec import HEADER_BYTES, SchemaStore, encode
from trialstream_schemas.wire.events import Heartbeat, MetricsLogged
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES
from trialstream_schemas.wire.rows import RowRun, apart

STORE = SchemaStore()
TRIALS = [Trial(name=name) for name in "abc"]
SPECS = [TimeSeriesAggregator.lazy(), TimeSeriesAggregator.lazy(), StatAggregator.lazy(2), RingAggregator.lazy(3)]
NUMBERS = st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 2.0**53 + 2, 1.7e308, -1.7e308, 5e-324])
NUMBERS |= st.floats() | st.integers(-(2**60), 2**60).map(float)
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**55), 2**55) | st.integers(-70, 9000)


@st.composite
def metrics(draw):
    """Draw a frame; few of its numbers are drawn, and its rows repeat them, out of order."""
    rows = draw(st.sampled_from([1, 2, 23, 24, 25, 63, 64, 256, 700, 1024, 4096]))
    names = draw(st.sampled_from([("loss",), ("loss", "acc"), ("acc", "loss", "lr", "norm")]))

    def column(numbers, code):
        some = draw(st.lists(numbers, min_size=1, max_size=7))
        return array(code, [some[(i * i + i) % len(some)] for i in range(rows)])

    kind = draw(st.sampled_from(["steps", "steps", "steps", "float_steps", "none", "text_steps"]))
    steps = {"steps": lambda: column(INTEGERS, "q"), "float_steps": lambda: column(NUMBERS, "d")}
    steps["text_steps"] = lambda: ["step"] * rows
    trial = draw(st.sampled_from(TRIALS))
    return MetricsLogged(
        trial=trial.uid,
        writer=draw(st.sampled_from(["v", "w" * 16])),
        seq=draw(st.integers(1, 300)),
        time=draw(st.just(1_700_000_000_000_000) | st.integers(-(2**63), 2**63 - 1)),
        aggregator=draw(st.sampled_from(SPECS)),
        names=names,
        times=column(st.integers(0, 200_000) | INTEGERS, "q"),
        columns=[column(NUMBERS, "d") for _ in names],
        **({} if kind == "none" else {kind: steps[kind]()}),
    )


@st.composite
def runs(draw):
    """Draw frames of one row, of some trials and writers in turn, most of which continue the one before."""
    names = draw(st.sampled_from([("loss",), ("loss", "acc"), ("acc", "loss"), ("loss", "äcc"), ("a", "b", "c")]))
    subjects = draw(st.lists(st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(["v", "w", "w" * 16])), min_size=1))
    first = draw(st.sampled_from([1, 40, 60, 8180]))
    values, steps = draw(st.lists(NUMBERS, min_size=1)), draw(st.lists(INTEGERS, min_size=1, max_size=3))
    kinds = draw(
        st.lists(st.sampled_from([{}, {}, {"steps": ()}, {"times": (1,)}, {"float_steps": (0.5,)}]), max_size=2)
    )
    spec, strange = draw(st.sampled_from(SPECS)), draw(st.sets(st.integers(0, 40), max_size=3))
    sent = []
    for turn in range(draw(st.integers(1, 40))):
        for trial, writer in subjects[:4]:
            changes = draw(st.sampled_from(kinds)) if kinds and turn in strange else {}
            columns = [(values[(turn + i) % len(values)],) for i in range(len(names))]
            step = (turn + steps[turn % len(steps)],) if turn in strange else (first + turn,)
            fields = {"steps": () if "float_steps" in changes else step, "times": (0,)} | changes
            given = {"trial": trial, "writer": writer, "seq": first + turn, "time": 1_700_000_000_000_000 + turn}
            sent.append(MetricsLogged(**given, aggregator=spec, names=names, columns=columns, **fields))
    return sent


SUBJECTS = [*(each.uid for each in TRIALS), f"{TRIALS[0].hash}~r", "x" * 80]
BEAT = Heartbeat(trial=TRIALS[0].uid, writer="v", seq=1, time=0)


EVENTS = st.lists(metrics() | st.just(BEAT), max_size=12) | runs()
EVENTS |= st.tuples(runs(), runs(), st.lists(st.just(BEAT), max_size=1)).map(
    lambda parts: [*parts[0], *parts[2], *parts[1]]
)


@settings(max_examples=examples(300), deadline=None)
@given(sent=EVENTS, data=st.data())
def test_frames_are_decoded_together_as_one_by_one(sent, data):
    """Events, or the errors of records that are damaged, are those of decoding one by one, in whatever company."""
    records = [bytearray(encode(each)) for each in sent]
    for record in data.draw(st.lists(st.sampled_from(records), max_size=2, unique_by=id)) if records else []:
        at = data.draw(st.integers(0, min(len(record), 2000) - 1))
        way = data.draw(st.sampled_from(["replace", "insert", "cut"]))
        if way == "replace":
            record[at] = data.draw(st.integers(0, 255))
        elif way == "insert":
            record.insert(at, data.draw(st.sampled_from([0, 0x80, 0x81])))
        else:
            del record[at:]
    records = list(map(bytes, records))
    decoded_together = STORE.decode_all(records)
    event(f"in runs: {any(type(each) is RowRun for each in decoded_together)}")
    found = apart(decoded_together)

    assert len(found) == len(records)
    assert [content(each) for each in found] == [content(decoded(record)) for record in records]


def decoded(record):
    """Decode a record by itself; returns the event or the error."""
    try:
        return STORE.decode(record)
    except SchemaError as error:
        return error


def content(found):
    """Return the content of a frame, exact to the bit, with lists, or that of another event or error."""
    if isinstance(found, SchemaError):
        return type(found), str(found)
    if not isinstance(found, MetricsLogged):
        return exact(found)
    lists = {name: list(getattr(found, name)) for name in ("steps", "float_steps", "text_steps", "times", "names")}
    return exact(replace(found, **lists, columns=[list(each) for each in found.columns]))


def frame(seq, rows, **changes):
    """Return a frame of four metrics."""
    columns = [array("d", [x * i for i in range(rows)]) for x in (0.5, 0.25, -1.0, 1e9)]
    fields = {
        "trial": TRIALS[0].uid,
        "writer": "w",
        "seq": seq,
        "time": 1_700_000_000_000_000,
        "aggregator": SPECS[0],
        "names": ("loss", "acc", "lr", "norm"),
        "steps": array("q", range(rows * seq, rows * seq + rows)),
        "times": array("q", range(0, rows * 900, 900)),
        "columns": columns,
    }
    return MetricsLogged(**(fields | changes))


def test_integers_that_are_longer_than_needed():
    """A zero of two bytes, which `decode` takes as another block of an array, is left to `decode`."""
    usual = encode(frame(1, 30))
    STORE.decode(usual)
    zeros = [at for at in range(len(usual)) if not usual[at]][:40]
    records = [usual, *[usual[:at] + b"\x80" + usual[at:] for at in zeros]]

    assert [content(STORE.decode_all([each])[0]) for each in records] == [content(decoded(each)) for each in records]


def test_a_long_address_whose_end_looks_like_a_writer():
    """One frame with a wrong length is an error of its own, and none of the others.

    The length of a text of more than 63 bytes takes two. Read as one, it says that the writer begins at the last byte
    of the address, which here is a length by which `seq` begins where it does.
    """
    rows = [frame(n, 1, trial="t" * 69 + "B", writer="w" * 32, times=[0]) for n in range(1, 21)]
    records = [*map(encode, rows)]
    wrong = bytearray(records[5])
    wrong[HEADER_BYTES + 1] = 7
    records[5] = bytes(wrong)

    found = STORE.decode_all(records)
    assert [content(each) for each in found] == [content(decoded(each)) for each in records]


def test_usual_frames_are_decoded_together(monkeypatch):
    """Frames as the producer writes them, with and without steps, of shapes in turns, need no decoding of their own."""
    forms = [{}, {"steps": ()}, {"names": ("a", "b", "c", "d")}]
    kinds = [(1, {}), *[(rows, each) for rows in (24, 63, 64, 256, 4096) for each in forms]]
    sent = [frame(seq, rows, **each) for seq, (rows, each) in enumerate(kinds, start=1)]
    records = list(map(encode, sent))
    STORE.decode(records[0])
    alone = []
    monkeypatch.setattr(SchemaStore, "_decode", lambda _, record, _left: alone.append(record))
    found = STORE.decode_all(records)

    assert alone == records[:1]
    assert [exact(list(each.steps)) for each in found[1:]] == [exact(list(each.steps)) for each in sent[1:]]
    assert len(frames_module.encode_frame(sent[-1])) < MAX_RECORD_BYTES


def documents(state):
    """Return the documents of a state, exact to the bit."""
    trials = [trial_to_document(each) for each in state.trials.values()]
    opened = [each.to_document(full=False) for each in state.buckets.values()]
    filled = [each.to_document(full=True) for each in state.changes.filled]
    return repr((trials, sorted([*opened, *filled], key=lambda each: each["_id"])))


def buckets(state):
    """Return the documents of all buckets, in the order of their numbers."""
    filled = [each.to_document(full=True) for each in state.changes.filled]
    return filled + [each.to_document(full=False) for each in state.buckets.values()]


def stored(state):
    """Return the state that is loaded from the documents of a state; full buckets stay among the changes."""

    def loaded(document):
        return bson.decode(bson.encode(document))

    trials = {uid: trial_from_document(loaded(trial_to_document(each))) for uid, each in state.trials.items()}
    opened = {key: Bucket.from_document(loaded(each.to_document(full=False))) for key, each in state.buckets.items()}
    return State(trials=trials, buckets=opened, changes=state.changes)


@pytest.mark.parametrize("rows", [3, 30], ids=["few", "many"])
@pytest.mark.parametrize("steps", [True, False], ids=["steps", "no steps"])
def test_usual_frames_of_one_row_are_folded_together(monkeypatch, rows, steps):
    """After the first frame, which makes the names known, none is folded by itself; also into a loaded bucket."""
    alone = []
    monkeypatch.setattr(batch, "fold", lambda state, event: alone.append(event.seq) or fold(state, event))
    state = State(trials={TRIALS[0].uid: Trial(name="a")})
    for first in (1, 1 + rows):
        sent = [frame(seq, 1, **({} if steps else {"steps": ()})) for seq in range(first, first + rows)]
        decoded = STORE.decode_all(list(map(encode, sent)))
        assert fold_groups(state, decoded, row_groups(decoded)) == []
        [bucket] = state.buckets.values()
        assert len(bucket) == len(bucket.times) == first + rows - 1
        state = stored(state)

    assert alone == [1]


@settings(max_examples=examples(200), deadline=None)
@given(sent=st.lists(metrics(), min_size=1, max_size=10) | runs(), seed=st.randoms(use_true_random=False))
def test_frames_are_folded_together_as_one_by_one(sent, seed):
    """Frames of any values have the same documents, to the bit, measured together, in any cuts, or by themselves."""
    seqs = {}
    growth = seed.choice([(0, 1, 2), (1,), (1,) * 30 + (0, 2)])
    for each in sent:
        key = each.trial, each.writer
        each.seq = seqs[key] = seqs.get(key, 0) + seed.choice(growth)

    def state():
        return stored(State(trials={each.uid: each for each in TRIALS}))

    together, in_parts, alone = state(), state(), state()
    records = list(map(encode, sent))
    decoded_together = STORE.decode_all(records)
    refused = fold_groups(together, decoded_together, row_groups(decoded_together))
    cut = seed.randint(0, len(sent))
    for part in (sent[:cut], sent[cut:]):
        fold_groups(in_parts, part, row_groups(part))
        in_parts = stored(in_parts)
    reasons = []
    for position, each in enumerate(map(STORE.decode, records)):
        try:
            fold(alone, each)
        except Refused as reason:
            reasons.append((position, str(reason)))

    assert documents(together) == documents(alone)
    assert documents(in_parts) == documents(together)
    assert refused == reasons
    assert not together.measures


def test_long_frames_are_cut_into_the_buckets_of_their_rows():
    """Frames of 4,096 rows, at any place in a bucket, fill the same buckets as their rows logged one by one."""
    sent = [frame(seq, rows) for seq, rows in enumerate((700, 4096, 1, 4096, 323, 1024), start=1)]
    rows = []
    for each in sent:
        for i, time in enumerate(each.times):
            single = {"steps": each.steps[i : i + 1], "times": (time,), "columns": [(x[i],) for x in each.columns]}
            rows.append(replace(each, seq=len(rows) + 1, **single))
    long, single = (State(trials={TRIALS[0].uid: Trial(name="a")}) for _ in range(2))
    assert not fold_groups(long, sent, row_groups(sent))
    assert not fold_groups(single, rows, row_groups(rows))

    assert buckets(long) == buckets(single)
    assert len(buckets(long)) == 11  # 10,240 rows, and the open bucket, which is empty
    assert [each["rows"] for each in buckets(long)] == [1024] * 10 + [0]


def test_a_frame_that_cannot_be_measured_is_the_fault_of_itself_alone(monkeypatch):
    """If frames cannot be measured together, each is measured when it is folded, so a batch has one failing frame."""
    sent = [frame(1, 30), frame(2, 30)]
    expected = State(trials={TRIALS[0].uid: Trial(name="a")})
    fold_groups(expected, sent, row_groups(sent))

    def fail(_):
        raise MemoryError

    monkeypatch.setattr(batch, "measures_of", fail)
    state = State(trials={TRIALS[0].uid: Trial(name="a")})

    assert not fold_groups(state, sent, row_groups(sent))
    assert documents(state) == documents(expected)


def test_errors_of_a_batch_hold_no_frames_of_the_interpreter():
    """An error keeps neither a traceback nor a cause, which would keep the events of its batch in memory."""
    usual = encode(frame(1, 30))
    found = STORE.decode_all([usual, usual[:-6], b"", usual, usual[:2] + bytes(8)])

    assert [type(each) for each in found] == [MetricsLogged, SchemaError, SchemaError, MetricsLogged, UnknownSchema]
    for each in found:
        if isinstance(each, SchemaError):
            assert each.__traceback__ is each.__cause__ is each.__context__ is None
