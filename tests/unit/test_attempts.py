"""Attempts: the checks of `Attempt`, and what starts and finishes of ranks mean for the trial."""

from __future__ import annotations

import math

import numpy as np
import pytest
import trialstream as ts
from trialstream_consumer.fold import Refused, State, fold
from trialstream_schemas.model.attempts import superseding_step
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire import events as e

TIME = 1_700_000_000_000_000
FAILED = e.Error("ValueError", "no", "Traceback")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"key": ""}, ts.InvalidValue, "Attempt.key: expected a key, got an empty str"),
        ({"key": 1}, ts.InvalidType, "Attempt.key: expected a str, got int"),
        ({"key": "k" * 257}, ts.InvalidValue, "Attempt.key: expected at most 256 bytes in UTF-8, got 257"),
        ({"key": "é" * 129}, ts.InvalidValue, "Attempt.key: expected at most 256 bytes in UTF-8, got 258"),
        ({"key": "a\0b"}, ts.InvalidValue, "Attempt.key .*NUL"),
        ({"key": "\ud800"}, ts.InvalidValue, "Attempt.key .*surrogate"),
        ({"rank": -1}, ts.InvalidValue, "Attempt.rank: expected 0 to 2047, got -1"),
        ({"rank": 2048}, ts.InvalidValue, "Attempt.rank: expected 0 to 2047, got 2048"),
        ({"rank": 4, "world_size": 4}, ts.InvalidValue, "Attempt.rank: expected 0 to 3, got 4"),
        ({"rank": True}, ts.InvalidType, "Attempt.rank: expected an int or None, got bool"),
        ({"rank": 1.0}, ts.InvalidType, "Attempt.rank: expected an int or None, got float"),
        ({"rank": 10**5000}, ts.InvalidValue, "Attempt.rank: expected 0 to 2047, got an int of 16610 bits"),
        ({"world_size": 0}, ts.InvalidValue, "Attempt.world_size: expected 1 to 2048, got 0"),
        ({"world_size": 2049}, ts.InvalidValue, "Attempt.world_size: expected 1 to 2048, got 2049"),
        ({"world_size": "4"}, ts.InvalidType, "Attempt.world_size: expected an int or None, got str"),
        ({"host": None}, ts.InvalidType, "Attempt.host: expected a str, got NoneType"),
        ({"host": "h" * 256}, ts.InvalidValue, "Attempt.host: expected at most 255 bytes in UTF-8, got 256"),
        ({"resume_step": "5"}, ts.InvalidType, "Attempt.resume_step: expected a number or None, got a str"),
        ({"resume_step": math.nan}, ts.InvalidValue, "Attempt.resume_step: expected a finite number, got nan"),
        ({"resume_step": 2**63}, ts.InvalidValue, "Attempt.resume_step: expected an integer of 64 bits"),
        ({"resume_step": True}, ts.InvalidType, "Attempt.resume_step"),
        ({"resume_step": object()}, ts.InvalidType, "Attempt.resume_step"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_a_wrong_field_is_named(fields, error, message):
    """A field of the wrong type or out of range raises an error that names it."""
    with pytest.raises(error, match=message):
        ts.Attempt(**{"key": "k"} | fields)


def test_fields_become_plain():
    """Integers and floats of other libraries become Python's; the other fields are keywords."""
    made = ts.Attempt("k", rank=np.int64(1), world_size=np.uint8(2), host="n", resume_step=np.float64(0.5))

    assert made == ts.Attempt("k", rank=1, world_size=2, host="n", resume_step=0.5)
    assert [type(each) for each in (made.rank, made.world_size, made.resume_step)] == [int, int, float]
    with pytest.raises(TypeError):
        ts.Attempt("k", 0)


class Log:
    """A trial, and the events that were folded into it."""

    def __init__(self):
        self.trial = Trial(name="t")
        self.state = State(trials={self.trial.uid: self.trial})
        self.time = TIME

    def put(self, kind, writer, **fields):
        """Fold an event a second later than the one before."""
        self.time += 1_000_000
        seq = self.trial.writers.get(writer, 0) + 1
        fold(self.state, kind(trial=self.trial.uid, writer=writer, seq=seq, time=self.time, **fields))

    def start(self, writer, attempt=None, **fields):
        """Fold a start."""
        self.put(e.TrialStarted, writer, attempt=attempt, **fields)

    def finish(self, writer, *, interrupted=False, error=None):
        """Fold a finish."""
        self.put(e.TrialFinished, writer, interrupted=interrupted, error=error)

    def seen(self):
        """Return the status, whether the trial has finished, and the status of each rank."""
        ranks = {rank: str(each.status) for rank, each in self.trial.ranks.items()}
        return str(self.trial.status), self.trial.finished is not None, ranks


@pytest.fixture
def log():
    """A log with a new trial."""
    return Log()


def test_ranks_are_one_start(log):
    """The ranks of an attempt start the trial once, and it ends with the last rank."""
    for rank in (1, 0, 2):
        log.start(f"w{rank}", "job", rank=rank, world_size=3, host=f"n{rank}")
    running = log.seen()
    for rank in (2, 0):
        log.finish(f"w{rank}")
    before = log.seen()
    log.finish("w1")

    assert log.trial.starts == 1
    assert running == ("Running", False, dict.fromkeys(range(3), "Running"))
    assert before == ("Running", False, {0: "Completed", 1: "Running", 2: "Completed"})
    assert log.seen() == ("Completed", True, dict.fromkeys(range(3), "Completed"))
    assert [each.host for each in log.trial.ranks.values()] == ["n0", "n1", "n2"]
    assert log.trial.chronos["runtime"].count == 1


@pytest.mark.parametrize(
    ("endings", "expected"),
    [
        (["completed", "completed"], "Completed"),
        (["completed", "interrupted"], "Interrupted"),
        (["interrupted", "failed"], "Exception"),
        (["failed", "completed"], "Exception"),
    ],
    ids=" ".join,
)
def test_the_worst_end_counts(log, endings, expected):
    """A trial failed if any rank failed; otherwise it was interrupted if any was."""
    given = {"completed": {}, "interrupted": {"interrupted": True}, "failed": {"error": FAILED}}
    for rank in (0, 1):
        log.start(f"w{rank}", "job", rank=rank, world_size=2)
    for rank, ending in enumerate(endings):
        log.finish(f"w{rank}", **given[ending])

    assert log.seen()[:2] == (expected, True)
    assert len(log.trial.errors) == endings.count("failed")
    texts = [each.error for each in log.trial.ranks.values()]
    assert texts == ["ValueError: no" if each == "failed" else None for each in endings]


def test_a_rank_that_never_started_keeps_the_trial_running(log):
    """A trial with a rank that has not started does not end."""
    log.start("w0", "job", rank=0, world_size=2)
    log.finish("w0", error=FAILED)

    assert log.seen() == ("Running", False, {0: "Exception"})


def test_an_unknown_number_of_ranks(log):
    """Without a world size, the trial ends when all ranks that have started have ended; a late rank runs it again."""
    log.start("w0", "job", rank=0)
    log.finish("w0")
    ended = log.seen()
    log.start("w1", "job", rank=1)
    late = log.seen()
    log.finish("w1")

    assert ended == ("Completed", True, {0: "Completed"})
    assert late == ("Running", False, {0: "Completed", 1: "Running"})
    assert log.seen()[:2] == ("Completed", True)
    assert log.trial.starts == 1


def test_a_joining_rank_keeps_a_status_that_was_set(log):
    """A rank that joins a running attempt does not replace the status that another one has set."""
    log.start("w0", "job", rank=0, world_size=2)
    log.put(e.StatusSet, "w0", status=e.StatusRecord("Warm", 150))
    log.start("w1", "job", rank=1, world_size=2)

    assert str(log.trial.status) == "Warm"


def test_helpers_never_end_a_trial(log):
    """A process without a rank takes part, and neither its start nor its end changes the status of the trial."""
    log.start("w0", "job", rank=0)
    log.start("helper", "job")
    log.finish("helper", error=FAILED)
    running = log.seen()
    log.finish("w0")
    log.start("late", "job")

    assert running == ("Running", False, {0: "Running"})
    assert log.seen() == ("Completed", True, {0: "Completed"})
    assert log.trial.participants["helper"].error == "ValueError: no"
    assert len(log.trial.errors) == 1


def test_an_earlier_attempt_changes_its_participants_only(log):
    """Joins and ends of an earlier attempt do not change the trial, whose latest attempt goes on."""
    log.start("w0", "job", rank=0, world_size=2)
    log.start("w2", "job/2", rank=0, world_size=1, resume_step=10)
    log.start("w1", "job", rank=1, world_size=2)
    log.finish("w0", error=FAILED)
    log.finish("w1")

    assert log.seen() == ("Running", False, {0: "Running"})
    assert [each.number for each in log.trial.attempts] == [1, 2]
    assert [log.trial.attempt_of(each) for each in ("w0", "w1", "w2", "w3")] == [1, 1, 2, 0]
    assert str(log.trial.participants["w0"].status) == "Exception"
    assert log.trial.starts == 2


def test_a_rank_can_be_replaced(log):
    """A new process with the rank of one that ended or died counts in its place."""
    log.start("w0", "job", rank=0, world_size=2)
    log.start("w1", "job", rank=1, world_size=2)
    log.finish("w1", error=FAILED)
    log.start("w1b", "job", rank=1, world_size=2)
    log.finish("w0")
    running = log.seen()
    log.finish("w1b")

    assert running == ("Running", False, {0: "Completed", 1: "Running"})
    assert log.seen()[:2] == ("Completed", True)


def test_a_writer_takes_part_in_one_attempt(log):
    """A start of a writer in another attempt is refused; in its own attempt it is the same participant."""
    log.start("w0", "job", rank=0, world_size=2, host="a")
    joined = log.trial.participants["w0"].joined
    log.start("w0", "job", rank=0, world_size=2, host="b")
    with pytest.raises(Refused, match="attempt: expected 'job', in which the writer takes part, got 'job/2'"):
        log.start("w0", "job/2", rank=0)

    assert log.trial.starts == len(log.trial.attempts) == 1
    assert (log.trial.participants["w0"].host, log.trial.participants["w0"].joined) == ("b", joined)


def test_the_first_start_with_a_value_counts(log):
    """The step and the number of ranks of an attempt are those of the first start that has them."""
    log.start("w0", "job", rank=0)
    log.start("w1", "job", rank=1, resume_step=7)
    log.start("w2", "job", rank=2, resume_step=9, world_size=3)
    log.start("w3", "job", rank=1, world_size=4)

    assert (log.trial.attempts[0].resume_step, log.trial.attempts[0].world_size) == (7, 3)


def test_plain_starts_and_finishes_are_those_of_the_trial(log):
    """Starts and finishes of writers without an attempt start and end the trial, with attempts or without."""
    log.start("w0", "job", rank=0, world_size=2)
    log.finish("operator")
    ended = log.seen()[:2]
    log.start("operator")

    assert ended == ("Completed", True)
    assert log.seen()[:2] == ("Running", False)
    assert log.trial.starts == 2


def test_rows_and_heartbeats_are_signs_of_life(log):
    """Each event of a participant moves its `last_seen`, in the order of time, and that of no other."""
    log.start("w0", "job", rank=0, world_size=2)
    log.start("w1", "job", rank=1, world_size=2)
    other = log.trial.participants["w1"].last_seen
    log.put(e.Heartbeat, "w0")
    beat = log.trial.participants["w0"].last_seen
    log.put(
        e.MetricsLogged, "w0", aggregator=ts.timeseries_aggregator, names=["a"], times=[5], columns=[[1.0]], steps=[1]
    )
    row = log.trial.participants["w0"].last_seen
    log.time = TIME
    log.put(e.Heartbeat, "w0")

    assert other < beat < row == log.trial.participants["w0"].last_seen == log.trial.last_seen
    assert log.trial.participants["w1"].last_seen == other


def test_the_superseding_step_is_the_smallest_of_later_attempts(log):
    """Rows are superseded beyond the smallest step of the attempts after that of their writer."""
    for i, step in enumerate([None, 10, 4.5, None, 7]):
        log.start(f"w{i}", f"k{i}", resume_step=step)

    assert [superseding_step(log.trial.attempts, number) for number in range(6)] == [4.5, 4.5, 4.5, 7, 7, None]
