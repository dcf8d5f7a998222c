"""The threads of `trialstream.sync`: one I/O thread; code of the user runs in the thread of the call."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
import threading
import weakref

import pytest
import trialstream as ts
import trialstream.sync
from tracing import each_instruction

CHRONO = ts.StatAggregator.lazy(0)


class Stop(BaseException):
    """An exception that is no Exception, as a signal handler may raise."""


ERRORS = (OSError("no device"), KeyboardInterrupt(), SystemExit(3), Stop(), asyncio.CancelledError())


@pytest.fixture
def settings(tmp_path):
    """Settings of a protocol without servers."""
    return {"offline": True, "spool_dir": str(tmp_path)}


@pytest.fixture
def protocol(settings):
    """A protocol that works offline."""
    with trialstream.sync.connect(**settings) as protocol:
        yield protocol


@pytest.fixture
def trial(protocol):
    """A trial of that protocol."""
    return protocol.new_trial(ts.Trial(name="t"))


@pytest.fixture
def no_collection():
    """Run no finalizers of earlier tests: Python may run them at any instruction, and drops interrupts in them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def chronos_of(protocol, trial):
    """Return the number of finished chronos that wait in the open frame of a trial, and the failed ones."""
    inner = getattr(protocol, "_protocol", protocol)
    outbox = inner._session.outbox
    frame = outbox.chronos(trial.uid)
    rows = [argument for target, argument in list(outbox.inbox.items) if target is frame] + frame.rows
    return len(rows), sum(failed for _, _, _, failed in rows)


@pytest.fixture
def _frames_stay_open(monkeypatch):
    monkeypatch.setattr("trialstream.kafka.session._LINGER_SECONDS", 3600.0)


def in_thread(function):
    """Run a function in a thread of its own, and return what it returns."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(30)
    [only] = found
    return only


# --- One I/O thread


@pytest.mark.parametrize("settings", [{"offline": True}, {"mongo": "mongodb://127.0.0.1:1", "read_only": True}])
def test_one_thread_of_ours(settings, tmp_path):
    """An open protocol has one I/O thread, and one that waits to write to the disk; a closed one has none."""

    def ours():
        return {each.name for each in threading.enumerate()} - before

    before = {each.name for each in threading.enumerate()}
    with trialstream.sync.connect(**settings, spool_dir=str(tmp_path)) as protocol:
        [io] = ours() - {"trialstream-daemon"}
        if "offline" in settings:
            protocol.log_trial_metrics(protocol.new_trial(ts.Trial(name="t")), loss=1)
            protocol.log_trial_start(protocol.new_trial(ts.Trial(name="u")))

        assert io.startswith("trialstream-")
        assert ours() - {"trialstream-daemon"} == {io}
    assert ours() - {"trialstream-daemon"} == set()


# --- Callbacks


def test_callbacks_run_in_the_thread_of_the_call(protocol, trial):
    """Both callbacks run in the thread that calls, in its context."""
    variable = contextvars.ContextVar("variable", default="unset")

    def work():
        seen = []

        def look():
            seen.append((threading.get_ident(), variable.get()))
            variable.set("by the callback")

        variable.set("by the caller")
        protocol.log_trial_chrono_start(trial, "step", CHRONO, look, look)
        protocol.log_trial_chrono_finish(trial, "step")
        return seen == [(threading.get_ident(), "by the caller"), (threading.get_ident(), "by the callback")]

    assert work()
    assert in_thread(work)


def test_async_callbacks_run_in_the_thread_of_the_call(protocol, trial):
    """An async callback runs in the thread that calls, to its end."""
    seen = []

    async def look():
        await asyncio.sleep(0)
        seen.append(threading.get_ident())

    protocol.log_trial_chrono_start(trial, "step", CHRONO, look, functools.partial(look))
    protocol.log_trial_chrono_finish(trial, "step")

    assert seen == [threading.get_ident()] * 2


@pytest.mark.usefixtures("_frames_stay_open")
async def test_async_callbacks_where_a_loop_runs(settings):
    """In a thread that runs an event loop, a sync callback runs, and an async one is refused with the way out."""
    done = []

    async def never():
        done.append("async")

    with trialstream.sync.connect(**settings) as protocol:
        trial = protocol.new_trial(ts.Trial(name="t"))
        with pytest.raises(ts.InvalidType, match=r"^callback: expected a function that is not async.*connect\(\)"):
            protocol.log_trial_chrono_start(trial, "step", CHRONO, never)
        with pytest.raises(ts.ChronoError):
            protocol.log_trial_chrono_finish(trial, "step")
        protocol.log_trial_chrono_start(trial, "step", CHRONO, lambda: done.append("sync"), never)
        with pytest.raises(ts.InvalidType, match="callback"):
            protocol.log_trial_chrono_finish(trial, "step")

        assert chronos_of(protocol, trial) == (1, 1)
    assert done == ["sync"]


def test_callbacks_may_use_the_protocol(protocol, trial):
    """A callback may log, with a chrono of its own too."""

    def nested():
        protocol.log_trial_chrono_start(trial, "inner", CHRONO, lambda: protocol.add_trial_tags(trial, a=1))
        protocol.log_trial_metrics(trial, loss=1)
        protocol.log_trial_chrono_finish(trial, "inner")

    protocol.log_trial_chrono_start(trial, "outer", CHRONO, nested, nested)
    protocol.log_trial_chrono_finish(trial, "outer")

    protocol.commit("spooled")
    assert protocol.statistics().dropped == 0


def failing(error):
    """Return a callback that raises."""

    def fail():
        raise error

    return fail


async def outcome_async(settings, error, which):
    """Return what a failing callback of the async protocol does: the exception, and the chronos logged."""
    async with ts.connect(**settings) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        with pytest.raises(BaseException) as raised:
            await protocol.log_trial_chrono_start(trial, "step", CHRONO, **{which: failing(error)})
            await protocol.log_trial_chrono_finish(trial, "step")
        logged = chronos_of(protocol, trial)
        with pytest.raises(ts.ChronoError, match="never started"):
            await protocol.log_trial_chrono_finish(trial, "step")
        return raised.value, logged


def outcome_sync(settings, error, which):
    """Return the same of the blocking protocol."""
    with trialstream.sync.connect(**settings) as protocol:
        trial = protocol.new_trial(ts.Trial(name="t"))
        with pytest.raises(BaseException) as raised:
            protocol.log_trial_chrono_start(trial, "step", CHRONO, **{which: failing(error)})
            protocol.log_trial_chrono_finish(trial, "step")
        logged = chronos_of(protocol, trial)
        with pytest.raises(ts.ChronoError, match="never started"):
            protocol.log_trial_chrono_finish(trial, "step")
        protocol.add_trial_tags(trial, a=1)  # the I/O thread runs on
        return raised.value, logged


@pytest.mark.usefixtures("_frames_stay_open")
@pytest.mark.parametrize("which", ["start_callback", "end_callback"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_exceptions_of_callbacks(settings, error, which):
    """The exception is raised as it is by both protocols; an end callback's chrono is logged as failed before that."""
    expected = (0, 0) if which == "start_callback" else (1, 1)

    assert outcome_sync(settings, error, which) == (error, expected)
    assert error.__context__ is None
    assert asyncio.run(outcome_async(settings, error, which)) == (error, expected)


def test_an_exception_of_a_callback_is_released(protocol, trial, no_collection):
    """The exception of a callback is in no reference cycle, so its locals are freed without the garbage collector."""

    class Local:
        pass

    def call():
        local = Local()

        def fail(_=local):
            raise LookupError

        protocol.log_trial_chrono_start(trial, "step", CHRONO, end_callback=fail)
        try:
            protocol.log_trial_chrono_finish(trial, "step")
        except LookupError:
            return weakref.ref(local)

    held = call()
    protocol.add_trial_tags(trial, a=1)

    assert held() is None


def test_closing_during_a_callback(settings):
    """A call whose protocol is closed while its callback runs raises ProtocolClosed; an exception of it is raised."""
    for error, expected in ((None, ts.ProtocolClosed), (Stop(), Stop)):
        with trialstream.sync.connect(**settings) as protocol:
            trial = protocol.new_trial(ts.Trial(name="t"))

            def close(protocol=protocol, error=error):
                in_thread(protocol.close)
                if error is not None:
                    raise error

            protocol.log_trial_chrono_start(trial, "step", CHRONO, end_callback=close)
            with pytest.raises(expected):
                protocol.log_trial_chrono_finish(trial, "step")


# --- Signals


def test_an_interrupt_at_any_instruction_of_a_call_with_callbacks(protocol, trial, no_collection, monkeypatch):
    """An interrupt is raised wherever it comes, in the callback too; nothing is unraisable; the next call works."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: unraisable.append(repr(each.object)))

    before = dict(contextvars.copy_context())

    def callback():
        return len([threading.get_ident()])

    def both():
        protocol.log_trial_chrono_start(trial, "step", CHRONO, callback, callback)
        protocol.log_trial_chrono_finish(trial, "step")

    for place in range(1, 100_000):
        left = [place]

        def look(_, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        try:
            each_instruction(both, look)
        except KeyboardInterrupt:
            continue
        break

    assert 300 < place < 99_999
    assert unraisable == []
    assert dict(contextvars.copy_context()) == before
    protocol.add_trial_tags(trial, a=1)


CALLS = {
    "a row of floats": lambda protocol, trial: protocol.log_trial_metrics(trial, loss=1.0),
    "a row of ints": lambda protocol, trial: protocol.log_trial_metrics(trial, loss=1),
    "an update": lambda protocol, trial: protocol.add_trial_tags(trial, a=1),
    "a commit": lambda protocol, _: protocol.commit("spooled"),
    "counts": lambda protocol, _: protocol.statistics(),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_signal_handler_that_logs_at_any_instruction(protocol, trial, no_collection, name):
    """A handler that interrupts a call at any instruction may log and wait itself: no lock is held there."""
    call, places = CALLS[name], 0

    def handler(frame):
        nonlocal places
        places += 1
        if places % 7 == 1:  # each prime distance comes to every instruction in some call
            protocol.log_trial_metrics(trial, loss=places)
            protocol.add_trial_tags(trial, places=places)
            protocol.statistics()

    def interrupted():
        for _ in range(7):
            each_instruction(lambda: call(protocol, trial), handler)

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(60)

    assert not thread.is_alive()
    assert places > 100


def test_a_signal_handler_that_closes_while_the_block_is_left(settings, no_collection):
    """A handler that interrupts `close` at any instruction may close, log (refused) and exit."""
    place, closed = 0, False
    while not closed:
        place += 1
        protocol = trialstream.sync.connect(**settings)
        protocol.open()
        trial = protocol.new_trial(ts.Trial(name="t"))
        left = [place]

        def handler(_, left=left, protocol=protocol, trial=trial):
            left[0] -= 1
            if left[0] == 0:
                protocol.close()
                with pytest.raises(ts.ProtocolClosed):
                    protocol.log_trial_metrics(trial, loss=1)

        thread = threading.Thread(target=lambda p=protocol, h=handler: each_instruction(p.close, h), daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), place
        closed = left[0] > 0
        place += 30  # about forty places

    assert place > 100


# --- Finalizers in the I/O thread


def run_in_io_thread(protocol, function):
    """Run a function in the I/O thread, as the garbage collector may run a finalizer there."""
    lifecycle = protocol._protocol.lifecycle
    done, found = threading.Event(), []

    def run():
        try:
            found.append(function())
        except RuntimeError as error:
            found.append(error)
        done.set()

    lifecycle.loop.call_soon_threadsafe(run)
    assert done.wait(10)
    return found[0]


def test_a_finalizer_that_logs_in_the_io_thread(protocol, trial):
    """A call that would wait for its own thread is refused; calls that log do not wait."""
    refused = run_in_io_thread(protocol, lambda: protocol.commit("spooled"))

    assert isinstance(refused, RuntimeError)
    assert "finalizer" in str(refused)
    assert run_in_io_thread(protocol, lambda: protocol.log_trial_metrics(trial, loss=2.0)) is None
    assert run_in_io_thread(protocol, lambda: protocol.add_trial_tags(trial, a=1)) is None
    protocol.commit("spooled")
    assert protocol.statistics().queued == 3


def test_a_block_that_is_left_in_the_io_thread(settings, caplog):
    """A block that the garbage collector leaves in the I/O thread is closed; the exit handler waits for the end."""
    protocol = trialstream.sync.connect(**settings)
    protocol.open()
    trial = protocol.new_trial(ts.Trial(name="t"))
    run_in_io_thread(protocol, protocol.close)
    while protocol._protocol.lifecycle._state != "closed":
        pass
    with pytest.raises(ts.ProtocolClosed):
        protocol.add_trial_tags(trial, a=1)
    protocol._protocol.lifecycle._close_at_exit()

    assert "1 event waits in" in caplog.text
    assert f"trialstream-{protocol.writer}" not in {each.name for each in threading.enumerate()}


LOG_CALLS = {
    "log_trial_start": (),
    "log_trial_chrono_start": ("step",),
    "log_trial_chrono_finish": ("step",),
    "log_trial_arguments": ({"lr": 0.1},),
    "log_trial_metadata": ({"epoch": 3},),
    "log_trial_metrics": ({"loss": 0.5},),
    "add_trial_tags": ({"best": True},),
    "set_trial_status": (ts.Status.Running,),
    "log_trial_finish": (),
}


def test_log_calls_do_not_wait_for_the_io_thread(protocol, trial, monkeypatch):
    """The calls that log, of trials, groups and projects that are known, end in the thread of the call."""
    project = protocol.new_project(ts.Project(name="p"))
    group = protocol.new_trial_group(ts.TrialGroup(name="g"))
    monkeypatch.setattr(protocol._protocol.lifecycle, "run", lambda *_: pytest.fail("the call waits"))
    before = protocol._protocol._session.outbox.statistics()
    for name, args in LOG_CALLS.items():
        assert getattr(protocol, name)(trial, *args) is None
    protocol.add_project_trial(project, trial)
    protocol.add_group_trial(group, trial)
    protocol.set_group_metadata(group, best=0.5)

    after = protocol._protocol._session.outbox.statistics()
    assert after.queued - before.queued == len(LOG_CALLS) - 1 + 3


def test_tensors_are_converted_in_the_thread_of_the_call(protocol, trial):
    """The conversion of a tensor, which waits for its device, does not run in the I/O thread."""
    threads = []

    class Tensor:
        def item(self):
            threads.append(threading.get_ident())
            return 0.5

    for _ in range(3):
        protocol.log_trial_metrics(trial, loss=Tensor(), step=1)

    assert set(threads) == {threading.get_ident()}


def test_an_io_thread_that_hangs(protocol, trial, monkeypatch):
    """Calls that log go on meanwhile, other calls wait; when the I/O thread goes on, so do they."""
    monkeypatch.setattr("trialstream.runtime.lifecycle._HANG_SECONDS", 0.2)
    hanging, go_on = threading.Event(), threading.Event()

    def hang():
        hanging.set()
        go_on.wait(60)

    protocol._protocol.lifecycle.loop.call_soon_threadsafe(hang)
    hanging.wait(10)
    for step in range(100):
        protocol.log_trial_metrics(trial, step=step, **{f"loss{step % 2}": step})
        protocol.add_trial_tags(trial, a=step)
    protocol.log_trial_chrono_start(trial, "step", CHRONO)
    protocol.log_trial_chrono_finish(trial, "step")
    queued = protocol.statistics().queued
    waiting = threading.Thread(target=protocol.commit, args=("spooled",))
    waiting.start()
    assert waiting.is_alive()
    go_on.set()
    waiting.join(30)
    assert not protocol._protocol.lifecycle._io._hangs

    # The creation, the tags, and at least one event for the rows of each of two shapes and for the chrono. Each of the
    # tags ends the frames before it.
    assert queued == 1 + 100 + 3
    assert protocol.statistics().queued == 1 + 2 * 100 + 1
    assert len(protocol._protocol.lifecycle._io._tasks) == 1  # the session's own
