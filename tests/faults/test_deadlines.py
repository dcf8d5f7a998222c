"""Every wait has a deadline: connecting, committing, leaving the block, the end of the process."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from log_checks import logged
from processes import Child
from service_support import cli, paused
from trialstream.config import Config
from trialstream.runtime import lifecycle

MIB = 2**20
NO_BROKER = "127.0.0.1:1"
# Tolerance of deadlines on a busy machine.
SLACK_SECONDS = 5.0
# Time to stop a sender whose broker does not answer.
STOP_SECONDS = 6.0


@contextmanager
def swallowing() -> Iterator[str]:
    """Yield an address that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        host, port = listening.getsockname()
        yield f"{host}:{port}"


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Child]]:
    """Function that starts a child; after the test, the child and its processes are killed."""
    children: list[Child] = []

    def start(config: Config, script: str, *arguments: str, options: tuple[str, ...] = ()) -> Child:
        children.append(Child(config, tmp_path, script, *arguments, options=options))
        return children[-1]

    yield start
    for each in children:
        each.kill()


def push(config: Config) -> None:
    """Push all spools."""
    pushed = cli(config, "push", config.spool_dir)
    assert pushed.returncode == 0, pushed.stderr


async def log_steps(protocol: ts.Protocol, trial: ts.Trial, steps: range) -> None:
    """Log a row for each step."""
    for step in steps:
        await protocol.log_trial_metrics(trial, step=step, loss=step)


async def test_an_address_that_swallows_packets(config, consumer):
    """Connecting, committing and leaving return by their deadlines; the run continues in the spool until a push."""
    consumer(config)
    with swallowing() as address:
        protocol = ts.KafkaProtocol(replace(config, kafka=address), timeout=2.0)
        started = time.monotonic()
        with pytest.warns(RuntimeWarning, match="until Kafka answers, all logged events go to"):
            await protocol.__aenter__()
        connected = time.monotonic() - started
        trial = await protocol.new_trial(ts.Trial(name="swallowed"))
        await log_steps(protocol, trial, range(100))
        await protocol.commit("spooled")
        started = time.monotonic()
        with pytest.raises(ts.CommitTimeout):
            await protocol.commit("acked", timeout=1.0)
        committed = time.monotonic() - started
        started = time.monotonic()
        with pytest.warns(RuntimeWarning, match="trialstream push"):
            await protocol.__aexit__(None, None, None)
        left = time.monotonic() - started
    await run_sync(push, config)

    assert connected < 2 + SLACK_SECONDS
    assert 1 <= committed < 1 + SLACK_SECONDS
    assert left < 2 + STOP_SECONDS + SLACK_SECONDS
    assert (await logged(config, ["swallowed"]))["swallowed"][1] == list(range(100))


async def test_a_broker_that_is_paused(config, consumer, stack, monkeypatch):
    """With a paused broker log calls stay fast, commit and leaving meet their deadlines, and a push sends the rest."""
    monkeypatch.setattr(lifecycle, "_CLOSE_SECONDS", 1.0)
    consumer(config)
    protocol = await ts.KafkaProtocol(config).__aenter__()
    trial = await protocol.new_trial(ts.Trial(name="paused"))
    await log_steps(protocol, trial, range(100))
    await protocol.commit()
    with paused(stack.kafka):
        started = time.monotonic()
        await log_steps(protocol, trial, range(100, 200))
        took = time.monotonic() - started
        started = time.monotonic()
        with pytest.raises(ts.CommitTimeout):
            await protocol.commit("acked", timeout=1.0)
        committed = time.monotonic() - started
        started = time.monotonic()
        with pytest.warns(RuntimeWarning, match="trialstream push"):
            await protocol.__aexit__(None, None, None)
        left = time.monotonic() - started
    await run_sync(push, config)

    assert took < 1
    assert 1 <= committed < 1 + SLACK_SECONDS
    assert left < 1 + STOP_SECONDS + SLACK_SECONDS
    assert (await logged(config, ["paused"]))["paused"][1] == list(range(200))


@pytest.mark.slow
def test_heavy_logging_without_kafka(config, consumer, start):
    """Without Kafka memory stays bounded, calls stay fast, and nothing is dropped; a push sends every event."""
    consumer(config)
    ended = start(replace(config, kafka=NO_BROKER), "deadlines.py", "heavy", "heavy").end(120)
    report = ended.last("ended")
    push(config)
    [(trial, steps)] = anyio.run(logged, config, ["heavy"]).values()

    assert report["held"] < 17 * MIB  # one frame may come on top
    assert report["grown"] < 100 * MIB  # the rows take 200 MiB
    assert report["dropped"] == 0
    assert report["median"] < 0.001
    assert report["rare"] < 0.1
    assert len(ended.warnings) == 2  # one at the start of the outage, one at the close
    assert len(steps) == trial.metrics["loss"].count == 400_000


@pytest.mark.parametrize("left", ["left", "never left"])
@pytest.mark.parametrize("what", ["disk", pytest.param("I/O thread", marks=pytest.mark.slow)])
def test_a_disk_or_a_thread_that_hangs(config, start, what, left):
    """Leaving the block and the end of the process return by their deadlines and report the number of lost events."""
    ended = start(replace(config, kafka=NO_BROKER), "deadlines.py", "hanging", "hanging", what, left).end(
        3 + STOP_SECONDS + 5 + SLACK_SECONDS
    )

    assert ended.code == 0
    assert re.search("[0-9]+ events? (is|are) lost", ended.warnings[-1])
    assert ended.teardown_errors == []
    if left == "left":
        assert ended.messages[-1]["word"] == "left"


def test_a_second_interrupt_while_the_block_is_left(config, consumer, start):
    """A second interrupt ends the wait for Kafka; nothing is lost: a warning says that the events are in the spool."""
    consumer(config)
    unreachable = replace(config, kafka=NO_BROKER)
    children = {
        api: start(unreachable, "exits.py", api, "SIGINT twice", f"twice {api}", "60") for api in ("sync", "async")
    }
    for each in children.values():
        each.wait_for("ready")
        each.go()
        each.wait_for("waiting")
        each.signal(signal.SIGINT)
        each.wait_for("closing")
        each.signal(signal.SIGINT)
    ended = {api: each.end(STOP_SECONDS + SLACK_SECONDS) for api, each in children.items()}
    push(config)
    found = anyio.run(logged, config, ["twice sync", "twice async"])

    for api, each in ended.items():
        steps = found[f"twice {api}"][1]
        assert each.code == -signal.SIGINT
        assert each.teardown_errors == []
        assert "trialstream push" in each.warnings[-1]
        assert "lost" not in each.warnings[-1]
        assert steps == list(range(len(steps)))
        assert each.last("ended")["logged"] <= len(steps) <= each.last("ended")["logged"] + 1


def test_ctrl_c_while_connecting(config, start):
    """Ctrl-C during the connection ends the process at once."""
    with swallowing() as address:
        ended = start(replace(config, kafka=address), "deadlines.py", "interrupted", "a", "connect").end(30)

    assert ended.last("interrupted")["seconds"] < STOP_SECONDS + SLACK_SECONDS
    assert ended.code == 0
    assert ended.teardown_errors == []


STAGES = {"new_trial": "consumer", "commit": "consumer", "fetch_trials": "mongo", "an end callback": ""}


def test_ctrl_c_at_every_stage(config, consumer, stack, start):
    """KeyboardInterrupt is raised from any waiting call at once, and neither leaving nor ending hangs."""
    service = consumer(config)
    children = {stage: start(config, "deadlines.py", "interrupted", stage, stage) for stage in STAGES}
    for each in children.values():
        each.wait_for("ready")
    service.kill()
    with paused(stack.mongo):
        for each in children.values():
            each.go()
        ended = {stage: each.end(30) for stage, each in children.items()}
    service.start()
    found = anyio.run(logged, config, STAGES)

    for stage, each in ended.items():
        assert each.last("interrupted")["seconds"] < SLACK_SECONDS, stage
        assert (each.code, each.teardown_errors, each.warnings) == (0, [], []), stage
        assert found[stage][1] == list(range(100)), stage


@pytest.mark.slow
def test_warnings_as_errors(config, consumer, stack, start):
    """With `python -W error` the warning is raised after everything is on disk, and replaces no other exception."""
    consumer(config)
    strict = ("-W", "error")
    codes = {"end of the block": 1, "sys.exit": 3, "interpreter exit": 0}
    children = {ending: start(config, "exits.py", "sync", ending, ending, "2", options=strict) for ending in codes}
    for each in children.values():
        each.wait_for("ready")
    stack.kafka.kill()
    try:
        for each in children.values():
            each.go()
        ended = {ending: each.end(2 + STOP_SECONDS + SLACK_SECONDS) for ending, each in children.items()}
        refused = start(config, "exits.py", "sync", "end of the block", "refused", "2", options=strict).end(30)
    finally:
        stack.kafka.start()
    push(config)
    found = anyio.run(logged, config, codes)

    for ending, each in ended.items():
        assert each.code == codes[ending]
        assert "trialstream push" in each.stderr
        assert each.teardown_errors == []
        assert found[ending][1] == list(range(1000))
    assert refused.code == 1
    assert "RuntimeWarning: trialstream: Kafka" in refused.stderr
    assert refused.teardown_errors == []


@pytest.mark.parametrize("mode", ["overflow", "always"])
def test_a_kill_after_a_commit_to_the_spool(config, consumer, start, mode):
    """Events confirmed by `commit("spooled")` survive SIGKILL, with Kafka and without."""
    consumer(config)
    settings = [replace(config, spool=mode), replace(config, spool=mode, kafka=NO_BROKER)]
    names = ["with Kafka", "without"]
    children = [
        start(each, "exits.py", "sync", "SIGTERM", name, "2") for each, name in zip(settings, names, strict=True)
    ]
    for each in children:
        each.wait_for("ready")
        each.signal(signal.SIGKILL)
        each.end(10)
    push(config) if list(config.spools.glob("*/*.avro")) else None
    found = anyio.run(logged, config, names)

    assert [steps for _, steps in found.values()] == [list(range(500))] * 2
