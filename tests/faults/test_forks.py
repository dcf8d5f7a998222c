"""Forks and processes: a child has none of its parent's events, does not harm it, and can log with its own protocol."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import anyio
import pytest
import trialstream as ts
from log_checks import logged, repeated
from processes import Child
from service_support import caught_up, cli
from trialstream.config import Config
from trialstream_console.local.consumer import ConsumerService

END_SECONDS = 60.0
# Processes of forkserver are forks of another process, and end as those of spawn do.
METHODS = ("fork", pytest.param("spawn", marks=pytest.mark.slow), "forkserver")
# Above the time of a fresh connection (milliseconds), below that of an attempt without an answer (8 s).
PROMPT_SECONDS = 6.0


@pytest.fixture(scope="module")
def served(stack, tmp_path_factory) -> Iterator[Config]:
    """A log that a consumer folds while these tests run."""
    folder = tmp_path_factory.mktemp("forks")
    config = Config(
        kafka=stack.kafka.address,
        mongo=stack.mongo.uri,
        prefix=f"forks-{uuid.uuid4().hex[:8]}",
        partitions=4,
        spool_dir=str(folder / "spool"),
    )
    consumer = ConsumerService(folder, config)
    consumer.start()
    yield config
    consumer.stop()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Child]]:
    """Function that starts a child; after the test, the child and its processes are killed."""
    children: list[Child] = []

    def start(config: Config, *arguments: str, script: str = "forks.py") -> Child:
        children.append(Child(config, tmp_path, script, *arguments))
        return children[-1]

    yield start
    for each in children:
        each.kill()


async def steps_of(config: Config, name: str) -> dict[str, list[int]]:
    """Return, by metric, the steps of the one trial of that name."""
    await caught_up(config)
    async with ts.KafkaProtocol(replace(config, spool="off")) as protocol:
        [trial] = await protocol.fetch_trials({"name": name})
        assert trial.lost_events == 0
        return {key: list(each.steps) for key, each in (await protocol.fetch_metrics(trial)).items()}


def test_forks_in_the_middle_of_heavy_logging(served, start):
    """Children refuse the parent's protocol at once, log with their own, and end in every way; the parent continues."""
    child = start(served, "fork_while_logging", "forked")
    ended = child.end(END_SECONDS)
    report = ended.last("ended")
    found = anyio.run(steps_of, served, "forked")
    own = [each["writer"] for each in ended.messages if each["word"] == "own"]
    commits = [each["seconds"] for each in ended.messages if each["word"] == "committed"]

    assert ended.code == 0
    assert report["codes"] == {
        "falls off the end": 0,
        "os._exit": 5,
        "sys.exit": 3,
        "exception": 1,
        "connects itself": 0,
        "connects itself and does not close": 0,
    }
    assert all(all(each["refused"]) and each["statistics"] for each in ended.messages if each["word"] == "child")
    assert ended.warnings == []
    assert ended.teardown_errors == []
    assert max(commits) < PROMPT_SECONDS
    assert [found[f"loss{rank}"] for rank in range(3)] == [list(range(count)) for count in report["counts"]]
    assert sorted(found["child"]) == sorted(list(range(100)) * 4)
    assert len({*own, report["writer"]}) == 5
    assert anyio.run(repeated, served) == []


def test_a_lock_that_is_held_at_the_fork(served, start):
    """In a child, calls on the parent's protocol are refused before any lock is taken, offline too."""
    ended = start(served, "fork_offline", "locked").end(END_SECONDS)

    assert ended.last("child")["statistics"]
    assert all(ended.last("child")["refused"])
    assert ended.last("ended")["code"] == 5


def test_a_child_that_outlives_its_parent(served, start):
    """The parent's spool is free as soon as the parent is dead: a push sends it while the child still runs."""
    parent = start(replace(served, kafka="127.0.0.1:1"), "outlived", "outlived")
    parent.wait_for("child")
    parent.signal(signal.SIGKILL)
    parent.process.wait()
    pushed = cli(served, "push", served.spool_dir)
    found = anyio.run(logged, served, ["outlived"])
    parent.go()

    assert "sent" in pushed.stdout
    assert "skipped" not in pushed.stdout
    assert found["outlived"][1] == list(range(100))


@pytest.mark.parametrize("method", METHODS)
def test_processes_log_to_the_trial_of_their_parent(served, start, method):
    """A trial can be passed to other processes; their events arrive, even if they do not leave the block."""
    ended = start(served, "processes", f"by {method}", method).end(END_SECONDS)
    found = anyio.run(steps_of, served, f"by {method}")

    assert (ended.code, ended.teardown_errors, ended.warnings) == (0, [], [])
    assert ended.last("ended")["codes"] == [0] * 4
    assert found == {key: list(range(100)) for key in ("loss", *(f"rank{rank}" for rank in range(6)))}


@pytest.mark.parametrize("method", METHODS)
def test_processes_log_to_an_undecided_trial(served, start, method, tmp_path):
    """A trial created offline can be passed to other processes; the events of all become one trial."""
    config = replace(served, spool_dir=str(tmp_path / "spool"))
    ended = start(config, "undecided", f"offline by {method}", method).end(END_SECONDS)
    pushed = cli(config, "push", config.spool_dir)
    found = anyio.run(steps_of, served, f"offline by {method}")

    assert (ended.code, ended.teardown_errors) == (0, [])
    assert ended.last("ended")["codes"] == [0]
    assert pushed.returncode == 0
    assert found == {key: list(range(100)) for key in ("loss", "rank0")}


def test_blocks_that_generators_hold(served, start):
    """Processes whose blocks are held by generators end at once in every way, and each event arrives once."""
    ended = start(served, "held_by_generators", "held").end(END_SECONDS)
    found = anyio.run(steps_of, served, "held")

    assert (ended.code, ended.teardown_errors, ended.warnings) == (0, [], [])
    assert ended.last("ended")["codes"] == {
        "os.fork, falls off the end": 0,
        "os.fork, sys.exit": 3,
        "os.fork, os._exit": 5,
        "fork, returns": 0,
        "fork, os._exit": 5,
        "spawn, returns": 0,
        "spawn, os._exit": 5,
    }
    assert all(all(each["refused"]) for each in ended.messages if each["word"] == "child")
    assert found == {key: list(range(100)) for key in ("loss", *(f"rank{rank}" for rank in range(4)))}


def test_workers_of_a_data_loader_come_and_go(served, start):
    """The parent logs each event once and without a warning while forked workers start and end."""
    ended = start(served, "data_loader", "loader").end(END_SECONDS)
    report = ended.last("ended")
    found = anyio.run(logged, served, ["loader"])

    assert (ended.code, ended.teardown_errors, ended.warnings) == (0, [], [])
    assert report["slowest"] < PROMPT_SECONDS
    assert report["codes"] == [0] * 3
    assert found["loader"][1] == list(range(report["steps"]))
