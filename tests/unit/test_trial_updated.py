"""Several updates in one event, on the wire and in the fold."""

from __future__ import annotations

import copy
import json

import pytest
from trialstream_consumer.fold import Refused, State, fold, needs, row_groups
from trialstream_schemas.errors import SchemaError, UnknownSchema
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.model.history import Shape
from trialstream_schemas.model.status import Status
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.storage.documents import trial_to_document
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.schemas import SCHEMAS, fingerprint

TRIAL = Trial(name="t", revision=0)
TIME = 1_700_000_000_000_000
OWN = {"trial": TRIAL.uid, "writer": "w", "time": TIME}
RUNNING = e.StatusSet(**OWN, status=e.StatusRecord("Running", 101))
HEARTBEAT = e.TagsAdded(**OWN, values={"heartbeat": 1})


def row(step, **changes):
    """Return a row of metrics."""
    given = {"names": ("loss",), "times": (0,), "columns": [(step / 2,)], "steps": (step,)}
    return e.MetricsLogged(**OWN, aggregator=TimeSeriesAggregator.lazy(), **{**given, **changes})


def updated(*updates, **changes):
    """Return a claim of several updates."""
    return e.TrialUpdated(**{**OWN, "request": "r", "if_version": 0, **changes}, updates=updates)


def state():
    """Return a state with the trial."""
    return State(trials={TRIAL.uid: copy.deepcopy(TRIAL)})


def seen(state):
    """Return the trial's document and the history."""
    buckets = {key: each.to_document(full=False) for key, each in state.buckets.items() if each}
    return trial_to_document(state.trials[TRIAL.uid]), buckets


# --- The wire


def wrapped(*encoded):
    """Return the bytes of a `TrialUpdated` with these bytes as its updates."""
    data = encode(updated(e.TrialStarted(**OWN)))
    part = encode(e.TrialStarted(**OWN))
    at = data.index(part) - 1 - len(varint(2 * len(part)))  # the number of updates, and the size of the first
    assert data[at] == 2
    return data[:at] + bytes([2 * len(encoded)]) + b"".join(varint(2 * len(each)) + each for each in encoded) + b"\0"


def varint(n):
    """Encode a small number."""
    return bytes([n]) if n < 0x80 else bytes([n & 0x7F | 0x80]) + varint(n >> 7)


def test_the_bytes_of_an_update_are_those_of_the_event_alone():
    """Each update is in single-object encoding, so any reader of events can read it."""
    whole = [encode(RUNNING), encode(row(1))]

    assert wrapped(*whole) == encode(updated(RUNNING, row(1)))
    assert all(each in encode(updated(RUNNING, row(1))) for each in whole)


@pytest.mark.parametrize(
    "event",
    [
        updated(RUNNING),
        e.Heartbeat(**OWN),
        e.TrialAttached(**OWN),
        e.TrialCreated(**OWN, name="t", parameters={}, auto_increment=False),
        e.LogCreated(time=1, log="l", partitions=1),
        e.GroupMetadataSet(group="g", writer="w", time=1, values={}),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_that_is_no_part(event):
    """An event that no claim makes, such as one with updates of its own, is a SchemaError that names it."""
    name = type(event).__name__

    with pytest.raises(SchemaError, match=rf"updates\[1\]: expected one of TrialStarted, .* got {name}"):
        SchemaStore().decode(wrapped(encode(RUNNING), encode(event)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "not in Avro single-object encoding", id="no bytes"),
        pytest.param(encode(RUNNING)[:-1], "StatusSet: the body does not fit its schema", id="cut off"),
        pytest.param(encode(RUNNING) + b"\0", "1 bytes are left over", id="bytes left over"),
    ],
)
def test_damaged_updates(data, reason):
    """An update that cannot be decoded is a SchemaError of the whole event."""
    with pytest.raises(SchemaError, match=reason):
        SchemaStore().decode(wrapped(encode(HEARTBEAT), data))


def other(event, **field):
    """Return the schema of an event with one more field, and its fingerprint."""
    [text] = [each for each in SCHEMAS.values() if json.loads(each)["name"] == f"trialstream.{event.__name__}"]
    schema = json.loads(text)
    schema["fields"].append({"name": "load", "type": "long", "default": 0, **field})
    return schema, fingerprint(schema)


def test_updates_of_another_version():
    """An update is decoded with its own schema; a schema that is not known yet is an UnknownSchema, as in an event."""
    schema, key = other(e.TrialStarted)
    newer = b"\xc3\x01" + key + encode(e.TrialStarted(**OWN))[10:] + b"\x06"
    store = SchemaStore()
    with pytest.raises(UnknownSchema, match=key.hex()):
        store.decode(wrapped(newer))
    store.add(json.dumps(schema).encode())

    assert store.decode(wrapped(newer)) == SchemaStore().decode(encode(updated(e.TrialStarted(**OWN))))


def test_an_update_of_an_unknown_event():
    """An update of a type that this version does not have is a SchemaError: the event is refused as a whole."""
    store = SchemaStore()
    key = store.add(json.dumps({"type": "record", "name": "trialstream.Dreamt", "fields": []}).encode())

    with pytest.raises(SchemaError, match=r"trialstream\.Dreamt: this version has no such event"):
        store.decode(wrapped(encode(RUNNING), b"\xc3\x01" + key))


def test_a_newer_version_of_the_event():
    """A `TrialUpdated` of a newer version is read too, without the fields that this version does not have."""
    schema, key = other(e.TrialUpdated)
    store = SchemaStore()
    store.add(json.dumps(schema).encode())
    data = encode(updated(RUNNING, row(1)))

    assert store.decode(data[:2] + key + data[10:] + b"\x06") == store.decode(data)


# --- The fold


def test_all_updates_are_applied_in_order():
    """All updates are applied in their order; they count once in the version, and have one outcome."""
    found = state()
    event = updated(RUNNING, row(1), row(2), HEARTBEAT, e.TrialFinished(**OWN, interrupted=False, elapsed=1.5))
    fold(found, event)
    trial = found.trials[TRIAL.uid]
    [bucket] = found.buckets.values()

    assert (trial.status, trial.tags, trial.state_version) == (Status.Completed, {"heartbeat": 1}, 1)
    assert (trial.metrics["loss"].count, trial.metrics["loss"].last_step) == (2, 2)
    assert (trial.rows, bucket.columns[0].tolist(), bucket.steps.tolist()) == (2, [0.5, 1.0], [1, 2])
    assert trial.chronos["runtime"].sum == 1.5
    assert [(each.id, each.applied, each.reason) for each in found.changes.outcomes] == [
        (f"{TRIAL.hash}~r", True, None)
    ]


def test_a_repeated_event_is_skipped():
    """A request that is known, or a number that was folded, is skipped with all of its updates."""
    for event in (updated(row(1)), updated(row(1), request=None, if_version=None, seq=1)):
        found = state()
        fold(found, event)
        once = copy.deepcopy(seen(found))
        fold(found, event)

        assert seen(found) == once
        assert once[0]["rows"] == 1


def test_another_version_applies_nothing():
    """A claim of another version applies none of its updates."""
    found = state()
    before = seen(found)
    fold(found, updated(RUNNING, row(1), if_version=3))

    assert seen(found) == before
    assert [(each.applied, each.reason) for each in found.changes.outcomes] == [(False, None)]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        pytest.param(row(1, columns=[]), r"updates\[3\]: columns: expected 1", id="a row that is inconsistent"),
        pytest.param(e.TagsAdded(**OWN, values={"a\0": 1}), r"updates\[3\]: tags", id="a name that is invalid"),
        pytest.param(
            e.TrialStarted(**{**OWN, "trial": "0_0"}), r"updates\[3\]: expected the trial", id="another trial"
        ),
        pytest.param(
            e.TrialStarted(**{**OWN, "writer": "v"}), r"updates\[3\]: expected the trial", id="another writer"
        ),
        pytest.param(e.TrialStarted(**OWN, seq=1), r"updates\[3\]: expected the trial", id="a number"),
        pytest.param(e.TrialStarted(**OWN, request="q"), r"updates\[3\]: expected the trial", id="a request"),
        pytest.param(e.TrialStarted(**OWN, if_version=0), r"updates\[3\]: expected the trial", id="a version"),
        pytest.param(e.TrialStarted(**{**OWN, "time": 2**62}), r"updates\[3\]: ", id="a time outside the calendar"),
    ],
)
def test_a_refused_update_refuses_all(wrong, reason):
    """If one update is refused, none is applied: neither before it nor after it, in the trial nor in the history."""
    found = state()
    fold(found, e.TagsAdded(**OWN, seq=1, values={"a": 1}))
    fold(found, updated(row(0), request="first", if_version=1))
    before = copy.deepcopy((seen(found), found.changes.filled, found.changes.buckets))
    with pytest.raises(Refused, match=reason):
        fold(found, updated(RUNNING, row(1), HEARTBEAT, wrong, row(2), if_version=2))

    assert (seen(found), found.changes.filled, found.changes.buckets) == before
    assert [each.applied for each in found.changes.outcomes] == [True, False]
    assert found.changes.outcomes[-1].reason.startswith("updates[3]: ")


def test_rows_that_fill_a_bucket():
    """Rows of several updates fill a bucket as rows alone do, and a refused event takes none back."""
    rows = {"names": ("loss",), "times": (0,) * 1000, "columns": [(0.5,) * 1000], "steps": tuple(range(1000))}
    many = e.MetricsLogged(**OWN, aggregator=TimeSeriesAggregator.lazy(), **rows)
    found, alone = state(), state()
    fold(found, updated(many, many))
    for number in (1, 2):
        fold(alone, e.MetricsLogged(**OWN, seq=number, aggregator=TimeSeriesAggregator.lazy(), **rows))

    assert seen(found)[1] == seen(alone)[1]
    assert [len(each) for each in found.changes.filled] == [1024]
    with pytest.raises(Refused):
        fold(found, updated(many, row(1, columns=[]), request="q", if_version=1))
    assert seen(found)[1] == seen(alone)[1]
    assert [len(each) for each in found.changes.filled] == [1024]


def test_what_must_be_loaded():
    """The needs are the trial, the request, and the open buckets of all rows."""
    metadata = e.MetadataLogged(**OWN, values={"power": 1.0}, aggregator=TimeSeriesAggregator.lazy())
    found = needs([updated(RUNNING, row(1), metadata)])

    assert (found.trials, found.outcomes) == ({TRIAL.uid}, {f"{TRIAL.hash}~r"})
    assert found.shapes == {
        (TRIAL.uid, Shape("metrics", ("loss",), "int")),
        (TRIAL.uid, Shape("metadata", ("power",), "none")),
    }


def test_rows_are_not_grouped_across_a_claim():
    """Rows before and after a claim keep their order."""
    rows = [row(step) for step in range(4)]

    assert row_groups([*rows[:2], updated(RUNNING), *rows[2:]]) == [[0, 1], [2], [3, 4]]
