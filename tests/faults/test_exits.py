"""Ends of processes: each ends in time, and its events are in Kafka or in its spool.

Children that end in different ways run at the same time; the tests check the result of each.
"""

from __future__ import annotations

import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
import trialstream as ts
from log_checks import logged, repeated
from processes import Child, Ended
from service_support import cli
from trialstream.config import Config
from trialstream_console.local import LocalStack
from trialstream_console.local.consumer import ConsumerService

# Exit code of each ending.
CODES = {
    "end of the block": 0,
    "sys.exit": 3,
    "exception": 1,
    "SIGINT": -signal.SIGINT,
    "SIGTERM handled": 4,
    "interpreter exit": 0,
    "threads": 0,
    "SIGTERM": -signal.SIGTERM,
    "os._exit": 5,
}
# Calls of `trialstream.sync` while the interpreter finalizes or runs exit handlers.
AT_EXIT = ("generator", "contextmanager", "__del__", "exit handlers", "daemon thread")
CODES |= dict.fromkeys(AT_EXIT, 0)
# No Python code runs at these endings, as at a kill.
KILLED = ("SIGTERM", "os._exit")
SIGNALS = {
    "SIGINT": signal.SIGINT,
    "SIGTERM": signal.SIGTERM,
    "SIGTERM handled": signal.SIGTERM,
}
CASES = [f"{ending}, {api}" for ending in CODES for api in ("sync", "async") if api == "sync" or ending not in AT_EXIT]
# `trialstream.sync` runs the asynchronous Protocol in a thread: most endings of the latter are for `make faults`.
SLOW = [case for case in CASES if case.endswith("async") and case not in ("end of the block, async", "SIGINT, async")]
EVERY_CASE = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES]
)
# Time-outs of a child: with Kafka, long enough for a busy machine to send all events; in the outage, short, since a
# child waits it out.
TIMEOUT = 15.0
OUTAGE_TIMEOUT = 3.0
# Longest end of a child on a busy machine: sending (10 s at most, `OUTAGE_TIMEOUT` in the outage), stopping the sender,
# the disk, and the end of Python itself.
END_SECONDS = 20.0
# Number of children at a time: each loads 1 s of Python modules.
TOGETHER = 6


class Case(NamedTuple):
    """Result of a child."""

    ended: Ended
    steps: list[int]


class Cases(NamedTuple):
    """Results of all children."""

    config: Config
    by_name: dict[str, Case]
    repeated: list[tuple[str, str, int]]


def ending_of(case: str) -> str:
    """Return the ending of a case."""
    return case.partition(", ")[0]


def selected(request: pytest.FixtureRequest) -> list[str]:
    """Return the cases of this run."""
    tests = [each for each in request.session.items if each.path == request.path]
    return (
        CASES
        if any(each.get_closest_marker("slow") for each in tests)
        else [each for each in CASES if each not in SLOW]
    )


def run(stack: LocalStack, folder: Path, cases: list[str], *, outage: bool) -> Cases:
    """Run a child for each case; with an outage, kill Kafka while they run, and push the spools later."""
    config = Config(
        kafka=stack.kafka.address,
        mongo=stack.mongo.uri,
        prefix=f"exits-{uuid.uuid4().hex[:8]}",
        partitions=4,
        spool_dir=str(folder / "spool"),
    )
    consumer = ConsumerService(folder, config)
    consumer.start()
    children: dict[str, Child] = {}

    def begin(case: str) -> None:
        ending, api = case.split(", ")
        timeout = OUTAGE_TIMEOUT if outage else TIMEOUT
        child = children[case] = Child(config, folder, "exits.py", api, ending, case, timeout)
        child.wait_for("ready")

    def end(case: str) -> Ended:
        child = children[case]
        child.go()
        if number := SIGNALS.get(ending_of(case)):
            child.wait_for("waiting")
            child.signal(number)
        return child.end(END_SECONDS)

    try:
        with ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(begin, cases))
            if outage:
                stack.kafka.kill()
            ended = list(pool.map(end, cases))
        if outage:
            stack.kafka.start()
            pushed = cli(config, "push", config.spool_dir)
            assert pushed.returncode == 0, pushed.stderr
        found = anyio.run(logged, config, cases)
        by_name = {case: Case(each, found[case][1]) for case, each in zip(cases, ended, strict=True)}
        return Cases(config, by_name, anyio.run(repeated, config))
    finally:
        stack.kafka.start()
        for child in children.values():
            child.kill()
        consumer.stop()


@pytest.fixture(scope="module")
def kafka_up(stack, tmp_path_factory, request) -> Cases:
    """Results of the cases, with Kafka."""
    return run(stack, tmp_path_factory.mktemp("up"), selected(request), outage=False)


@pytest.fixture(scope="module")
def kafka_down(stack, tmp_path_factory, request) -> Cases:
    """Results of the cases, with a Kafka that is killed half-way."""
    return run(stack, tmp_path_factory.mktemp("down"), selected(request), outage=True)


def check(case: str, found: Case) -> None:
    """Check everything that holds with Kafka and without."""
    ending = ending_of(case)

    assert found.ended.code == CODES[ending]
    assert found.ended.teardown_errors == []
    assert ("Traceback" in found.ended.stderr) == (ending in ("exception", "SIGINT"))
    if ending in KILLED:
        assert found.steps == list(range(len(found.steps)))
        assert len(found.steps) >= 500  # the committed events
    else:
        report = found.ended.last("ended")
        assert report["kept"]  # signal handlers are the user's
        assert found.steps == list(range(len(found.steps)))
        assert report["logged"] <= len(found.steps) <= report["logged"] + 1  # a signal may interrupt a call half-way


@EVERY_CASE
def test_with_kafka_nothing_is_lost_and_nothing_is_printed(kafka_up, case):
    """The child ends at once with its exit code and without a warning; each event that it logged is stored once."""
    found = kafka_up.by_name[case]

    check(case, found)
    assert found.ended.warnings == []


@EVERY_CASE
def test_without_kafka_a_child_ends_in_time_and_names_its_spool(kafka_down, case):
    """The child ends with its exit code and one warning; a later push sends the rest, each event once."""
    found = kafka_down.by_name[case]

    check(case, found)
    if ending_of(case) not in KILLED:
        # Children that wait long for their turn, on a busy machine, also warn of the outage.
        [warning] = [each for each in found.ended.warnings if "has not acknowledged events for" not in each]
        assert "closed with events that were not sent" in warning
        assert f"trialstream push {kafka_down.config.spools}/" in warning
        assert "lost" not in warning


@pytest.mark.parametrize("ending", [each for each in AT_EXIT if each != "daemon thread"])
def test_calls_at_the_exit_of_the_interpreter(kafka_up, kafka_down, ending):
    """Each call after the exit handler, and an opening, raises ProtocolClosed at once, also while Python finalizes."""
    for cases in (kafka_up, kafka_down):
        refused = cases.by_name[f"{ending}, sync"].ended.last("refused")

        assert refused["finalizing"] == (ending != "exit handlers")
        assert set(refused["errors"]) == {"ProtocolClosed"}


def test_no_event_is_in_the_log_twice(kafka_up):
    """No event is sent again at the end, except one that a signal handler interrupted half-way."""
    interrupted = {ts.Trial(name=case).hash for case in CASES if ending_of(case) in SIGNALS}

    assert [each for each in kafka_up.repeated if each[1].partition("_")[0] not in interrupted] == []
