"""Opening, committing, waiting and closing; what happens when a server or the consumer is not there."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
import warnings

import pytest
import trialstream as ts
from contract import METHODS, again, arguments_of, connected, until

# --- Settings


@pytest.mark.usefixtures("environment")
async def test_settings_come_from_the_environment(name):
    """`TRIALSTREAM_KAFKA`, `TRIALSTREAM_MONGO` and `TRIALSTREAM_PREFIX` are enough."""
    async with ts.connect() as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))

        assert await again(protocol, trial) == trial


async def test_arguments_come_before_the_environment(monkeypatch, served, name):
    """What is given to `connect` counts."""
    monkeypatch.setenv("TRIALSTREAM_KAFKA", "nowhere.invalid:1")
    monkeypatch.setenv("TRIALSTREAM_MONGO", "mongodb://nowhere.invalid:1")
    monkeypatch.setenv("TRIALSTREAM_PREFIX", "nowhere")
    async with ts.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix) as protocol:
        assert await protocol.new_trial(ts.Trial(name=name)) is not None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({"prefix": "a.b"}, "prefix", id="a prefix with a dot"),
        pytest.param({"kafka": ""}, "kafka", id="no broker"),
        pytest.param({"mongo": "127.0.0.1:27017"}, "mongo", id="an address that is no URI"),
        pytest.param({"partitions": 0}, "partitions", id="no partitions"),
    ],
)
def test_settings_that_make_no_sense(settings, named):
    """They are refused by `connect` itself; the error names them."""
    with pytest.raises(ts.ConfigError, match=named):
        ts.connect(**settings)


# --- Opening


@contextlib.contextmanager
def port(*, listens):
    """A port at which nobody answers: closed, or open and silent."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("listens", "within"), [pytest.param(False, 5, id="nobody listens"), pytest.param(True, 8, id="nobody answers")]
)
async def test_no_kafka_at_the_address(served, listens, within):
    """Soon, a KafkaUnavailable that names the address and what to do; where there is a spool, the same as a warning."""
    started = time.monotonic()
    said = r"{}.*trialstream up.*TRIALSTREAM_KAFKA"
    with port(listens=listens) as address:
        protocol = ts.connect(kafka=address, mongo=served.mongo, prefix=served.prefix, timeout=2, spool="off")
        with pytest.raises(ts.KafkaUnavailable, match=said.format(address)):
            await protocol.__aenter__()
        took = time.monotonic() - started
        with pytest.warns(RuntimeWarning, match=said.format(address)):
            async with ts.connect(kafka=address, mongo=served.mongo, prefix=served.prefix, timeout=2):
                pass

    assert took < within


async def test_an_address_that_is_none(served):
    """A host that nobody knows is no broker either."""
    away = {"kafka": "nowhere.invalid:9092", "mongo": served.mongo, "prefix": served.prefix, "timeout": 2}
    with pytest.raises(ts.KafkaUnavailable, match=r"nowhere\.invalid"):
        await ts.connect(**away, spool="off").__aenter__()
    with pytest.warns(RuntimeWarning, match=r"nowhere\.invalid"):
        async with ts.connect(**away):
            pass


async def test_no_mongo_at_the_address(served, name):
    """Reads say so; logging goes on, with a warning that the trial could not be looked up."""
    trial = ts.Trial(name=name)
    with port(listens=False) as address:
        async with ts.connect(kafka=served.kafka, mongo=f"mongodb://{address}", prefix=served.prefix) as protocol:
            with pytest.warns(RuntimeWarning, match="could not be looked up"):
                read, logged = await asyncio.gather(
                    protocol.fetch_trials({}), protocol.log_trial_metrics(trial, loss=1), return_exceptions=True
                )
            await protocol.log_trial_metrics(trial, loss=2)
            await protocol.commit()
            queued = protocol.statistics().queued

    assert isinstance(read, ts.MongoUnavailable)
    assert "TRIALSTREAM_MONGO" in str(read)
    assert logged is None
    assert queued == 0


async def test_two_protocols_that_open_a_new_log_together(config):
    """The topics are made once."""
    async with connected(config) as one, connected(config) as two:
        assert one.writer != two.writer


# --- Use before and after


def calls(name):
    """A good call of each method."""
    return arguments_of(ts.Project(name=name), ts.TrialGroup(name=name), ts.Trial(name=name))


@pytest.mark.parametrize("method", METHODS)
async def test_a_protocol_that_was_not_entered(served, name, method):
    """Every call is a ProtocolClosed that says how to open it."""
    protocol = connected(served)

    with pytest.raises(ts.ProtocolClosed, match=r"async with trialstream\.connect\(\)"):
        await getattr(protocol, method)(**calls(name)[method])


async def test_a_protocol_that_was_left(served, name):
    """Every call is a ProtocolClosed; it cannot be entered again, and leaving it again is nothing."""
    async with connected(served) as protocol:
        pass

    for method, arguments in calls(name).items():
        with pytest.raises(ts.ProtocolClosed, match="closed"):
            await getattr(protocol, method)(**arguments)
    with pytest.raises(ts.ProtocolClosed, match="once"):
        await protocol.__aenter__()
    await protocol.__aexit__(None, None, None)


async def test_a_protocol_that_is_entered_twice(served):
    """It is a ProtocolClosed, and the open one stays open."""
    async with connected(served) as protocol:
        with pytest.raises(ts.ProtocolClosed, match="once"):
            await protocol.__aenter__()

        assert await protocol.fetch_trials({"name": "nothing"}) == []


async def test_a_trial_that_is_logged_to_after_the_protocol_was_left(served, protocol, trial):
    """Known trials too: the call is refused and nothing is logged."""
    async with connected(served) as other:
        await other.log_trial_metrics(trial, loss=1)
        await other.commit("folded")
    with pytest.raises(ts.ProtocolClosed):
        await other.log_trial_metrics(trial, loss=2)

    assert (await again(protocol, trial)).rows == 1


# --- Leaving


async def test_leaving_commits(served, protocol, trial):
    """What was logged in the block is in Kafka after it."""
    async with connected(served) as other:
        for i in range(1000):
            await other.log_trial_metrics(trial, step=i, loss=i)

    async def all_there():
        return (await again(protocol, trial)).rows == 1000

    await until(all_there)
    assert (await again(protocol, trial)).lost_events == 0


@pytest.mark.parametrize("how", [RuntimeError, KeyboardInterrupt, asyncio.CancelledError])
async def test_leaving_by_an_exception_commits(served, protocol, trial, how):
    """The exception comes through."""

    async def run():
        async with connected(served) as other:
            await other.log_trial_metrics(trial, loss=1)
            raise how

    with pytest.raises(how):
        await run()

    async def is_there():
        return (await again(protocol, trial)).rows == 1

    await until(is_there)


async def test_a_cancelled_task_commits(served, protocol, trial):
    """Its last events get out although it is cancelled."""
    logged = asyncio.Event()

    async def run():
        async with connected(served) as other:
            await other.log_trial_metrics(trial, loss=1)
            logged.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await logged.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def is_there():
        return (await again(protocol, trial)).rows == 1

    await until(is_there)


async def test_calls_that_wait_while_the_protocol_is_left(config):
    """They end with a ProtocolClosed: nobody has cancelled their task."""
    async with connected(config) as protocol:
        waiting = asyncio.create_task(protocol.new_project(ts.Project(name="nobody folds this")))
        await protocol.commit()
    [ended] = await asyncio.gather(waiting, return_exceptions=True)

    assert isinstance(ended, ts.ProtocolClosed)


# --- Commit


async def test_commit_acked(served, protocol, trial):
    """Kafka has everything of mine: nothing is queued any more."""
    for i in range(1000):
        await protocol.log_trial_metrics(trial, step=i, loss=i)
    await protocol.commit()
    statistics = protocol.statistics()

    assert (statistics.queued, statistics.bytes, statistics.dropped) == (0, 0, 0)
    assert statistics.acked > 0


async def test_commit_folded(served, protocol, trial):
    """Every other reader sees all of mine."""
    async with connected(served) as other:
        for i in range(10):
            await protocol.log_trial_metrics(trial, step=i, loss=i)
            await protocol.commit(level="folded")

            assert (await again(other, trial)).metrics["loss"].last == i


async def test_commit_of_nothing(served):
    """There is nothing to wait for."""
    async with connected(served) as protocol:
        await protocol.commit("acked", 0)
        await protocol.commit("folded", timeout=0, message="taken and ignored")


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        pytest.param({"level": "written"}, ts.InvalidValue, "level", id="a level that there is not"),
        pytest.param({"level": None}, ts.InvalidValue, "level", id="no level"),
        pytest.param({"timeout": "1 s"}, TypeError, "timeout", id="a text for a time"),
    ],
)
async def test_a_commit_that_makes_no_sense(protocol, arguments, error, named):
    """It is refused; the error names the parameter."""
    with pytest.raises(error, match=named):
        await protocol.commit(**arguments)


async def test_a_commit_while_kafka_does_not_answer(stack, protocol, trial):
    """It ends at its timeout, and says how many events wait; they arrive when Kafka answers again."""
    stack.kafka.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        await protocol.log_trial_metrics(trial, loss=1)
        with pytest.raises(ts.CommitTimeout, match=r"not acknowledged 1 events in 0\.3 s"):
            await protocol.commit(timeout=0.3)
        elapsed = time.monotonic() - started
    finally:
        stack.kafka.signal(signal.SIGCONT)
    await protocol.commit("folded")

    assert elapsed < 3
    assert (await again(protocol, trial)).rows == 1


# --- No consumer


@pytest.fixture
async def unserved(config) -> ts.Config:
    """Settings of a log that exists and that nobody folds."""
    async with connected(config):
        return config


async def test_no_consumer_runs(unserved, consumer):
    """Waits end at their timeout, and tell how far behind the projection is and what to start; nothing is lost."""
    behind = r"projection is 1 event behind .*trials/\d at offset 0 of 1.*trialstream consume"
    async with connected(unserved, timeout=2) as protocol:
        started = time.monotonic()
        with pytest.raises(ts.ProjectionBehind, match=behind):
            await protocol.new_trial(ts.Trial(name="early"))
        with pytest.raises(ts.ProjectionBehind, match=behind):
            await protocol.fetch_trials({})
        with pytest.raises(ts.ProjectionBehind, match=behind):
            await protocol.commit(level="folded", timeout=0.1)
        elapsed = time.monotonic() - started
        with pytest.raises(ts.ItemNotFound, match="early"):
            await protocol.log_trial_metrics(ts.Trial(name="early"), loss=1)
        await protocol.commit()
        consumer(unserved)
        [trial] = await protocol.fetch_trials({"name": "early"})
        await protocol.log_trial_metrics(trial, loss=1)
        found = await again(protocol, trial)

    assert 4 < elapsed < 12
    assert (found.revision, found.rows, found.lost_events) == (0, 1, 0)


@pytest.mark.parametrize("method", ["new_project", "new_trial_group"])
async def test_no_consumer_decides(unserved, method):
    """A project and a group wait likewise."""
    async with connected(unserved, timeout=2) as protocol:
        with pytest.raises(ts.ProjectionBehind, match=r"registry/0 at offset .*trialstream consume"):
            await getattr(protocol, method)(**calls("early")[method])


async def test_a_reader_that_has_written_nothing(config):
    """It need not wait for anybody: there is nothing, and it says so."""
    async with connected(config, timeout=2) as protocol:
        assert await protocol.fetch_trials({}) == []
        assert await protocol.get_project(ts.Project(name="a")) is None
        assert await protocol.get_trial(ts.Trial(name="a")) == []


# --- Other processes

FORK = """
import asyncio, os, sys
import trialstream as ts

async def main():
    async with ts.connect() as protocol:
        trial = await protocol.new_trial(ts.Trial(name=sys.argv[1]))
        await protocol.log_trial_metrics(trial, step=0, loss=0)
        child = os.fork()
        if not child:
            try:
                protocol.statistics()
            except ts.ProtocolClosed as error:
                os._exit(0 if "trialstream.connect()" in str(error) else 3)
            os._exit(4)
        _, status = os.waitpid(child, 0)
        await protocol.log_trial_metrics(trial, step=1, loss=1)
        [again] = await protocol.fetch_trials({"uid": trial.uid})
        print(os.waitstatus_to_exitcode(status), again.rows, again.lost_events, len(again.writers))

asyncio.run(main())
"""


@pytest.mark.usefixtures("environment")
def test_a_forked_child(name):
    """It has none of its parent's events, and is told to connect by itself."""
    ran = subprocess.run([sys.executable, "-c", FORK, name], check=False, capture_output=True, text=True, timeout=60)

    assert ran.stderr == ""
    assert ran.stdout.split() == ["0", "2", "0", "1"]


EXIT = """
import asyncio, sys
import trialstream as ts

async def main():
    protocol = await ts.connect().__aenter__()
    trial = await protocol.new_trial(ts.Trial(name=sys.argv[1]))
    await protocol.log_trial_metrics(trial, loss=0)
    await protocol.commit()
    if sys.argv[2] == "raise":
        raise SystemExit(3)

asyncio.run(main())
"""


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("how", "code"), [("return", 0), ("raise", 3)])
def test_a_process_that_ends_without_leaving_the_protocol(name, how, code):
    """It ends: nothing of the protocol keeps the interpreter, and its exit code is its own."""
    ran = subprocess.run(
        [sys.executable, "-c", EXIT, name, how], check=False, capture_output=True, text=True, timeout=60
    )

    assert ran.returncode == code
    assert "Traceback" not in ran.stderr


async def test_nothing_is_left_behind(served, name):
    """Leaving closes every connection and thread: no warning, no thread."""
    import threading

    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with connected(served) as protocol:
            await protocol.new_trial(ts.Trial(name=name))
            writer = protocol.writer

    assert not [each for each in set(threading.enumerate()) - before if writer in each.name]
