"""Open chronos: the assignment of a finish to its start."""

from __future__ import annotations

import asyncio
import threading

import pytest
from trialstream.kafka.chronos import Chronos, OpenChrono, check_chrono
from trialstream_schemas.errors import ChronoError, InvalidType, InvalidValue
from trialstream_schemas.model.aggregators import StatAggregator


def chrono(trial="t_0", name="step"):
    """Return a chrono that has just been started."""
    return OpenChrono(trial, name, StatAggregator.lazy(1), None)


def in_thread(function):
    """Run a function in a thread of its own and return what it returns."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_the_name_of_the_own_chrono_of_trials_is_refused():
    """The name `runtime` is the trial's own; names that only look like it are the user's."""
    with pytest.raises(InvalidValue, match=r"^chrono 'runtime': expected a name of your own"):
        check_chrono("runtime")
    with pytest.raises(InvalidType, match=r"^chrono: expected a str, got int$"):
        check_chrono(1)

    for name in ("Runtime", "runtime ", "run.time", ""):
        assert check_chrono(name) == name


def test_a_finish_belongs_to_its_start():
    """A finish belongs to the open chrono of the same trial and name."""
    chronos = Chronos()
    first, second, third = chrono(), chrono(name="load"), chrono(trial="t_1")
    for each in (first, second, third):
        chronos.start(each)

    assert chronos.finish("t_1", "step") is third
    assert chronos.finish("t_0", "load") is second
    assert chronos.finish("t_0", "step") is first


def test_chronos_of_one_task_nest():
    """In one task, the chrono that was started last is finished first."""
    chronos = Chronos()
    outer, inner = chrono(), chrono()
    chronos.start(outer)
    chronos.start(inner)

    assert chronos.finish("t_0", "step") is inner
    assert chronos.finish("t_0", "step") is outer


def test_a_finish_without_a_start():
    """A finish is an error if the chrono was never started or has been finished already."""
    chronos = Chronos()
    with pytest.raises(ChronoError, match="'step' of trial t_0 was never started"):
        chronos.finish("t_0", "step")
    chronos.start(chrono())
    chronos.finish("t_0", "step")

    with pytest.raises(ChronoError, match="never started"):
        chronos.finish("t_0", "step")


def test_a_thread_finishes_its_own_chrono():
    """Each of several threads finishes the chrono that it started, in any order."""
    chronos, together = Chronos(), threading.Barrier(8)
    wrong = []

    def work():
        mine = chrono()
        chronos.start(mine)
        together.wait(10)
        if chronos.finish("t_0", "step") is not mine:
            wrong.append(mine)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert wrong == []


def test_a_task_finishes_its_own_chrono():
    """Each of several tasks finishes the chrono that it started, in any order."""
    chronos = Chronos()

    async def work(started, may_finish):
        mine = chrono()
        chronos.start(mine)
        started.set()
        await may_finish.wait()
        return chronos.finish("t_0", "step") is mine

    async def main():
        events = [(asyncio.Event(), asyncio.Event()) for _ in range(4)]
        tasks = [asyncio.create_task(work(*each)) for each in events]
        for started, _ in events:
            await started.wait()
        for i in (1, 3, 0, 2):
            events[i][1].set()
            await tasks[i]
        return [each.result() for each in tasks]

    assert asyncio.run(main()) == [True] * 4


def test_the_only_open_chrono_can_be_finished_by_another_thread():
    """A thread can finish the only open chrono of another thread, as callbacks of frameworks do."""
    chronos, mine = Chronos(), chrono()
    chronos.start(mine)

    assert in_thread(lambda: chronos.finish("t_0", "step")) is mine


def test_a_finish_of_several_chronos_of_other_tasks_is_ambiguous():
    """A finish is an error if several chronos are open and the calling task has started none of them."""
    chronos = Chronos()
    for _ in range(2):
        in_thread(lambda: chronos.start(OpenChrono("t_0", "step", StatAggregator.lazy(1), None, owner=object())))

    with pytest.raises(ChronoError, match="open in 2 other tasks"):
        chronos.finish("t_0", "step")


def test_long_chronos_are_announced_once():
    """A chrono is announced once, after it has run for long."""
    chronos, announced = Chronos(), []
    old, young = chrono(), chrono()
    young.started = old.started + 10
    chronos.start(old)
    chronos.start(young)
    chronos.announce(old.started + 5, announced.append)
    chronos.announce(old.started + 5, announced.append)
    assert announced == [old]
    chronos.announce(old.started + 10, announced.append)

    assert announced == [old, young]
    assert old.announced
    assert young.announced


def test_a_failed_announcement_is_repeated():
    """A chrono whose announcement failed, since the outbox was full, is announced the next time."""
    chronos, announced = Chronos(), []
    chronos.start(chrono())

    def fail(_):
        raise BufferError

    with pytest.raises(BufferError):
        chronos.announce(float("inf"), fail)
    chronos.announce(float("inf"), announced.append)

    assert len(announced) == 1
