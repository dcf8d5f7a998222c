"""Kafka stops answering in mid-run: one warning in each outage, at the line that opened the protocol."""

from __future__ import annotations

import logging
import re
import time
import warnings
from contextlib import contextmanager

import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from service_support import paused, until
from trialstream.pipeline import outage, sender

# Reasons while a server accepts connections without an answer.
PAUSED = r"no answer|KafkaConnectionError"


@pytest.fixture(autouse=True)
def _short_attempts(monkeypatch):
    """Let an attempt to send end before the warning of `warn_soon`; one that fails without an outage is made again."""
    monkeypatch.setattr(sender, "_ATTEMPT_SECONDS", 0.7)
    monkeypatch.setattr(sender, "_REQUEST_SECONDS", 0.5)


@pytest.fixture
def warn_soon(monkeypatch):
    """Function after whose call the warning comes after a second; events before it may take a second themselves."""
    return lambda: monkeypatch.setattr(outage, "_WARN_SECONDS", 1.0)


@pytest.fixture
def settings(config):
    """Settings of a protocol with its spool in the folder of the test."""
    return {name: getattr(config, name) for name in ("kafka", "mongo", "prefix", "spool_dir")}


@contextmanager
def killed(server):
    """Kill a server, and start it again when the block is left."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@pytest.fixture
def said():
    """The warnings that are issued in the test."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def is_complete(message, config, fate, reason):
    """Whether a warning has all of its parts."""
    wanted = (
        rf"trialstream: Kafka at {config.kafka} has not acknowledged events for 1 s, since \d\d:\d\d:\d\d UTC "
        rf"\(({reason}).*\): 1 event waits .*{fate}"
    )
    return re.match(wanted, str(message)) is not None


@pytest.mark.parametrize(
    ("away", "reason"),
    [
        pytest.param(paused, PAUSED, id="paused"),
        pytest.param(
            killed,
            r".*(KafkaConnectionError|NodeNotReadyError|connection: refused)",
            id="killed",
            marks=pytest.mark.slow,
        ),
    ],
)
async def test_one_warning_in_each_outage(config, consumer, stack, settings, said, warn_soon, away, reason):
    """The warning says why, how many events wait and what becomes of them; the next outage has a warning of its own."""
    consumer(config)
    async with ts.connect(**settings) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        await protocol.commit()
        warn_soon()
        for number in (1, 2):
            with away(stack.kafka):
                await protocol.add_trial_tags(trial, first=number)
                await until(lambda number=number: len(said) == number)
                for i in range(3):  # of the same outage
                    await protocol.add_trial_tags(trial, **{f"n{number}": i})
                    await run_sync(time.sleep, 0.7)
            await protocol.commit("folded", timeout=60)
        [found] = await protocol.fetch_trials({"uid": trial.uid})
        statistics = protocol.statistics()

    assert (found.tags, found.lost_events) == ({"first": 2, "n1": 2, "n2": 2}, 0)
    assert (statistics.queued, statistics.dropped) == (0, 0)
    assert len(said) == 2
    for each in said:
        assert is_complete(each.message, config, rf"in the spool {config.spools / protocol.writer}", reason)
        assert each.filename == __file__


async def test_an_outage_of_the_sync_protocol(config, consumer, stack, settings, said, warn_soon):
    """The warning comes while the training code calls nothing, and points to the line of the block."""
    consumer(config)

    def train():
        with trialstream.sync.connect(**settings, spool="off") as protocol:
            trial = protocol.new_trial(ts.Trial(name="a"))
            protocol.commit()
            warn_soon()
            with paused(stack.kafka):
                protocol.add_trial_tags(trial, a=1)
                while not said:
                    time.sleep(0.05)
            protocol.commit("folded", timeout=60)
            return protocol.fetch_trials({"uid": trial.uid})[0]

    found = await run_sync(train)

    assert found.tags == {"a": 1}
    [each] = said
    assert is_complete(each.message, config, "in memory and is sent when it answers; without a spool", PAUSED)
    assert each.filename == __file__


async def test_warnings_that_are_errors_are_logged(config, consumer, stack, settings, caplog, warn_soon):
    """If warnings are errors, the message is logged, no call raises, and the events are sent after the outage."""
    consumer(config)
    with caplog.at_level(logging.WARNING, "trialstream"), warnings.catch_warnings():
        warnings.simplefilter("error")
        async with ts.connect(**settings) as protocol:
            trial = await protocol.new_trial(ts.Trial(name="a"))
            await protocol.commit()
            warn_soon()
            with paused(stack.kafka):
                await protocol.add_trial_tags(trial, a=1)
                await until(lambda: "has not acknowledged events" in caplog.text)
            await protocol.commit("folded", timeout=60)
            [found] = await protocol.fetch_trials({"uid": trial.uid})

    assert found.tags == {"a": 1}
    assert caplog.text.count("has not acknowledged events") == 1
