"""Opening, committing, waiting and closing, also without a server or a consumer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
import warnings

import pytest
import trialstream as ts
from contract import METHODS, again, arguments_of, connected, until
from service_support import caught_up, paused

# --- Settings


@pytest.mark.usefixtures("environment")
async def test_settings_come_from_the_environment(name):
    """`TRIALSTREAM_KAFKA`, `TRIALSTREAM_MONGO` and `TRIALSTREAM_PREFIX` are sufficient settings."""
    async with ts.connect() as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))

        assert await again(protocol, trial) == trial


async def test_arguments_come_before_the_environment(monkeypatch, served, name):
    """Arguments of `connect` take precedence over the environment."""
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
def test_invalid_settings(settings, named):
    """Invalid settings are refused by `connect` itself with an error that names them."""
    with pytest.raises(ts.ConfigError, match=named):
        ts.connect(**settings)


# --- Opening


@contextlib.contextmanager
def port(*, listens):
    """A port without an answer: closed, or open and silent."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("listens", "within"), [pytest.param(False, 5, id="connection refused"), pytest.param(True, 8, id="no answer")]
)
async def test_no_kafka_at_the_address(served, listens, within):
    """Without Kafka, opening soon raises KafkaUnavailable with address and remedy, or warns if there is a spool."""
    started = time.monotonic()
    message = r"{}.*trialstream up.*TRIALSTREAM_KAFKA"
    with port(listens=listens) as address:
        protocol = ts.connect(kafka=address, mongo=served.mongo, prefix=served.prefix, timeout=2, spool="off")
        with pytest.raises(ts.KafkaUnavailable, match=message.format(address)):
            await protocol.__aenter__()
        took = time.monotonic() - started
        with pytest.warns(RuntimeWarning, match=message.format(address)):
            async with ts.connect(kafka=address, mongo=served.mongo, prefix=served.prefix, timeout=2):
                pass

    assert took < within


async def test_an_unknown_host(served):
    """An unknown host name raises KafkaUnavailable with the name, or warns if there is a spool."""
    away = {"kafka": "nowhere.invalid:9092", "mongo": served.mongo, "prefix": served.prefix, "timeout": 2}
    with pytest.raises(ts.KafkaUnavailable, match=r"nowhere\.invalid"):
        await ts.connect(**away, spool="off").__aenter__()
    with pytest.warns(RuntimeWarning, match=r"nowhere\.invalid"):
        async with ts.connect(**away):
            pass


async def test_no_mongo_at_the_address(served, name):
    """Without MongoDB reads raise an error; logging continues with a warning that the trial could not be looked up."""
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
    """Two protocols that open a new log together create its topics once."""
    async with connected(config) as one, connected(config) as two:
        assert one.writer != two.writer


# --- Use before and after the block


def calls(name):
    """Return a valid call of each method."""
    return arguments_of(ts.Project(name=name), ts.TrialGroup(name=name), ts.Trial(name=name))


@pytest.mark.parametrize("method", METHODS)
async def test_a_protocol_that_was_not_entered(served, name, method):
    """Every call before entering raises ProtocolClosed with the way to open the protocol."""
    protocol = connected(served)

    with pytest.raises(ts.ProtocolClosed, match=r"async with trialstream\.connect\(\)"):
        await getattr(protocol, method)(**calls(name)[method])


async def test_a_protocol_that_was_left(served, name):
    """After leaving, every call and a second entry raise ProtocolClosed, and leaving again does nothing."""
    async with connected(served) as protocol:
        pass

    for method, arguments in calls(name).items():
        with pytest.raises(ts.ProtocolClosed, match="closed"):
            await getattr(protocol, method)(**arguments)
    with pytest.raises(ts.ProtocolClosed, match="once"):
        await protocol.__aenter__()
    await protocol.__aexit__(None, None, None)


async def test_a_protocol_that_is_entered_twice(served):
    """Entering an open protocol raises ProtocolClosed, and the protocol stays open."""
    async with connected(served) as protocol:
        with pytest.raises(ts.ProtocolClosed, match="once"):
            await protocol.__aenter__()

        assert await protocol.fetch_trials({"name": "nothing"}) == []


async def test_logging_after_the_protocol_was_left(served, protocol, trial):
    """Logging after leaving is refused for known trials too, and nothing is logged."""
    async with connected(served) as other:
        await other.log_trial_metrics(trial, loss=1)
        await other.commit("folded")
    with pytest.raises(ts.ProtocolClosed):
        await other.log_trial_metrics(trial, loss=2)

    assert (await again(protocol, trial)).rows == 1


# --- Leaving


async def test_leaving_commits(served, protocol, trial):
    """After the block, everything that was logged in it is in Kafka."""
    async with connected(served) as other:
        for i in range(1000):
            await other.log_trial_metrics(trial, step=i, loss=i)

    async def all_there():
        return (await again(protocol, trial)).rows == 1000

    await until(all_there)
    assert (await again(protocol, trial)).lost_events == 0


@pytest.mark.parametrize("how", [RuntimeError, KeyboardInterrupt, asyncio.CancelledError])
async def test_leaving_by_an_exception_commits(served, protocol, trial, how):
    """An exception that leaves the block propagates after the events are sent."""

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
    """The last events of a cancelled task are sent."""
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


async def test_calls_that_wait_end_when_the_protocol_is_left(config):
    """Calls that wait while the protocol is left raise ProtocolClosed, since their task was not cancelled."""
    async with connected(config) as protocol:
        waiting = asyncio.create_task(protocol.new_project(ts.Project(name="nobody folds this")))
        await protocol.commit()
    [ended] = await asyncio.gather(waiting, return_exceptions=True)

    assert isinstance(ended, ts.ProtocolClosed)


# --- Commit


async def test_commit_acked(served, protocol, trial):
    """After a commit at level acked, all events of this protocol are acknowledged and none is queued."""
    for i in range(1000):
        await protocol.log_trial_metrics(trial, step=i, loss=i)
    await protocol.commit()
    statistics = protocol.statistics()

    assert (statistics.queued, statistics.bytes, statistics.dropped) == (0, 0, 0)
    assert statistics.acked > 0


async def test_commit_folded(served, protocol, trial):
    """After a commit at level folded, every other reader sees all events of this protocol."""
    async with connected(served) as other:
        for i in range(10):
            await protocol.log_trial_metrics(trial, step=i, loss=i)
            await protocol.commit(level="folded")

            assert (await again(other, trial)).metrics["loss"].last == i


async def test_commit_of_nothing(served):
    """A commit without events does not wait."""
    async with connected(served) as protocol:
        await protocol.commit("acked", 0)
        await protocol.commit("folded", timeout=0, message="taken and ignored")


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        pytest.param({"level": "written"}, ts.InvalidValue, "level", id="an unknown level"),
        pytest.param({"level": None}, ts.InvalidValue, "level", id="no level"),
        pytest.param({"timeout": "1 s"}, TypeError, "timeout", id="a text for a time"),
    ],
)
async def test_invalid_arguments_of_commit(protocol, arguments, error, named):
    """Invalid arguments of `commit` are refused with the parameter's name."""
    with pytest.raises(error, match=named):
        await protocol.commit(**arguments)


async def test_a_commit_while_kafka_does_not_answer(stack, protocol, trial):
    """A commit without an answer ends at its timeout with the number of waiting events, which arrive later."""
    with paused(stack.kafka):
        started = time.monotonic()
        await protocol.log_trial_metrics(trial, loss=1)
        with pytest.raises(ts.CommitTimeout, match=r"not acknowledged 1 event in 0\.3 s"):
            await protocol.commit(timeout=0.3)
        elapsed = time.monotonic() - started
    await protocol.commit("folded")

    assert elapsed < 3
    assert (await again(protocol, trial)).rows == 1


# --- No consumer


@pytest.fixture
async def unserved(config) -> ts.Config:
    """Settings of an existing log without a consumer."""
    async with connected(config):
        return config


async def test_no_consumer_runs(unserved, consumer):
    """Without a consumer, waits end at their timeout with the lag and the command to start; nothing is lost."""
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
        await caught_up(unserved)
        [trial] = await protocol.fetch_trials({"name": "early"})
        await protocol.log_trial_metrics(trial, loss=1)
        found = await again(protocol, trial)

    assert 4 < elapsed < 12
    assert (found.revision, found.rows, found.lost_events) == (0, 1, 0)


@pytest.mark.parametrize("method", ["new_project", "new_trial_group"])
async def test_creations_of_projects_and_groups_without_a_consumer(unserved, method):
    """Without a consumer, creating a project or a group ends at its timeout, too."""
    async with connected(unserved, timeout=2) as protocol:
        with pytest.raises(ts.ProjectionBehind, match=r"registry/0 at offset .*trialstream consume"):
            await getattr(protocol, method)(**calls("early")[method])


async def test_a_reader_that_has_written_nothing(config):
    """A reader that has written nothing waits for no consumer and gets empty results."""
    async with connected(config, timeout=10) as protocol:
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
    """A forked child has none of its parent's events, and its error says to connect in the child."""
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
    """A process that ends inside the block is not kept alive by the protocol, and keeps its exit code."""
    ran = subprocess.run(
        [sys.executable, "-c", EXIT, name, how], check=False, capture_output=True, text=True, timeout=60
    )

    assert ran.returncode == code
    assert "Traceback" not in ran.stderr


async def test_nothing_is_left_behind(served, name):
    """Leaving closes every connection and thread, without a warning."""
    import threading

    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with connected(served) as protocol:
            await protocol.new_trial(ts.Trial(name=name))
            writer = protocol.writer

    assert not [each for each in set(threading.enumerate()) - before if writer in each.name]
