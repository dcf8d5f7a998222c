"""Trackers under faults: killed, resumed, ended by signals and forked, also while Kafka or MongoDB is away."""

from __future__ import annotations

import re
import signal
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from random import Random

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from lines import check_lines
from log_checks import logged
from oracle import check
from processes import Child
from service_support import caught_up, paused
from trackers import TrackedRun
from trialstream.config import Config
from trialstream.pipeline.push import push_spool
from trialstream.spool.finding import abandoned
from trialstream_console.local.consumer import ConsumerService
from trialstream_console.local.server import Server

# Above the imports and the first attempt to connect (8 s), below the time-out of a tracker (30 s).
ENTRY_SECONDS = 25.0
# Above the deadlines for sending and for writing (10 s each), on a busy machine.
END_SECONDS = 60.0


@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.slow)], ids=["few kills", "many kills"])
@pytest.mark.timeout(600)
async def test_killed_trackers_resume_from_their_checkpoints(config, consumer, tmp_path, rounds):
    """After each kill -9, also of one rank and during a resume, no acknowledged row is lost and no step is twice."""
    consumer(config)
    dice = Random(1)
    alone, ranks = runs = [TrackedRun(config, tmp_path / f"run {n}", f"run {n}", n) for n in (None, 3)]
    try:
        await together(run.begin for run in runs)
        for number in range(rounds):
            late = number % 2 == 1
            await together(run.grow for run in runs)
            await anyio.sleep(dice.uniform(0, 0.3))  # the moment of the kill, not a wait for a condition
            alone.kill()
            ranks.kill(dice.randrange(3))
            if late:
                await run_sync(ranks.terminate)
            await together(partial(run.resume, late=late) for run in runs)
            if late:
                await anyio.sleep(dice.uniform(0.1, 1.0))  # the moment of a kill during the resume
                await together(run.resume for run in runs)
        await together(run.grow for run in runs)
        await together(run.finish for run in runs)
    finally:
        for run in runs:
            run.kill()
    figures = await check(config, [journal for run in runs for journal in run.journals])
    lines = await check_lines(config, runs)

    assert (figures.lost, figures.dead) == (0, 0)
    assert lines.attempts >= 2 * (1 + rounds)
    assert lines.rewinds == lines.attempts - 2
    assert lines.superseded > 0
    await assert_detected(config, alone)


async def assert_detected(config: Config, run: TrackedRun) -> None:
    """Check that `check_lines` detects a lost row, a changed row, and a wrong step of a resume."""
    first, last = run.lives[0].path, run.lives[-1].path
    row = next(each for each in last.read_text().splitlines(keepends=True) if '"metrics"' in each)
    for path, changed, reason in (
        (first, lambda text: text + row + '["acked", 1000000]\n', "acknowledged"),
        (first, lambda text: text.replace('\\"loss\\": 1.0', '\\"loss\\": 1.5'), "Life"),
        (last, lambda text: re.sub(r', [0-9]+\]"\]', ', 0]"]', text, count=1), "attempts of"),
    ):
        journal = path.read_text()
        assert changed(journal) != journal
        path.write_text(changed(journal))
        with pytest.raises(AssertionError, match=reason):
            await check_lines(config, [run])
        path.write_text(journal)
    await check_lines(config, [run])


async def together(calls: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Make calls at the same time, and wait for all."""
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call)


# --- Children of `children/tracking.py`


@pytest.fixture(scope="module")
def served(stack, tmp_path_factory) -> Iterator[Config]:
    """A log that a consumer folds while these tests run."""
    folder = tmp_path_factory.mktemp("trackers")
    prefix, spool = f"trackers-{uuid.uuid4().hex[:8]}", str(folder / "spool")
    config = Config(kafka=stack.kafka.address, mongo=stack.mongo.uri, prefix=prefix, partitions=4, spool_dir=spool)
    consumer = ConsumerService(folder, config)
    consumer.start()
    yield config
    consumer.stop()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Child]]:
    """Function that starts a child; after the test, the child and its processes are killed."""
    children: list[Child] = []

    def start(config: Config, *arguments: str) -> Child:
        children.append(Child(config, tmp_path, "tracking.py", *arguments))
        return children[-1]

    yield start
    for each in children:
        each.kill()


async def read_metrics(config: Config, name: str) -> tuple[ts.Trial, dict[str, list[int]]]:
    """Return the one trial of that name and the steps of its metrics."""
    await caught_up(config)
    async with ts.KafkaProtocol(replace(config, spool="off")) as protocol:
        [trial] = await protocol.fetch_trials({"name": name})
        return trial, {key: list(each.steps) for key, each in (await protocol.fetch_metrics(trial)).items()}


# --- Servers that are away


@contextmanager
def away(server: Server, how: str) -> Iterator[None]:
    """Kill or pause a server while the block runs."""
    if how == "paused":
        with paused(server):
            yield
        return
    server.kill()
    try:
        yield
    finally:
        server.start()


async def push(config: Config) -> None:
    """Push all spools."""
    for each in abandoned(config.spools):
        await push_spool(config, each, lambda _: None)


HOW = pytest.mark.parametrize("how", ["killed", pytest.param("paused", marks=pytest.mark.slow)])


@pytest.mark.slow
@HOW
def test_trackers_while_kafka_is_away(served, start, stack, tmp_path, how):
    """Blocks are entered and left in time, at SIGTERM too; all is in the spools, also of a process that was killed."""
    ways = ("ends", "terminated", "killed")
    checkpoints = {way: str(tmp_path / f"{way}.pt") for way in ways}
    with away(stack.kafka, how):
        children = {way: start(served, "train", f"{how}: {way}", checkpoints[way]) for way in ways}
        for each in children.values():
            each.wait_for("trained", ENTRY_SECONDS)
        children["killed"].kill()
        children["terminated"].signal(signal.SIGTERM)
        children["ends"].go()
        ended = {way: children[way].end(END_SECONDS) for way in ("ends", "terminated")}
    anyio.run(push, served)
    resumed = start(served, "train", f"{how}: killed", checkpoints["killed"], checkpoints["killed"])
    resumed.wait_for("trained", ENTRY_SECONDS)
    resumed.go()
    ended["killed"] = resumed.end(END_SECONDS)
    found = anyio.run(logged, served, [f"{how}: {way}" for way in ways])
    trials = {way: found[f"{how}: {way}"][0] for way in ways}

    assert {way: each.code for way, each in ended.items()} == {"ends": 0, "terminated": 143, "killed": 0}
    assert [each.last("left") for each in ended.values()] == [{"word": "left", "errors": 0, "dropped": 0}] * 3
    assert {way: each.status for way, each in trials.items()} == {
        "ends": ts.Status.Completed,
        "terminated": ts.Status.Interrupted,
        "killed": ts.Status.Completed,
    }
    assert [each.message for each in trials["terminated"].errors] == ["SIGTERM"]
    assert {way: sorted(found[f"{how}: {way}"][1]) for way in ways} == {
        "ends": list(range(1, 101)),
        "terminated": list(range(1, 101)),
        "killed": list(range(1, 201)),
    }
    for each in trials.values():
        assert (each.tags, each.metadata["made"]) == ({"base": True}, 1)


@HOW
def test_a_tracker_that_starts_and_ends_without_mongodb(served, start, stack, tmp_path, how):
    """The log is enough to train, and to resume from a checkpoint."""
    checkpoint = str(tmp_path / "model.pt")
    name = f"no MongoDB: {how}"
    with away(stack.mongo, how):
        for resume in ("", checkpoint):
            child = start(served, "train", name, checkpoint, resume)
            child.wait_for("trained", ENTRY_SECONDS)
            child.go()
            ended = child.end(END_SECONDS)
            assert ended.code == 0, ended.stderr
            assert ended.last("left")["errors"] == 0
    trial, steps = anyio.run(logged, served, [name])[name]

    assert (trial.status, trial.starts) == (ts.Status.Completed, 2)
    assert steps == list(range(1, 201))


# --- Forks


@pytest.mark.slow
def test_children_of_a_tracker(served, start):
    """Forked children neither hang nor log to the parent's trial nor end it, in whatever way they end."""
    child = start(served, "forks", "forked")
    ended = child.end(END_SECONDS)
    report = ended.last("ended")
    trial, found = anyio.run(read_metrics, served, "forked")

    assert ended.code == 0, ended.stderr
    codes = {"falls off the end": 0, "finishes": 0, "attaches": 0, "sys.exit": 3, "exception": 1, "os._exit": 5}
    assert report["codes"] == {**codes, "SIGTERM": -signal.SIGTERM}
    children = [each for each in ended.messages if each["word"] == "child"]
    assert [(each["open"], each["committed"], each["current"]) for each in children] == [(False, False, False)] * 14
    assert (trial.status, trial.lost_events) == (ts.Status.Completed, 0)
    assert found == {"busy": list(range(1, report["rows"] + 1)), "child": list(range(100)) * 2}
    assert not {"of", "notes", "checkpoint", "summary/of"} & (trial.metadata.keys() | trial.parameters.keys())
    assert ended.teardown_errors == []
