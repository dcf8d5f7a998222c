"""The testing kit: checks of a protocol, the fake clock, and the pytest plugin."""

# ruff: noqa: ARG002, D102 (the methods have the parameters of the Protocol)

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
import trialstream as ts
import trialstream.sync
from test_imports import HEAVY
from trialstream.testing import check_protocol, deterministic
from trialstream.testing.contract import METHODS
from trialstream_consumer.memory.backends import MemoryProtocol

pytest_plugins = ["pytester"]


def factory_of(kind=None):
    """Return a factory of protocols on one new log, each changed to another class if one is given."""
    url = f"memory:{os.urandom(4).hex()}"

    def make():
        protocol = ts.connect(url)
        if kind is not None:
            protocol.__class__ = kind
        return protocol

    return make


class Counting(MemoryProtocol):
    """Records the methods that are called."""

    called: ClassVar[set[str]] = set()

    def __getattribute__(self, name):
        Counting.called.add(name)
        return super().__getattribute__(name)


async def test_the_memory_keeps_the_contract():
    """The Protocol in memory passes, and each method is called."""
    await check_protocol(factory_of(Counting))

    methods = {name for name, each in vars(ts.Protocol).items() if inspect.iscoroutinefunction(each)}
    assert methods - {"__aenter__", "__aexit__"} <= {*METHODS, "open", "close"}
    assert Counting.called >= methods - {"__aenter__", "__aexit__", "close"}


class Forgets(MemoryProtocol):
    """Loses tags."""

    async def add_trial_tags(self, /, trial, *values, **kwargs):
        pass


class TakesAnything(MemoryProtocol):
    """Logs anything that is no number as 0."""

    async def log_trial_metrics(self, /, trial, *args, **kwargs):
        try:
            await super().log_trial_metrics(trial, *args, **kwargs)
        except ts.InvalidType:
            await super().log_trial_metrics(trial, x=0)


class CreatesAgain(MemoryProtocol):
    """Creates another revision when it should create none."""

    async def new_trial(self, trial, auto_increment=False, *, wait=True):
        return await super().new_trial(trial, True, wait=wait)


class FindsAll(MemoryProtocol):
    """Ignores queries."""

    async def fetch_trials(self, query=None, *, sort=None, limit=None, fields=None, latest=False):
        return await super().fetch_trials(None, sort=sort, limit=limit, fields=fields, latest=latest)


class Raises(MemoryProtocol):
    """Raises an error of its own."""

    async def commit(self, level="acked", timeout=None, **_):
        raise RuntimeError("no commits")


class Renamed(MemoryProtocol):
    """Has a parameter of another name."""

    async def log_trial_start(self, the_trial):
        await super().log_trial_start(the_trial)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        pytest.param(
            Forgets, r"- Values and keys come back unchanged: tags with .*: expected .*, got \{\}", id="loses"
        ),
        pytest.param(TakesAnything, r"metrics with text: expected InvalidType, got the answer None", id="accepts"),
        pytest.param(CreatesAgain, r"the same definition again: expected None, got Trial", id="creates"),
        pytest.param(FindsAll, r"fetch_trials by uid: expected", id="finds"),
        pytest.param(
            Raises, r"Every level of commit returns.*: RuntimeError\('no commits'\) at .*test_testing.py", id="raises"
        ),
        pytest.param(Renamed, r"log_trial_start: expected a parameter 'trial', got \(the_trial\)", id="renames"),
    ],
)
async def test_a_protocol_that_breaks_the_contract(kind, message):
    """The error names the part of the contract and the difference."""
    with pytest.raises(AssertionError, match=r"the protocol does not keep \d+ parts of the contract") as caught:
        await check_protocol(factory_of(kind))
    caught.match(f"(?s){message}")


# --- The clock and the ids


def run_of(seed, start=datetime(2026, 1, 1, tzinfo=UTC)):
    """Return what a run in memory leaves behind."""
    with deterministic(seed, start) as clock, trialstream.sync.connect("memory:") as protocol:
        trial = protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
        later = protocol.new_trial(ts.Trial(name="t"), auto_increment=True, wait=False)
        protocol.log_trial_start(trial)
        clock.advance(60)
        for step in range(3):
            protocol.log_trial_metrics(trial, step=step, loss=0.5)
        clock.advance(timedelta(hours=1))
        protocol.add_trial_tags(later, a=1)
        history = protocol.fetch_metrics(trial, "loss")["loss"]
        return repr((protocol.writer, protocol.fetch_trials(sort="revision"), history.times, later.request))


def test_runs_are_equal():
    """Two runs of one seed leave the same documents and times; those of another seed have other ids."""
    assert run_of(1) == run_of(1)
    assert run_of(1) != run_of(2)
    assert "2026, 1, 1, 1, 1" in run_of(1)


def test_the_clock_is_put_back():
    """After the block, times and ids are real again, also after an error."""
    with pytest.raises(ZeroDivisionError), deterministic(start=datetime(1999, 1, 1, tzinfo=UTC)):
        _ = 1 / 0
    with trialstream.sync.connect("memory:") as protocol, trialstream.sync.connect("memory:") as other:
        trial = protocol.new_trial(ts.Trial(name="t"))
        assert trial.created > datetime(2026, 1, 1, tzinfo=UTC)
        assert protocol.writer != other.writer


# --- The plugin


def test_importing_the_kit_is_light():
    """The plugin, which every run of pytest in the environment imports, adds no driver, no codec and no event loop."""
    code = "import pytest, sys; before = set(sys.modules); import trialstream.testing.plugin; "
    code += "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    loaded = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.split()

    assert "trialstream" in loaded
    assert HEAVY.isdisjoint(loaded)


def test_the_fixtures(pytester):
    """Each test gets an empty log, in async code too, without any plugin that runs coroutines."""
    pytester.makepyfile(
        """
        import asyncio
        import trialstream as ts

        def test_sync(trialstream):
            trial = trialstream.new_trial(ts.Trial(name="t"))
            trialstream.log_trial_metrics(trial, loss=1)
            assert [each.name for each in trialstream.fetch_trials()] == ["t"]

        def test_another(trialstream):
            assert trialstream.fetch_trials() == []

        def test_async(trialstream_async):
            async def run():
                trial = await trialstream_async.new_trial(ts.Trial(name="t"))
                await trialstream_async.log_trial_metrics(trial, loss=1)
                return await trialstream_async.fetch_trials()

            [found] = asyncio.run(run())
            assert found.metrics["loss"].last == 1
        """
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")

    result.assert_outcomes(passed=3)
