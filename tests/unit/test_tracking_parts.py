"""Parts of the tracker by themselves: rows, definitions, launchers, wrapped functions, errors."""

from __future__ import annotations

import asyncio
import enum
import inspect
import io
import logging
import signal
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from trialstream.tracking import termination
from trialstream.tracking.capture.messages import MessageHandler, watch_warnings
from trialstream.tracking.capture.output import Pieces, Tee
from trialstream.tracking.chronos import _first_dimension
from trialstream.tracking.definitions import Definition, Definitions
from trialstream.tracking.faults import Faults
from trialstream.tracking.handle import Connection, Handle, Mark, read_mark, write_mark
from trialstream.tracking.launch import Launch, detect
from trialstream.tracking.rows import flat_row, numbers_of, step_of
from trialstream.tracking.wrapping import wrapped
from trialstream_schemas.errors import ItemNotFound
from trialstream_schemas.model.aggregators import StatAggregator
from trialstream_schemas.model.trial import Trial


class Level(enum.Enum):
    HIGH = 3


# --- Rows


def test_nested_dicts_become_names_with_slashes():
    """A dict of dicts of numbers is one row; None is left out."""
    row = flat_row({"train": {"loss": 0.5, 1: {"x": 2}}, "lr": 0.1, "none": None}, Faults())

    assert row == {"train/loss": 0.5, "train/1/x": 2, "lr": 0.1}


def test_numbers_of_other_types_become_numbers():
    """Decimal, timedelta and Enum have a number that means the same."""
    row = flat_row({"a": Decimal("0.5"), "b": timedelta(seconds=2), "c": Level.HIGH, "d": np.float32(1)}, Faults())

    assert numbers_of(row, Faults()) == {"a": 0.5, "b": 2.0, "c": 3.0, "d": 1.0}


def test_what_is_no_number_is_left_out_and_counted():
    """The numbers of a row are logged although one value is none; the error is counted."""
    faults = Faults()

    assert numbers_of({"loss": 0.5, "name": "resnet", "array": np.zeros(3)}, faults) == {"loss": 0.5}
    assert faults.count == 2


@pytest.mark.parametrize("values", [5, "loss", [("a", 1)]])
def test_a_row_that_is_no_mapping_is_counted(values):
    """A call with a wrong argument logs nothing, raises nothing and is counted."""
    faults = Faults()

    assert flat_row(values, faults) == {}
    assert faults.count == 1


def test_a_dict_that_contains_itself_ends():
    """A circle of dicts ends at some depth."""
    circle = {"loss": 1.0}
    circle["again"] = circle

    assert flat_row(circle, Faults())["again/loss"] == 1.0


def test_a_dict_that_contains_itself_twice():
    """Its row ends, though it has 2 to the power of 64 names."""
    circle = {}
    circle["a"] = circle["b"] = circle

    assert len(flat_row(circle, Faults())) < 101_000


def test_a_captured_message_is_shown_as_before(monkeypatch, capsys):
    """Without another handler, Python shows warnings on stderr, once for all trackers."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    handlers = [MessageHandler(Pieces(1)) for _ in range(2)]
    for each in handlers:
        each.start()
    logging.getLogger("lib").warning("inside")
    logging.getLogger("lib").info("quiet")
    monkeypatch.setattr(logging.getLogger("silenced"), "handlers", [logging.NullHandler()])
    logging.getLogger("silenced.part").warning("nowhere")
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger("lib").warning("elsewhere")

    assert capsys.readouterr().err == "inside\n"


@pytest.mark.parametrize(
    ("given", "step"),
    [
        (5, 5),
        (2.5, 2.5),
        ("a", "a"),
        (None, None),
        (Level.HIGH, 3),
        (np.int32(4), 4),
        (float("nan"), None),
        ([1], None),
    ],
)
def test_a_step_of_any_type(given, step):
    """A step is a number or a text; what is neither is left out."""
    assert step_of(given, Faults()) == step


# --- Definitions


def test_defined_metrics_have_the_step_of_another_metric():
    """Metrics of a pattern have their step metric of the same row as step; the others keep the step of the call."""
    definitions = Definitions()
    definitions.add(Definition("val/*", "epoch", None))
    row = {"val/acc": 0.9, "loss": 0.1, "epoch": 3}

    assert definitions.split(row, None, None) == [
        ({"val/acc": 0.9}, 3, None),
        ({"loss": 0.1, "epoch": 3}, None, None),
    ]
    assert [step for _, step, _ in definitions.split(row, 7, None)] == [7, 7]  # an explicit step counts for all


def test_the_latest_definition_counts():
    """A later definition of the same metric replaces an earlier one, for the rows that follow."""
    definitions, stat = Definitions(), StatAggregator.lazy(0)
    definitions.add(Definition("*", None, stat))
    assert definitions.split({"loss": 1}, 1, None) == [({"loss": 1}, 1, stat)]
    definitions.add(Definition("loss", None, None))

    assert definitions.split({"loss": 1, "x": 2}, 1, None) == [({"loss": 1}, 1, None), ({"x": 2}, 1, stat)]


# --- Launchers

ENVIRONMENTS = {
    "none": ({}, Launch()),
    "torchrun": (
        {
            "TORCHELASTIC_RUN_ID": "abc",
            "RANK": "3",
            "WORLD_SIZE": "8",
            "TORCHELASTIC_RESTART_COUNT": "1",
            "MASTER_PORT": "29",
        },
        Launch("torchrun abc", 3, 8, "torchrun 1 29"),
    ),
    "torchrun without an id": (
        {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2"},
        Launch(None, 0, 2, "torchrun 0"),
    ),
    "slurm": (
        {
            "SLURM_JOB_ID": "7",
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": "1",
            "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_JOB_NAME": "train",
        },
        Launch("slurm 7.0", 1, 4, "slurm 0"),
    ),
    "slurm, requeued": (
        {
            "SLURM_JOB_ID": "7",
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": "1",
            "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_RESTART_COUNT": "2",
        },
        Launch("slurm 7.0", 1, 4, "slurm 2"),
    ),
    "the script of a slurm job": ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Launch()),
    "an interactive slurm job": (
        {
            "SLURM_JOB_ID": "7",
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": "0",
            "SLURM_STEP_NUM_TASKS": "1",
            "SLURM_JOB_NAME": "bash",
        },
        Launch(),
    ),
    "open mpi": (
        {"PMIX_NAMESPACE": "prterun-1@1", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
        Launch("mpi prterun-1@1", 1, 2, "prterun-1@1"),
    ),
    "mpich": ({"PMI_RANK": "1", "PMI_SIZE": "2", "TRIALSTREAM_RUN_ID": "r"}, Launch("r", 1, 2, None)),
    "mvapich": ({"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "2"}, Launch(None, 1, 2, None)),
    "jsm": (
        {"LSB_JOBID": "9", "JSM_NAMESPACE_ID": "0", "JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2"},
        Launch("jsm 9 0", 1, 2, "jsm 9 0"),
    ),
    "by hand": (
        {"TRIALSTREAM_RUN_ID": "r", "TRIALSTREAM_ATTEMPT": "2", "RANK": "1", "WORLD_SIZE": "2"},
        Launch("r", 1, 2, "2"),
    ),
    "a rank that is no number": ({"RANK": "x", "WORLD_SIZE": "2"}, Launch()),
    "a rank beyond the size": ({"RANK": "2", "WORLD_SIZE": "2"}, Launch()),
}


@pytest.mark.parametrize(("environ", "launch"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_the_launcher_is_found(environ, launch):
    """Run, rank, number of ranks and attempt are those of the launcher's environment."""
    assert detect(environ) == launch


def test_an_explicit_run_replaces_that_of_the_environment():
    """`run_id` counts more than the environment."""
    assert detect({"TRIALSTREAM_RUN_ID": "r"}, run_id="mine").run == "mine"


# --- Wrapped functions


@pytest.fixture
def calls():
    """The calls that were made, in their order."""
    return []


@pytest.fixture
def around(calls):
    """Makes context managers that record their begin and end."""

    @contextmanager
    def manager():
        calls.append("begin")
        try:
            yield
        except BaseException as error:
            calls.append(type(error).__name__)
            raise
        calls.append("end")

    return manager


def test_a_wrapped_function(around, calls):
    """A call is inside of its context manager, which sees its exception; name and signature stay."""

    def half(x: int) -> float:
        """Half of x."""
        return x / 2 if x else 1 / 0

    run = wrapped(half, around)

    assert run(3) == 1.5
    with pytest.raises(ZeroDivisionError):
        run(0)
    assert calls == ["begin", "end", "begin", "ZeroDivisionError"]
    assert (run.__name__, run.__doc__, inspect.signature(run)) == ("half", "Half of x.", inspect.signature(half))


def test_a_wrapped_coroutine_function(around, calls):
    """The context manager is open until the coroutine ends, and the wrapper is a coroutine function."""

    async def wait():
        await asyncio.sleep(0)
        calls.append("body")
        return 5

    run = wrapped(wait, around)

    assert inspect.iscoroutinefunction(run)
    assert asyncio.run(run()) == 5
    assert calls == ["begin", "body", "end"]


def test_a_wrapped_generator(around, calls):
    """A generator passes items, sent values and its result on, in one context manager."""

    def count():
        got = yield 1
        yield got
        return "result"

    run = wrapped(count, around)()

    assert calls == []  # nothing runs before the first item
    assert next(run) == 1
    assert run.send("sent") == "sent"
    with pytest.raises(StopIteration, match="result"):
        next(run)
    assert calls == ["begin", "end"]


def test_a_wrapped_async_generator(around, calls):
    """An asynchronous generator passes items, sent values and thrown exceptions on."""

    async def count():
        try:
            got = yield 1
            yield got
        except KeyError:
            yield "caught"

    async def use():
        run = wrapped(count, around)()
        found = [await anext(run), await run.asend("sent"), await run.athrow(KeyError())]
        async for _ in run:
            raise AssertionError
        return found

    assert asyncio.run(use()) == [1, "sent", "caught"]
    assert calls == ["begin", "end"]


def test_a_wrapped_async_generator_is_closed(around, calls):
    """A loop that leaves early closes the generator inside, too."""

    async def count():
        try:
            while True:
                yield 1
        finally:
            calls.append("closed")

    async def use():
        run = wrapped(count, around)()
        await anext(run)
        await run.aclose()

    asyncio.run(use())

    assert calls == ["begin", "closed", "GeneratorExit"]


# --- Errors


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        pytest.param(7, 1, id="a number of a range"),
        pytest.param(True, 1, id="a bool"),
        pytest.param("seven", 1, id="a text"),
        pytest.param(None, 1, id="nothing"),
        pytest.param(np.float64(7.0), 1, id="a number of numpy"),
        pytest.param(np.zeros((7, 2)), 7, id="an array"),
        pytest.param((np.zeros(7), np.zeros(3)), 7, id="a tuple of arrays"),
        pytest.param([7, 8, 9], 1, id="a list of numbers"),
        pytest.param((), 1, id="an empty tuple"),
        pytest.param({"image": np.zeros((7, 2)), "label": np.zeros(3)}, 7, id="a dict of arrays"),
        pytest.param({}, 1, id="an empty dict"),
    ],
)
def test_the_rows_of_a_batch(batch, rows):
    """A batch has as many rows as the first dimension of its first array; without an array, it is one row."""
    assert _first_dimension(batch) == rows


def test_each_kind_of_error_is_logged_once(caplog):
    """A training loop that makes the same mistake a thousand times has one line in its log, and a count."""
    faults = Faults()
    with caplog.at_level(logging.WARNING, "trialstream"):
        for i in range(1000):
            faults.report("log", ValueError(f"bad value {i}"))
        faults.report("tag", ValueError("bad tag"))
        faults.lost("parameters.model", object())

    assert faults.count == 1002
    assert len(caplog.records) == 3
    assert "bad value 0" in caplog.text


# --- Handles


def test_a_handle_has_the_whole_creation():
    """A trial without a revision comes back with all that its creation carries, whatever the values."""
    trial = Trial(
        name="t",
        parameters={"lr": float("nan"), "data": b"x", "a.b": [1, {"c": None}]},
        metadata={"host": "a"},
        tags={"base": True},
    )
    addressed = replace(trial, hash=str(trial.hash), request="0" * 24, created=datetime(2026, 1, 1, tzinfo=UTC))
    handle = Handle.from_text(Handle(addressed, "1", Connection("memory:")).to_text())

    assert (handle.attempt, handle.trial.uid, handle.trial.created) == ("1", addressed.uid, addressed.created)
    assert (handle.trial.metadata, handle.trial.tags) == ({"host": "a"}, {"base": True})
    assert repr(handle.trial.parameters) == repr(addressed.parameters)


def test_a_mark_is_read_back(tmp_path):
    """The file beside a checkpoint has its trial and step; a file that is none is refused with its name."""
    path = str(tmp_path / "model.pt")
    trial = replace(Trial(name="t"), hash="a" * 32)
    write_mark(Mark(trial, path, 2.5))

    found = read_mark(path)
    assert (found.trial.uid, found.path, found.step) == (trial.uid, path, 2.5)
    (tmp_path / "model.pt.trialstream.json").write_text("{}")
    with pytest.raises(ItemNotFound, match=r"model\.pt\.trialstream\.json"):
        read_mark(path)
    with pytest.raises(ItemNotFound, match="checkpoint"):
        read_mark(tmp_path / "other.pt")


# --- Captures and signals of several trackers


def test_captures_of_one_stream_share_one_object(monkeypatch):
    """Trackers that end in any order put the stream back at the end, and each has what was written in its time."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    first, second = Pieces(1), Pieces(1)
    stop_first = Tee.start("stdout", first)
    sys.stdout.write("a")
    stop_second = Tee.start("stdout", second)
    sys.stdout.write("b")
    stop_first()
    sys.stdout.write("c")
    stop_second()

    assert sys.stdout is stream
    assert (first.take(), second.take(), stream.getvalue()) == (["ab"], ["bc"], "abc")


def test_a_process_without_a_console_has_nothing_to_copy(monkeypatch):
    """Python sets the streams to None where there is no console."""
    monkeypatch.setattr(sys, "stdout", None)
    Tee.start("stdout", Pieces(1))()

    assert sys.stdout is None


def test_a_long_output_keeps_its_end_in_bounded_pieces():
    """A process that prints without end is kept to a bounded part, in pieces that a trial can hold."""
    pieces = Pieces(64)
    for i in range(100_000):
        pieces.add(f"{i}\n")
    found = pieces.take()

    assert sum(map(len, found)) <= 4096
    assert max(map(len, found)) <= 256
    assert "".join(found).endswith("99999\n")


def test_warnings_of_several_trackers(monkeypatch):
    """Each tracker has the warnings of its time, whichever ends first, and Python's function is put back."""
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda *args: shown.append(str(args[0])))
    before = warnings.showwarning
    first, second = Pieces(1), Pieces(1)
    stop_first, stop_second = watch_warnings(first), watch_warnings(second)
    warnings.showwarning("both", UserWarning, "x.py", 3)
    stop_first()
    warnings.showwarning("second", UserWarning, "x.py", 4)
    stop_second()

    assert warnings.showwarning is before
    assert shown == ["both", "second"]
    assert first.take() == ["x.py:3: UserWarning: both\n"]
    assert second.take() == ["x.py:3: UserWarning: both\nx.py:4: UserWarning: second\n"]


def test_sigterm_is_watched_until_the_last_tracker_ends():
    """The first of two trackers may end first; the second is still interrupted by the signal."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        first, second = termination.watch(), termination.watch()
        first()
        with pytest.raises(termination.Terminated, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
        assert termination.received() == "SIGTERM"
        second()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
