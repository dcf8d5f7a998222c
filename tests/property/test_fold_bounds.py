"""Bounds: every document stays under MongoDB's 16 MB, and an event beyond a bound is refused with a reason."""

from __future__ import annotations

from array import array
from dataclasses import replace

import bson
import pytest
from logs import FIRST, HASHES, TRIAL
from projection import Projection, project
from trialstream_consumer.fold import State
from trialstream_consumer.fold.document_size import (
    MAX_ATTEMPTS,
    MAX_DOCUMENT_BYTES,
    MAX_ERRORS,
    MAX_JOINS,
    MAX_PARTICIPANTS,
)
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.identity import group_uid
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.limits import MAX_WRITERS

# Midnight of 1 January of the year 1, and the last microsecond of the year 9999.
FIRST_MICROS, LAST_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999
MONGODB_BYTES = 16 * 1024 * 1024
GIVEN = {"trial": TRIAL, "writer": "w", "time": 1_700_000_000_000_000}
BIG = "x" * 500_000


def arguments(i):
    """A large argument."""
    return e.ArgumentsLogged(values={f"key{i}": BIG}, **GIVEN)


def dotted(i):
    """Many arguments whose keys take three times their length in a document."""
    return e.ArgumentsLogged(values={"." * 1000 + f"{i}.{j}": None for j in range(600)}, **GIVEN)


def rings(i):
    """A large value for a ring of one, whose document holds it in `values` and as `last`."""
    return e.MetadataLogged(values={f"key{i}": BIG}, aggregator=AggregatorSpec("ring", 1), **GIVEN)


def growing_ring(i):
    """A large value for one long ring."""
    return e.MetadataLogged(values={"key": BIG}, aggregator=AggregatorSpec("ring", 4096), **GIVEN)


def replaced(i):
    """Values that replace smaller ones."""
    return e.MetadataLogged(values={f"key{i // 2}": BIG if i % 2 else 0}, aggregator=AggregatorSpec("value"), **GIVEN)


def metric_names(i):
    """Many metrics with names of dots."""
    names = ["." * 1000 + f"{i}-{j}" for j in range(600)]
    return e.MetricsLogged(names=names, times=[0], columns=[[1.0]] * 600, aggregator=AggregatorSpec("stat"), **GIVEN)


def text_steps(i):
    """Many time series, each of which keeps a long text as its last step; short at first, long later."""
    names, step = [f"{i % 30}-{j}" for j in range(500)], "s" * (1 if i < 30 else 1024)
    return e.MetricsLogged(
        names=names,
        times=[0],
        columns=[[1.0]] * 500,
        text_steps=[step],
        aggregator=AggregatorSpec("timeseries"),
        **GIVEN,
    )


def skipped(i):
    """Statistics that skip observations, and keep the skipped ones."""
    names = [f"{i}-{j}" for j in range(10)]
    return e.MetricsLogged(
        names=names, times=[0] * 4096, columns=[[1.0] * 4096] * 10, aggregator=AggregatorSpec("stat", 4096), **GIVEN
    )


def chronos(i):
    """Many chronos with long names, all open once more and failed."""
    names = [f"{i}-{j}" + "n" * 1000 for j in range(600)]
    counts = {"announced": [0] * 600, "failed": [1] * 600, "times": [0] * 600, "elapsed": [1.0] * 600}
    return e.ChronosFinished(
        names=names, aggregators=[AggregatorSpec("stat")] * 600, chronos=range(600), **counts, **GIVEN
    )


def tags(i):
    """A large tag that holds many small values."""
    return e.TagsAdded(values={f"key{i}": [None] * 30_000}, **GIVEN)


def number(log):
    """Number the events, and return them."""
    for i, event in enumerate(log):
        event.seq = i + 1
    return log


@pytest.mark.parametrize(
    "make",
    [arguments, dotted, rings, growing_ring, replaced, metric_names, text_steps, skipped, chronos, tags],
    ids=lambda make: make.__doc__.rstrip("."),
)
def test_trial_is_bounded(make):
    """An event that would make a trial too large is a dead letter that says so; the trial can still be ended."""
    error = e.Error("\U0001f600" * 300, "\U0001f600" * 3000, "\U0001f600" * 9000)
    log = number([make(i) for i in range(60)])
    ends = [{**GIVEN, "writer": f"w{i}"} for i in range(40)]
    last = [e.TrialFinished(interrupted=False, elapsed=1.0, error=error, **each) for each in ends]
    for event in last:
        event.seq = 1

    projection = project([FIRST, *log, *last])
    document = bson.decode(projection.documents["trials"][TRIAL])

    assert {reason for _, reason in projection.dead_letters} == {
        f"the document of trial {TRIAL} would exceed {MAX_DOCUMENT_BYTES} bytes: log fewer or smaller values"
    }
    assert all(1 < position <= 60 for position, _ in projection.dead_letters)
    assert len(projection.documents["trials"][TRIAL]) < MONGODB_BYTES
    assert document["status"]["name"] == "Exception"
    assert document["chronos"]["runtime"]["count"] == 1
    assert (len(document["errors"]), document["errors_dropped"]) == (MAX_ERRORS, 8)
    assert max(len(each) for each in projection.documents["series"].values() or [b""]) < MONGODB_BYTES


def test_refused_value_leaves_room_for_smaller_ones():
    """A value that does not fit is refused; smaller values after it are accepted."""
    log = number([*(arguments(i) for i in range(30)), e.ArgumentsLogged(values={"small": 1}, **GIVEN)])

    projection = project([FIRST, *log])

    assert projection.dead_letters
    assert bson.decode(projection.documents["trials"][TRIAL])["parameters"]["small"] == 1


def test_replaced_values_free_their_room():
    """A large value that replaces another does not count twice."""
    log = number([e.ArgumentsLogged(values={"same": BIG}, **GIVEN) for _ in range(100)])

    assert project([FIRST, *log]).dead_letters == []


def test_writers_are_bounded():
    """One more writer than the limit is refused; events of known writers are still folded."""
    log = [e.Heartbeat(**GIVEN | {"writer": f"{i:064}"}, seq=1) for i in range(MAX_WRITERS + 1)]
    again = e.Heartbeat(**GIVEN | {"writer": f"{0:064}"}, seq=2)

    projection = project([FIRST, *log, again])

    reason = f"{TRIAL}: expected at most {MAX_WRITERS} writers, got '{MAX_WRITERS:064}' as one more"
    assert projection.dead_letters == [(MAX_WRITERS + 1, reason)]
    assert len(projection.documents["trials"][TRIAL]) < MONGODB_BYTES - MAX_DOCUMENT_BYTES


def start(i, key, **fields):
    """Return the start of the writer of a number in an attempt."""
    fields = {"world_size": MAX_PARTICIPANTS, "resume_step": 1.5, "host": ""} | fields
    return e.TrialStarted(attempt=key, **GIVEN | {"writer": f"{i:064}"}, seq=1, **fields)


def test_attempts_are_bounded():
    """The most attempts, participants and writers leave room for a full document and the most errors.

    What is beyond the bounds is refused. Each participant that was taken keeps its attempt and its rank.
    """
    together = MAX_JOINS // MAX_ATTEMPTS
    log = [start(i, f"{i // together:0256}", rank=i % together) for i in range(MAX_JOINS - 1)]
    last = start(MAX_JOINS - 1, f"{MAX_ATTEMPTS - 1:0256}", rank=together - 1)
    beyond = [start(MAX_JOINS, "k"), last, start(MAX_JOINS + 1, f"{0:0256}")]
    others = [e.Heartbeat(**GIVEN | {"writer": f"{i:064}"}, seq=1) for i in range(MAX_JOINS + 2, MAX_WRITERS)]

    projection, state = Projection(), State()
    projection.fold([FIRST, *log, *beyond, *others], state)
    trial = state.trials[TRIAL]
    errors = MAX_ERRORS * (4 * (256 + 2048 + 8192) + 100)

    assert [reason.rpartition(", ")[0] for _, reason in projection.dead_letters] == [
        f"attempt: expected at most {MAX_ATTEMPTS} attempts of a trial",
        f"attempt: expected at most {MAX_JOINS} processes in the attempts of a trial",
    ]
    assert len(trial.writers) == MAX_WRITERS
    assert len(projection.documents["trials"][TRIAL]) + errors + MAX_DOCUMENT_BYTES < MONGODB_BYTES
    assert len(trial.participants) == MAX_PARTICIPANTS
    held = trial.former_participants | {key: (each.attempt, each.rank) for key, each in trial.participants.items()}
    assert held == {f"{i:064}": (1 + i // together, i % together) for i in range(MAX_JOINS)}


def test_ranks_of_an_attempt_are_bounded():
    """An attempt takes the most ranks that can be named, and a process more is refused; the next attempt takes it."""
    log = [start(i, "k", rank=i) for i in range(MAX_PARTICIPANTS)]
    more = [start(MAX_PARTICIPANTS, "k"), replace(start(MAX_PARTICIPANTS, "next", rank=0), seq=2)]

    projection = project([FIRST, *log, *more])
    document = bson.decode(projection.documents["trials"][TRIAL])

    [(position, reason)] = projection.dead_letters
    assert position == MAX_PARTICIPANTS + 1
    assert reason == f"attempt: expected at most {MAX_PARTICIPANTS} processes in an attempt, got one more"
    assert len(document["attempts"]) == 2
    assert list(document["former_participants"]) == [f"{0:064}"]


def test_texts_of_participants_are_left_out_of_a_full_document():
    """A full document takes starts and ends of participants, without their hosts and errors."""
    log = [FIRST, *number([arguments(i) for i in range(60)])]
    error = e.Error("ValueError", "m" * 300, "")
    starts = [start(i, "k", rank=i, world_size=1024, host="h" * 255) for i in range(1024)]
    ends = [
        e.TrialFinished(interrupted=False, error=error, **GIVEN | {"writer": each.writer}, seq=2) for each in starts
    ]

    projection = project([*log, *starts, *ends])
    document = bson.decode(projection.documents["trials"][TRIAL])
    participants = list(document["participants"].values())

    assert {position for position, _ in projection.dead_letters} <= set(range(61))
    assert participants[0]["host"] == "h" * 255
    assert participants[-1]["host"] == ""
    assert {each["status"] for each in participants} == {"Exception"}
    assert participants[-1]["error"] is None
    assert document["status"]["name"] == "Exception"
    assert document["size"] <= MAX_DOCUMENT_BYTES


def test_group_is_bounded():
    """The metadata of a group is bounded too."""
    uid = group_uid("g", None)
    given = {"group": uid, "writer": "w", "time": 0}
    metadata = [{"." * 1000 + f"{i}-{j}": None for j in range(600)} for i in range(10)]
    log = number([e.GroupMetadataSet(values=each, **given) for each in metadata])

    projection = project([e.GroupCreated(name="g", request="r", **given), *log])

    assert {reason for _, reason in projection.dead_letters} == {
        f"the document of group {uid} would exceed {MAX_DOCUMENT_BYTES} bytes: log fewer or smaller values"
    }
    assert len(projection.documents["groups"][uid]) < MONGODB_BYTES


def test_lost_events_stop_at_64_bits():
    """Gaps that exceed 64 bits in total, from a faulty writer, stop at the largest number."""
    log = [e.Heartbeat(**GIVEN | {"writer": each}, seq=2**63 - 1) for each in "abc"]

    document = bson.decode(project([FIRST, *log]).documents["trials"][TRIAL])

    assert document["lost_events"] == 2**63 - 1


def test_many_chronos_in_one_frame_are_folded_at_once():
    """The time for a frame with as many names as rows grows with its rows, not with their square."""
    n = 30_000
    frame = e.ChronosFinished(
        names=[str(i) for i in range(n)], aggregators=[AggregatorSpec("value")] * n, announced=[0] * n, failed=[0] * n,
        chronos=list(range(n)), times=[0] * n, elapsed=[1.0] * n, **GIVEN, seq=1,
    )  # fmt: skip
    looked_at = 0

    class Counted(list):
        def __iter__(self):
            nonlocal looked_at
            looked_at += len(self)
            return super().__iter__()

    frame.chronos = Counted(frame.chronos)
    projection = Projection()
    projection.fold([FIRST, frame], State())

    assert looked_at <= 3 * n


def frame_of_metrics(time, times):
    """Return a frame of a time series."""
    columns = [[0.5] * len(times)]
    return e.MetricsLogged(
        **GIVEN | {"time": time}, seq=2, aggregator=AggregatorSpec("timeseries"), names=["a"], times=times,
        columns=columns,
    )  # fmt: skip


def frame_of_chronos(time, times):
    """Return a frame of a chrono that is a time series."""
    return e.ChronosFinished(
        **GIVEN | {"time": time}, seq=2, names=["a"], aggregators=[AggregatorSpec("timeseries")], announced=[0],
        failed=[0], chronos=[0] * len(times), times=times, elapsed=[0.5] * len(times),
    )  # fmt: skip


@pytest.mark.parametrize("frame", [frame_of_metrics, frame_of_chronos])
@pytest.mark.parametrize("rows", [2, 100])
@pytest.mark.parametrize(
    ("time", "last", "beyond"),
    [
        pytest.param(FIRST_MICROS + 10, -10, -11, id="before the year 1"),
        pytest.param(LAST_MICROS - 10, 10, 11, id="after the year 9999"),
    ],
)
def test_times_of_rows_lie_in_the_calendar(frame, rows, time, last, beyond):
    """A frame with one row outside the calendar is refused, although its own time and its other rows are inside."""
    middle = rows // 2
    within, outside = (array("q", [0] * middle + [x] + [0] * (rows - middle - 1)) for x in (last, beyond))
    before = e.Heartbeat(**GIVEN, seq=1)

    taken = project([FIRST, before, frame(time, within)])
    refused = project([FIRST, before, frame(time, outside)])
    document = bson.decode(refused.documents["trials"][TRIAL])

    assert taken.dead_letters == []
    assert bson.decode(taken.documents["trials"][TRIAL])["rows"] == rows
    assert [position for position, _ in refused.dead_letters] == [2]
    assert str(time + beyond) in refused.dead_letters[0][1]
    assert document["writers"] == {"w": 2}
    assert document | {"writers": {"w": 1}} == bson.decode(project([FIRST, before]).documents["trials"][TRIAL])
    assert refused.documents["series"] == {}


def test_revisions_of_many_requests():
    """Each request with auto_increment gets the next revision, and one without it gets none."""
    log = [
        e.TrialCreated(
            trial=f"{HASHES[1]}~r{i}", writer="w", time=0, request=f"r{i}", name="t", parameters={},
            auto_increment=i % 3 != 1,
        )
        for i in range(6)
    ]  # fmt: skip

    outcomes = project([*log, *log]).documents["outcomes"]

    assert [bson.decode(outcomes[f"{HASHES[1]}~r{i}"])["uid"] for i in range(6)] == [
        f"{HASHES[1]}_0", None, f"{HASHES[1]}_1", f"{HASHES[1]}_2", None, f"{HASHES[1]}_3",
    ]  # fmt: skip
