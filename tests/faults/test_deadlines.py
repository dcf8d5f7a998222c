"""Every wait has a deadline: connecting, committing, leaving the block, the end of the process."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from log_checks import logged
from processes import Child, until
from service_support import cli
from trialstream.config import Config
from trialstream.runtime import lifecycle
from trialstream_console.local.server import Server

MIB = 2**20
NOBODY = "127.0.0.1:1"
# What a deadline may be missed by on a machine that is busy with other things.
SLACK_SECONDS = 5.0
# Stopping a sender whose broker does not answer.
STOP_SECONDS = 6.0


@contextmanager
def swallowing() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        host, port = listening.getsockname()
        yield f"{host}:{port}"


@contextmanager
def paused(server: Server) -> Iterator[None]:
    """SIGSTOP: connections stay open and nobody answers; it goes on when the block is left."""
    server.signal(signal.SIGSTOP)
    tasks = Path(f"/proc/{server.pid}/task")
    try:
        until(lambda: all((each / "stat").read_text().rpartition(")")[2].split()[0] == "T" for each in tasks.iterdir()))
        yield
    finally:
        server.signal(signal.SIGCONT)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Child]]:
    """Start a child; it is killed with all that it started after the test."""
    children: list[Child] = []

    def start(config: Config, script: str, *arguments: str, options: tuple[str, ...] = ()) -> Child:
        children.append(Child(config, tmp_path, script, *arguments, options=options))
        return children[-1]

    yield start
    for each in children:
        each.kill()


def push(config: Config) -> None:
    """Push everything that waits."""
    pushed = cli(config, "push", config.spool_dir)
    assert pushed.returncode == 0, pushed.stderr


async def log_steps(protocol: ts.Protocol, trial: ts.Trial, steps: range) -> None:
    """Log a row for each step."""
    for step in steps:
        await protocol.log_trial_metrics(trial, step=step, loss=step)


async def test_an_address_that_swallows_packets(config, consumer):
    """Connecting, committing and leaving return by their deadlines; the run goes on in the spool, to be pushed."""
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
    """Log calls stay fast, a commit returns by its deadline, leaving too; what waits is pushed later."""
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
    """Memory stays under its bound, calls stay fast, nothing is dropped; a push brings everything in."""
    consumer(config)
    ended = start(replace(config, kafka=NOBODY), "deadlines.py", "heavy", "heavy").end(120)
    told = ended.last("ended")
    push(config)
    [(trial, steps)] = anyio.run(logged, config, ["heavy"]).values()

    assert told["held"] < 17 * MIB  # a frame may come on top
    assert told["grown"] < 100 * MIB  # the rows take 200 MiB
    assert told["dropped"] == 0
    assert told["median"] < 0.001
    assert told["rare"] < 0.1
    assert len(ended.warnings) == 2  # where it goes, and where it waits
    assert len(steps) == trial.metrics["loss"].count == 400_000


@pytest.mark.parametrize("left", ["left", "never left"])
@pytest.mark.parametrize("what", ["disk", pytest.param("I/O thread", marks=pytest.mark.slow)])
def test_a_disk_or_a_thread_that_hangs(config, start, what, left):
    """Leaving the block and the end of the process return by their deadlines, and say how much is lost."""
    ended = start(replace(config, kafka=NOBODY), "deadlines.py", "hanging", "hanging", what, left).end(
        3 + STOP_SECONDS + 5 + SLACK_SECONDS
    )

    assert ended.code == 0
    assert "events are lost" in ended.warnings[-1]
    assert ended.mess == []
    if left == "left":
        assert ended.told[-1]["word"] == "left"


def test_a_second_interrupt_while_the_block_is_left(config, consumer, start):
    """It does not wait for Kafka any more, and nothing is lost: all is in the spool, and a warning says so."""
    consumer(config)
    unreachable = replace(config, kafka=NOBODY)
    children = {
        api: start(unreachable, "exits.py", api, "SIGINT twice", f"twice {api}", "60") for api in ("sync", "async")
    }
    for each in children.values():
        each.hears("ready")
        each.go()
        each.hears("waiting")
        each.signal(signal.SIGINT)
        each.hears("closing")
        each.signal(signal.SIGINT)
    ended = {api: each.end(STOP_SECONDS + SLACK_SECONDS) for api, each in children.items()}
    push(config)
    found = anyio.run(logged, config, ["twice sync", "twice async"])

    for api, each in ended.items():
        steps = found[f"twice {api}"][1]
        assert each.code == -signal.SIGINT
        assert each.mess == []
        assert "trialstream push" in each.warnings[-1]
        assert "lost" not in each.warnings[-1]
        assert steps == list(range(len(steps)))
        assert each.last("ended")["logged"] <= len(steps) <= each.last("ended")["logged"] + 1


def test_ctrl_c_while_it_connects(config, start):
    """It ends at once."""
    with swallowing() as address:
        ended = start(replace(config, kafka=address), "deadlines.py", "interrupted", "a", "connect").end(30)

    assert ended.last("interrupted")["seconds"] < STOP_SECONDS + SLACK_SECONDS
    assert ended.code == 0
    assert ended.mess == []


STAGES = {"new_trial": "consumer", "commit": "consumer", "fetch_trials": "mongo", "an end callback": ""}


def test_ctrl_c_at_every_stage(config, consumer, stack, start):
    """KeyboardInterrupt comes out of the call at once, wherever it waits; leaving and ending do not hang either."""
    service = consumer(config)
    children = {stage: start(config, "deadlines.py", "interrupted", stage, stage) for stage in STAGES}
    for each in children.values():
        each.hears("ready")
    service.kill()
    with paused(stack.mongo):
        for each in children.values():
            each.go()
        ended = {stage: each.end(30) for stage, each in children.items()}
    service.start()
    found = anyio.run(logged, config, STAGES)

    for stage, each in ended.items():
        assert each.last("interrupted")["seconds"] < SLACK_SECONDS, stage
        assert (each.code, each.mess, each.warnings) == (0, [], []), stage
        assert found[stage][1] == list(range(100)), stage


def test_warnings_as_errors(config, consumer, stack, start):
    """`python -W error`: what is raised comes when everything is on disk, and takes no other exception's place."""
    consumer(config)
    strict = ("-W", "error")
    codes = {"end of the block": 1, "sys.exit": 3, "interpreter exit": 0}
    children = {ending: start(config, "exits.py", "sync", ending, ending, "2", options=strict) for ending in codes}
    for each in children.values():
        each.hears("ready")
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
        assert each.mess == []
        assert found[ending][1] == list(range(1000))
    assert refused.code == 1
    assert "RuntimeWarning: trialstream: Kafka" in refused.stderr
    assert refused.mess == []


@pytest.mark.parametrize("mode", ["overflow", "always"])
def test_a_kill_after_a_commit_to_the_spool(config, consumer, start, mode):
    """What `commit("spooled")` has returned for survives SIGKILL, with Kafka and without."""
    consumer(config)
    settings = [replace(config, spool=mode), replace(config, spool=mode, kafka=NOBODY)]
    names = ["with Kafka", "without"]
    children = [
        start(each, "exits.py", "sync", "SIGTERM", name, "2") for each, name in zip(settings, names, strict=True)
    ]
    for each in children:
        each.hears("ready")
        each.signal(signal.SIGKILL)
        each.end(10)
    push(config) if list(config.spools.glob("*/*.avro")) else None
    found = anyio.run(logged, config, names)

    assert [steps for _, steps in found.values()] == [list(range(500))] * 2
